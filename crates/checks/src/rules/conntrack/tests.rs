//! What connection tracking forgot, keeps too long, or never expected.

use crate::rules::events::sample;
use crate::testing::*;
use std::net::IpAddr;
use whydrop_model::netfilter::{Hook, Match, RuleVerdict};
use whydrop_model::snapshot::{Conntrack, ConntrackEntry, Tuple};
use whydrop_model::{Bounded, DropEvent, Reading, Verdict};

fn tuple(protocol: u8, from: (&str, u16), to: (&str, u16)) -> Tuple {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    Tuple { source: ip(from.0), destination: ip(to.0), protocol, source_port: from.1, destination_port: to.1 }
}

fn entry(original: Tuple, reply: Tuple, status: &[&str], timeout_s: u32) -> ConntrackEntry {
    ConntrackEntry {
        original,
        reply,
        state: None,
        status: status.iter().map(|word| (*word).to_owned()).collect(),
        timeout_s: Some(timeout_s),
        mark: None,
        zone: None,
        original_packets: None,
        reply_packets: None,
    }
}

fn knows(world: &mut World, index: usize, entries: Vec<ConntrackEntry>) {
    world.both(index, |s| {
        s.conntrack_entries = Reading::Present(Bounded { items: entries.clone(), more: false });
    });
}

/// A counter of connection tracking rises at the server.
fn counts(world: &mut World, name: &str, n: u64) {
    world.both(SERVER, |s| {
        let stats = [(name.to_owned(), 0)].into();
        s.conntrack = Reading::Present(Conntrack { count: 10, max: 1000, stats });
    });
    world.after(SERVER, |s| {
        if let Reading::Present(table) = &mut s.conntrack {
            table.stats.insert(name.to_owned(), n);
        }
    });
}

#[test]
fn an_entry_that_leads_elsewhere_than_the_rules_is_stale_while_packets_keep_it() {
    let asked = tuple(17, ("10.0.0.1", 40_000), ("10.0.0.2", 53));
    let old = tuple(17, ("10.9.9.9", 53), ("10.0.0.1", 40_000));
    let mut world = World::pair();
    knows(&mut world, SERVER, vec![entry(asked, old, &["confirmed", "dst_nat"], 29)]);
    let found = "conntrack.stale_entry @ netns:server: 10.0.0.1 10.0.0.2:53 to 10.9.9.9:53";
    assert_eq!(world.found(), [found]);
    // Nobody sends any more; or somebody answers.
    for (status, left) in [(&["dst_nat"][..], 5), (&["dst_nat", "seen_reply"][..], 29)] {
        knows(&mut world, SERVER, vec![entry(asked, old, status, left)]);
        assert_eq!(world.report().verdict, Verdict::Clear, "{status:?} {left}");
    }
    // The rules would do the same again.
    knows(&mut world, SERVER, vec![entry(asked, asked.reversed(), &["confirmed"], 29)]);
    assert_eq!(world.report().verdict, Verdict::Clear);
}

#[test]
fn an_entry_that_was_answered_once_is_stale_only_while_its_packets_die() {
    let asked = tuple(17, ("10.0.0.1", 40_000), ("10.0.0.2", 53));
    let old = tuple(17, ("10.0.0.9", 53), ("10.0.0.1", 40_000));
    let mut world = World::pair();
    knows(&mut world, SERVER, vec![entry(asked, old, &["assured", "dst_nat", "seen_reply"], 119)]);
    // The old place may answer still.
    assert_eq!(world.report().verdict, Verdict::Clear);
    world.drops(SERVER, "NEIGH_FAILED", "arp_error_report", 20);
    let like = DropEvent {
        reason: "NEIGH_FAILED".into(),
        function: "arp_error_report".into(),
        protocol: Some(17),
        ..DropEvent::default()
    };
    sample(&mut world, SERVER, like, "10.0.0.1:40000", "10.0.0.9:53");
    let found = "conntrack.stale_entry @ netns:server: 10.0.0.1 10.0.0.2:53 to 10.0.0.9:53";
    assert!(world.found().contains(&found.to_owned()), "{:?}", world.found());
}

#[test]
fn chains_that_are_too_long_are_counted() {
    let mut world = World::pair();
    counts(&mut world, "chainlength", 7);
    assert_eq!(
        world.found(),
        ["conntrack.chain_too_long @ netns:server: net.netfilter.nf_conntrack_buckets"]
    );
}

#[test]
fn a_failed_insertion_alone_is_an_accident() {
    let mut world = World::pair();
    counts(&mut world, "insert_failed", 2);
    assert_eq!(world.report().verdict, Verdict::Clear);
}

#[test]
fn a_second_flow_without_a_helper_is_not_the_policys_fault() {
    let mut world = World::pair();
    let related = vec![Match::CtState(vec!["ESTABLISHED".into(), "RELATED".into()])];
    let control = vec![Match::L4Proto(6), Match::DestinationPorts(21, 21)];
    let rules = vec![
        rule("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", RuleVerdict::Accept, Some(0), related),
        rule("-p tcp --dport 21 -j ACCEPT", RuleVerdict::Accept, Some(0), control),
    ];
    let mut chain = chain("INPUT", Hook::Input, RuleVerdict::Drop, rules);
    chain.policy_packets = None;
    world.chain(SERVER, chain, &[0, 0]);
    let talk = world.talk(CLIENT, "10.0.0.2:40021");
    (talk.attempts, talk.failed, talk.syn_repeats) = (5, 5, 5);
    let original = tuple(6, ("10.0.0.1", 50_000), ("10.0.0.2", 21));
    assert_eq!(world.found(), ["netfilter.drop_policy @ netns:server: filter INPUT, policy"]);
    knows(&mut world, SERVER, vec![entry(original, original.reversed(), &["seen_reply"], 400)]);
    assert_eq!(world.found(), ["conntrack.helper_missing @ netns:server: ftp 10.0.0.1 to 10.0.0.2"]);
}
