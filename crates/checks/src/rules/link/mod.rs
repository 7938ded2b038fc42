//! Interfaces and what lies below them.

pub mod admin_down;
pub mod errors;
pub mod no_carrier;
pub mod rx_ring_overflow;
#[cfg(test)]
mod tests;

use crate::case::Space;
use whydrop_model::snapshot::Link;

/// Kinds that a namespace is joined to others with. The kernel makes further devices (tunl0, sit0, dummy0, ifb0) in
/// every namespace once a module is loaded; those are down and mean nothing.
const JOINING: &[&str] = &["veth", "macvlan", "ipvlan", "vlan", "bond"];

/// True if no other interface could carry the traffic of this namespace.
fn is_only_way_out(space: Space<'_>, link: &Link) -> bool {
    let addressed = space.after.addresses.iter().any(|a| a.link == link.index);
    let joins = link.kind.as_deref().is_some_and(|kind| JOINING.contains(&kind));
    let works = |l: &Link| l.index != link.index && !l.loopback && l.up && l.lower_up;
    link.master.is_none() && (addressed || joins) && !space.links().any(works)
}
