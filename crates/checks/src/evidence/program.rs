//! The programs behind sockets: does anybody take what waits there?

use super::case::Space;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use whydrop_model::snapshot::{Cgroup, CpuUse, Process, ProcessState, Protocol, Socket};

/// A socket in which something waits for its programs at the end of the window: bytes to be read, or connections to be
/// accepted.
#[derive(Clone, Debug)]
pub struct Waiting<'a> {
    /// As it is at the end of the window.
    pub socket: &'a Socket,
    /// As it was at its start; none if it is younger.
    pub before: Option<&'a Socket>,
    /// All processes that hold it, at least one.
    pub owners: Vec<Program<'a>>,
    /// What became of the connections that waited at the start of the window to be accepted; none if it does not
    /// listen, or none waited then.
    pub pending: Option<Pending>,
}

/// Connections that waited to be accepted at the start of the window. No process holds one until accept() gives it one:
/// its inode is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Those that still do.
    pub still: u32,
    /// Those that were accepted, or have gone.
    pub gone: u32,
}

/// A process at both ends of the window.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// At its end.
    pub process: &'a Process,
    /// At its start; none if it is younger.
    pub before: Option<&'a Process>,
}

/// The sockets of a namespace in which something waits, and all of whose programs are known.
pub fn waiting<'a>(space: Space<'a>) -> impl Iterator<Item = Waiting<'a>> {
    let raw = space.after.raw_sockets.iter().filter(|s| !matches!(s.protocol, Protocol::Packet(_)));
    let full = space.after.sockets.iter().chain(raw);
    let full = full.filter(|socket| socket.receive_queue > 0 && !is_only_ended(socket));
    let pending = pending(space);
    let raw = || space.before.raw_sockets.iter();
    let known: BTreeMap<(Protocol, u64), &'a Socket> =
        space.before.sockets.iter().chain(raw()).map(|old| ((old.protocol, old.cookie), old)).collect();
    full.filter_map(move |socket| {
        let owners: Option<Vec<Program<'a>>> =
            socket.owners.iter().map(|owner| program(space, owner.pid)).collect();
        Some(Waiting {
            socket,
            before: known.get(&(socket.protocol, socket.cookie)).copied(),
            owners: owners.filter(|all| !all.is_empty())?,
            pending: pending.get(&socket.local.port()).copied().filter(|_| is_listener(socket)),
        })
    })
}

/// By port, the connections that waited to be accepted at the start of the window.
fn pending(space: Space<'_>) -> BTreeMap<u16, Pending> {
    let unaccepted = |s: &&Socket| {
        let made = !matches!(s.state.as_str(), "listen" | "time_wait" | "syn_recv" | "syn_sent");
        s.protocol == Protocol::Tcp && s.inode == 0 && made
    };
    let ports: BTreeSet<u16> =
        space.after.sockets.iter().filter(|s| is_listener(s)).map(|s| s.local.port()).collect();
    let now: BTreeSet<u64> = space.after.sockets.iter().filter(unaccepted).map(|s| s.cookie).collect();
    let mut out = BTreeMap::new();
    for old in space.before.sockets.iter().filter(unaccepted).filter(|s| ports.contains(&s.local.port())) {
        let count = out.entry(old.local.port()).or_insert(Pending { still: 0, gone: 0 });
        match now.contains(&old.cookie) {
            true => count.still += 1,
            false => count.gone += 1,
        }
    }
    out
}

/// True if nothing but the FIN of the peer waits, which counts as a byte of the queue (net/ipv4/tcp_input.c:tcp_fin): a
/// program that forgets to close has read all that was said.
fn is_only_ended(socket: &Socket) -> bool {
    socket.state == "close_wait" && socket.receive_queue == 1
}

/// True if it waits for connections.
pub fn is_listener(socket: &Socket) -> bool {
    socket.protocol == Protocol::Tcp && socket.state == "listen"
}

/// The same socket at the start of the window.
pub fn before<'a>(space: Space<'a>, socket: &Socket) -> Option<&'a Socket> {
    let all = space.before.sockets.iter().chain(space.before.raw_sockets.iter());
    all.into_iter().find(|old| (old.protocol, old.cookie) == (socket.protocol, socket.cookie))
}

/// A process that holds sockets here.
pub fn program(space: Space<'_>, pid: u32) -> Option<Program<'_>> {
    let process = space.after.processes.get()?.list.iter().find(|process| process.pid == pid)?;
    let old = space.before.processes.get().and_then(|all| all.list.iter().find(|old| old.pid == pid));
    Some(Program { process, before: old.filter(|old| old.started == process.started) })
}

/// Bytes that programs have read of a connection so far.
fn read_so_far(socket: &Socket) -> Option<u64> {
    let received = socket.tcp.as_ref()?.bytes_received?;
    Some(received.saturating_sub(socket.receive_queue.into()))
}

impl<'a> Waiting<'a> {
    /// True if nothing was taken out of it in the window, as far as its length tells: it was not empty, and is no
    /// shorter.
    pub fn stood(&self) -> bool {
        self.before.is_some_and(|old| (1..=self.socket.receive_queue).contains(&old.receive_queue))
    }

    /// True if it was not empty, and several more datagrams wait in it at the end of the window.
    pub fn grew(&self) -> bool {
        let more = |old: &Socket| self.socket.receive_queue.saturating_sub(old.receive_queue);
        self.stood() && self.before.is_some_and(|old| more(old) >= SEVERAL_DATAGRAMS)
    }

    /// True if connections wait, and not bytes.
    pub fn listens(&self) -> bool {
        is_listener(self.socket)
    }

    /// True if certainly nothing was taken out of it in the window: the connections that waited still do, or as much was
    /// read of the connection as before.
    pub fn untouched(&self) -> bool {
        match self.pending {
            Some(pending) => pending.still > 0 && pending.gone == 0,
            None => {
                self.before.and_then(read_so_far).is_some_and(|n| Some(n) == read_so_far(self.socket))
                    && self.stood()
            }
        }
    }

    /// Who waits: the other ends of the connections that nobody takes.
    pub fn peers(&self, space: Space<'a>) -> impl Iterator<Item = IpAddr> {
        let (socket, listens) = (self.socket, self.listens());
        let mine = move |other: &&Socket| match listens {
            true => other.inode == 0 && other.local.port() == socket.local.port(),
            false => other.cookie == socket.cookie && other.protocol == socket.protocol,
        };
        let ip = |other: &Socket| other.remote.ip().to_canonical();
        space.after.sockets.iter().filter(mine).map(ip).filter(|ip| !ip.is_unspecified())
    }
}

impl<'a> Program<'a> {
    /// True if all its threads were in one of these states at both ends of the window.
    pub fn stayed(&self, states: &[ProcessState]) -> bool {
        let all = |process: &Process| {
            let mut threads = process.thread_states.keys().chain([&process.state]);
            threads.all(|state| states.contains(state))
        };
        all(self.process) && self.before.is_some_and(all)
    }

    /// True if it did not run at all in the window.
    pub fn rested(&self) -> bool {
        self.before.is_some_and(|old| {
            let runs = old.runs.zip(self.process.runs);
            old.cpu_ticks == self.process.cpu_ticks && runs.is_none_or(|(before, after)| before == after)
        })
    }

    /// True if it hardly ran in the window: for no tick of the clock.
    pub fn idled(&self) -> bool {
        self.before.is_some_and(|old| old.cpu_ticks == self.process.cpu_ticks)
    }

    /// True if a thread of it waited in a kernel function of this kind at both ends of the window.
    pub fn waited_in(&self, kind: impl Fn(&str) -> bool) -> bool {
        let waits = |process: &Process| process.waits.keys().any(|function| kind(function));
        waits(self.process) && self.before.is_some_and(waits)
    }

    /// The cgroup whose processor quota held it back for much of the window.
    pub fn throttled(&self, space: Space<'a>) -> Option<&'a Cgroup> {
        let old = &space.before.processes.get()?.cgroups;
        let mine = space.after.processes.get()?.cgroups.iter().filter(|cgroup| cgroup.holds(self.process));
        let withheld = |cgroup: &&'a Cgroup| {
            let before = old.iter().find(|o| (&o.hierarchy, &o.path) == (&cgroup.hierarchy, &cgroup.path));
            let (before, after) = (before?.cpu.get()?, cgroup.cpu.get()?);
            after.quota_us?;
            let rise = |of: fn(&CpuUse) -> u64| of(after).saturating_sub(of(before));
            let (periods, throttled) = (rise(|use_| use_.periods), rise(|use_| use_.throttled));
            let window_us = space.case.observation.window_ns / 1000;
            let much = rise(|use_| use_.throttled_us) * 100 >= window_us * THROTTLED_PERCENT;
            (throttled > 0 && throttled * 2 >= periods && much).then_some(())
        };
        mine.filter(|cgroup| withheld(cgroup).is_some()).min_by_key(|cgroup| cgroup.path.len())
    }

    /// The frozen cgroup that holds it, if it was frozen at both ends of the window.
    pub fn frozen(&self, space: Space<'a>) -> Option<&'a Cgroup> {
        let frozen =
            |cgroup: &&Cgroup, process: &Process| cgroup.frozen.get() == Some(&true) && cgroup.holds(process);
        let old = self.before?;
        let was = space.before.processes.get()?.cgroups.iter().any(|cgroup| frozen(&cgroup, old));
        let cgroups = &space.after.processes.get()?.cgroups;
        // The outermost one is the one that somebody froze: those below it only follow.
        let holding = cgroups.iter().filter(|cgroup| was && frozen(cgroup, self.process));
        holding.min_by_key(|cgroup| cgroup.path.len())
    }

    /// `nginx (pid 7)`.
    pub fn name(&self) -> String {
        let comm = whydrop_model::shell::sanitize(&self.process.comm, MAX_COMM);
        format!("{comm} (pid {})", self.process.pid)
    }
}

/// A quota that withholds less of the window than this delays, and stops nobody.
const THROTTLED_PERCENT: u64 = 10;
/// Three of the smallest datagrams as the kernel charges them to a receive buffer (SKB_TRUESIZE of up to 448 bytes).
const SEVERAL_DATAGRAMS: u32 = 3 * 768;
/// Longest process name shown (TASK_COMM_LEN is 16).
const MAX_COMM: usize = 16;
