//! Each step of the ladder, tested by taking the ones above away.

use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use whydrop_host::Netns;
use whydrop_tests::{Namespace, Trace, Traced};

/// Drops 11 datagrams at a closed port of a fresh namespace, traced from `step` on.
fn drop_eleven(step: &str, purpose: &str) -> (Traced, Namespace) {
    let namespace = Namespace::new(&format!("tl-{purpose}"));
    let trace = Trace::start(&[&namespace.target(), "--step", step]);
    let send = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        (0..11).for_each(|_| assert!(socket.send_to(b"x", "127.0.0.1:9").is_ok()));
    };
    let netns = Netns::open(&Path::new("/run/netns").join(namespace.name())).expect("open");
    netns.run(send).expect("entered");
    (trace.stop(), namespace)
}

/// Drops without a listener in this target (null: the step cannot tell), all functions of UDP.
fn counted(traced: &Traced, target: Option<&str>) -> u64 {
    let rows = traced.summary["by"].as_array().expect("a list").iter();
    let udp = rows.filter(|row| row["function"].as_str().is_some_and(|f| f.contains("udp")));
    udp.filter(|row| row["target"].as_str() == target)
        .map(|row| row["drops"].as_u64().expect("a number"))
        .sum()
}

#[test]
fn both_bpf_steps_count_in_the_namespace() {
    for (step, purpose) in [("tp_btf", "btf"), ("raw_tp", "raw")] {
        let (traced, namespace) = drop_eleven(step, purpose);
        assert_eq!(traced.summary["step"], step, "{}", traced.said);
        assert_eq!(counted(&traced, Some(&namespace.target())), 11, "{step}: {}", traced.summary);
        assert_eq!(traced.summary["tracer_lost"], 0);
        let line = traced.lines.first().expect("sampled");
        assert_eq!((line["interface"].as_str(), line["dst"].as_str()), (Some("lo"), Some("127.0.0.1:9")));
    }
}

/// The lowest step needs a module that some kernels lack; where it is there it must count.
#[test]
#[ignore = "needs the module drop_monitor: cargo xtask vm runs it in a guest"]
fn the_drop_monitor_counts_the_machine() {
    whydrop_tests::command("modprobe drop_monitor");
    let (traced, _namespace) = drop_eleven("drop_monitor", "dm");
    assert_eq!(traced.summary["step"], "drop_monitor", "{}", traced.said);
    assert!(counted(&traced, None) >= 11, "{}", traced.summary);
    let to_us = |line: &&serde_json::Value| line["dst"] == "127.0.0.1:9";
    assert_eq!(traced.lines.iter().filter(to_us).count(), 11);
}

#[test]
fn tracefs_counts_the_machine_and_says_that_it_knows_no_namespace() {
    let (traced, namespace) = drop_eleven("tracefs", "tfs");
    assert_eq!(traced.summary["step"], "tracefs", "{}", traced.said);
    assert_eq!(counted(&traced, Some(&namespace.target())), 0);
    // Other programs of the machine drop packets, too.
    assert!(counted(&traced, None) >= 11, "{}", traced.summary);
}

/// Privileges are taken away, not asked away: the ladder must find out by itself.
#[test]
fn without_privileges_each_step_says_what_it_lacks() {
    let program = whydrop_tests::whydrop();
    // Where another user can reach it.
    let copy = std::env::temp_dir().join(format!("wd-test-tl-{}", std::process::id()));
    std::fs::copy(program.get_program(), &copy).expect("copied");
    let output = Command::new(&copy)
        .uid(65534)
        .gid(65534)
        .args(["--lang", "en", "trace", "--duration", "300ms", "--json"])
        .output()
        .expect("whydrop starts");
    std::fs::remove_file(&copy).expect("removed");
    let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    for step in ["tp_btf", "raw_tp", "tracefs", "drop_monitor"] {
        assert!(said.contains(&format!("{step}: cannot")), "{step}: {said}");
    }
    assert!(said.contains("CAP_BPF and CAP_PERFMON") && said.contains("sudo"), "{said}");
    assert_eq!(output.status.code(), Some(2), "{said}");
}
