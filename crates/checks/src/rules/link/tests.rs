//! Links that are down, where it matters and where it does not.

use crate::testing::*;
use whydrop_model::snapshot::Link;
use whydrop_model::{Reading, Snapshot, Verdict};

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
