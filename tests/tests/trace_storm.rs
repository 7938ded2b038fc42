//! A storm of drops: counted to the packet, with memory that does not grow.

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};
use whydrop_host::Netns;
use whydrop_tests::{Namespace, Trace};

/// The first drops make the tracer read its tables of names; after that it has all that it needs.
const WARM_UP: Duration = Duration::from_secs(1);
/// Long enough to fill every buffer many times over.
const STORM: Duration = Duration::from_secs(3);
/// What a tracer may grow by while millions of packets are dropped: samples on their way to the pipe.
const GROWTH_KIB: u64 = 4096;

/// Resident memory in KiB.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("running");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Sends as fast as it can from two threads; the number of packets that left.
fn storm(duration: Duration) -> u64 {
    let send = move || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect("127.0.0.1:9").expect("connected");
        let begun = Instant::now();
        let mut sent = 0;
        while begun.elapsed() < duration {
            sent += (0..256).filter(|_| socket.send(&[0; 64]).is_ok()).count() as u64;
        }
        sent
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(send), scope.spawn(send)];
        threads.into_iter().map(|thread| thread.join().expect("sent")).sum()
    })
}

#[test]
fn every_drop_of_a_storm_is_counted_in_flat_memory() {
    let namespace = Namespace::new("ts");
    namespace.run("iptables -A INPUT -p udp --dport 9 -j DROP");
    let netns = Netns::open(&Path::new("/run/netns").join(namespace.name())).expect("open");
    // The pipe is read only at the end: lines go through a filter that lets none pass.
    let trace = Trace::start(&[&namespace.target(), "--interface", "none"]);
    // Threads that are started inside belong to the namespace, too.
    let warm_up = netns.run(|| storm(WARM_UP)).expect("entered");
    let before = memory(trace.pid());
    let sent = warm_up + netns.run(|| storm(STORM)).expect("entered");
    let after = memory(trace.pid());
    let traced = trace.stop();
    let dropped: u64 = traced.harmful().iter().map(|row| row.drops).sum();
    assert!(sent > 10_000, "no storm: {sent}");
    assert_eq!(dropped, sent, "{}", traced.summary);
    assert_eq!(traced.summary["tracer_lost"], 0);
    assert!(after < before + GROWTH_KIB, "memory grew from {before} to {after} KiB");
}
