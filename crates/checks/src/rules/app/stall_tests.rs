//! What looks alike from outside and has different reasons: each is told by one cause only.

use crate::testing::*;
use std::collections::BTreeMap;
use whydrop_model::snapshot::{
    Cgroup, CpuUse, Descriptors, MemoryUse, Owner, Process, ProcessState, Processes, Protocol, Snapshot,
    Socket, TcpInfo,
};
use whydrop_model::{Reading, Verdict};

fn sockets(snapshot: &mut Snapshot) -> &mut Vec<Socket> {
    let Reading::Present(sockets) = &mut snapshot.sockets else { panic!("sockets") };
    sockets
}

/// A connection of the client to the server's port 80; one that nobody has accepted has no inode.
fn connection(cookie: u64, accepted: bool) -> Socket {
    let mut socket = socket(Protocol::Tcp, "10.0.0.2:80");
    (socket.state, socket.remote) = ("established".into(), "10.0.0.1:40000".parse().unwrap());
    (socket.cookie, socket.send_queue) = (cookie, 0);
    socket.tcp = Some(TcpInfo { bytes_sent: Some(0), bytes_received: Some(0), ..TcpInfo::default() });
    if !accepted {
        (socket.inode, socket.owners) = (0, vec![]);
    }
    socket
}

/// Three connections wait for such a process at both ends of the window.
fn waits(process: &Process, cgroups: &[Cgroup]) -> World {
    let mut world = World::pair();
    world.both(SERVER, |s| {
        let all = sockets(s);
        all[0].receive_queue = 3;
        all.extend([11, 12, 13].map(|cookie| connection(cookie, false)));
        let list = vec![process.clone()];
        s.processes = Reading::Present(Processes { list, more: false, cgroups: cgroups.to_vec() });
    });
    world
}

fn processes(snapshot: &mut Snapshot) -> &mut Processes {
    let Reading::Present(processes) = &mut snapshot.processes else { panic!("processes") };
    processes
}

fn waiting_in(state: ProcessState, function: &str) -> Process {
    Process { waits: BTreeMap::from([(function.to_owned(), 1)]), ..process(state) }
}

#[test]
fn a_wait_for_storage_is_no_other_hang() {
    let frozen = waits(&waiting_in(ProcessState::DiskSleep, "percpu_rwsem_wait"), &[]);
    assert_eq!(frozen.found(), ["app.io_stall @ netns:server: nginx (pid 7)"]);
    let lock = waits(&waiting_in(ProcessState::Sleeping, "futex_wait_queue"), &[]);
    assert_eq!(lock.found(), ["app.hung @ netns:server: nginx (pid 7)"]);

    // Somebody was accepted meanwhile.
    let mut busy = waits(&waiting_in(ProcessState::DiskSleep, "io_schedule"), &[]);
    busy.after(SERVER, |s| {
        sockets(s).retain(|socket| socket.cookie != 11);
        processes(s).list[0].cpu_ticks += 1;
    });
    assert_eq!(busy.report().verdict, Verdict::Clear);
}

/// A client came and went without a word, and the program forgets to close: only a FIN waits in the connection.
#[test]
fn a_connection_that_is_not_closed_leaves_nothing_unread() {
    let ended = |unread: u32| {
        let mut world = World::pair();
        world.both(SERVER, |s| {
            let mut forgotten = connection(21, true);
            (forgotten.state, forgotten.receive_queue) = ("close_wait".into(), unread);
            sockets(s).push(forgotten);
            let list = vec![waiting_in(ProcessState::Sleeping, "ep_poll")];
            s.processes = Reading::Present(Processes { list, more: false, cgroups: vec![] });
        });
        world
    };
    assert_eq!(ended(1).report().verdict, Verdict::Clear);
    assert_eq!(ended(20).found(), ["app.hung @ netns:server: nginx (pid 7)"]);
}

#[test]
fn workers_that_wait_for_clients_are_held_by_those() {
    let reads = waiting_in(ProcessState::Sleeping, "wait_woken");
    let mut world = waits(&reads, &[]);
    world.both(SERVER, |s| sockets(s).push(connection(21, true)));
    assert_eq!(world.found(), ["app.slow_clients @ netns:server: nginx (pid 7)"]);
    // It answers on that connection.
    world.after(SERVER, |s| {
        let held = sockets(s).iter_mut().find(|socket| socket.cookie == 21).unwrap();
        held.tcp.as_mut().unwrap().bytes_sent = Some(99);
    });
    assert_eq!(world.found(), ["app.hung @ netns:server: nginx (pid 7)"]);
}

#[test]
fn one_of_several_sockets_that_share_a_port_is_left_out() {
    let mut world = waits(&process(ProcessState::Stopped), &[]);
    world.both(SERVER, |s| {
        let served = Socket { cookie: 99, receive_queue: 0, ..sockets(s)[0].clone() };
        sockets(s).push(served);
    });
    assert_eq!(world.found(), ["app.reuseport_stuck_member @ netns:server: nginx (pid 7) at 0.0.0.0:80"]);
}

#[test]
fn a_quota_that_holds_back_is_named_and_throttling_without_harm_is_none() {
    let used = |throttled: u64| CpuUse {
        quota_us: Some(2000),
        period_us: 100_000,
        periods: 100 + throttled,
        throttled,
        throttled_us: throttled * 90_000,
    };
    let held = |world: &mut World| {
        world.after(SERVER, |s| processes(s).cgroups[0].cpu = Reading::Present(used(30)));
    };
    let quota = Cgroup { cpu: Reading::Present(used(0)), ..cgroup("/web", false) };
    let mut world = waits(&process(ProcessState::Sleeping), std::slice::from_ref(&quota));
    held(&mut world);
    assert_eq!(world.found(), ["cgroup.cpu_throttled @ netns:server: cgroup /web"]);

    let mut world = World::pair();
    world.both(SERVER, |s| {
        let list = vec![process(ProcessState::Sleeping)];
        s.processes = Reading::Present(Processes { list, more: false, cgroups: vec![quota.clone()] });
    });
    held(&mut world);
    assert_eq!(world.report().verdict, Verdict::Clear);
}

/// The web server of a cgroup with a limit, of whose processes so many were killed for want of memory so far.
fn limited(kills: u64) -> Cgroup {
    let events = BTreeMap::from([("oom_kill".to_owned(), kills)]);
    let memory = MemoryUse { current: 100, max: Some(100), events };
    Cgroup { memory: Reading::Present(memory), ..cgroup("/web", false) }
}

#[test]
fn a_process_that_was_killed_for_its_memory_is_why_its_port_refuses() {
    let mut world = World::pair();
    world.both(SERVER, |s| {
        let list = vec![process(ProcessState::Sleeping)];
        s.processes = Reading::Present(Processes { list, more: false, cgroups: vec![limited(4)] });
    });
    world.after(SERVER, |s| {
        sockets(s).clear();
        processes(s).list.clear();
        processes(s).cgroups = vec![limited(5)];
    });
    world.refuses(CLIENT, SERVER, "10.0.0.2:80", 15);
    assert_eq!(world.found(), ["cgroup.memory_oom @ netns:server: cgroup /web"]);
}

/// It began in the window, in a cgroup of which nothing is known at the start: was it killed before?
#[test]
fn a_process_that_was_killed_long_ago_is_not_why_its_port_refuses_now() {
    let began = |machine: u64| {
        let mut world = World::pair();
        world.both(SERVER, |s| {
            s.processes = Reading::Present(Processes { list: vec![], more: false, cgroups: vec![] });
        });
        world.after(SERVER, |s| {
            let list = vec![process(ProcessState::Sleeping)];
            s.processes = Reading::Present(Processes { list, more: false, cgroups: vec![limited(3)] });
        });
        world.observation.machine[1].oom_kills = Reading::Present(machine);
        world.refuses(CLIENT, SERVER, "10.0.0.2:80", 15);
        world.found()
    };
    assert_eq!(began(1), ["cgroup.memory_oom @ netns:server: cgroup /web"]);
    assert!(!began(0).iter().any(|found| found.starts_with("cgroup")), "{:?}", began(0));
}

#[test]
fn a_short_queue_of_a_worker_without_descriptors_follows_from_them() {
    let full = |open: u64, backlog: u32| {
        let mut world = waits(&process(ProcessState::Sleeping), &[]);
        let worker = Process {
            pid: 8,
            descriptors: Reading::Present(Descriptors { open, limit: Some(14) }),
            ..process(ProcessState::Sleeping)
        };
        world.both(SERVER, |s| {
            processes(s).list.push(worker.clone());
            let listener = &mut sockets(s)[0];
            listener.send_queue = backlog;
            listener.owners.push(Owner { pid: 8, comm: "nginx".into() });
        });
        world.rises(SERVER, "TcpExt.ListenOverflows", 40);
        world.found()
    };
    assert_eq!(full(14, 2), ["app.fd_exhausted @ netns:server: nginx (pid 8)"]);
    assert_eq!(full(9, 2), ["tcp.accept_queue_overflow @ netns:server: 0.0.0.0:80"]);
}
