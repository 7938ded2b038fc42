//! ARP and ND.

pub mod table_overflow;
#[cfg(test)]
mod tests;
pub mod unresolved;
pub mod wrong_lladdr;

use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::route::{Lookup, lookup_as};
use crate::evidence::verdicts;
use std::collections::BTreeSet;
use std::net::IpAddr;
use whydrop_model::snapshot::{Link, Neighbour, NextHop};
use whydrop_model::{DropEvent, Snapshot};

/// A neighbour: the interface behind which it is, and its address.
type Hop = (u32, IpAddr);

/// The entry of an address on an interface.
fn entry(snapshot: &Snapshot, (link, ip): Hop) -> Option<&Neighbour> {
    snapshot.neighbours.iter().find(|n| n.link == link && n.ip == ip)
}

/// Neighbours to which this namespace hands packets of flows that suffer.
fn needed(space: Space<'_>) -> BTreeSet<Hop> {
    let flows = space.case.flows.iter().filter(|flow| flow.suffers());
    flows.flat_map(|flow| flow.next_hops(space)).collect()
}

/// True if this namespace hands packets of the flow to the neighbour.
fn goes_to(flow: &Flow<'_>, space: Space<'_>, neighbour: Hop) -> bool {
    flow.next_hops(space).contains(&neighbour)
}

/// The neighbour to which this namespace hands a packet that was seen.
fn next_hop(space: Space<'_>, event: &DropEvent) -> Option<Hop> {
    let to = event.destination?.ip();
    let made_here = event.source.is_some_and(|source| space.after.owns(source.ip()));
    let asks = verdicts::selector(space, event, made_here);
    match lookup_as(space, to, event.source.map(|source| source.ip()), None, asks) {
        Lookup::Via(route, hop) => {
            // Of several next hops the one that the kernel chose shows by its interface, and by having no answer.
            let chosen = route.next_hops.iter().filter(|hop| event.link.is_some() && hop.link == event.link);
            let neighbour = |hop: &NextHop| Some((hop.link?, hop.gateway.unwrap_or(to)));
            let is_silent = |hop: &NextHop| {
                neighbour(hop).is_some_and(|hop| space.unresolved().any(|silent| silent == hop))
            };
            let silent = chosen.clone().find(|hop| is_silent(hop)).or_else(|| chosen.clone().next());
            neighbour(silent.unwrap_or(hop))
        }
        _ => None,
    }
}

/// Interfaces in view that hold an address.
fn holders<'a>(space: Space<'a>, ip: IpAddr) -> impl Iterator<Item = (Space<'a>, &'a Link)> {
    space.case.owners(ip).flat_map(move |there| there.links_with(ip).map(move |link| (there, link)))
}
