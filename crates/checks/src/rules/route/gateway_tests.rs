//! Gateways that are none, next hops of which one is dead, and networks that overlap.

use crate::testing::*;
use whydrop_model::snapshot::{Address, NextHop, Route};
use whydrop_model::{Reading, Snapshot};

/// The client asks 10.9.9.9, which the server has on a second interface and the client reaches through a gateway.
fn behind(gateway: &str) -> World {
    let mut world = World::bridged();
    let through = route("10.9.9.0/24", "unicast", Some(gateway), Some(2));
    world.both(CLIENT, |s| push(&mut s.routes, through.clone()));
    world.both(SERVER, |s| {
        push(&mut s.links, veth(3, "eth1", 9999));
        push(&mut s.addresses, address(3, "10.9.9.9"));
        push(&mut s.routes, route("10.9.9.0/24", "unicast", None, Some(3)));
        forwarding(s, true);
    });
    world.both(OTHER, |s| forwarding(s, false));
    world.both(HOST, |s| forwarding(s, false));
    world.probe("tcp://10.9.9.9:80", 20, 20);
    world
}

fn push<T>(list: &mut Reading<Vec<T>>, item: T) {
    let Reading::Present(list) = list else { panic!("present") };
    list.push(item);
}

fn address(link: u32, ip: &str) -> Address {
    Address { link, ip: ip.parse().unwrap(), prefix: 24, flags: vec![] }
}

fn forwarding(snapshot: &mut Snapshot, on: bool) {
    let value = if on { "1" } else { "0" };
    snapshot.sysctls.insert("net.ipv4.ip_forward".into(), Reading::Present(value.into()));
}

fn silent(world: &mut World, ip: &str) {
    let entry = neighbour(ip, None, "failed");
    world.after(CLIENT, |s| push(&mut s.neighbours, entry.clone()));
}

#[test]
fn a_gateway_that_nobody_is() {
    let mut world = behind("10.0.0.77");
    silent(&mut world, "10.0.0.77");
    assert_eq!(world.found(), ["route.wrong_gateway @ netns:client: gateway 10.0.0.77 dev eth0"]);
    let fixes = world.report().findings[0].fixes[0].clone();
    let commands: Vec<String> = fixes.steps.iter().map(|step| step.action.argv().join(" ")).collect();
    assert_eq!(
        commands,
        ["ip route del 10.9.9.0/24 via 10.0.0.77 dev eth0", "ip route add 10.9.9.0/24 via 10.0.0.2 dev eth0"]
    );
}

#[test]
fn a_gateway_that_may_be_out_of_sight_is_an_unresolved_neighbour() {
    let mut world = behind("10.0.0.77");
    silent(&mut world, "10.0.0.77");
    world.both(HOST, |s| {
        let mut uplink = veth(19, "enp1s0", 0);
        (uplink.kind, uplink.link, uplink.link_netnsid, uplink.link_netns_inode) = (None, None, None, None);
        uplink.master = Some(10);
        push(&mut s.links, uplink);
    });
    assert_eq!(world.found(), ["neigh.unresolved @ netns:client: 10.0.0.77 dev eth0"]);
}

#[test]
fn a_host_that_does_not_forward_is_no_gateway_and_one_that_should_is() {
    let world = behind("10.0.0.3");
    assert_eq!(world.found(), ["route.wrong_gateway @ netns:client: gateway 10.0.0.3 dev eth0"]);

    let mut world = behind("10.0.0.2");
    world.both(SERVER, |s| {
        let Reading::Present(addresses) = &mut s.addresses else { panic!("addresses") };
        addresses.retain(|a| a.link != 3);
    });
    world.both(SERVER, |s| forwarding(s, false));
    let found = world.found();
    assert!(found.iter().all(|f| !f.starts_with("route.wrong_gateway")), "{found:?}");
}

/// Two gateways, of which the second does not answer.
fn two_hops() -> World {
    let mut world = behind("10.0.0.2");
    let hop = |ip: &str| NextHop { gateway: ip.parse().ok(), link: Some(2), weight: 1, flags: vec![] };
    world.both(CLIENT, |s| {
        let Reading::Present(routes) = &mut s.routes else { panic!("routes") };
        routes.retain(|route| route.prefix != 24 || route.next_hops[0].gateway.is_none());
        let both = vec![hop("10.0.0.2"), hop("10.0.0.77")];
        routes.push(Route { next_hops: both, ..route("10.9.9.0/24", "unicast", None, None) });
    });
    world
}

#[test]
fn of_two_next_hops_one_is_dead() {
    let mut world = two_hops();
    silent(&mut world, "10.0.0.77");
    assert_eq!(world.found(), ["route.multipath_dead_nexthop @ netns:client: nexthop 10.0.0.77 dev eth0"]);
}

#[test]
fn two_next_hops_that_live_are_not_to_blame() {
    let found = two_hops().found();
    assert!(found.iter().all(|f| !f.starts_with("route.multipath")), "{found:?}");
}

#[test]
fn a_next_hop_that_knows_the_way_and_does_not_forward_is_at_fault_itself() {
    let mut world = two_hops();
    world.rises(OTHER, "Ip.InAddrErrors", 5).drops(OTHER, "IP_INADDRERRORS", "ip_error", 5);
    world.both(OTHER, |s| {
        push(&mut s.addresses, address(2, "10.0.0.77"));
        push(&mut s.links, veth(3, "eth1", 9998));
        push(&mut s.routes, route("10.9.9.0/24", "unicast", None, Some(3)));
    });
    let found = world.found();
    assert_eq!(found, ["route.forwarding_off @ netns:other: net.ipv4.ip_forward"]);
}

#[test]
fn a_network_that_covers_another_hides_its_hosts() {
    let overlapping = |world: &mut World| {
        world.both(CLIENT, |s| {
            push(&mut s.links, veth(3, "eth1", 9998));
            push(&mut s.addresses, address(3, "10.9.9.1"));
            push(&mut s.routes, route("10.9.9.0/25", "unicast", None, Some(3)));
        });
    };
    let mut world = behind("10.0.0.2");
    overlapping(&mut world);
    assert_eq!(world.found(), ["route.overlap @ netns:client: 10.9.9.0/25 dev eth1"]);
    let fix = world.report().findings[0].fixes[0].steps[0].action.argv().join(" ");
    assert_eq!(fix, "ip route add 10.9.9.9/32 via 10.0.0.2 dev eth0");

    // Nobody suffers: nothing is said.
    world.observation.probes.clear();
    assert_eq!(world.found(), Vec::<String>::new());
}
