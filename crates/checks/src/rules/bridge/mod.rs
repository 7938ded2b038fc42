//! Bridges and their ports.

pub mod port_blocking;
pub mod port_isolated;

use crate::case::Space;
use crate::rules::events::Events;
use crate::segment;
use std::net::IpAddr;
use whydrop_facts::place::{self, Place};
use whydrop_model::DropEvent;
use whydrop_model::snapshot::Link;

/// Where frames die that may not leave by the port to which they should go.
const FORWARD: &str = "bridge.forward";

/// Frames that a bridge did not let pass from one port to another.
struct Refused<'a> {
    /// Where they came in.
    ingress: &'a Link,
    /// Where they should have left.
    egress: &'a Link,
    /// How many.
    drops: u64,
}

/// Frames that bridges of this namespace refused between two ports, as far as the ports are known: where all sampled
/// frames that came in by a port should have left by one other. The kernel names no reason and no second port
/// (br_forward(), inlined into br_handle_frame_finish()).
fn refused(space: Space<'_>) -> Vec<Refused<'_>> {
    let nameless = |place: Place| place.stage == FORWARD && place.cause.is_none();
    let events =
        Events::at(space, |count| nameless(place::of_count(count)), |event| nameless(place::of_event(event)));
    let between = |(link, drops): (u32, u64)| {
        let ingress = space.after.link(link)?;
        let here = events.sampled.iter().filter(|event| event.link == Some(link));
        let mut ports = here.map(|event| egress(space, ingress, event));
        let first = ports.next()??;
        let same = ports.all(|port| port.is_some_and(|port| port.index == first.index));
        same.then_some(Refused { ingress, egress: first, drops })
    };
    events.by_link().into_iter().filter_map(between).collect()
}

/// The port by which a frame should have left: the one towards its destination, or the only other one.
fn egress<'a>(space: Space<'a>, ingress: &Link, event: &DropEvent) -> Option<&'a Link> {
    let others = || space.links().filter(|l| l.master == ingress.master && l.index != ingress.index);
    let to = event.destination.map(|to| to.ip()).filter(|to| !to.is_multicast());
    let towards = to.and_then(|to| others().find(|port| leads_to(space, port, to)));
    let mut all = others();
    towards.or_else(|| all.next().filter(|_| all.next().is_none()))
}

/// True if the address lies beyond this port, in a namespace that is observed.
fn leads_to(space: Space<'_>, port: &Link, to: IpAddr) -> bool {
    let Some((there, device)) = space.peer(port) else { return false };
    // Through the bridge itself everything can be reached.
    let beyond = segment::of(there, device).into_iter().filter(|(s, _)| !s.same(space));
    there.after.owns(to) || (device.master.is_some() && beyond.into_iter().any(|(s, _)| s.after.owns(to)))
}
