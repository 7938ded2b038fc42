//! Causes of which the kernel's drop events are the main witness: facts know which place admits which cause.

use crate::case::Space;
use crate::reconcile::BY_EVENTS;
use crate::rule::{Judgement, Suspect, manual};
use std::net::IpAddr;
use whydrop_facts::{Class, place};
use whydrop_model::{Cause, DropCount, DropEvent, Text};

/// Least length of an IPv4 header, and length of the IPv6 header.
const IP_HEADERS: [usize; 2] = [20, 40];

/// Drop events of one cause in one namespace: those at places that admit no other, and that are harm without further
/// conditions.
pub struct Events<'a> {
    counts: Vec<&'a DropCount>,
    /// Those of which the packet was kept.
    pub sampled: Vec<&'a DropEvent>,
}

impl<'a> Events<'a> {
    /// Those of this cause.
    pub fn of(space: Space<'a>, cause: &Cause) -> Self {
        let harm = |place: place::Place| {
            place.cause == Some(cause.id) && matches!(place.class, Class::Loss | Class::Policy)
        };
        Self::at(space, |count| harm(place::of_count(count)), |event| harm(place::of_event(event)))
    }

    /// Those that fit.
    pub fn at(
        space: Space<'a>,
        counted: impl Fn(&DropCount) -> bool,
        sampled: impl Fn(&DropEvent) -> bool,
    ) -> Self {
        let inode = Some(space.target().netns_inode);
        let log = space.case.drop_log();
        let events = log.into_iter().flat_map(|log| &log.sampled);
        Self {
            counts: space.drop_counts().filter(|count| counted(count)).collect(),
            sampled: events.filter(|event| event.netns_inode == inode && sampled(event)).collect(),
        }
    }

    /// These and others.
    pub fn and(mut self, others: Self) -> Self {
        self.counts.extend(others.counts);
        self.sampled.extend(others.sampled);
        self
    }

    /// How many.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|count| count.drops).sum()
    }

    /// The most frequent kind.
    pub fn busiest(&self) -> Option<&'a DropCount> {
        self.counts.iter().max_by_key(|count| count.drops).copied()
    }

    /// The kernel's name of the most frequent kind.
    pub fn reason(&self) -> &'a str {
        self.busiest().map_or("", |count| count.reason.as_str())
    }

    /// Interfaces that they met, with their number.
    pub fn by_link(&self) -> Vec<(u32, u64)> {
        let mut out: Vec<(u32, u64)> = vec![];
        for (link, drops) in self.counts.iter().filter_map(|count| Some((count.link?, count.drops))) {
            match out.iter_mut().find(|(known, _)| *known == link) {
                Some((_, sum)) => *sum += drops,
                None => out.push((link, drops)),
            }
        }
        out
    }
}

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

/// Rise of a counter of snmp, netstat or snmp6.
fn rise(space: Space<'_>, name: &str) -> u64 {
    space.mib(name) + space.mib6(name)
}

/// Judges a cause by the drop events whose place admits no other, and by protocol counters that together count the
/// same packets. The interface that most of them met is the subject.
pub fn by_events(
    space: Space<'_>,
    cause: &'static Cause,
    stage: &str,
    counters: &[&str],
    summary: Text,
    advice: Text,
) -> Judgement {
    by_these_events(space, cause, &Events::of(space, cause), stage, counters, summary, advice)
}

/// As [`by_events`], for events that the place alone does not give to this cause.
pub fn by_these_events(
    space: Space<'_>,
    cause: &'static Cause,
    mine: &Events<'_>,
    stage: &str,
    counters: &[&str],
    summary: Text,
    advice: Text,
) -> Judgement {
    let events = mine.total();
    let rises = || counters.iter().map(|name| (*name, rise(space, name))).filter(|(_, n)| *n > 0);
    let counted: u64 = rises().map(|(_, n)| n).sum();
    if events == 0 && counted == 0 {
        return Judgement::default();
    }
    let busiest = mine.busiest();
    let subject = busiest.and_then(|c| c.interface.clone()).unwrap_or_else(|| stage.to_owned());
    let counter = rises().max_by_key(|(_, n)| *n).map_or("", |(name, _)| name);
    let mut suspect = Suspect::new(space, cause, stage, subject, summary.phrase())
        .packets(events.max(counted), if counted > events { counter } else { BY_EVENTS })
        .drop_events(events, mine.reason())
        .touches(space.probes_through())
        .fix(manual(advice));
    suspect.finding.direction = busiest.and_then(|c| c.direction);
    for (name, n) in rises() {
        suspect = suspect.counter(name, n);
    }
    vec![suspect].into()
}

/// A sampled drop on its way from one address to another, for tests.
#[cfg(test)]
pub fn sample(world: &mut crate::testing::World, index: usize, like: DropEvent, from: &str, to: &str) {
    let netns_inode = Some(world.observation.namespaces[index].target.netns_inode);
    let (source, destination) = (from.parse().ok(), to.parse().ok());
    let (link, interface) = (Some(2), Some("eth0".into()));
    if let whydrop_model::Reading::Present(log) = &mut world.observation.drops {
        log.sampled.push(DropEvent { netns_inode, source, destination, link, interface, ..like });
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::Verdict;

    #[test]
    fn a_place_that_admits_one_cause_names_it() {
        let cases = [
            ("IP_INVALID_SOURCE", "ip_rcv_finish_core", "route.martian_source"),
            ("FRAG_REASM_TIMEOUT", "ip_expire", "ip.frag_reassembly"),
            ("UDP_CSUM", "__udp4_lib_rcv", "udp.bad_checksum"),
            ("TCP_CSUM", "tcp_v4_rcv", "tcp.bad_checksum"),
        ];
        for (reason, function, cause) in cases {
            let mut world = World::pair();
            world.drops(SERVER, reason, function, 4);
            assert_eq!(world.found(), [format!("{cause} @ netns:server: eth0")]);
            assert_eq!(world.report().ledger.lost, 4);
        }
    }

    #[test]
    fn a_counter_alone_is_enough_and_harmless_places_are_not() {
        let mut world = World::pair();
        world.rises(SERVER, "Udp.InCsumErrors", 3);
        assert_eq!(world.found(), ["udp.bad_checksum @ netns:server: udp.receive"]);

        let mut world = World::pair();
        world.drops(SERVER, "NOT_SPECIFIED", "ip6_mc_input", 9).drops(SERVER, "IP_INHDR", "ip_forward", 9);
        assert_eq!(world.report().verdict, Verdict::Clear);
    }
}
