//! Packets that arrive with a wrong checksum: what of their content tells who spoilt them.

use super::case::Space;
use super::flow::Flow;
use super::segment;
use crate::loss::death::payload;
use crate::loss::{Kind, Loss};
use std::collections::BTreeSet;
use std::net::IpAddr;
use whydrop_model::DropEvent;
use whydrop_model::flow::FlowDirection;
use whydrop_model::snapshot::{Link, Qdisc, QdiscOptions, TcFilter};

/// Drop reasons of packets whose checksum does not fit; kernels without reasons tell by their counters only.
const REASONS: [&str; 4] = ["IP_CSUM", "TCP_CSUM", "UDP_CSUM", "ICMP_CSUM"];
/// Counters of such packets. That of IP is contained in no other one here.
pub const COUNTERS: [&str; 4] =
    ["IpExt.InCsumErrors", "Tcp.InCsumErrors", "Udp.InCsumErrors", "Icmp.InCsumErrors"];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Who spoilt them.
#[derive(Clone, Copy)]
pub enum Damage<'a> {
    /// A sender that leaves the checksum to a device, and no device on the way made it.
    Offload(&'a DropEvent),
    /// A BPF program attached with tc on their way.
    Program(Space<'a>, &'a Link, &'a TcFilter),
    /// Some of the packets of one connection are damaged, or packets of all kinds: the wire, or what stands for it.
    Wire(Option<(Space<'a>, &'a Qdisc)>),
    /// Nothing tells.
    Unknown,
}

/// What damages the packets that arrive in a namespace; none if none are damaged.
pub fn of<'a>(space: Space<'a>) -> Option<Damage<'a>> {
    let lost: Vec<&'a Loss<'a>> = losses(space).collect();
    if lost.is_empty() && counted(space) == 0 {
        return None;
    }
    let sampled: Vec<&'a DropEvent> = lost.iter().filter_map(|loss| loss.event).collect();
    let partial: Vec<&'a DropEvent> = sampled.iter().copied().filter(|event| is_partial(event)).collect();
    if let Some(first) = partial.first().filter(|_| 2 * partial.len() >= sampled.len()) {
        return Some(Damage::Offload(first));
    }
    if let Some((there, link, filter)) = program(space, &sampled) {
        return Some(Damage::Program(there, link, filter));
    }
    if let Some(netem) = corrupting(space) {
        return Some(Damage::Wire(Some(netem)));
    }
    let reasons: BTreeSet<&str> = lost.iter().filter_map(|loss| loss.reason()).collect();
    // Nobody leaves the checksums of IP and ICMP to a device.
    let several = reasons.len() > 1 || ["IP_CSUM", "ICMP_CSUM"].iter().any(|name| reasons.contains(name));
    let in_part = sampled.iter().any(|event| gets_through(space, event));
    Some(if several || in_part { Damage::Wire(None) } else { Damage::Unknown })
}

/// True for a drop because of a wrong checksum.
pub fn is_damaged(loss: &Loss<'_>) -> bool {
    loss.kind != Kind::Imagined && loss.reason().is_some_and(|reason| REASONS.contains(&reason))
}

/// Drops of this namespace because of a wrong checksum.
pub fn losses<'a>(space: Space<'a>) -> impl Iterator<Item = &'a Loss<'a>> {
    space.losses().filter(|loss| is_damaged(loss))
}

/// Rise of the counters of such packets.
pub fn counted(space: Space<'_>) -> u64 {
    COUNTERS.iter().map(|name| space.mib(name) + space.mib6(name)).sum()
}

/// True if the checksum is only that of the pseudo header (RFC 9293, 3.1): what the stack leaves for a device to
/// complete (CHECKSUM_PARTIAL, __tcp_v4_send_check()).
fn is_partial(event: &DropEvent) -> bool {
    // Between devices of one machine it stays so, and is no fault: only where it was found wrong it is.
    if !["TCP_CSUM", "UDP_CSUM"].contains(&event.reason.as_str()) {
        return false;
    }
    let Some(inner) = payload(event) else { return false };
    let at = match event.protocol {
        Some(TCP) => 16,
        Some(UDP) => 6,
        _ => return false,
    };
    let Some([high, low]) = inner.get(at..at + 2) else { return false };
    let header = event.packet.len() - inner.len();
    let length = event.length.saturating_sub(u32::try_from(header).unwrap_or(0));
    let (Some(source), Some(destination)) = (event.source, event.destination) else { return false };
    let mut sum = u32::from(event.protocol.unwrap_or(0)) + length;
    for ip in [source.ip(), destination.ip()] {
        let bytes = match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        sum += bytes
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)))
            .sum::<u32>();
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == u32::from(u16::from_be_bytes([*high, *low]))
}

/// A program on the way of these packets: where they came in, where they were sent, or between.
fn program<'a>(space: Space<'a>, sampled: &[&'a DropEvent]) -> Option<(Space<'a>, &'a Link, &'a TcFilter)> {
    let is_program = |filter: &&TcFilter| filter.kind == "bpf";
    let any = space.case.spaces().any(|there| there.after.filters.iter().any(|f| is_program(&f)));
    if !any {
        return None;
    }
    let met = |there: Space<'a>, link: &'a Link| {
        let mut own = there.after.filters.iter().filter(|f| f.link == link.index).filter(is_program);
        own.next().map(|filter| (there, link, filter))
    };
    let arrived: BTreeSet<u32> = sampled.iter().filter_map(|event| event.link).collect();
    let mut near = space.links().filter(|link| arrived.is_empty() || arrived.contains(&link.index));
    let joined = near.find_map(|link| segment::of(space, link).into_iter().find_map(|(s, l)| met(s, l)));
    let flows = || space.flows_through().filter(|flow| flow.in_trouble());
    let passed =
        |there: Space<'a>, link: &Link| flows().any(|flow: &Flow<'_>| flow.passes(there, link.index));
    joined.or_else(|| {
        let mut others = space.case.spaces().flat_map(|there| there.links().map(move |l| (there, l)));
        others.find_map(|(there, link)| met(there, link).filter(|_| passed(there, link)))
    })
}

/// A netem in view that damages packets, on the way to this namespace.
fn corrupting<'a>(space: Space<'a>) -> Option<(Space<'a>, &'a Qdisc)> {
    let corrupts =
        |qdisc: &&Qdisc| matches!(qdisc.options, QdiscOptions::Netem { corrupt, .. } if corrupt > 0.0);
    let leads_here = |there: Space<'a>, qdisc: &Qdisc| {
        let joined = there
            .after
            .link(qdisc.link)
            .is_some_and(|link| segment::of(there, link).into_iter().any(|(s, _)| s.same(space)));
        joined || space.flows_through().any(|flow| flow.leaves_by(there, qdisc.link))
    };
    space.case.spaces().find_map(|there| {
        let mut own = there.after.qdiscs.iter().filter(corrupts);
        own.find(|qdisc| leads_here(there, qdisc)).map(|qdisc| (there, qdisc))
    })
}

/// True if other packets of the same connection arrive in good order.
fn gets_through(space: Space<'_>, event: &DropEvent) -> bool {
    let (Some(source), Some(destination)) = (event.source, event.destination) else { return false };
    let Some(log) = space.case.observation.flows.get() else { return false };
    let between = |local: IpAddr, remote: IpAddr| {
        [(source.ip(), destination.ip()), (destination.ip(), source.ip())].contains(&(local, remote))
    };
    log.conversations.iter().any(|talk| {
        let port = match talk.direction {
            FlowDirection::Out => talk.remote.port(),
            FlowDirection::In => talk.local.port(),
        };
        Some(talk.protocol) == event.protocol
            && between(talk.local.ip(), talk.remote.ip())
            && [source.port(), destination.port()].contains(&port)
            && talk.established > 0
    })
}
