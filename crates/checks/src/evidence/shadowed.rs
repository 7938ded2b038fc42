//! An address that its user has himself: what he sends to the other owner stays with him.

use super::case::Space;
use super::flow::Flow;
use super::segment;
use whydrop_model::snapshot::{Link, Protocol};

const TCP: u8 = 6;

/// The station joined with this namespace that a flow from here means and that serves it, where the address is this
/// namespace's own, too, and nobody here serves it. Who shares an address on purpose (the real servers of a balancer) does
/// not answer ARP for it (arp_ignore).
pub fn meant<'a>(space: Space<'a>, flow: &Flow<'a>) -> Option<(Space<'a>, &'a Link)> {
    let (ip, port) = (flow.address.filter(|ip| !ip.is_loopback())?, flow.port?);
    let protocol = if flow.protocol == TCP { Protocol::Tcp } else { Protocol::Udp };
    let serves = |there: Space<'a>| there.listeners(protocol, port).next().is_some();
    let ignores = |of: &str| space.after.sysctl(&format!("net.ipv4.conf.{of}.arp_ignore"));
    let silent = || space.links().any(|link| ignores(&link.name) > Some(0)) || ignores("all") > Some(0);
    if !flow.starts_in(space) || !space.after.owns(ip) || serves(space) || silent() {
        return None;
    }
    let others = space.links().filter(|link| !link.loopback).flat_map(|link| segment::reachable(space, link));
    let mut others = others.filter(|(there, device)| !there.same(space) && there.carries(device.index, ip));
    others.find(|(there, _)| serves(*there))
}
