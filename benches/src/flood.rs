//! A flood of packets into a DROP rule: how fast it can be sent while the drops are traced, and what the tracer holds
//! after ten million of them.
//!
//! The sender's own time is the measure: whatever the tracer does for each drop, it does on the sender's CPU.

use crate::measure::{Comparison, Cost};
use crate::watcher::{with_bpftrace, with_perf};
use anyhow::{Context, Result, bail};
use std::net::UdpSocket;
use std::path::Path;
use whydrop_host::Netns;
use whydrop_host::trace::{TraceOptions, Tracer};
use whydrop_tests::{Namespace, Trace};

/// Packets of one round.
const PACKETS: u64 = 500_000;
/// Packets of the long flood.
const MANY_PACKETS: u64 = 10_000_000;

/// The same flood with nothing, whydrop, bpftrace and perf watching; then a long one.
pub fn run() -> Result<Vec<Comparison>> {
    let namespace = Namespace::new("flood");
    namespace.run("iptables -A INPUT -p udp --dport 9 -j DROP");
    let netns = Netns::open(&Path::new("/run/netns").join(namespace.name()))?;
    let flood = || -> Result<Cost> { Cost::of_call(|| netns.run(|| send(PACKETS))?) };
    flood()?;
    let short = Comparison::run(
        "sending 500,000 packets that are dropped",
        9,
        vec![
            ("nothing", Box::new(flood)),
            ("whydrop's tracer", Box::new(|| with_whydrop(&netns, flood))),
            ("bpftrace, counting", Box::new(|| with_bpftrace(flood))),
            ("perf record", Box::new(|| with_perf(flood))),
        ],
    )?;
    let flood = || -> Result<Cost> { Cost::of_call(|| netns.run(|| send(MANY_PACKETS))?) };
    let long = Comparison::run(
        "sending 10,000,000 packets that are dropped",
        1,
        vec![
            ("nothing", Box::new(flood)),
            ("whydrop trace", Box::new(|| with_program(&namespace, flood))),
            ("bpftrace, counting", Box::new(|| with_bpftrace(flood))),
        ],
    )?;
    Ok(vec![short, long])
}

fn send(packets: u64) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect("127.0.0.1:9")?;
    for _ in 0..packets {
        socket.send(&[0; 64])?;
    }
    Ok(())
}

/// As a diagnosis traces: counts in the kernel, samples polled. Every packet must have been counted.
fn with_whydrop(netns: &Netns, flood: impl Fn() -> Result<Cost>) -> Result<Cost> {
    let options = TraceOptions { netns: vec![netns.inode()], ..TraceOptions::default() };
    let recording = Tracer::start(&options).map_err(|refused| anyhow::anyhow!("{refused}"))?.record();
    let cost = flood()?;
    let log = recording.stop()?.drops;
    let counted: u64 = log.counts.iter().map(|count| count.drops).sum();
    if counted < PACKETS {
        bail!("{counted} of {PACKETS} drops were counted");
    }
    Ok(cost)
}

/// As a program of its own, whose memory is taken. Its pipe is read only at the end: no line passes the filter.
fn with_program(namespace: &Namespace, flood: impl Fn() -> Result<Cost>) -> Result<Cost> {
    let trace = Trace::start(&[&namespace.target(), "--interface", "none"]);
    let cost = flood()?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", trace.pid()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    let peak: u64 = peak.context("a running program has a peak of memory")?.parse()?;
    let counted = trace.stop().summary["drops"].as_u64();
    if counted.is_none_or(|counted| counted < MANY_PACKETS) {
        bail!("{counted:?} of {MANY_PACKETS} drops were counted");
    }
    Ok(Cost { peak: Some(peak * 1024), ..cost })
}
