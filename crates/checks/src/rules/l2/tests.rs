//! Two stations that are taken for each other, and such that share on purpose.

use crate::testing::*;
use whydrop_model::{Reading, Snapshot, Verdict};

/// The third host has the server's address, and nobody listens there.
fn same_ip() -> World {
    let mut world = World::bridged();
    world.both(OTHER, |s: &mut Snapshot| {
        s.sockets = Reading::Present(vec![]);
        let Reading::Present(addresses) = &mut s.addresses else { return };
        addresses.iter_mut().for_each(|a| a.ip = "10.0.0.2".parse().unwrap());
    });
    world
}

#[test]
fn one_address_at_two_stations() {
    let mut world = same_ip();
    world.probe("tcp://10.0.0.2:80", 20, 9);
    assert_eq!(world.found(), ["l2.duplicate_ip @ netns:server: 10.0.0.2"]);
}

#[test]
fn a_shared_address_that_one_keeps_silent_about_is_meant_so() {
    let mut world = same_ip();
    world.both(OTHER, |s| {
        let silent = Reading::Present("8".to_owned());
        s.sysctls.insert("net.ipv4.conf.eth0.arp_ignore".into(), silent);
    });
    world.probe("tcp://10.0.0.2:80", 20, 9);
    assert_eq!(world.found(), Vec::<String>::new());

    // As behind a load balancer that leaves the addresses of packets alone.
    let mut world = same_ip();
    world.both(OTHER, |s| {
        let Reading::Present(addresses) = &mut s.addresses else { return };
        addresses.iter_mut().for_each(|a| a.link = 1);
    });
    world.probe("tcp://10.0.0.2:80", 20, 9);
    assert_eq!(world.found(), Vec::<String>::new());
}

#[test]
fn without_anybody_who_suffers_it_is_no_loss() {
    assert_eq!(same_ip().report().verdict, Verdict::Clear);
}

fn set_mac(world: &mut World, kind: &str) {
    let server = veth(2, "eth0", 4002).mac;
    world.both(OTHER, |s| {
        let Reading::Present(links) = &mut s.links else { return };
        for link in links.iter_mut().filter(|link| link.index == 2) {
            (link.mac, link.kind) = (server.clone(), Some(kind.into()));
        }
    });
}

#[test]
fn one_link_layer_address_at_two_stations() {
    let mut world = World::bridged();
    set_mac(&mut world, "veth");
    world.probe("tcp://10.0.0.2:80", 20, 9);
    assert_eq!(world.found(), ["l2.duplicate_mac @ netns:server: 02:00:00:00:a2:02"]);
}

#[test]
fn a_device_that_borrows_its_address_is_none() {
    let mut world = World::bridged();
    set_mac(&mut world, "ipvlan");
    world.probe("tcp://10.0.0.2:80", 20, 9);
    assert_eq!(world.found(), Vec::<String>::new());
}

#[test]
fn tenants_of_a_bridge_that_filters_by_vlan_may_use_one_address() {
    let mut world = same_ip();
    world.both(HOST, |s| {
        let Reading::Present(links) = &mut s.links else { return };
        links.iter_mut().for_each(|link| {
            link.details.insert("vlan_filtering".into(), "on".into());
        });
    });
    world.probe("tcp://10.0.0.2:80", 20, 9);
    assert_eq!(world.found(), Vec::<String>::new());
}

#[test]
fn an_address_of_the_server_that_its_client_has_on_lo() {
    let shared = |arp_ignore: &str| {
        let mut world = World::pair();
        world.both(CLIENT, |s| {
            let Reading::Present(addresses) = &mut s.addresses else { return };
            addresses.push(whydrop_model::snapshot::Address {
                link: 1,
                ip: "10.0.0.2".parse().unwrap(),
                prefix: 32,
                flags: vec![],
            });
            s.sockets = Reading::Present(vec![]);
            s.sysctls.insert("net.ipv4.conf.all.arp_ignore".into(), Reading::Present(arp_ignore.into()));
        });
        world.refuses(CLIENT, CLIENT, "10.0.0.2:80", 5);
        world.found()
    };
    assert_eq!(shared("0"), ["l2.duplicate_ip @ netns:client: 10.0.0.2"]);
    // The real server of a balancer.
    assert_eq!(shared("1"), ["app.not_listening @ netns:client: tcp port 80"]);
}
