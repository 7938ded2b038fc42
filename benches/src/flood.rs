//! A flood of packets into a DROP rule: how fast it can be sent while the drops are traced.
//!
//! The sender's own time is the measure: whatever the tracer does for each drop, it does on the sender's CPU.

use crate::measure::{Comparison, Cost};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use wait4::Wait4;
use whydrop_host::Netns;
use whydrop_host::trace::{TraceOptions, Tracer};
use whydrop_tests::Namespace;

/// Packets of one round.
const PACKETS: u64 = 500_000;

/// The same flood with nothing, whydrop, bpftrace and perf watching.
pub fn run() -> Result<Vec<Comparison>> {
    let namespace = Namespace::new("flood");
    namespace.run("iptables -A INPUT -p udp --dport 9 -j DROP");
    let netns = Netns::open(&Path::new("/run/netns").join(namespace.name()))?;
    let flood = || -> Result<Cost> { Cost::of_call(|| netns.run(send)?) };
    flood()?;
    let comparison = Comparison::run(
        "sending 500,000 packets that are dropped",
        9,
        vec![
            ("nothing", Box::new(flood)),
            ("whydrop's tracer", Box::new(|| with_whydrop(&netns, flood))),
            ("bpftrace, counting", Box::new(|| with_bpftrace(flood))),
            ("perf record", Box::new(|| with_perf(flood))),
        ],
    )?;
    Ok(vec![comparison])
}

fn send() -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect("127.0.0.1:9")?;
    for _ in 0..PACKETS {
        socket.send(&[0; 64])?;
    }
    Ok(())
}

/// As a diagnosis traces: counts in the kernel, samples polled. Every packet must have been counted.
fn with_whydrop(netns: &Netns, flood: impl Fn() -> Result<Cost>) -> Result<Cost> {
    let options = TraceOptions { netns: vec![netns.inode()], ..TraceOptions::default() };
    let recording = Tracer::start(&options).map_err(|refused| anyhow::anyhow!("{refused}"))?.record();
    let cost = flood()?;
    let log = recording.stop()?;
    let counted: u64 = log.counts.iter().map(|count| count.drops).sum();
    if counted < PACKETS {
        bail!("{counted} of {PACKETS} drops were counted");
    }
    Ok(cost)
}

fn with_bpftrace(flood: impl Fn() -> Result<Cost>) -> Result<Cost> {
    const PROGRAM: &str =
        "BEGIN { printf(\"ready\\n\") } tracepoint:skb:kfree_skb { @[args->reason] = count(); }";
    let mut command = Command::new("bpftrace");
    watched(command.args(["-e", PROGRAM]), flood, |child| {
        let pid = Pid::from_child(child);
        Ok(kill_process(pid, Signal::INT)?)
    })
}

fn with_perf(flood: impl Fn() -> Result<Cost>) -> Result<Cost> {
    let file = std::env::temp_dir().join(format!("whydrop-bench-{}.perf", std::process::id()));
    let mut command = Command::new("perf");
    command.args(["record", "--quiet", "--all-cpus", "--event", "skb:kfree_skb", "--output"]).arg(&file);
    // perf records for as long as this program runs: until its stdin is closed.
    command.args(["sh", "-c", "echo ready; read line; exit 0"]);
    let cost = watched(&mut command, flood, |child| {
        drop(child.stdin.take());
        Ok(())
    });
    std::fs::remove_file(&file).context("perf wrote no file")?;
    cost
}

/// Runs the flood while another program watches; its memory is taken, not its time.
fn watched(
    command: &mut Command,
    flood: impl Fn() -> Result<Cost>,
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
    let cost = flood();
    end(&mut child)?;
    // Its last words go nowhere, but must not fill the pipe.
    let used = std::thread::scope(|scope| {
        scope.spawn(|| lines.by_ref().for_each(drop));
        child.wait4()
    })?;
    Ok(Cost { peak: Some(used.rusage.maxrss), ..cost? })
}
