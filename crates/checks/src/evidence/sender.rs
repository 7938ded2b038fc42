//! What the socket of a conversation gives its packets: mark, user, type of service.

use super::case::Space;
use super::route::{Lookup, Selector, lookup, lookup_as};
use super::way::Sender;
use std::net::SocketAddr;
use whydrop_model::DropEvent;
use whydrop_model::flow::Conversation;
use whydrop_model::snapshot::{PolicyRule, Protocol, Socket};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What is known of the sockets of a conversation that was begun here: of several, of one that waits for an answer.
pub fn of(space: Space<'_>, talk: &Conversation) -> Sender {
    let from = |s: &Socket| {
        let local = s.local.ip().to_canonical();
        talk.local.ip().is_unspecified() || local.is_unspecified() || local == talk.local.ip()
    };
    let mine = |s: &&Socket| {
        Some(s.protocol) == protocol(talk.protocol) && talk.uid.is_none_or(|uid| uid == s.uid) && from(s)
    };
    let to = |s: &&Socket| plain(s.remote) == talk.remote;
    // Who could not even connect holds a socket without other end.
    let pid = talk.owner.as_ref().and_then(|owner| owner.pid);
    let unconnected = |s: &&Socket| {
        s.remote.port() == 0
            && s.state != "listen"
            && pid.is_some_and(|pid| s.owners.iter().any(|owner| owner.pid == pid))
    };
    let sockets = || space.after.sockets.iter().chain(space.before.sockets.iter()).filter(mine);
    let socket =
        sockets().filter(to).min_by_key(|s| s.state != "syn_sent").or_else(|| sockets().find(unconnected));
    match socket {
        Some(socket) => sends(socket),
        None => {
            // Of a socket that is gone nothing else is known.
            let known = refused(space, talk).unwrap_or(Sender { mark: None, uid: None, tos: None });
            Sender { uid: talk.uid.or(known.uid), ..known }
        }
    }
}

/// The same of the socket that sent a packet.
pub fn of_event(space: Space<'_>, event: &DropEvent) -> Sender {
    let (Some(source), Some(destination)) = (event.source, event.destination) else {
        return Sender::default();
    };
    let protocol = event.protocol.and_then(protocol);
    let mut sockets = space.after.sockets.iter().chain(space.before.sockets.iter());
    let sent = |s: &&Socket| {
        Some(s.protocol) == protocol
            && s.local.port() == source.port()
            && (s.remote.port() == 0 || plain(s.remote) == destination)
    };
    sockets.find(sent).map_or_else(Sender::default, sends)
}

fn sends(socket: &Socket) -> Sender {
    Sender { mark: socket.mark, uid: Some(socket.uid), tos: socket.tos }
}

fn protocol(number: u8) -> Option<Protocol> {
    match number {
        TCP => Some(Protocol::Tcp),
        UDP => Some(Protocol::Udp),
        _ => None,
    }
}

/// The IPv4 address of a socket that speaks both families.
fn plain(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}

/// A socket that is gone, whose calls failed as the routes refuse nobody but whom one policy rule asks for: it was one of
/// those.
fn refused(space: Space<'_>, talk: &Conversation) -> Option<Sender> {
    let to = talk.remote.ip();
    let refuses = |sender: Sender| {
        let said = lookup_as(space, to, None, None, sender.asks());
        error(said).is_some_and(|error| talk.errors.contains_key(error))
    };
    let plain = lookup(space, to, None);
    if talk.unsent == 0 || !matches!(plain, Lookup::Via(..)) {
        return None;
    }
    let mut asked = space.after.policy_rules.iter().filter_map(asked_by).filter(|sender| refuses(*sender));
    asked.next().filter(|_| asked.next().is_none())
}

impl Sender {
    /// What policy rules ask of it.
    fn asks(self) -> Selector {
        Selector { mark: self.mark, uid: self.uid, tos: self.tos, ..Selector::default() }
    }
}

/// Whom a policy rule asks for by mark or user.
fn asked_by(rule: &PolicyRule) -> Option<Sender> {
    let uid = rule.conditions.iter().find_map(|condition| {
        let range = condition.strip_prefix("uidrange ")?;
        range.split('-').next()?.parse().ok()
    });
    let mark = rule.fwmark.map(|(value, mask)| value & mask);
    (uid.is_some() || mark.is_some()).then_some(Sender { mark, uid, tos: None })
}

/// What a call fails with that the routes answer so (`fib_props` in net/ipv4/fib_semantics.c, `fib4_rule_action()`).
fn error(said: Lookup<'_>) -> Option<&'static str> {
    match said {
        Lookup::Refused(route) => match route.kind.as_str() {
            "blackhole" => Some("EINVAL"),
            "prohibit" => Some("EACCES"),
            _ => Some("EHOSTUNREACH"),
        },
        Lookup::RefusedByRule(rule) => match rule.action.as_str() {
            "blackhole" => Some("EINVAL"),
            "prohibit" => Some("EACCES"),
            _ => Some("ENETUNREACH"),
        },
        Lookup::Missing => Some("ENETUNREACH"),
        Lookup::Local | Lookup::Via(..) | Lookup::Unknown => None,
    }
}
