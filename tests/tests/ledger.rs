//! Two random rules and a shaper at once: every lost probe has a fate, every lost packet is charged once.

use serde_json::Value;
use std::net::UdpSocket;
use whydrop_tests::probe_net::{Net, V4, netns};
use whydrop_tests::{Namespace, diagnose};

/// Packets that a rule of iptables has taken, by the hook of its chain.
fn rule_counter(namespace: &Namespace, chain: &str) -> u64 {
    let rules = namespace.run(&format!("iptables -nvxL {chain}"));
    let rule =
        rules.lines().find(|line| line.contains(" DROP ") && line.contains("statistic")).expect("a rule");
    rule.split_whitespace().next().expect("packets").parse().expect("a number")
}

/// Packets that the queue of eth0 has dropped.
fn queue_counter(namespace: &Namespace) -> u64 {
    let queue = namespace.run("tc -s qdisc show dev eth0 root");
    let (_, rest) = queue.split_once("(dropped ").expect("a counter");
    rest.split(',').next().expect("a number").parse().expect("a number")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"))
}

#[test]
fn two_hundred_syns_through_two_random_rules_and_a_shaper() {
    let net = Net::new("ledger");
    for chain in ["INPUT", "OUTPUT"] {
        net.server
            .run(&format!("iptables -A {chain} -p tcp -m statistic --mode random --probability .3 -j DROP"));
    }
    // Holds three SYN-ACKs; some of a hundred a second find no room.
    net.server.run("tc qdisc add dev eth0 root tbf rate 16kbit burst 1540 limit 250");
    let url = format!("tcp://{V4}:8000");
    let (target, from) = (net.server.target(), net.client.target());
    let mut arguments = vec!["diagnose", &target, "--from", &from, "--duration", "2500ms"];
    // Four runs of fifty at a time.
    for _ in 0..4 {
        arguments.extend(["--probe", &url]);
    }
    let diagnosis = diagnose(&arguments);
    diagnosis.assert_causes(&["netfilter.drop_rule", "netfilter.drop_rule", "qdisc.shaper_drop"]);
    let report = &diagnosis.report;
    let ledger = &report["ledger"];
    let charged = |stage: &str| -> u64 {
        let entries = ledger["entries"].as_array().expect("a list").iter();
        entries.filter(|entry| entry["stage"] == stage).map(|entry| number(&entry["packets"])).sum()
    };
    // Answers that are sent again after the report may still meet the rules.
    assert!(charged("netfilter.input") <= rule_counter(&net.server, "INPUT"), "{}", diagnosis.said);
    assert!(charged("netfilter.output") <= rule_counter(&net.server, "OUTPUT"), "{}", diagnosis.said);
    assert!(charged("qdisc.transmit") <= queue_counter(&net.server), "{}", diagnosis.said);
    assert_eq!(number(&ledger["unexplained"]), 0, "{}", diagnosis.said);
    assert_eq!(number(&ledger["lost"]), number(&ledger["explained"]));

    let stages = ["netfilter.input", "netfilter.output", "qdisc.transmit"];
    let mut by_stage = [0; 3];
    for probe in report["probes"].as_array().expect("a list") {
        assert_eq!(number(&probe["transmitted"]), 50);
        let fates = probe["fate"].as_array().expect("a list");
        for fate in fates {
            let stage = stages.iter().position(|stage| fate["stage"] == *stage);
            by_stage[stage.unwrap_or_else(|| panic!("{fate}\n{}", diagnosis.said))] +=
                number(&fate["probes"]);
            assert_eq!(fate["subjects"].as_array().map(Vec::len), Some(1), "{fate}");
        }
        let sum: u64 = fates.iter().map(|fate| number(&fate["probes"])).sum();
        assert_eq!(sum, number(&probe["lost"]), "{}", diagnosis.said);
    }
    // Every lost probe is one of the packets that its place was charged with.
    for (stage, probes) in stages.iter().zip(by_stage) {
        assert!(probes > 0 && probes <= charged(stage), "{stage}: {probes}\n{}", diagnosis.said);
    }
}

#[test]
fn answers_from_another_address_are_the_service_s_fault_and_not_the_path_s() {
    let net = Net::new("ledger-source");
    net.server.run("ip addr add 10.77.2.3/24 dev eth0");
    let bind = || UdpSocket::bind(("0.0.0.0", 7)).expect("bound");
    let socket = netns(&net.server).run(bind).expect("entered");
    // Goes on until the test process ends.
    std::thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..n], from).ok();
        }
    });
    let (target, from) = (net.server.target(), net.client.target());
    let look =
        |url: &str| diagnose(&["diagnose", &target, "--from", &from, "--probe", url, "--duration", "1500ms"]);
    look(&format!("udp://{V4}:7")).assert_causes(&[]);
    look("udp://10.77.2.3:7").assert_causes(&["app.reply_source_mismatch"]);
}
