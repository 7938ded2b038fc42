//! Ports that refuse, and why.

use crate::testing::*;
use whydrop_model::netfilter::{Hook, RuleVerdict};
use whydrop_model::probe::Elsewhere;
use whydrop_model::snapshot::Protocol;
use whydrop_model::{NoteStatus, Severity, Verdict};

fn refused(url: &str) -> World {
    let mut world = World::pair();
    world.probe(url, 20, 0).refused = 20;
    world.rises(SERVER, "Tcp.OutRsts", 20).drops(SERVER, "NO_SOCKET", "tcp_v4_rcv", 20);
    world
}

#[test]
fn nothing_listens() {
    let mut world = refused("tcp://10.0.0.2:81");
    world.probe("http://10.0.0.2:81/", 1, 0).refused = 1;
    assert_eq!(world.found(), ["app.not_listening @ netns:server: tcp port 81"]);
    let report = world.report();
    assert_eq!(report.findings[0].severity, Severity::Critical);
    assert_eq!((report.findings[0].packets_lost, report.ledger.lost), (None, 0));
    assert_eq!(report.verdict, Verdict::Loss);
}

#[test]
fn bound_to_loopback_or_elsewhere() {
    let mut world = refused("tcp://10.0.0.2:8080");
    world.listens(SERVER, Protocol::Tcp, "127.0.0.1:8080");
    assert_eq!(world.found(), ["app.bound_loopback @ netns:server: tcp port 8080"]);
    let mut world = refused("tcp://10.0.0.2:8080");
    world.listens(SERVER, Protocol::Tcp, "10.9.0.2:8080");
    assert_eq!(world.found(), ["app.bound_wrong_device @ netns:server: tcp port 8080"]);
}

#[test]
fn a_rejecting_rule_is_not_a_closed_port() {
    let mut world = refused("tcp://10.0.0.2:81");
    let reject = rule("-j REJECT --reject-with tcp-reset", RuleVerdict::Reject, Some(0), vec![]);
    world.chain(SERVER, chain("INPUT", Hook::Input, RuleVerdict::Accept, vec![reject]), &[20]);
    assert_eq!(world.found(), ["netfilter.reject_rule @ netns:server: filter INPUT, rule 1"]);
}

#[test]
fn a_scan_of_closed_ports_is_innocent() {
    let mut world = World::pair();
    world.rises(SERVER, "Tcp.OutRsts", 200).drops(SERVER, "NO_SOCKET", "tcp_v4_rcv", 200);
    world.probe("tcp://10.0.0.2:80", 20, 0);
    let report = world.report();
    assert_eq!(report.verdict, Verdict::Clear);
    assert!(report.notes.iter().any(|n| n.status == NoteStatus::Benign && n.subject == "NO_SOCKET"));
}

#[test]
fn a_dual_stack_listener_serves_both() {
    let mut world = refused("tcp://10.0.0.2:8080");
    world.listens(SERVER, Protocol::Tcp, "[::]:8080");
    assert_eq!(world.report().verdict, Verdict::Clear);
}

#[test]
fn an_answer_from_elsewhere_is_charged_to_who_sends_it_and_not_to_the_path() {
    let mut world = World::pair();
    let probe = world.probe("udp://10.0.0.2:53", 20, 5);
    probe.extra.answered_elsewhere = 5;
    probe.extra.elsewhere =
        vec![Elsewhere { address: "10.0.0.9".parse().unwrap(), port: Some(53), probes: 5 }];
    assert_eq!(
        world.found(),
        ["app.reply_source_mismatch @ netns:server: 10.0.0.2:53 answered from 10.0.0.9:53"]
    );
    let ledger = world.report().ledger;
    assert_eq!((ledger.explained, ledger.unexplained), (5, 0));
}
