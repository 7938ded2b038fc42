//! Answers that a client in view threw away because its socket waits for another address of the same host: a connected UDP
//! socket takes datagrams of its peer only (net/ipv4/udp.c:compute_score).

use super::case::{Case, Space};
use std::net::SocketAddr;
use whydrop_model::DropEvent;
use whydrop_model::snapshot::Protocol;

const UDP: u8 = 17;

/// One such answer.
#[derive(Clone, Copy)]
pub struct Astray<'a> {
    /// Who asked.
    pub client: Space<'a>,
    /// From where.
    pub from: SocketAddr,
    /// Who answered.
    pub server: Space<'a>,
    /// Where the client asked.
    pub asked: SocketAddr,
    /// Where the answer came from.
    pub answered: SocketAddr,
}

/// The answer that a dropped packet was, if it was one of these.
pub fn of<'a>(case: Case<'a>, event: &DropEvent) -> Option<Astray<'a>> {
    if event.protocol != Some(UDP) || !died_for_want(event) {
        return None;
    }
    let (answered, to) = (event.source?, event.destination?);
    let client = case.space_by_inode(event.netns_inode?)?;
    let plain = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
    let sockets = client.after.sockets.iter().chain(client.before.sockets.iter());
    let waits = sockets.filter(|s| s.protocol == Protocol::Udp && s.remote.port() == answered.port());
    let wanted: Vec<SocketAddr> =
        waits.map(|s| plain(s.remote)).filter(|asked| asked.ip() != answered.ip()).collect();
    case.owners(answered.ip()).filter(|server| !server.same(client)).find_map(|server| {
        let asked = wanted.iter().copied().find(|asked| server.after.owns(asked.ip()))?;
        Some(Astray { client, from: to, server, asked, answered })
    })
}

/// True for a datagram for which there was no socket.
pub fn died_for_want(event: &DropEvent) -> bool {
    event.reason == "NO_SOCKET" || matches!(event.function.as_str(), "__udp4_lib_rcv" | "__udp6_lib_rcv")
}
