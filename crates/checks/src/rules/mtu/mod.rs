//! What fits into one packet.

pub mod peer_mismatch;
pub mod pmtu_blackhole;
#[cfg(test)]
mod tests;
pub mod too_small;

use crate::case::Space;
use crate::rule::fix;
use crate::rules::softnet::backlog_overflow;
use whydrop_facts::place;
use whydrop_model::DropCount;
use whydrop_model::action::Action;
use whydrop_model::finding::Step;
use whydrop_model::snapshot::Link;
use whydrop_model::{Applicability, Fix, Text, text};

/// RFC 791: every host takes a datagram of 576 bytes.
const IPV4_MINIMUM: u32 = 576;

/// RFC 8200: every link carries 1280 bytes.
const IPV6_MINIMUM: u32 = 1280;

/// Bytes that interface counters include and the MTU does not.
const ETHERNET_HEADER: u32 = 14;

/// What Ethernet carries; the MTU to go back to where the other end is out of sight.
const ETHERNET: u32 = 1500;

/// The function that discards a frame above the MTU of the receiving end (with reason NOT_SPECIFIED up to 6.18).
const FORWARD_SKB: &str = "__dev_forward_skb";

const SET: Text = text!("set the MTU of {dev} to {mtu}", "把 {dev} 的 MTU 设为 {mtu}");

/// Probes through this interface that carry more than a handshake does.
fn carrying(space: Space<'_>, link: u32) -> Vec<usize> {
    let large = |i: &usize| {
        let way = space.case.ways.get(*i);
        way.is_some_and(|way| {
            way.probe.http.is_some() || matches!(way.probe.method.as_str(), "http" | "pmtu")
        })
    };
    space.probes_via(link).into_iter().filter(large).collect()
}

/// Frames that were larger than this end of a veth takes. The sender counts tx_dropped and the receiver rx_dropped
/// for the same frame; an overflow of the CPU's backlog counts in both as well and is taken off.
fn oversized(space: Space<'_>, link: &Link) -> u64 {
    let received = space.link_rise(link, "rx_dropped");
    match space.peer(link) {
        Some((there, peer)) if peer.mtu > link.mtu => {
            let sent = there.link_rise(peer, "tx_dropped");
            received.min(sent).saturating_sub(backlog_overflow::dropped(space.case))
        }
        Some(_) => 0,
        None => received.min(too_big_events(space, link)).max(unaccounted(space, link)),
    }
}

/// Drop events of frames that were too large for this end. They happen in the sender's call, so that the kernel still
/// knows the packet by the sender's namespace and device.
fn too_big_events(space: Space<'_>, link: &Link) -> u64 {
    let here = (Some(space.target().netns_inode), Some(link.index));
    let there = (link.link_netns_inode.or(here.0), link.link);
    let log = space.case.drop_log().into_iter().flat_map(|log| &log.counts);
    let mine = log.filter(|c| c.function.starts_with(FORWARD_SKB)).filter(|c| {
        let at = (c.netns_inode, c.link);
        at == here || at == there
    });
    mine.map(|c| c.drops).sum()
}

/// Frames that a veth discarded although its own namespace has no event for them, where the other end is out of
/// sight: a veth counts rx_dropped for a frame above its MTU (event in the sender's namespace, not traced), for a
/// full backlog, and for what no protocol takes (event here). Only where all events here were seen, and only where
/// the MTU is smaller than what an ordinary other end sends.
fn unaccounted(space: Space<'_>, link: &Link) -> u64 {
    let traced = space.case.drop_log().is_some_and(|log| log.knows_namespaces() && log.tracer_lost == 0);
    if !traced || link.kind.as_deref() != Some("veth") || link.mtu >= ETHERNET {
        return 0;
    }
    let at_link = |c: &&DropCount| c.link == Some(link.index) && place::of_count(c).stage == "link.receive";
    let taken_by_none: u64 = space.drop_counts().filter(at_link).map(|c| c.drops).sum();
    let left = space.link_rise(link, "rx_dropped").saturating_sub(taken_by_none);
    left.saturating_sub(backlog_overflow::dropped(space.case))
}

/// The fix: the MTU of the other end. It stands in the namespace of `link`, wherever the finding does.
fn set_mtu(space: Space<'_>, link: &Link) -> Fix {
    let mtu = match space.peer(link) {
        Some((_, peer)) if peer.mtu > link.mtu => peer.mtu,
        _ => ETHERNET.max(link.mtu),
    };
    let title = SET.fill(&[("dev", &link.name), ("mtu", &mtu)]);
    let action = |dev: &Link| Action::LinkMtu { dev: dev.name.clone(), mtu, was: dev.mtu };
    let mut out = fix(space, title, Applicability::Safe, vec![action(link)]);
    // Both ends too small: one alone would only make them disagree.
    if let Some((there, peer)) = space.peer(link).filter(|(_, peer)| peer.mtu < mtu) {
        out.steps.push(Step { target: there.target().id.clone(), action: action(peer) });
    }
    out
}
