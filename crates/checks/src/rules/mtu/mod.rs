//! What fits into one packet.

#[cfg(test)]
mod overhead_tests;
pub mod peer_mismatch;
pub mod pmtu_blackhole;
#[cfg(test)]
mod tests;
pub mod too_small;
pub mod tunnel_overhead;

use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::segment;
use crate::evidence::way::End;
use crate::fixes::fix;
use crate::loss::{FORWARD_SKB, Loss};
use whydrop_facts::place;
use whydrop_model::DropCount;
use whydrop_model::action::Action;
use whydrop_model::finding::Step;
use whydrop_model::snapshot::Link;
use whydrop_model::{Fix, Text, text};

/// RFC 791: every host takes a datagram of 576 bytes.
const IPV4_MINIMUM: u32 = 576;

/// RFC 8200: every link carries 1280 bytes.
const IPV6_MINIMUM: u32 = 1280;

/// Bytes that interface counters include and the MTU does not.
const ETHERNET_HEADER: u32 = 14;

/// What Ethernet carries; the MTU to go back to where the other end is out of sight.
const ETHERNET: u32 = 1500;

/// IPPROTO_TCP.
const TCP: u8 = 6;

const SET: Text = text!("set the MTU of {dev} to {mtu}", "把 {dev} 的 MTU 设为 {mtu}");

/// True if the flow carries more than a handshake does. Where no handshake succeeds size is not what ails it.
fn carries_much(flow: &Flow<'_>) -> bool {
    let probe = flow
        .probe()
        .is_some_and(|probe| probe.http.is_some() || matches!(probe.method.as_str(), "http" | "pmtu"));
    let talk = flow.conversation().is_some_and(|talk| {
        let data = talk.data_repeats + talk.tail_probes + talk.closed.data_segments;
        talk.protocol != TCP || data > 0 && (talk.established > 0 || talk.attempts == 0)
    });
    probe || talk
}

/// True if the flow wants IPv6 through an interface that is too narrow for it: below 1280 bytes the kernel takes IPv6
/// away from it, addresses and all.
fn lacks_ipv6(space: Space<'_>, link: &Link, flow: &Flow<'_>) -> bool {
    let gone = || !space.after.addresses.iter().any(|a| a.link == link.index && a.ip.is_ipv6());
    let leads_here = || space.peer(link).is_some_and(|(there, peer)| flow.passes(there, peer.index));
    // Without the routes of the interface the way ends here.
    let would_leave = || {
        flow.ends_here(space, End::NoRoute).is_some_and(|to| {
            segment::reachable(space, link)
                .iter()
                .any(|(there, l)| !there.same(space) && there.carries(l.index, to))
        })
    };
    link.mtu < IPV6_MINIMUM
        && flow.suffers()
        && flow.address.is_some_and(|ip| ip.is_ipv6())
        && (leads_here() || flow.starts_in(space) || flow.passes(space, link.index) || would_leave())
        && gone()
}

/// True if it is a frame that was larger than this interface takes. It is dropped in the sender's call, so that the
/// kernel still knows it by the sender's namespace and device.
fn is_oversized(space: Space<'_>, link: &Link, loss: &Loss<'_>) -> bool {
    let function = loss.function().is_some_and(|function| function.starts_with(FORWARD_SKB));
    function && ends(space, link).contains(&(loss.inode, loss.link))
}

/// Functions in which a bridge discards a frame that is larger than the port takes by which it should leave
/// (net/bridge/br_forward.c, and br_netfilter_hooks.c for one that may not be cut); nobody is told.
const BRIDGED_OUT: [&str; 3] = ["br_dev_queue_push_xmit", "br_nf_dev_queue_xmit", "br_nf_ip_fragment"];

/// True if a bridge discarded it for its size.
fn is_bridged_out(loss: &Loss<'_>) -> bool {
    loss.function().is_some_and(|function| BRIDGED_OUT.contains(&function))
}

/// True if it is a frame that was too large for this port of a bridge.
fn is_too_big_for_port(space: Space<'_>, link: &Link, loss: &Loss<'_>) -> bool {
    link.master.is_some() && is_bridged_out(loss) && loss.is_at(space, link.index)
}

/// Both ends of a link, as drop events name them.
fn ends(space: Space<'_>, link: &Link) -> [(Option<u64>, Option<u32>); 2] {
    let here = (Some(space.inode()), Some(link.index));
    [here, (link.link_netns_inode.or(here.0), link.link)]
}

/// Frames that were larger than this end of a veth takes. The sender counts tx_dropped and the receiver rx_dropped
/// for the same frame; an overflow of the CPU's backlog counts in both as well and is taken off.
fn oversized(space: Space<'_>, link: &Link) -> u64 {
    let received = space.link_rise(link, "rx_dropped");
    match space.peer(link) {
        Some((there, peer)) if peer.mtu > link.mtu => {
            let sent = there.link_rise(peer, "tx_dropped");
            received.min(sent).saturating_sub(space.case.backlog_drops())
        }
        Some(_) => 0,
        None => received.min(too_big_events(space, link)).max(unaccounted(space, link)),
    }
}

/// Drop events of frames that were too large for this end.
fn too_big_events(space: Space<'_>, link: &Link) -> u64 {
    let ends = ends(space, link);
    let log = space.case.drop_log().into_iter().flat_map(|log| &log.counts);
    let mine = log.filter(|c| c.function.starts_with(FORWARD_SKB) && ends.contains(&(c.netns_inode, c.link)));
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
    left.saturating_sub(space.case.backlog_drops())
}

/// The fix: the MTU of the other end. It stands in the namespace of `link`, wherever the finding does.
fn set_mtu(space: Space<'_>, link: &Link) -> Fix {
    let mtu = match space.peer(link) {
        Some((_, peer)) if peer.mtu > link.mtu => peer.mtu,
        _ => ETHERNET.max(link.mtu),
    };
    let title = SET.fill(&[("dev", &link.name), ("mtu", &mtu)]);
    let action = |dev: &Link| Action::LinkMtu { dev: dev.name.clone(), mtu, was: dev.mtu };
    let mut out = fix(space, title, vec![action(link)]);
    // Both ends too small: one alone would only make them disagree.
    if let Some((there, peer)) = space.peer(link).filter(|(_, peer)| peer.mtu < mtu) {
        out.steps.push(Step { target: there.target().id.clone(), action: action(peer) });
    }
    out
}
