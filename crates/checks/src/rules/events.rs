//! Causes of which the kernel's drop events are the main witness: facts know which place admits which cause.

use crate::case::Space;
use crate::rule::{Judgement, Suspect, manual};
use whydrop_facts::{Class, place};
use whydrop_model::{Cause, DropCount, Text};

/// True if the place of a drop admits this cause only, and the drop is harm without further conditions.
fn is_harm(count: &DropCount, cause: &Cause) -> bool {
    let place = place::of_count(count);
    place.cause == Some(cause.id) && matches!(place.class, Class::Loss | Class::Policy)
}

/// Judges a cause by the drop events whose place admits no other, and by a protocol counter that counts the same
/// packets. The interface that most of them met is the subject.
pub fn by_events(
    space: Space<'_>,
    cause: &'static Cause,
    stage: &str,
    counter: Option<&str>,
    summary: Text,
    advice: Text,
) -> Judgement {
    let mine: Vec<&DropCount> = space.drop_counts().filter(|c| is_harm(c, cause)).collect();
    let events: u64 = mine.iter().map(|c| c.drops).sum();
    let rise = counter.map_or(0, |name| space.mib(name));
    if events == 0 && rise == 0 {
        return Judgement::default();
    }
    let busiest = mine.iter().max_by_key(|c| c.drops);
    let subject = busiest.and_then(|c| c.interface.clone()).unwrap_or_else(|| stage.to_owned());
    let reason = busiest.map_or("", |c| c.reason.as_str());
    let mut suspect = Suspect::new(space, cause, stage, subject, summary.phrase())
        .packets(events.max(rise), if rise > events { counter.unwrap_or_default() } else { "drop events" })
        .drop_events(events, reason)
        .touches(space.probes_through())
        .fix(manual(advice));
    suspect.finding.direction = busiest.and_then(|c| c.direction);
    if let Some(name) = counter.filter(|_| rise > 0) {
        suspect = suspect.counter(name, rise);
    }
    vec![suspect].into()
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::Verdict;

    #[test]
    fn a_place_that_admits_one_cause_names_it() {
        let cases = [
            ("IP_INVALID_SOURCE", "ip_rcv_finish_core", "route.martian_source"),
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
