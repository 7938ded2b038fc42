//! Policies that block or ask for protection, and those that concern others.

use crate::testing::*;
use std::collections::BTreeMap;
use whydrop_model::snapshot::{Snapshot, Xfrm, XfrmPolicy, XfrmState, XfrmTemplate};
use whydrop_model::{Reading, Verdict};

fn policy(direction: &str, destination: &str, block: bool) -> XfrmPolicy {
    XfrmPolicy { block, ..xfrm_policy(direction, ("10.0.0.0", 24), (destination, 32)) }
}

fn with(policy: XfrmPolicy) -> impl Fn(&mut Snapshot) {
    move |s| s.xfrm = Reading::Present(Xfrm { policies: vec![policy.clone()], states: vec![] })
}

fn counts(world: &mut World, index: usize, name: &str, n: u64) {
    let stat = |n| Reading::Present(BTreeMap::from([(name.to_owned(), n)]));
    world.both(index, |s| s.xfrm_stat = stat(7));
    world.after(index, |s| s.xfrm_stat = stat(7 + n));
}

/// The client's connections fail with EPERM.
fn forbidden() -> World {
    let mut world = World::pair();
    let talk = world.talk(CLIENT, "10.0.0.2:80");
    (talk.attempts, talk.failed, talk.unsent) = (5, 5, 5);
    talk.errors.insert("EPERM".into(), 5);
    world
}

#[test]
fn a_policy_that_blocks_what_a_program_sends_is_named() {
    let mut world = forbidden();
    world.both(CLIENT, with(policy("out", "10.0.0.2", true)));
    counts(&mut world, CLIENT, "XfrmOutPolBlock", 5);
    let subject = "src 10.0.0.0/24 dst 10.0.0.2/32 dir out";
    assert_eq!(world.found(), [format!("xfrm.policy_block @ netns:client: {subject}")]);
}

#[test]
fn policies_for_others_and_those_that_stood_still_are_innocent() {
    for (of, rise) in [(policy("out", "10.0.0.9", true), 0), (policy("out", "10.0.0.2", false), 0)] {
        let mut world = forbidden();
        world.both(CLIENT, with(of));
        counts(&mut world, CLIENT, "XfrmOutPolBlock", rise);
        assert!(world.found().iter().all(|found| !found.starts_with("xfrm.")), "{:?}", world.found());
    }
}

#[test]
fn what_comes_in_the_clear_where_a_policy_protects_is_told() {
    let mut world = World::pair();
    let mut wants = policy("in", "10.0.0.2", false);
    let any = "0.0.0.0".parse().unwrap();
    wants.templates.push(XfrmTemplate {
        source: any,
        destination: any,
        protocol: "esp".into(),
        mode: "transport".into(),
        spi: 0,
        reqid: 0,
        optional: false,
    });
    world.both(SERVER, with(wants));
    counts(&mut world, SERVER, "XfrmInTmplMismatch", 20);
    world.probe("tcp://10.0.0.2:80", 20, 20);
    assert_eq!(world.found(), ["xfrm.template_mismatch @ netns:server: IPsec policies"]);

    let mut world = World::pair();
    counts(&mut world, SERVER, "XfrmInTmplMismatch", 0);
    assert_eq!(world.report().verdict, Verdict::Clear);
}

#[test]
fn a_policy_without_a_state_is_named_and_one_with_it_is_innocent() {
    let lacks = |states: Vec<XfrmState>| {
        let mut world = World::pair();
        let mut wants = policy("out", "10.0.0.2", false);
        wants.templates.push(XfrmTemplate {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2".parse().unwrap(),
            protocol: "esp".into(),
            mode: "tunnel".into(),
            spi: 0,
            reqid: 1,
            optional: false,
        });
        world.both(CLIENT, |s| {
            s.xfrm = Reading::Present(Xfrm { policies: vec![wants.clone()], states: states.clone() });
        });
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        (talk.attempts, talk.failed) = (5, 5);
        world.found()
    };
    assert_eq!(lacks(vec![]), ["xfrm.no_state @ netns:client: esp tunnel 10.0.0.1 - 10.0.0.2"]);
    assert!(!lacks(vec![state(0)]).iter().any(|found| found.starts_with("xfrm.")));
}

/// A state from the client to the server, on which so many checks failed.
fn state(failed: u32) -> XfrmState {
    XfrmState {
        source: "10.0.0.1".parse().unwrap(),
        destination: "10.0.0.2".parse().unwrap(),
        spi: 0x101,
        protocol: "esp".into(),
        mode: "tunnel".into(),
        reqid: 1,
        mark: None,
        if_id: None,
        encapsulation: None,
        encryption: None,
        authentication: None,
        replay_window: 32,
        bytes: 0,
        packets: 0,
        replayed: 0,
        outside_window: 0,
        integrity_failed: failed,
    }
}

#[test]
fn what_a_state_refuses_is_told_with_the_state() {
    let subject = "esp spi 0x00000101 from 10.0.0.1 to 10.0.0.2";
    for (counter, cause, refused) in [
        ("XfrmInStateProtoError", "xfrm.bad_key", state(9)),
        ("XfrmInStateSeqError", "xfrm.replay", XfrmState { outside_window: 9, ..state(0) }),
    ] {
        let mut world = World::pair();
        let with = |state: XfrmState| Reading::Present(Xfrm { policies: vec![], states: vec![state] });
        world.both(SERVER, |s| s.xfrm = with(state(0)));
        world.after(SERVER, |s| s.xfrm = with(refused.clone()));
        counts(&mut world, SERVER, counter, 9);
        assert_eq!(world.found(), [format!("{cause} @ netns:server: {subject}")]);
    }
}
