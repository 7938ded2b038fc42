//! A tunnel whose MTU, or whose path's, is too small for what goes through it.

use crate::rules::events::sample;
use crate::testing::*;
use whydrop_model::snapshot::Link;
use whydrop_model::{DropEvent, Reading, Role};

/// The server's port p1 of the host's bridge becomes a device of this kind with this MTU.
fn bridged(kind: &str, mtu: u32) -> World {
    let mut world = World::bridged();
    world.observation.namespaces[HOST].target.role = Role::Target;
    world.both(HOST, |s| {
        let Reading::Present(links) = &mut s.links else { return };
        for link in links.iter_mut().filter(|link| link.index == 12) {
            *link = Link { kind: Some(kind.into()), mtu, ..link.clone() };
            if kind == "vxlan" {
                (link.link, link.link_netnsid, link.link_netns_inode) = (None, None, None);
                link.details.insert("remote".into(), "10.0.0.3".into());
                link.details.insert("port".into(), "4789".into());
                link.details.insert("vni".into(), "42".into());
            }
        }
    });
    world
}

/// The bridge discards eight datagrams in front of p1.
fn discarded(world: &mut World, function: &str) {
    let event = DropEvent {
        reason: "NOT_SPECIFIED".into(),
        function: function.into(),
        protocol: Some(17),
        link: Some(12),
        length: 1500,
        ..DropEvent::default()
    };
    world.drops(HOST, "NOT_SPECIFIED", function, 8);
    if let Reading::Present(log) = &mut world.observation.drops
        && let Some(count) = log.counts.last_mut()
    {
        (count.link, count.interface, count.protocol) = (Some(12), Some("p1".into()), Some(17));
    }
    sample(world, HOST, event, "10.0.0.1:40000", "10.0.0.2:9000");
    if let Reading::Present(log) = &mut world.observation.drops
        && let Some(event) = log.sampled.last_mut()
    {
        event.link = Some(12);
    }
}

#[test]
fn frames_too_large_for_a_tunnel_behind_a_bridge_are_its_overhead() {
    for function in ["br_dev_queue_push_xmit", "br_nf_dev_queue_xmit"] {
        let mut world = bridged("vxlan", 1450);
        discarded(&mut world, function);
        assert_eq!(world.found(), ["mtu.tunnel_overhead @ netns:host: p1"]);
        assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (8, 0));
    }
}

#[test]
fn the_same_in_front_of_an_ordinary_port_is_a_small_mtu() {
    // The second is too narrow for IPv6, and the third for every host.
    for mtu in [1400, 1200, 500] {
        let mut world = bridged("veth", mtu);
        discarded(&mut world, "br_dev_queue_push_xmit");
        assert_eq!(world.found(), ["mtu.too_small @ netns:host: p1"], "{mtu}");
        assert_eq!(world.report().ledger.unexplained, 0, "{mtu}");
    }
}

/// A tunnel of the server to the client, over a link that takes 1500 bytes.
fn tunnel(mtu: u32) -> World {
    let mut world = World::pair();
    world.both(SERVER, |s| {
        let Reading::Present(links) = &mut s.links else { return };
        let mut tunnel = veth(7, "vx0", 0);
        tunnel.kind = Some("vxlan".into());
        (tunnel.link, tunnel.link_netnsid, tunnel.link_netns_inode, tunnel.mtu) = (None, None, None, mtu);
        tunnel.details.insert("remote".into(), "10.0.0.1".into());
        tunnel.details.insert("port".into(), "4789".into());
        tunnel.details.insert("vni".into(), "42".into());
        links.push(tunnel);
    });
    world
}

/// Outer packets of the tunnel are too big for a hop.
fn too_big(world: &mut World) {
    let event = DropEvent {
        reason: "PKT_TOO_BIG".into(),
        function: "ip_fragment".into(),
        protocol: Some(17),
        length: 1550,
        ..DropEvent::default()
    };
    world.drops(SERVER, "PKT_TOO_BIG", "ip_fragment", 5);
    if let Reading::Present(log) = &mut world.observation.drops
        && let Some(count) = log.counts.last_mut()
    {
        count.protocol = Some(17);
    }
    sample(world, SERVER, event, "10.0.0.2:50000", "10.0.0.1:4789");
}

#[test]
fn outer_packets_that_do_not_fit_name_the_tunnel() {
    let mut world = tunnel(1500);
    too_big(&mut world);
    assert!(world.found().is_empty(), "who is told sends less");
    let carrying = |attempts, established, data_repeats, data_segments| {
        let mut world = tunnel(1500);
        too_big(&mut world);
        world.both(SERVER, |s| {
            let near = route("10.0.0.0/24", "unicast", None, Some(2));
            s.routes = Reading::Present(vec![near, route("10.5.0.0/24", "unicast", None, Some(7))]);
        });
        let talk = world.talk(SERVER, "10.5.0.9:80");
        (talk.attempts, talk.established) = (attempts, established);
        (talk.data_repeats, talk.closed.data_segments) = (data_repeats, data_segments);
        world.found()
    };
    assert_eq!(carrying(3, 3, 25, 30), ["mtu.tunnel_overhead @ netns:server: vx0"]);
    // No handshake succeeds any more, and an older connection repeats its last segment: nothing small gets through either.
    assert!(!carrying(12, 0, 1, 0).iter().any(|found| found.starts_with("mtu.")));
}

#[test]
fn a_tunnel_that_is_too_wide_and_loses_nothing_is_a_note_and_one_that_fits_is_none() {
    let noted = |mtu: u32| {
        let report = tunnel(mtu).report();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        report.notes.iter().any(|note| note.cause.as_deref() == Some("mtu.tunnel_overhead"))
    };
    assert!(noted(1500));
    assert!(!noted(1450));
}
