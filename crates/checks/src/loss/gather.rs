//! From drop events, probes and interface counters to losses.

use super::conversation::Conversations;
use super::death::{self, Death, Leg};
use super::{Kind, Loss, Standing, standing};
use crate::evidence::case::{Case, Space};
use crate::evidence::flow::Flow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use whydrop_facts::Class;
use whydrop_facts::place::{self, Place};
use whydrop_model::snapshot::Link;
use whydrop_model::{DropCount, DropEvent, DropLog};

/// Ports from here on change from flow to flow: the default of `net.ipv4.ip_local_port_range`.
const FIRST_EPHEMERAL_PORT: u16 = 32768;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
/// Echo and its reply, of ICMP and of ICMPv6.
const ECHO: [u8; 4] = [8, 0, 128, 129];
/// Kinds of packets of one shape that are kept apart; the rest of it is one loss without packet.
const MOST_KINDS: usize = 64;
/// FIN, SYN, RST, ACK: the flags by which the tracer counts.
const COUNTED_FLAGS: u8 = 0x17;
/// Packets of a conversation beyond what was seen to die that prove nothing.
const EDGE: u64 = 2;
/// One in so many events may fall between the reading of the events and that of the counters.
const SLACK_SHARE: u64 = 8;
/// Stage at which the kernel finds that nobody listens.
const LOOK_UP: &str = "socket.lookup";
/// The counter of frames that an interface dropped.
pub const FRAMES: &str = "rx_dropped";
/// The function that discards a frame above the MTU of the receiving end (with reason NOT_SPECIFIED up to 6.18). It is
/// called by the sender, and counted by the receiver.
pub const FORWARD_SKB: &str = "__dev_forward_skb";

/// Everything that was lost in the observed namespaces, each packet once, by the inodes of their namespaces. Where
/// nothing was asked about, only packets of flows count. Nobody misses what opens a connection that was passed over.
pub fn gather<'a>(case: Case<'a>, flows: &[Flow<'a>]) -> Vec<Loss<'a>> {
    let mut out = vec![];
    if let Some(log) = case.drop_log() {
        let deaths = Deaths::of(log, case, flows);
        let mut spaces: Vec<Space<'a>> = case.spaces().collect();
        spaces.sort_by_key(|space| space.inode());
        for space in spaces {
            for shape in shapes(space) {
                of_shape(space, &shape, &deaths, &mut out);
            }
            if log.knows_namespaces() && log.tracer_lost == 0 && space.is_target() {
                frames(space, &mut out);
            }
        }
        for flow in flows {
            let found = deaths.by_flow.get(&flow.id).copied().unwrap_or(0);
            // A burst that was dropped as one packet is sent again in parts.
            let again = case.again.and_then(|again| again.get(&flow.id));
            // A tail that the other end had already was sent again for an answer that is gone.
            let answers = flow.trouble.tails.min(flow.trouble.needless);
            let tied = again.map_or(0, |account| account.here + account.needless.saturating_sub(answers));
            unanswered(flow, found.max(tied), &mut out);
        }
    } else {
        flows.iter().for_each(|flow| unanswered(flow, 0, &mut out));
    }
    for (id, loss) in out.iter_mut().enumerate() {
        loss.id = id;
    }
    out
}

/// The sampled drops that are deaths of a flow's packets, by the address of the event.
struct Deaths {
    of_event: BTreeMap<*const DropEvent, (usize, Leg)>,
    by_flow: BTreeMap<usize, u64>,
    /// Flows that were refused.
    refused: BTreeSet<usize>,
    /// Packets that open connections for which another address was taken at once, by the address of the event.
    passed_over: BTreeSet<*const DropEvent>,
}

impl Deaths {
    fn of(log: &DropLog, case: Case<'_>, flows: &[Flow<'_>]) -> Self {
        let refused = flows.iter().filter(|flow| flow.refused()).map(|flow| flow.id).collect();
        let elsewhere = Conversations::of(case, case.seen.map_or(&[][..], |seen| &seen.passed_over));
        let opening = log.sampled.iter().filter(|event| standing::opens_connection(event));
        let passed_over =
            opening.filter(|event| elsewhere.of_event(event).is_some()).map(std::ptr::from_ref).collect();
        let mut out = Self { of_event: BTreeMap::new(), by_flow: BTreeMap::new(), refused, passed_over };
        for flow in flows {
            for Death { leg, event, .. } in death::of_probe(log, flow) {
                out.add(event, flow.id, leg);
            }
        }
        let talks = Conversations::of(case, flows);
        for event in &log.sampled {
            if let Some((flow, leg)) = talks.of_event(event) {
                out.add(event, flow, leg);
                // An answer that died is sent again, and so is the request that it answered: nothing of that was lost.
                if leg == Leg::Answer && event.protocol == Some(TCP) {
                    *out.by_flow.entry(flow).or_default() += 1;
                }
            }
        }
        out
    }

    fn add(&mut self, event: &DropEvent, flow: usize, leg: Leg) {
        let known = self.of_event.insert(std::ptr::from_ref(event), (flow, leg)).is_some();
        // What may be no harm explains no loss yet.
        let place = place::of_event(event);
        let harm = match kind_of(place.class) {
            Some(Kind::Drop) => true,
            Some(Kind::MayBeHarm) => {
                place.cause.is_some() && standing::is_under_way(place) || standing::is_too_big(event)
            }
            _ => false,
        };
        if !known && harm {
            *self.by_flow.entry(flow).or_default() += 1;
        }
    }
}

/// Drops of one kind as the kernel counted them, with what was sampled of them.
struct Shape<'a> {
    count: Option<&'a DropCount>,
    place: Place,
    sampled: Vec<&'a DropEvent>,
}

fn shapes<'a>(space: Space<'a>) -> Vec<Shape<'a>> {
    let mut shapes: Vec<Shape<'a>> = vec![];
    let mut uncounted: Vec<&'a DropEvent> = vec![];
    let mut named: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for count in space.drop_counts() {
        named.entry((&count.reason, &count.function)).or_default().push(shapes.len());
        shapes.push(Shape { count: Some(count), place: place::of_count(count), sampled: vec![] });
    }
    for event in space.drop_events() {
        let alike =
            named.get(&(event.reason.as_str(), event.function.as_str())).map(Vec::as_slice).unwrap_or(&[]);
        let room = |index: &&usize| {
            shapes.get(**index).is_some_and(|shape| {
                shape.count.is_some_and(|count| (shape.sampled.len() as u64) < count.drops)
            })
        };
        let likeness = |index: &&usize| {
            shapes.get(**index).and_then(|shape| shape.count).map_or(0, |count| likeness(count, event))
        };
        let best = alike.iter().filter(room).max_by_key(likeness).copied();
        match best.and_then(|index| shapes.get_mut(index)) {
            Some(shape) => shape.sampled.push(event),
            None => uncounted.push(event),
        }
    }
    // The kernel's table of counts was full: such packets are known by their samples alone.
    for event in uncounted {
        shapes.push(Shape { count: None, place: place::of_event(event), sampled: vec![event] });
    }
    shapes
}

/// In how much a sample agrees with a count: the tracer counts by these.
fn likeness(count: &DropCount, event: &DropEvent) -> usize {
    let flags = event.tcp_flags.map(|flags| flags & COUNTED_FLAGS);
    let multicast = event.destination.is_some_and(|to| place::is_multicast(to.ip()));
    [
        count.link == event.link,
        count.protocol == event.protocol,
        count.direction == event.direction,
        count.tcp_flags == flags,
        count.multicast == multicast,
    ]
    .into_iter()
    .filter(|same| *same)
    .count()
}

fn of_shape<'a>(space: Space<'a>, shape: &Shape<'a>, deaths: &Deaths, out: &mut Vec<Loss<'a>>) {
    let mut kinds: BTreeMap<PacketKind, Loss<'a>> = BTreeMap::new();
    let mut innocent = 0;
    for event in &shape.sampled {
        let (place, hook) = (place::of_event(event), place::hook(event));
        let death = deaths.of_event.get(&std::ptr::from_ref(*event)).copied();
        let (flow, leg) = (death.map(|(flow, _)| flow), death.map(|(_, leg)| leg));
        let refused = flow.is_some_and(|flow| deaths.refused.contains(&flow));
        let kind = match kind_of(place.class) {
            Some(Kind::MayBeHarm) if standing::is_lost_by_ttl(place, event) => Kind::Drop,
            Some(Kind::MayBeHarm) if flow.is_some() && standing::is_too_big(event) => Kind::Drop,
            Some(Kind::MayBeHarm) if refused && place.stage == LOOK_UP => Kind::Refused,
            Some(kind) => kind,
            None => {
                innocent += 1;
                continue;
            }
        };
        let standing = match flow {
            Some(_) => Standing::Missed,
            None if deaths.passed_over.contains(&std::ptr::from_ref(*event)) => Standing::Stranger,
            None => {
                let link = event.link.or(shape.count.and_then(|count| count.link));
                standing::of_event(space.case, space, event).max(standing::of_place(space, link, place))
            }
        };
        let key = PacketKind::of(event, place.stage, flow, leg);
        if !kinds.contains_key(&key) && kinds.len() >= MOST_KINDS {
            continue;
        }
        let loss = kinds.entry(key).or_insert_with(|| Loss {
            packets: 0,
            kind,
            link: event.link.or(shape.count.and_then(|count| count.link)),
            place: Some(place),
            hook,
            event: Some(event),
            flow,
            leg,
            standing,
            ..bare(space, shape, kind)
        });
        loss.packets += 1;
    }
    let first = out.len();
    out.extend(kinds.into_values());
    let known: u64 = out.iter().skip(first).map(|loss| loss.packets).sum();
    let drops = shape.count.map_or(0, |count| count.drops);
    let left = drops.saturating_sub(known + innocent);
    if let Some(kind) = kind_of(shape.place.class).filter(|_| left > 0) {
        let alike: Vec<usize> = (first..out.len()).collect();
        // What all that were sampled turned out to be, the others are, too.
        let harm = !alike.is_empty() && out.iter().skip(first).all(|loss| loss.kind == Kind::Drop);
        let kind = if harm { Kind::Drop } else { kind };
        let standing = out.iter().skip(first).map(|loss| loss.standing).min();
        let link = shape.count.and_then(|count| count.link);
        let standing = standing.unwrap_or_else(|| standing::of_place(space, link, shape.place));
        out.push(Loss { packets: left, alike, standing, ..bare(space, shape, kind) });
    }
    // In a namespace that nobody asked about only the packets of flows and of targets count.
    if !space.is_target() {
        let kept = |loss: &Loss<'_>| loss.flow.is_some() || is_targets(space, loss);
        let kept: Vec<Loss<'a>> = out.drain(first..).filter(kept).collect();
        out.extend(kept);
    }
}

/// True for a packet between a target and somebody in view. Of TCP the conversations tell whether somebody misses it, and
/// of what the path says with ICMP those whose packets it speaks of.
fn is_targets(space: Space<'_>, loss: &Loss<'_>) -> bool {
    let Some((event, place)) = loss.event.zip(loss.place) else { return false };
    let Some((from, to)) = event.source.zip(event.destination) else { return false };
    let known = |ip: IpAddr| space.case.owners(ip).next().is_some();
    let of_target = |ip: IpAddr| space.case.owners(ip).any(|there| there.is_target());
    let (from, to) = (from.ip(), to.ip());
    // Where only one cause discards packets whoever has it discarded is harmed, if it was no look-up of a port and no hop
    // that counts.
    let by_cause = place.class == Class::Conditional
        && place.cause.is_some()
        && place.stage != LOOK_UP
        && !loss.is_ttl_ended();
    (matches!(place.class, Class::Loss | Class::Policy) || by_cause)
        && event.protocol != Some(TCP)
        && (!matches!(event.protocol, Some(ICMP | ICMPV6)) || is_echo(event))
        && !place::is_multicast(to)
        && !space.case.is_broadcast_of(from, to)
        && (of_target(from) || (of_target(to) && known(from)))
}

/// A ping or its answer.
fn is_echo(event: &DropEvent) -> bool {
    death::payload(event).and_then(|message| message.first()).is_some_and(|kind| ECHO.contains(kind))
}

fn bare<'a>(space: Space<'a>, shape: &Shape<'a>, kind: Kind) -> Loss<'a> {
    Loss {
        id: 0,
        packets: 0,
        kind,
        inode: Some(space.inode()),
        link: shape.count.and_then(|count| count.link),
        place: Some(shape.place),
        hook: None,
        count: shape.count,
        event: None,
        flow: None,
        leg: None,
        standing: Standing::Unknown,
        frame: None,
        alike: vec![],
    }
}

fn kind_of(class: Class) -> Option<Kind> {
    match class {
        Class::Loss | Class::Policy => Some(Kind::Drop),
        Class::Conditional => Some(Kind::MayBeHarm),
        Class::Benign | Class::NotADrop => None,
    }
}

/// What tells sampled packets of one shape apart for any rule: not what changes from packet to packet.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct PacketKind {
    stage: &'static str,
    flow: Option<usize>,
    request: bool,
    protocol: Option<u8>,
    source: Option<SocketAddr>,
    destination: Option<SocketAddr>,
    tcp_flags: Option<u8>,
    /// TTL or hop limit, which a traceroute changes, and ICMP's type and code.
    header: (Option<u8>, Option<[u8; 2]>),
    length: u32,
}

impl PacketKind {
    fn of(event: &DropEvent, stage: &'static str, flow: Option<usize>, leg: Option<Leg>) -> Self {
        // So does the port of who asks: probes are sent from ports below the ephemeral ones.
        let portless = |address: SocketAddr, asks: bool| match address.port() {
            port if asks || port >= FIRST_EPHEMERAL_PORT => SocketAddr::new(address.ip(), 0),
            _ => address,
        };
        let first = event.packet.first().map(|byte| byte >> 4);
        let ttl = event.packet.get(if first == Some(6) { 7 } else { 8 }).copied();
        let message = death::payload(event)
            .filter(|_| matches!(event.protocol, Some(1 | 58)))
            .and_then(|icmp| icmp.first_chunk().copied());
        Self {
            stage,
            flow,
            request: leg == Some(Leg::Request),
            protocol: event.protocol,
            source: event.source.map(|source| portless(source, leg == Some(Leg::Request))),
            destination: event.destination.map(|destination| portless(destination, leg == Some(Leg::Answer))),
            tcp_flags: event.tcp_flags,
            header: (ttl, message),
            length: event.length,
        }
    }
}

/// Packets of a flow that are gone and that nobody saw die.
fn unanswered<'a>(flow: &Flow<'a>, found: u64, out: &mut Vec<Loss<'a>>) {
    let packets = flow.lost().saturating_sub(found);
    // A segment may be sent again for an answer that is only late, or for one that died before the window began.
    let at_the_edge = flow.conversation().is_some() && packets <= EDGE && (found > 0 || flow.refused());
    if packets > 0 && !at_the_edge {
        out.push(Loss {
            id: 0,
            packets,
            kind: Kind::Unanswered,
            inode: None,
            link: None,
            place: None,
            hook: None,
            count: None,
            event: None,
            flow: Some(flow.id),
            leg: None,
            standing: Standing::Missed,
            frame: None,
            alike: vec![],
        });
    }
}

/// Interfaces whose `rx_dropped` rose by more than drop events account for. The kernel reports a drop of every packet
/// that it had; what a driver threw away before that is seen by the counter alone.
fn frames<'a>(space: Space<'a>, out: &mut Vec<Loss<'a>>) {
    for link in space.links().filter(|link| !link.loopback) {
        let events = events_at(space, link);
        let rise = space.link_rise(link, FRAMES).saturating_sub(events);
        // The two are not read at the same moment.
        let packets = rise.saturating_sub(events / SLACK_SHARE).saturating_sub(u64::from(events > 0));
        if packets > 0 {
            out.push(Loss {
                id: 0,
                packets,
                kind: Kind::Frames,
                inode: Some(space.inode()),
                link: Some(link.index),
                place: None,
                hook: None,
                count: None,
                event: None,
                flow: None,
                leg: None,
                standing: Standing::Unknown,
                frame: None,
                alike: vec![],
            });
        }
    }
}

/// Drop events of frames that an interface counts in `rx_dropped`: its own, and those of the other end for its sake.
fn events_at(space: Space<'_>, link: &Link) -> u64 {
    let own = |count: &&DropCount| count.link == Some(link.index);
    let sent = |count: &&DropCount| count.link == link.link && count.function.starts_with(FORWARD_SKB);
    let peer = link.link_netns_inode.map_or(&[][..], |inode| space.case.index.counts(inode));
    let sent = peer.iter().copied().filter(sent);
    space.drop_counts().filter(own).chain(sent).map(|count| count.drops).sum()
}
