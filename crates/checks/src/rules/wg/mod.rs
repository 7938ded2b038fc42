//! WireGuard.

pub mod allowed_ips;
pub mod peer_key;
#[cfg(test)]
mod tests;

use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::route::contains;
use std::net::IpAddr;
use whydrop_model::snapshot::{Link, WireguardPeer};

/// WireGuard devices that are switched on.
fn devices<'a>(space: Space<'a>) -> impl Iterator<Item = &'a Link> {
    space.links().filter(|link| link.kind.as_deref() == Some("wireguard") && link.up)
}

fn peers<'a>(space: Space<'a>, device: &Link) -> impl Iterator<Item = &'a WireguardPeer> {
    let index = device.index;
    space.after.wireguard.iter().filter(move |peer| peer.link == index)
}

/// The peer to which packets for this address go: the longest network that covers it (wg_allowedips_lookup_dst()).
fn peer_of<'a>(space: Space<'a>, device: &Link, ip: IpAddr) -> Option<&'a WireguardPeer> {
    let longest = |peer: &&WireguardPeer| {
        let covering = peer.allowed.iter().filter(|(network, prefix)| contains(*network, *prefix, ip));
        covering.map(|(_, prefix)| *prefix).max()
    };
    peers(space, device).filter(|peer| longest(peer).is_some()).max_by_key(longest)
}

/// Inner addresses at the other end that packets of this flow have at the device: where they go to, and where they come
/// from.
fn inner(flow: &Flow<'_>, space: Space<'_>, device: &Link) -> Vec<IpAddr> {
    let paths = std::iter::once(&flow.forward).chain(&flow.back);
    let hops = paths.flat_map(|path| &path.hops).filter(|hop| hop.inode == space.inode());
    let mut out = vec![];
    for hop in hops {
        if hop.outgoing.contains(&device.index) {
            out.extend(hop.late.destination);
        }
        if hop.incoming.contains(&device.index) {
            out.extend(hop.early.source);
        }
    }
    out
}
