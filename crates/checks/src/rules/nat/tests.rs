//! Translations that lead nowhere, and those that do not.

use crate::testing::*;
use whydrop_model::Verdict;
use whydrop_model::netfilter::{Chain, Hook, Match, Nat, NatKind, RuleVerdict};
use whydrop_model::probe::Elsewhere;
use whydrop_model::snapshot::{ConntrackEntry, Protocol, Tuple};
use whydrop_model::{Applicability, Bounded, Reading};

const REDIRECT: &str = "-p tcp -j REDIRECT --to-ports 15001";

fn nat(name: &str, hook: Hook, nat: Nat, matches: Vec<Match>) -> Chain {
    let translate = rule(REDIRECT, RuleVerdict::Nat(Box::new(nat)), Some(9), matches);
    let mut chain = chain(name, hook, RuleVerdict::Accept, vec![translate]);
    (chain.table, chain.priority, chain.nat) = ("nat".into(), Some(-100), true);
    chain
}

fn redirect() -> Chain {
    let to = Nat { kind: NatKind::Redirect, addresses: None, ports: Some((15001, 15001)), known: true };
    nat("OUTPUT", Hook::Output, to, vec![Match::L4Proto(6)])
}

/// The client's connections to the server's port 80 are refused where the redirection leads.
fn redirected() -> World {
    let mut world = World::pair();
    world.chain(CLIENT, redirect(), &[5]).refuses(CLIENT, CLIENT, "10.0.0.2:80", 5);
    if let Reading::Present(log) = &mut world.observation.drops {
        log.sampled.iter_mut().for_each(|event| event.destination = "127.0.0.1:15001".parse().ok());
    }
    world
}

#[test]
fn a_redirection_to_a_port_that_nobody_has_is_found() {
    let world = redirected();
    assert_eq!(world.found(), ["nat.dnat_dead_backend @ netns:client: nat OUTPUT, rule 1"]);
    let report = world.report();
    let finding = &report.findings[0];
    assert_eq!(finding.fixes[0].applicability, Applicability::Weakens);
    let delete = finding.fixes[0].steps[0].action.argv().join(" ");
    assert_eq!(delete, format!("iptables-nft -t nat -D OUTPUT {REDIRECT}"));
}

#[test]
fn a_redirection_to_a_proxy_that_listens_is_innocent() {
    let mut world = redirected();
    world.listens(CLIENT, Protocol::Tcp, "127.0.0.1:15001");
    assert!(world.found().iter().all(|found| !found.starts_with("nat.")), "{:?}", world.found());
}

#[test]
fn a_redirection_that_troubles_nobody_is_innocent() {
    let mut world = World::pair();
    world.chain(CLIENT, redirect(), &[5]);
    assert_eq!(world.report().verdict, Verdict::Clear);
}

#[test]
fn a_port_forwarded_to_a_host_that_does_not_listen_is_found_at_the_forwarder() {
    let mut world = World::bridged();
    let ip = "10.0.0.3".parse().unwrap();
    let to =
        Nat { kind: NatKind::Destination, addresses: Some((ip, ip)), ports: Some((8080, 8080)), known: true };
    let matches = vec![Match::L4Proto(6), Match::DestinationPorts(81, 81)];
    world.chain(HOST, nat("PREROUTING", Hook::Prerouting, to, matches), &[5]);
    world.refuses(CLIENT, OTHER, "10.0.0.254:81", 5);
    if let Reading::Present(log) = &mut world.observation.drops {
        log.sampled.iter_mut().for_each(|event| event.destination = "10.0.0.3:8080".parse().ok());
    }
    assert_eq!(world.found(), ["nat.dnat_dead_backend @ netns:host: nat PREROUTING, rule 1"]);
    // Once somebody listens there, he answers the client directly: both are in one network.
    world.listens(OTHER, Protocol::Tcp, "0.0.0.0:8080");
    assert_eq!(world.found(), ["nat.reply_bypass @ netns:host: nat PREROUTING, rule 1"]);
    // A probe hears the answers, too: who sends them was asked in this way, and answers rightly.
    let probe = world.probe("tcp://10.0.0.254:81", 5, 5);
    probe.extra.answered_elsewhere = 5;
    probe.extra.elsewhere = vec![Elsewhere { address: ip, port: Some(8080), probes: 5 }];
    assert_eq!(world.found(), ["nat.reply_bypass @ netns:host: nat PREROUTING, rule 1"]);
}

/// A service of the host with two backends, of which the second does not listen: the client is refused half of the time.
fn half_dead(rules: &[Nat]) -> World {
    let mut world = World::bridged();
    let matches = || vec![Match::L4Proto(6), Match::DestinationPorts(81, 81), Match::Random(0.5)];
    let mut chain = nat("PREROUTING", Hook::Prerouting, rules[0].clone(), matches());
    for other in &rules[1..] {
        let mut rule =
            rule(REDIRECT, RuleVerdict::Nat(Box::new(other.clone())), Some(10), vec![Match::L4Proto(6)]);
        rule.position = 2;
        chain.rules.push(rule);
    }
    world.chain(HOST, chain, &vec![5; rules.len()]);
    world.refuses(CLIENT, OTHER, "10.0.0.254:81", 5);
    world.talk(CLIENT, "10.0.0.254:81").attempts = 10;
    if let Reading::Present(log) = &mut world.observation.drops {
        for event in &mut log.sampled {
            event.destination = "10.0.0.3:8080".parse().ok();
            event.tcp_flags = Some(2);
        }
    }
    let entry = |backend: &str| {
        let mut entry = sent_entry(backend);
        (entry.original.destination, entry.original.source_port) = ("10.0.0.254".parse().unwrap(), 40_001);
        entry
    };
    // The kernel forgets at once a connection that is refused.
    let items = vec![entry("10.0.0.9")];
    world.both(HOST, |s| {
        s.conntrack_entries = Reading::Present(Bounded { items: items.clone(), more: false });
    });
    world
}

fn backend(ip: &str) -> Nat {
    let ip = ip.parse().unwrap();
    Nat { kind: NatKind::Destination, addresses: Some((ip, ip)), ports: Some((8080, 8080)), known: true }
}

#[test]
fn one_dead_backend_of_two_is_found_at_the_rule_that_chooses_it() {
    let world = half_dead(&[backend("10.0.0.9"), backend("10.0.0.3")]);
    assert_eq!(world.found(), ["nat.dnat_dead_backend @ netns:host: nat PREROUTING, rule 2"]);
    // Without the rule the others would have no way.
    assert!(world.report().findings[0].fixes.iter().all(|fix| fix.applicability == Applicability::Manual));

    // One rule that chooses from a map: what it chose stands in connection tracking only.
    let chooses = Nat { kind: NatKind::Destination, addresses: None, ports: None, known: false };
    let world = half_dead(std::slice::from_ref(&chooses));
    assert_eq!(world.found(), ["nat.dnat_dead_backend @ netns:host: nat PREROUTING, rule 1"]);
}

#[test]
fn backends_that_listen_are_innocent_of_refusals_elsewhere() {
    let mut world = half_dead(&[backend("10.0.0.9"), backend("10.0.0.3")]);
    world.listens(OTHER, Protocol::Tcp, "0.0.0.0:8080");
    assert!(world.found().iter().all(|found| !found.starts_with("nat.")), "{:?}", world.found());
}

#[test]
fn a_port_forwarded_to_an_address_that_nobody_has_is_found() {
    let mut world = World::pair();
    let ip = "10.0.0.77".parse().unwrap();
    let to =
        Nat { kind: NatKind::Destination, addresses: Some((ip, ip)), ports: Some((80, 80)), known: true };
    world.chain(CLIENT, nat("OUTPUT", Hook::Output, to, vec![Match::L4Proto(6)]), &[5]);
    world.both(CLIENT, |s| s.neighbours = Reading::Present(vec![neighbour("10.0.0.77", None, "failed")]));
    let talk = world.talk(CLIENT, "10.0.0.2:80");
    (talk.attempts, talk.failed, talk.syn_repeats) = (5, 5, 5);
    assert_eq!(world.found(), ["nat.dnat_dead_backend @ netns:client: nat OUTPUT, rule 1"]);
}

/// An entry of a connection for the client's port 81 that was sent on to another port of this address.
fn sent_entry(to: &str) -> ConntrackEntry {
    let ip = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    let tuple = |source, destination, source_port, destination_port| Tuple {
        source: ip(source),
        destination: ip(destination),
        protocol: 6,
        source_port,
        destination_port,
    };
    ConntrackEntry {
        original: tuple("10.0.0.1", "10.0.0.2", 40_000, 81),
        reply: tuple(to, "10.0.0.1", 8080, 40_000),
        state: Some("time_wait".into()),
        status: vec!["seen_reply".into(), "dst_nat".into()],
        timeout_s: Some(100),
        mark: None,
        zone: None,
        original_packets: None,
        reply_packets: None,
    }
}

fn sent_on(index: usize, world: &mut World) {
    let entry = sent_entry("10.9.0.9");
    world.both(index, |s| {
        s.conntrack_entries = Reading::Present(Bounded { items: vec![entry.clone()], more: false });
    });
}

#[test]
fn a_port_that_was_forwarded_until_now_lacks_its_rule() {
    let mut world = World::pair();
    world.refuses(CLIENT, SERVER, "10.0.0.2:81", 5);
    assert_eq!(world.found(), ["app.not_listening @ netns:server: tcp port 81"]);
    sent_on(SERVER, &mut world);
    assert_eq!(world.found(), ["nat.dnat_missing @ netns:server: 10.0.0.2:81 to 10.9.0.9:8080"]);
}

#[test]
fn an_engines_mapping_to_a_port_that_the_container_does_not_serve() {
    let mut world = World::bridged();
    let ip = "10.0.0.3".parse().unwrap();
    let to =
        Nat { kind: NatKind::Destination, addresses: Some((ip, ip)), ports: Some((8000, 8000)), known: true };
    let mut engine =
        nat("DOCKER", Hook::Prerouting, to, vec![Match::L4Proto(6), Match::DestinationPorts(81, 81)]);
    engine.rules[0].text = "-p tcp --dport 81 -j DNAT --to-destination 10.0.0.3:8000".into();
    world.chain(HOST, engine, &[5]);
    world.refuses(CLIENT, OTHER, "10.0.0.254:81", 5);
    if let Reading::Present(log) = &mut world.observation.drops {
        log.sampled.iter_mut().for_each(|event| event.destination = "10.0.0.3:8000".parse().ok());
    }
    assert_eq!(world.found(), ["container.port_map_wrong @ netns:host: nat DOCKER, rule 1"]);
}
