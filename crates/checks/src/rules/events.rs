//! Causes of which the kernel's drop events are the main witness: facts know which place admits which cause.

use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::manual;
use crate::loss::{Kind, Loss};
use crate::tell::BY_EVENTS;
use whydrop_model::{Cause, Text};

/// What is seen of a cause, and what there is to say of it.
#[derive(Clone, Copy)]
pub struct Events {
    /// Stage of a packet's way.
    pub stage: &'static str,
    /// Protocol counters that together count the same packets.
    pub counters: &'static [&'static str],
    /// IP protocol of the packets; none if any can be hit.
    pub protocol: Option<u8>,
    /// What happens.
    pub summary: Text,
    /// What to do.
    pub advice: Text,
}

/// Judges a cause by the drop events whose place admits no other, and by protocol counters.
pub fn by_events<'a>(space: Space<'a>, cause: &'static Cause, seen: Events) -> Option<Culprit<'a>> {
    by_these_events(space, cause, seen, |loss| loss.is_of(cause.id))
}

/// As [`by_events`], for events that the place alone does not give to this cause. The interface that most of them met
/// is the subject.
pub fn by_these_events<'a>(
    space: Space<'a>,
    cause: &'static Cause,
    seen: Events,
    mine: impl Fn(&Loss<'a>) -> bool + 'a,
) -> Option<Culprit<'a>> {
    // Whether conditional drops are harm is for those to say who miss the packets.
    let takes = move |loss: &Loss<'a>| (loss.kind == Kind::Drop || loss.flow.is_some()) && mine(loss);
    let lost: Vec<&Loss<'a>> = space.losses().filter(|loss| is_any(space, loss, &takes)).collect();
    let events: u64 = lost.iter().map(|loss| loss.packets).sum();
    let rise = |name: &str| space.mib(name) + space.mib6(name);
    let rises: Vec<(&'static str, u64)> =
        seen.counters.iter().map(|name| (*name, rise(name))).filter(|(_, n)| *n > 0).collect();
    let counted: u64 = rises.iter().map(|(_, n)| n).sum();
    if events == 0 && counted == 0 {
        return None;
    }
    let busiest = lost.iter().max_by_key(|loss| loss.packets).and_then(|loss| loss.count);
    let subject = busiest.and_then(|count| count.interface.clone()).unwrap_or_else(|| seen.stage.to_owned());
    let counter = rises.iter().max_by_key(|(_, n)| *n).map_or("", |(name, _)| *name);
    let source = if counted > events { counter } else { BY_EVENTS };
    let culprit = Culprit::new(space, cause, seen.stage, Scope::Netns, subject)
        .direction(busiest.and_then(|count| count.direction))
        .meter(events.max(counted), Count::Exact, source)
        .takes(move |loss| sure(loss.is_in(space) && takes(loss)))
        .harms(move |flow| {
            let meant = seen.protocol.is_none_or(|protocol| flow.protocol == protocol);
            if meant && flow.suffers() && flow.visits(space) { Fit::Maybe } else { Fit::No }
        })
        .tell(move |_| {
            let story = Story::new(seen.summary.phrase()).fix(manual(seen.advice));
            rises.iter().fold(story, |story, (name, n)| story.counter(name, *n))
        });
    Some(culprit)
}

/// True if the loss is of this kind. Of drops that were only counted, those that were sampled of the same shape tell.
pub fn is_any<'a>(space: Space<'a>, loss: &Loss<'a>, kind: &impl Fn(&Loss<'a>) -> bool) -> bool {
    match loss.alike.is_empty() {
        true => kind(loss),
        false => loss.alike.iter().filter_map(|id| space.case.losses.get(*id)).any(kind),
    }
}

/// A sampled drop on its way from one address to another, for tests.
#[cfg(test)]
pub fn sample(
    world: &mut crate::testing::World,
    index: usize,
    like: whydrop_model::DropEvent,
    from: &str,
    to: &str,
) {
    let netns_inode = Some(world.observation.namespaces[index].target.netns_inode);
    let (source, destination) = (from.parse().ok(), to.parse().ok());
    let (link, interface) = (Some(2), Some("eth0".into()));
    if let whydrop_model::Reading::Present(log) = &mut world.observation.drops {
        log.sampled.push(whydrop_model::DropEvent {
            netns_inode,
            source,
            destination,
            link,
            interface,
            ..like
        });
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
            ("TCP_MD5NOTFOUND", "tcp_v4_rcv", "tcp.md5_mismatch"),
            ("TCP_RFC7323_PAWS", "tcp_validate_incoming", "tcp.paws"),
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

        for (counter, found) in [
            ("Udp.MemErrors", "udp.memory @ netns:server: socket.receive_queue"),
            ("TcpExt.TCPMD5Failure", "tcp.md5_mismatch @ netns:server: tcp.receive"),
        ] {
            let mut world = World::pair();
            world.rises(SERVER, counter, 3);
            assert_eq!(world.found(), [found]);
        }

        // Old segments that nobody misses.
        let mut world = World::pair();
        world.rises(SERVER, "TcpExt.PAWSTimewait", 3);
        assert_eq!(world.report().verdict, Verdict::Clear);

        let mut world = World::pair();
        world.drops(SERVER, "NOT_SPECIFIED", "ip6_mc_input", 9).drops(SERVER, "IP_INHDR", "ip_forward", 9);
        assert_eq!(world.report().verdict, Verdict::Clear);
    }
}
