//! One QEMU guest from boot to power-off, followed on its serial console.
//!
//! The console is the only channel. Lines that begin with `@guest ` are the guest's own words:
//! `start RELEASE`, `run NAME`, `exit NAME STATUS`, `end`. All others are the output of what runs there.

use crate::vm::kernel::Kernel;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Boots the guest and shows its output. An error unless everything in it succeeded before the deadline.
pub fn run(kernel: &Kernel, image: &Path, accelerator: &str, deadline: Duration) -> Result<()> {
    let started = Instant::now();
    let mut child = Command::new("qemu-system-x86_64")
        .args(["-accel", accelerator, "-cpu", "max", "-smp", "2", "-m", "1536"])
        .args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-nic", "none"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(image)
        // Without no_timer_check a kernel may hang when the emulated timer is late, as on a busy machine.
        .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("qemu-system-x86_64 is in the package qemu-system-x86")?;
    let console = child.stdout.take().context("QEMU has a console")?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
    let mut story = Story::default();
    let timed_out = loop {
        match lines.recv_timeout(deadline.saturating_sub(started.elapsed())) {
            Ok(line) => {
                println!("[{}] {line}", kernel.name);
                story.take(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
    };
    if timed_out {
        child.kill()?;
    }
    child.wait()?;
    let seconds = started.elapsed().as_secs();
    if timed_out {
        bail!("not done after {seconds} s; {}", story.last_step());
    }
    story.verdict()?;
    println!("[{}] {} passed in {seconds} s on Linux {}", kernel.name, story.passed, kernel.release);
    Ok(())
}

/// What the guest has told so far.
#[derive(Default)]
struct Story {
    running: Option<String>,
    passed: usize,
    failed: Vec<String>,
    ended: bool,
}

impl Story {
    fn take(&mut self, line: &str) {
        // A program that ends without a line feed leaves its last words before ours.
        let Some((_, words)) = line.split_once("@guest ") else { return };
        let words: Vec<&str> = words.split_whitespace().collect();
        match words.as_slice() {
            ["run", name] => self.running = Some((*name).to_owned()),
            ["exit", name, status] => {
                self.running = None;
                if *status == "0" {
                    self.passed += 1;
                } else {
                    self.failed.push(format!("{name} (exit status {status})"));
                }
            }
            ["end"] => self.ended = true,
            _ => {}
        }
    }

    fn last_step(&self) -> String {
        match &self.running {
            Some(name) => format!("{name} was running"),
            None => "nothing was running".to_owned(),
        }
    }

    fn verdict(&self) -> Result<()> {
        if !self.ended {
            bail!("the guest stopped before its end; {}", self.last_step());
        }
        if !self.failed.is_empty() {
            bail!("failed: {}", self.failed.join(", "));
        }
        if self.passed == 0 {
            bail!("nothing was run");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Story;

    fn told(lines: &[&str]) -> Story {
        let mut story = Story::default();
        lines.iter().for_each(|line| story.take(line));
        story
    }

    #[test]
    fn a_guest_passes_only_when_all_ran_to_the_end() {
        assert!(told(&["@guest run a", "ok@guest exit a 0", "@guest end"]).verdict().is_ok());
        assert!(told(&["@guest run a", "@guest exit a 101", "@guest end"]).verdict().is_err());
        assert!(told(&["@guest run a", "@guest exit a 0"]).verdict().is_err(), "stopped early");
        assert!(told(&["@guest end"]).verdict().is_err(), "ran nothing");
    }
}
