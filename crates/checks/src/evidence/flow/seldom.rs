//! Clients that ask so seldom that a window shows one or two of their attempts, as health checks and timers do.
//!
//! One failure is an accident as long as nothing tells that the next attempt will fail, too. A packet of it that was seen
//! to die on its way to a port that is open tells that; so does another attempt a while later, where the host that is
//! asked is in view.

use super::Flow;
use super::conversation;
use super::talk::{Talk, Talks};
use crate::evidence::case::Case;
use crate::evidence::offer;
use crate::evidence::translate::Translators;
use crate::loss::{Conversations, opens_connection};
use std::collections::BTreeSet;
use whydrop_facts::Class;
use whydrop_facts::place;
use whydrop_model::DropEvent;
use whydrop_model::flow::FlowDirection;
use whydrop_model::snapshot::Protocol;

/// Attempts that are further apart are two of a client that means it, and not one that was tried twice.
const APART_NS: u64 = 1_000_000_000;

/// Marks the conversations that had few attempts and will have no success.
pub fn add<'a>(case: Case<'a>, nat: &Translators<'a>, talks: &mut Talks<'a>) {
    let mut flows: Vec<Flow<'a>> = vec![];
    let mut places = vec![];
    for (place, talk) in talks.list.iter().enumerate().filter(|(_, talk)| failures(talk) > 0) {
        let flow = case
            .space_by_inode(talk.told.netns_inode)
            .and_then(|space| conversation::flow(flows.len(), nat, space, talk, conversation::trouble(talk)));
        if let Some(flow) = flow.filter(|flow| flow.destination(case).is_some()) {
            flows.push(flow);
            places.push(place);
        }
    }
    let dead = dead(case, &flows);
    for (place, flow) in places.into_iter().zip(&flows) {
        let Some(talk) = talks.list.get_mut(place) else { continue };
        let apart = talk.told.last_ns.saturating_sub(talk.told.first_ns) >= APART_NS;
        talk.in_vain = failures(talk) > 1 && apart || dead.contains(&flow.id) && is_offered(case, flow);
    }
}

/// Attempts that ended without a connection, or whose first packet was sent again; none if another one got through.
fn failures(talk: &Talk<'_>) -> u64 {
    let told = &talk.told;
    match (told.direction, told.established) {
        (FlowDirection::Out, 0) => told.failed + talk.waiting().min(told.syn_repeats),
        _ => 0,
    }
}

/// The numbers of those of which a packet that opens a connection was seen to die.
fn dead(case: Case<'_>, flows: &[Flow<'_>]) -> BTreeSet<usize> {
    let opens = |event: &&DropEvent| {
        opens_connection(event) && matches!(place::of_event(event).class, Class::Loss | Class::Policy)
    };
    let known = Conversations::of(case, flows);
    let sampled = case.drop_log().into_iter().flat_map(|log| &log.sampled).filter(opens);
    sampled.filter_map(|event| Some(known.of_event(event)?.0)).collect()
}

/// True if somebody listens where its packets go.
fn is_offered(case: Case<'_>, flow: &Flow<'_>) -> bool {
    let asked = flow.destination(case).zip(flow.arrival().and_then(|packet| packet.destination_port));
    asked.is_some_and(|(there, port)| offer::is_open(there, Protocol::Tcp, port) == Some(true))
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::snapshot::Protocol;
    use whydrop_model::{DropEvent, Reading};

    /// A client whose attempts failed, all within so many milliseconds.
    fn failing(attempts: u64, within_ms: u64) -> World {
        let mut world = World::pair();
        world.listens(SERVER, Protocol::Tcp, "0.0.0.0:80");
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        (talk.attempts, talk.failed, talk.abandoned) = (attempts, attempts, attempts);
        (talk.first_ns, talk.last_ns) = (1, 1 + within_ms * 1_000_000);
        world
    }

    /// The server drops a segment with these flags of the client's.
    fn drops(world: &mut World, port: u16, flags: u8) {
        world.drops(SERVER, "NETFILTER_DROP", "nf_hook_slow", 1);
        let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
        log.sampled.push(DropEvent {
            reason: "NETFILTER_DROP".into(),
            function: "nf_hook_slow".into(),
            protocol: Some(6),
            tcp_flags: Some(flags),
            source: Some(([10, 0, 0, 1], 40_000).into()),
            destination: Some(([10, 0, 0, 2], port).into()),
            link: Some(2),
            netns_inode: Some(4002),
            ..DropEvent::default()
        });
    }

    #[test]
    fn one_attempt_whose_syn_was_seen_to_die_before_an_open_port_is_trouble() {
        let flows = |port: u16, flags: u8| {
            let mut world = failing(1, 500);
            drops(&mut world, port, flags);
            world.report().flows.len()
        };
        assert_eq!(flows(80, 2), 1);
        // What died is of somebody else, or ended another connection.
        assert_eq!(flows(81, 2), 0);
        assert_eq!(flows(80, 0x11), 0);
        assert_eq!(failing(1, 500).report().flows.len(), 0, "nothing tells why it failed");
    }

    #[test]
    fn one_drop_before_a_closed_port_is_no_trouble() {
        let mut world = World::pair();
        let talk = world.talk(CLIENT, "10.0.0.2:8080");
        (talk.attempts, talk.failed, talk.abandoned) = (1, 1, 1);
        drops(&mut world, 8080, 2);
        assert_eq!(world.report().flows.len(), 0);
    }

    #[test]
    fn two_attempts_apart_are_trouble_and_one_that_is_tried_twice_is_none() {
        assert_eq!(failing(2, 2000).report().flows.len(), 1);
        assert_eq!(failing(2, 20).report().flows.len(), 0);
        let mut served = failing(2, 2000);
        let Reading::Present(log) = &mut served.observation.flows else { panic!("flows") };
        let talk = log.conversations.last_mut().unwrap();
        (talk.attempts, talk.established) = (3, 1);
        assert_eq!(served.report().flows.len(), 0);
    }
}
