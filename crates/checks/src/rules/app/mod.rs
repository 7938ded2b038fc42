//! Programs that do not have the port open where it was probed.

pub mod bound_loopback;
pub mod bound_wrong_device;
pub mod not_listening;
pub mod reply_source_mismatch;
#[cfg(test)]
mod tests;

use crate::case::Space;
use crate::rule::{Judgement, Suspect, manual};
use crate::rules::tcp::name;
use crate::way::Way;
use std::net::IpAddr;
use whydrop_model::snapshot::{Protocol, Socket};
use whydrop_model::{Cause, Direction, Text};

/// Why a port refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing has it open.
    Nothing,
    /// Open on loopback only.
    Loopback,
    /// Open on another address or device only.
    Elsewhere,
}

/// A probed port of this namespace that refused, although nothing but its sockets can have refused it.
struct Refusal {
    kind: Kind,
    protocol: &'static str,
    port: u16,
    address: IpAddr,
    /// The listener that does not serve the address; empty if there is none.
    listener: String,
    probes: Vec<usize>,
}

impl Refusal {
    fn subject(&self) -> String {
        format!("{} port {}", self.protocol, self.port)
    }
}

/// Judges the refusals of one kind. The texts say what happens, what was seen and what to do; they may name `port`,
/// `address` and `listener`.
fn judge_kind(space: Space<'_>, cause: &'static Cause, kind: Kind, texts: [Text; 3]) -> Judgement {
    let [summary, seen, advice] = texts;
    let suspects = refusals(space).into_iter().filter(|refusal| refusal.kind == kind).map(|refusal| {
        let words: [(&str, &dyn std::fmt::Display); 3] =
            [("port", &refusal.port), ("address", &refusal.address), ("listener", &refusal.listener)];
        let option = if refusal.protocol == "tcp" { "-lntp" } else { "-lunp" };
        let mut start = manual(advice);
        start.title = advice.fill(&words);
        Suspect::new(space, cause, "socket.lookup", refusal.subject(), summary.fill(&words))
            .direction(Direction::Receive)
            .evidence(seen.fill(&words), "sockets", &["ss", option])
            .touches(refusal.probes)
            .fix(start)
    });
    suspects.collect::<Vec<_>>().into()
}

/// The probed ports of this namespace that refused.
fn refusals(space: Space<'_>) -> Vec<Refusal> {
    let mut out: Vec<Refusal> = vec![];
    if !space.after.sockets.is_present() {
        return out;
    }
    let here = |way: &&Way<'_>| way.refused() && way.destination(space.case).is_some_and(|d| d.same(space));
    for way in space.case.ways.iter().filter(here) {
        let (Some(port), Some(address)) = (way.port, way.probe.address) else { continue };
        let protocol = if way.protocol == 17 { Protocol::Udp } else { Protocol::Tcp };
        let word = if way.protocol == 17 { "udp" } else { "tcp" };
        if let Some(known) = out.iter_mut().find(|r| (r.protocol, r.port, r.address) == (word, port, address))
        {
            known.probes.push(way.index);
            continue;
        }
        let listeners: Vec<&Socket> = space.listeners(protocol, port).collect();
        if listeners.iter().any(|s| serves(space, s, address)) {
            continue;
        }
        let kind = match listeners.as_slice() {
            [] => Kind::Nothing,
            all if all.iter().all(|s| s.local.ip().is_loopback()) => Kind::Loopback,
            _ => Kind::Elsewhere,
        };
        let listener = listeners.first().map(|s| name(s)).unwrap_or_default();
        out.push(Refusal { kind, protocol: word, port, address, listener, probes: vec![way.index] });
    }
    out
}

/// True if the socket takes what is sent to this address.
fn serves(space: Space<'_>, socket: &Socket, address: IpAddr) -> bool {
    let bound = match socket.local.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.is_ipv4(),
        IpAddr::V6(ip) if ip.is_unspecified() => address.is_ipv6() || socket.v6only != Some(true),
        ip => ip.to_canonical() == address.to_canonical(),
    };
    bound && (socket.link == 0 || space.links_with(address).any(|l| l.index == socket.link))
}
