//! Filters that drop.

use crate::testing::*;
use whydrop_model::snapshot::{Link, QdiscOptions, QueueStats, TcAction, TcFilter};
use whydrop_model::{Reading, Snapshot};

fn filter(kind: &str, action: Option<(&str, &str, u32)>) -> TcFilter {
    let actions = action.map(|(kind, verdict, drops)| TcAction {
        kind: kind.into(),
        verdict: Some(verdict.into()),
        stats: Some(QueueStats { drops, packets: drops.into(), ..QueueStats::default() }),
        target: (kind == "mirred").then_some(9),
    });
    TcFilter {
        link: 2,
        parent: 0xffff_fff2,
        kind: kind.into(),
        preference: 49152,
        protocol: Some(3),
        handle: 1,
        program: (kind == "bpf").then(|| "drop.o:[tc]".into()),
        actions: actions.into_iter().collect(),
    }
}

fn world(drops: u32, before: TcFilter, after: TcFilter) -> World {
    let state = |drops: u32, filter: TcFilter| {
        move |s: &mut Snapshot| {
            let mut clsact = qdisc("clsact", drops, QdiscOptions::Other);
            clsact.parent = 0xffff_fff1;
            s.qdiscs = Reading::Present(vec![clsact]);
            s.filters = Reading::Present(vec![filter.clone()]);
        }
    };
    let mut world = World::pair();
    world.both(SERVER, state(0, before)).after(SERVER, state(drops, after));
    world
}

#[test]
fn actions_count_for_themselves_and_programs_for_the_rest() {
    let gact = world(
        5,
        filter("matchall", Some(("gact", "drop", 0))),
        filter("matchall", Some(("gact", "drop", 5))),
    );
    assert_eq!(gact.found(), ["tc.action_drop @ netns:server: eth0 ingress, filter pref 49152"]);
    let police =
        world(5, filter("u32", Some(("police", "drop", 0))), filter("u32", Some(("police", "drop", 5))));
    assert_eq!(police.found(), ["tc.police @ netns:server: eth0 ingress, filter pref 49152"]);
    let bpf = world(5, filter("bpf", None), filter("bpf", None));
    assert_eq!(bpf.found(), ["tc.bpf_drop @ netns:server: eth0 ingress, filter pref 49152"]);
    assert_eq!(bpf.report().ledger.lost, 5);
}

#[test]
fn a_program_that_drops_nothing_is_no_finding() {
    assert!(world(0, filter("bpf", None), filter("bpf", None)).found().is_empty());
}

#[test]
fn what_is_redirected_is_missed_and_an_ifb_brings_it_back() {
    let redirect = |n| filter("u32", Some(("mirred", "redirect to egress", n)));
    let mut stolen = world(0, redirect(0), redirect(20));
    stolen.probe("tcp://10.0.0.2:80", 20, 20);
    assert_eq!(stolen.found(), ["tc.mirred_redirect @ netns:server: eth0 ingress, filter pref 49152"]);
    assert_eq!(stolen.report().ledger.unexplained, 0);
    stolen.both(SERVER, |s| {
        let Reading::Present(links) = &mut s.links else { return };
        links.push(Link { kind: Some("ifb".into()), ..veth(9, "ifb0", 0) });
    });
    assert!(!stolen.found().iter().any(|found| found.starts_with("tc.")), "{:?}", stolen.found());
    assert!(world(0, redirect(0), redirect(20)).found().is_empty(), "nobody misses anything");
}

#[test]
fn a_policer_whose_counter_is_not_known_is_not_one_that_stood_still() {
    let blind = || {
        let mut filter = filter("u32", Some(("police", "drop", 0)));
        filter.actions.iter_mut().for_each(|action| action.stats = None);
        filter
    };
    let mut world = world(0, blind(), blind());
    world.drops(SERVER, "TC_INGRESS", "__netif_receive_skb_core", 6);
    assert_eq!(world.found(), ["tc.police @ netns:server: eth0 ingress, filter pref 49152"]);
    assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (6, 0));
}
