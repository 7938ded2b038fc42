//! How a packet gets from one namespace into the next: over a veth, through bridges, macvlans and VLANs, or inside of the
//! packets of a tunnel.

use super::case::Space;
use super::packet::Packet;
use super::segment;
use super::translate::Translators;
use super::tunnel::Tunnel;
use super::way::{End, Ends, Hop, Path};
use std::net::IpAddr;

/// Tunnels in tunnels that are followed: recordings may hold any.
const MOST_TUNNELS: usize = 2;

/// Where a packet that leaves by a device goes.
pub enum Crossed<'a> {
    /// Into another namespace in view.
    Into(Crossing<'a>),
    /// It ends on the way there, inside of another packet.
    Ends(Vec<Hop>, End),
    /// Out of sight, after these.
    OutOfSight(Vec<Hop>),
}

/// From one namespace into the next.
pub struct Crossing<'a> {
    /// Further devices of the sender that it passes: the port of its bridge, what its device is stacked on.
    pub leaving: Vec<u32>,
    /// Namespaces in between, which only pass on the frame or the packet that it is in.
    pub between: Vec<Hop>,
    /// The next namespace.
    pub space: Space<'a>,
    /// Its interfaces on which the packet comes in.
    pub incoming: Vec<u32>,
}

/// From `link` of `space` to the namespace that owns `next_hop`. `depth` counts the tunnels that it is in already.
pub fn cross<'a>(
    nat: &Translators<'_>,
    space: Space<'a>,
    link: u32,
    next_hop: IpAddr,
    packet: &Packet,
    depth: usize,
) -> Crossed<'a> {
    if let Some(crossing) = over_veth(space, link, next_hop, packet) {
        return Crossed::Into(crossing);
    }
    if let Some(crossed) = through_tunnel(nat, space, link, next_hop, depth) {
        return crossed;
    }
    match over_devices(space, link, next_hop, packet) {
        Some(crossing) => Crossed::Into(crossing),
        None => Crossed::OutOfSight(vec![]),
    }
}

/// Over a veth, or over a bridge at either end.
fn over_veth<'a>(space: Space<'a>, link: u32, next_hop: IpAddr, packet: &Packet) -> Option<Crossing<'a>> {
    let out = space.after.link(link)?;
    let direct = |space: Space<'a>, out| {
        let (there, peer) = space.peer(out)?;
        let owning: Vec<u32> = there.links_with(next_hop).map(|l| l.index).collect();
        let incoming = match owning.contains(&peer.index) {
            true => vec![peer.index],
            false if owning.is_empty() => return None,
            // The address sits on the bridge that the veth is a port of, or on another interface of the namespace.
            false => std::iter::once(peer.index).chain(peer.master.filter(|m| owning.contains(m))).collect(),
        };
        Some((there, incoming))
    };
    if let Some((space, incoming)) = direct(space, out) {
        return Some(Crossing { leaving: vec![], between: vec![], space, incoming });
    }
    let port_to = |space: Space<'a>, bridge: u32, not: Option<u32>| {
        space
            .links()
            .filter(move |l| l.master == Some(bridge) && Some(l.index) != not)
            .find_map(|port| direct(space, port).map(|(there, incoming)| (port.index, there, incoming)))
    };
    if let Some((port, space, incoming)) = port_to(space, link, None) {
        return Some(Crossing { leaving: vec![port], between: vec![], space, incoming });
    }
    let (middle, peer) = space.peer(out)?;
    let (port, space, incoming) = port_to(middle, peer.master?, Some(peer.index))?;
    let on_bridge = std::iter::once(peer.index).chain(peer.master).collect();
    let between = vec![Hop::passed_on(middle, on_bridge, vec![port], packet)];
    Some(Crossing { leaving: vec![], between, space, incoming })
}

/// Over whatever devices join the two below the IP layer.
fn over_devices<'a>(space: Space<'a>, link: u32, next_hop: IpAddr, packet: &Packet) -> Option<Crossing<'a>> {
    // Most packets go to somebody out of sight: no need to look at every device for him.
    space.case.spaces().find(|there| !there.same(space) && there.after.owns(next_hop))?;
    let devices = segment::passage(space, space.after.link(link)?, next_hop)?;
    let mut groups: Vec<(Space<'a>, Vec<u32>)> = vec![];
    for (there, device) in devices {
        match groups.last_mut().filter(|(last, _)| last.same(there)) {
            Some((_, indices)) => indices.push(device.index),
            None => groups.push((there, vec![device.index])),
        }
    }
    let (there, incoming) = groups.pop().filter(|(there, _)| !there.same(space))?;
    let mut groups = groups.into_iter();
    let leaving = groups.next().map_or(vec![], |(_, indices)| indices.into_iter().skip(1).collect());
    let between = groups.map(|(middle, indices)| {
        let port = indices.last().copied().into_iter().collect();
        Hop::passed_on(middle, indices, port, packet)
    });
    Some(Crossing { leaving, between: between.collect(), space: there, incoming })
}

/// Inside of a tunnel's packets, to the device that takes them out; none if the device is no tunnel to one other end.
fn through_tunnel<'a>(
    nat: &Translators<'_>,
    space: Space<'a>,
    link: u32,
    next_hop: IpAddr,
    depth: usize,
) -> Option<Crossed<'a>> {
    let tunnel = Tunnel::of(space, space.after.link(link)?).filter(|_| depth < MOST_TUNNELS)?;
    let ends = tunnel.ends_towards(next_hop)?;
    let outer = Path::follow_within(nat, space, ends.opening(space), &[], depth + 1);
    let enters_itself = outer.hops.first().is_some_and(|hop| hop.outgoing.contains(&link));
    if enters_itself {
        return None;
    }
    let last = outer.hops.last().and_then(|hop| space.case.space_by_inode(hop.inode));
    let end = outer.end;
    let between: Vec<Hop> = outer.hops.into_iter().map(|hop| Hop { outer: true, ..hop }).collect();
    match (end, last) {
        (End::Arrived, Some(there)) => {
            let mut others = there.links().filter_map(|link| Tunnel::of(there, link));
            let taken = |other: &Tunnel<'a>| tunnel.is_like(other) && tunnel.port == other.port;
            let other = others.find(taken)?.link;
            let owning: Vec<u32> = there.links_with(next_hop).map(|l| l.index).collect();
            let upper = other.master.filter(|master| owning.contains(master));
            let here = owning.contains(&other.index) || upper.is_some();
            let incoming = std::iter::once(other.index).chain(upper).collect();
            here.then_some(Crossed::Into(Crossing { leaving: vec![], between, space: there, incoming }))
        }
        (End::NoRoute | End::Refused | End::Circles, _) => Some(Crossed::Ends(between, end)),
        (End::Arrived | End::OutOfSight, _) => Some(Crossed::OutOfSight(between)),
    }
}

impl Ends {
    /// The packet that opens it, as a namespace makes it.
    fn opening(&self, space: Space<'_>) -> Packet {
        let source = self.source.0.or_else(|| super::route::source_address(space, self.destination.0));
        self.packet(source)
    }
}
