//! Tunnels whose ends do not find each other, and such that do.

use crate::testing::*;
use whydrop_model::snapshot::{Address, FdbEntry, Link, Neighbour};
use whydrop_model::{Bounded, DropEvent, Reading, Snapshot, Verdict};

/// vx0 in a namespace, 10.8.0.x on it.
fn vxlan(world: &mut World, index: usize, own: &str, remote: &str, port: u16) {
    world.both(index, |s: &mut Snapshot| {
        let Reading::Present(links) = &mut s.links else { return };
        let mut device = Link { kind: Some("vxlan".into()), ..veth(9, "vx0", 0) };
        (device.link, device.link_netnsid, device.link_netns_inode) = (None, None, None);
        let settings = [("vni", "42".to_owned()), ("remote", remote.to_owned()), ("port", port.to_string())];
        device.details.extend(settings.map(|(key, value)| (key.to_owned(), value)));
        links.push(device);
        let Reading::Present(addresses) = &mut s.addresses else { return };
        addresses.push(Address { link: 9, ip: own.parse().unwrap(), prefix: 24, flags: vec![] });
        let Reading::Present(routes) = &mut s.routes else { return };
        routes.push(route("10.8.0.0/24", "unicast", None, Some(9)));
    });
}

/// The client asks for the server through the tunnel, and nobody answers its ARP.
fn asks_in_vain(world: &mut World) {
    world.after(CLIENT, |s| {
        s.neighbours = Reading::Present(vec![Neighbour { link: 9, ..neighbour("10.8.0.2", None, "failed") }]);
    });
    world.probe("tcp://10.8.0.2:80", 20, 20);
}

fn world(remote: &str, ports: [u16; 2]) -> World {
    let mut world = World::pair();
    vxlan(&mut world, CLIENT, "10.8.0.1", remote, ports[0]);
    vxlan(&mut world, SERVER, "10.8.0.2", "10.0.0.1", ports[1]);
    world
}

#[test]
fn two_ports_are_named_with_both_ends_and_the_neighbour_is_a_consequence() {
    let mut world = world("10.0.0.2", [4789, 8472]);
    asks_in_vain(&mut world);
    assert_eq!(world.found(), ["tunnel.port_mismatch @ netns:server: vx0"]);
    let report = world.report();
    let summary = &report.findings[0].summary.en;
    assert!(summary.contains("4789") && summary.contains("8472") && summary.contains("client"), "{summary}");
    assert_eq!(report.ledger.unexplained, 0);
}

#[test]
fn a_remote_where_the_other_end_is_not() {
    let mut world = world("10.0.0.9", [4789, 4789]);
    asks_in_vain(&mut world);
    assert_eq!(world.found(), ["tunnel.wrong_remote @ netns:client: vx0"]);
    assert!(world.report().findings[0].fixes[0].title.en.contains("remote 10.0.0.2"));
}

#[test]
fn an_end_that_sends_from_an_address_that_is_not_its_own() {
    let from = |local: &str| {
        let mut world = world("10.0.0.2", [4789, 4789]);
        world.both(CLIENT, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            let device = links.iter_mut().find(|link| link.name == "vx0").unwrap();
            device.details.insert("local".into(), local.into());
        });
        asks_in_vain(&mut world);
        world.found()
    };
    assert_eq!(from("10.0.0.77"), ["tunnel.wrong_remote @ netns:client: vx0"]);
    assert_eq!(from("10.0.0.1"), ["neigh.unresolved @ netns:client: 10.8.0.2 dev vx0"]);
}

#[test]
fn an_end_on_a_device_that_does_not_lead_there() {
    let below = |device: u32| {
        let mut world = world("10.0.0.2", [4789, 4789]);
        world.both(CLIENT, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            links.push(veth(5, "eth1", 9999));
            let vx0 = links.iter_mut().find(|link| link.name == "vx0").unwrap();
            vx0.details.insert("lower".into(), device.to_string());
        });
        asks_in_vain(&mut world);
        world.found()
    };
    assert_eq!(below(5), ["tunnel.wrong_remote @ netns:client: vx0"]);
    assert_eq!(below(2), ["neigh.unresolved @ netns:client: 10.8.0.2 dev vx0"]);
}

#[test]
fn ends_that_joined_two_groups() {
    let groups = |there: &str| {
        let mut world = World::pair();
        vxlan(&mut world, CLIENT, "10.8.0.1", "239.1.1.1", 4789);
        vxlan(&mut world, SERVER, "10.8.0.2", there, 4789);
        asks_in_vain(&mut world);
        world.found()
    };
    assert_eq!(groups("239.1.1.2"), ["tunnel.wrong_remote @ netns:server: vx0"]);
    assert_eq!(groups("239.1.1.1"), ["neigh.unresolved @ netns:client: 10.8.0.2 dev vx0"]);
}

#[test]
fn an_end_without_a_bridge_while_the_other_is_a_port_of_one() {
    let bridged = |ends: &[usize]| {
        let mut world = world("10.0.0.2", [4789, 4789]);
        // The stations are the bridges themselves.
        for index in [CLIENT, SERVER] {
            let is_port = ends.contains(&index);
            world.both(index, |s| {
                let Reading::Present(links) = &mut s.links else { return };
                let mut bridge = links.iter().find(|link| link.name == "vx0").unwrap().clone();
                (bridge.index, bridge.name, bridge.kind) = (20, "br0".into(), Some("bridge".into()));
                bridge.details.clear();
                if is_port {
                    links.iter_mut().filter(|link| link.name == "vx0").for_each(|l| l.master = Some(20));
                }
                links.push(bridge);
                let Reading::Present(addresses) = &mut s.addresses else { return };
                addresses.iter_mut().filter(|a| a.link == 9).for_each(|a| a.link = 20);
                let Reading::Present(routes) = &mut s.routes else { return };
                routes.pop();
                routes.push(route("10.8.0.0/24", "unicast", None, Some(20)));
            });
        }
        world.after(CLIENT, |s| {
            let silent = Neighbour { link: 20, ..neighbour("10.8.0.2", None, "failed") };
            s.neighbours = Reading::Present(vec![silent]);
        });
        world.probe("tcp://10.8.0.2:80", 20, 20);
        world.found()
    };
    assert_eq!(bridged(&[CLIENT]), ["link.detached @ netns:server: vx0"]);
    assert_eq!(bridged(&[SERVER]), ["link.detached @ netns:client: vx0"]);
    assert_eq!(bridged(&[CLIENT, SERVER]), ["neigh.unresolved @ netns:client: 10.8.0.2 dev br0"]);
}

#[test]
fn ends_that_find_each_other_are_not_accused_for_what_ails_their_flow() {
    let mut world = world("10.0.0.2", [4789, 4789]);
    asks_in_vain(&mut world);
    assert_eq!(world.found(), ["neigh.unresolved @ netns:client: 10.8.0.2 dev vx0"]);
}

#[test]
fn a_mismatch_that_nobody_meets_is_no_loss() {
    assert_eq!(world("10.0.0.2", [4789, 8472]).report().verdict, Verdict::Clear);
}

#[test]
fn a_hub_with_a_second_spoke_out_of_sight_sends_to_both_rightly() {
    let mut world = world("10.0.0.2", [4789, 4789]);
    world.both(CLIENT, |s| {
        let Reading::Present(links) = &mut s.links else { return };
        let mut second = links.iter().find(|link| link.name == "vx0").unwrap().clone();
        (second.index, second.name) = (10, "vx1".into());
        second.details.insert("remote".into(), "192.0.2.7".into());
        links.push(second);
        let Reading::Present(routes) = &mut s.routes else { return };
        routes.push(route("10.9.0.0/24", "unicast", None, Some(10)));
        routes.push(route("0.0.0.0/0", "unicast", Some("10.0.0.254"), Some(2)));
    });
    world.probe("tcp://10.9.0.9:80", 20, 20);
    assert_eq!(world.found(), ["path.remote_loss @ netns:client: path to 10.9.0.9"]);
}

/// An end of a network of three: 10.8.0.x on vx0, which floods to these hosts of 10.0.0.0/24.
struct Node {
    id: &'static str,
    port: u16,
    floods: &'static [u8],
}

/// Three ends on one switch. The client asks for the server through the tunnel, and nobody answers.
fn mesh(nodes: [Node; 3]) -> World {
    let mut world = World::bridged();
    for ((host, index), node) in (1u8..).zip([CLIENT, SERVER, OTHER]).zip(nodes) {
        vxlan(&mut world, index, &format!("10.8.0.{host}"), "", node.port);
        let entry = |to: &u8| FdbEntry {
            master: None,
            remote: Some([10, 0, 0, *to].into()),
            state: "permanent".into(),
            ..fdb_entry(9, "00:00:00:00:00:00")
        };
        world.both(index, |s| {
            s.fdb = Reading::Present(Bounded { items: node.floods.iter().map(entry).collect(), more: false });
            let Reading::Present(links) = &mut s.links else { return };
            for device in links.iter_mut().filter(|link| link.name == "vx0") {
                device.details.remove("remote");
                device.details.insert("vni".into(), node.id.into());
                device.details.insert("local".into(), format!("10.0.0.{host}"));
            }
        });
    }
    asks_in_vain(&mut world);
    world
}

const fn node(id: &'static str, port: u16, floods: &'static [u8]) -> Node {
    Node { id, port, floods }
}

const FIRST: Node = node("42", 4789, &[2, 3]);
const SECOND: Node = node("42", 4789, &[1, 3]);
const THIRD: Node = node("42", 4789, &[1, 2]);

#[test]
fn of_three_ends_the_odd_one_is_told_once() {
    let ids = mesh([FIRST, node("43", 4789, &[1, 3]), THIRD]);
    assert_eq!(ids.found(), ["tunnel.vni_mismatch @ netns:server: vx0"]);
    let ports = mesh([FIRST, node("42", 8472, &[1, 3]), THIRD]);
    assert_eq!(ports.found(), ["tunnel.port_mismatch @ netns:server: vx0"]);
    // A third that does not belong to them has nothing to do with it.
    let third = mesh([FIRST, SECOND, node("43", 4789, &[1, 2])]);
    assert_eq!(third.found(), ["neigh.unresolved @ netns:client: 10.8.0.2 dev vx0"]);
}

#[test]
fn an_end_that_is_missing_in_the_list() {
    let missing = mesh([node("42", 4789, &[3]), SECOND, THIRD]);
    assert_eq!(missing.found(), ["tunnel.wrong_remote @ netns:client: vx0"]);
    let report = missing.report();
    assert!(report.findings[0].fixes[0].title.en.contains("dst 10.0.0.2"), "{:?}", report.findings[0].fixes);
    // Somebody else is in its place.
    let wrong = mesh([node("42", 4789, &[3, 9]), SECOND, THIRD]);
    assert!(wrong.report().findings[0].summary.en.contains("10.0.0.9"));
    // The client is not in the list of the server, which cannot answer.
    let back = mesh([FIRST, node("42", 4789, &[3]), THIRD]);
    assert_eq!(back.found(), ["tunnel.wrong_remote @ netns:server: vx0"]);
    assert_eq!(mesh([FIRST, SECOND, THIRD]).found(), ["neigh.unresolved @ netns:client: 10.8.0.2 dev vx0"]);
}

#[test]
fn packets_of_a_tunnel_whose_ttl_ends_on_the_way() {
    let mut world = world("10.0.0.2", [4789, 4789]);
    asks_in_vain(&mut world);
    world.drops(SERVER, "IP_INHDR", "ip_forward", 5);
    let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
    log.counts.last_mut().unwrap().protocol = Some(17);
    let event = DropEvent {
        reason: "IP_INHDR".into(),
        function: "ip_forward".into(),
        netns_inode: Some(4002),
        link: Some(2),
        protocol: Some(17),
        source: "10.0.0.1:50000".parse().ok(),
        destination: "10.0.0.2:4789".parse().ok(),
        ..DropEvent::default()
    };
    log.sampled.extend(std::iter::repeat_n(event, 5));
    assert_eq!(world.found(), ["ip.ttl_too_low @ netns:client: TTL of vx0"]);
}
