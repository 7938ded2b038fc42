//! Connections that a server takes and ends without a word; each fault with an innocent twin.

use crate::testing::*;
use whydrop_model::flow::{Closed, Conversation, FlowDirection};
use whydrop_model::snapshot::{Descriptors, ProcessState, Processes, Protocol, Socket, TcpInfo};
use whydrop_model::{Reading, Report, Verdict};

/// The server's program with so many of 64 descriptors open.
fn served(open: u64) -> World {
    let mut world = World::pair();
    world.both(SERVER, |s| {
        let mut process = process(ProcessState::Sleeping);
        process.descriptors = Reading::Present(Descriptors { open, limit: Some(64) });
        s.processes = Reading::Present(Processes { list: vec![process], more: false, cgroups: vec![] });
    });
    world
}

/// The client's connections to the server's port: so many that ended, of which so many without an answer, and so many
/// without a word from either side.
fn asked(world: &mut World, connections: u64, unanswered: u64, wordless: u64) {
    let closed = Closed { connections, unanswered, wordless, ..Closed::default() };
    let told = |talk: &mut Conversation, data_segments: u64| {
        (talk.established, talk.closed) = (connections, Closed { data_segments, ..closed });
    };
    let talk = world.talk(CLIENT, "10.0.0.2:80");
    talk.attempts = connections;
    told(talk, connections - wordless);
    arrived(world, "10.0.0.1:0", |talk| told(talk, connections - unanswered - wordless));
}

/// What the server's side tells of somebody who knocks at its port.
fn arrived(world: &mut World, from: &str, change: impl FnOnce(&mut Conversation)) {
    let inode = world.observation.namespaces[SERVER].target.netns_inode;
    let (local, remote) = ("10.0.0.2:80".parse().unwrap(), from.parse().unwrap());
    let mut talk = Conversation::between(inode, 6, FlowDirection::In, local, remote);
    change(&mut talk);
    let Reading::Present(log) = &mut world.observation.flows else { panic!("flows") };
    log.conversations.push(talk);
}

fn cut(report: &Report) -> Vec<u64> {
    report.flows.iter().map(|flow| flow.trouble.reset).collect()
}

#[test]
fn a_server_that_has_no_descriptor_for_its_answer_is_named_and_one_that_has_is_not() {
    let mut world = served(63);
    asked(&mut world, 20, 8, 0);
    assert_eq!(world.found(), ["app.fd_exhausted @ netns:server: nginx (pid 7)"]);
    assert_eq!(cut(&world.report()), [8]);
    // Nothing is short: the server wants it so.
    let mut world = served(20);
    asked(&mut world, 20, 20, 0);
    assert_eq!(world.report().verdict, Verdict::Clear);
    // A health check says nothing, nor does a scan; and two of many are an accident.
    let mut world = served(63);
    asked(&mut world, 20, 0, 20);
    assert_eq!(world.report().verdict, Verdict::Clear);
    let mut world = served(63);
    asked(&mut world, 20, 2, 0);
    assert_eq!(world.report().verdict, Verdict::Clear);
}

#[test]
fn a_server_whose_connections_are_all_held_turns_the_others_away() {
    let held = |cookie: u64| Socket {
        state: "established".into(),
        remote: "10.0.0.1:40000".parse().unwrap(),
        cookie,
        send_queue: 0,
        tcp: Some(TcpInfo { bytes_sent: Some(0), bytes_received: Some(9), ..TcpInfo::default() }),
        ..socket(Protocol::Tcp, "10.0.0.2:80")
    };
    let mut world = served(20);
    world.both(SERVER, |s| {
        let Reading::Present(sockets) = &mut s.sockets else { panic!("sockets") };
        sockets.extend((50..54).map(held));
    });
    asked(&mut world, 20, 20, 0);
    assert_eq!(world.found(), ["app.slow_clients @ netns:server: nginx (pid 7)"]);
}
