//! Dropped packets of programs' conversations: which flow they belong to.
//!
//! By their addresses and the well-known port; behind a translator, which leaves a TCP sequence number as it is, by the
//! segments that were sent again.

use super::LONGEST_WAIT_NS;
use super::death::Leg;
use crate::evidence::case::Case;
use crate::evidence::flow::Flow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use whydrop_model::DropEvent;
use whydrop_model::flow::{FlowDirection, Repeat};

const TCP: u8 = 6;
/// Protocol, who began, whom he asked, and the port.
type Key = (u8, IpAddr, IpAddr, u16);

/// The conversations in trouble, to be found by a packet.
pub struct Conversations<'f, 'a> {
    flows: &'f [Flow<'a>],
    case: Case<'a>,
    by_ends: BTreeMap<Key, Vec<usize>>,
    /// First sequence numbers of segments that were sent again, with the time of that.
    by_sequence: BTreeMap<u32, Vec<(usize, Leg, u64)>>,
    /// Ports from which our own probes are sent.
    probers: BTreeSet<u16>,
}

impl<'f, 'a> Conversations<'f, 'a> {
    /// Indexes the flows that are conversations.
    pub fn of(case: Case<'a>, flows: &'f [Flow<'a>]) -> Self {
        let sent = flows.iter().filter_map(|flow| flow.probe()).flat_map(|probe| &probe.packets);
        let probers = sent.map(|packet| packet.sport).collect();
        let mut out = Self { flows, case, by_ends: BTreeMap::new(), by_sequence: BTreeMap::new(), probers };
        for flow in flows {
            let Some(talk) = flow.conversation() else { continue };
            let (asks, asked) = match talk.direction {
                FlowDirection::Out => (talk.local.ip(), talk.remote.ip()),
                FlowDirection::In => (talk.remote.ip(), talk.local.ip()),
            };
            out.by_ends.entry((talk.protocol, asks, asked, talk.port())).or_default().push(flow.id);
        }
        // Behind a translator that its way is known to pass; whoever is named so without one comes first.
        for flow in flows {
            let Some(talk) = flow.conversation() else { continue };
            let hops = flow.ways().flat_map(|way| &way.forward.hops);
            for packet in hops.flat_map(|hop| [&hop.routed, &hop.late]) {
                let (Some(asks), Some(asked)) = (packet.source, packet.destination) else { continue };
                let port = packet.destination_port.unwrap_or(0);
                let known = out.by_ends.entry((talk.protocol, asks, asked, port)).or_default();
                if !known.contains(&flow.id) {
                    known.push(flow.id);
                }
            }
        }
        let repeats = case.observation.flows.get().into_iter().flat_map(|log| &log.repeats);
        for repeat in repeats {
            if let Some((flow, leg)) = out.of_repeat(repeat) {
                out.by_sequence.entry(repeat.seq).or_default().push((flow, leg, repeat.realtime_ns));
            }
        }
        out
    }

    /// The flow of a segment that was sent again, and which of its packets it is.
    pub fn of_repeat(&self, repeat: &Repeat) -> Option<(usize, Leg)> {
        let (asks, asked, leg) = match repeat.direction {
            FlowDirection::Out => (repeat.local.ip(), repeat.remote, Leg::Request),
            FlowDirection::In => (repeat.remote.ip(), repeat.local, Leg::Answer),
        };
        let known = self.by_ends.get(&(TCP, asks, asked.ip(), asked.port()))?;
        Some((self.nearest(known, Some(repeat.netns_inode))?, leg))
    }

    /// Of the flows of the same ends the one that comes by a namespace: the same addresses may be in use in several
    /// networks of one machine.
    fn nearest(&self, known: &[usize], inode: Option<u64>) -> Option<usize> {
        let space = inode.and_then(|inode| self.case.space_by_inode(inode));
        let flow = |id: &usize| self.flows.get(*id);
        let passes = |id: &&usize| space.zip(flow(id)).is_some_and(|(space, flow)| flow.visits(space));
        let home = |id: &usize| flow(id).and_then(|flow| flow.conversation()).map(|talk| talk.netns_inode);
        let first = known.first()?;
        let only = known.iter().all(|id| home(id) == home(first));
        known.iter().find(passes).or(Some(first).filter(|_| only)).copied()
    }

    /// The flow of a dropped packet, and which of its packets it is.
    pub fn of_event(&self, event: &DropEvent) -> Option<(usize, Leg)> {
        let (protocol, source, destination) = (event.protocol?, event.source?, event.destination?);
        if self.probers.contains(&source.port()) || self.probers.contains(&destination.port()) {
            return None;
        }
        let ends = |asks: IpAddr, asked: IpAddr, port| {
            let known = self.by_ends.get(&(protocol, asks, asked, port))?;
            self.nearest(known, event.netns_inode)
        };
        if let Some(flow) = ends(source.ip(), destination.ip(), destination.port()) {
            return Some((flow, Leg::Request));
        }
        if let Some(flow) = ends(destination.ip(), source.ip(), source.port()) {
            return Some((flow, Leg::Answer));
        }
        let again = self.by_sequence.get(&event.tcp_seq.filter(|_| protocol == TCP)?)?;
        let in_time = |at: u64| event.realtime_ns <= at && at - event.realtime_ns < LONGEST_WAIT_NS;
        again.iter().find(|(_, _, at)| in_time(*at)).map(|(flow, leg, _)| (*flow, *leg))
    }
}
