//! Ports that refuse, and why.

use crate::testing::*;
use std::net::Ipv4Addr;
use whydrop_model::netfilter::{Hook, RuleVerdict};
use whydrop_model::probe::Elsewhere;
use whydrop_model::snapshot::{Address, Protocol};
use whydrop_model::{DropEvent, NoteStatus, Reading, Severity, Verdict};

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

#[test]
fn a_service_of_the_other_family_is_named_so_and_one_that_serves_both_is_innocent() {
    let asked = |listener: &str| {
        let mut world = World::pair();
        let v6 = whydrop_model::snapshot::Address {
            link: 2,
            ip: "fd00::2".parse().unwrap(),
            prefix: 64,
            flags: vec![],
        };
        world.both(SERVER, |s| {
            if let whydrop_model::Reading::Present(addresses) = &mut s.addresses {
                addresses.push(v6.clone());
            }
        });
        world.listens(SERVER, Protocol::Tcp, listener);
        let probe = world.probe("tcp://[fd00::2]:8080", 20, 0);
        (probe.refused, probe.address, probe.from) = (20, "fd00::2".parse().ok(), "netns:server".into());
        world.found()
    };
    assert_eq!(asked("0.0.0.0:8080"), ["app.bound_wrong_family @ netns:server: tcp port 8080"]);
    assert_eq!(asked("127.0.0.1:8080"), ["app.bound_loopback @ netns:server: tcp port 8080"]);
    assert_eq!(asked("[::]:8080"), Vec::<String>::new());
}

/// A socket of both families that only its device keeps from the packets.
#[test]
fn bound_to_another_device_is_no_matter_of_the_family() {
    let mut world = refused("tcp://10.0.0.2:8080");
    world.listens(SERVER, Protocol::Tcp, "[::]:8080");
    world.both(SERVER, |s| {
        if let whydrop_model::Reading::Present(sockets) = &mut s.sockets {
            let bound = sockets.iter_mut().find(|s| s.local.port() == 8080).unwrap();
            (bound.link, bound.v6only) = (1, Some(false));
        }
    });
    assert_eq!(world.found(), ["app.bound_wrong_device @ netns:server: tcp port 8080"]);
    assert!(world.report().findings[0].summary.en.contains("[::]%"), "its device is told");
}

/// What the culprit took is nobody's scan.
#[test]
fn answers_from_another_address_are_not_excused_as_well() {
    let mut world = World::pair();
    world.both(SERVER, |s| {
        let Reading::Present(all) = &mut s.addresses else { panic!("addresses") };
        let second = all.iter().find(|a| a.ip == Ipv4Addr::new(10, 0, 0, 2)).cloned();
        all.extend(second.map(|first| Address { ip: Ipv4Addr::new(10, 0, 0, 9).into(), ..first }));
    });
    world.both(CLIENT, |s| {
        let Reading::Present(all) = &mut s.sockets else { panic!("sockets") };
        let mut asker = socket(Protocol::Udp, "10.0.0.1:40000");
        asker.remote = "10.0.0.9:53".parse().unwrap();
        all.push(asker);
    });
    world.drops(CLIENT, "NO_SOCKET", "__udp4_lib_rcv", 3);
    let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
    let like = DropEvent {
        reason: "NO_SOCKET".into(),
        function: "__udp4_lib_rcv".into(),
        netns_inode: log.counts.last().unwrap().netns_inode,
        link: Some(2),
        protocol: Some(17),
        source: "10.0.0.2:53".parse().ok(),
        destination: "10.0.0.1:40000".parse().ok(),
        ..DropEvent::default()
    };
    log.sampled.extend(std::iter::repeat_n(like, 3));
    assert_eq!(
        world.found(),
        ["app.reply_source_mismatch @ netns:server: 10.0.0.9:53 answered from 10.0.0.2:53"]
    );
    assert!(world.report().notes.is_empty());
}

#[test]
fn a_program_that_is_always_refused_at_one_port_suffers_and_a_scan_does_not() {
    let mut world = World::pair();
    world.refuses(CLIENT, SERVER, "10.0.0.2:81", 15);
    assert_eq!(world.found(), ["app.not_listening @ netns:server: tcp port 81"]);
    let report = world.report();
    assert_eq!((report.verdict, report.ledger.lost), (Verdict::Loss, 0));
    assert_eq!(report.findings[0].packets_lost, None);

    // Many ports, each once, beside connections that are well.
    let mut world = World::pair();
    for port in 1000..1200 {
        world.refuses(CLIENT, SERVER, &format!("10.0.0.2:{port}"), 1);
    }
    let well = world.talk(CLIENT, "10.0.0.2:80");
    (well.attempts, well.established) = (10, 10);
    assert_eq!(world.found(), Vec::<String>::new());
    assert_eq!(world.report().verdict, Verdict::Clear);
}

#[test]
fn who_knocks_from_out_of_view_at_a_port_that_is_open_for_others_only() {
    let knocks = |listener: &str, ports: &[u16], n: u64| {
        let mut world = World::pair();
        world.listens(SERVER, Protocol::Tcp, listener);
        world.drops(SERVER, "NO_SOCKET", "tcp_v4_rcv", n * ports.len() as u64);
        let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
        log.counts.last_mut().unwrap().tcp_flags = Some(2);
        let event = |port: u16, n: u64| DropEvent {
            reason: "NO_SOCKET".into(),
            function: "tcp_v4_rcv".into(),
            protocol: Some(6),
            tcp_flags: Some(2),
            source: Some(([192, 0, 2, 7], 40_000 + n as u16).into()),
            destination: Some(([10, 0, 0, 2], port).into()),
            link: Some(2),
            netns_inode: Some(4002),
            ..DropEvent::default()
        };
        log.sampled.extend(ports.iter().flat_map(|port| (0..n).map(|n| event(*port, n))));
        world.report()
    };
    let found = |report: &whydrop_model::Report| {
        report.findings.iter().map(|finding| finding.cause.clone()).collect::<Vec<_>>()
    };
    assert_eq!(found(&knocks("127.0.0.1:8080", &[8080], 9)), ["app.bound_loopback"]);
    // Once, or nobody listens at all, or many ports: nobody here is to blame.
    assert!(found(&knocks("127.0.0.1:8080", &[8080], 2)).is_empty());
    assert!(found(&knocks("127.0.0.1:8080", &[8081], 9)).is_empty());
    assert!(found(&knocks("127.0.0.1:8080", &[8080, 8081, 8082, 8083, 8084], 9)).is_empty());
}

/// A client in view that takes the other family at once misses nothing; his conversations would tell.
#[test]
fn who_knocks_from_a_namespace_in_view_is_known_by_his_conversations() {
    let mut world = World::pair();
    world.listens(SERVER, Protocol::Tcp, "127.0.0.1:8080").drops(SERVER, "NO_SOCKET", "tcp_v4_rcv", 9);
    let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
    let like = DropEvent {
        reason: "NO_SOCKET".into(),
        function: "tcp_v4_rcv".into(),
        netns_inode: log.counts.last().unwrap().netns_inode,
        link: Some(2),
        protocol: Some(6),
        tcp_flags: Some(2),
        source: "10.0.0.1:40000".parse().ok(),
        destination: "10.0.0.2:8080".parse().ok(),
        ..DropEvent::default()
    };
    log.sampled.extend(std::iter::repeat_n(like, 9));
    assert_eq!(world.report().verdict, Verdict::Clear, "{:?}", world.found());
}
