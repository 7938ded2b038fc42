//! Neighbours that do not answer, and those that are not what they seem.

use crate::testing::*;
use whydrop_model::drops::DropEvent;
use whydrop_model::probe::{Outcome, Packet};
use whydrop_model::snapshot::Neighbour;
use whydrop_model::{Reading, Verdict};

fn neighbour(mac: Option<&str>, state: &str) -> Neighbour {
    Neighbour { link: 2, ip: "10.0.0.2".parse().unwrap(), mac: mac.map(Into::into), state: state.into() }
}

#[test]
fn an_unresolved_next_hop_costs_the_probes() {
    let mut world = World::pair();
    world.both(SERVER, |s| s.addresses = Reading::Present(vec![]));
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
    assert_eq!(world.found(), Vec::<String>::new(), "the deaths may be those of others");
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
