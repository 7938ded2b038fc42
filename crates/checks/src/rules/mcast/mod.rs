//! Multicast.

pub mod joined_elsewhere;
pub mod membership_limit;
#[cfg(test)]
mod tests;

use crate::evidence::case::Space;
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_model::DropEvent;
use whydrop_model::snapshot::{Group, Protocol, Socket};

/// IPPROTO_UDP.
const UDP: u8 = 17;

/// Datagrams to a group that came by an interface on which it is not joined, although a socket waits for their port.
struct Astray<'a> {
    group: IpAddr,
    link: u32,
    socket: &'a Socket,
    /// The interfaces on which it is joined.
    joined: Vec<&'a Group>,
    sampled: u64,
}

/// Those of one namespace, by group and interface, whose memberships on other interfaces are such.
fn unwanted<'a>(space: Space<'a>, such: impl Fn(&[&Group]) -> bool) -> Vec<Astray<'a>> {
    let mut found: BTreeMap<(IpAddr, u32), Astray<'a>> = BTreeMap::new();
    let sampled = space.case.drop_log().into_iter().flat_map(|log| &log.sampled);
    for event in sampled.filter(|event| event.netns_inode == Some(space.inode())) {
        if let Some(astray) = astray(space, event).filter(|astray| such(&astray.joined)) {
            found.entry((astray.group, astray.link)).or_insert(astray).sampled += 1;
        }
    }
    found.into_values().collect()
}

fn astray<'a>(space: Space<'a>, event: &DropEvent) -> Option<Astray<'a>> {
    let to = event.destination.filter(|to| to.ip().is_multicast() && event.protocol == Some(UDP))?;
    let link = event.link?;
    let groups = space.after.groups.get()?;
    let joined: Vec<&Group> = groups.iter().filter(|group| group.group == to.ip()).collect();
    if joined.iter().any(|group| group.link == link) {
        return None;
    }
    let takes = |socket: &&Socket| match socket.local.ip().to_canonical() {
        ip if ip.is_unspecified() => true,
        ip => ip == to.ip(),
    };
    let socket = space.listeners(Protocol::Udp, to.port()).find(takes)?;
    Some(Astray { group: to.ip(), link, socket, joined, sampled: 0 })
}
