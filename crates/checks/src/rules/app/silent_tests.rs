//! Programs that read, or could, and answer nobody; each with an innocent twin.

use crate::testing::*;
use whydrop_model::flow::{Closed, Conversation, FlowDirection};
use whydrop_model::snapshot::{ProcessState, Processes, Protocol, Socket, TcpInfo};
use whydrop_model::{Reading, Verdict};

/// A connection of the client at the server's port 80 whose request was read, with so many bytes of an answer.
fn asked(cookie: u64, state: &str, answered: u64) -> Socket {
    let mut socket = socket(Protocol::Tcp, "10.0.0.2:80");
    (socket.state, socket.remote) = (state.into(), "10.0.0.1:40000".parse().unwrap());
    (socket.cookie, socket.send_queue) = (cookie, 0);
    socket.tcp = Some(TcpInfo {
        bytes_sent: Some(answered),
        bytes_received: Some(70),
        last_data_recv_ms: 1500,
        ..TcpInfo::default()
    });
    socket
}

fn serves(world: &mut World, open: &[Socket]) {
    world.both(SERVER, |s| {
        let Reading::Present(sockets) = &mut s.sockets else { panic!("sockets") };
        sockets.extend(open.iter().cloned());
        let list = vec![process(ProcessState::Sleeping)];
        s.processes = Reading::Present(Processes { list, more: false, cgroups: vec![] });
    });
}

/// Connections of the client that ended at the server's port in the window.
fn ended(world: &mut World, connections: u64, data_segments: u64, reset_sent: u64) {
    let (local, remote) = ("10.0.0.2:80".parse().unwrap(), "10.0.0.1:0".parse().unwrap());
    let inode = world.observation.namespaces[SERVER].target.netns_inode;
    let closed = Closed { connections, data_segments, ..Closed::default() };
    let talk = Conversation {
        established: connections,
        closed,
        reset_sent,
        ..Conversation::between(inode, 6, FlowDirection::In, local, remote)
    };
    let Reading::Present(log) = &mut world.observation.flows else { panic!("flows") };
    log.conversations.push(talk);
}

#[test]
fn a_service_that_answers_nobody_hangs_and_a_long_poll_does_not() {
    let mut world = World::pair();
    serves(&mut world, &[asked(31, "close_wait", 0), asked(32, "established", 0)]);
    assert_eq!(world.found(), ["app.hung @ netns:server: nginx (pid 7)"]);
    // The client has not got rid of all it asks.
    let mut asking = World::pair();
    serves(&mut asking, &[asked(31, "close_wait", 0), asked(32, "established", 0)]);
    asking.both(CLIENT, |s| {
        let Reading::Present(sockets) = &mut s.sockets else { panic!("sockets") };
        let (local, remote) = ("10.0.0.1:40000", "10.0.0.2:80".parse().unwrap());
        sockets.push(Socket { remote, send_queue: 900, ..socket(Protocol::Tcp, local) });
    });
    assert_eq!(asking.report().verdict, Verdict::Clear);
    // One that ended had been answered.
    ended(&mut world, 1, 1, 0);
    assert_eq!(world.report().verdict, Verdict::Clear);
    // Only one waits, and nobody gave up.
    let mut world = World::pair();
    serves(&mut world, &[asked(32, "established", 0)]);
    assert_eq!(world.report().verdict, Verdict::Clear);
}

#[test]
fn who_is_turned_away_while_a_crowd_says_nothing_suffers_from_it() {
    let crowd: Vec<Socket> = (0..9).map(|n| asked(50 + n, "established", 0)).collect();
    let mut world = World::pair();
    serves(&mut world, &crowd);
    ended(&mut world, 12, 0, 12);
    assert_eq!(world.found(), ["app.slow_clients @ netns:server: nginx (pid 7)"]);
    // It closes many with a reset, as some do, and answers first.
    let mut world = World::pair();
    serves(&mut world, &crowd);
    ended(&mut world, 12, 12, 12);
    assert_eq!(world.report().verdict, Verdict::Clear);
}

#[test]
fn a_datagram_socket_that_only_fills_is_not_read() {
    let full =
        |queue: u32| Socket { receive_queue: queue, cookie: 70, ..socket(Protocol::Udp, "0.0.0.0:5300") };
    let grows = |to: u32, port: &str| {
        let mut world = World::pair();
        let local = port.parse().unwrap();
        serves(&mut world, &[Socket { local, ..full(768) }]);
        world.after(SERVER, |s| {
            let Reading::Present(sockets) = &mut s.sockets else { panic!("sockets") };
            sockets.last_mut().unwrap().receive_queue = to;
        });
        world
    };
    assert_eq!(grows(768 * 9, "0.0.0.0:5300").found(), ["app.hung @ netns:server: nginx (pid 7)"]);
    assert_eq!(grows(768 * 2, "0.0.0.0:5300").report().verdict, Verdict::Clear);
    // Everybody's talk.
    assert_eq!(grows(768 * 9, "0.0.0.0:5353").report().verdict, Verdict::Clear);
}
