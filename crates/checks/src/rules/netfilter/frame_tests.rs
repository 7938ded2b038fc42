//! Rules and policies of the ARP and the bridge family, which see frames and no packets of a connection.

use crate::testing::*;
use whydrop_model::netfilter::{Chain, Family, Field, Hook, Match, RuleVerdict, Tool};
use whydrop_model::snapshot::Neighbour;
use whydrop_model::{DropEvent, Reading, Verdict};

const ETHERTYPE: Match = Match::Number { field: Field::EtherType, mask: u32::MAX, low: 0x0800, high: 0x0800 };

fn of_family(family: Family, hook: Hook, policy: RuleVerdict, matches: Option<Vec<Match>>) -> Chain {
    let drop = matches.map(|matches| rule("drop", RuleVerdict::Drop, None, matches));
    Chain {
        tool: Tool::Nft,
        family,
        table: "t".into(),
        policy_packets: None,
        ..chain("c", hook, policy, drop.into_iter().collect())
    }
}

/// The client asks for the server's link-layer address in vain, and the server's ARP drops were seen.
fn without_arp(policy: Chain) -> World {
    let mut world = World::pair();
    world.both(SERVER, |s| s.nftables = Reading::Present(vec![policy.clone()]));
    let failed: Neighbour = neighbour("10.0.0.2", None, "failed");
    world.after(CLIENT, |s| s.neighbours = Reading::Present(vec![failed.clone()]));
    world.drops(CLIENT, "NEIGH_FAILED", "arp_error_report", 4);
    let talk = world.talk(CLIENT, "10.0.0.2:80");
    (talk.attempts, talk.failed) = (4, 4);
    talk.errors.insert("EHOSTUNREACH".into(), 4);
    world.drops(SERVER, "NETFILTER_DROP", "nft_do_chain", 4);
    let question = DropEvent {
        reason: "NETFILTER_DROP".into(),
        function: "nft_do_chain".into(),
        stack: ["nft_do_chain_arp", "nf_hook_slow", "arp_rcv"].map(str::to_owned).to_vec(),
        ethertype: Some(0x0806),
        netns_inode: Some(4002),
        link: Some(2),
        interface: Some("eth0".into()),
        ..DropEvent::default()
    };
    if let Reading::Present(log) = &mut world.observation.drops {
        log.counts.last_mut().unwrap().protocol = None;
        log.sampled.extend(std::iter::repeat_n(question, 4));
    }
    world
}

#[test]
fn a_policy_of_the_arp_family_is_the_root_of_the_neighbour() {
    let world = without_arp(of_family(Family::Arp, Hook::Input, RuleVerdict::Drop, None));
    assert_eq!(world.found(), ["netfilter.arp_drop @ netns:server: arp t c, policy"]);
    assert_eq!(world.report().ledger.unexplained, 0);
}

#[test]
fn an_arp_chain_that_accepts_is_none() {
    let world = without_arp(of_family(Family::Arp, Hook::Input, RuleVerdict::Accept, None));
    assert!(world.found().iter().all(|found| !found.starts_with("netfilter")), "{:?}", world.found());
}

/// The host bridges client and server, and drops the client's packets there; whether it sampled one.
fn over_a_bridge(chain: Chain, sampled: bool) -> World {
    let mut world = World::bridged();
    world.both(HOST, |s| s.nftables = Reading::Present(vec![chain.clone()]));
    let talk = world.talk(CLIENT, "10.0.0.2:80");
    (talk.attempts, talk.failed, talk.syn_repeats) = (4, 4, 2);
    talk.errors.insert("ETIMEDOUT".into(), 4);
    world.drops(HOST, "NETFILTER_DROP", "nft_do_chain", 4);
    let frame = DropEvent {
        reason: "NETFILTER_DROP".into(),
        function: "nft_do_chain".into(),
        // br_netfilter is loaded: the way in was through its hook.
        stack: [
            "nft_do_chain_bridge",
            "nf_hook_slow",
            "__br_forward",
            "br_nf_pre_routing_finish",
            "br_nf_pre_routing",
        ]
        .map(str::to_owned)
        .to_vec(),
        protocol: Some(6),
        tcp_flags: Some(2),
        source: "10.0.0.1:40000".parse().ok(),
        destination: "10.0.0.2:80".parse().ok(),
        netns_inode: Some(4000),
        link: Some(12),
        interface: Some("p1".into()),
        ..DropEvent::default()
    };
    if let Reading::Present(log) = &mut world.observation.drops {
        log.counts.last_mut().unwrap().link = Some(12);
        log.sampled.extend(sampled.then_some(frame));
    }
    world
}

#[test]
fn a_rule_of_the_bridge_family_without_a_counter() {
    for sampled in [true, false] {
        let forwards = vec![ETHERTYPE, Match::L4Proto(6), Match::OutInterface("p1".into())];
        let chain = of_family(Family::Bridge, Hook::Forward, RuleVerdict::Accept, Some(forwards));
        let world = over_a_bridge(chain, sampled);
        assert_eq!(world.found(), ["netfilter.bridge_drop @ netns:host: bridge t c, rule 1"], "{sampled}");
        assert_eq!(world.report().ledger.unexplained, 0, "{sampled}");
    }
    let chain = of_family(Family::Bridge, Hook::Forward, RuleVerdict::Drop, None);
    let world = over_a_bridge(chain, true);
    assert_eq!(world.found(), ["netfilter.bridge_drop @ netns:host: bridge t c, policy"]);
}

#[test]
fn a_rule_of_the_bridge_for_other_frames_takes_none() {
    for other in [Match::L4Proto(17), Match::OutInterface("p2".into())] {
        let chain =
            of_family(Family::Bridge, Hook::Forward, RuleVerdict::Accept, Some(vec![ETHERTYPE, other]));
        let world = over_a_bridge(chain, true);
        assert_eq!(world.found(), Vec::<String>::new());
        assert_eq!(world.report().verdict, Verdict::Loss);
    }
}
