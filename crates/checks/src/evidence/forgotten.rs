//! Living connections that a translator or a stateful filter on their way knows no more.

use super::case::Space;
use super::tracked;
use super::translate::Translators;
use super::way::{Ends, Way};
use std::net::SocketAddr;
use whydrop_model::snapshot::{Protocol, Socket};

/// IPPROTO_TCP.
const TCP: u8 = 6;
/// Without an acknowledgement for so long what is outstanding is stuck, whatever the round trip: RFC 6298's first
/// time-out, in milliseconds.
const STUCK_MS: u32 = 1000;
/// The kernel's default of `nf_conntrack_tcp_timeout_established`: five days, in seconds.
pub const DEFAULT_TIMEOUT_S: u32 = 432_000;
/// The setting.
pub const TIMEOUT: &str = "net.netfilter.nf_conntrack_tcp_timeout_established";
/// Connections that are told apart.
const MOST: usize = 64;

/// A connection that a namespace on its way has forgotten.
#[derive(Clone, Copy)]
pub struct Forgotten<'a> {
    /// The end that waits.
    pub home: Space<'a>,
    /// Its socket.
    pub socket: &'a Socket,
    /// True if the namespace would translate it.
    pub translated: bool,
    /// Seconds since it last heard of the other end.
    pub silent_s: u32,
}

impl Forgotten<'_> {
    /// Its ends, seen from the one that waits.
    pub fn ends(&self) -> (SocketAddr, SocketAddr) {
        (canonical(self.socket.local), canonical(self.socket.remote))
    }

    /// True if it was silent for longer than connection tracking keeps what is silent.
    pub fn was_idle(&self, timeout_s: u32) -> bool {
        self.silent_s >= timeout_s
    }
}

/// After how many silent seconds a namespace forgets an established TCP connection.
pub fn timeout_s(space: Space<'_>) -> u32 {
    let set = space.after.sysctls.get(TIMEOUT).and_then(|value| value.get());
    set.and_then(|value| value.parse().ok()).unwrap_or(DEFAULT_TIMEOUT_S)
}

/// Connections of programs in view that wait for an acknowledgement, pass this namespace, and have no entry here.
pub fn forgotten<'a>(space: Space<'a>) -> Vec<Forgotten<'a>> {
    let watches = space.after.chains().next().is_some() && tracked::is_complete(space);
    if !watches {
        return vec![];
    }
    let nat = Translators::of(space.case);
    let mut out = vec![];
    for home in space.case.spaces().filter(|home| !home.same(space)) {
        let sockets = home.after.sockets.iter().filter(|socket| is_stuck(socket));
        for socket in sockets.take(MOST) {
            let (local, remote) = (canonical(socket.local), canonical(socket.remote));
            let translated = is_translated(space, home, &nat, local, remote);
            let Some(translated) = translated.filter(|_| !is_known(space, local, remote)) else { continue };
            let silent_s = socket.tcp.as_ref().map_or(0, |tcp| tcp.last_ack_recv_ms / 1000);
            out.push(Forgotten { home, socket, translated, silent_s });
        }
    }
    out
}

/// An established connection with something outstanding that nobody acknowledges.
fn is_stuck(socket: &Socket) -> bool {
    let tcp =
        socket.tcp.as_ref().filter(|_| socket.protocol == Protocol::Tcp && socket.state == "established");
    tcp.is_some_and(|tcp| (tcp.unacked > 0 || tcp.retransmits > 0) && tcp.last_ack_recv_ms >= STUCK_MS)
}

/// True if this namespace translates what this socket sends; none if it does not pass here. What goes to an own address
/// for which there is no socket was translated once.
fn is_translated(
    space: Space<'_>,
    home: Space<'_>,
    nat: &Translators<'_>,
    local: SocketAddr,
    remote: SocketAddr,
) -> Option<bool> {
    if space.after.owns(remote.ip()) {
        let own = space.after.sockets.iter().any(|socket| {
            socket.local.port() == remote.port()
                && (socket.state == "listen" || canonical(socket.remote) == local)
        });
        let translates = space.after.chains().any(|chain| chain.nat && !chain.rules.is_empty());
        let listed = || is_turned(space, home, nat, local, remote);
        return (translates && space.after.sockets.is_present() && (!own || listed())).then_some(true);
    }
    let way = way(home, nat, local, remote);
    let hop = way.forward.hops.iter().find(|hop| hop.inode == space.inode() && !hop.bridged)?;
    Some((hop.early.source, hop.early.destination) != (hop.late.source, hop.late.destination))
}

fn is_turned(
    space: Space<'_>,
    home: Space<'_>,
    nat: &Translators<'_>,
    local: SocketAddr,
    remote: SocketAddr,
) -> bool {
    let way = way(home, nat, local, remote);
    let turns =
        |hop: &super::way::Hop| hop.inode == space.inode() && hop.early.destination != hop.routed.destination;
    way.forward.hops.iter().any(turns)
}

fn way(home: Space<'_>, nat: &Translators<'_>, local: SocketAddr, remote: SocketAddr) -> Way {
    let ends = Ends {
        protocol: TCP,
        source: (Some(local.ip()), Some(local.port())),
        destination: (remote.ip(), Some(remote.port())),
    };
    Way::of(0, nat, home, ends)
}

/// True if an entry that had an answer fits what this socket sends, from whichever end.
fn is_known(space: Space<'_>, local: SocketAddr, remote: SocketAddr) -> bool {
    let ends = (local, remote);
    tracked::entries(space).any(|entry| {
        let sides = [&entry.original, &entry.reply].map(|tuple| (tracked::from(tuple), tracked::to(tuple)));
        entry.original.protocol == TCP && entry.is("seen_reply") && sides.contains(&ends)
    })
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
