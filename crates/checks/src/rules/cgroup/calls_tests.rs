//! Calls that a BPF program of a cgroup refuses; each fault with an innocent twin.

use crate::testing::*;
use whydrop_model::drops::SocketOwner;
use whydrop_model::flow::FailedCall;
use whydrop_model::snapshot::{Attach, AttachedProgram, Processes};
use whydrop_model::{Reading, Verdict};

/// The client's program, in the cgroup `/web/api`, whose calls fail; `/web` has such a program.
fn refused(call: &str, protocol: u8, error: &str, attach: Attach) -> World {
    let mut world = World::pair();
    world.both(CLIENT, |s| {
        let mut web = cgroup("/web", false);
        let program = AttachedProgram { attach, id: 12, name: "refuser".into() };
        web.programs = Reading::Present(vec![program]);
        s.processes = Reading::Present(Processes { list: vec![], more: false, cgroups: vec![web] });
    });
    let inode = world.observation.namespaces[CLIENT].target.netns_inode;
    let Reading::Present(log) = &mut world.observation.flows else { panic!("flows") };
    let cgroup = Some("/web/api".into());
    log.calls = Reading::Present(vec![FailedCall {
        netns_inode: inode,
        owner: SocketOwner { pid: Some(77), comm: Some("curl".into()), cgroup },
        call: call.into(),
        error: error.into(),
        protocol: Some(protocol),
        remote: Some("10.0.0.2:80".parse().unwrap()),
        count: 9,
        last_ns: 3_000_000_000,
    }]);
    world
}

#[test]
fn a_program_that_refuses_calls_is_named_and_one_that_is_not_asked_is_not() {
    let found = ["cgroup.bpf_drop @ netns:client: cgroup /web"];
    assert_eq!(refused("connect", 6, "EPERM", Attach::Connect4).found(), found);
    assert_eq!(refused("connect", 17, "EPERM", Attach::Connect4).found(), found);
    assert_eq!(refused("sendto", 17, "EPERM", Attach::Sendmsg4).found(), found);
    // It is asked about other calls, about another family, or the call failed otherwise.
    for world in [
        refused("connect", 6, "EPERM", Attach::Sendmsg4),
        refused("connect", 6, "EPERM", Attach::Connect6),
        refused("connect", 6, "EADDRINUSE", Attach::Connect4),
    ] {
        assert_eq!((world.found().len(), world.report().verdict), (0, Verdict::Clear));
    }
}
