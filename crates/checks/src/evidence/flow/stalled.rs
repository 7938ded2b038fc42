//! Connections in which something waits that should move, as their sockets tell at both ends of the window.
//!
//! Data or a SYN that nobody acknowledges, a window that stays closed, a request that lies unread in the socket of the
//! server. A connection that is at rest (a long poll, a pool) waits for nothing that the kernel knows of.

use super::talk::{Key, Stalled, Talk, Talks, Why, home, socket_at};
use crate::evidence::case::{Case, Space};
use crate::evidence::program;
use std::net::{IpAddr, SocketAddr};
use whydrop_model::snapshot::{Protocol, Socket, TcpInfo, Timer};

const TCP: u8 = 6;
/// What waits for less than this waits for an ordinary answer: the first repetition of a SYN comes after as long (RFC
/// 6298, 2.1), and a round trip on the Internet takes a third of it.
const SHORT_MS: u32 = 1000;
/// A socket whose program closed it: nobody waits for what is still under way.
const ORPHANS: [&str; 4] = ["fin_wait1", "fin_wait2", "closing", "last_ack"];

/// Adds what waits, and what the open connections sent.
pub fn add<'a>(case: Case<'a>, talks: &mut Talks<'a>) {
    for space in case.spaces() {
        let connections = space.after.sockets.iter().filter(|s| s.protocol == Protocol::Tcp);
        for (socket, tcp) in connections.filter_map(|s| Some((s, s.tcp.as_ref()?))) {
            let (local, remote) = (plain(socket.local), plain(socket.remote));
            let is_asked = listens(space, local);
            let key = match is_asked {
                true => Key::into(space, TCP, remote.ip(), local),
                false => Key::out(space, TCP, local.ip(), remote),
            };
            if socket.state == "syn_sent" {
                let talk = talks.at(key);
                talk.opening += 1;
                talk.owned_by(Some(socket));
            }
            if let Some(stalled) = stalled(space, socket, tcp)
                && !(is_asked && is_gone(space, socket))
            {
                let talk = talks.at(key);
                talk.stall(Some(stalled));
                talk.owned_by(Some(socket).filter(|_| !is_asked));
            }
            if talks.knows(key) {
                count_open(space, socket, tcp, talks.at(key));
            }
            if let Some(stalled) = unread(space, socket, tcp).filter(|_| is_asked) {
                let asks = home(case, space, remote.ip());
                let asker = asks.and_then(|asks| socket_at(asks, Protocol::Tcp, remote.port()));
                // What it asked for may be translated to this address on the way.
                let asked = asker.map_or(local, |socket| plain(socket.remote));
                let key = asks.map_or(key, |asks| Key::out(asks, TCP, remote.ip(), asked));
                let talk = talks.at(key);
                talk.stall(Some(stalled));
                talk.owned_by(asker);
            }
        }
    }
}

/// The IPv4 address of a socket that speaks both families.
fn plain(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}

/// True if connections to this address are accepted here.
fn listens(space: Space<'_>, local: SocketAddr) -> bool {
    let takes = |bound: IpAddr| bound.is_unspecified() || bound.to_canonical() == local.ip();
    let open = |s: &Socket| s.state == "listen" && s.local.port() == local.port() && takes(s.local.ip());
    space.after.sockets.iter().any(open) || space.before.sockets.iter().any(open)
}

/// How long nothing moved in a connection that has something to send, if that is long.
fn stalled(space: Space<'_>, socket: &Socket, tcp: &TcpInfo) -> Option<Stalled> {
    if ORPHANS.contains(&socket.state.as_str()) {
        return None;
    }
    let before = program::before(space, socket).filter(|old| old.state == socket.state);
    let window_ms = u32::try_from(space.case.observation.window_ns / 1_000_000).unwrap_or(u32::MAX);
    let found = |ms: u32, why| {
        let seconds = f64::from(ms) / 1000.0;
        (ms >= SHORT_MS).then_some(Stalled { seconds, why })
    };
    if socket.state == "syn_sent" {
        // No time-out is shorter than the first: the first few are as long (net.ipv4.tcp_syn_linear_timeouts, 6.5).
        let repeated = SHORT_MS * u32::from(tcp.retransmits);
        return found(repeated.max(if before.is_some() { window_ms } else { 0 }), Why::Unacknowledged);
    }
    let waits = |tcp: &TcpInfo| tcp.unacked > 0 || tcp.notsent_bytes.is_some_and(|bytes| bytes > 0);
    let before = before.and_then(|old| old.tcp.as_ref());
    let moved = before.is_some_and(|old| old.bytes_acked != tcp.bytes_acked);
    if !waits(tcp) || moved {
        return None;
    }
    let shut = |tcp: &TcpInfo| tcp.timer == Timer::ZeroWindowProbe && tcp.snd_wnd == Some(0);
    let stood = before.filter(|old| waits(old)).is_some();
    if shut(tcp) {
        return found(if before.is_some_and(shut) { window_ms } else { 0 }, Why::Window);
    }
    let repeats = tcp.retransmits > 0 || tcp.backoff > 0 || tcp.probes > 0;
    // Without a repetition the time of the last acknowledgement tells only how long the connection was at rest before.
    let since =
        if repeats || stood { tcp.last_ack_recv_ms.max(if stood { window_ms } else { 0 }) } else { 0 };
    let since =
        if repeats && !stood { since.min(tcp.last_data_sent_ms.max(repeated_for(tcp))) } else { since };
    found(since, Why::Unacknowledged)
}

/// Milliseconds for which the outstanding segment was repeated, by the time-out that has doubled as often.
fn repeated_for(tcp: &TcpInfo) -> u32 {
    let first = tcp.rto_us.checked_shr(u32::from(tcp.backoff)).unwrap_or(0) / 1000;
    first.saturating_mul((1u32 << tcp.backoff.min(16)).saturating_sub(1))
}

/// True if the far end of a connection that was accepted here has gone away: it is out of sight, and others are served by
/// the same port.
fn is_gone(space: Space<'_>, socket: &Socket) -> bool {
    let moves = |other: &Socket| {
        other.protocol == Protocol::Tcp
            && other.local.port() == socket.local.port()
            && other.remote.ip() != socket.remote.ip()
            && other.tcp.as_ref().is_some_and(|tcp| tcp.last_ack_recv_ms < SHORT_MS && tcp.retransmits == 0)
    };
    let told = || {
        let talks = space.case.observation.flows.get().into_iter().flat_map(|log| &log.conversations);
        let mut here = talks.filter(|talk| talk.netns_inode == space.inode());
        here.any(|talk| talk.local.port() == socket.local.port() && talk.established > 0)
    };
    home(space.case, space, socket.remote.ip().to_canonical()).is_none()
        && (space.after.sockets.iter().any(moves) || told())
}

/// How long data has lain unread in the socket of a server, if that is long. Of a connection that was never accepted the
/// listener's queue tells whether anybody accepts.
fn unread(space: Space<'_>, socket: &Socket, tcp: &TcpInfo) -> Option<Stalled> {
    let since = tcp.last_data_recv_ms;
    let stood = |socket: &Socket| {
        let old = program::before(space, socket);
        old.is_some_and(|old| (1..=socket.receive_queue).contains(&old.receive_queue))
    };
    let waits = match (socket.inode, socket.state.as_str()) {
        (0, _) => space.after.sockets.iter().any(|listener| {
            listener.state == "listen" && listener.local.port() == socket.local.port() && stood(listener)
        }),
        (_, "established") => is_untouched(socket, tcp) || stood(socket),
        // A client that closed after it had been answered waits for nothing more; one that was never read gave up.
        (_, "close_wait") => is_untouched(socket, tcp) && u64::from(since) * 1_000_000 < window_ns(space),
        _ => false,
    };
    let waits = waits && socket.receive_queue > 0 && since >= SHORT_MS;
    waits.then(|| Stalled { seconds: f64::from(since) / 1000.0, why: Why::Unread })
}

fn window_ns(space: Space<'_>) -> u64 {
    space.case.observation.window_ns
}

/// True if nothing of what came on a connection was ever read. A FIN counts as a byte of the queue.
fn is_untouched(socket: &Socket, tcp: &TcpInfo) -> bool {
    tcp.bytes_received.is_some_and(|bytes| (1..=u64::from(socket.receive_queue)).contains(&bytes))
}

/// Adds what a connection sent and received in the window.
fn count_open(space: Space<'_>, socket: &Socket, tcp: &TcpInfo, talk: &mut Talk<'_>) {
    let old = program::before(space, socket).and_then(|old| old.tcp.as_ref());
    let rise = |of: fn(&TcpInfo) -> u64| of(tcp).saturating_sub(old.map_or(0, of));
    talk.arrived.0 += rise(|tcp| tcp.rcv_ooopack.unwrap_or(0).into());
    talk.arrived.1 += rise(|tcp| tcp.data_segs_in.unwrap_or(0).into());
    let open = &mut talk.open;
    open.data_segments += rise(|tcp| tcp.data_segs_out.unwrap_or(0).into());
    open.needless += rise(|tcp| tcp.dsack_dups.unwrap_or(0).into());
    open.repeated += rise(|tcp| tcp.total_retrans.into());
}
