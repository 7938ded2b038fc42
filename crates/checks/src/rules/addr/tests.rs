//! Addresses that are missing, changed, or of another size, and such that are nobody's.

use crate::testing::*;
use whydrop_model::snapshot::{Neighbour, Protocol};
use whydrop_model::{Reading, Snapshot};

fn addresses(change: impl Fn(&mut whydrop_model::snapshot::Address)) -> impl Fn(&mut Snapshot) {
    move |s| {
        if let Reading::Present(addresses) = &mut s.addresses {
            addresses.iter_mut().for_each(&change);
        }
    }
}

/// Nobody answers the client's question for the address.
fn asks_in_vain(world: &mut World, ip: &str) {
    world.after(CLIENT, |s| {
        s.neighbours = Reading::Present(vec![neighbour(ip, None, "failed")]);
    });
    world.probe(&format!("tcp://{ip}:80"), 20, 20);
}

#[test]
fn a_bare_interface_is_the_one_that_is_meant() {
    let mut world = World::pair();
    world.both(SERVER, |s| s.addresses = Reading::Present(vec![]));
    asks_in_vain(&mut world, "10.0.0.2");
    assert_eq!(world.found(), ["addr.missing @ netns:server: eth0"]);
    assert_eq!(world.report().ledger.unexplained, 0);
}

#[test]
fn of_two_bare_ones_neither_is_accused() {
    let mut world = World::bridged();
    world.both(SERVER, |s| s.addresses = Reading::Present(vec![]));
    world.both(OTHER, |s| s.addresses = Reading::Present(vec![]));
    asks_in_vain(&mut world, "10.0.0.2");
    assert_eq!(world.found(), ["neigh.unresolved @ netns:client: 10.0.0.2 dev eth0"]);
}

#[test]
fn where_the_segment_leads_out_of_sight_a_bare_interface_is_nobody() {
    let mut world = World::bridged();
    world.both(SERVER, |s| s.addresses = Reading::Present(vec![]));
    world.both(HOST, |s| {
        let Reading::Present(links) = &mut s.links else { return };
        let mut uplink = veth(19, "enp1s0", 0);
        (uplink.kind, uplink.link, uplink.link_netnsid, uplink.link_netns_inode) = (None, None, None, None);
        uplink.master = Some(10);
        links.push(uplink);
    });
    asks_in_vain(&mut world, "10.0.0.2");
    assert_eq!(world.found(), ["neigh.unresolved @ netns:client: 10.0.0.2 dev eth0"]);
}

#[test]
fn an_address_that_programs_are_bound_to_and_the_interface_no_longer_has() {
    let mut world = World::pair();
    world.both(SERVER, addresses(|a| a.ip = "10.0.0.7".parse().unwrap()));
    world.listens(SERVER, Protocol::Tcp, "10.0.0.2:80");
    asks_in_vain(&mut world, "10.0.0.2");
    assert_eq!(world.found(), ["addr.wrong_address @ netns:server: eth0"]);
}

/// The host has forgotten the station, the client has not: what both miss has one reason.
#[test]
fn of_two_who_ask_in_vain_one_knows_whose_the_address_was() {
    let mut world = World::bridged();
    world.both(SERVER, addresses(|a| a.ip = "10.0.0.7".parse().unwrap()));
    let mac = veth(2, "eth0", 4001 + SERVER as u64).mac;
    world.both(CLIENT, |s| {
        let known = Neighbour { mac: mac.clone(), ..neighbour("10.0.0.2", None, "failed") };
        s.neighbours = Reading::Present(vec![known]);
    });
    world.both(OTHER, |s| s.neighbours = Reading::Present(vec![neighbour("10.0.0.2", None, "failed")]));
    for index in [CLIENT, OTHER] {
        let talk = world.talk(index, "10.0.0.2:80");
        (talk.attempts, talk.failed) = (5, 5);
        talk.errors.insert("EHOSTUNREACH".into(), 5);
    }
    assert_eq!(world.found(), ["addr.wrong_address @ netns:server: eth0"]);
}

#[test]
fn an_address_that_nothing_ties_to_the_interface_is_nobody_s() {
    let mut world = World::pair();
    asks_in_vain(&mut world, "10.0.0.9");
    assert_eq!(world.found(), ["neigh.unresolved @ netns:client: 10.0.0.9 dev eth0"]);
}

#[test]
fn a_prefix_that_is_too_long_leaves_the_peer_out() {
    let mut world = World::pair();
    world.both(SERVER, addresses(|a| (a.ip, a.prefix) = ("10.0.0.200".parse().unwrap(), 25)));
    world.both(SERVER, |s| {
        s.routes = Reading::Present(vec![route("10.0.0.128/25", "unicast", None, Some(2))]);
    });
    asks_in_vain(&mut world, "10.0.0.200");
    assert_eq!(world.found(), ["addr.wrong_prefix @ netns:server: 10.0.0.200/25 dev eth0"]);
    assert_eq!(world.report().ledger.unexplained, 0);
}

#[test]
fn a_longer_prefix_with_a_route_to_the_peer_is_right() {
    let mut world = World::pair();
    world.both(SERVER, addresses(|a| (a.ip, a.prefix) = ("10.0.0.200".parse().unwrap(), 25)));
    world.probe("tcp://10.0.0.200:80", 20, 20);
    let found = world.found();
    assert!(found.iter().all(|f| !f.starts_with("addr.")), "{found:?}");
}

#[test]
fn a_prefix_that_is_too_short_asks_for_strangers() {
    let mut world = World::pair();
    world.both(CLIENT, addresses(|a| a.prefix = 16));
    world.both(CLIENT, |s| {
        s.routes = Reading::Present(vec![route("10.0.0.0/16", "unicast", None, Some(2))]);
    });
    world.both(SERVER, |s| {
        let Reading::Present(links) = &mut s.links else { return };
        let mut inner = veth(3, "eth1", 0);
        (inner.kind, inner.link, inner.link_netnsid, inner.link_netns_inode) = (None, None, None, None);
        links.push(inner);
    });
    let mut far = World::bridged().observation.namespaces.remove(OTHER);
    if let (Reading::Present(before), Reading::Present(after)) = (&mut far.before, &mut far.after) {
        for snapshot in [before, after] {
            addresses(|a| a.ip = "10.0.5.5".parse().unwrap())(snapshot);
        }
    }
    world.observation.namespaces.push(far);
    asks_in_vain(&mut world, "10.0.5.5");
    assert_eq!(world.found(), ["addr.wrong_prefix @ netns:client: 10.0.0.1/16 dev eth0"]);
}

#[test]
fn a_duplicate_address_is_out_of_use() {
    let mut world = World::pair();
    let v6 = |link, ip: &str, flags: &[&str]| whydrop_model::snapshot::Address {
        link,
        ip: ip.parse().unwrap(),
        prefix: 64,
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
    };
    for (index, ip, flags) in [(CLIENT, "fd00::1", &[][..]), (SERVER, "fd00::2", &["dadfailed"][..])] {
        world.both(index, |s| {
            let (Reading::Present(addresses), Reading::Present(routes)) = (&mut s.addresses, &mut s.routes)
            else {
                panic!("present")
            };
            addresses.push(v6(2, ip, flags));
            routes.push(route("fd00::/64", "unicast", None, Some(2)));
        });
    }
    world.listens(SERVER, Protocol::Tcp, "[::]:80");
    // Nobody needs it: a note.
    assert_eq!(world.report().notes[0].cause.as_deref(), Some("ipv6.dad_failed"));
    assert_eq!(world.found(), Vec::<String>::new());

    world.after(CLIENT, |s| s.neighbours = Reading::Present(vec![neighbour("fd00::2", None, "failed")]));
    world.probe("tcp://[fd00::2]:80", 20, 20);
    assert_eq!(world.found(), ["ipv6.dad_failed @ netns:server: fd00::2 dev eth0"]);
    assert_eq!(world.report().ledger.unexplained, 0);
}

#[test]
fn a_longer_prefix_that_leaves_the_asker_without_a_route() {
    let narrow = |prefix: u8| {
        let mut world = World::pair();
        world.both(CLIENT, addresses(|a| (a.ip, a.prefix) = ("10.0.0.9".parse().unwrap(), prefix)));
        world.both(CLIENT, |s| {
            let network = format!("10.0.0.8/{prefix}");
            s.routes = Reading::Present(vec![route(&network, "unicast", None, Some(2))]);
        });
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        talk.local = "0.0.0.0:0".parse().unwrap();
        (talk.failed, talk.unsent) = (5, 5);
        talk.errors.insert("ENETUNREACH".into(), 5);
        world
    };
    assert_eq!(narrow(30).found(), ["addr.wrong_prefix @ netns:client: 10.0.0.9/30 dev eth0"]);
    // A host route leads nowhere on purpose.
    assert_eq!(narrow(32).found(), ["route.no_route @ netns:client: route to 10.0.0.2"]);
}
