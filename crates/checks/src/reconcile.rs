//! The kernel's drop events against what the rules counted, so that each dropped packet is charged once.
//!
//! A rule's counter, a queue's and the drop events see the same packets. What a suspect counted takes its share of
//! the events away; a suspect without a counter is counted by the events at its place; what then is left was lost
//! and nobody knows why.

use crate::case::{Case, Space};
use crate::fate::Death;
use crate::rule::{Excused, Rule, Suspect};
use crate::rules::route::circle;
use whydrop_facts::Class;
use whydrop_facts::place::{self, Place};
use whydrop_model::{DropCount, DropLog, Unexplained};

/// What counted a suspect that has no counter of its own.
pub const BY_EVENTS: &str = "drop events";

/// The counter of frames that an interface dropped.
pub const FRAMES: &str = "rx_dropped";
/// One in so many events may fall between the reading of the events and that of the counters.
const SLACK_SHARE: u64 = 8;
/// The layer of links and queues.
const DEVICE: &str = "device";

/// Events of one kind that no suspect has claimed yet.
struct Row<'a> {
    space: Space<'a>,
    count: &'a DropCount,
    place: Place,
    left: u64,
    /// Of those left, how many may still turn out to be one of our probes.
    strangers: u64,
}

/// What no suspect accounts for.
pub struct Unclaimed<'a> {
    rows: Vec<Row<'a>>,
    /// Frames that interfaces dropped before the kernel had a packet to report.
    frames: Vec<Unexplained>,
}

/// How near a suspect stands to where packets were dropped; nearer ones are asked first.
const NEARNESS: [fn(&Claim, &Row<'_>) -> bool; 4] = [
    |claim, row| claim.here(row) && claim.is_cause_of(row),
    |claim, row| claim.here(row) && group(&claim.stage) == group(row.place.stage),
    // A link's two ends may lie in two namespaces.
    |claim, row| claim.is_cause_of(row),
    |claim, row| claim.here(row) && layer(&claim.stage) == layer(row.place.stage),
];

/// What a suspect, or an innocent explanation, says of the packets that it took.
struct Claim {
    /// Index of the suspect, if it is one.
    suspect: Option<usize>,
    target: String,
    cause: Option<String>,
    stage: String,
    /// Packets; none if it does not count.
    packets: Option<u64>,
}

impl Claim {
    fn here(&self, row: &Row<'_>) -> bool {
        row.space.target().id == self.target
    }

    fn is_cause_of(&self, row: &Row<'_>) -> bool {
        self.cause.is_some() && self.cause.as_deref() == row.place.cause
    }
}

/// `netfilter` of `netfilter.input`.
fn group(stage: &str) -> &str {
    stage.split('.').next().unwrap_or(stage)
}

/// The layer of a stage: causes and drops of one layer are told apart by names that differ from kernel to kernel.
fn layer(stage: &str) -> &'static str {
    match group(stage) {
        "link" | "nic" | "xdp" | "tc" | "qdisc" | "softnet" | "bridge" | "tun" | "tunnel" | "ovs"
        | "wifi" => DEVICE,
        "ip" | "route" | "neighbour" | "xfrm" => "network",
        "netfilter" | "conntrack" => "netfilter",
        "socket" | "tcp" | "udp" | "icmp" | "cgroup" => "socket",
        _ => "unknown",
    }
}

/// Charges the harmful drop events of the targets to the suspects, and counts by them those that have no counter.
pub fn settle<'a>(case: Case<'a>, suspects: &mut [(&Rule, Suspect)], excused: &[Excused]) -> Unclaimed<'a> {
    let mut rows = harmful(case);
    let of_suspect = |(index, (_, suspect)): (usize, &(&Rule, Suspect))| Claim {
        suspect: Some(index),
        target: suspect.finding.target.clone(),
        cause: Some(suspect.finding.cause.clone()),
        stage: suspect.finding.stage.clone(),
        packets: suspect.finding.packets_lost,
    };
    let of_excuse = |excused: &Excused| Claim {
        suspect: None,
        target: excused.target.clone(),
        cause: None,
        stage: excused.stage.clone(),
        packets: Some(excused.packets),
    };
    let mut claims: Vec<Claim> = suspects.iter().enumerate().map(of_suspect).collect();
    claims.extend(excused.iter().map(of_excuse));
    for near in NEARNESS {
        for row in &mut rows {
            let mut near: Vec<&mut Claim> = claims.iter_mut().filter(|claim| near(claim, row)).collect();
            // Those that counted know how many; the rest of the same place falls to one that did not.
            for claim in &mut near {
                let Some(pool) = claim.packets.as_mut() else { continue };
                let take = row.left.min(*pool);
                *pool -= take;
                row.left -= take;
                if let Some((_, suspect)) = claim.suspect.and_then(|index| suspects.get_mut(index)) {
                    suspect.witnessed += take;
                }
            }
            let uncounted = near.into_iter().find(|claim| claim.packets.is_none());
            if let Some(index) = uncounted.and_then(|claim| claim.suspect).filter(|_| row.left > 0)
                && let Some((_, suspect)) = suspects.get_mut(index)
            {
                count(suspect, row);
            }
        }
    }
    rows.retain(|row| row.left > 0);
    rows.iter_mut().for_each(|row| row.strangers = row.left);
    let suspects = suspects.iter().map(|(_, suspect)| suspect);
    Unclaimed { rows, frames: frames(case, &suspects.collect::<Vec<_>>()) }
}

/// Interfaces whose `rx_dropped` rose by more than drop events and findings account for. The kernel reports a drop of
/// every packet that it had; what a driver threw away before that is seen by the counter alone.
fn frames(case: Case<'_>, suspects: &[&Suspect]) -> Vec<Unexplained> {
    let complete = |log: &DropLog| log.knows_namespaces() && log.tracer_lost == 0;
    if !case.drop_log().is_some_and(complete) {
        return vec![];
    }
    // A frame may be charged to either end of a link: what any finding of this layer counted is taken off.
    let at_devices = || suspects.iter().filter(|s| layer(&s.finding.stage) == DEVICE);
    let mut known: u64 = at_devices().filter_map(|s| s.finding.packets_lost).sum();
    let uncounted = |space: &Space<'_>| {
        at_devices().any(|s| s.finding.packets_lost.is_none() && s.finding.target == space.target().id)
    };
    let mut out = vec![];
    for space in case.spaces().filter(|space| space.is_target() && !uncounted(space)) {
        for link in space.links().filter(|link| !link.loopback) {
            let events: u64 =
                space.drop_counts().filter(|c| c.link == Some(link.index)).map(|c| c.drops).sum();
            let rise = space.link_rise(link, FRAMES).saturating_sub(events);
            // The two are not read at the same moment.
            let left = rise.saturating_sub(events / SLACK_SHARE).saturating_sub(u64::from(events > 0));
            let packets = left.saturating_sub(known);
            known = known.saturating_sub(left);
            if packets > 0 {
                out.push(Unexplained {
                    target: space.target().id.clone(),
                    stage: "link.receive".to_owned(),
                    reason: String::new(),
                    function: String::new(),
                    interface: Some(link.name.clone()),
                    packets,
                    source: FRAMES.to_owned(),
                    suspected: None,
                });
            }
        }
    }
    out
}

/// Drop events that are harm wherever they happen, in the namespaces that were asked about; and the ends of packets
/// whose TTL was used up, unless it was a traceroute that sent them to find out where that happens.
fn harmful(case: Case<'_>) -> Vec<Row<'_>> {
    let rows = case.spaces().filter(|space| space.is_target()).flat_map(|space| {
        space.drop_counts().map(move |count| {
            let place = place::of_count(count);
            let left = match place.cause {
                _ if is_harm(place.class) => count.drops,
                Some(cause) if cause == circle::CAUSE.id => circle::not_traced(space, count),
                _ => 0,
            };
            Row { space, count, place, left, strangers: 0 }
        })
    });
    rows.filter(|row| row.left > 0).collect()
}

const fn is_harm(class: Class) -> bool {
    matches!(class, Class::Loss | Class::Policy)
}

fn count(suspect: &mut Suspect, row: &mut Row<'_>) {
    let finding = &mut suspect.finding;
    *finding.packets_lost.get_or_insert(0) += row.left;
    finding.counted_by = Some(BY_EVENTS.to_owned());
    suspect.witnessed += row.left;
    // Probes may have died where no event tells.
    suspect.loses_more = true;
    suspect.counted_alone = true;
    if finding.evidence.iter().all(|evidence| evidence.source != BY_EVENTS) {
        *suspect = suspect.clone().drop_events(row.left, &row.count.reason);
    }
    row.left = 0;
}

impl Unclaimed<'_> {
    /// True if a probe that died so is among these packets; each packet is one probe at most.
    pub fn holds(&mut self, death: &Death<'_>) -> bool {
        let event = death.event;
        let same = |row: &&mut Row<'_>| {
            row.count.netns_inode == event.netns_inode
                && row.count.reason == event.reason
                && row.count.function == event.function
                && row.strangers > 0
        };
        let row = self.rows.iter_mut().find(same);
        row.map(|row| row.strangers -= 1).is_some()
    }

    /// The places for the ledger; kinds of one place that differ only in their packets are one.
    pub fn places(&self) -> Vec<Unexplained> {
        let mut out = self.frames.clone();
        for row in &self.rows {
            let place = Unexplained {
                target: row.space.target().id.clone(),
                stage: row.place.stage.to_owned(),
                reason: row.count.reason.clone(),
                function: row.count.function.clone(),
                interface: row.count.interface.clone(),
                packets: row.left,
                source: BY_EVENTS.to_owned(),
                suspected: row.place.cause.map(str::to_owned),
            };
            let same =
                |known: &&mut Unexplained| Unexplained { packets: row.left, ..(*known).clone() } == place;
            match out.iter_mut().find(same) {
                Some(known) => known.packets += row.left,
                None => out.push(place),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::netfilter::{Hook, Match, RuleVerdict};
    use whydrop_model::snapshot::QdiscOptions;
    use whydrop_model::{Report, Verdict};

    fn books(report: &Report) -> (u64, u64) {
        let ledger = &report.ledger;
        assert_eq!(ledger.lost, ledger.explained + ledger.unexplained);
        assert_eq!(ledger.unexplained_at.iter().map(|p| p.packets).sum::<u64>(), ledger.unexplained);
        (ledger.explained, ledger.unexplained)
    }

    #[test]
    fn a_harmful_drop_that_no_rule_knows_is_unexplained_and_has_a_place() {
        let mut world = World::pair();
        world.drops(SERVER, "TCP_ZEROWINDOW", "tcp_data_queue", 3);
        let report = world.report();
        assert_eq!((report.verdict, books(&report)), (Verdict::Loss, (0, 3)));
        let place = &report.ledger.unexplained_at[0];
        assert_eq!((place.stage.as_str(), place.function.as_str()), ("tcp.receive", "tcp_data_queue"));
        assert_eq!(place.suspected.as_deref(), Some("app.slow_reader"));
    }

    #[test]
    fn what_is_harmless_or_happens_elsewhere_is_no_loss() {
        let mut world = World::pair();
        world.drops(SERVER, "NO_SOCKET", "tcp_v4_rcv", 9).drops(SERVER, "OTHERHOST", "ip_rcv_core", 9);
        world.drops(CLIENT, "TCP_ZEROWINDOW", "tcp_data_queue", 9);
        let report = world.report();
        assert_eq!((report.verdict, books(&report)), (Verdict::Clear, (0, 0)));
    }

    #[test]
    fn frames_that_the_kernel_never_had_as_packets_are_unexplained_if_its_drops_were_seen() {
        let stands_at = |n: u64| {
            move |s: &mut whydrop_model::Snapshot| {
                if let whydrop_model::Reading::Present(links) = &mut s.links {
                    links.iter_mut().for_each(|link| link.stats.extend([("rx_dropped".to_owned(), n)]));
                }
            }
        };
        let dropping = |events| {
            let mut world = World::pair();
            world.both(SERVER, stands_at(0)).after(SERVER, stands_at(40));
            if events > 0 {
                world.drops(SERVER, "UNHANDLED_PROTO", "__netif_receive_skb_core", events);
            }
            world
        };
        assert_eq!(books(&dropping(0).report()), (0, 40));
        assert_eq!(books(&dropping(39).report()), (0, 0), "LLDP and the like");
        let mut blind = dropping(0);
        blind.observation.drops = whydrop_model::Reading::Denied("CAP_BPF".into());
        assert_eq!(books(&blind.report()), (0, 0), "without events nobody can say that there were none");
    }

    #[test]
    fn a_packet_that_a_counter_and_an_event_saw_is_charged_once() {
        let mut world = World::pair();
        let dropping = |text| rule(text, RuleVerdict::Drop, Some(0), vec![Match::L4Proto(17)]);
        world.chain(SERVER, chain("INPUT", Hook::Input, RuleVerdict::Accept, vec![dropping("-p udp")]), &[7]);
        world.drops(SERVER, "NETFILTER_DROP", "nf_hook_slow", 7);
        world.both(SERVER, |s| {
            s.qdiscs = whydrop_model::Reading::Present(vec![qdisc("tbf", 0, QdiscOptions::Other)]);
        });
        world.after(SERVER, |s| {
            s.qdiscs = whydrop_model::Reading::Present(vec![qdisc("tbf", 5, QdiscOptions::Other)]);
        });
        world.drops(SERVER, "QDISC_DROP", "__dev_queue_xmit", 6);
        // The queue counted five; the sixth is nobody's.
        assert_eq!(books(&world.report()), (12, 1));
    }

    #[test]
    fn a_cause_without_counter_is_counted_by_the_events_at_its_place() {
        let mut world = World::pair();
        world.both(SERVER, |s| {
            let down = |link: &mut whydrop_model::snapshot::Link| link.up = link.loopback;
            if let whydrop_model::Reading::Present(links) = &mut s.links {
                links.iter_mut().for_each(down);
            }
        });
        world.drops(SERVER, "DEV_READY", "__dev_queue_xmit", 4);
        let report = world.report();
        assert_eq!(books(&report), (4, 0), "{:?}", report.findings);
    }
}
