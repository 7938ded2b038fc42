//! Each step of the ladder, tested by taking the ones above away.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use whydrop_host::Netns;
use whydrop_tests::{
    Diagnosis, Namespace, Trace, Traced, diagnose_as, whydrop, without_calls, without_folders, without_root,
};

/// Where the kernel shows its types.
const BTF: &str = "/sys/kernel/btf";
/// Neither BPF nor an instance of tracefs.
const NO_TRACING: &[i64] = &[
    libc::SYS_bpf,
    libc::SYS_mkdirat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
];

/// Where nobody listens.
const CLOSED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// Sends datagrams to where nobody listens. They are refused or dropped, that is their purpose.
fn send(datagrams: usize, to: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    (0..datagrams).for_each(|_| drop(socket.send_to(b"x", to)));
}

/// Drops 11 datagrams at a closed port of a fresh namespace, traced from `step` on.
fn drop_eleven(step: &str, purpose: &str) -> (Traced, Namespace) {
    let namespace = Namespace::new(&format!("tl-{purpose}"));
    let traced = drop_eleven_in(&namespace, whydrop(), step, CLOSED);
    (traced, namespace)
}

/// Drops 11 datagrams at this closed port of this namespace, traced by this command.
fn drop_eleven_in(namespace: &Namespace, tracer: Command, step: &str, to: SocketAddr) -> Traced {
    let trace = Trace::start_as(tracer, &[&namespace.target(), "--step", step]);
    let netns = Netns::open(&Path::new("/run/netns").join(namespace.name())).expect("open");
    netns.run(|| send(11, to)).expect("entered");
    trace.stop()
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
    let namespace = Namespace::new("tl-dm");
    // It sees the neighbours' drops as well, and no other test sends to this address.
    let own = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), CLOSED.port());
    let traced = without_calls(NO_TRACING, || drop_eleven_in(&namespace, whydrop(), "tp_btf", own));
    assert_eq!(traced.summary["step"], "drop_monitor", "{}", traced.said);
    assert!(counted(&traced, None) >= 11, "{}", traced.summary);
    let to_us = |line: &&serde_json::Value| line["dst"] == own.to_string();
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

/// Where the kernel's types cannot be read no BPF program can be fitted to it.
#[test]
fn without_btf_the_tracepoint_is_read_as_text() {
    let namespace = Namespace::new("tl-nobtf");
    let traced = drop_eleven_in(&namespace, without_folders(&[BTF]), "tp_btf", CLOSED);
    assert_eq!(traced.summary["step"], "tracefs", "{}", traced.said);
    assert!(counted(&traced, None) >= 11, "{}", traced.summary);
    for step in ["tp_btf", "raw_tp"] {
        assert!(traced.said.contains(&format!("{step}: cannot read {BTF}/vmlinux")), "{}", traced.said);
    }
}

#[test]
fn without_bpf_the_tracepoint_is_read_as_text() {
    let namespace = Namespace::new("tl-nobpf");
    let tracing = || drop_eleven_in(&namespace, whydrop(), "tp_btf", CLOSED);
    let traced = without_calls(&[libc::SYS_bpf], tracing);
    assert_eq!(traced.summary["step"], "tracefs", "{}", traced.said);
    assert!(counted(&traced, None) >= 11, "{}", traced.summary);
    for step in ["tp_btf", "raw_tp"] {
        assert!(traced.said.contains(&format!("{step}: cannot load the BPF program")), "{}", traced.said);
    }
}

/// Where the kernel has the drop monitor, it is asked first: the counters must do without its help, too.
#[test]
fn without_tracefs_the_counters_alone_find_the_cause_and_the_report_says_so() {
    let namespace = Namespace::new("tl-counters");
    namespace.run("iptables -A OUTPUT -p udp --dport 9 -j DROP");
    let sender = Netns::open(&Path::new("/run/netns").join(namespace.name())).expect("open");
    let diagnosis = without_calls(NO_TRACING, || {
        std::thread::scope(|scope| {
            let diagnosis = scope.spawn(|| {
                diagnose_as(whydrop(), &["diagnose", &namespace.target(), "--passive", "--duration", "2s"])
            });
            while !diagnosis.is_finished() {
                sender.run(|| send(1, CLOSED)).expect("entered");
                std::thread::sleep(Duration::from_millis(50));
            }
            diagnosis.join().expect("a report")
        })
    });
    assert_eq!(diagnosis.causes(), ["netfilter.drop_rule"], "{}", diagnosis.said);
    let drops = drop_events(&diagnosis);
    assert!(drops["status"] != "read" || drops["detail"] == "drop_monitor", "{}", diagnosis.said);
}

/// The report's row of the drop events.
fn drop_events(diagnosis: &Diagnosis) -> &serde_json::Value {
    let rows = diagnosis.report["coverage"].as_array().expect("a list");
    rows.iter().find(|row| row["source"] == "drop_events").expect("a row")
}

#[test]
fn the_report_says_on_which_step_it_stood_and_why_not_on_a_better_one() {
    let namespace = Namespace::new("tl-says");
    let arguments = ["diagnose", &namespace.target(), "--passive", "--duration", "500ms"];
    let best = diagnose_as(whydrop(), &arguments);
    assert_eq!(drop_events(&best)["detail"], "tp_btf", "{}", best.said);
    assert!(drop_events(&best)["limits"].is_null(), "{}", best.said);
    let lesser = diagnose_as(without_folders(&[BTF]), &arguments);
    let row = drop_events(&lesser);
    assert_eq!((&row["status"], &row["detail"]), (&"read".into(), &"tracefs".into()), "{}", lesser.said);
    let limits = row["limits"].to_string();
    for part in ["whole machine", "tp_btf: cannot read", "raw_tp: cannot read"] {
        assert!(limits.contains(part), "{part}: {limits}");
    }
    let check = without_folders(&[BTF]).arg("self-check").output().expect("whydrop starts");
    let check = String::from_utf8_lossy(&check.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(check.contains("drop_events partly tracefs; drops of the whole machine"), "{check}");
}

/// Privileges are taken away, not asked away: the ladder must find out by itself.
#[test]
fn without_privileges_each_step_says_what_it_lacks() {
    let output =
        without_root().args(["trace", "--duration", "300ms", "--json"]).output().expect("whydrop starts");
    let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    for step in ["tp_btf", "raw_tp", "tracefs", "drop_monitor"] {
        assert!(said.contains(&format!("{step}: cannot")), "{step}: {said}");
    }
    assert!(said.contains("CAP_BPF and CAP_PERFMON") && said.contains("sudo"), "{said}");
    assert_eq!(output.status.code(), Some(2), "{said}");
}
