//! The way of a flow through the observed namespaces: out, and back.

use super::case::{Case, Space};
use super::choice::Choice;
use super::crossing::{self, Crossed};
use super::packet::Packet;
use super::route::{self, Lookup, Selector};
use super::translate::{self, Translation, Translators, Turned};
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use whydrop_model::Direction;
use whydrop_model::netfilter::{Field, Hook};

/// A way longer than this goes in circles: a few routers, and as many for each tunnel.
const MAX_HOPS: usize = 16;

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

/// The two ends of a flow as its first packet names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// IP protocol number.
    pub protocol: u8,
    /// Address and port that the request comes from, as far as known; a port that changes from try to try is not.
    pub source: (Option<IpAddr>, Option<u16>),
    /// Address and port that it goes to.
    pub destination: (IpAddr, Option<u16>),
}

impl Ends {
    /// The packet that opens it.
    pub fn packet(&self, source: Option<IpAddr>) -> Packet {
        Packet {
            protocol: self.protocol,
            source,
            destination: Some(self.destination.0),
            source_port: self.source.1,
            destination_port: self.destination.1,
            ..Packet::default()
        }
    }
}

/// What a socket gives its packets beside their addresses and ports, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// SO_MARK.
    pub mark: Option<u32>,
    /// Its user.
    pub uid: Option<u32>,
    /// Type of service.
    pub tos: Option<u8>,
}

impl Sender {
    /// A packet that it sends.
    fn send(self, packet: Packet) -> Packet {
        let fields =
            [(Field::Mark, self.mark), (Field::Uid, self.uid), (Field::Tos, self.tos.map(u32::from))];
        fields.into_iter().fold(packet, |packet, (field, value)| match value {
            Some(value) => packet.with(field, value),
            None => packet,
        })
    }
}

/// Where the packets of a flow pass.
#[derive(Clone, Debug)]
pub struct Way {
    /// Number of the flow.
    pub index: usize,
    /// Inode of the namespace that the request starts in, if observed.
    pub start: Option<u64>,
    /// Address from which it starts, if the routes tell.
    pub source: Option<IpAddr>,
    /// Source port, if it is the same for all packets.
    pub source_port: Option<u16>,
    /// Address to which it goes, if its name could be resolved.
    pub address: Option<IpAddr>,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port of TCP and UDP.
    pub port: Option<u16>,
    /// The request's path.
    pub forward: Path,
    /// The answer's path, if the destination is observed.
    pub back: Option<Path>,
    /// The ways of those requests that a translator sends elsewhere, where it chooses among several places.
    pub others: Vec<Way>,
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
    /// What changed the packet, in order.
    translated: Vec<Translation>,
    /// The first that chooses.
    choice: Option<Choice>,
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
    /// True if it is passed inside of the packet of a tunnel; the packets here are those.
    pub outer: bool,
    /// The packet as it comes in or is made.
    pub early: Packet,
    /// As it is routed: its destination may have been translated.
    pub routed: Packet,
    /// As it leaves: its source may have been translated, too.
    pub late: Packet,
}

/// One passage of a packet through a namespace: the hooks that it can meet, in their order, and what it looks like at
/// each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// True if the namespace only bridges it: these are then the hooks to which br_netfilter sends it.
    pub bridged: bool,
    /// True for the answer's.
    pub back: bool,
    /// Hooks with the packet, as far as no rule set has marked it.
    pub hooks: Vec<(Hook, Packet)>,
    /// Hooks of the bridge family with the frame, where it passes a bridge.
    pub frames: Vec<(Hook, Packet)>,
}

/// A packet about which a namespace decides, and which goes no further in it or is handed on.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Where it was going.
    pub to: IpAddr,
    /// Where it came from.
    pub from: Option<IpAddr>,
    /// Interface by which it came in; none for a packet that was made here.
    pub incoming: Option<u32>,
    /// What else policy rules may ask of it.
    pub asks: Selector,
}

impl Ending {
    /// What the routes say to it.
    pub fn lookup<'s>(&self, space: Space<'s>) -> Lookup<'s> {
        route::lookup_as(space, self.to, self.from, self.incoming, self.asks)
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

impl Way {
    /// A flow of which no more is known.
    pub fn unknown(index: usize, protocol: u8, port: Option<u16>) -> Self {
        Self {
            index,
            start: None,
            source: None,
            source_port: None,
            address: None,
            protocol,
            port,
            forward: Path::default(),
            back: None,
            others: vec![],
        }
    }

    /// Follows a flow from the namespace that it starts in.
    pub fn of(index: usize, nat: &Translators<'_>, from: Space<'_>, ends: Ends) -> Self {
        Self::sent_by(index, nat, from, ends, Sender::default())
    }

    /// As [`Self::of`], of a socket that is known.
    pub fn sent_by(index: usize, nat: &Translators<'_>, from: Space<'_>, ends: Ends, sender: Sender) -> Self {
        let way = Self::only(index, nat, from, ends, sender);
        let Some(choice) = &way.forward.choice else { return way };
        let chosen = |to: &SocketAddr| Self::only(index, &nat.choosing(choice, *to), from, ends, sender);
        Self { others: choice.to.iter().map(chosen).collect(), ..way }
    }

    /// One of the ways that requests can take.
    fn only(index: usize, nat: &Translators<'_>, from: Space<'_>, ends: Ends, sender: Sender) -> Self {
        let (to, port) = ends.destination;
        let asks = || Selector::of(&sender.send(ends.packet(None)));
        let source = ends.source.0.or_else(|| route::source_address_as(from, to, asks()));
        let forward = Path::follow(nat, from, sender.send(ends.packet(source)), &[]);
        let arrived = (forward.end == End::Arrived).then(|| forward.last(from.case)).flatten();
        let answer = forward.hops.last().map(|hop| hop.routed.answer());
        let answer = answer.filter(|answer| answer.destination.is_some());
        let back =
            arrived.zip(answer).map(|(space, answer)| Path::follow(nat, space, answer, &forward.translated));
        Self {
            index,
            start: Some(from.target().netns_inode),
            source,
            source_port: ends.source.1,
            address: Some(to),
            protocol: ends.protocol,
            port,
            forward,
            back,
            others: vec![],
        }
    }

    /// Follows a flow that comes from outside into a namespace.
    pub fn inbound(index: usize, into: Space<'_>, ends: Ends) -> Self {
        let (to, port) = ends.destination;
        let request = ends.packet(ends.source.0);
        let answer = ends.source.0.map(|_| request.answer());
        let back = answer.map(|answer| Path::follow(&Translators::default(), into, answer, &[]));
        let forward = match &back {
            Some(back) => back.mirrored(),
            None => Path { hops: vec![Hop::end(into, request)], ..Path::default() },
        };
        Self {
            index,
            start: None,
            source: ends.source.0,
            source_port: ends.source.1,
            address: Some(to),
            protocol: ends.protocol,
            port,
            forward: Path { end: End::Arrived, gap: true, ..forward },
            back,
            others: vec![],
        }
    }

    /// True if a part of the way is out of sight: the network between two machines.
    pub fn leaves_sight(&self) -> bool {
        let mut paths = self.ways().flat_map(|way| std::iter::once(&way.forward).chain(&way.back));
        paths.any(|path| path.gap || path.end == End::OutOfSight)
    }

    /// True if it passes a tunnel: what is lost then is the outer packet, which has other addresses and meets other
    /// rules than the probe.
    pub fn is_tunnelled(&self, case: Case<'_>) -> bool {
        self.hops().any(|hop| hop.tunnel(case).is_some())
    }

    /// The namespace that owns the probed address, if observed.
    pub fn destination<'a>(&self, case: Case<'a>) -> Option<Space<'a>> {
        (self.forward.end == End::Arrived).then(|| self.forward.last(case)).flatten()
    }

    /// The request as it comes to the socket of its destination, if observed: behind all translations.
    pub fn arrival(&self) -> Option<&Packet> {
        let last = self.forward.hops.last().filter(|_| self.forward.end == End::Arrived)?;
        Some(&last.routed)
    }

    /// True if a translation on the way makes this address of the one that was asked for.
    pub fn is_turned_to(&self, ip: IpAddr) -> bool {
        let turned = |hop: &Hop| hop.early.destination != hop.routed.destination;
        let mut hops = self.ways().flat_map(|way| &way.forward.hops);
        hops.any(|hop| turned(hop) && hop.routed.destination == Some(ip))
    }

    /// True if the flow starts in this namespace.
    pub fn starts_in(&self, space: Space<'_>) -> bool {
        self.start == Some(space.target().netns_inode)
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

    /// True if request or answer leaves this namespace by this interface. Without sight of the far end the answer is
    /// known to come back the same way.
    pub fn leaves_by(&self, space: Space<'_>, link: u32) -> bool {
        let inode = space.target().netns_inode;
        let out = |hop: &Hop| hop.inode == inode && hop.outgoing.contains(&link);
        let comes = |hop: &Hop| hop.inode == inode && hop.incoming.contains(&link);
        self.ways().any(|way| {
            let back = match &way.back {
                Some(back) => back.hops.iter().any(out),
                None => way.forward.hops.iter().any(comes),
            };
            back || way.forward.hops.iter().any(out)
        })
    }

    /// Interfaces on which request and answer arrive in this namespace, with the addresses they come from and go to.
    pub fn arrivals(&self, space: Space<'_>) -> Vec<(u32, IpAddr, IpAddr)> {
        let here = |hop: &&Hop| hop.inode == space.target().netns_inode && !hop.bridged;
        let arrive =
            |hop: &Hop| Some((hop.incoming.last().copied()?, hop.early.source?, hop.early.destination?));
        self.hops().filter(here).filter_map(arrive).collect()
    }

    /// True if this namespace routes the request or the answer from one interface to another.
    pub fn is_forwarded_by(&self, space: Space<'_>) -> bool {
        let inode = space.target().netns_inode;
        self.hops()
            .any(|h| h.inode == inode && !h.bridged && !h.incoming.is_empty() && !h.outgoing.is_empty())
    }

    /// Interfaces and addresses of the neighbours to which this namespace hands request and answer.
    pub fn next_hops(&self, space: Space<'_>) -> Vec<(u32, IpAddr)> {
        let handed = self.decisions(space).filter_map(|decision| match decision.lookup(space) {
            Lookup::Via(_, hop) => Some((hop.link?, hop.gateway.unwrap_or(decision.to))),
            _ => None,
        });
        handed.collect()
    }

    /// What this namespace has to decide about request and answer, where it hands them on.
    pub fn decisions(&self, space: Space<'_>) -> impl Iterator<Item = Ending> {
        let inode = space.inode();
        let routed = self.hops().filter(move |h| h.inode == inode && !h.bridged && !h.outgoing.is_empty());
        routed.filter_map(Hop::decision)
    }

    /// If request or answer ends so in this namespace, the address that it was going to.
    pub fn ends_here(&self, space: Space<'_>, end: End) -> Option<IpAddr> {
        Some(self.ending(space, end)?.to)
    }

    /// If request or answer ends so in this namespace, how it came there.
    pub fn ending(&self, space: Space<'_>, end: End) -> Option<Ending> {
        let here = |path: &Path| {
            let last = path.hops.last().filter(|hop| hop.inode == space.target().netns_inode)?;
            last.decision().filter(|_| path.end == end)
        };
        self.ways().find_map(|way| here(&way.forward).or_else(|| here(way.back.as_ref()?)))
    }

    /// True if request or answer goes in a circle on its way to this address.
    pub fn circles_to(&self, to: IpAddr) -> bool {
        let circles = |path: &Path| {
            let last = path.hops.last().filter(|_| path.end == End::Circles);
            last.is_some_and(|hop| hop.routed.destination == Some(to))
        };
        self.ways().any(|way| circles(&way.forward) || way.back.as_ref().is_some_and(circles))
    }

    /// The flow's request as it is made.
    pub fn request(&self) -> Option<Packet> {
        Some(Packet {
            protocol: self.protocol,
            source: self.source,
            destination: Some(self.address?),
            source_port: self.source_port,
            destination_port: self.port,
            ..Packet::default()
        })
    }

    /// The answer's path. Without sight of the far end it is known to come back the same way.
    fn way_back(&self) -> Cow<'_, Path> {
        self.back.as_ref().map_or_else(|| Cow::Owned(self.forward.mirrored()), Cow::Borrowed)
    }

    /// The flow's packets as they meet a hook of this namespace: request, answer, or both.
    pub fn packets_at(&self, space: Space<'_>, hook: Hook) -> Vec<Packet> {
        let mut out = vec![];
        for way in self.ways() {
            let back = way.way_back();
            for path in [&way.forward, back.as_ref()] {
                let met = path.meets(space, hook).map(|hop| hop.packet(hook).at(space, hop));
                // In front of a translator that chooses all ways are one.
                let met: Vec<Packet> = met.filter(|packet| way.is(self) || !out.contains(packet)).collect();
                out.extend(met);
            }
        }
        out
    }

    /// The passages of request and answer through a namespace, the request's first; of this way alone.
    pub fn passages(&self, space: Space<'_>) -> Vec<Passage> {
        let back = self.way_back();
        let paths = [(&self.forward, false), (back.as_ref(), true)];
        let here = paths.into_iter().flat_map(|(path, back)| {
            path.hops.iter().filter(|hop| hop.inode == space.inode()).map(move |hop| (hop, back))
        });
        let passage = |(hop, back): (&Hop, bool)| Passage {
            bridged: hop.bridged,
            back,
            hooks: hop.meets(space),
            frames: hop.meets_as_frame(space),
        };
        here.map(passage).collect()
    }

    /// This way, and those by the other places of a translator that chooses.
    pub fn ways(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.others)
    }

    /// True if it is the very same, and not one that looks alike.
    pub fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }

    fn hops(&self) -> impl Iterator<Item = &Hop> {
        let paths = self.ways().flat_map(|way| std::iter::once(&way.forward).chain(&way.back));
        paths.flat_map(|path| &path.hops)
    }
}

impl Hop {
    /// What the routes say to the packet here.
    pub fn lookup<'s>(&self, space: Space<'s>) -> Lookup<'s> {
        self.decision().map_or(Lookup::Unknown, |decision| decision.lookup(space))
    }

    /// What the routes are asked here.
    fn decision(&self) -> Option<Ending> {
        let incoming = self.incoming.last().copied();
        let (to, from) = (self.routed.destination?, self.routed.source);
        Some(Ending { to, from, incoming, asks: Selector::of(&self.routed) })
    }

    /// The kind of the tunnel into which the packet goes here.
    pub fn tunnel<'a>(&self, case: Case<'a>) -> Option<&'a str> {
        let space = case.space_by_inode(self.inode)?;
        let kinds = self.outgoing.iter().filter_map(|link| space.after.link(*link)?.kind.as_deref());
        kinds.into_iter().find(|kind| TUNNELS.contains(kind))
    }

    /// A namespace in which a packet ends, by whatever interface it came.
    fn end(space: Space<'_>, packet: Packet) -> Self {
        Self::enter(space, vec![], packet)
    }

    /// A namespace that only bridges a packet.
    pub fn passed_on(space: Space<'_>, incoming: Vec<u32>, outgoing: Vec<u32>, packet: &Packet) -> Self {
        Self { outgoing, bridged: true, ..Self::enter(space, incoming, packet.clone()) }
    }

    fn enter(space: Space<'_>, incoming: Vec<u32>, packet: Packet) -> Self {
        Self {
            inode: space.inode(),
            incoming,
            outgoing: vec![],
            bridged: false,
            outer: false,
            early: packet.clone(),
            routed: packet.clone(),
            late: packet,
        }
    }

    /// The packet as it meets a hook of the namespace. A rule set's own translations are still in front of it; those of
    /// an answer are made by connection tracking, before most chains.
    fn packet(&self, hook: Hook) -> &Packet {
        match hook {
            Hook::Ingress | Hook::Prerouting => &self.early,
            Hook::Output if !self.early.reply => &self.early,
            Hook::Output | Hook::Input | Hook::Forward | Hook::Postrouting => &self.routed,
            Hook::Egress => &self.late,
        }
    }

    /// The hooks that the packet meets here, in their order. What is bridged meets them as if it came by the bridge and
    /// left by it (`br_nf_pre_routing`, `br_nf_forward`).
    fn meets(&self, space: Space<'_>) -> Vec<(Hook, Packet)> {
        let (comes, leaves) = (!self.incoming.is_empty(), !self.outgoing.is_empty());
        let hooks: &[Hook] = match (self.bridged, comes, leaves) {
            (true, ..) => &[Hook::Prerouting, Hook::Forward, Hook::Postrouting],
            (false, true, true) => {
                &[Hook::Ingress, Hook::Prerouting, Hook::Forward, Hook::Postrouting, Hook::Egress]
            }
            (false, true, false) => &[Hook::Ingress, Hook::Prerouting, Hook::Input],
            (false, false, true) => &[Hook::Output, Hook::Postrouting, Hook::Egress],
            (false, false, false) => &[Hook::Output],
        };
        let bridge = self.incoming.last().map(|index| space.after.link_name(*index));
        let at = |hook: Hook| match self.bridged {
            true => {
                let (in_interface, out_interface) = (bridge.clone(), bridge.clone());
                Packet { in_interface, out_interface, ..self.early.clone() }
            }
            false => self.packet(hook).at(space, self),
        };
        hooks.iter().map(|hook| (*hook, at(*hook))).collect()
    }
}

impl Hop {
    /// The hooks of the bridge family that its frame meets, with the ports (`br_handle_frame`, `br_pass_frame_up`,
    /// `__br_forward`, `br_forward_finish`).
    fn meets_as_frame(&self, space: Space<'_>) -> Vec<(Hook, Packet)> {
        let bridge =
            |index: u32| space.after.link(index).is_some_and(|l| l.kind.as_deref() == Some("bridge"));
        let port = |links: &[u32]| {
            let mut links = links.iter().filter_map(|index| space.after.link(*index));
            links.find(|link| link.master.is_some_and(bridge)).map(|link| link.name.clone())
        };
        let (from, to) = (port(&self.incoming), port(&self.outgoing));
        let at = |hook: Hook, from: &Option<String>, to: &Option<String>, packet: &Packet| {
            let (in_interface, out_interface) = (from.clone(), to.clone());
            (hook, Packet { in_interface, out_interface, ..packet.clone() })
        };
        let mut out = vec![];
        if from.is_some() {
            out.push(at(Hook::Prerouting, &from, &None, &self.early));
        }
        match (self.bridged, &from, &to) {
            (true, Some(_), Some(_)) => {
                out.push(at(Hook::Forward, &from, &to, &self.early));
                out.push(at(Hook::Postrouting, &None, &to, &self.early));
            }
            (true, ..) => {}
            (false, from, to) => {
                out.extend(from.as_ref().map(|_| at(Hook::Input, from, &None, &self.early)));
                out.extend(to.as_ref().map(|_| at(Hook::Output, &None, to, &self.late)));
                out.extend(to.as_ref().map(|_| at(Hook::Postrouting, &None, to, &self.late)));
            }
        }
        out
    }
}

impl Path {
    /// True if the routes lead a packet from here to a namespace that it has passed.
    pub fn circles(start: Space<'_>, to: IpAddr) -> bool {
        Self::to(start, to).end == End::Circles
    }

    /// True if the routes lead a packet from here to who has the address, all the way in sight.
    pub fn arrives(start: Space<'_>, to: IpAddr) -> bool {
        let path = Self::to(start, to);
        path.end == End::Arrived && !path.gap
    }

    /// The way of a packet of which only the destination is known.
    fn to(start: Space<'_>, to: IpAddr) -> Self {
        let packet = Packet { destination: Some(to), ..Packet::default() };
        Self::follow(&Translators::default(), start, packet, &[])
    }

    fn last<'a>(&self, case: Case<'a>) -> Option<Space<'a>> {
        case.space_by_inode(self.hops.last()?.inode)
    }

    /// The same hops the other way round, with the packet that answers.
    fn mirrored(&self) -> Self {
        let turn = |hop: &Hop| Hop {
            incoming: hop.outgoing.clone(),
            outgoing: hop.incoming.clone(),
            early: hop.late.answer(),
            routed: hop.routed.answer(),
            late: hop.early.answer(),
            ..*hop
        };
        let hops = self.hops.iter().rev().map(turn).collect();
        Self { hops, end: self.end, gap: self.gap, ..Self::default() }
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

    /// Follows a packet hop by hop until it arrives or leaves the observed namespaces. An answer meets the translations
    /// of its request, `done`, the other way round.
    fn follow(nat: &Translators<'_>, start: Space<'_>, packet: Packet, done: &[Translation]) -> Self {
        Self::follow_within(nat, start, packet, done, 0)
    }

    /// As [`Self::follow`], inside of so many tunnels.
    pub fn follow_within(
        nat: &Translators<'_>,
        start: Space<'_>,
        packet: Packet,
        done: &[Translation],
        depth: usize,
    ) -> Self {
        let mut path = Self::default();
        let (mut space, mut incoming, mut packet) = (start, vec![], packet);
        while path.hops.len() < MAX_HOPS {
            let mut hop = Hop::enter(space, incoming, packet);
            let again = |h: &Hop| h.inode == hop.inode && !h.bridged && !h.outer;
            let again = path.hops.iter().any(again);
            path.route(nat, space, &mut hop, done);
            // What is sent back to whom it came from has arrived.
            if again && !hop.routed.destination.is_some_and(|to| space.after.owns(to)) {
                return path.ends(hop, End::Circles);
            }
            let Some(to) = hop.routed.destination else { return path.ends(hop, End::OutOfSight) };
            let came_by = hop.incoming.last().copied();
            if let Some(mark) = nat.mark(space, &hop.early.at(space, &hop), came_by.is_none()) {
                hop.routed = hop.routed.with(Field::Mark, mark);
            }
            let (next_hop, link) = match hop.lookup(space) {
                Lookup::Local => return path.ends(hop, End::Arrived),
                Lookup::Missing => return path.ends(hop, End::NoRoute),
                Lookup::Refused(_) | Lookup::RefusedByRule(_) => return path.ends(hop, End::Refused),
                Lookup::Unknown => return path.ends(hop, End::OutOfSight),
                Lookup::Via(_, next) => (next.gateway.unwrap_or(to), next.link),
            };
            hop.outgoing.extend(link);
            path.leave(nat, space, &mut hop, done);
            packet = hop.late.clone();
            // A mark stays in its namespace (`skb_scrub_packet()`), and so does the socket.
            packet.fields.retain(|field, _| !matches!(field, Field::Mark | Field::Uid));
            let crossed = link.map(|link| crossing::cross(nat, space, link, next_hop, &packet, depth));
            let crossing = match crossed {
                Some(Crossed::Into(crossing)) => crossing,
                Some(Crossed::Ends(between, end)) => {
                    path.hops.push(hop);
                    path.hops.extend(between);
                    path.end = end;
                    return path;
                }
                unseen => {
                    path.hops.push(hop);
                    if let Some(Crossed::OutOfSight(between)) = unseen {
                        path.hops.extend(between);
                    }
                    let Some((there, incoming)) = reappears(space, to) else { return path };
                    path.gap = true;
                    return path.ends(Hop::enter(there, incoming, packet), End::Arrived);
                }
            };
            hop.outgoing.extend(crossing.leaving);
            path.hops.push(hop);
            path.hops.extend(crossing.between);
            (space, incoming) = (crossing.space, crossing.incoming);
        }
        path
    }

    /// What comes before the routing decision. What is made here is routed twice: without a way for the address that was
    /// asked for it is not even made.
    fn route(&mut self, nat: &Translators<'_>, space: Space<'_>, hop: &mut Hop, done: &[Translation]) {
        let (hook, made_here) = match hop.incoming.is_empty() {
            true => (Hook::Output, true),
            false => (Hook::Prerouting, false),
        };
        let asks = Selector::of(&hop.early);
        let goes = |to: IpAddr| {
            let said = route::lookup_as(space, to, hop.early.source, None, asks);
            matches!(said, Lookup::Via(..) | Lookup::Local)
        };
        if made_here && !hop.early.destination.is_some_and(goes) {
            return;
        }
        hop.routed = translate::undo_source(space, done, &hop.early);
        match nat.translate(space, hook, &hop.early.at(space, hop)) {
            Turned::To(packet, translation) => {
                self.translated.push(translation);
                hop.routed = packet;
            }
            Turned::Chosen(choice) => {
                self.choice.get_or_insert(choice);
            }
            Turned::Not => {}
        }
        hop.late = hop.routed.clone();
    }

    /// What comes behind it.
    fn leave(&mut self, nat: &Translators<'_>, space: Space<'_>, hop: &mut Hop, done: &[Translation]) {
        hop.late = translate::undo_destination(space, done, &hop.routed);
        if let Turned::To(packet, translation) =
            nat.translate(space, Hook::Postrouting, &hop.routed.at(space, hop))
        {
            self.translated.push(translation);
            hop.late = packet;
        }
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
    let mut owners = space.case.owners(address);
    let owner = owners.next().filter(|owner| !owner.same(space) && owners.next().is_none())?;
    Some((owner, owner.links_with(address).map(|link| link.index).collect()))
}
