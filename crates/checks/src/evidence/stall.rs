//! Why nobody takes what waits in a socket: one answer for each socket, so that what looks alike is told apart once.
//!
//! The states, wait channels, limits and cgroups of all processes that hold the socket are looked at: any of them might
//! take what waits.

use super::case::Space;
use super::flow;
use super::program::{Program, Waiting, is_listener, waiting};
use super::silent::silent;
use whydrop_model::snapshot::{Cgroup, Process, ProcessState, Protocol, Socket};

/// A reason, the surer ones first.
#[derive(Clone, Copy, Debug)]
pub enum Stall<'a> {
    /// Its cgroup is frozen.
    Frozen(&'a Cgroup),
    /// The other sockets of its SO_REUSEPORT group are served.
    Member,
    /// It is stopped by a signal or a debugger.
    Stopped,
    /// It waits for memory of its cgroup.
    Memory(Option<&'a Cgroup>),
    /// The processor quota of its cgroup holds it back.
    Throttled(&'a Cgroup),
    /// It has as many descriptors open as it may.
    NoDescriptors,
    /// It waits for a storage.
    Storage,
    /// It waits for something else and cannot be interrupted.
    Stuck,
    /// It waits for what clients never send.
    SlowClients,
    /// It reads what clients ask, and answers none of them.
    Mute,
    /// It runs all the time, and accepts nothing.
    Busy,
    /// It takes nothing, and nothing else is known.
    Rested,
}

/// A socket that nobody serves, and why.
#[derive(Clone, Debug)]
pub struct Stalled<'a> {
    /// The socket.
    pub waiting: Waiting<'a>,
    /// The process that tells why.
    pub program: Program<'a>,
    /// Why.
    pub why: Stall<'a>,
}

const STOPPED: &[ProcessState] = &[ProcessState::Stopped, ProcessState::Traced];
const STUCK: &[ProcessState] = &[ProcessState::DiskSleep];
const RUNNING: &[ProcessState] = &[ProcessState::Running];

/// Where a process waits for its cgroup's memory (mm/memcontrol.c, mm/memcontrol-v1.c).
const FOR_MEMORY: &[&str] = &["mem_cgroup", "memcg", "__mem_cgroup"];
/// Where a process waits for a disk, a file system that is frozen or far away, or a program that plays one (fuse).
const FOR_STORAGE: &[&str] = &[
    "io_schedule",
    "folio_wait",
    "wait_on_page",
    "bit_wait",
    "wait_on_bit",
    "blk_",
    "blkdev_",
    "submit_bio",
    "rq_qos",
    "wbt_",
    "balance_dirty",
    "wb_wait",
    "writeback",
    "jbd2_",
    "start_this_handle",
    "ext4_",
    "xfs_",
    "xlog_",
    "btrfs_",
    "ovl_",
    "nfs",
    "rpc_",
    "fuse_",
    "__fuse_",
    "request_wait_answer",
    "percpu_rwsem_wait",
    "__percpu_",
    "sb_start",
    "super_lock",
    "do_fsync",
    "d_alloc_parallel",
    "lookup_slow",
    "inode_",
    "__wait_on_freeing",
];
/// Where a process waits for bytes of a connection.
const FOR_PEERS: &[&str] = &[
    "wait_woken",
    "sk_wait",
    "tcp_",
    "inet_",
    "ep_poll",
    "do_epoll",
    "do_poll",
    "do_sys_poll",
    "do_select",
    "core_sys_select",
    "poll_schedule",
    "unix_",
    "io_cqring",
];
/// Where a thread waits for another one.
const FOR_THREADS: &[&str] = &["futex", "do_futex"];

/// The port of mDNS: whoever listens there hears everybody's talk.
const CHATTER: u16 = 5353;
/// More unread bytes than this are no request.
const REQUEST: u32 = 16 * 1024;
/// A listener that runs over with a shorter backlog than this has too short a backlog.
const SHORT_BACKLOG: u32 = 64;
/// And one as short as this, whatever the program waits for.
const TINY_BACKLOG: u32 = 2;
/// Connections that found an accept queue full.
const OVERFLOWS: &str = "TcpExt.ListenOverflows";
/// A process that ran for so many ticks of 10 ms had the time to accept.
const TICKS: u64 = 20;

impl Stall<'_> {
    fn rank(self) -> u8 {
        match self {
            Self::Frozen(_) => 0,
            Self::Member => 1,
            Self::Stopped => 2,
            Self::Memory(_) => 3,
            Self::Throttled(_) => 4,
            Self::NoDescriptors => 5,
            Self::Storage => 6,
            Self::Stuck => 7,
            Self::SlowClients => 8,
            Self::Mute => 9,
            Self::Busy => 10,
            Self::Rested => 11,
        }
    }
}

/// The sockets of a namespace that nobody serves.
pub fn stalled(space: Space<'_>) -> Vec<Stalled<'_>> {
    let mut out: Vec<Stalled<'_>> = waiting(space).filter_map(|waiting| judge(space, waiting)).collect();
    for program in holders(space) {
        let known = out.iter().any(|stalled| stalled.program.process.pid == program.process.pid);
        let silent = || unanswered(space, program).or_else(|| silent(space, program));
        out.extend(Some(known).filter(|known| !known).and_then(|_| silent()));
    }
    out
}

/// The processes of a namespace that hold sockets, and did so at the start of the window.
fn holders<'a>(space: Space<'a>) -> impl Iterator<Item = Program<'a>> {
    let all = space.after.processes.get().map(|all| all.list.as_slice()).unwrap_or(&[]);
    all.iter().filter_map(move |process| super::program::program(space, process.pid))
}

/// A connection whose request was read by a program that then waits for a storage: nobody at that port gets an answer.
fn unanswered<'a>(space: Space<'a>, program: Program<'a>) -> Option<Stalled<'a>> {
    let works = program.waited_in(|function| FOR_STORAGE.iter().any(|kind| function.starts_with(kind)));
    let has_stuck = |process: &Process| process.thread_states.contains_key(&ProcessState::DiskSleep);
    if !works || !has_stuck(program.process) || !program.before.is_some_and(has_stuck) {
        return None;
    }
    let pid = program.process.pid;
    let own = |s: &&Socket| is_listener(s) && s.owners.iter().any(|owner| owner.pid == pid);
    space.after.sockets.iter().filter(own).find_map(|listener| {
        let port = listener.local.port();
        let sent = |s: &Socket| s.tcp.as_ref().map_or(0, |tcp| tcp.bytes_sent.unwrap_or(0));
        let silent = accepted(space, port, &program).all(|(now, old)| sent(now) == sent(old))
            && newer(space, port, &program).all(|now| sent(now) == 0);
        let asked = |now: &Socket| {
            let tcp = now.tcp.as_ref();
            now.state == "established"
                // Of one that never sent, both times may be those of its birth.
                && tcp.is_some_and(|tcp| sent(now) == 0 || tcp.last_data_recv_ms < tcp.last_data_sent_ms)
                && tcp.is_some_and(|tcp| tcp.bytes_received.is_some_and(|bytes| bytes > 0))
        };
        let (socket, before) = accepted(space, port, &program).find(|(now, _)| silent && asked(now))?;
        let waiting = Waiting { socket, before: Some(before), owners: vec![program], pending: None };
        Some(Stalled { waiting, program, why: Stall::Storage })
    })
}

fn judge<'a>(space: Space<'a>, waiting: Waiting<'a>) -> Option<Stalled<'a>> {
    let frozen = |program: &Program<'a>| program.frozen(space);
    let first = *waiting.owners.first()?;
    if let Some(cgroups) = waiting.owners.iter().map(frozen).collect::<Option<Vec<_>>>() {
        let why = Stall::Frozen(cgroups.first().copied()?);
        return Some(Stalled { waiting, program: first, why });
    }
    if is_left_out(space, &waiting) {
        let held = waiting.owners.iter().find(|program| program.stayed(STOPPED)).copied();
        return Some(Stalled { program: held.unwrap_or(first), waiting, why: Stall::Member });
    }
    // Any other process that holds the socket may still take what waits.
    let of = |program: &Program<'a>| Some((*program, why(space, &waiting, program)?));
    let reasons: Option<Vec<(Program<'a>, Stall<'a>)>> = waiting.owners.iter().map(of).collect();
    let (program, why) = reasons?.into_iter().min_by_key(|(_, why)| why.rank())?;
    // A queue that ran over because it is short has its own name, unless more is known of who should empty it.
    let short =
        || matches!(why, Stall::Rested) && waiting.owners.iter().any(|p| is_shallow(space, &waiting, p));
    (!short()).then_some(Stalled { program, why, waiting })
}

/// True for a listener that ran over and whose backlog is short for a program that has no reason to be slow.
fn is_shallow(space: Space<'_>, waiting: &Waiting<'_>, program: &Program<'_>) -> bool {
    let backlog = waiting.socket.send_queue;
    let for_threads =
        || program.waited_in(|function| FOR_THREADS.iter().any(|kind| function.starts_with(kind)));
    waiting.listens()
        && space.mib(OVERFLOWS) > 0
        && (backlog <= TINY_BACKLOG || backlog < SHORT_BACKLOG && !for_threads())
}

fn why<'a>(space: Space<'a>, waiting: &Waiting<'a>, program: &Program<'a>) -> Option<Stall<'a>> {
    let is = |kinds: &'static [&'static str]| {
        program.waited_in(|function| kinds.iter().any(|kind| function.starts_with(kind)))
    };
    let idle = waiting.untouched() || (waiting.stood() && program.rested());
    if program.stayed(STOPPED) {
        return Some(Stall::Stopped);
    }
    if is(FOR_MEMORY) && idle {
        return Some(Stall::Memory(full_of_memory(space, program)));
    }
    if let Some(cgroup) = program.throttled(space).filter(|_| waiting.untouched() || waiting.stood()) {
        return Some(Stall::Throttled(cgroup));
    }
    let full = program.process.descriptors.get().is_some_and(|d| d.limit.is_some_and(|max| d.open >= max));
    if full
        && (waiting.stood() || no_descriptor(space, program))
        && (waiting.listens() || is_short(space, program))
    {
        return Some(Stall::NoDescriptors);
    }
    if is(FOR_STORAGE) && idle {
        return Some(Stall::Storage);
    }
    if program.stayed(STUCK) && program.rested() && waiting.stood() {
        return Some(Stall::Stuck);
    }
    match waiting.listens() {
        true => of_listener(space, waiting, program, is),
        false => {
            let left = is_deaf(space, waiting, program)
                || (waiting.stood() && is_waited_for(space, waiting))
                || (is_served_by_datagrams(waiting.socket) && waiting.grew() && program.rested());
            left.then_some(Stall::Rested)
        }
    }
}

fn of_listener<'a>(
    space: Space<'a>,
    waiting: &Waiting<'a>,
    program: &Program<'a>,
    is: impl Fn(&'static [&'static str]) -> bool,
) -> Option<Stall<'a>> {
    let untouched = waiting.untouched();
    if !(untouched || waiting.stood() && program.rested()) {
        return None;
    }
    if is(FOR_PEERS) && held(space, waiting.socket, program) > 0 {
        return Some(Stall::SlowClients);
    }
    let ticks = program.before.map_or(0, |old| program.process.cpu_ticks.saturating_sub(old.cpu_ticks));
    if untouched && program.stayed(RUNNING) && ticks >= TICKS {
        return Some(Stall::Busy);
    }
    (untouched || program.rested()).then_some(Stall::Rested)
}

/// True if connections wait for a listener of the program: it may do without reading only because it cannot accept.
fn is_short(space: Space<'_>, program: &Program<'_>) -> bool {
    let pid = program.process.pid;
    let own = |s: &Socket| is_listener(s) && s.owners.iter().any(|owner| owner.pid == pid);
    space.after.sockets.iter().any(|s| own(s) && s.receive_queue > 0)
}

/// True if calls of the program failed for want of a descriptor; none are known if system calls were not traced.
fn no_descriptor(space: Space<'_>, program: &Program<'_>) -> bool {
    failed_for_descriptors(space, program) > 0
}

/// Calls of the program that failed for want of a descriptor; none are known if system calls were not traced.
pub fn failed_for_descriptors(space: Space<'_>, program: &Program<'_>) -> u64 {
    let log = space.case.observation.flows.get();
    let calls = log.and_then(|log| log.calls.get()).into_iter().flatten();
    let mine = calls.filter(|call| call.owner.pid == Some(program.process.pid) && call.error == "EMFILE");
    mine.map(|call| call.count).sum()
}

/// The cgroup of the program that has no memory left.
fn full_of_memory<'a>(space: Space<'a>, program: &Program<'a>) -> Option<&'a Cgroup> {
    let mine = space.after.processes.get()?.cgroups.iter().filter(|cgroup| cgroup.holds(program.process));
    let limited = mine.filter_map(|cgroup| Some((cgroup, cgroup.memory.get()?.max?)));
    limited.min_by_key(|(_, max)| *max).map(|(cgroup, _)| cgroup)
}

/// Connections at the port of a listener that the program accepted before the window, on which it has said nothing in
/// the window, and of which it has read all.
pub(super) fn held(space: Space<'_>, listener: &Socket, program: &Program<'_>) -> usize {
    accepted(space, listener.local.port(), program)
        .filter(|(now, old)| {
            let sent = |s: &Socket| s.tcp.as_ref().and_then(|tcp| tcp.bytes_sent.or(tcp.bytes_acked));
            now.receive_queue == 0 && now.state == "established" && sent(now) == sent(old)
        })
        .count()
}

/// Connections at a port that the program held at both ends of the window, as they were at its end and at its start.
fn accepted<'a>(
    space: Space<'a>,
    port: u16,
    program: &Program<'_>,
) -> impl Iterator<Item = (&'a Socket, &'a Socket)> {
    let pid = program.process.pid;
    let mine = move |s: &&Socket| {
        s.protocol == Protocol::Tcp
            && s.inode != 0
            && s.local.port() == port
            && !is_listener(s)
            && s.owners.iter().any(|owner| owner.pid == pid)
    };
    let before = move |now: &Socket| super::program::before(space, now);
    space.after.sockets.iter().filter(mine).filter_map(move |now| Some((now, before(now)?)))
}

/// True if the program reads nothing of any connection at this port, although requests wait, and does not merely wait
/// until somebody else takes what it has to say.
fn is_deaf(space: Space<'_>, waiting: &Waiting<'_>, program: &Program<'_>) -> bool {
    let port = waiting.socket.local.port();
    let serves = space.after.sockets.iter().any(|s| is_listener(s) && s.local.port() == port);
    let pid = program.process.pid;
    let pushes = space
        .after
        .sockets
        .iter()
        .any(|s| s.send_queue > 0 && !is_listener(s) && s.owners.iter().any(|owner| owner.pid == pid));
    let silent = |(now, old): (&Socket, &Socket)| {
        let moved = |s: &Socket| {
            let tcp = s.tcp.as_ref();
            (tcp.and_then(|tcp| tcp.bytes_sent), tcp.and_then(|tcp| tcp.bytes_received), s.receive_queue)
        };
        moved(now) == moved(old) || now.receive_queue > old.receive_queue
    };
    waiting.socket.protocol == Protocol::Tcp
        && waiting.untouched()
        && waiting.socket.receive_queue <= REQUEST
        && !is_farewell(waiting.socket)
        && serves
        && !pushes
        && accepted(space, port, program).all(silent)
        && newer(space, port, program).all(|s| s.receive_queue > 0)
}

/// True for a socket that takes datagrams from anybody: those of a group come to whoever listens, wanted or not.
pub fn is_served_by_datagrams(socket: &Socket) -> bool {
    let bound = socket.local.ip();
    socket.protocol == Protocol::Udp
        && socket.remote.port() == 0
        && !bound.is_multicast()
        && socket.local.port() != CHATTER
}

/// True if the client has closed a connection on which others of its bytes were read: what is left is how it said goodbye,
/// and a program that forgets to close need not read it. The FIN counts as a byte of the queue.
fn is_farewell(socket: &Socket) -> bool {
    let received = socket.tcp.as_ref().and_then(|tcp| tcp.bytes_received);
    socket.state == "close_wait" && received.is_some_and(|bytes| u64::from(socket.receive_queue) <= bytes)
}

/// True if a client of this connection is in trouble because nobody reads what it sent.
fn is_waited_for(space: Space<'_>, waiting: &Waiting<'_>) -> bool {
    let socket = waiting.socket;
    space.case.flows.iter().any(|flow| {
        let there = flow.destination(space.case).is_some_and(|there| there.same(space));
        let port = flow.arrival().and_then(|packet| packet.destination_port);
        flow.trouble.waits_for == Some(flow::Why::Unread) && there && port == Some(socket.local.port())
    })
}

/// Connections at a port that the program got in the window.
fn newer<'a>(space: Space<'a>, port: u16, program: &Program<'_>) -> impl Iterator<Item = &'a Socket> {
    let pid = program.process.pid;
    space.after.sockets.iter().filter(move |s| {
        s.protocol == Protocol::Tcp
            && s.local.port() == port
            && !is_listener(s)
            && s.owners.iter().any(|owner| owner.pid == pid)
            && super::program::before(space, s).is_none()
    })
}

/// True if the socket is one of several that share an address (SO_REUSEPORT), what waits in it stands, and another one
/// is served.
fn is_left_out(space: Space<'_>, waiting: &Waiting<'_>) -> bool {
    let socket = waiting.socket;
    let open = |s: &&Socket| {
        let takes = if socket.protocol == Protocol::Tcp { is_listener(s) } else { s.remote.port() == 0 };
        takes
            && (s.protocol, s.local, s.link) == (socket.protocol, socket.local, socket.link)
            && s.cookie != socket.cookie
    };
    let stands = match (socket.protocol, waiting.pending) {
        (Protocol::Tcp, Some(pending)) => {
            waiting.stood() && waiting.before.is_some_and(|old| pending.still >= old.receive_queue)
        }
        (Protocol::Udp, _) => {
            let dropped = |s: &Socket| s.drops.unwrap_or(0);
            let loses = waiting.before.is_some_and(|old| dropped(socket) > dropped(old));
            waiting.stood() && loses || is_served_by_datagrams(socket) && waiting.grew()
        }
        _ => false,
    };
    let served = |s: &Socket| {
        let old = super::program::before(space, s);
        s.receive_queue == 0 || old.is_some_and(|old| old.receive_queue > s.receive_queue)
    };
    stands && space.after.sockets.iter().filter(open).any(served)
}
