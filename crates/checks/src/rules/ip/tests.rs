//! TTLs that end on the way.

use crate::testing::*;
use whydrop_model::flow::IcmpSent;
use whydrop_model::{DropEvent, Reading, Verdict};

/// A client that reaches 10.9.0.9 through the server, which forwards to a network out of sight.
fn routed() -> World {
    let mut world = World::pair();
    world.both(CLIENT, |s| {
        if let Reading::Present(routes) = &mut s.routes {
            routes.push(route("10.9.0.0/24", "unicast", Some("10.0.0.2"), Some(2)));
        }
    });
    world.both(SERVER, |s| {
        if let Reading::Present(links) = &mut s.links {
            links.push(veth(3, "eth1", 9999));
        }
        if let Reading::Present(routes) = &mut s.routes {
            routes.push(route("10.9.0.0/24", "unicast", None, Some(3)));
        }
    });
    world
}

fn waits_in_vain(world: &mut World) {
    let talk = world.talk(CLIENT, "10.9.0.9:80");
    (talk.attempts, talk.failed, talk.abandoned) = (5, 5, 5);
}

fn ends_in_server(world: &mut World) {
    world.drops(SERVER, "IP_INHDR", "ip_forward", 5);
    let netns_inode = Some(world.observation.namespaces[SERVER].target.netns_inode);
    let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
    let like = DropEvent {
        reason: "IP_INHDR".into(),
        function: "ip_forward".into(),
        netns_inode,
        link: Some(2),
        protocol: Some(6),
        tcp_flags: Some(2),
        source: "10.0.0.1:40000".parse().ok(),
        destination: "10.9.0.9:80".parse().ok(),
        ..DropEvent::default()
    };
    log.counts.last_mut().unwrap().tcp_flags = Some(2);
    log.sampled.extend(std::iter::repeat_n(like, 5));
}

#[test]
fn a_connection_whose_ttl_ends_at_the_first_router() {
    let mut world = routed();
    waits_in_vain(&mut world);
    ends_in_server(&mut world);
    assert_eq!(world.found(), ["ip.ttl_too_low @ netns:client: TTL of packets to 10.9.0.9"]);
    assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (5, 0));
}

#[test]
fn the_router_says_so_where_its_drops_are_not_traced() {
    let mut world = routed();
    waits_in_vain(&mut world);
    world.observation.drops = Reading::Denied("CAP_BPF".into());
    let Reading::Present(log) = &mut world.observation.flows else { panic!("flows") };
    log.icmp_sent.push(IcmpSent {
        netns_inode: 4002,
        kind: 11,
        code: 0,
        protocol: 6,
        source: "10.0.0.1".parse().unwrap(),
        destination: "10.9.0.9:80".parse().unwrap(),
        count: 5,
        last_ns: 1,
    });
    assert_eq!(world.found(), ["ip.ttl_too_low @ netns:client: TTL of packets to 10.9.0.9"]);
}

#[test]
fn a_tcp_traceroute_makes_no_connection_and_is_none() {
    let mut world = routed();
    ends_in_server(&mut world);
    assert_eq!(world.report().verdict, Verdict::Clear, "{:?}", world.found());
}

/// Both die at ip_forward(), and its sender is told of both: only one of them has a TTL that ended.
#[test]
fn a_packet_that_is_too_big_has_not_ended_its_ttl() {
    let mut world = routed();
    waits_in_vain(&mut world);
    ends_in_server(&mut world);
    let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
    log.counts.last_mut().unwrap().reason = "PKT_TOO_BIG".into();
    log.sampled.iter_mut().for_each(|event| event.reason = "PKT_TOO_BIG".into());
    let found = world.found();
    assert!(found.iter().all(|finding| !finding.starts_with("ip.ttl_too_low")), "{found:?}");
}
