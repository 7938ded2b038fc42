//! Segments that the machine that sends them dropped itself, in a queue or a filter behind its TCP.
//!
//! TCP is told at once and sends them later, as if they had not been sent: no repetition is counted
//! (`tcp_write_xmit`, `tcp_retransmit_skb`). Only the drop tells that the connection waits.

use super::talk::{Key, Talks};
use crate::evidence::case::{Case, Space};
use std::net::SocketAddr;
use whydrop_facts::Class;
use whydrop_facts::place;
use whydrop_model::DropEvent;

const TCP: u8 = 6;
const SYN: u8 = 2;
/// Stages behind TCP on the sender's machine.
const BEHIND: [&str; 3] = ["qdisc.transmit", "netfilter.output", "netfilter.postrouting"];

/// Adds them to the conversations that are known.
pub fn add<'a>(case: Case<'a>, talks: &mut Talks<'a>) {
    for event in case.drop_log().into_iter().flat_map(|log| &log.sampled) {
        let Some(at) = event.netns_inode.and_then(|inode| case.space_by_inode(inode)) else { continue };
        let Some((from, to)) = segment(at, event) else { continue };
        let keys = [Key::into(at, TCP, to.ip(), from), Key::out(at, TCP, from.ip(), to)];
        if let Some(key) = keys.into_iter().find(|key| talks.knows(*key)) {
            talks.at(key).told.to_mut().data_repeats += 1;
        }
    }
}

/// The ends of a segment of an own connection that was dropped so. What opens a connection is an attempt, which is known.
fn segment(at: Space<'_>, event: &DropEvent) -> Option<(SocketAddr, SocketAddr)> {
    let place = place::of_event(event);
    let dropped = matches!(place.class, Class::Loss | Class::Policy) && BEHIND.contains(&place.stage);
    let data = event.protocol == Some(TCP) && event.tcp_flags.is_some_and(|flags| flags & SYN == 0);
    let (from, to) = (event.source?, event.destination?);
    (dropped && data && at.after.owns(from.ip())).then_some((from, to))
}
