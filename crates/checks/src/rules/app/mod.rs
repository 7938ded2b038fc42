//! Programs that do not have the port open where it is wanted, or do not take what arrives there.

pub mod bound_loopback;
pub mod bound_wrong_device;
pub mod bound_wrong_family;
pub mod fd_exhausted;
pub mod hung;
pub mod io_stall;
pub mod not_listening;
pub mod reply_source_mismatch;
pub mod reuseport_stuck_member;
#[cfg(test)]
mod silent_tests;
pub mod slow_clients;
pub mod slow_reader;
#[cfg(test)]
mod stall_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod turned_tests;
#[cfg(test)]
mod waiting_tests;

use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::{Flow, datagrams_sent, is_deaf};
use crate::evidence::packet::{Fit, Packet};
use crate::evidence::program::{Program, Waiting};
use crate::evidence::refused::{self, Refused};
use crate::evidence::route::{Lookup, lookup};
use crate::evidence::shadowed;
use crate::evidence::stall::{Stall, Stalled, is_served_by_datagrams, stalled};
use crate::evidence::tracked;
use crate::evidence::walk;
use crate::evidence::way::Hop;
use crate::fixes::manual;
use crate::loss::missing::{self, Frame};
use crate::rule::Judgement;
use crate::rules::tcp::name;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use whydrop_model::netfilter::Hook;
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::{Protocol, Socket};
use whydrop_model::{Cause, Direction, Text, text};

/// IPPROTO_TCP.
const TCP: u8 = 6;
/// IPPROTO_UDP.
const UDP: u8 = 17;
/// Who is refused so often at one port means it.
const KNOCKS: usize = 5;
/// And asks for no more ports than these.
const MOST_PORTS: usize = 3;

/// What the kernel charges a receive buffer for the largest datagram, with its fragments.
const LARGEST_CHARGE: u64 = 128 * 1024;

/// Why a port refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing has it open.
    Nothing,
    /// Open for the other family of addresses only.
    OtherFamily,
    /// Open on loopback only.
    Loopback,
    /// Open on another address or device only.
    Elsewhere,
}

/// A port of this namespace that refuses those who want it: none of its sockets serves them.
#[derive(Clone, Debug, PartialEq)]
struct Refusal {
    kind: Kind,
    protocol: u8,
    port: u16,
    address: IpAddr,
    /// The listener that does not serve the address; empty if there is none.
    listener: String,
}

impl Refusal {
    fn word(&self) -> &'static str {
        if self.protocol == UDP { "udp" } else { "tcp" }
    }
}

/// Judges the refusals of one kind. The texts say what happens, what was seen and what to do; they may name `port`,
/// `address` and `listener`.
fn judge_kind<'a>(space: Space<'a>, cause: &'static Cause, kind: Kind, texts: [Text; 3]) -> Judgement<'a> {
    let found = refusals(space).into_iter().filter(|refusal| refusal.kind == kind);
    found.map(|refusal| culprit(space, cause, refusal, texts)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, cause: &'static Cause, refusal: Refusal, texts: [Text; 3]) -> Culprit<'a> {
    let [summary, seen, advice] = texts;
    let subject = format!("{} port {}", refusal.word(), refusal.port);
    let meant = refusal.clone();
    // A port that refuses loses no packet: what is not answered either was lost on the way. An ICMP error, by which
    // UDP refuses, is limited in its rate, though.
    let culprit = Culprit::new(space, cause, "socket.lookup", Scope::Socket, subject);
    let culprit = if refusal.protocol == UDP { culprit } else { culprit.meter(0, Count::AtMost, "") };
    // What has ended the program that served the port.
    let culprit = match refusal.kind {
        // Who listens for others only was not meant to be asked, or is bound to the wrong place.
        Kind::Loopback | Kind::OtherFamily | Kind::Elsewhere => {
            culprit.by_itself(knocks(space).contains(&(refusal.protocol, refusal.port, refusal.address)))
        }
        Kind::Nothing => culprit.misses(vec![missing::read_from(space, refusal.protocol, refusal.port)]),
    };
    culprit
        .direction(Direction::Receive)
        .harms(move |flow| {
            let reached = || died_for_want_of_a_socket(space, cause, flow);
            match wants(space, flow) == Some((meant.protocol, meant.port, meant.address)) {
                // Once a firewall lets them through, they are refused all the same.
                true if meant.kind != Kind::Nothing || reached() => Fit::Yes,
                // A rule on the way may refuse for a port that nobody wants to serve.
                true if flow.refused() => Fit::Maybe,
                _ => Fit::No,
            }
        })
        .tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 3] =
                [("port", &refusal.port), ("address", &refusal.address), ("listener", &refusal.listener)];
            let option = if refusal.protocol == UDP { "-lunp" } else { "-lntp" };
            let mut start = manual(advice);
            start.title = advice.fill(&words);
            Story::new(summary.fill(&words))
                .evidence(seen.fill(&words), "sockets", &["ss", option])
                .fix(start)
        })
}

/// Protocol, port and address that a flow in trouble wants in this namespace; not where a translation on the way makes
/// something else of it.
pub fn wants(space: Space<'_>, flow: &Flow<'_>) -> Option<(u8, u16, IpAddr)> {
    let here = flow.in_trouble() && flow.destination(space.case).is_some_and(|d| d.same(space));
    let arrival = flow.arrival().filter(|_| here)?;
    let (port, address) = (arrival.destination_port?, arrival.destination?);
    let kind = if flow.protocol == UDP { Protocol::Udp } else { Protocol::Tcp };
    // Where the port is open for others only, a translation that is known leads to the right port, and the socket is wrong.
    let is_open = || space.listeners(kind, port).next().is_some();
    let unclear = |hop: &Hop| {
        let Some(at) = space.case.space_by_inode(hop.inode) else { return false };
        let rules = at.case.verdicts.and_then(|verdicts| verdicts.rules(at));
        let hook = if hop.incoming.is_empty() { Hook::Output } else { Hook::Prerouting };
        let ends = |packet: &Packet| (packet.destination, packet.destination_port);
        let meant = || ends(if !at.same(space) && is_open() { &hop.routed } else { &hop.early });
        rules.is_some_and(|rules| {
            let walk = rules.at_hook(hook, &hop.early.at(at, hop));
            walk.endings().any(|ending| matches!(ending.end, walk::End::Unknown(_)))
                || walk.packets.iter().any(|(_, packet)| ends(packet) != meant())
        })
    };
    let lost = flow.forward.hops.iter().filter(|hop| !hop.bridged).any(unclear);
    // What was sent on to another host until now is not wanted here.
    let moved = || tracked::sent_before(space, flow.protocol, (address, port).into()).is_some();
    Some((flow.protocol, port, address)).filter(|_| !lost && !moved())
}

/// True if a packet of the flow was seen to come as far as the look-up of its socket.
fn died_for_want_of_a_socket(space: Space<'_>, cause: &Cause, flow: &Flow<'_>) -> bool {
    let Some(arrival) = flow.arrival() else { return false };
    let met = |to: std::net::SocketAddr| {
        Some(to.port()) == arrival.destination_port && Some(to.ip()) == arrival.destination
    };
    let mut lost = space.losses().filter(|loss| loss.is_of(cause.id)).filter_map(|loss| loss.event);
    lost.any(|event| event.protocol == Some(flow.protocol) && event.destination.is_some_and(met))
}

/// The ports of this namespace that flows in trouble want and that no socket serves, each once.
fn refusals(space: Space<'_>) -> Vec<Refusal> {
    let mut out: Vec<Refusal> = vec![];
    if !space.after.sockets.is_present() {
        return out;
    }
    let wanted = space.case.flows.iter().filter_map(|flow| Some((wants(space, flow)?, Some(flow))));
    let knocks = knocks(space).into_iter().map(|wanted| (wanted, None));
    for ((protocol, port, address), flow) in wanted.chain(knocks) {
        let kind_of_socket = if protocol == UDP { Protocol::Udp } else { Protocol::Tcp };
        let listeners: Vec<&Socket> = space.listeners(kind_of_socket, port).collect();
        if listeners.iter().any(|s| serves(space, s, address)) {
            continue;
        }
        // A published port that leads here by a proxy process is about the mapping, where something else is served.
        let others =
            || space.after.sockets.iter().any(|s| s.state == "listen" && !s.local.ip().is_loopback());
        if listeners.is_empty() && flow.is_none_or(|flow| flow.is_of_publisher() && others()) {
            continue;
        }
        // Who has the address of the one whom he means asks himself.
        if flow.is_some_and(|flow| shadowed::meant(space, flow).is_some()) {
            continue;
        }
        let other_family = |s: &&Socket| serves_other_family(space, s, address);
        let kind = match listeners.as_slice() {
            [] => Kind::Nothing,
            all if all.iter().any(other_family) => Kind::OtherFamily,
            all if all.iter().all(|s| s.local.ip().is_loopback()) => Kind::Loopback,
            _ => Kind::Elsewhere,
        };
        let listener = listeners.first().map_or_else(String::new, |s| bound(space, s));
        let refusal = Refusal { kind, protocol, port, address, listener };
        if !out.contains(&refusal) {
            out.push(refusal);
        }
    }
    out
}

/// TCP ports of this namespace at which somebody out of view was refused again and again, who asks for no others: who looks
/// for open ports knocks at many.
fn knocks(space: Space<'_>) -> Vec<(u8, u16, IpAddr)> {
    let mut by_source: BTreeMap<IpAddr, BTreeMap<SocketAddr, usize>> = BTreeMap::new();
    for Refused { from, to, .. } in refused::syns(space.case).filter(|r| r.inode == Some(space.inode())) {
        // What somebody in view misses is known by his conversations.
        if space.case.owners(from.ip()).next().is_some() {
            continue;
        }
        *by_source.entry(from.ip()).or_default().entry(to).or_default() += 1;
    }
    let few = by_source.into_values().filter(|ports| ports.len() <= MOST_PORTS);
    let often = few.flatten().filter(|(to, n)| *n >= KNOCKS && space.after.owns(to.ip()));
    often.map(|(to, _)| (TCP, to.port(), to.ip())).collect::<BTreeSet<_>>().into_iter().collect()
}

/// A socket as `ss` shows it, with the device to which it is bound: `0.0.0.0%eth1:80 (nginx)`.
fn bound(space: Space<'_>, socket: &Socket) -> String {
    let name = name(socket);
    if socket.link == 0 {
        return name;
    }
    let (ip, port) = (socket.local.ip(), socket.local.port());
    let ip = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
    let place = format!("{ip}%{}:{port}", space.after.link_name(socket.link));
    name.replacen(&socket.local.to_string(), &place, 1)
}

/// True if the socket takes what is sent to this address.
pub fn serves(space: Space<'_>, socket: &Socket, address: IpAddr) -> bool {
    let bound = match socket.local.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.is_ipv4(),
        IpAddr::V6(ip) if ip.is_unspecified() => address.is_ipv6() || socket.v6only != Some(true),
        ip => ip.to_canonical() == address.to_canonical(),
    };
    bound && is_on_device_of(space, socket, address)
}

/// True if no device keeps the socket from what comes to this address.
fn is_on_device_of(space: Space<'_>, socket: &Socket, address: IpAddr) -> bool {
    socket.link == 0 || space.carries(socket.link, address)
}

/// True if the socket would take it if the same place were asked for by an address of the other family, and nothing but the
/// family is in the way.
fn serves_other_family(space: Space<'_>, socket: &Socket, address: IpAddr) -> bool {
    let serves_both = socket.local.ip() == Ipv6Addr::UNSPECIFIED && socket.v6only != Some(true);
    if serves_both || !is_on_device_of(space, socket, address) {
        return false;
    }
    let local = socket.local.ip().to_canonical();
    let twin: IpAddr = match local {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let both_loopback = local == twin && address.is_loopback();
    local.is_ipv4() != address.to_canonical().is_ipv4() && (local.is_unspecified() || both_loopback)
}

const CONNECTIONS: Text =
    text!("{n} connections wait in {socket} to be accepted", "{socket} 中有 {n} 个连接等待 accept");
const BYTES: Text = text!("{n} bytes wait unread in {socket}", "{socket} 中有 {n} 字节未读");
const ANSWER: Text = text!("a client of {socket} waits for an answer", "{socket} 的一个客户端在等待应答");
const TURNED_AWAY: Text =
    text!("connections to {socket} are closed without an answer", "到 {socket} 的连接未得到应答就被关闭");
/// More queues of one program than this are not listed.
const MOST_QUEUES: usize = 5;

/// A program that takes nothing, why, and what waits for it.
pub struct Deaf<'a> {
    /// Who.
    pub program: Program<'a>,
    /// Why.
    pub why: Stall<'a>,
    /// The sockets that it does not serve.
    pub waiting: Vec<Waiting<'a>>,
}

/// The programs of a namespace that take nothing for such a reason, each once.
pub fn deaf<'a>(space: Space<'a>, reason: impl Fn(Stall<'a>) -> bool) -> Vec<Deaf<'a>> {
    let mut out: Vec<Deaf<'a>> = vec![];
    for Stalled { waiting, program, why } in stalled(space) {
        if !reason(why) {
            continue;
        }
        match out.iter_mut().find(|known| known.program.process.pid == program.process.pid) {
            Some(known) => known.waiting.push(waiting),
            None => out.push(Deaf { program, why, waiting: vec![waiting] }),
        }
    }
    out
}

/// Says of a culprit that nobody takes what arrives in these sockets. TCP loses nothing by that: who sends waits, and
/// who connects is ignored only when the queue is full, which has a counter of its own.
pub fn holds<'a>(culprit: Culprit<'a>, waiting: &[Waiting<'a>]) -> Culprit<'a> {
    let space = culprit.space;
    let asked = |ip: IpAddr| space.case.spaces().any(|there| there.is_target() && there.after.owns(ip));
    let waits = waiting.iter().any(|waiting| waiting.peers(space).any(asked) || is_filled(space, waiting));
    let ends = waiting.iter().filter_map(|w| Some((number(w.socket)?, w.socket.local.port()))).collect();
    serves_nobody(culprit, ends).by_itself(true).concerns(waits)
}

/// True if a target may be who asks a datagram socket in vain: such a socket does not know whom it hears, and a client
/// that is not connected does not say whom it asks. One that got no datagram at all, and sent enough to fill the socket as
/// it filled, waits for somebody, and nobody else in view leaves requests unread for it.
fn is_filled(space: Space<'_>, waiting: &Waiting<'_>) -> bool {
    let more = waiting.before.map_or(0, |old| waiting.socket.receive_queue.saturating_sub(old.receive_queue));
    let asks = |there: &Space<'_>| {
        there.is_target() && !there.same(space) && is_deaf(*there) && asks_by_datagrams(*there)
    };
    is_served_by_datagrams(waiting.socket)
        && waiting.grew()
        && space.case.spaces().filter(asks).any(|there| {
            datagrams_sent(there).saturating_mul(LARGEST_CHARGE) >= u64::from(more) && leads(there, space)
        })
}

/// True if a route of the one namespace leads to an address of the other.
fn leads(from: Space<'_>, to: Space<'_>) -> bool {
    let mut own = to.after.addresses.iter().map(|address| address.ip);
    own.any(|ip| !ip.is_loopback() && matches!(lookup(from, ip, None), Lookup::Via(..)))
}

/// True if a program of the namespace has a socket open by which it sends datagrams to whom it likes, or to one.
fn asks_by_datagrams(space: Space<'_>) -> bool {
    space.after.sockets.iter().any(|socket| socket.protocol == Protocol::Udp && socket.inode != 0)
}

/// Says of a culprit that nobody takes what arrives at these ports, by protocol.
pub fn serves_nobody<'a>(culprit: Culprit<'a>, ends: Vec<(u8, u16)>) -> Culprit<'a> {
    let space = culprit.space;
    let meant = ends.clone();
    let culprit = match ends.iter().all(|(protocol, _)| *protocol == TCP) {
        true => culprit.meter(0, Count::AtMost, ""),
        false => culprit,
    };
    culprit
        .takes(move |loss| match &loss.frame {
            Some(Frame::Read { protocol, port }) if loss.is_in(space) => {
                sure(ends.contains(&(*protocol, *port)))
            }
            _ => Fit::No,
        })
        .harms(move |flow| match wants(space, flow) {
            Some((protocol, port, _)) if !flow.refused() && meant.contains(&(protocol, port)) => Fit::Maybe,
            _ => Fit::No,
        })
}

/// IP protocol of a socket that has ports.
pub fn number(socket: &Socket) -> Option<u8> {
    match socket.protocol {
        Protocol::Tcp => Some(TCP),
        Protocol::Udp => Some(UDP),
        Protocol::Raw(_) | Protocol::Packet(_) | Protocol::Ping => None,
    }
}

/// Adds what waits in a socket to a story.
pub fn tell_of_queue(story: Story, waiting: &Waiting<'_>) -> Story {
    if story.evidence.len() > MOST_QUEUES {
        return story;
    }
    let socket = waiting.socket;
    let text = match socket.receive_queue {
        0 if waiting.listens() => TURNED_AWAY,
        0 => ANSWER,
        _ if waiting.listens() => CONNECTIONS,
        _ => BYTES,
    };
    let claim = text.fill(&[("n", &socket.receive_queue), ("socket", &socket.local)]);
    story.evidence(claim, "sockets", &["ss", "-anp"])
}

const WAITS_IN: Text = text!("its threads wait in {functions}", "其线程在 {functions} 中等待");
/// More kernel functions than these are not listed.
const MOST_FUNCTIONS: usize = 4;
/// Longest name of a kernel function shown.
const MAX_FUNCTION: usize = 40;

/// Adds to a story where the threads of a program wait.
pub fn tell_of_waits(story: Story, program: &Program<'_>) -> Story {
    let functions: Vec<String> = program
        .process
        .waits
        .iter()
        .take(MOST_FUNCTIONS)
        .map(|(function, n)| format!("{} ({n})", sanitize(function, MAX_FUNCTION)))
        .collect();
    if functions.is_empty() {
        return story;
    }
    let show = format!("/proc/{}/wchan", program.process.pid);
    story.evidence(WAITS_IN.fill(&[("functions", &functions.join(", "))]), "wait channels", &["cat", &show])
}
