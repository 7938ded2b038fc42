//! The way of a probe through the observed namespaces: out, and back.

use crate::case::{Case, Space};
use crate::packet::Packet;
use crate::route::{self, Lookup};
use std::net::IpAddr;
use whydrop_model::netfilter::Hook;
use whydrop_model::{Direction, ProbeResult};

/// A way longer than this goes in circles.
const MAX_HOPS: usize = 8;

/// Kinds of links that put packets into other packets (rtnl_link_ops.kind).
const TUNNELS: &[&str] = &[
    "vxlan",
    "geneve",
    "gre",
    "gretap",
    "erspan",
    "ip6gre",
    "ip6gretap",
    "ipip",
    "sit",
    "ip6tnl",
    "vti",
    "vti6",
    "xfrm",
    "wireguard",
    "tun",
    "gtp",
    "bareudp",
];

/// A probe with the namespaces that it passes.
#[derive(Clone, Debug)]
pub struct Way<'a> {
    /// Number of the probe.
    pub index: usize,
    /// The probe.
    pub probe: &'a ProbeResult,
    /// Address from which it starts, if the routes tell.
    pub source: Option<IpAddr>,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port of TCP and UDP.
    pub port: Option<u16>,
    /// The request's path.
    pub forward: Path,
    /// The answer's path, if the destination is observed.
    pub back: Option<Path>,
}

/// Namespaces in order, by inode.
#[derive(Clone, Debug, Default)]
pub struct Path {
    /// What is passed.
    pub hops: Vec<Hop>,
    /// How it ends.
    pub end: End,
    /// True if between two hops it leads through what is not observed.
    pub gap: bool,
}

/// One namespace on a path with the interfaces that are used.
#[derive(Clone, Debug)]
pub struct Hop {
    /// Inode of the namespace.
    pub inode: u64,
    /// Interfaces by which the packet comes in; a bridge port and its bridge are two.
    pub incoming: Vec<u32>,
    /// Interfaces by which it leaves.
    pub outgoing: Vec<u32>,
    /// True if the namespace only bridges the packet.
    pub bridged: bool,
}

/// A packet that goes no further in a namespace.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Where it was going.
    pub to: IpAddr,
    /// Where it came from.
    pub from: Option<IpAddr>,
    /// Interface by which it came in; none for a packet that was made here.
    pub incoming: Option<u32>,
}

impl Ending {
    /// What the routes say to it.
    pub fn lookup<'s>(&self, space: Space<'s>) -> Lookup<'s> {
        route::lookup_from(space, self.to, self.from, self.incoming)
    }

    /// Which way it was going.
    pub fn direction(&self) -> Direction {
        if self.incoming.is_some() { Direction::Forward } else { Direction::Transmit }
    }

    /// Stage of the routing decision: on the way in or on the way out.
    pub fn stage(&self) -> &'static str {
        if self.incoming.is_some() { "route.input" } else { "route.output" }
    }
}

/// Where a path ends as far as it can be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// In the last hop, which owns the address.
    Arrived,
    /// The last hop has no route.
    NoRoute,
    /// A route or policy rule of the last hop refuses.
    Refused,
    /// The last hop was passed before: the packet circles.
    Circles,
    /// Leaves the observed namespaces after the last hop.
    #[default]
    OutOfSight,
}

impl<'a> Way<'a> {
    /// Follows a probe.
    pub fn of(case: Case<'a>, index: usize, probe: &'a ProbeResult) -> Self {
        let (protocol, port) = transport(probe);
        let mut way =
            Self { index, probe, source: None, protocol, port, forward: Path::default(), back: None };
        let (Some(from), Some(to)) = (case.space(&probe.from), probe.address) else { return way };
        way.source = route::source_address(from, to);
        way.forward = Path::follow(from, to, way.source);
        if way.forward.end == End::Arrived
            && let Some(space) = way.forward.last(case)
        {
            way.back = way.source.map(|source| Path::follow(space, source, Some(to)));
        }
        way
    }

    /// True if not all was well: a loss, a late answer, a failed send, a failed request, big packets swallowed.
    pub fn troubled(&self) -> bool {
        let swallowed = self.probe.pmtu.as_ref().is_some_and(|p| p.black_hole);
        self.lost() > 0 || self.probe.late > 0 || self.failed_request() || swallowed
    }

    /// Probes without an answer, those that could not leave included. A search for the path MTU or for the hops of a
    /// path loses packets by design: it has lost something only if nothing came back at all. A request that the other
    /// side ended by a reset or with nonsense has failed, and lost nothing.
    pub fn lost(&self) -> u64 {
        let searches = matches!(self.probe.method.as_str(), "pmtu" | "path");
        let ended_by_peer = self.probe.http.as_ref().is_some_and(|http| http.ended_by_peer());
        match (searches && self.probe.received > 0, ended_by_peer) {
            (true, _) => 0,
            (false, true) => self.probe.not_sent,
            (false, false) => self.probe.lost + self.probe.not_sent,
        }
    }

    /// True if an HTTP request ended early, for another reason than a refusal.
    pub fn failed_request(&self) -> bool {
        self.probe.http.as_ref().and_then(|h| h.error.as_deref()).is_some_and(|e| e != "refused")
    }

    /// True if the answer was a refusal.
    pub fn refused(&self) -> bool {
        self.probe.refused > 0 || self.probe.http.as_ref().and_then(|h| h.error.as_deref()) == Some("refused")
    }

    /// True if a part of the way is out of sight: the network between two machines.
    pub fn leaves_sight(&self) -> bool {
        let paths = std::iter::once(&self.forward).chain(&self.back);
        paths.into_iter().any(|path| path.gap || path.end == End::OutOfSight)
    }

    /// True if it passes a tunnel: what is lost then is the outer packet, which has other addresses and meets other
    /// rules than the probe.
    pub fn is_tunnelled(&self, case: Case<'_>) -> bool {
        let tunnel = |hop: &Hop| {
            let space = case.space_by_inode(hop.inode);
            let kinds = hop.outgoing.iter().filter_map(|link| space?.after.link(*link)?.kind.as_deref());
            kinds.into_iter().any(|kind| TUNNELS.contains(&kind))
        };
        self.hops().any(tunnel)
    }

    /// The namespace that owns the probed address, if observed.
    pub fn destination(&self, case: Case<'a>) -> Option<Space<'a>> {
        (self.forward.end == End::Arrived).then(|| self.forward.last(case)).flatten()
    }

    /// True if the probe starts in this namespace.
    pub fn starts_in(&self, space: Space<'_>) -> bool {
        self.forward.hops.first().is_some_and(|hop| hop.inode == space.target().netns_inode)
            || space.target().id == self.probe.from
    }

    /// True if request or answer passes this namespace.
    pub fn visits(&self, space: Space<'_>) -> bool {
        self.hops().any(|hop| hop.inode == space.target().netns_inode) || self.starts_in(space)
    }

    /// True if request or answer passes this interface of this namespace.
    pub fn passes(&self, space: Space<'_>, link: u32) -> bool {
        self.hops()
            .filter(|hop| hop.inode == space.target().netns_inode)
            .any(|hop| hop.incoming.contains(&link) || hop.outgoing.contains(&link))
    }

    /// Interfaces on which request and answer arrive in this namespace, with the addresses they come from and go to.
    pub fn arrivals(&self, space: Space<'_>) -> Vec<(u32, IpAddr, IpAddr)> {
        let (Some(source), Some(address)) = (self.source, self.probe.address) else { return vec![] };
        let back = self.back.as_ref().map(|back| (back, address, source));
        let paths = std::iter::once((&self.forward, source, address)).chain(back);
        let arrive = |(path, from, to): (&Path, IpAddr, IpAddr)| {
            let here = |hop: &&Hop| hop.inode == space.target().netns_inode && !hop.bridged;
            let hops = path.hops.iter().filter(here).filter_map(|hop| hop.incoming.last().copied());
            hops.map(|incoming| (incoming, from, to)).collect::<Vec<_>>()
        };
        paths.flat_map(arrive).collect()
    }

    /// True if this namespace routes the request or the answer from one interface to another.
    pub fn is_forwarded_by(&self, space: Space<'_>) -> bool {
        let inode = space.target().netns_inode;
        self.hops()
            .any(|h| h.inode == inode && !h.bridged && !h.incoming.is_empty() && !h.outgoing.is_empty())
    }

    /// Interfaces and addresses of the neighbours to which this namespace hands request and answer.
    pub fn next_hops(&self, space: Space<'_>) -> Vec<(u32, IpAddr)> {
        let inode = space.target().netns_inode;
        let ends = [(&self.forward, self.probe.address, self.source)];
        let back = self.back.as_ref().map(|back| (back, self.source, self.probe.address));
        let mut out = vec![];
        for (path, to, from) in ends.into_iter().chain(back) {
            let routes = path.hops.iter().any(|h| h.inode == inode && !h.bridged && !h.outgoing.is_empty());
            let Some(to) = to.filter(|_| routes) else { continue };
            if let Lookup::Via(_, hop) = route::lookup(space, to, from)
                && let Some(link) = hop.link
            {
                out.push((link, hop.gateway.unwrap_or(to)));
            }
        }
        out
    }

    /// If request or answer ends so in this namespace, the address that it was going to.
    pub fn ends_here(&self, space: Space<'_>, end: End) -> Option<IpAddr> {
        Some(self.ending(space, end)?.to)
    }

    /// If request or answer ends so in this namespace, how it came there.
    pub fn ending(&self, space: Space<'_>, end: End) -> Option<Ending> {
        let here = |path: &Path, to: Option<IpAddr>, from: Option<IpAddr>| {
            let last = path.hops.last().filter(|hop| hop.inode == space.target().netns_inode)?;
            let ending = Ending { to: to?, from, incoming: last.incoming.last().copied() };
            (path.end == end).then_some(ending)
        };
        here(&self.forward, self.probe.address, self.source)
            .or_else(|| here(self.back.as_ref()?, self.source, self.probe.address))
    }

    /// The probe's packets as they meet a hook of this namespace: request, answer, or both.
    pub fn packets_at(&self, space: Space<'_>, hook: Hook) -> Vec<Packet> {
        let Some(to) = self.probe.address else { return vec![] };
        let request = Packet {
            protocol: self.protocol,
            source: self.source,
            destination: Some(to),
            source_port: None,
            destination_port: self.port,
            in_interface: None,
            out_interface: None,
            reply: false,
        };
        let answer = Packet {
            source: Some(to),
            destination: self.source,
            source_port: self.port,
            destination_port: None,
            reply: true,
            ..request.clone()
        };
        // Without sight of the far end the answer is known to come back the same way.
        let mirrored;
        let back = match &self.back {
            Some(back) => back,
            None => {
                mirrored = self.forward.mirrored();
                &mirrored
            }
        };
        [(&self.forward, request), (back, answer)]
            .into_iter()
            .flat_map(|(path, packet)| path.meets(space, hook).map(move |hop| packet.at(space, hop)))
            .collect()
    }

    fn hops(&self) -> impl Iterator<Item = &Hop> {
        self.forward.hops.iter().chain(self.back.iter().flat_map(|path| &path.hops))
    }
}

impl Path {
    /// True if the routes lead a packet from here to a namespace that it has passed.
    pub fn circles(start: Space<'_>, to: IpAddr) -> bool {
        Self::follow(start, to, None).end == End::Circles
    }

    fn last<'a>(&self, case: Case<'a>) -> Option<Space<'a>> {
        case.space_by_inode(self.hops.last()?.inode)
    }

    /// The same hops the other way round.
    fn mirrored(&self) -> Self {
        let turn =
            |hop: &Hop| Hop { incoming: hop.outgoing.clone(), outgoing: hop.incoming.clone(), ..hop.clone() };
        Self { hops: self.hops.iter().rev().map(turn).collect(), ..*self }
    }

    /// Hops in which a packet on this path meets the hook.
    fn meets<'h>(&'h self, space: Space<'_>, hook: Hook) -> impl Iterator<Item = &'h Hop> {
        let inode = space.target().netns_inode;
        self.hops.iter().filter(move |hop| hop.inode == inode && !hop.bridged).filter(move |hop| {
            let (comes, leaves) = (!hop.incoming.is_empty(), !hop.outgoing.is_empty());
            match hook {
                Hook::Prerouting | Hook::Ingress => comes,
                Hook::Input => comes && !leaves,
                Hook::Forward => comes && leaves,
                Hook::Output => !comes,
                Hook::Postrouting | Hook::Egress => leaves,
            }
        })
    }

    /// Follows a packet hop by hop until it arrives or leaves the observed namespaces.
    fn follow(start: Space<'_>, to: IpAddr, from: Option<IpAddr>) -> Self {
        let mut path = Self::default();
        let (mut space, mut incoming) = (start, vec![]);
        while path.hops.len() < MAX_HOPS {
            let mut hop =
                Hop { inode: space.target().netns_inode, incoming, outgoing: vec![], bridged: false };
            let again = |h: &Hop| h.inode == hop.inode && !h.bridged;
            if path.hops.iter().any(again) {
                return path.ends(hop, End::Circles);
            }
            let (next_hop, link) = match route::lookup_from(space, to, from, hop.incoming.last().copied()) {
                Lookup::Local => return path.ends(hop, End::Arrived),
                Lookup::Missing => return path.ends(hop, End::NoRoute),
                Lookup::Refused(_) | Lookup::RefusedByRule(_) => return path.ends(hop, End::Refused),
                Lookup::Unknown => return path.ends(hop, End::OutOfSight),
                Lookup::Via(_, next) => (next.gateway.unwrap_or(to), next.link),
            };
            hop.outgoing.extend(link);
            let Some(crossing) = link.and_then(|link| cross(space, link, next_hop)) else {
                let Some((there, incoming)) = reappears(space, to) else {
                    return path.ends(hop, End::OutOfSight);
                };
                path.hops.push(hop);
                path.gap = true;
                let arrival =
                    Hop { inode: there.target().netns_inode, incoming, outgoing: vec![], bridged: false };
                return path.ends(arrival, End::Arrived);
            };
            hop.outgoing.extend(crossing.port);
            path.hops.push(hop);
            path.hops.extend(crossing.bridge);
            (space, incoming) = (crossing.space, crossing.incoming);
        }
        path
    }

    fn ends(mut self, hop: Hop, end: End) -> Self {
        self.hops.push(hop);
        self.end = end;
        self
    }
}

/// The only other observed namespace that owns the address: the packet comes out there, whatever lies between. Two
/// owners (every container network of a machine may use the same addresses) leave it open.
fn reappears<'a>(space: Space<'a>, address: IpAddr) -> Option<(Space<'a>, Vec<u32>)> {
    let mut owners = space.case.spaces().filter(|other| other.after.owns(address));
    let owner = owners.next().filter(|owner| !owner.same(space) && owners.next().is_none())?;
    Some((owner, owner.links_with(address).map(|link| link.index).collect()))
}

/// How a packet gets from one namespace into the next.
struct Crossing<'a> {
    /// Port of the sender's bridge that leads there, if it leaves through a bridge.
    port: Option<u32>,
    /// A namespace in between that only bridges.
    bridge: Option<Hop>,
    /// The next namespace.
    space: Space<'a>,
    /// Its interfaces on which the packet comes in.
    incoming: Vec<u32>,
}

/// From `link` of `space` to the namespace that owns `next_hop`, over a veth, or over a bridge at either end.
fn cross<'a>(space: Space<'a>, link: u32, next_hop: IpAddr) -> Option<Crossing<'a>> {
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
    if let Some((there, incoming)) = direct(space, out) {
        return Some(Crossing { port: None, bridge: None, space: there, incoming });
    }
    let port_to = |space: Space<'a>, bridge: u32, not: Option<u32>| {
        space
            .links()
            .filter(move |l| l.master == Some(bridge) && Some(l.index) != not)
            .find_map(|port| direct(space, port).map(|(there, incoming)| (port.index, there, incoming)))
    };
    if let Some((port, there, incoming)) = port_to(space, link, None) {
        return Some(Crossing { port: Some(port), bridge: None, space: there, incoming });
    }
    let (middle, peer) = space.peer(out)?;
    let (port, there, incoming) = port_to(middle, peer.master?, Some(peer.index))?;
    let bridge = Hop {
        inode: middle.target().netns_inode,
        incoming: std::iter::once(peer.index).chain(peer.master).collect(),
        outgoing: vec![port],
        bridged: true,
    };
    Some(Crossing { port: None, bridge: Some(bridge), space: there, incoming })
}

/// IP protocol number and port of a probe, from its URL.
fn transport(probe: &ProbeResult) -> (u8, Option<u16>) {
    let v6 = probe.address.is_some_and(|a| a.is_ipv6());
    let (scheme, rest) = probe.url.split_once("://").unwrap_or(("", &probe.url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let port = authority.rsplit_once(':').filter(|(_, p)| !p.contains(']')).and_then(|(_, p)| p.parse().ok());
    match scheme {
        "tcp" => (6, port),
        "http" => (6, port.or(Some(80))),
        "https" => (6, port.or(Some(443))),
        "udp" => (17, port),
        _ if v6 => (58, None),
        _ => (1, None),
    }
}
