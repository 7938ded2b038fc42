//! Translators that choose: several rules, or one with a map, of which chance, a counter or a hash takes one.
//!
//! The rules alone do not say to which place a connection goes. What connection tracking knows does, and so does a packet
//! that was sent again and died behind the translator: it leaves the sequence number as it is.

use super::case::Space;
use super::packet::Packet;
use super::tracked;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use whydrop_model::flow::FlowDirection;

const TCP: u8 = 6;
/// A translator has a place for each of its servers; more than these are not followed.
const MOST: usize = 8;

/// A translator that chooses, on the way of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its namespace.
    pub inode: u64,
    /// What it is asked for.
    pub asked: SocketAddr,
    /// Where it sends that, as far as it is known.
    pub to: Vec<SocketAddr>,
}

impl Choice {
    /// What a namespace may make of the requests that come to it as `packet`, given what its rules could make of it; none
    /// if it does not choose.
    pub fn of(space: Space<'_>, packet: &Packet, shapes: &[Packet]) -> Option<Self> {
        let (client, asked) = (packet.source?, end(packet)?);
        let mut to: BTreeSet<SocketAddr> = shapes.iter().filter_map(end).collect();
        to.extend(tracked::sent_to(space, packet.protocol, client, asked));
        to.extend(died(space, packet.protocol, client, asked));
        to.remove(&asked);
        let to: Vec<SocketAddr> = to.into_iter().take(MOST).collect();
        (!to.is_empty()).then(|| Self { inode: space.inode(), asked, to })
    }
}

/// Where requests of a client went that died in this namespace.
fn died(space: Space<'_>, protocol: u8, client: IpAddr, asked: SocketAddr) -> BTreeSet<SocketAddr> {
    let mine = |event: &&whydrop_model::DropEvent| {
        event.protocol == Some(protocol) && event.source.is_some_and(|source| source.ip() == client)
    };
    let mut dropped = space.drop_events().filter(mine).filter(|_| protocol == TCP).peekable();
    if dropped.peek().is_none() {
        return BTreeSet::new();
    }
    let log = space.case.observation.flows.get().into_iter().flat_map(|log| &log.repeats);
    let asks = log.filter(|repeat| {
        repeat.direction == FlowDirection::Out && repeat.local.ip() == client && repeat.remote == asked
    });
    let again: BTreeSet<(u16, u32)> = asks.map(|repeat| (repeat.local.port(), repeat.seq)).collect();
    let is_known = |event: &&whydrop_model::DropEvent| {
        event.source.zip(event.tcp_seq).is_some_and(|(source, seq)| again.contains(&(source.port(), seq)))
    };
    dropped.filter(is_known).filter_map(|event| event.destination).collect()
}

fn end(packet: &Packet) -> Option<SocketAddr> {
    Some(SocketAddr::new(packet.destination?, packet.destination_port?))
}
