//! Who watches while something happens: whydrop, and programs of other people.

use crate::measure::Cost;
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use wait4::Wait4;
use whydrop_host::Netns;
use whydrop_host::trace::{TraceOptions, Tracer};

/// Watches drops and conversations, as while the window of a diagnosis is open, while `work` runs.
pub fn with_window(netns: &[&Netns], calls: bool, work: impl FnOnce() -> Result<Cost>) -> Result<Cost> {
    let netns = netns.iter().map(|netns| netns.inode()).collect();
    let options = TraceOptions { netns, flows: true, ..TraceOptions::default() };
    let recording = Tracer::start(&options).map_err(|refused| anyhow::anyhow!("{refused}"))?.record();
    if calls {
        recording.watch_calls();
    }
    let cost = work();
    let flows = recording.stop()?.flows;
    if !flows.is_present() {
        bail!("conversations were not watched: {flows:?}");
    }
    cost
}

/// bpftrace with this program. It finds tracepoints below debugfs only, which not every machine has mounted.
pub fn bpftrace(program: &str) -> Command {
    let mounted = "mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", mounted, "sh", "bpftrace", "-q", "-B", "line", "-e", program]);
    command
}

/// Counts the drops of the machine by reason with bpftrace while `work` runs.
pub fn with_bpftrace(work: impl FnOnce() -> Result<Cost>) -> Result<Cost> {
    const PROGRAM: &str =
        "BEGIN { printf(\"ready\\n\") } tracepoint:skb:kfree_skb { @[args->reason] = count(); }";
    watched(&mut bpftrace(PROGRAM), work, |child| {
        let pid = Pid::from_child(child);
        Ok(kill_process(pid, Signal::INT)?)
    })
}

/// Records the drops of the machine with perf while `work` runs.
pub fn with_perf(work: impl FnOnce() -> Result<Cost>) -> Result<Cost> {
    let file = std::env::temp_dir().join(format!("whydrop-bench-{}.perf", std::process::id()));
    let mut command = Command::new("perf");
    command.args(["record", "--quiet", "--all-cpus", "--event", "skb:kfree_skb", "--output"]).arg(&file);
    // perf records for as long as this program runs: until its stdin is closed.
    command.args(["sh", "-c", "echo ready; read line; exit 0"]);
    let cost = watched(&mut command, work, |child| {
        drop(child.stdin.take());
        Ok(())
    });
    std::fs::remove_file(&file).context("perf wrote no file")?;
    cost
}

/// Runs `work` while another program watches; its memory is taken, not its time.
fn watched(
    command: &mut Command,
    work: impl FnOnce() -> Result<Cost>,
    end: impl Fn(&mut Child) -> Result<()>,
) -> Result<Cost> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    let mut lines = BufReader::new(child.stdout.take().context("a watcher has a stdout")?).lines();
    loop {
        match lines.next().transpose()? {
            Some(line) if line == "ready" => break,
            Some(_) => {}
            None => bail!("{command:?} ended before it was ready"),
        }
    }
    let cost = work();
    end(&mut child)?;
    // Its last words go nowhere, but must not fill the pipe.
    let used = std::thread::scope(|scope| {
        scope.spawn(|| lines.by_ref().for_each(drop));
        child.wait4()
    })?;
    Ok(Cost { peak: Some(used.rusage.maxrss), ..cost? })
}
