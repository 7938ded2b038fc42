//! Queues: found, clear, and no drop charged twice.

use crate::testing::*;
use whydrop_model::snapshot::{Qdisc, QdiscOptions};
use whydrop_model::{NoteStatus, Reading, Snapshot, Verdict};

fn netem(loss: f64) -> QdiscOptions {
    QdiscOptions::Netem {
        loss,
        model: None,
        limit: 1000,
        delay_us: 0,
        jitter_us: 0,
        corrupt: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        rate: 0,
    }
}

fn with_qdiscs(before: Vec<Qdisc>, after: Vec<Qdisc>) -> World {
    let mut world = World::pair();
    let set = |to: Vec<Qdisc>| move |s: &mut Snapshot| s.qdiscs = Reading::Present(to.clone());
    world.both(SERVER, set(before)).after(SERVER, set(after));
    world
}

#[test]
fn each_kind_is_named() {
    let fifo = QdiscOptions::Fifo { limit: 2 };
    let tbf = QdiscOptions::Tbf { rate: 1000, burst: 1600, limit: 3000 };
    let short = QdiscOptions::FqCodel { limit: 4, target_us: 5000, drop_overlimit: 3 };
    let cases = [
        ("netem", netem(0.3), "qdisc.netem_loss"),
        ("netem", netem(0.0), "qdisc.queue_limit"),
        ("tbf", tbf, "qdisc.shaper_drop"),
        ("fq_codel", short, "qdisc.queue_limit"),
        ("pfifo", fifo, "qdisc.queue_limit"),
        ("blackhole", QdiscOptions::Other, "qdisc.blackhole"),
    ];
    for (kind, options, cause) in cases {
        let world = with_qdiscs(vec![qdisc(kind, 4, options.clone())], vec![qdisc(kind, 12, options)]);
        assert_eq!(world.found(), [format!("{cause} @ netns:server: eth0 qdisc {kind}")]);
        assert_eq!(world.report().ledger.lost, 8);
    }
}

#[test]
fn a_netem_without_traffic_is_latent_and_old_drops_are_old() {
    let world = with_qdiscs(vec![qdisc("netem", 0, netem(0.3))], vec![qdisc("netem", 0, netem(0.3))]);
    assert_eq!(world.report().notes[0].status, NoteStatus::Latent);
    let old = QdiscOptions::Fifo { limit: 100 };
    let world = with_qdiscs(vec![qdisc("pfifo", 9, old.clone())], vec![qdisc("pfifo", 9, old)]);
    assert_eq!(world.report().verdict, Verdict::Clear);
    assert_eq!(world.report().notes[0].status, NoteStatus::Old);
}

#[test]
fn a_shaper_and_its_inner_queue_are_charged_once() {
    let tree = |drops: u32| {
        let mut root = qdisc("htb", drops, QdiscOptions::Htb { default: 0x10, direct_packets: 0 });
        root.handle = 0x0001_0000;
        let mut leaf = qdisc("pfifo", drops, QdiscOptions::Fifo { limit: 5 });
        (leaf.parent, leaf.handle) = (0x0001_0010, 0x0010_0000);
        vec![root, leaf]
    };
    let world = with_qdiscs(tree(0), tree(20));
    assert_eq!(world.found(), ["qdisc.shaper_drop @ netns:server: eth0 qdisc htb, class 1:10"]);
    assert_eq!(world.report().ledger.lost, 20);
}

#[test]
fn a_wrapped_counter_is_a_rise() {
    let before = qdisc("netem", u32::MAX - 1, netem(0.3));
    let world = with_qdiscs(vec![before], vec![qdisc("netem", 3, netem(0.3))]);
    assert_eq!(world.report().ledger.lost, 5);
}

#[test]
fn a_short_queue_inside_of_a_shaper_that_is_not_used_up_is_short_by_itself() {
    let tree = |drops: u32, bytes: u64| {
        let mut root = qdisc("tbf", drops, QdiscOptions::Tbf { rate: 1_000_000, burst: 9000, limit: 90_000 });
        (root.handle, root.stats.bytes) = (0x0001_0000, bytes);
        let mut leaf = qdisc("pfifo", drops, QdiscOptions::Fifo { limit: 2 });
        (leaf.parent, leaf.handle) = (0x0001_0001, 0x0010_0000);
        vec![root, leaf]
    };
    let world = with_qdiscs(tree(0, 0), tree(20, 30_000));
    assert_eq!(world.found(), ["qdisc.queue_limit @ netns:server: eth0 qdisc pfifo"]);
    let world = with_qdiscs(tree(0, 0), tree(20, 3_000_000));
    assert_eq!(world.found(), ["qdisc.shaper_drop @ netns:server: eth0 qdisc tbf"]);
}
