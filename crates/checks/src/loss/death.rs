//! Where a lost packet of a flow died: whydrop knows the packets that it sent, the kernel says which ones it dropped.
//!
//! A probe is recognised by its protocol and our source port (ICMP: its sequence number), its answer by the same
//! port as destination. Addresses are not compared where NAT may have changed them.

use crate::evidence::flow::Flow;
use std::net::IpAddr;
use whydrop_facts::Class;
use whydrop_facts::place::{self, Place};
use whydrop_model::netfilter::Hook;
use whydrop_model::probe::{Outcome, Packet};
use whydrop_model::{DropEvent, DropLog, ProbeResult};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// The send is stamped before the packet leaves and by another clock read than the drop.
const CLOCK_SLACK_NS: u64 = 2_000_000;
/// A drop longer after the send than this belongs to another user of the port.
const LONGEST_LIFE_NS: u64 = 10_000_000_000;

/// Which packet of a probe died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// The one that we sent.
    Request,
    /// The answer to it.
    Answer,
}

/// The end of one probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Death<'a> {
    /// Number of the probe packet.
    pub seq: u32,
    /// Which of its packets died.
    pub leg: Leg,
    /// The drop.
    pub event: &'a DropEvent,
    /// What its place means.
    pub place: Place,
    /// The netfilter hook, if it died in one and the stack was taken.
    pub hook: Option<Hook>,
}

/// Deaths of the packets of a probe that were lost; late ones had a death, too, but were not lost.
pub fn of_probe<'a>(log: &'a DropLog, flow: &Flow<'a>) -> Vec<Death<'a>> {
    let Some(probe) = flow.probe() else { return vec![] };
    let mut deaths = fate(log, probe);
    let lost = |seq| probe.packets.iter().any(|p| p.seq == seq && p.outcome == Outcome::Lost);
    deaths.retain(|death| lost(death.seq));
    deaths
}

/// The deaths of the probe's packets that got no answer, or a late one; at most one each, in their order. Packets
/// that are not in the result died out of the tracer's sight.
pub fn fate<'a>(log: &'a DropLog, probe: &ProbeResult) -> Vec<Death<'a>> {
    let troubled = |packet: &&Packet| matches!(packet.outcome, Outcome::Lost | Outcome::Late);
    probe.packets.iter().filter(troubled).filter_map(|packet| death(log, probe, packet)).collect()
}

/// The first drop that harms decides: a later one is a retransmission. Where there is none, one that may be harm.
fn death<'a>(log: &'a DropLog, probe: &ProbeResult, packet: &Packet) -> Option<Death<'a>> {
    let deaths = log.sampled.iter().filter(|event| is_in_time(event, packet)).filter_map(|event| {
        let leg = leg(event, probe, packet)?;
        let place = place::of_event(event);
        Some(Death { seq: packet.seq, leg, event, place, hook: place::hook(event) })
    });
    let harm = |death: &Death<'_>| match death.place.class {
        Class::Loss | Class::Policy => Some(0),
        Class::Conditional => Some(1),
        Class::Benign | Class::NotADrop => None,
    };
    let harmful = deaths.filter_map(|death| Some((harm(&death)?, death)));
    harmful.min_by_key(|(harm, death)| (*harm, death.event.realtime_ns)).map(|(_, death)| death)
}

fn is_in_time(event: &DropEvent, packet: &Packet) -> bool {
    let earliest = packet.sent_ns.saturating_sub(CLOCK_SLACK_NS);
    let latest = packet.sent_ns.saturating_add(LONGEST_LIFE_NS);
    (earliest..=latest).contains(&event.realtime_ns)
}

/// Which packet of the probe the event is about, if any.
fn leg(event: &DropEvent, probe: &ProbeResult, packet: &Packet) -> Option<Leg> {
    let (source, destination) = (event.source?, event.destination?);
    let probed = probe.address?;
    match (probe.method.as_str(), event.protocol?) {
        ("icmp", ICMP | ICMPV6) => {
            let (_, sequence) = event.echo?;
            match sequence == packet.sport {
                true if destination.ip() == probed => Some(Leg::Request),
                true if source.ip() == probed => Some(Leg::Answer),
                _ => None,
            }
        }
        ("udp", UDP) => match packet.sport {
            port if source.port() == port => Some(Leg::Request),
            port if destination.port() == port => Some(Leg::Answer),
            _ => None,
        },
        ("syn", TCP) => match event.tcp_flags? & (SYN | RST | ACK) {
            SYN if source.port() == packet.sport => Some(Leg::Request),
            flags if flags & !ACK != 0 && flags != SYN && destination.port() == packet.sport => {
                Some(Leg::Answer)
            }
            _ => None,
        },
        ("connect" | "http", TCP) => match packet.sport {
            port if source.port() == port && source.port() != destination.port() => Some(Leg::Request),
            port if destination.port() == port && source.port() != port => Some(Leg::Answer),
            _ => None,
        },
        _ => None,
    }
}

/// Smallest IPv4 header, and that of IPv6, in bytes.
const IP_HEADERS: [usize; 2] = [20, 40];

/// What the IP header of a sampled packet carries; none if the header was not kept.
pub fn payload(event: &DropEvent) -> Option<&[u8]> {
    let packet = event.packet.as_slice();
    let [short, long] = IP_HEADERS;
    let first = packet.first()?;
    let header = match (first >> 4, event.source.map(|source| source.ip())) {
        (4, Some(IpAddr::V4(_))) => (usize::from(first & 15) * 4).max(short),
        (6, Some(IpAddr::V6(_))) => long,
        _ => return None,
    };
    packet.get(header..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    const SENT: u64 = 1_000_000_000_000;

    fn probe(method: &str, outcomes: &[Outcome]) -> ProbeResult {
        let packet = |(seq, outcome): (usize, &Outcome)| Packet {
            seq: seq as u32,
            sport: 40000 + seq as u16,
            sent_ns: SENT + seq as u64 * 20_000_000,
            outcome: outcome.clone(),
            rtt_ms: None,
            duplicates: 0,
        };
        ProbeResult {
            method: method.into(),
            address: Some([10, 0, 0, 2].into()),
            packets: outcomes.iter().enumerate().map(packet).collect(),
            ..ProbeResult::default()
        }
    }

    fn drop(after_ns: u64, reason: &str, caller: &str, ports: (u16, u16), flags: u8) -> DropEvent {
        DropEvent {
            realtime_ns: SENT + after_ns,
            reason: reason.into(),
            function: "nf_hook_slow".into(),
            stack: vec![caller.into()],
            protocol: Some(TCP),
            tcp_flags: Some(flags),
            source: Some(SocketAddr::from(([10, 0, 0, 1], ports.0))),
            destination: Some(SocketAddr::from(([10, 0, 0, 2], ports.1))),
            ..DropEvent::default()
        }
    }

    fn log(sampled: Vec<DropEvent>) -> DropLog {
        DropLog { sampled, ..DropLog::default() }
    }

    #[test]
    fn finds_where_request_and_answer_died() {
        let log = log(vec![
            drop(1000, "NETFILTER_DROP", "ip_local_deliver", (40000, 80), SYN),
            drop(20_001_000, "NETFILTER_DROP", "__ip_local_out", (80, 40001), SYN | ACK),
            drop(1_020_001_000, "NETFILTER_DROP", "__ip_local_out", (80, 40001), SYN | ACK),
        ]);
        let probe = probe("syn", &[Outcome::Lost, Outcome::Late, Outcome::Lost, Outcome::Received]);
        let deaths = fate(&log, &probe);
        let seen: Vec<_> = deaths.iter().map(|d| (d.seq, d.leg, d.hook, d.place.stage)).collect();
        assert_eq!(
            seen,
            [
                (0, Leg::Request, Some(Hook::Input), "netfilter.input"),
                (1, Leg::Answer, Some(Hook::Output), "netfilter.output"),
            ]
        );
        assert_eq!(deaths.get(1).map(|d| d.event.realtime_ns), Some(SENT + 20_001_000));
    }

    #[test]
    fn a_refusal_whose_answer_was_dropped_died_at_the_drop() {
        let log = log(vec![
            drop(1000, "NO_SOCKET", "ip_local_deliver_finish", (40000, 80), SYN),
            drop(2000, "NETFILTER_DROP", "__ip_local_out", (80, 40000), RST | ACK),
        ]);
        let deaths = fate(&log, &probe("syn", &[Outcome::Lost]));
        assert_eq!(deaths.iter().map(|d| d.leg).collect::<Vec<_>>(), [Leg::Answer]);
    }

    #[test]
    fn takes_nothing_of_others() {
        let log = log(vec![
            drop(1000, "NETFILTER_DROP", "ip_local_deliver", (41000, 80), SYN),
            drop(1000, "NETFILTER_DROP", "ip_local_deliver", (40000, 80), ACK),
            drop(11_000_000_000, "NETFILTER_DROP", "ip_local_deliver", (40000, 80), SYN),
        ]);
        assert_eq!(fate(&log, &probe("syn", &[Outcome::Lost])), []);
    }

    #[test]
    fn an_answered_probe_has_no_fate() {
        let log = log(vec![drop(1000, "NETFILTER_DROP", "ip_local_deliver", (40000, 80), SYN)]);
        assert_eq!(fate(&log, &probe("syn", &[Outcome::Received])), []);
    }
}
