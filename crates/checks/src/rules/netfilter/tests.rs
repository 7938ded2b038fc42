//! Rules, policies and the idioms made of them.

use crate::testing::*;
use std::net::SocketAddr;
use whydrop_model::drops::DropEvent;
use whydrop_model::netfilter::{Chain, Family, Field, Hook, Match, Rule, RuleVerdict, Tool};
use whydrop_model::probe::{Outcome, Packet};
use whydrop_model::{Applicability, NoteStatus, Reading, Verdict};

const RANDOM: &str = "-p tcp -m statistic --mode random --probability 0.3 -j DROP";

fn random_drop() -> whydrop_model::netfilter::Rule {
    rule(RANDOM, RuleVerdict::Drop, Some(5), vec![Match::L4Proto(6), Match::Random(0.3)])
}

fn input(rules: Vec<whydrop_model::netfilter::Rule>) -> whydrop_model::netfilter::Chain {
    chain("INPUT", Hook::Input, RuleVerdict::Accept, rules)
}

fn tcp80() -> Vec<Match> {
    vec![Match::L4Proto(6), Match::DestinationPorts(80, 80)]
}

#[test]
fn a_rule_that_counted_is_found_and_charged() {
    let mut world = World::pair();
    world.chain(SERVER, input(vec![random_drop()]), &[14]).probe("tcp://10.0.0.2:80", 50, 14);
    let report = world.report();
    assert_eq!(world.found(), ["netfilter.drop_rule @ netns:server: filter INPUT, rule 1"]);
    assert_eq!((report.ledger.lost, report.ledger.unexplained), (14, 0));
    let delete = &report.findings[0].fixes[1];
    assert_eq!(delete.steps[0].action.argv().join(" "), format!("iptables-nft -D INPUT {RANDOM}"));
    assert!(delete.caution.is_none() && delete.applicability == Applicability::Weakens);
}

#[test]
fn a_rule_that_did_not_count_is_old_or_latent() {
    let mut world = World::pair();
    let unused = rule("-p udp -j DROP", RuleVerdict::Drop, Some(0), vec![Match::L4Proto(17)]);
    world.chain(SERVER, input(vec![random_drop(), unused]), &[0, 0]).probe("tcp://10.0.0.2:80", 50, 0);
    let report = world.report();
    assert_eq!(report.verdict, Verdict::Clear);
    let statuses: Vec<_> = report.notes.iter().map(|n| n.status).collect();
    assert_eq!(statuses, [NoteStatus::Old, NoteStatus::Latent]);
}

#[test]
fn two_rules_are_two_findings() {
    let mut world = World::pair();
    let output = chain("OUTPUT", Hook::Output, RuleVerdict::Accept, vec![random_drop()]);
    world.chain(SERVER, input(vec![random_drop()]), &[14]).chain(SERVER, output, &[11]);
    world.probe("tcp://10.0.0.2:80", 50, 25);
    assert_eq!(world.found().len(), 2);
    assert_eq!(world.report().ledger.explained, 25);
}

#[test]
fn what_is_behind_a_limit_is_a_rate_limit() {
    let mut world = World::pair();
    let mut limited = tcp80();
    limited.push(Match::Limit { rate: "5/second".into(), over: false });
    let pass =
        rule("-p tcp --dport 80 -m limit --limit 5/s -j ACCEPT", RuleVerdict::Accept, Some(0), limited);
    let rest = rule("-p tcp --dport 80 -j DROP", RuleVerdict::Drop, Some(0), tcp80());
    world.chain(SERVER, input(vec![pass.clone(), rest]), &[15, 35]).probe("tcp://10.0.0.2:80", 50, 35);
    assert_eq!(world.found(), ["netfilter.rate_limit @ netns:server: filter INPUT, rule 2"]);

    let mut world = World::pair();
    let mut chain = input(vec![pass]);
    (chain.policy, chain.policy_packets) = (Some(RuleVerdict::Drop), Some(0));
    world.chain(SERVER, chain, &[15]).probe("tcp://10.0.0.2:80", 50, 35);
    world.after(SERVER, |s| policy_counts(s, 35));
    assert_eq!(world.found(), ["netfilter.rate_limit @ netns:server: filter INPUT, policy"]);
}

#[test]
fn kinds_by_their_conditions() {
    let over = |m: Match| rule("...", RuleVerdict::Drop, Some(0), vec![Match::L4Proto(6), m]);
    let cases = [
        (over(Match::Limit { rate: "5/second".into(), over: true }), "netfilter.rate_limit"),
        (over(Match::Connlimit { count: 3, over: true }), "netfilter.connlimit"),
        (over(Match::Quota { bytes: 3, over: true }), "netfilter.quota"),
        (over(Match::Named { name: "q".into(), quota: true }), "netfilter.quota"),
        (over(Match::Named { name: "l".into(), quota: false }), "netfilter.rate_limit"),
        (over(Match::CtState(vec!["INVALID".into()])), "conntrack.invalid_drop"),
        (rule("...", RuleVerdict::Reject, Some(0), tcp80()), "netfilter.reject_rule"),
    ];
    for (rule, cause) in cases {
        let mut world = World::pair();
        world.chain(SERVER, input(vec![rule]), &[9]);
        assert_eq!(world.found(), [format!("{cause} @ netns:server: filter INPUT, rule 1")]);
    }
}

#[test]
fn a_policy_is_a_fault_only_where_it_costs_the_probes() {
    let policy = |port: u16| {
        let matches = vec![Match::L4Proto(6), Match::DestinationPorts(port, port)];
        chain(
            "INPUT",
            Hook::Input,
            RuleVerdict::Drop,
            vec![rule("...", RuleVerdict::Accept, Some(0), matches)],
        )
    };
    let mut world = World::pair();
    world.chain(SERVER, policy(80), &[50]).after(SERVER, |s| policy_counts(s, 3));
    world.probe("tcp://10.0.0.2:80", 50, 0);
    assert_eq!(world.report().verdict, Verdict::Clear);
    assert_eq!(world.report().notes[0].status, NoteStatus::Benign);

    let mut world = World::pair();
    world.chain(SERVER, policy(22), &[0]).after(SERVER, |s| policy_counts(s, 50));
    world.probe("tcp://10.0.0.2:80", 50, 50);
    assert_eq!(world.found(), ["netfilter.drop_policy @ netns:server: filter INPUT, policy"]);
    let fix = &world.report().findings[0].fixes[0];
    assert_eq!(
        fix.steps[0].action.argv().join(" "),
        "iptables-nft -A INPUT -s 10.0.0.1/32 -d 10.0.0.2/32 -p tcp -m tcp --dport 80 -j ACCEPT"
    );
}

#[test]
fn the_fix_of_a_policy_lets_both_directions_pass_and_can_be_taken_back() {
    let fix = |hook: Hook, tool: Tool| {
        let mut chain = chain("CHAIN", hook, RuleVerdict::Drop, vec![]);
        chain.tool = tool;
        let mut world = World::pair();
        world.chain(SERVER, chain, &[]).after(SERVER, |s| policy_counts(s, 50));
        world.probe("tcp://10.0.0.2:80", 50, 50);
        let fix = world.report().findings[0].fixes[0].clone();
        assert_eq!(fix.applicability, Applicability::Safe);
        fix.steps.iter().map(|s| s.action.argv().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(
        fix(Hook::Prerouting, Tool::IptablesNft),
        ["iptables-nft -A CHAIN -s 10.0.0.1/32 -d 10.0.0.2/32 -p tcp -m tcp --dport 80 -j ACCEPT"]
    );
    assert_eq!(
        fix(Hook::Output, Tool::IptablesNft),
        ["iptables-nft -A CHAIN -s 10.0.0.2/32 -d 10.0.0.1/32 -p tcp -m tcp --sport 80 -m conntrack \
          --ctstate RELATED,ESTABLISHED -j ACCEPT"]
    );
    assert_eq!(
        fix(Hook::Input, Tool::Nft),
        [
            "nft -e -a add rule ip filter CHAIN ip saddr 10.0.0.1 ip daddr 10.0.0.2 tcp dport 80 counter accept"
        ]
    );
}

#[test]
fn a_rule_without_counter_is_found_by_drop_events() {
    let mut nft = input(vec![
        rule(
            "tcp dport 22 drop",
            RuleVerdict::Drop,
            None,
            vec![Match::L4Proto(6), Match::DestinationPorts(22, 22)],
        ),
        rule("tcp dport 80 drop", RuleVerdict::Drop, None, tcp80()),
    ]);
    (nft.tool, nft.family, nft.table, nft.policy_packets) = (Tool::Nft, Family::Inet, "fw".into(), None);
    let mut world = World::pair();
    world.chain(SERVER, nft.clone(), &[]).drops(SERVER, "NETFILTER_DROP", "nft_do_chain", 50);
    world.probe("tcp://10.0.0.2:80", 50, 50);
    assert_eq!(world.found(), ["netfilter.drop_rule @ netns:server: inet fw INPUT, rule 2"]);
    assert_eq!(world.report().ledger.explained, 50);

    // Without the tracer the lost probes alone point at it.
    world.observation.drops = Reading::Absent("no BPF".into());
    assert_eq!(world.found(), ["netfilter.drop_rule @ netns:server: inet fw INPUT, rule 2"]);

    // Nothing lost: nothing found.
    let mut world = World::pair();
    world.chain(SERVER, nft, &[]).probe("tcp://10.0.0.2:80", 50, 0);
    assert_eq!(world.report().verdict, Verdict::Clear);
}

#[test]
fn rules_without_counter_share_the_drops_by_the_packets_that_were_sampled() {
    let port = |port| vec![Match::L4Proto(17), Match::DestinationPorts(port, port)];
    let dropping = |port_, counter| rule("udp drop", RuleVerdict::Drop, counter, port(port_));
    let rules = vec![dropping(53, None), dropping(123, None), dropping(514, Some(0)), dropping(69, None)];
    let mut nft = input(rules);
    (nft.tool, nft.family, nft.table, nft.policy_packets) = (Tool::Nft, Family::Inet, "fw".into(), None);
    let mut world = World::pair();
    world.chain(SERVER, nft, &[0, 0, 4]).drops(SERVER, "NETFILTER_DROP", "nft_do_chain", 34);
    let netns_inode = Some(world.observation.namespaces[SERVER].target.netns_inode);
    if let Reading::Present(log) = &mut world.observation.drops {
        for (port, n) in [(53, 2), (123, 1), (514, 4)] {
            log.sampled.extend((0..n).map(|i| DropEvent {
                reason: "NETFILTER_DROP".into(),
                function: "nft_do_chain".into(),
                stack: vec!["ip_local_deliver".into()],
                netns_inode,
                protocol: Some(17),
                source: Some(SocketAddr::from(([10, 0, 0, 1], 40000 + i))),
                destination: Some(SocketAddr::from(([10, 0, 0, 2], port))),
                ..DropEvent::default()
            }));
        }
    }
    let report = world.report();
    let found: Vec<_> = report.findings.iter().map(|f| (f.subject.as_str(), f.packets_lost)).collect();
    // Thirty drops without counter, of which three packets were seen.
    let expected = [("rule 1", 20), ("rule 2", 10), ("rule 3", 4)];
    assert_eq!(found.len(), 3, "{found:?}");
    for ((subject, packets), (rule, n)) in found.iter().zip(expected) {
        assert!(subject.ends_with(rule) && *packets == Some(n), "{found:?}");
    }
    assert_eq!(report.ledger.unexplained, 0);
}

#[test]
fn fixes_made_in_turn_can_be_taken_back_in_turn() {
    let rules = |second: &str| {
        let mut world = World::pair();
        let second = rule(second, RuleVerdict::Drop, Some(5), vec![Match::L4Proto(6), Match::Random(0.2)]);
        world.chain(SERVER, input(vec![random_drop(), second]), &[14, 7]);
        let report = world.report();
        let steps = report.findings.iter().map(|f| f.fixes.last().unwrap().steps[0].action.clone());
        steps.map(|a| (a.argv().join(" "), a.inverse().unwrap().argv().join(" "))).collect::<Vec<_>>()
    };
    let other = rules("-p tcp -j DROP");
    assert_eq!(other[1].0, "iptables-nft -D INPUT -p tcp -j DROP");
    // The first rule is gone when this one comes back, and is put in front of it afterwards.
    assert_eq!(other[1].1, "iptables-nft -I INPUT 1 -p tcp -j DROP");
    assert!(other[0].1.starts_with("iptables-nft -I INPUT 1 "));
    // Of two twins side by side it does not matter which one goes, but a number would no longer be right.
    let twins = rules(RANDOM);
    assert_eq!(twins[0].0, format!("iptables-nft -D INPUT {RANDOM}"));
    assert_eq!(twins[0].0, twins[1].0);
    // iptables does not find such a rule by its text.
    let counted = rules("-p tcp -m connlimit --connlimit-above 3 -j DROP");
    assert_eq!(counted[1].0, "iptables-nft -D INPUT 2");
}

#[test]
fn what_nobody_waits_for_is_dropped_in_peace() {
    let world = |rules: Vec<Rule>, port: u16, lost: u64, from: &str| {
        let mut world = World::pair();
        world.chain(SERVER, input(rules), &[9]).drops(SERVER, "NETFILTER_DROP", "nf_hook_slow", 9);
        world.probe("tcp://10.0.0.2:80", 50, lost);
        let netns_inode = Some(world.observation.namespaces[SERVER].target.netns_inode);
        if let Reading::Present(log) = &mut world.observation.drops {
            log.sampled.push(DropEvent {
                reason: "NETFILTER_DROP".into(),
                function: "nf_hook_slow".into(),
                netns_inode,
                interface: Some("eth0".into()),
                protocol: Some(17),
                source: from.parse().ok(),
                destination: Some(([10, 0, 0, 2], port).into()),
                ..DropEvent::default()
            });
        }
        world
    };
    let udp = || rule("-p udp -j DROP", RuleVerdict::Drop, Some(0), vec![Match::L4Proto(17)]);
    let (stranger, client) = ("203.0.113.9:5555", "10.0.0.1:5555");
    let quiet = world(vec![udp()], 1900, 0, stranger);
    assert_eq!(quiet.report().verdict, Verdict::Clear);
    assert_eq!(quiet.report().notes[0].status, NoteStatus::Benign);
    // The same rule in the way of somebody in view.
    let seen = world(vec![udp()], 1900, 0, client);
    assert_eq!(seen.found(), ["netfilter.drop_rule @ netns:server: filter INPUT, rule 1"]);
    // Somebody has the port open.
    let mut served = world(vec![udp()], 53, 0, stranger);
    served.listens(SERVER, whydrop_model::snapshot::Protocol::Udp, "0.0.0.0:53");
    assert_eq!(served.found(), ["netfilter.drop_rule @ netns:server: filter INPUT, rule 1"]);
    // Whether anything else is under study changes nothing for a stranger.
    let mut alone = world(vec![udp()], 1900, 0, stranger);
    alone.observation.probes.clear();
    assert_eq!(alone.report().verdict, Verdict::Clear);
    // It hurts what is under study, or protects nothing.
    let all = rule("-j DROP", RuleVerdict::Drop, Some(0), vec![]);
    assert_eq!(world(vec![all], 1900, 9, stranger).found().len(), 1);
    let dice = rule("...", RuleVerdict::Drop, Some(0), vec![Match::Random(0.3)]);
    assert_eq!(world(vec![dice], 1900, 0, stranger).found().len(), 1);
}

#[test]
fn a_limit_for_new_connections_before_a_policy() {
    let mut limited = tcp80();
    limited.push(Match::Number { field: Field::TcpFlags, mask: 0x17, low: 2, high: 2 });
    limited.push(Match::Limit { rate: "5/second".into(), over: false });
    let mut world = World::pair();
    let mut chain = input(vec![rule("...", RuleVerdict::Accept, Some(0), limited)]);
    chain.policy = Some(RuleVerdict::Drop);
    world.chain(SERVER, chain, &[15]).after(SERVER, |s| policy_counts(s, 35));
    world.probe("tcp://10.0.0.2:80", 50, 35);
    assert_eq!(world.found(), ["netfilter.rate_limit @ netns:server: filter INPUT, policy"]);
}

/// The last probe loses one more packet: the server drops the answer to this port in the hook of `caller`.
fn loses_answer(world: &mut World, port: u16, caller: &str) {
    let netns_inode = Some(world.observation.namespaces[SERVER].target.netns_inode);
    let sent_ns = 1_000_000_000_000 + u64::from(port) * 10_000_000;
    let probe = world.observation.probes.last_mut().unwrap();
    let outcome = Outcome::Lost;
    let seq = probe.packets.len() as u32;
    probe.packets.push(Packet { seq, sport: port, sent_ns, outcome, rtt_ms: None, duplicates: 0 });
    if let Reading::Present(log) = &mut world.observation.drops {
        log.sampled.push(DropEvent {
            realtime_ns: sent_ns + 1000,
            reason: "NETFILTER_DROP".into(),
            function: "nf_hook_slow".into(),
            stack: vec![caller.into()],
            netns_inode,
            protocol: Some(6),
            tcp_flags: Some(0x12),
            source: Some("10.0.0.2:80".parse().unwrap()),
            destination: Some(SocketAddr::from(([10, 0, 0, 1], port))),
            ..DropEvent::default()
        });
    }
}

#[test]
fn a_lost_probe_ends_at_the_rules_of_the_hook_where_it_died() {
    let mut world = World::pair();
    let two =
        vec![random_drop(), rule("-p udp -j DROP", RuleVerdict::Drop, Some(0), vec![Match::L4Proto(17)])];
    world.chain(SERVER, chain("INPUT", Hook::Input, RuleVerdict::Accept, vec![random_drop()]), &[5]);
    world.chain(SERVER, chain("OUTPUT", Hook::Output, RuleVerdict::Accept, two), &[5, 5]);
    world.probe("tcp://10.0.0.2:80", 4, 3);
    loses_answer(&mut world, 40000, "__ip_local_out");
    loses_answer(&mut world, 40001, "__ip_local_out");
    let probe = &world.report().probes[0];
    let fates: Vec<_> =
        probe.fate.iter().map(|f| (f.stage.as_deref(), f.subjects.join(" or "), f.probes)).collect();
    // The rule for UDP takes no SYN-ACK; of the third probe nobody knows at which of the two rules it died.
    let both = "filter INPUT, rule 1 or filter OUTPUT, rule 1".to_owned();
    let traced = "filter OUTPUT, rule 1".to_owned();
    assert_eq!(fates, [(None, both, 1), (Some("netfilter.output"), traced, 2)]);
    assert_eq!(world.report().ledger.unexplained, 0);
}

#[test]
fn a_policy_behind_a_translated_address_is_found_where_the_probes_died() {
    // A published port: the probed address is the router's own, and the packets are forwarded.
    let mut world = World::pair();
    world.chain(SERVER, chain("FORWARD", Hook::Forward, RuleVerdict::Drop, vec![]), &[]);
    world.after(SERVER, |s| {
        if let Reading::Present(chains) = &mut s.nftables {
            chains[0].policy_packets = Some(2);
        }
    });
    world.probe("tcp://10.0.0.2:8080", 2, 2);
    loses_answer(&mut world, 40000, "ip_forward");
    loses_answer(&mut world, 40001, "ip_forward");
    assert_eq!(world.found(), ["netfilter.drop_policy @ netns:server: filter FORWARD, policy"]);
    assert_eq!((world.report().ledger.explained, world.report().ledger.unexplained), (2, 0));
}

#[test]
fn a_probe_is_tied_to_the_rule_where_it_died() {
    // The probe goes to an address of the router that is translated to the server: routes do not show that way.
    let mut world = World::pair();
    let output = chain("OUTPUT", Hook::Output, RuleVerdict::Accept, vec![random_drop()]);
    world.chain(SERVER, output, &[1]).probe("tcp://10.0.0.9:8080", 1, 1);
    let traced = |world: &World| {
        world.report().findings[0].evidence.iter().filter(|e| e.source == "traced probes").count()
    };
    assert_eq!(traced(&world), 0);
    loses_answer(&mut world, 40000, "__ip_local_out");
    assert_eq!(traced(&world), 1);
    assert_eq!((world.report().ledger.explained, world.report().ledger.unexplained), (1, 0));
}

fn nft(name: &str, hook: Option<Hook>, rules: Vec<Rule>) -> Chain {
    let mut nft = chain(name, Hook::Input, RuleVerdict::Accept, rules);
    (nft.tool, nft.family, nft.table, nft.policy_packets) = (Tool::Nft, Family::Inet, "fw".into(), None);
    (nft.hook, nft.policy) = (hook, hook.map(|_| RuleVerdict::Accept));
    nft
}

#[test]
fn sets_and_verdict_maps_are_looked_into() {
    let source = |ip: &str| Match::AnyOf(vec![Match::Source(ip.parse().unwrap(), 32)]);
    let port = |port| Match::DestinationPorts(port, port);
    let other = || rule("ip saddr @bad drop", RuleVerdict::Drop, None, vec![source("10.1.1.1")]);
    let spared = Match::Not(Box::new(Match::Source("10.0.0.0".parse().unwrap(), 24)));
    let ports = Match::AnyOf(vec![port(80), port(443)]);
    let map = |verdict| {
        let entries = vec![(port(22), RuleVerdict::Accept), (port(80), verdict)];
        rule("tcp dport vmap { ... }", RuleVerdict::Map(entries), None, vec![Match::L4Proto(6)])
    };
    let found = |chains: Vec<Chain>| {
        let mut world = World::pair();
        for chain in chains {
            world.chain(SERVER, chain, &[50; 4]);
        }
        world.drops(SERVER, "NETFILTER_DROP", "nft_do_chain", 50).probe("tcp://10.0.0.2:80", 50, 50);
        assert_eq!(world.report().ledger.unexplained, 0);
        world.found()
    };
    // Neither a set without the client nor a negated network with it is what took the probes.
    let members = rule("tcp dport { 80, 443 } drop", RuleVerdict::Drop, None, vec![Match::L4Proto(6), ports]);
    let spared = rule("ip saddr != 10.0.0.0/24 drop", RuleVerdict::Drop, None, vec![spared]);
    assert_eq!(
        found(vec![nft("in", Some(Hook::Input), vec![other(), spared, members])]),
        ["netfilter.drop_rule @ netns:server: inet fw in, rule 3"]
    );
    assert_eq!(
        found(vec![nft("in", Some(Hook::Input), vec![other(), map(RuleVerdict::Drop)])]),
        ["netfilter.drop_rule @ netns:server: inet fw in, rule 2"]
    );
    // A map can call a chain.
    let web = nft("web", None, vec![rule("counter drop", RuleVerdict::Drop, Some(0), vec![])]);
    let base = nft("in", Some(Hook::Input), vec![map(RuleVerdict::Jump("web".into()))]);
    assert_eq!(found(vec![base, web]), ["netfilter.drop_rule @ netns:server: inet fw web, rule 1"]);
}

#[test]
fn a_policy_behind_the_usual_state_map() {
    let state = |word: &str| Match::CtState(vec![word.into()]);
    let states = vec![
        (state("ESTABLISHED"), RuleVerdict::Accept),
        (state("RELATED"), RuleVerdict::Accept),
        (state("INVALID"), RuleVerdict::Drop),
    ];
    let map = rule("ct state vmap { ... }", RuleVerdict::Map(states), None, vec![]);
    let mut closed = nft("in", Some(Hook::Input), vec![map]);
    closed.policy = Some(RuleVerdict::Drop);
    let mut world = World::pair();
    world.chain(SERVER, closed, &[]).drops(SERVER, "NETFILTER_DROP", "nft_do_chain", 50);
    world.probe("tcp://10.0.0.2:80", 50, 50);
    assert_eq!(world.found(), ["netfilter.drop_policy @ netns:server: inet fw in, policy"]);
}

#[test]
fn a_vantage_is_judged_only_by_what_costs_the_probes() {
    let udp = rule("-p udp -j DROP", RuleVerdict::Drop, Some(0), vec![Match::L4Proto(17)]);
    let mut world = World::pair();
    world.chain(CLIENT, input(vec![udp]), &[7]).probe("tcp://10.0.0.2:80", 50, 0);
    assert_eq!(world.report().verdict, Verdict::Clear);

    let mut world = World::pair();
    world.chain(CLIENT, input(vec![random_drop()]), &[20]).probe("tcp://10.0.0.2:80", 50, 20);
    assert_eq!(world.found(), ["netfilter.drop_rule @ netns:client: filter INPUT, rule 1"]);
}

#[test]
fn an_unreadable_firewall_is_not_a_clear_one() {
    let mut world = World::pair();
    world.both(SERVER, |s| s.nftables = Reading::Denied("CAP_NET_ADMIN".into()));
    assert_eq!(world.report().verdict, Verdict::Inconclusive);
}

fn policy_counts(snapshot: &mut whydrop_model::Snapshot, n: u64) {
    if let Reading::Present(chains) = &mut snapshot.nftables {
        chains.last_mut().unwrap().policy_packets = Some(n);
    }
}
