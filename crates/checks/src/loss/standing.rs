//! Does anybody miss a dropped packet?
//!
//! A rule that keeps strangers out does its duty, and a refusal is judged by who is refused, never by the reason alone.

use super::death;
use crate::evidence::case::{Case, Space};
use crate::evidence::offer;
use crate::evidence::packet::Packet;
use crate::evidence::port;
use crate::evidence::walk::Rules;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use whydrop_facts::Class;
use whydrop_facts::place::Place;
use whydrop_model::flow::{Conversation, FlowDirection};
use whydrop_model::netfilter::Hook;
use whydrop_model::snapshot::Protocol;
use whydrop_model::{DropEvent, Role};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SYN: u8 = 2;
const ACK: u8 = 16;
/// Ports from here on are those of answers: the default of `net.ipv4.ip_local_port_range`.
const FIRST_EPHEMERAL_PORT: u16 = 32768;
/// From 33434 on, one more for each of up to 64 hops with three packets each (traceroute(8)).
pub const TRACEROUTE_PORTS: std::ops::RangeInclusive<u16> = 33434..=33626;
/// ICMPv6: neighbour solicitation and advertisement, packet too big, MLD for an own address. ICMP: unreachable.
const NEEDED_V6: [u8; 3] = [2, 135, 136];
const NEEDED_V4: u8 = 3;
const ROUTER_ADVERTISEMENT: u8 = 134;

/// Where frames die that a bridge port does not take.
const AT_PORT: &str = "bridge.receive";
/// Overlays that share a multicast group get each other's frames.
const FOREIGN_OVERLAY: &str = "VXLAN_VNI_NOT_FOUND";

/// The kernel's reason for a packet that may not be cut and is larger than the next link takes.
const TOO_BIG: &str = "PKT_TOO_BIG";

/// Who a dropped packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// A flow in trouble, or somebody in view: it is missed.
    Missed,
    /// Nothing tells.
    Unknown,
    /// Nobody in view misses it: nobody waits for it, nor did anybody send it who needs it.
    Stranger,
}

/// The standing of what only its place tells of: frames at a port that spanning tree holds back are copies of others.
pub fn of_place(space: Space<'_>, link: Option<u32>, place: Place) -> Standing {
    let port = link.and_then(|link| space.after.link(link));
    match place.stage == AT_PORT && port.is_some_and(|port| port::is_spare(space, port)) {
        true => Standing::Stranger,
        false => Standing::Unknown,
    }
}

/// The standing of a sampled packet that is not known to be one of a flow in trouble.
pub fn of_event(case: Case<'_>, space: Space<'_>, event: &DropEvent) -> Standing {
    let to_many = event.destination.is_some_and(|to| to.ip().is_multicast());
    if to_many && event.reason == FOREIGN_OVERLAY {
        return Standing::Stranger;
    }
    let (Some(source), Some(destination), Some(protocol)) = (event.source, event.destination, event.protocol)
    else {
        return Standing::Unknown;
    };
    // A broadcast comes to whoever is on the link: to a bridge without an address on that network, too.
    let overheard =
        case.is_broadcast_of(source.ip(), destination.ip()) && !space.is_broadcast(destination.ip());
    if overheard || is_chatter(destination.ip()) || is_talk_to_all(space, event) {
        return Standing::Stranger;
    }
    let home = case.owners(source.ip()).next();
    if home.is_some_and(|home| !is_strange(home, space, event)) || !space.after.addresses.is_present() {
        return Standing::Missed;
    }
    if destination.ip().is_multicast() {
        return multicast(space, destination.ip());
    }
    if matches!(protocol, ICMP | ICMPV6) {
        return icmp(event, protocol);
    }
    match protocol {
        // It opens a connection, or belongs to none that is in trouble.
        TCP if event.tcp_flags.is_some_and(|flags| flags & (SYN | ACK) == SYN) => {
            opening(case, space, event, Protocol::Tcp)
        }
        TCP if !has_socket(space, event) => Standing::Stranger,
        UDP if destination.port() < FIRST_EPHEMERAL_PORT => opening(case, space, event, Protocol::Udp),
        _ => Standing::Unknown,
    }
}

/// Groups that every host talks to by itself and from which it misses nothing: routers (solicitations), MLD and IGMP
/// reports, mDNS, LLMNR, SSDP.
fn is_chatter(to: IpAddr) -> bool {
    match to {
        IpAddr::V4(ip) => matches!(ip.octets(), [224, 0, 0, 2 | 22 | 251 | 252] | [239, 255, 255, 250]),
        IpAddr::V6(ip) => matches!(
            ip.segments(),
            [0xff02, 0, 0, 0, 0, 0, 0, 2 | 0x16 | 0xfb | 0xc] | [0xff02, 0, 0, 0, 0, 0, 1, 3]
        ),
    }
}

/// Router advertisements, mDNS and the like come to everybody; a group that is joined here is wanted here.
fn multicast(space: Space<'_>, _group: IpAddr) -> Standing {
    if space.is_target() { Standing::Stranger } else { Standing::Unknown }
}

/// Router advertisements, datagrams to a group that nobody in the namespace joined, and broadcasts to a port that nobody
/// listens on: everybody hears them, and nobody here waits for them.
fn is_talk_to_all(space: Space<'_>, event: &DropEvent) -> bool {
    let broadcast =
        |to: &SocketAddr| space.is_broadcast(to.ip()) || to.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
    if let Some(to) = event.destination.filter(|to| event.protocol == Some(UDP) && broadcast(to)) {
        return space.is_target() && offer::is_open(space, Protocol::Udp, to.port()) == Some(false);
    }
    let to = event.destination.filter(|to| to.ip().is_multicast() && space.is_target());
    let Some(to) = to else { return false };
    if event.protocol == Some(ICMPV6) {
        return death::payload(event).and_then(|message| message.first()) == Some(&ROUTER_ADVERTISEMENT);
    }
    let joined = space.after.groups.get().map(|groups| groups.iter().any(|group| group.group == to.ip()));
    event.protocol == Some(UDP) && joined == Some(false)
}

/// Who was not asked about and knocks at a port that a target does not offer is a stranger to it, wherever he lives.
fn is_strange(home: Space<'_>, space: Space<'_>, event: &DropEvent) -> bool {
    let Some(to) = event.destination.filter(|to| space.after.owns(to.ip())) else { return false };
    let opens = event.tcp_flags.is_some_and(|flags| flags & (SYN | ACK) == SYN);
    let protocol = match event.protocol {
        Some(TCP) if opens => Protocol::Tcp,
        Some(UDP) if to.port() < FIRST_EPHEMERAL_PORT => Protocol::Udp,
        _ => return false,
    };
    home.target().role == Role::Surrounding
        && space.is_target()
        && offer::is_open(space, protocol, to.port()) == Some(false)
}

/// What neighbours and the path say is never strangers' talk.
fn icmp(event: &DropEvent, protocol: u8) -> Standing {
    let kind = death::payload(event).and_then(|message| message.first());
    match (protocol, kind) {
        (_, None) => Standing::Unknown,
        (ICMP, Some(kind)) if *kind == NEEDED_V4 => Standing::Missed,
        (ICMPV6, Some(kind)) if NEEDED_V6.contains(kind) => Standing::Missed,
        _ => Standing::Unknown,
    }
}

/// True for a SYN and for its answer.
pub fn opens_connection(event: &DropEvent) -> bool {
    event.protocol == Some(TCP) && event.tcp_flags.is_some_and(|flags| flags & SYN != 0)
}

/// True for a packet whose TTL or hop limit ended at this place although nobody let it end on purpose.
pub fn is_lost_by_ttl(place: Place, event: &DropEvent) -> bool {
    ends_ttl(place) && !is_traceroute(event)
}

/// True for a packet that was too big for the next link. Its sender is told (ICMP), and sends smaller ones: the search
/// for the path's MTU works so. One of a flow in trouble was not told, or does not listen.
pub fn is_too_big(event: &DropEvent) -> bool {
    event.reason == TOO_BIG
}

/// True for a place below the programs: above the IP layer a conditional drop is one of a packet that arrived.
pub fn is_under_way(place: Place) -> bool {
    ["ip", "route", "neighbour", "bridge", "tunnel"]
        .into_iter()
        .any(|layer| place.stage.strip_prefix(layer).is_some_and(|rest| rest.starts_with('.')))
}

/// True for the place where the kernel discards packets whose TTL or hop limit ended.
pub fn ends_ttl(place: Place) -> bool {
    place.stage == "ip.forward" && place.class == Class::Conditional
}

/// What traceroute, tracepath, mtr and `whydrop probe path://` send to learn where a TTL ends.
fn is_traceroute(event: &DropEvent) -> bool {
    match event.protocol {
        Some(UDP) => event.destination.is_some_and(|to| TRACEROUTE_PORTS.contains(&to.port())),
        Some(TCP) => event.tcp_flags.is_some_and(|flags| flags & (SYN | ACK) == SYN),
        Some(ICMP | ICMPV6) => event.echo.is_some(),
        _ => false,
    }
}

/// Somebody out of sight knocks. Where nobody listens and nothing is forwarded nobody misses him; where others get in
/// and he never does, he is kept out on purpose.
fn opening(case: Case<'_>, space: Space<'_>, event: &DropEvent, protocol: Protocol) -> Standing {
    let (Some(source), Some(destination)) = (event.source, event.destination) else {
        return Standing::Unknown;
    };
    let port = destination.port();
    let listens = offer::is_open(space, protocol, port);
    let Some(listens) = listens.filter(|_| space.after.owns(destination.ip())) else {
        return Standing::Unknown;
    };
    if !listens {
        return if is_translated(space, event) { Standing::Unknown } else { Standing::Stranger };
    }
    let arrivals = || {
        let talks = case.observation.flows.get().into_iter().flat_map(|log| &log.conversations);
        talks.filter(|talk| {
            talk.netns_inode == space.inode()
                && talk.direction == FlowDirection::In
                && talk.local.port() == port
        })
    };
    let his = |talk: &Conversation| talk.remote.ip() == source.ip() && talk.established > 0;
    match protocol == Protocol::Tcp && arrivals().any(|talk| talk.established > 0) && !arrivals().any(his) {
        true => Standing::Stranger,
        false => Standing::Unknown,
    }
}

/// True if a rule may send it on to somebody else.
fn is_translated(space: Space<'_>, event: &DropEvent) -> bool {
    let packet = Packet {
        protocol: event.protocol.unwrap_or(0),
        source: event.source.map(|source| source.ip()),
        destination: event.destination.map(|destination| destination.ip()),
        source_port: event.source.map(|source| source.port()),
        destination_port: event.destination.map(|destination| destination.port()),
        in_interface: event.interface.clone(),
        ..Packet::default()
    };
    let rules = Rules::of(space.after);
    let behind = rules.at_hook(Hook::Prerouting, &packet).packets;
    behind.iter().any(|(_, shape)| {
        (shape.destination, shape.destination_port) != (packet.destination, packet.destination_port)
    })
}

fn has_socket(space: Space<'_>, event: &DropEvent) -> bool {
    let ends = (event.destination, event.source);
    let mut sockets = space.after.sockets.iter().chain(space.before.sockets.iter());
    !space.after.sockets.is_present() || sockets.any(|s| (Some(s.local), Some(s.remote)) == ends)
}
