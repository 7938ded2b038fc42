//! A storm of drops for half a minute, as fast as the machine can make it: counted to the packet in memory that does not
//! grow, and diagnosed meanwhile.

use std::net::UdpSocket;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use whydrop_host::Netns;
use whydrop_tests::{Namespace, Trace, diagnose};

/// Every buffer of the tracer is full many times over by then; from here on its memory is flat.
const WARM_UP: Duration = Duration::from_secs(10);
/// Together half a minute.
const STORM: Duration = Duration::from_secs(20);
/// What a tracer may grow by in that time, and between two readings of its memory.
const GROWTH_KIB: u64 = 1024;
/// A diagnosis that does not end in a storm never ends: this is many times its window, not a measure of speed.
const DEADLINE: Duration = Duration::from_secs(60);

/// Resident memory in KiB: now, and at its peak.
fn memory(pid: u32) -> [u64; 2] {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("running");
    ["VmRSS:", "VmHWM:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    })
}

/// Sends as fast as it can from two threads for as long as `more` says; the number of packets that left.
fn storm(more: impl Fn() -> bool + Sync) -> u64 {
    let send = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect("127.0.0.1:9").expect("connected");
        let mut sent = 0;
        while more() {
            sent += (0..256).filter(|_| socket.send(&[0; 64]).is_ok()).count() as u64;
        }
        sent
    };
    thread::scope(|scope| {
        let threads = [scope.spawn(send), scope.spawn(send)];
        threads.into_iter().map(|thread| thread.join().expect("sent")).sum()
    })
}

fn storm_for(duration: Duration) -> u64 {
    let begun = Instant::now();
    storm(|| begun.elapsed() < duration)
}

/// A namespace whose first rule drops what the storm sends.
fn target(purpose: &str) -> (Namespace, Netns) {
    let namespace = Namespace::new(purpose);
    namespace.run("iptables -A INPUT -p udp --dport 9 -j DROP");
    let netns = Netns::open(&Path::new("/run/netns").join(namespace.name())).expect("open");
    (namespace, netns)
}

/// Packets that the rule has dropped by its own count.
fn by_the_rule(namespace: &Namespace) -> u64 {
    let listed = namespace.run("iptables -nvxL INPUT");
    let rule = listed.lines().find(|line| line.contains("DROP") && line.contains("dpt:9")).expect("the rule");
    rule.split_whitespace().next().and_then(|packets| packets.parse().ok()).expect("a number")
}

#[test]
fn every_drop_of_a_storm_is_counted_in_flat_memory() {
    let (namespace, netns) = target("ts");
    // The pipe is read only at the end: lines go through a filter that lets none pass.
    let trace = Trace::start(&[&namespace.target(), "--interface", "none"]);
    // Threads that are started inside belong to the namespace, too.
    let mut sent = netns.run(|| storm_for(WARM_UP)).expect("entered");
    let before = memory(trace.pid());
    sent += netns.run(|| storm_for(STORM)).expect("entered");
    let after = memory(trace.pid());
    let traced = trace.stop();
    let rows = traced.harmful();
    let [row] = rows.as_slice() else { panic!("not one kind of drop: {rows:#?}\n{}", traced.summary) };
    assert!(sent > 100_000, "no storm: {sent}");
    assert_eq!((row.drops, by_the_rule(&namespace)), (sent, sent), "{}", traced.summary);
    assert_eq!(traced.summary["tracer_lost"], 0);
    for (before, after) in before.into_iter().zip(after) {
        assert!(after < before + GROWTH_KIB, "memory grew from {before} to {after} KiB");
    }
}

#[test]
fn a_storm_is_diagnosed_while_it_lasts() {
    let (namespace, netns) = target("tsd");
    let (over, began) = (AtomicBool::new(false), AtomicBool::new(false));
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            let more = || {
                began.store(true, Ordering::Relaxed);
                // The second condition ends a test that failed.
                !over.load(Ordering::Relaxed) && begun.elapsed() < DEADLINE
            };
            netns.run(|| storm(more)).expect("entered")
        });
        while !began.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        let found = diagnose(&["diagnose", &namespace.target(), "--passive", "--duration", "3s"]);
        let took = begun.elapsed();
        over.store(true, Ordering::Relaxed);
        assert!(took < DEADLINE, "the diagnosis took {} s", took.as_secs());
        found.assert_causes(&["netfilter.drop_rule"]);
        let lost = found.report["findings"][0]["packets_lost"].as_u64().expect("a number");
        let whole = by_the_rule(&namespace);
        assert!(lost > 10_000 && lost <= whole, "{lost} of {whole}\n{}", found.said);
        assert_eq!(found.report["ledger"]["unexplained"], 0, "{}", found.said);
    });
}
