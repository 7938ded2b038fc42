//! Small rule sets, and what they make of a packet.

use super::*;
use crate::testing::{World, chain as chain_, rule as rule_};
use whydrop_model::Reading;
use whydrop_model::netfilter::{Change, Field, Match, Nat, NatKind, RuleVerdict};
use whydrop_model::snapshot::Address;

fn rule(verdict: RuleVerdict, matches: Vec<Match>) -> Rule {
    rule_("", verdict, None, matches)
}

fn user(name: &str, rules: Vec<Rule>) -> Chain {
    let base = chain_(name, Hook::Input, RuleVerdict::Accept, rules);
    Chain { hook: None, priority: None, policy: None, ..base }
}

fn input(policy: RuleVerdict, rules: Vec<Rule>) -> Chain {
    chain_("INPUT", Hook::Input, policy, rules)
}

fn dport(port: u16) -> Match {
    Match::DestinationPorts(port, port)
}

fn jump(name: &str, matches: Vec<Match>) -> Rule {
    rule(RuleVerdict::Jump(name.into()), matches)
}

/// A SYN from 10.0.0.1 to 10.0.0.2:80.
fn syn() -> Packet {
    Packet {
        protocol: 6,
        source: Some("10.0.0.1".parse().unwrap()),
        destination: Some("10.0.0.2".parse().unwrap()),
        source_port: Some(40000),
        destination_port: Some(80),
        in_interface: Some("eth0".into()),
        ..Packet::default()
    }
}

/// Endings at a hook as text: `fit end: jumps > rule`.
fn walked(chains: Vec<Chain>, hook: Hook, packet: &Packet) -> Vec<String> {
    let mut world = World::pair();
    world.after(1, |s| s.nftables = Reading::Present(chains.clone()));
    world.with(|case| {
        let snapshot = case.spaces().nth(1).unwrap().after;
        let rules = Rules::of(snapshot);
        let walk = rules.at_hook(hook, packet);
        walk.endings().map(show).collect()
    })
}

fn show(ending: &Ending<'_>) -> String {
    let at = |at: &RuleAt<'_>| format!("{} {}", at.chain.name, at.rule.position);
    let mut way: Vec<String> = ending.via.iter().map(at).collect();
    way.extend(ending.rule.as_ref().map(at));
    if ending.is_policy() {
        way.push("policy".into());
    }
    let because: Vec<String> = ending.because.iter().map(|c| c.asks.to_string()).collect();
    let because = if because.is_empty() { String::new() } else { format!(" ({})", because.join(", ")) };
    format!("{:?} {:?}: {}{because}", ending.fit, ending.end, way.join(" > "))
}

#[test]
fn the_first_rule_that_fits_takes_it() {
    let rules = vec![
        rule(RuleVerdict::Drop, vec![Match::L4Proto(17)]),
        rule(RuleVerdict::Reject, vec![Match::L4Proto(6), dport(80)]),
        rule(RuleVerdict::Drop, vec![]),
    ];
    assert_eq!(walked(vec![input(RuleVerdict::Accept, rules)], Hook::Input, &syn()), ["Yes Reject: INPUT 2"]);
}

#[test]
fn a_limit_in_the_jump_is_the_condition_of_the_reject_behind_it() {
    let limit = Match::Recent { name: "ssh".into(), seconds: 30, hits: 6 };
    let chains = vec![
        input(RuleVerdict::Accept, vec![jump("limited", vec![Match::L4Proto(6), dport(80), limit])]),
        user("limited", vec![rule(RuleVerdict::Reject, vec![])]),
    ];
    assert_eq!(
        walked(chains, Hook::Input, &syn()),
        ["Maybe Reject: INPUT 1 > limited 1 (recent ssh seconds 30 hitcount 6)", "Maybe Accept: "]
    );
}

#[test]
fn returns_and_gotos_lead_where_the_kernel_goes() {
    let to_web = || vec![Match::L4Proto(6), dport(80)];
    let chains = |goto: bool, inner: Vec<Rule>| {
        let name = || "web".to_owned();
        let verdict = if goto { RuleVerdict::Goto(name()) } else { RuleVerdict::Jump(name()) };
        let rules = vec![rule(verdict, to_web()), rule(RuleVerdict::Drop, vec![])];
        vec![input(RuleVerdict::Reject, rules), user("web", inner)]
    };
    let back = || vec![rule(RuleVerdict::Return, vec![]), rule(RuleVerdict::Accept, vec![])];
    // Behind a jump the caller goes on; behind a goto its policy is met.
    assert_eq!(walked(chains(false, back()), Hook::Input, &syn()), ["Yes Drop: INPUT 2"]);
    let policy = walked(chains(true, back()), Hook::Input, &syn());
    assert_eq!(policy, ["Maybe Unknown(\"policy\"): policy", "Maybe Accept: "]);
    let accept = vec![rule(RuleVerdict::Accept, vec![])];
    assert_eq!(walked(chains(false, accept), Hook::Input, &syn()), ["Yes Accept: "]);
}

#[test]
fn what_a_share_takes_leaves_the_rest_to_the_policy() {
    let half = rule(RuleVerdict::Accept, vec![Match::Random(0.5)]);
    assert_eq!(
        walked(vec![input(RuleVerdict::Drop, vec![half])], Hook::Input, &syn()),
        ["Maybe Drop: policy", "Maybe Accept: "]
    );
    // A return that perhaps happens leads to the same end as none.
    let maybe = rule(RuleVerdict::Return, vec![Match::Random(0.5)]);
    let chains = vec![input(RuleVerdict::Drop, vec![jump("u", vec![])]), user("u", vec![maybe])];
    assert_eq!(walked(chains, Hook::Input, &syn()), ["Yes Drop: policy"]);
}

#[test]
fn marks_are_carried_from_chain_to_chain() {
    let set = Match::Change(Change::Set { field: Field::Mark, clear: u32::MAX, value: 7 });
    let mut mangle = input(RuleVerdict::Accept, vec![rule(RuleVerdict::Continue, vec![dport(80), set])]);
    (mangle.table, mangle.priority) = ("mangle".into(), Some(-150));
    let marked = rule(RuleVerdict::Drop, vec![Match::equals(Field::Mark, 7)]);
    let filter = input(RuleVerdict::Accept, vec![marked]);
    assert_eq!(walked(vec![filter, mangle], Hook::Input, &syn()), ["Yes Drop: INPUT 1"]);
}

#[test]
fn a_map_takes_the_entry_that_fits() {
    let entries = vec![(dport(22), RuleVerdict::Drop), (dport(80), RuleVerdict::Jump("web".into()))];
    let map = rule(RuleVerdict::Map(entries), vec![Match::L4Proto(6)]);
    let web = user("web", vec![rule(RuleVerdict::Drop, vec![])]);
    let chains = vec![input(RuleVerdict::Accept, vec![map]), web];
    assert_eq!(walked(chains, Hook::Input, &syn()), ["Yes Drop: INPUT 1 > web 1"]);
}

#[test]
fn a_translated_packet_meets_the_next_chain_translated() {
    let to = ("127.0.0.1".parse().unwrap(), "127.0.0.1".parse().unwrap());
    let nat = Nat { kind: NatKind::Destination, addresses: Some(to), ports: Some((8080, 8080)), known: true };
    let mut dnat = chain_(
        "OUTPUT",
        Hook::Output,
        RuleVerdict::Accept,
        vec![rule(RuleVerdict::Nat(Box::new(nat)), vec![Match::L4Proto(6), dport(80)])],
    );
    (dnat.table, dnat.priority, dnat.nat) = ("nat".into(), Some(-100), true);
    let drop =
        rule(RuleVerdict::Drop, vec![Match::Destination("127.0.0.0".parse().unwrap(), 8), dport(8080)]);
    let filter = chain_("OUTPUT", Hook::Output, RuleVerdict::Accept, vec![drop]);
    let chains = vec![dnat, filter];
    assert_eq!(walked(chains.clone(), Hook::Output, &syn()), ["Yes Drop: OUTPUT 1"]);
    // What belongs to a connection does not meet chains of type nat.
    let later = Packet { state: Some(super::super::packet::State::Established), ..syn() };
    assert_eq!(walked(chains, Hook::Output, &later), ["Yes Accept: "]);
}

#[test]
fn masquerade_takes_the_address_that_is_near_the_destination() {
    let masquerade = Nat { kind: NatKind::Masquerade, addresses: None, ports: None, known: true };
    let rules = vec![rule(RuleVerdict::Nat(Box::new(masquerade)), vec![])];
    let mut chain = chain_("POSTROUTING", Hook::Postrouting, RuleVerdict::Accept, rules);
    chain.nat = true;
    let source = |destination: &str| {
        let mut world = World::pair();
        world.after(1, |s| {
            s.nftables = Reading::Present(vec![chain.clone()]);
            let Reading::Present(addresses) = &mut s.addresses else { return };
            let ip = "192.0.2.1".parse().unwrap();
            addresses.push(Address { ip, ..addresses[0].clone() });
        });
        let packet = Packet {
            source: Some("172.17.0.5".parse().unwrap()),
            destination: Some(destination.parse().unwrap()),
            in_interface: None,
            out_interface: Some("eth0".into()),
            ..syn()
        };
        world.with(|case| {
            let rules = Rules::of(case.spaces().nth(1).unwrap().after);
            let walk = rules.at_hook(Hook::Postrouting, &packet);
            walk.packets.iter().filter_map(|(_, packet)| packet.source).map(|ip| ip.to_string()).collect()
        })
    };
    let sources: [Vec<String>; 2] = ["192.0.2.9", "10.0.0.9"].map(source);
    assert_eq!(sources, [["192.0.2.1"], ["10.0.0.2"]]);
}

#[test]
fn in_front_of_conntrack_all_is_invalid_unless_it_is_not_tracked() {
    let state = |word: &str| Match::CtState(vec![word.into()]);
    let mut raw = chain_(
        "PREROUTING",
        Hook::Prerouting,
        RuleVerdict::Accept,
        vec![
            rule(RuleVerdict::Drop, vec![state("NEW")]),
            rule(RuleVerdict::Continue, vec![state("INVALID"), Match::Change(Change::Notrack)]),
        ],
    );
    (raw.table, raw.priority) = ("raw".into(), Some(-300));
    let mut mangle = chain_(
        "PREROUTING",
        Hook::Prerouting,
        RuleVerdict::Accept,
        vec![rule(RuleVerdict::Drop, vec![state("UNTRACKED")])],
    );
    (mangle.table, mangle.priority) = ("mangle".into(), Some(-150));
    assert_eq!(walked(vec![mangle, raw], Hook::Prerouting, &syn()), ["Yes Drop: PREROUTING 1"]);
}

#[test]
fn two_tables_of_one_priority_leave_it_open_which_was_first() {
    let drop = || input(RuleVerdict::Accept, vec![rule(RuleVerdict::Drop, vec![])]);
    let other = Chain { table: "other".into(), ..drop() };
    let both = walked(vec![drop(), other], Hook::Input, &syn());
    assert_eq!(both, ["Maybe Drop: INPUT 1", "Maybe Drop: INPUT 1"]);
}

#[test]
fn unread_rules_are_not_taken_for_none() {
    let mut world = World::pair();
    world.after(1, |s| s.nftables = Reading::Denied("CAP_NET_ADMIN".into()));
    world.with(|case| {
        let rules = Rules::of(case.spaces().nth(1).unwrap().after);
        let walk = rules.at_hook(Hook::Input, &syn());
        assert_eq!(walk.passes(), Fit::Maybe);
        assert!(matches!(&walk.endings[0].end, End::Unknown(why) if why == "CAP_NET_ADMIN"));
    });
}

#[test]
fn chains_that_call_each_other_end_all_the_same() {
    let chains: Vec<Chain> = (0..20)
        .map(|n| user(&format!("u{n}"), vec![jump(&format!("u{}", (n + 1) % 20), vec![]); 3]))
        .chain([input(RuleVerdict::Accept, vec![jump("u0", vec![])])])
        .collect();
    let endings = walked(chains, Hook::Input, &syn());
    assert!(endings.iter().all(|ending| ending.starts_with("Maybe")), "{}", endings.len());
}

#[test]
fn a_near_miss_names_its_field() {
    let rules = vec![
        rule(RuleVerdict::Accept, vec![Match::L4Proto(6), dport(8080)]),
        rule(RuleVerdict::Accept, vec![Match::L4Proto(17), dport(53)]),
    ];
    let mut world = World::pair();
    world.after(1, |s| s.nftables = Reading::Present(vec![input(RuleVerdict::Drop, rules.clone())]));
    world.with(|case| {
        let snapshot = case.spaces().nth(1).unwrap().after;
        let chain = snapshot.chains().next().unwrap();
        let tried = Rules::of(snapshot).tried(chain, &syn());
        let text: Vec<String> = tried.iter().map(|t| format!("{} {}", t.missed, t.misses)).collect();
        assert_eq!(text, ["dport 8080 1", "protocol 17 2"]);
    });
}
