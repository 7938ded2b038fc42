//! Neighbours that do not answer, and those that are not what they seem.

use crate::testing::*;
use whydrop_model::drops::DropEvent;
use whydrop_model::probe::{Outcome, Packet};
use whydrop_model::snapshot::Neighbour;
use whydrop_model::{Reading, Verdict};

fn neighbour(mac: Option<&str>, state: &str) -> Neighbour {
    crate::testing::neighbour("10.0.0.2", mac, state)
}

#[test]
fn an_unresolved_next_hop_costs_the_probes() {
    let mut world = World::pair();
    world.both(SERVER, |s| {
        let Reading::Present(addresses) = &mut s.addresses else { return };
        addresses.iter_mut().for_each(|a| a.ip = "10.0.0.7".parse().unwrap());
    });
    world.after(CLIENT, |s| s.neighbours = Reading::Present(vec![neighbour(None, "failed")]));
    world.probe("tcp://10.0.0.2:80", 20, 20);
    assert_eq!(world.found(), ["neigh.unresolved @ netns:client: 10.0.0.2 dev eth0"]);
}

#[test]
fn a_failed_entry_that_nobody_uses_is_no_finding() {
    let mut world = World::pair();
    let old = Neighbour { ip: "10.0.0.9".parse().unwrap(), ..neighbour(None, "failed") };
    world.both(SERVER, |s| s.neighbours = Reading::Present(vec![old.clone()]));
    world.probe("tcp://10.0.0.2:80", 20, 0);
    assert_eq!(world.report().verdict, Verdict::Clear);
}

#[test]
fn without_probes_the_kernel_says_that_packets_died() {
    let mut world = World::pair();
    let dead = Neighbour { ip: "10.0.0.9".parse().unwrap(), ..neighbour(None, "failed") };
    world.after(SERVER, |s| s.neighbours = Reading::Present(vec![dead.clone()]));
    world.drops(SERVER, "NEIGH_FAILED", "neigh_invalidate", 3);
    assert_eq!(world.found(), ["neigh.unresolved @ netns:server: 10.0.0.9 dev eth0"]);
    assert_eq!(world.report().ledger.lost, 3);
}

#[test]
fn a_translated_probe_ends_at_a_neighbour_that_routes_do_not_show() {
    let mut world = World::pair();
    let dead = Neighbour { ip: "10.0.0.9".parse().unwrap(), ..neighbour(None, "failed") };
    let client = Neighbour { ip: "10.0.0.1".parse().unwrap(), ..neighbour(None, "reachable") };
    world.after(SERVER, |s| s.neighbours = Reading::Present(vec![dead.clone(), client.clone()]));
    world.drops(SERVER, "NEIGH_FAILED", "neigh_invalidate", 1).probe("tcp://10.0.0.2:8080", 1, 1);
    let unexplained = world.report().ledger.unexplained;
    assert_eq!(unexplained, 1, "the packet that died may be somebody else's, and the probe's is nowhere");
    let (sent_ns, outcome) = (1_000_000_000_000, Outcome::Lost);
    let packet = Packet { seq: 0, sport: 40000, sent_ns, outcome, rtt_ms: None, duplicates: 0 };
    world.observation.probes[0].packets.push(packet);
    let netns_inode = Some(world.observation.namespaces[SERVER].target.netns_inode);
    if let Reading::Present(log) = &mut world.observation.drops {
        log.sampled.push(DropEvent {
            realtime_ns: sent_ns + 1000,
            reason: "NEIGH_FAILED".into(),
            function: "neigh_invalidate".into(),
            netns_inode,
            protocol: Some(6),
            tcp_flags: Some(2),
            source: Some("10.0.0.1:40000".parse().unwrap()),
            destination: Some("10.0.0.9:80".parse().unwrap()),
            ..DropEvent::default()
        });
    }
    assert_eq!(world.found(), ["neigh.unresolved @ netns:server: 10.0.0.9 dev eth0"]);
    assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (1, 0));
}

#[test]
fn a_permanent_entry_with_a_wrong_address() {
    let mut world = World::pair();
    let wrong = neighbour(Some("02:de:ad:be:ef:00"), "permanent");
    world.both(CLIENT, |s| s.neighbours = Reading::Present(vec![wrong.clone()]));
    world.probe("tcp://10.0.0.2:80", 20, 20);
    assert_eq!(world.found(), ["neigh.wrong_lladdr @ netns:client: 10.0.0.2 dev eth0"]);
}

/// The address 10.0.0.2 has moved from the server to the host "other"; the client's entry still says the server's.
fn moved() -> World {
    let mut world = World::bridged();
    world.both(SERVER, |s| s.addresses = Reading::Present(vec![]));
    world.both(OTHER, |s| {
        if let Reading::Present(addresses) = &mut s.addresses {
            addresses.iter_mut().for_each(|a| a.ip = "10.0.0.2".parse().unwrap());
        }
    });
    world
}

#[test]
fn an_address_that_moved_behind_another_port_is_still_looked_for_at_the_old_one() {
    let mut world = moved();
    let old = veth(2, "eth0", 4002).mac;
    world.both(CLIENT, |s| {
        s.neighbours = Reading::Present(vec![neighbour(old.as_deref(), "reachable")]);
    });
    world.probe("tcp://10.0.0.2:80", 20, 20);
    assert_eq!(world.found(), ["neigh.wrong_lladdr @ netns:client: 10.0.0.2 dev eth0"]);
    assert_eq!(world.report().ledger.unexplained, 0);
}

#[test]
fn an_entry_that_names_the_new_owner_is_right() {
    let mut world = moved();
    let new = veth(2, "eth0", 4003).mac;
    world.both(CLIENT, |s| {
        s.neighbours = Reading::Present(vec![neighbour(new.as_deref(), "reachable")]);
    });
    world.probe("tcp://10.0.0.2:80", 20, 20);
    assert_eq!(world.found(), Vec::<String>::new());
}

#[test]
fn a_full_table_makes_no_entry() {
    let mut world = World::pair();
    world.drops(CLIENT, "NEIGH_CREATEFAIL", "ip_finish_output2", 6);
    world.drops(SERVER, "NEIGH_CREATEFAIL", "ip_finish_output2", 6);
    let full = |n: u64| Reading::Present([("arp_cache.table_fulls".to_owned(), n)].into());
    world.observation.machine[0].neighbour_tables = full(1);
    world.observation.machine[1].neighbour_tables = full(7);
    assert_eq!(world.found(), ["neigh.table_overflow @ netns:server: ipv4 gc_thresh3"]);
    assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (6, 0));
}

/// The server has 10.0.0.50 on lo and answers no question for it (arp_ignore): one matter, however many ask.
#[test]
fn what_an_owner_in_view_does_not_answer_is_one_finding_for_all_who_ask() {
    let mut world = World::bridged();
    let ip = "10.0.0.50".parse().unwrap();
    world.both(SERVER, |s| {
        let Reading::Present(addresses) = &mut s.addresses else { return };
        let mut local = addresses.first().unwrap().clone();
        (local.link, local.ip, local.prefix) = (1, ip, 32);
        addresses.push(local);
    });
    for asker in [CLIENT, OTHER] {
        let silent = Neighbour { ip, ..neighbour(None, "failed") };
        world.after(asker, |s| s.neighbours = Reading::Present(vec![silent.clone()]));
        let talk = world.talk(asker, "10.0.0.50:80");
        (talk.attempts, talk.failed) = (5, 5);
        talk.errors.insert("EHOSTUNREACH".into(), 5);
    }
    let found = world.found();
    let [one] = found.as_slice() else { panic!("{found:?}") };
    assert!(one.starts_with("neigh.unresolved @ ") && one.ends_with("10.0.0.50 dev eth0"), "{one}");
    assert_eq!(world.report().ledger.unexplained, 0);
}

#[test]
fn an_entry_that_was_wrong_until_the_kernel_asked_anew() {
    let entries = |before: &str, after: Option<&str>, state: &str| {
        let mut world = World::pair();
        let [old, new] = [(Some(before), "stale"), (after, state)].map(|(mac, state)| neighbour(mac, state));
        world.both(CLIENT, |s| s.neighbours = Reading::Present(vec![old.clone()]));
        world.after(CLIENT, |s| s.neighbours = Reading::Present(vec![new.clone()]));
        world.probe("tcp://10.0.0.2:80", 20, 9);
        world.found()
    };
    let right = veth(2, "eth0", 4001).mac.unwrap();
    let told = ["neigh.wrong_lladdr @ netns:client: 10.0.0.2 dev eth0"];
    assert_eq!(entries("02:de:ad:be:ef:00", Some(&right), "reachable"), told);
    // What waited for an answer at the wrong address is its consequence.
    assert_eq!(entries("02:de:ad:be:ef:00", None, "failed"), told);
    let silent = ["neigh.unresolved @ netns:client: 10.0.0.2 dev eth0"];
    assert_eq!(entries(&right, None, "failed"), silent);
    assert_eq!(entries(&right, Some(&right), "reachable"), Vec::<String>::new());
}
