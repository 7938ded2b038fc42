//! ARP and ND.

#[cfg(test)]
mod tests;
pub mod unresolved;
pub mod wrong_lladdr;

use std::net::IpAddr;
use whydrop_model::Snapshot;
use whydrop_model::snapshot::Neighbour;

/// The entry of an address on an interface.
fn entry(snapshot: &Snapshot, link: u32, ip: IpAddr) -> Option<&Neighbour> {
    snapshot.neighbours.iter().find(|n| n.link == link && n.ip == ip)
}
