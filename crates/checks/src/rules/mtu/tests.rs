//! MTUs: on the traffic's way, at two ends, and in between.

use crate::testing::*;
use whydrop_model::probe::{Http, Pmtu};
use whydrop_model::snapshot::Link;
use whydrop_model::{NoteStatus, Reading, Snapshot, Verdict};

fn set(link: impl Fn(&mut Link)) -> impl Fn(&mut Snapshot) {
    move |s| {
        if let Reading::Present(links) = &mut s.links {
            link(links.iter_mut().find(|l| l.index == 2).unwrap());
        }
    }
}

fn mtu(server: u32, client: u32) -> World {
    let mut world = World::pair();
    world.both(SERVER, set(|l| l.mtu = server)).both(CLIENT, set(|l| l.mtu = client));
    world
}

fn http(error: Option<&str>) -> Http {
    Http {
        connect_ms: Some(1.0),
        bytes: 4000,
        mss: Some((48, 48)),
        error: error.map(Into::into),
        ..Http::default()
    }
}

/// Frames of the client that the server discards.
fn too_big(world: &mut World, n: u64) {
    let count = |field: &'static str, n: u64| set(move |l| l.stats.extend([(field.to_owned(), n)]));
    world.both(SERVER, count("rx_dropped", 0)).both(CLIENT, count("tx_dropped", 0));
    world.after(SERVER, count("rx_dropped", n)).after(CLIENT, count("tx_dropped", n));
}

#[test]
fn an_mtu_of_100_is_latent_until_an_answer_has_to_pass() {
    let mut world = mtu(100, 1500);
    world.probe("tcp://10.0.0.2:80", 20, 0);
    let report = world.report();
    assert_eq!(report.verdict, Verdict::Clear);
    assert_eq!(report.notes[0].status, NoteStatus::Latent);

    world.probe("http://10.0.0.2:80/", 1, 0).http = Some(http(None));
    assert_eq!(world.found(), ["mtu.too_small @ netns:server: eth0"]);
    let fix = world.report().findings[0].fixes[0].steps[0].action.argv().join(" ");
    assert_eq!(fix, "ip link set dev eth0 mtu 1500");
}

#[test]
fn two_small_ends_are_one_finding() {
    let mut world = mtu(100, 100);
    world.probe("http://10.0.0.2:80/", 1, 1).http = Some(http(Some("timeout")));
    assert_eq!(world.found(), ["mtu.too_small @ netns:server: eth0"]);
    assert_eq!(world.report().findings[0].fixes[0].steps.len(), 2);
}

#[test]
fn ends_that_disagree() {
    let mut world = mtu(1000, 1500);
    world.probe("tcp://10.0.0.2:80", 20, 0);
    assert_eq!(world.report().verdict, Verdict::Clear);
    too_big(&mut world, 7);
    world.drops(SERVER, "NOT_SPECIFIED", "__dev_forward_skb2", 7);
    assert_eq!(world.found(), ["mtu.peer_mismatch @ netns:server: eth0"]);
    assert_eq!(world.report().ledger.lost, 7);

    // The smaller end is where probes start: the loss is the target's all the same, and the fix is there.
    let mut world = mtu(1500, 1000);
    let count = |field: &'static str, n: u64| set(move |l| l.stats.extend([(field.to_owned(), n)]));
    world.both(CLIENT, count("rx_dropped", 0)).both(SERVER, count("tx_dropped", 0));
    world.after(CLIENT, count("rx_dropped", 7)).after(SERVER, count("tx_dropped", 7));
    assert_eq!(world.found(), ["mtu.peer_mismatch @ netns:server: eth0"]);
    assert_eq!(world.report().findings[0].fixes[0].steps[0].target, "netns:client");
}

#[test]
fn dropped_frames_between_equal_ends_are_not_the_mtu() {
    let mut world = mtu(1500, 1500);
    too_big(&mut world, 7);
    assert_eq!(world.found(), Vec::<String>::new());
    world.drops(SERVER, "UNHANDLED_PROTO", "__netif_receive_skb_core", 7);
    assert_eq!(world.report().verdict, Verdict::Clear);
}

#[test]
fn a_path_that_swallows_big_packets() {
    let mut world = World::pair();
    world.both(CLIENT, |s| {
        s.routes = Reading::Present(vec![route("0.0.0.0/0", "unicast", Some("10.0.0.254"), Some(2))]);
    });
    let probe = world.probe("pmtu://10.9.0.9", 10, 4);
    probe.method = "pmtu".into();
    probe.pmtu =
        Some(Pmtu { largest_ok: Some(1400), smallest_lost: Some(1401), icmp: None, black_hole: true });
    assert_eq!(world.found(), ["mtu.pmtu_blackhole @ netns:client: path to 10.9.0.9"]);
}

#[test]
fn frames_too_large_from_an_end_out_of_sight_and_frames_that_nobody_takes() {
    let mut world = mtu(1000, 1500);
    world.both(SERVER, set(|l| l.link_netns_inode = None));
    world.both(CLIENT, set(|l| l.link_netns_inode = Some(1)));
    too_big(&mut world, 7);
    world.observation.namespaces.remove(CLIENT);
    let found = world.found();
    assert_eq!(found, ["mtu.peer_mismatch @ netns:server: eth0"]);
    let events = &mut world.observation.drops;
    if let Reading::Present(log) = events {
        log.counts.push(whydrop_model::DropCount {
            reason: "UNHANDLED_PROTO".into(),
            function: "__netif_receive_skb_core".into(),
            netns_inode: Some(4002),
            link: Some(2),
            drops: 7,
            ..Default::default()
        });
    }
    assert_eq!(world.report().verdict, Verdict::Clear);
}
