//! Attempts that fail inside of the call: nothing becomes a packet, no state changes, no counter moves.

use super::datagram;
use super::talk::{Key, Talks};
use crate::evidence::case::{Case, Space};
use crate::evidence::forbidden;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use whydrop_model::flow::FailedCall;
use whydrop_model::snapshot::Socket;

const UDP: u8 = 17;
/// What the look-up of a route says: blackhole, prohibit, none, unreachable (`fib_props` in net/ipv4/fib_semantics.c).
const BY_ROUTE: [&str; 4] = ["EINVAL", "EACCES", "ENETUNREACH", "EHOSTUNREACH"];

/// A datagram that may not be cut and is larger than the interface or the path takes, as far as that is known
/// (`ip_append_data`, `ip6_append_data`).
pub const TOO_BIG: &str = "EMSGSIZE";

/// Ports to which nobody sends: those of glibc and of musl where only addresses are sorted.
const SORTING: [u16; 2] = [0, 65535];

/// Adds the attempts of which only the failed call tells.
pub fn add<'a>(case: Case<'a>, talks: &mut Talks<'a>) {
    let log = case.observation.flows.get();
    // Where the tracer saw attempts end so, the same failures are counted among them.
    let seen: BTreeSet<_> = talks
        .list
        .iter()
        .flat_map(|talk| {
            let ends = (talk.told.netns_inode, talk.told.protocol, talk.told.remote);
            let refused = BY_ROUTE.into_iter().filter(|_| talk.told.unsent > 0).map(str::to_owned);
            refused.chain(talk.told.errors.keys().cloned()).map(move |error| (ends, error))
        })
        .collect();
    for call in log.and_then(|log| log.calls.get()).into_iter().flatten() {
        let (Some(protocol), Some(remote)) = (call.protocol, call.remote) else { continue };
        let Some(space) = case.space_by_inode(call.netns_inode) else { continue };
        // What a rule set dropped of the same was seen to die, and fails so, too.
        let known = talks.asking(space, protocol, remote);
        let dropped = known.is_some_and(|key| talks.at(key).datagrams.dropped > 0);
        let told = BY_ROUTE.contains(&call.error.as_str())
            || stays_too_big(space, call)
            || forbidden::by(space, call).is_some() && !dropped;
        if !told
            || seen.contains(&((call.netns_inode, protocol, remote), call.error.clone()))
            || sorts_addresses(call) && !is_meant(space, call, remote)
        {
            continue;
        }
        let any: IpAddr =
            if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        // The call does not tell its own address; a socket that waits does.
        let unknown = Key::out(space, protocol, any, remote);
        // Who gets through is somebody else: another user, or a socket with another mark.
        let key = known.filter(|key| talks.at(*key).told.established == 0).unwrap_or(unknown);
        let told = talks.at(key).told.to_mut();
        told.attempts += call.count;
        told.failed += call.count;
        told.unsent += call.count;
        *told.errors.entry(call.error.clone()).or_default() += call.count;
        told.owner.get_or_insert_with(|| call.owner.clone());
    }
}

/// True for a program that goes on sending what is too big. Who looks for the size that passes (QUIC, DNS) fails a few times
/// and then sends smaller ones; whose those are nobody tells, so that most of what the namespace sends must fail.
fn stays_too_big(space: Space<'_>, call: &FailedCall) -> bool {
    let sends = matches!(call.call.as_str(), "sendto" | "sendmsg");
    call.protocol == Some(UDP)
        && call.error == TOO_BIG
        && sends
        && call.count > datagram::datagrams_sent(space)
}

/// True if the host that was asked for is in view, and the program did not go on to an address of the other family: who
/// sorts addresses uses one of them.
fn is_meant(space: Space<'_>, call: &FailedCall, remote: SocketAddr) -> bool {
    let pid = call.owner.pid;
    let twin =
        |to: SocketAddr| to.port() == remote.port() && to.ip().to_canonical().is_ipv4() != remote.is_ipv4();
    let holds = |s: &Socket| s.owners.iter().any(|owner| Some(owner.pid) == pid) && twin(s.remote);
    let told = space.case.observation.flows.get().into_iter().flat_map(|log| &log.conversations);
    let mut told = told.filter(|talk| talk.netns_inode == space.inode() && twin(talk.remote));
    !SORTING.contains(&remote.port())
        && space.case.owners(remote.ip()).next().is_some()
        && !space.after.sockets.iter().chain(space.before.sockets.iter()).any(holds)
        && !told.any(|talk| talk.owner.as_ref().is_some_and(|owner| owner.comm == call.owner.comm))
}

/// True for a datagram socket that is only connected to see whether there is a route: getaddrinfo() sorts addresses so.
fn sorts_addresses(call: &FailedCall) -> bool {
    call.protocol == Some(UDP) && call.call == "connect" && call.error == "ENETUNREACH"
}
