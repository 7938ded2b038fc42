//! Links that are down, where it matters and where it does not.

use crate::testing::*;
use whydrop_model::snapshot::Link;
use whydrop_model::{DropEvent, Reading, Role, Snapshot, Verdict};

fn set(link: impl Fn(&mut Link)) -> impl Fn(&mut Snapshot) {
    move |s| {
        if let Reading::Present(links) = &mut s.links {
            link(links.iter_mut().find(|l| l.index == 2).unwrap());
        }
    }
}

#[test]
fn a_server_that_is_down_is_found_and_the_lost_carrier_is_folded() {
    let mut world = World::pair();
    world.both(SERVER, set(|l| (l.up, l.lower_up) = (false, false)));
    world.both(SERVER, |s| s.routes = Reading::Present(vec![]));
    world.both(CLIENT, set(|l| l.lower_up = false));
    world.probe("tcp://10.0.0.2:80", 20, 20);
    assert_eq!(world.found(), ["link.admin_down @ netns:server: eth0"]);
    let report = world.report();
    assert_eq!((report.ledger.lost, report.ledger.unexplained), (20, 0));
    assert_eq!(report.findings[0].fixes[0].steps[0].action.argv().join(" "), "ip link set dev eth0 up");
}

#[test]
fn a_namespace_cut_off_is_found_without_probes_and_a_spare_link_is_not() {
    let mut world = World::pair();
    world.both(SERVER, set(|l| (l.up, l.lower_up) = (false, false)));
    assert_eq!(world.found(), ["link.admin_down @ netns:server: eth0"]);

    let mut world = World::pair();
    world.both(SERVER, |s| {
        if let Reading::Present(links) = &mut s.links {
            links.push(Link { up: false, lower_up: false, ..veth(3, "spare", 0) });
        }
    });
    assert_eq!(world.report().verdict, Verdict::Clear);
}

/// The only packet that meets the dead link is one of the kernel's own, which nobody misses.
#[test]
fn a_namespace_cut_off_is_no_less_so_because_only_chatter_met_it() {
    let mut world = World::pair();
    world.both(SERVER, set(|l| (l.lower_up, l.link_netns_inode) = (false, Some(1))));
    world.drops(SERVER, "NOT_SPECIFIED", "__dev_queue_xmit", 1);
    let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
    log.sampled.push(DropEvent {
        reason: "NOT_SPECIFIED".into(),
        function: "__dev_queue_xmit".into(),
        netns_inode: Some(4002),
        link: Some(2),
        protocol: Some(58),
        source: "[fe80::2]:0".parse().ok(),
        destination: "[ff02::2]:0".parse().ok(),
        ..DropEvent::default()
    });
    assert_eq!(world.found(), ["link.no_carrier @ netns:server: eth0"]);
}

#[test]
fn a_client_that_is_down_has_no_route_and_that_is_a_consequence() {
    let mut world = World::pair();
    world.both(CLIENT, set(|l| (l.up, l.lower_up) = (false, false)));
    world.both(CLIENT, |s| s.routes = Reading::Present(vec![]));
    world.both(SERVER, set(|l| l.lower_up = false));
    let probe = world.probe("tcp://10.0.0.2:80", 0, 0);
    probe.not_sent = 20;
    probe.send_errors.insert("ENETUNREACH".into(), 20);
    assert_eq!(world.found(), ["link.admin_down @ netns:client: eth0"]);
}

#[test]
fn no_carrier_stands_alone_where_the_other_end_is_out_of_sight() {
    let mut world = World::pair();
    world.both(SERVER, set(|l| (l.lower_up, l.link_netns_inode) = (false, Some(1))));
    assert_eq!(world.found(), ["link.no_carrier @ netns:server: eth0"]);
}

#[test]
fn damaged_frames_are_counted_once() {
    let mut world = World::pair();
    let count = |n: u64| {
        set(move |l| {
            l.stats.insert("rx_errors".into(), n);
            l.stats.insert("rx_crc_errors".into(), n);
        })
    };
    world.both(SERVER, count(3)).after(SERVER, count(9));
    assert_eq!(world.found(), ["link.errors @ netns:server: eth0"]);
    assert_eq!(world.report().ledger.lost, 6);
}

/// Client, router ("host") and server in two networks; a probe from the client to the server is lost.
fn routed() -> World {
    let mut world = World::bridged();
    world.observation.namespaces.remove(OTHER);
    let via = |gateway: &str| vec![route("0.0.0.0/0", "unicast", Some(gateway), Some(2))];
    world.both(CLIENT, |s| s.routes = Reading::Present(via("10.0.0.254")));
    world.both(SERVER, |s| s.routes = Reading::Present(via("10.0.1.254")));
    let address = |link: u32, ip: &str| whydrop_model::snapshot::Address {
        link,
        ip: ip.parse().unwrap(),
        prefix: 24,
        flags: vec![],
    };
    world.both(SERVER, |s| s.addresses = Reading::Present(vec![address(2, "10.0.1.2")]));
    world.both(ROUTER, |s| {
        s.addresses = Reading::Present(vec![address(11, "10.0.0.254"), address(12, "10.0.1.254")]);
        let near = route("10.0.0.0/24", "unicast", None, Some(11));
        s.routes = Reading::Present(vec![near, route("10.0.1.0/24", "unicast", None, Some(12))]);
        let Reading::Present(links) = &mut s.links else { return };
        links.retain(|link| link.loopback || matches!(link.index, 11 | 12));
        links.iter_mut().for_each(|link| link.master = None);
    });
    world.probe("tcp://10.0.1.2:80", 20, 20);
    world
}

/// Index of the router, where the third host is left out.
const ROUTER: usize = 2;

/// Switches one end of the link between router and server off, and takes what goes with it.
fn switch_off(world: &mut World, index: usize, device: u32) {
    let off = |up: bool, device: u32| {
        move |s: &mut Snapshot| {
            let Reading::Present(links) = &mut s.links else { return };
            for link in links.iter_mut().filter(|link| link.index == device) {
                (link.up, link.lower_up) = (up, false);
            }
        }
    };
    world.both(index, off(false, device));
    world.both(index, |s| {
        let Reading::Present(routes) = &mut s.routes else { return };
        routes.retain(|route| route.next_hops.iter().all(|hop| hop.link != Some(device)));
    });
    let (other, its) = if index == ROUTER { (SERVER, 2) } else { (ROUTER, 12) };
    world.both(other, off(true, its));
}

#[test]
fn the_end_that_was_switched_off_is_named_and_not_its_peer_whoever_is_asked_about() {
    for asked in [vec![ROUTER, SERVER], vec![SERVER], vec![ROUTER]] {
        let ask = |world: &mut World| {
            for (index, namespace) in world.observation.namespaces.iter_mut().enumerate() {
                let role = if asked.contains(&index) { Role::Target } else { Role::Vantage };
                namespace.target.role = role;
            }
        };
        let mut world = routed();
        switch_off(&mut world, ROUTER, 12);
        ask(&mut world);
        assert_eq!(world.found(), ["link.admin_down @ netns:host: p1"], "{asked:?}");
        let mut world = routed();
        switch_off(&mut world, SERVER, 2);
        ask(&mut world);
        assert_eq!(world.found(), ["link.admin_down @ netns:server: eth0"], "{asked:?}");
    }
}
