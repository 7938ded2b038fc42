//! What was lost, gathered once: disjoint kinds of packets that are gone.
//!
//! A shape of drops with `n` events of which `k` were sampled is `k` losses with their packet, those that look alike
//! together, and one of `n - k` without. A lost packet of a flow is first sought among the drops; only what is not
//! found there is a loss of its own.

pub mod again;
mod conversation;
pub mod death;
mod gather;
pub mod missing;
pub mod standing;
#[cfg(test)]
mod tests;

pub use conversation::Conversations;
pub use gather::{FORWARD_SKB, FRAMES, gather};
pub use standing::{Standing, TRACEROUTE_PORTS, opens_connection};

use crate::evidence::case::Space;
use death::Leg;
use std::net::IpAddr;
use whydrop_facts::place::Place;
use whydrop_model::netfilter::Hook;
use whydrop_model::{DropCount, DropEvent};

/// A drop longer before its repetition than this belongs to somebody else: the longest time-out of a SYN in a window.
const LONGEST_WAIT_NS: u64 = 64_000_000_000;

/// Packets that are gone and that nothing tells apart.
#[derive(Clone, Debug)]
pub struct Loss<'a> {
    /// Its number: the index in [`crate::evidence::case::Case::losses`]. Of no meaning for an imagined one.
    pub id: usize,
    /// How many packets.
    pub packets: u64,
    /// How they are known.
    pub kind: Kind,
    /// Inode of the namespace, if known.
    pub inode: Option<u64>,
    /// Interface index in that namespace, if known.
    pub link: Option<u32>,
    /// What the place of the drop means; none if nobody saw where.
    pub place: Option<Place>,
    /// The netfilter hook, if it died in one and the stack was taken.
    pub hook: Option<Hook>,
    /// The shape of drops that it is a part of.
    pub count: Option<&'a DropCount>,
    /// One of the packets.
    pub event: Option<&'a DropEvent>,
    /// The flow whose packets they are, if known.
    pub flow: Option<usize>,
    /// Which packet of that flow.
    pub leg: Option<Leg>,
    /// Whether anybody misses it.
    pub standing: Standing,
    /// What an imagined packet is.
    pub frame: Option<missing::Frame>,
    /// Numbers of the sampled losses of the same shape, for one without packet.
    pub alike: Vec<usize>,
}

/// How a loss is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The kernel reported the drops, and they are harm wherever they happen.
    Drop,
    /// The kernel reported the drops; whether they are harm depends on who misses the packets.
    MayBeHarm,
    /// The kernel dropped a request for which nobody listens, and told so whoever asked: refused, and not lost.
    Refused,
    /// Packets of a flow that nobody saw die.
    Unanswered,
    /// Frames that an interface counted, and that the kernel never had as packets.
    Frames,
    /// A packet that was never sent, because something before it was lost: asked by whom it would be taken.
    Imagined,
}

impl Loss<'_> {
    /// True if it happened in this namespace.
    pub fn is_in(&self, space: Space<'_>) -> bool {
        self.inode == Some(space.inode())
    }

    /// True if it happened at this interface.
    pub fn is_at(&self, space: Space<'_>, link: u32) -> bool {
        self.is_in(space) && self.link == Some(link)
    }

    /// True if the place of the drop admits this cause only.
    pub fn is_of(&self, cause: &str) -> bool {
        self.place.is_some_and(|place| place.cause == Some(cause))
    }

    /// True if the place of the drop is this stage, or one of this group (`qdisc` for `qdisc.transmit`).
    pub fn is_at_stage(&self, stage: &str) -> bool {
        self.place.is_some_and(|place| {
            place.stage.strip_prefix(stage).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// The kernel's function that dropped it, if known.
    pub fn function(&self) -> Option<&str> {
        let counted = self.count.map(|count| count.function.as_str());
        counted.or_else(|| self.event.map(|event| event.function.as_str()))
    }

    /// The kernel's reason for the drop, if known.
    pub fn reason(&self) -> Option<&str> {
        let counted = self.count.map(|count| count.reason.as_str());
        counted.or_else(|| self.event.map(|event| event.reason.as_str()))
    }

    /// True if its TTL or hop limit ended here.
    pub fn is_ttl_ended(&self) -> bool {
        self.place.is_some_and(standing::ends_ttl)
    }

    /// True if it is a packet that was never sent, asked for at this interface.
    pub fn is_imagined_at(&self, space: Space<'_>, link: u32) -> bool {
        self.kind == Kind::Imagined && self.is_at(space, link)
    }

    /// The address whose link-layer address a question that was never answered is about.
    pub fn asks_for(&self) -> Option<IpAddr> {
        match &self.frame {
            Some(missing::Frame::Arp { asked, .. }) => Some(*asked),
            Some(missing::Frame::Ip(Some(packet))) => packet.destination,
            _ => None,
        }
    }

    /// True if nobody saw where the packets died: they may have died anywhere on the way of their flow.
    pub fn is_astray(&self) -> bool {
        self.kind == Kind::Unanswered
    }
}
