//! Each step of the ladder, tested by taking the ones above away.

use std::net::UdpSocket;
use std::path::Path;
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

#[test]
fn tracefs_counts_the_machine_and_says_that_it_knows_no_namespace() {
    let (traced, namespace) = drop_eleven("tracefs", "tfs");
    assert_eq!(traced.summary["step"], "tracefs", "{}", traced.said);
    assert_eq!(counted(&traced, Some(&namespace.target())), 0);
    // Other programs of the machine drop packets, too.
    assert!(counted(&traced, None) >= 11, "{}", traced.summary);
}

/// Capabilities are taken away, not asked away: the ladder must find out by itself.
#[test]
fn without_bpf_permission_it_steps_down_and_says_why() {
    let program = whydrop_tests::whydrop();
    let program = program.get_program().to_str().expect("text").to_owned();
    let output = std::process::Command::new("setpriv")
        .args(["--bounding-set", "-bpf,-sys_admin", "--inh-caps", "-all", "--no-new-privs"])
        .args([&program, "--lang", "en", "trace", "--duration", "300ms", "--json"])
        .output()
        .expect("setpriv starts");
    let said = String::from_utf8_lossy(&output.stderr);
    for step in ["tp_btf", "raw_tp", "tracefs", "drop_monitor"] {
        assert!(said.contains(&format!("{step}: cannot")), "{step}: {said}");
    }
    assert_eq!(output.status.code(), Some(2), "{said}");
}
