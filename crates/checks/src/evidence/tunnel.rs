//! Tunnels: what they are set to, and the other end where it is in view.

use super::case::{Case, Space};
use super::flow::Flow;
use super::segment;
use super::way::Ends;
use crate::loss::Loss;
use std::net::IpAddr;
use whydrop_model::snapshot::Link;

/// Kinds whose settings name the other end (rtnl_link_ops.kind).
const KINDS: &[&str] = &["vxlan", "geneve", "gre", "gretap", "ipip", "sit"];

/// The forwarding entry for all addresses that have none (vxlan_fdb_create()).
const EVERYBODY: &str = "00:00:00:00:00:00";

/// One end of a tunnel.
#[derive(Clone, Copy)]
pub struct Tunnel<'a> {
    /// Where its device is.
    pub space: Space<'a>,
    /// Its device.
    pub link: &'a Link,
    /// rtnl_link_ops.kind.
    pub kind: &'a str,
    /// VXLAN and Geneve: the network's id.
    pub id: Option<&'a str>,
    /// VXLAN and Geneve: the UDP port that it sends to and listens on.
    pub port: Option<u16>,
    /// Outer address that it sends from, if it is set.
    pub local: Option<IpAddr>,
    /// Outer address that it sends to, if it is one.
    pub remote: Option<IpAddr>,
}

impl<'a> Tunnel<'a> {
    /// The device as an end of a tunnel, if it is one.
    pub fn of(space: Space<'a>, link: &'a Link) -> Option<Self> {
        let kind = link.kind.as_deref().filter(|kind| KINDS.contains(kind))?;
        let value = |key: &str| link.details.get(key).map(String::as_str);
        let address = |key: &str| {
            let ip: IpAddr = value(key)?.parse().ok()?;
            (!ip.is_unspecified()).then_some(ip)
        };
        let port = value("port").and_then(|port| port.parse().ok());
        let (local, remote) = (address("local"), address("remote"));
        let end = Self { space, link, kind, id: value("vni"), port, local, remote };
        let mut all = end.remotes();
        let only = all.next().filter(|_| all.next().is_none());
        Some(Self { remote: remote.or(only), ..end })
    }

    /// All ends in view.
    pub fn all(case: Case<'a>) -> impl Iterator<Item = Self> {
        case.spaces().flat_map(|space| space.links().filter_map(move |link| Self::of(space, link)))
    }

    /// Outer addresses to which it sends what it knows no place for: the one that is set, and those of its forwarding
    /// entries for everybody.
    pub fn remotes(&self) -> impl Iterator<Item = IpAddr> + use<'a> {
        let (set, index) = (self.remote, self.link.index);
        let everybody = self.space.after.fdb.kept().filter(move |e| e.link == index && e.mac == EVERYBODY);
        set.into_iter().chain(everybody.filter_map(|entry| entry.remote).filter(move |ip| Some(*ip) != set))
    }

    /// Who sends its packets to whom; none if it sends to a group, to several, or learns where to.
    pub fn ends(&self) -> Option<Ends> {
        self.ends_at(self.remote?)
    }

    /// The same of what it carries to an inner address: to where its forwarding entry for that station says, else to the
    /// one of several whose namespace has the address.
    pub fn ends_towards(&self, ip: IpAddr) -> Option<Ends> {
        let (space, devices) = (self.space, [Some(self.link.index), self.link.master]);
        let known = space.after.neighbours.iter().filter(|n| n.ip == ip && devices.contains(&Some(n.link)));
        let station = known.filter_map(|n| n.mac.as_deref()).find_map(|mac| {
            let mut entries = space.after.fdb.kept().filter(|e| e.link == self.link.index && e.mac == mac);
            entries.find_map(|entry| entry.remote)
        });
        let holds = |remote: &IpAddr| space.case.owners(ip).any(|there| there.after.owns(*remote));
        self.ends_at(station.or_else(|| self.remotes().find(holds)).or(self.remote)?)
    }

    fn ends_at(&self, remote: IpAddr) -> Option<Ends> {
        let remote = Some(remote).filter(|remote| !remote.is_multicast())?;
        let protocol = self.protocol();
        Some(Ends { protocol, source: (self.local, None), destination: (remote, self.port) })
    }

    /// IP protocol of its packets.
    pub fn protocol(&self) -> u8 {
        match self.kind {
            "vxlan" | "geneve" => 17,
            "gre" | "gretap" => 47,
            "sit" => 41,
            _ => 4,
        }
    }

    /// True if it sends to the namespace of the other: by address, or by a group that both have joined.
    pub fn sends_to(&self, other: &Self) -> bool {
        self.remotes().any(|remote| match remote.is_multicast() {
            true => other.remotes().any(|group| group == remote),
            false => other.space.after.owns(remote),
        })
    }

    /// True if both are of one kind and one network, in two namespaces.
    pub fn is_like(&self, other: &Self) -> bool {
        !self.space.same(other.space) && (self.kind, self.id) == (other.kind, other.id)
    }

    /// True if each sends to the other, and would be understood.
    pub fn is_joined_with(&self, other: &Self) -> bool {
        self.is_like(other) && self.port == other.port && self.sends_to(other) && other.sends_to(self)
    }
}

/// Two ends between which packets should pass.
#[derive(Clone, Copy)]
pub struct Pair<'a>(pub Tunnel<'a>, pub Tunnel<'a>);

impl<'a> Pair<'a> {
    /// True for a question that has to pass from one end to the other, where it enters the tunnel.
    pub fn is_asked(self, loss: &Loss<'a>) -> bool {
        let enters = |end: &Tunnel<'a>| loss.is_imagined_at(end.space, end.link.index);
        let way = [(self.0, self.1), (self.1, self.0)].into_iter().find(|(end, _)| enters(end));
        way.is_some_and(|(_, other)| loss.asks_for().is_none_or(|ip| may_have(other, ip)))
    }

    /// True for a flow that has to pass from one end to the other.
    pub fn is_needed_by(self, flow: &Flow<'a>) -> bool {
        let devices = |end: &Tunnel<'a>| [Some(end.link.index), end.link.master];
        let passes = |end: &Tunnel<'a>| devices(end).into_iter().flatten().any(|l| flow.passes(end.space, l));
        let enters = |end: Tunnel<'a>, other: Tunnel<'a>| {
            let hops = flow.next_hops(end.space);
            hops.into_iter().any(|(link, ip)| devices(&end).contains(&Some(link)) && may_have(other, ip))
        };
        let Self(here, there) = self;
        flow.suffers() && (passes(&here) && passes(&there) || enters(here, there) || enters(there, here))
    }
}

/// True if an inner address may be behind this end: somebody there has it, or nobody in view.
fn may_have(end: Tunnel<'_>, ip: IpAddr) -> bool {
    let mut owners = end.space.case.owners(ip).peekable();
    let behind = |owner: Space<'_>| {
        owner.same(end.space) || segment::reachable(end.space, end.link).iter().any(|(s, _)| s.same(owner))
    };
    owners.peek().is_none() || owners.any(behind)
}
