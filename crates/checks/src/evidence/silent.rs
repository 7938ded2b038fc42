//! Programs that take what clients ask and give nobody an answer: no queue stands, and nothing is refused.
//!
//! Such a service looks like a long poll as long as one waits. What tells them apart is that no connection of the port
//! that ended in the window had got a single byte, and that of those still open none has.

use super::case::Space;
use super::flow::Flow;
use super::program::{Program, Waiting, is_listener, program};
use super::stall::{Stall, Stalled, held};
use whydrop_model::flow::{Conversation, FlowDirection};
use whydrop_model::snapshot::{Process, Protocol, Socket, TcpInfo};

const TCP: u8 = 6;
/// So many connections that were cut before they got an answer are no accident.
const SEVERAL: u64 = 3;
/// Who answers one connection of so many, with a single segment, turns the most away.
const MOSTLY: u64 = 2;
/// So many connections that a program holds, and of which it has read all, are a crowd: no client opens as many for itself.
const CROWD: usize = 8;
/// A request that was read waits for longer than that before anybody says that it waits.
const LONG_MS: u32 = 1000;
/// And where several gave up, longer than a program needs that was asked just now.
const SOON_MS: u32 = 200;
/// Where others are turned away, so few that it holds say that it holds all it may.
const FEW: usize = 3;
/// Descriptors that a connection and what it needs for its answer (a file, a backend) may take.
const FOR_AN_ANSWER: u64 = 3;
/// So many that wait are looked at for what their other ends do.
const LOOKED_AT: usize = 8;
/// One that waits, and one that gave up.
const ASKED: u64 = 2;
/// Ports of protocols in which the client speaks first and each request wants an answer: HTTP, HTTPS and their usual
/// substitutes, a proxy, PostgreSQL, Redis, Elasticsearch, memcached. Of others only who sends knows whether it wants one.
const ANSWERED: [u16; 14] =
    [80, 443, 3000, 3128, 5000, 5432, 6379, 8000, 8008, 8080, 8081, 8443, 9200, 11211];

/// What a program that holds a listener does to its clients, if it leaves all of them without an answer.
pub fn silent<'a>(space: Space<'a>, program: Program<'a>) -> Option<Stalled<'a>> {
    let pid = program.process.pid;
    let own = |s: &&Socket| is_listener(s) && s.owners.iter().any(|owner| owner.pid == pid);
    space.after.sockets.iter().filter(own).find_map(|listener| {
        let told: Vec<&Conversation> = arrivals(space, listener.local.port()).collect();
        let sum = |of: fn(&Conversation) -> u64| told.iter().map(|talk| of(talk)).sum::<u64>();
        let answers = sum(|talk| talk.closed.data_segments);
        let turned = sum(|talk| talk.closed.unanswered) >= SEVERAL;
        let mostly = sum(|talk| talk.closed.connections) >= SEVERAL.max(MOSTLY * answers);
        let cut = mostly && (turned || told.iter().any(|talk| talk.reset_sent >= SEVERAL));
        let crowd = if turned { FEW } else { CROWD };
        let (socket, why) = match cut && held(space, listener, &program) >= crowd {
            // It accepts, and can open nothing to answer with.
            _ if turned && has_no_descriptor(&program) => (listener, Stall::NoDescriptors),
            true => (listener, Stall::SlowClients),
            // One answer, and it is a matter of single clients.
            false if answers > 0 => return None,
            false => {
                let asked = || probed(space, listener, pid, &told);
                (ignored(space, listener, pid, &told).or_else(asked)?, Stall::Mute)
            }
        };
        let before = super::program::before(space, socket);
        let waiting = Waiting { socket, before, owners: vec![program], pending: None };
        Some(Stalled { waiting, program, why })
    })
}

/// True if a program that listens at this port takes connections, and can do nothing more for some of them.
pub fn turns_away(space: Space<'_>, port: u16) -> bool {
    let listeners = space.after.sockets.iter().filter(|s| is_listener(s) && s.local.port() == port);
    let mut programs = listeners.flat_map(|s| &s.owners).filter_map(|owner| program(space, owner.pid));
    programs.any(|program| {
        let why = silent(space, program).map(|stalled| stalled.why);
        matches!(why, Some(Stall::NoDescriptors | Stall::SlowClients))
    })
}

/// True if the program had, at an end of the window, fewer descriptors left than an answer takes.
fn has_no_descriptor(program: &Program<'_>) -> bool {
    let few = |process: &Process| {
        process.descriptors.get().is_some_and(|d| d.limit.is_some_and(|max| d.open + FOR_AN_ANSWER >= max))
    };
    few(program.process) || program.before.is_some_and(few)
}

/// True if a connection waits here for the answer to a request that was read long ago. Whether others get theirs only
/// the account of conversations tells.
pub fn is_asked_in_vain(space: Space<'_>) -> bool {
    let listens = |port: u16| space.after.sockets.iter().any(|s| is_listener(s) && s.local.port() == port);
    let mute = |s: &Socket| s.tcp.as_ref().is_some_and(|tcp| tcp.bytes_sent == Some(0));
    let waits = |s: &Socket| {
        s.protocol == Protocol::Tcp && ANSWERED.contains(&s.local.port()) && mute(s) && has_read(s, SOON_MS)
    };
    space.after.sockets.iter().any(|s| waits(s) && listens(s.local.port()))
}

/// True for an open connection whose request was read so long ago.
fn has_read(socket: &Socket, long_ms: u32) -> bool {
    (socket.state.as_str(), socket.receive_queue) == ("established", 0)
        && socket.tcp.as_ref().is_some_and(|tcp| {
            tcp.bytes_received.is_some_and(|bytes| bytes > 0) && tcp.last_data_recv_ms >= long_ms
        })
}

fn arrivals(space: Space<'_>, port: u16) -> impl Iterator<Item = &Conversation> {
    let all = space.case.observation.flows.get().into_iter().flat_map(|log| &log.conversations);
    all.filter(move |talk| {
        (talk.netns_inode, talk.protocol, talk.direction) == (space.inode(), TCP, FlowDirection::In)
            && talk.local.port() == port
    })
}

/// True if the other end, where it is in view, has not got rid of what it asks: it waits for the path, not for an answer.
fn is_still_asking(space: Space<'_>, socket: &Socket) -> bool {
    let ends = (Protocol::Tcp, socket.remote, socket.local);
    let sends = |s: &Socket| (s.protocol, s.local, s.remote) == ends && s.send_queue > 0;
    space.case.owners(socket.remote.ip()).any(|there| there.after.sockets.iter().any(sends))
}

/// Requests of our own to this port that came as far as a connection and got no answer.
pub fn swallowed(space: Space<'_>, port: u16) -> u64 {
    let asks = |flow: &&Flow<'_>| {
        let connected = flow.probe().and_then(|probe| probe.http.as_ref()).is_some();
        let there = flow.destination(space.case).is_some_and(|there| there.same(space));
        connected && there && flow.arrival().is_some_and(|packet| packet.destination_port == Some(port))
    };
    space.case.flows.iter().filter(asks).map(|flow| flow.trouble.unanswered).sum()
}

/// What took the request of a probe that waited for its answer in vain: who asks so wants one, and one is enough. The
/// connection, if the program holds it still, or else its listener.
fn probed<'a>(
    space: Space<'a>,
    listener: &'a Socket,
    pid: u32,
    told: &[&Conversation],
) -> Option<&'a Socket> {
    let port = listener.local.port();
    // What is not accepted waits in the listener.
    if listener.receive_queue > 0 || swallowed(space, port) == 0 {
        return None;
    }
    let open: Vec<&Socket> = connections(space, port, pid).collect();
    let tcp = |s: &Socket, has: fn(&TcpInfo) -> bool| s.tcp.as_ref().is_some_and(has);
    if !open.iter().all(|s| tcp(s, |tcp| tcp.bytes_sent == Some(0))) {
        return None;
    }
    // The FIN of who gave up counts as a byte.
    let read = |s: &&Socket| s.receive_queue <= 1 && tcp(s, |tcp| tcp.bytes_received.is_some_and(|n| n > 1));
    let ended = told.iter().any(|talk| talk.closed.connections > 0);
    open.into_iter().find(read).or_else(|| ended.then_some(listener))
}

/// The connections of a program at a port.
fn connections<'a>(space: Space<'a>, port: u16, pid: u32) -> impl Iterator<Item = &'a Socket> {
    space.after.sockets.iter().filter(move |s| {
        s.protocol == Protocol::Tcp
            && s.local.port() == port
            && !is_listener(s)
            && s.owners.iter().any(|owner| owner.pid == pid)
    })
}

/// A connection whose request was read long ago, while others gave up and nobody got a byte.
fn ignored<'a>(space: Space<'a>, listener: &Socket, pid: u32, told: &[&Conversation]) -> Option<&'a Socket> {
    let port = listener.local.port();
    let open: Vec<&Socket> = connections(space, port, pid).collect();
    let given_up = open.iter().filter(|s| s.state == "close_wait").count() as u64;
    let ended = given_up + told.iter().map(|talk| talk.closed.connections).sum::<u64>();
    let answered = |s: &&Socket| s.tcp.as_ref().is_none_or(|tcp| tcp.bytes_sent != Some(0));
    let long_ms = if ended >= SEVERAL { SOON_MS } else { LONG_MS };
    let asks = |s: &&&Socket| has_read(s, long_ms);
    let long = open.iter().filter(asks).take(LOOKED_AT).find(|s| !is_still_asking(space, s)).copied();
    let enough = ended > 0 && ended + open.len() as u64 >= ASKED;
    long.filter(|_| ANSWERED.contains(&port) && enough && !open.iter().any(answered))
}
