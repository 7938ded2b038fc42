//! Bridges and their ports.

pub mod fdb_wrong_port;
mod flags;
pub mod group_fwd_mask;
pub mod mcast_snooping;
pub mod port_blocking;
pub mod port_isolated;
pub mod vlan_filter;

use crate::evidence::case::Space;
use crate::evidence::segment;
use crate::loss::Loss;
use std::net::IpAddr;
use whydrop_model::snapshot::Link;

/// Where frames die that may not leave by the port to which they should go.
const FORWARD: &str = "bridge.forward";

/// True if a bridge of this namespace did not let the frame pass from one port to another. The kernel names no reason
/// and no second port (br_forward(), inlined into br_handle_frame_finish()).
fn is_refused(space: Space<'_>, loss: &Loss<'_>) -> bool {
    loss.is_in(space) && loss.place.is_some_and(|place| place.stage == FORWARD && place.cause.is_none())
}

/// The ports by which a frame came in and should have left: towards its destination, or by the only other one.
fn passage<'a>(space: Space<'a>, loss: &Loss<'_>) -> Option<(&'a Link, &'a Link)> {
    let ingress = space.after.link(loss.link?)?;
    let others = || space.links().filter(|l| l.master == ingress.master && l.index != ingress.index);
    let to = loss.event.and_then(|event| event.destination).map(|to| to.ip());
    let towards = to.filter(|to| !to.is_multicast()).and_then(|to| {
        let mut ports = others();
        ports.find(|port| leads_to(space, port, to))
    });
    let mut all = others();
    Some((ingress, towards.or_else(|| all.next().filter(|_| all.next().is_none()))?))
}

/// True if a question that was never sent comes in by one port and has to leave by the other.
fn is_asked_through(space: Space<'_>, ingress: &Link, egress: &Link, loss: &Loss<'_>) -> bool {
    loss.is_imagined_at(space, ingress.index) && loss.asks_for().is_some_and(|ip| leads_to(space, egress, ip))
}

/// True if the address lies beyond this port, in a namespace that is observed.
fn leads_to(space: Space<'_>, port: &Link, to: IpAddr) -> bool {
    let Some((there, device)) = space.peer(port) else { return false };
    // Through the bridge itself everything can be reached.
    let beyond = segment::of(there, device).into_iter().filter(|(s, _)| !s.same(space));
    there.after.owns(to) || (device.master.is_some() && beyond.into_iter().any(|(s, _)| s.after.owns(to)))
}
