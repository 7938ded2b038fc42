//! Here or beyond: for each segment that a flow sent again, where the one before it went.
//!
//! A repeat is tied to a drop of this machine by flow, time and sequence range: of the segment itself, or of a packet
//! that would have acknowledged it. A drop explains each range once: what was dropped as one burst is sent again in
//! parts. What is left was needless (the other end had it), left
//! this machine, or could not be matched, and then it is said why.

use super::LONGEST_WAIT_NS;
use super::conversation::Conversations;
use super::death;
use crate::evidence::case::Case;
use crate::evidence::flow::Flow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use whydrop_facts::Class;
use whydrop_facts::place;
use whydrop_model::flow::{Repeat, RepeatKind};
use whydrop_model::report::Repeats;
use whydrop_model::{Direction, DropEvent, DropLog};

const TCP: u8 = 6;
/// Bytes of an IPv6 header (RFC 8200); those of IPv4 say their length.
const IPV6_HEADER: usize = 40;

/// What became of the segments that each conversation sent again, by the number of its flow.
pub fn accounts(case: Case<'_>, flows: &[Flow<'_>]) -> BTreeMap<usize, Repeats> {
    let talks = Conversations::of(case, flows);
    let mut repeats: BTreeMap<usize, Vec<&Repeat>> = BTreeMap::new();
    let log = case.observation.flows.get().into_iter().flat_map(|log| &log.repeats);
    for repeat in log {
        let Some((flow, _)) = talks.of_repeat(repeat) else { continue };
        // A probe for a lost tail repeats what is not known to be lost, and mostly is not counted as a repeat.
        let counts = flows.get(flow).is_some_and(|flow| flow.trouble.tails > 0);
        if counts || repeat.kind != RepeatKind::Tail {
            repeats.entry(flow).or_default().push(repeat);
        }
    }
    let mut segments: BTreeMap<usize, Vec<Segment>> = BTreeMap::new();
    for event in case.drop_log().into_iter().flat_map(|log| &log.sampled) {
        if let (Some(segment), Some((flow, _))) = (Segment::of(event), talks.of_event(event)) {
            segments.entry(flow).or_default().push(segment);
        }
    }
    let told = flows.iter().filter(|flow| flow.conversation().is_some() && flow.trouble.repeated > 0);
    told.map(|flow| {
        // None were sampled: that is told as such, and not as none that fit.
        let repeats = repeats.remove(&flow.id).unwrap_or_default();
        let segments = segments.remove(&flow.id).unwrap_or_default();
        (flow.id, account(case, flow, repeats, segments))
    })
    .collect()
}

fn account(
    case: Case<'_>,
    flow: &Flow<'_>,
    mut repeats: Vec<&Repeat>,
    mut segments: Vec<Segment>,
) -> Repeats {
    repeats.sort_by_key(|repeat| repeat.realtime_ns);
    segments.sort_by_key(|segment| segment.at);
    let (mut out, mut left) = (Repeats::default(), flow.trouble.repeated);
    for repeat in &repeats {
        let fits = |segment: &Segment| segment.explains(repeat);
        // The last one before it: an earlier drop of the same range explains an earlier repeat.
        if let Some(segment) = segments.iter_mut().rfind(|s| fits(s) == Some(true)) {
            segment.explained.push(repeat.seq);
            out.here += u64::from(left > 0);
        } else {
            match segments.iter().filter(|s| fits(s).is_none()).count() {
                0 => continue,
                1 => {
                    segments.retain(|s| fits(s).is_some());
                    out.here += u64::from(left > 0);
                }
                _ => out.unmatched.several_candidates += u64::from(left > 0),
            }
        }
        left = left.saturating_sub(1);
    }
    let mut take = |of: u64| {
        let taken = left.min(of);
        left -= taken;
        taken
    };
    let known = u64::try_from(repeats.len()).unwrap_or(u64::MAX);
    out.unmatched.not_sampled = take(flow.trouble.repeated.saturating_sub(known));
    out.needless = take(flow.trouble.needless);
    let Some(log) = case.drop_log() else {
        out.unmatched.not_seen = take(u64::MAX);
        return out;
    };
    out.unmatched.not_sampled += take(unsampled(case, flow, log));
    out.unmatched.lost_by_tracer = take(log.tracer_lost.saturating_add(log.counts_lost));
    match log.knows_namespaces() && flow.leaves_sight() {
        true => out.beyond = take(u64::MAX),
        false => out.unmatched.not_seen = take(u64::MAX),
    }
    out.direction = heading(&out, &repeats);
    out
}

/// So many times as many packets have to be lost one way as the other: of what tells, some is lost, too.
const MOSTLY: u64 = 4;

/// Which way the packets beyond go: what the other end says that it had already was answered in vain, what it never said
/// that of did not arrive. A handshake tells neither.
fn heading(account: &Repeats, repeats: &[&Repeat]) -> Option<Direction> {
    // Nor does the end of a connection: nobody is left to whom it could be told.
    let is_data = |repeat: &&&Repeat| {
        let bytes = repeat.end_seq.wrapping_sub(repeat.seq);
        matches!(repeat.kind, RepeatKind::Data | RepeatKind::Tail) && bytes > 1
    };
    let data = u64::try_from(repeats.iter().filter(is_data).count()).unwrap_or(u64::MAX);
    let (there, back) = (account.beyond.min(data.saturating_sub(account.needless)), account.needless);
    match () {
        () if there > 0 && there >= back * MOSTLY => Some(Direction::Transmit),
        () if back > 0 && back >= there * MOSTLY => Some(Direction::Receive),
        () => None,
    }
}

/// TCP packets that were dropped where the flow passes, and of which no sample was kept.
fn unsampled(case: Case<'_>, flow: &Flow<'_>, log: &DropLog) -> u64 {
    let harm = |class: Class| !matches!(class, Class::Benign | Class::NotADrop);
    let visited = case.spaces().filter(|space| flow.visits(*space));
    let dropped = visited.map(|space| {
        let counts = space.drop_counts().filter(|count| count.protocol.is_none_or(|p| p == TCP));
        let dropped: u64 =
            counts.filter(|count| harm(place::of_count(count).class)).map(|count| count.drops).sum();
        let samples = log.sampled.iter().filter(|event| event.netns_inode == Some(space.inode()));
        let samples = samples.filter(|event| event.protocol.is_none_or(|p| p == TCP));
        let samples = samples.filter(|event| harm(place::of_event(event).class)).count();
        dropped.saturating_sub(u64::try_from(samples).unwrap_or(u64::MAX))
    });
    dropped.sum()
}

/// A dropped TCP segment, as far as its headers were kept.
struct Segment {
    /// CLOCK_REALTIME in nanoseconds.
    at: u64,
    source: SocketAddr,
    destination: SocketAddr,
    /// First sequence number and the one behind the last, if known.
    range: Option<(u32, u32)>,
    acknowledged: Option<u32>,
    /// First sequence numbers of the repeats that it explains.
    explained: Vec<u32>,
}

impl Segment {
    fn of(event: &DropEvent) -> Option<Self> {
        if event.protocol != Some(TCP) {
            return None;
        }
        let word =
            |tcp: &[u8], at: usize| tcp.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
        let tcp = death::payload(event);
        let headers = tcp.and_then(|tcp| {
            let own = usize::from(*tcp.get(12)? >> 4) * 4;
            let ip = match event.packet.first()? >> 4 {
                4 => usize::from(event.packet.first()? & 15) * 4,
                _ => IPV6_HEADER,
            };
            u32::try_from(ip + own).ok()
        });
        // SYN and FIN take a number as a byte does; of a packet without headers at least its first number is known.
        let bytes = headers.map_or(1, |headers| event.length.saturating_sub(headers).max(1));
        let first = event.tcp_seq.or_else(|| word(tcp?, 4));
        Some(Self {
            at: event.realtime_ns,
            source: event.source?,
            destination: event.destination?,
            range: first.map(|first| (first, first.wrapping_add(bytes))),
            acknowledged: tcp.and_then(|tcp| word(tcp, 8)),
            explained: vec![],
        })
    }

    /// Whether its death is why a segment was sent again; none if its headers do not tell.
    fn explains(&self, repeat: &Repeat) -> Option<bool> {
        let in_time = self.at <= repeat.realtime_ns && repeat.realtime_ns - self.at < LONGEST_WAIT_NS;
        if !in_time || self.explained.contains(&repeat.seq) {
            return Some(false);
        }
        // Behind a translator the sender has another address, never another direction.
        if self.source.port() == repeat.remote.port() && self.source.port() != repeat.local.port() {
            // Each connection counts from a number of its own.
            let same = self.destination.port() == repeat.local.port();
            return if same { self.acknowledged.map(|n| !is_before(n, repeat.end_seq)) } else { Some(false) };
        }
        let (first, end) = self.range?;
        Some(is_before(first, repeat.end_seq) && is_before(repeat.seq, end))
    }
}

/// Order of sequence numbers, which wrap (RFC 9293, 3.4).
fn is_before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeat(at: u64, seq: u32, end_seq: u32) -> Repeat {
        Repeat {
            realtime_ns: at,
            netns_inode: 1,
            direction: whydrop_model::flow::FlowDirection::Out,
            kind: RepeatKind::Data,
            local: ([10, 0, 0, 1], 40000).into(),
            remote: ([10, 0, 0, 2], 80).into(),
            seq,
            end_seq,
        }
    }

    fn dropped(at: u64, ports: (u16, u16), range: Option<(u32, u32)>, ack: Option<u32>) -> Segment {
        let [source, destination] = [ports.0, ports.1].map(|port| SocketAddr::from(([10, 0, 0, 9], port)));
        Segment { at, source, destination, range, acknowledged: ack, explained: vec![] }
    }

    #[test]
    fn a_repeat_is_explained_by_its_segment_or_by_the_lost_answer() {
        let sent = repeat(1_000, u32::MAX - 9, 90);
        let own = |at, range| dropped(at, (40000, 80), range, None).explains(&sent);
        assert_eq!(own(900, Some((u32::MAX - 9, 90))), Some(true), "the same, over the end of the numbers");
        assert_eq!(own(900, Some((50, 200))), Some(true), "a part of it");
        assert_eq!(own(900, Some((90, 200))), Some(false), "the next one");
        assert_eq!(own(1_001, Some((50, 200))), Some(false), "dropped after it");
        assert_eq!(own(900, None), None, "its headers were not kept");
        let to = |port, ack| dropped(900, (80, port), Some((7, 8)), ack).explains(&sent);
        let answer = |ack| to(40000, ack);
        assert_eq!(answer(Some(90)), Some(true));
        assert_eq!(answer(Some(400)), Some(true), "a later answer acknowledges it, too");
        assert_eq!(answer(Some(40)), Some(false));
        assert_eq!(to(40001, Some(90)), Some(false), "another connection's");
    }
}
