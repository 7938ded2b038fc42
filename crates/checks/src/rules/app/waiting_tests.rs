//! Programs that do not take what arrives, and those that do.

use crate::testing::*;
use whydrop_model::drops::SocketOwner;
use whydrop_model::flow::FailedCall;
use whydrop_model::snapshot::{
    Cgroup, Descriptors, Process, ProcessState, Processes, Protocol, Socket, TcpInfo, Timer,
};
use whydrop_model::{Reading, Snapshot, Verdict};

fn listener(snapshot: &mut Snapshot) -> &mut Socket {
    let Reading::Present(sockets) = &mut snapshot.sockets else { panic!("sockets") };
    sockets.first_mut().unwrap()
}

/// The server's web server is such a process in such cgroups, and so many connections wait for it at both ends of the
/// window.
fn waits(connections: u32, process: &Process, cgroups: &[Cgroup]) -> World {
    let mut world = World::pair();
    world.both(SERVER, |s| {
        listener(s).receive_queue = connections;
        let list = vec![process.clone()];
        s.processes = Reading::Present(Processes { list, more: false, cgroups: cgroups.to_vec() });
    });
    world
}

/// It runs a little in the window.
fn runs(world: &mut World) {
    world.after(SERVER, |s| {
        let Reading::Present(processes) = &mut s.processes else { panic!("processes") };
        processes.list.iter_mut().for_each(|process| process.cpu_ticks += 3);
    });
}

#[test]
fn a_stopped_server_with_connections_that_wait_is_hung() {
    let stopped = process(ProcessState::Stopped);
    let world = waits(3, &stopped, &[]);
    assert_eq!(world.found(), ["app.hung @ netns:server: nginx (pid 7)"]);
    let report = world.report();
    assert_eq!((report.verdict, report.ledger.lost), (Verdict::Loss, 0));
    assert_eq!(report.findings[0].packets_lost, None);

    // Nobody waits for it.
    assert_eq!(waits(0, &stopped, &[]).report().verdict, Verdict::Clear);
}

#[test]
fn a_server_that_accepts_now_and_then_is_not_hung_and_one_that_never_runs_is() {
    let asleep = process(ProcessState::Sleeping);
    assert_eq!(waits(3, &asleep, &[]).found(), ["app.hung @ netns:server: nginx (pid 7)"]);
    let mut world = waits(3, &asleep, &[]);
    runs(&mut world);
    assert_eq!(world.report().verdict, Verdict::Clear);
    // The queue is shorter: somebody took some.
    let mut world = waits(3, &asleep, &[]);
    world.after(SERVER, |s| listener(s).receive_queue = 1);
    assert_eq!(world.report().verdict, Verdict::Clear);
}

#[test]
fn a_full_accept_queue_follows_from_the_program_that_does_not_accept() {
    let mut world = waits(6, &process(ProcessState::Stopped), &[]);
    world.both(SERVER, |s| listener(s).send_queue = 5);
    world.rises(SERVER, "TcpExt.ListenOverflows", 20).probe("tcp://10.0.0.2:80", 20, 20);
    assert_eq!(world.found(), ["app.hung @ netns:server: nginx (pid 7)"]);
    assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (20, 0));
}

#[test]
fn a_frozen_cgroup_is_named_and_its_program_is_not_called_hung() {
    let asleep = process(ProcessState::Sleeping);
    let frozen = [cgroup("/", false), cgroup("/web", true)];
    assert_eq!(waits(3, &asleep, &frozen).found(), ["cgroup.frozen @ netns:server: cgroup /web"]);
    assert_eq!(waits(0, &asleep, &frozen).report().verdict, Verdict::Clear);
    let mut other = waits(3, &asleep, &[cgroup("/web2", true)]);
    runs(&mut other);
    assert_eq!(other.report().verdict, Verdict::Clear);
}

#[test]
fn without_descriptors_nothing_can_be_accepted() {
    let mut full = process(ProcessState::Sleeping);
    full.descriptors = Reading::Present(Descriptors { open: 64, limit: Some(64) });
    let busy = |connections| {
        let mut world = waits(connections, &full, &[]);
        runs(&mut world);
        world
    };
    assert_eq!(busy(3).found(), ["app.fd_exhausted @ netns:server: nginx (pid 7)"]);
    assert_eq!(busy(0).report().verdict, Verdict::Clear);

    // The queue is young, but its calls have failed.
    let mut world = busy(3);
    let Reading::Present(before) = &mut world.observation.namespaces[SERVER].before else { panic!("before") };
    listener(before).receive_queue = 0;
    assert_eq!(world.report().verdict, Verdict::Clear);
    let Reading::Present(log) = &mut world.observation.flows else { panic!("flows") };
    log.calls = Reading::Present(vec![FailedCall {
        netns_inode: 4002,
        owner: SocketOwner { pid: Some(7), comm: Some("nginx".into()), cgroup: None },
        call: "accept4".into(),
        error: "EMFILE".into(),
        protocol: Some(6),
        remote: None,
        count: 12,
        last_ns: 1,
    }]);
    assert_eq!(world.found(), ["app.fd_exhausted @ netns:server: nginx (pid 7)"]);
}

/// A connection from the client to the server, of which these bytes wait in the server; the client's kernel runs this
/// timer, and this many bytes were acknowledged at both ends of the window.
fn connected(unread: u32, timer: Timer, acknowledged: [u64; 2]) -> World {
    let mut world = World::pair();
    let end = |local: &str, remote: &str| {
        let mut socket = socket(Protocol::Tcp, local);
        (socket.state, socket.remote) = ("established".into(), remote.parse().unwrap());
        (socket.cookie, socket.send_queue) = (5, 0);
        socket
    };
    let push = |s: &mut Snapshot, socket: Socket| {
        let Reading::Present(sockets) = &mut s.sockets else { panic!("sockets") };
        sockets.retain(|known| known.cookie != socket.cookie);
        sockets.push(socket);
    };
    world.both(SERVER, |s| {
        let mut reader = end("10.0.0.2:80", "10.0.0.1:40000");
        reader.receive_queue = unread;
        push(s, reader);
    });
    let sender = |acknowledged| {
        let mut sender = end("10.0.0.1:40000", "10.0.0.2:80");
        sender.send_queue = 9000;
        sender.tcp = Some(TcpInfo { timer, bytes_acked: Some(acknowledged), ..TcpInfo::default() });
        sender
    };
    world.both(CLIENT, |s| push(s, sender(acknowledged[0])));
    world.after(CLIENT, |s| push(s, sender(acknowledged[1])));
    world
}

#[test]
fn a_window_that_stays_zero_is_the_readers_and_a_moment_of_it_is_nothing() {
    let found = connected(8000, Timer::ZeroWindowProbe, [100, 100]).found();
    assert_eq!(found, ["app.slow_reader @ netns:server: 10.0.0.2:80 of 10.0.0.1:40000"]);
    for innocent in [
        connected(8000, Timer::ZeroWindowProbe, [100, 900]),
        // A long poll: nobody has anything to say.
        connected(0, Timer::None, [100, 100]),
        connected(8000, Timer::KeepAlive, [100, 100]),
    ] {
        assert_eq!(innocent.report().verdict, Verdict::Clear);
    }
}
