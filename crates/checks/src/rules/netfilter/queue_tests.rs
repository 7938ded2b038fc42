//! Queues that nobody reads, and queues whose reader is too slow.

use crate::testing::*;
use whydrop_model::Reading;
use whydrop_model::netfilter::{Hook, Match, RuleVerdict};
use whydrop_model::snapshot::{NfQueue, Owner};

fn queued(text: &str) -> World {
    let mut world = World::pair();
    let queue = rule(text, RuleVerdict::Queue(5), Some(0), vec![Match::L4Proto(6)]);
    world.chain(SERVER, chain("INPUT", Hook::Input, RuleVerdict::Accept, vec![queue]), &[50]);
    world.drops(SERVER, "NOT_SPECIFIED", "nf_queue", 30);
    world
}

fn opened(world: &mut World, dropped: [u32; 2]) {
    let queue = |queue_dropped| NfQueue {
        number: 5,
        port_id: 77,
        waiting: 16,
        copy_mode: 2,
        queue_dropped,
        user_dropped: 0,
        last_id: 100,
        owners: vec![Owner { pid: 77, comm: "reader".into() }],
    };
    let [old, new] = dropped;
    world.both(SERVER, |s| s.nf_queues = Reading::Present(vec![queue(old)]));
    world.after(SERVER, |s| s.nf_queues = Reading::Present(vec![queue(new)]));
}

#[test]
fn a_queue_that_nobody_has_open_is_named() {
    let world = queued("-p tcp -j NFQUEUE --queue-num 5");
    assert_eq!(world.found(), ["netfilter.nfqueue_no_listener @ netns:server: NFQUEUE 5"]);
    assert_eq!(world.report().ledger.unexplained, 0);
}

#[test]
fn a_queue_with_a_slow_reader_overflows() {
    let mut world = queued("-p tcp -j NFQUEUE --queue-num 5");
    opened(&mut world, [3, 33]);
    assert_eq!(world.found(), ["netfilter.nfqueue_overflow @ netns:server: NFQUEUE 5"]);
    let report = world.report();
    assert_eq!((report.ledger.lost, report.ledger.unexplained), (30, 0));
    assert!(report.findings[0].summary.en.contains("reader (77)"), "{:?}", report.findings[0].summary);
}

#[test]
fn what_cannot_be_read_is_no_empty_queue() {
    let mut world = queued("-p tcp -j NFQUEUE --queue-num 5");
    world.both(SERVER, |s| s.nf_queues = Reading::Denied("not permitted".into()));
    assert_eq!(world.found(), Vec::<String>::new());
    assert_eq!(world.report().ledger.unexplained, 30);
}

#[test]
fn a_queue_that_keeps_up_and_one_that_may_be_bypassed_are_innocent() {
    let mut world = queued("-p tcp -j NFQUEUE --queue-num 5");
    opened(&mut world, [3, 3]);
    assert_eq!(world.found(), Vec::<String>::new());
    let world = queued("-p tcp -j NFQUEUE --queue-num 5 --queue-bypass");
    assert_eq!(world.found(), Vec::<String>::new());
}
