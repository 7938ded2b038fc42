//! Requests that are one packet each, a datagram or an echo request, and get no answer.
//!
//! The kernel keeps no account of them. They are known by what was dropped or refused of them, by connection tracking,
//! and by sockets that wait in namespaces into which no datagram comes at all. A datagram that arrives and wants no
//! answer (syslog, statsd) shows in none of these.

use super::talk::{Datagrams, Key, Stalled, Talks, Why, home, socket_at};
use crate::evidence::astray;
use crate::evidence::case::{Case, Space};
use crate::evidence::program;
use crate::evidence::translate::{Translated, Translators};
use crate::evidence::tunnel::Tunnel;
use crate::evidence::way::{Ends, Way};
use crate::loss::{TRACEROUTE_PORTS, death, standing};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use whydrop_facts::Class;
use whydrop_facts::place::{self, is_multicast};
use whydrop_model::DropEvent;
use whydrop_model::conntrack::Tuple;
use whydrop_model::snapshot::{Protocol, Socket};

const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// ICMP destination unreachable, port unreachable (RFC 792).
const PORT_UNREACHABLE: (u8, u8) = (3, 3);
/// Stage at which the kernel finds that nobody listens.
const LOOK_UP: &str = "socket.lookup";
/// Ports of protocols in which each request wants an answer: DNS, TFTP, Kerberos, portmapper, NTP, SNMP, LDAP, RADIUS,
/// STUN. Of others only who sends knows whether an answer is wanted.
const ANSWERED: [u16; 11] = [53, 69, 88, 111, 123, 161, 389, 1812, 1813, 3478, 5353];
/// Who waits for a name waits for nothing else; other clients keep their socket between requests.
const NAMES: u16 = 53;
/// So many datagrams without an answer are no accident.
const SEVERAL: u64 = 3;
/// Seconds after which connection tracking forgets a datagram without an answer (nf_conntrack_udp_timeout).
const FORGOTTEN_S: u32 = 30;
/// Where a thread sleeps in recv() of a datagram socket (net/core/datagram.c).
const IN_RECV: &str = "__skb_wait_for_more_packets";

/// Adds what is known of them.
pub fn add<'a>(case: Case<'a>, nat: &Translators<'a>, talks: &mut Talks<'a>) {
    let translated = Translated::of(case);
    let mut ways: BTreeMap<Key, Way> = BTreeMap::new();
    let mut too_big: BTreeMap<Key, (Space<'a>, u64)> = BTreeMap::new();
    // What carries others' packets is nobody's request.
    let tunnels: BTreeSet<u16> = Tunnel::all(case).filter_map(|tunnel| tunnel.port).collect();
    for event in case.drop_log().into_iter().flat_map(|log| &log.sampled) {
        let Some(at) = event.netns_inode.and_then(|inode| case.space_by_inode(inode)) else { continue };
        if let Some(answer) = astray::of(case, event) {
            let talk = talks.at(Key::out(answer.client, UDP, answer.from.ip(), answer.asked));
            talk.datagrams.strayed += 1;
            talk.owned_by(socket_at(answer.client, Protocol::Udp, answer.from.port()));
            continue;
        }
        let Some((request, is_answer)) = request(at, event) else { continue };
        // A refusal is what a traceroute is out for.
        let wanted = TRACEROUTE_PORTS.contains(&request.destination_port);
        if request.protocol == UDP && (wanted || tunnels.contains(&request.destination_port)) {
            continue;
        }
        let request = translated.origin(request);
        let Some((home, key)) = key(case, at, request) else { continue };
        let place = place::of_event(event);
        let one = match place.class {
            Class::Loss | Class::Policy => Datagrams { dropped: 1, ..Datagrams::default() },
            Class::Conditional if place.stage == LOOK_UP && !is_answer => {
                Datagrams { refused: 1, ..Datagrams::default() }
            }
            Class::Conditional if standing::is_under_way(place) => {
                let way = ways.entry(key).or_insert_with(|| way(nat, home, request));
                match event.link.is_none_or(|link| way.passes(at, link)) {
                    true if standing::is_too_big(event) => {
                        too_big.entry(key).or_insert((home, 0)).1 += 1;
                        continue;
                    }
                    // What a traceroute lets end shows nothing, but a packet that circles ends nowhere else.
                    true if !standing::ends_ttl(place)
                        || standing::is_lost_by_ttl(place, event)
                        || way.circles_to(request.destination)
                        || way.circles_to(request.source) =>
                    {
                        Datagrams { dropped: 1, ..Datagrams::default() }
                    }
                    _ => continue,
                }
            }
            Class::Conditional | Class::Benign | Class::NotADrop => continue,
        };
        let talk = talks.at(key);
        talk.datagrams.dropped += one.dropped;
        talk.datagrams.refused += one.refused;
        if request.protocol == UDP {
            talk.owned_by(socket_at(home, Protocol::Udp, request.source_port));
        }
    }
    // Who looks for the size that passes sends most of the smaller ones.
    let stays = |(home, dropped): &(Space<'_>, u64)| 2 * dropped > datagrams_sent(*home);
    for (key, (_, dropped)) in too_big.into_iter().filter(|(_, sent)| stays(sent)) {
        talks.at(key).datagrams.dropped += dropped;
    }
    refused(case, &translated, talks);
    for (key, waiting) in untold(case) {
        talks.at(key).datagrams.waiting = waiting;
    }
    for space in case.spaces().filter(|space| is_deaf(*space)) {
        waiting(space, talks);
    }
}

/// True if no datagram at all reached a program of this namespace in the window.
pub fn is_deaf(space: Space<'_>) -> bool {
    let told = space.before.mib.is_present() && space.after.mib.is_present();
    told && space.mib("Udp.InDatagrams") + space.mib6("Udp6InDatagrams") == 0
}

/// Datagrams that programs of this namespace sent in the window.
pub fn datagrams_sent(space: Space<'_>) -> u64 {
    space.mib("Udp.OutDatagrams") + space.mib6("Udp6OutDatagrams")
}

/// The request that a dropped packet is or answers, and whether it is the answer.
fn request(at: Space<'_>, event: &DropEvent) -> Option<(Tuple, bool)> {
    let (source, destination, protocol) = (event.source?, event.destination?, event.protocol?);
    let many = |ip: IpAddr| is_multicast(ip) || ip.is_multicast() || ip.is_unspecified();
    let to_all = at.is_broadcast(destination.ip()) || at.case.is_broadcast_of(source.ip(), destination.ip());
    if to_all || many(source.ip()) || many(destination.ip()) {
        return None;
    }
    let tuple = Tuple {
        source: source.ip(),
        destination: destination.ip(),
        protocol,
        source_port: source.port(),
        destination_port: destination.port(),
    };
    let is_answer = match protocol {
        UDP => !is_open(at, destination) && answers(at.case, source, destination),
        ICMP | ICMPV6 => match (protocol, death::payload(event)?.first()?) {
            (ICMP, 8) | (ICMPV6, 128) => false,
            (ICMP, 0) | (ICMPV6, 129) => true,
            _ => return None,
        },
        _ => return None,
    };
    Some((if is_answer { tuple.reversed() } else { tuple }, is_answer))
}

/// True if a datagram goes from a service to who asked it. Where one end alone is open to everybody, that is the service;
/// else a service has the lower port, as a rule: the ports that a translation chooses may be lower still.
fn answers(case: Case<'_>, source: SocketAddr, destination: SocketAddr) -> bool {
    let open = |to: SocketAddr| case.owners(to.ip()).any(|there| is_open(there, to));
    match (open(source), open(destination)) {
        (true, false) => true,
        (false, true) => false,
        _ => source.port() < destination.port(),
    }
}

/// True if a program takes here what anybody sends to this address.
fn is_open(at: Space<'_>, to: SocketAddr) -> bool {
    at.after.owns(to.ip()) && at.listeners(Protocol::Udp, to.port()).next().is_some()
}

/// Whose request it is, if he is in view.
fn key<'a>(case: Case<'a>, at: Space<'a>, request: Tuple) -> Option<(Space<'a>, Key)> {
    let home = home(case, at, request.source)?;
    let port = if request.protocol == UDP { request.destination_port } else { 0 };
    let to = SocketAddr::new(request.destination, port);
    Some((home, Key::out(home, request.protocol, request.source, to)))
}

/// Where the requests of this kind pass, and their answers.
fn way<'a>(nat: &Translators<'a>, home: Space<'a>, request: Tuple) -> Way {
    let port = |port: u16| (request.protocol == UDP).then_some(port);
    let ends = Ends {
        protocol: request.protocol,
        source: (Some(request.source), port(request.source_port)),
        destination: (request.destination, port(request.destination_port)),
    };
    Way::of(usize::MAX, nat, home, ends)
}

/// Datagrams that this machine answered with an ICMP error: each is a drop, too, but not each drop was sampled.
fn refused<'a>(case: Case<'a>, translated: &Translated, talks: &mut Talks<'a>) {
    for sent in case.observation.flows.get().into_iter().flat_map(|log| &log.icmp_sent) {
        if TRACEROUTE_PORTS.contains(&sent.destination.port()) {
            continue;
        }
        if sent.protocol != UDP || (sent.kind, sent.code) != PORT_UNREACHABLE || sent.source.is_unspecified()
        {
            continue;
        }
        let Some(at) = case.space_by_inode(sent.netns_inode) else { continue };
        if is_asker(at, sent.destination.port()) {
            continue;
        }
        let (source, to) = translated.asked(UDP, sent.source, sent.destination);
        let Some(home) = home(case, at, source) else { continue };
        // What a tunnel sends is no program's request.
        if home.links().filter_map(|link| Tunnel::of(home, link)).any(|end| end.port == Some(to.port())) {
            continue;
        }
        let datagrams = &mut talks.at(Key::out(home, UDP, source, to)).datagrams;
        datagrams.refused = datagrams.refused.max(sent.count);
    }
}

/// True if a program here asks somebody from this port: what is refused there answers from elsewhere, and asks nothing.
fn is_asker(at: Space<'_>, port: u16) -> bool {
    let asks = |s: &Socket| s.protocol == Protocol::Udp && s.local.port() == port && s.remote.port() != 0;
    at.after.sockets.iter().chain(at.before.sockets.iter()).any(asks)
}

/// Requests of the window that connection tracking saw no answer to, by who asked whom; none where others of the same
/// were answered. Where several namespaces track a flow, the one that saw most.
fn untold<'a>(case: Case<'a>) -> BTreeMap<Key, u64> {
    let window = u32::try_from(case.observation.window_ns / 1_000_000_000).unwrap_or(u32::MAX);
    let mut most: BTreeMap<Key, u64> = BTreeMap::new();
    let mut answered: BTreeSet<Key> = BTreeSet::new();
    for space in case.spaces() {
        let mut here: BTreeMap<Key, u64> = BTreeMap::new();
        let entries = space.after.conntrack_entries.get().into_iter().flat_map(|entries| &entries.items);
        for entry in entries.filter(|entry| entry.original.protocol == UDP) {
            let Some((_, key)) = key(case, space, entry.original) else { continue };
            let recent = entry.timeout_s.is_some_and(|left| left >= FORGOTTEN_S.saturating_sub(window));
            if entry.is("seen_reply") {
                answered.insert(key);
            } else if recent && ANSWERED.contains(&entry.original.destination_port) {
                *here.entry(key).or_default() += 1;
            }
        }
        for (key, n) in here {
            let known = most.entry(key).or_default();
            *known = n.max(*known);
        }
    }
    most.retain(|key, _| !answered.contains(key));
    most
}

/// Sockets that wait for an answer, in a namespace into which none came.
fn waiting<'a>(space: Space<'a>, talks: &mut Talks<'a>) {
    let sent = datagrams_sent(space);
    let mut asked: BTreeMap<Key, (u64, bool, &Socket)> = BTreeMap::new();
    let younger = space.after.sockets.iter().map(|socket| (socket, program::before(space, socket).is_some()));
    let is_gone = |old: &&Socket| !space.after.sockets.iter().any(|socket| socket.cookie == old.cookie);
    let gone = space.before.sockets.iter().filter(is_gone).map(|socket| (socket, false));
    for (socket, stayed) in younger.chain(gone) {
        let (local, remote) = (socket.local.ip().to_canonical(), socket.remote);
        if socket.protocol != Protocol::Udp || remote.port() == 0 {
            continue;
        }
        let blocked = socket.owners.iter().any(|owner| is_in_recv(space, owner.pid));
        if !blocked && !ANSWERED.contains(&remote.port()) {
            continue;
        }
        let to = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let (n, long, _) = asked.entry(Key::out(space, UDP, local, to)).or_insert((0, false, socket));
        *n += 1;
        *long |= stayed && remote.port() == NAMES;
    }
    let alone = asked.len() == 1;
    for (key, (n, long, socket)) in asked {
        let talk = talks.at(key);
        talk.owned_by(Some(socket));
        if sent == 0 {
            // It was sent before the window.
            let seconds = space.case.observation.window_ns as f64 / 1e9;
            talk.stall(long.then_some(Stalled { seconds, why: Why::Unacknowledged }));
            continue;
        }
        let known = &mut talk.datagrams;
        let requests = if alone { sent } else { n.min(sent) };
        if long || requests >= SEVERAL {
            known.waiting = known.waiting.max(requests);
            known.long |= long;
        }
    }
}

fn is_in_recv(space: Space<'_>, pid: u32) -> bool {
    let at = program::program(space, pid).and_then(|program| program.process.wchan.get());
    at.is_some_and(|function| function == IN_RECV)
}
