//! One QEMU guest from boot to power-off, followed on its serial console.
//!
//! The console is the only channel. Lines that begin with `@guest ` are the guest's own words:
//! `start RELEASE`, `run NAME`, `again NAME`, `exit NAME STATUS`, `end`. All others are the output of what runs there.

use crate::vm::kernel::{Kernel, Kind};
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Settings of every kernel. Without no_timer_check one may hang when the emulated timer is late, as on a busy machine.
const SETTINGS: &str = "quiet panic=-1 mitigations=off no_timer_check";

/// Begins a line with what a program cost the verifier.
const COUNTED: &str = "@verifier ";

/// A guest that says nothing for so long hangs: its longest test says so every minute.
const SILENCE: Duration = Duration::from_secs(240);

/// Boots the guest and shows its output; what its programs cost the verifier, if it counted that.
///
/// A guest that falls silent is booted once more and shown as FLAKY: an emulated kernel on two busy cores hangs now and
/// then, and a second try of a step within it cannot help. An error unless everything in it succeeded before the
/// deadline.
pub fn run(kernel: &Kernel, image: &Path, accelerator: &str, deadline: Duration) -> Result<Vec<String>> {
    let started = Instant::now();
    let mut story = follow(kernel, image, accelerator, deadline)?;
    let mut again = Vec::new();
    if story.silent {
        println!("[{}] silent for {} s, {}: booted again", kernel.name, SILENCE.as_secs(), story.last_step());
        again.push(format!("the whole guest ({})", story.last_step()));
        story = follow(kernel, image, accelerator, deadline.saturating_sub(started.elapsed()))?;
    }
    let seconds = started.elapsed().as_secs();
    story.verdict()?;
    again.append(&mut story.again);
    let flaky = match again.as_slice() {
        [] => String::new(),
        names => format!(", FLAKY (passed in the second try): {}", names.join(", ")),
    };
    println!("[{}] {} passed in {seconds} s on Linux {}{flaky}", kernel.name, story.passed, kernel.release);
    Ok(story.counted)
}

/// Boots the guest once and follows it until it ends, falls silent or is late.
fn follow(kernel: &Kernel, image: &Path, accelerator: &str, deadline: Duration) -> Result<Story> {
    let started = Instant::now();
    let mut settings = SETTINGS.to_owned();
    let (qemu, machine, console) = match kernel.kind {
        // Not `max`: emulating its signed pointers takes most of the time.
        Kind::Arm => {
            ("qemu-system-aarch64", ["-machine", "virt", "-cpu", "cortex-a72"].as_slice(), "ttyAMA0")
        }
        _ => ("qemu-system-x86_64", ["-cpu", "max"].as_slice(), "ttyS0"),
    };
    settings += &format!(" console={console}");
    if kernel.kind == Kind::LockedDown {
        settings += " lockdown=integrity";
    }
    let mut child = Command::new(qemu)
        .args(machine)
        .args(["-accel", accelerator, "-smp", "2", "-m", "1536"])
        .args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-nic", "none"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(image)
        .args(["-append", &settings])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("cannot start {qemu}"))?;
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
    loop {
        match lines.recv_timeout(SILENCE.min(deadline.saturating_sub(started.elapsed()))) {
            Ok(line) => {
                println!("[{}] {line}", kernel.name);
                story.take(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                story.silent = true;
                child.kill()?;
                break;
            }
        }
    }
    child.wait()?;
    if started.elapsed() >= deadline {
        bail!("not done after {} s; {}\n{}", deadline.as_secs(), story.last_step(), story.last_words());
    }
    Ok(story)
}

/// What the guest has told so far.
#[derive(Default)]
struct Story {
    running: Option<String>,
    passed: usize,
    failed: Vec<String>,
    /// Steps that were tried twice.
    again: Vec<String>,
    /// Lines that tell what failed: the console is long, and its middle is lost first where output is cut.
    complaints: Vec<String>,
    /// Lines after a panic that still belong to it.
    panicking: usize,
    /// What follows [`COUNTED`] in a line.
    counted: Vec<String>,
    /// The last lines: of a guest that hangs, what it was about.
    last: VecDeque<String>,
    silent: bool,
    ended: bool,
}

/// Lines of complaint that are repeated at the end, and lines of each panic.
const COMPLAINTS: usize = 60;
const PANIC: usize = 12;

/// Last lines that are kept.
const LAST: usize = 25;

impl Story {
    fn take(&mut self, line: &str) {
        self.last.truncate(LAST - 1);
        self.last.push_front(line.to_owned());
        self.counted.extend(line.split_once(COUNTED).map(|(_, words)| words.to_owned()));
        // A program that ends without a line feed leaves its last words before ours.
        let Some((_, words)) = line.split_once("@guest ") else { return self.listen(line) };
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
            ["again", name] => self.again.push((*name).to_owned()),
            ["end"] => self.ended = true,
            _ => {}
        }
    }

    fn listen(&mut self, line: &str) {
        if line.contains("panicked at") {
            self.panicking = PANIC;
        }
        let tells = self.panicking > 0 || (line.starts_with("test ") && line.contains("FAILED"));
        self.panicking = self.panicking.saturating_sub(1);
        if tells && self.complaints.len() < COMPLAINTS {
            self.complaints.push(line.to_owned());
        }
    }

    fn last_step(&self) -> String {
        match &self.running {
            Some(name) => format!("{name} was running"),
            None => "nothing was running".to_owned(),
        }
    }

    fn last_words(&self) -> String {
        self.last.iter().rev().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    fn verdict(&self) -> Result<()> {
        if !self.ended {
            bail!("the guest stopped before its end; {}\n{}", self.last_step(), self.last_words());
        }
        if !self.failed.is_empty() {
            bail!("failed: {}\n{}", self.failed.join(", "), self.complaints.join("\n"));
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
        assert_eq!(told(&["test a ... @verifier one 12"]).counted, ["one 12"]);
    }

    #[test]
    fn what_failed_is_repeated_at_the_end() {
        let story = told(&["@guest run a", "test b ... FAILED", "talk", "@guest exit a 101", "@guest end"]);
        let said = story.verdict().expect_err("it failed").to_string();
        assert!(said.contains("test b ... FAILED") && !said.contains("talk"), "{said}");
    }
}
