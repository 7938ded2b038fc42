//! Everything that a rule may see, and the questions that rules ask of it.
//!
//! A [`Case`] is the whole observation; a [`Space`] is one namespace that was read twice. Both are cheap copies of
//! references, so that a rule can walk from one namespace to the next.

use super::flow::{Flow, Seen};
use super::index::Index;
use super::verdicts::Verdicts;
use crate::loss::Loss;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use whydrop_facts::place;
use whydrop_model::bundle::{NamespaceEvidence, Observation};
use whydrop_model::delta::{self, Change};
use whydrop_model::drops::{DropCount, DropEvent, DropLog};
use whydrop_model::report::Repeats;
use whydrop_model::snapshot::{Link, Neighbour, Protocol, Qdisc, Route, Snapshot, Socket, SoftnetCpu};
use whydrop_model::{Role, Target};

/// Who has more neighbours without an answer looks for hosts that do not exist; some of them tell as much.
const MOST_UNRESOLVED: usize = 64;

/// The whole observation.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// As it was read.
    pub observation: &'a Observation,
    /// Where things stand in it.
    pub index: &'a Index<'a>,
    /// Who wants packets through: the probes in their order, then the conversations of programs.
    pub flows: &'a [Flow<'a>],
    /// What was lost, namespace by namespace in the order of their inodes.
    pub losses: &'a [Loss<'a>],
    /// What became of the segments that a flow sent again, by its number; none before that was asked.
    pub again: Option<&'a BTreeMap<usize, Repeats>>,
    /// How many conversations were looked at.
    pub seen: Option<&'a Seen<'a>>,
    /// What rule sets do to what was lost and to who suffers; none before that was asked.
    pub verdicts: Option<&'a Verdicts<'a>>,
}

impl<'a> Case<'a> {
    /// An observation of which nothing was made yet.
    pub fn bare(observation: &'a Observation, index: &'a Index<'a>) -> Self {
        Self { observation, index, flows: &[], losses: &[], again: None, seen: None, verdicts: None }
    }

    /// Namespaces that were read at both ends of the window.
    pub fn spaces(self) -> impl Iterator<Item = Space<'a>> {
        (0..self.observation.namespaces.len()).filter_map(move |place| self.at(place))
    }

    /// The namespace at this place of the list, if it was read at both ends of the window.
    pub fn at(self, place: usize) -> Option<Space<'a>> {
        let evidence = self.observation.namespaces.get(place)?;
        Some(Space { case: self, evidence, before: evidence.before.get()?, after: evidence.after.get()? })
    }

    /// The namespaces that hold an address.
    pub fn owners(self, ip: IpAddr) -> impl Iterator<Item = Space<'a>> {
        self.index.owners(ip).iter().filter_map(move |place| self.at(*place))
    }

    /// True for an address that means everybody on a network of whoever sends from the other one.
    pub fn is_broadcast_of(self, from: IpAddr, to: IpAddr) -> bool {
        self.owners(from).any(|home| home.is_broadcast(to))
    }

    /// The namespace with this target id or alias.
    pub fn space(self, id: &str) -> Option<Space<'a>> {
        self.at(self.index.place_of_id(id)?)
    }

    /// The namespace with this inode.
    pub fn space_by_inode(self, inode: u64) -> Option<Space<'a>> {
        self.at(self.index.place(inode)?)
    }

    /// What the kernel's drop tracer saw, if it ran.
    pub fn drop_log(self) -> Option<&'a DropLog> {
        self.observation.drops.get()
    }

    /// Packets for which the backlog of a CPU had no room in the window, on the whole machine (softnet_stat).
    pub fn backlog_drops(self) -> u64 {
        self.softnet_rise(|cpu| cpu.dropped)
    }

    /// Those of them that the flow limit took, on the whole machine.
    pub fn flow_limit_drops(self) -> u64 {
        self.softnet_rise(|cpu| cpu.flow_limit)
    }

    /// True if most of what the backlogs dropped was taken by the flow limit.
    pub fn limits_flows(self) -> bool {
        let limited = self.flow_limit_drops();
        limited > 0 && 2 * limited >= self.backlog_drops()
    }

    fn softnet_rise(self, of: impl Fn(&SoftnetCpu) -> u64) -> u64 {
        let [before, after] = &self.observation.machine;
        let rise = |cpu: &SoftnetCpu| {
            let old = before.softnet.iter().find(|c| c.cpu == cpu.cpu).map(&of);
            Change::of(old, Some(of(cpu))).risen()
        };
        after.softnet.iter().map(rise).sum()
    }
}

/// One namespace, read before and after the window.
#[derive(Clone, Copy)]
pub struct Space<'a> {
    /// Where it belongs.
    pub case: Case<'a>,
    /// The evidence that it was made of.
    pub evidence: &'a NamespaceEvidence,
    /// Start of the window.
    pub before: &'a Snapshot,
    /// End of the window.
    pub after: &'a Snapshot,
}

impl<'a> Space<'a> {
    /// True for an address that means everybody on a network of this namespace.
    pub fn is_broadcast(self, ip: IpAddr) -> bool {
        let means_all =
            |route: &Route| route.kind == "broadcast" && route.destination == ip && route.prefix == 32;
        ip.is_ipv4() && self.after.routes.iter().any(means_all)
    }

    /// How the user named it.
    pub fn target(self) -> &'a Target {
        &self.evidence.target
    }

    /// True if the user asked about it; false if probes only start here.
    pub fn is_target(self) -> bool {
        self.target().role == Role::Target
    }

    /// True if both are the same network namespace.
    pub fn same(self, other: Space<'_>) -> bool {
        self.target().netns_inode == other.target().netns_inode
    }

    /// True if a mistake of two ends is told here, not there: at the target, of two targets at the one that was named
    /// first.
    pub fn speaks_for(self, other: Space<'_>) -> bool {
        if self.is_target() != other.is_target() {
            return self.is_target();
        }
        let place = |space: Space<'_>| self.case.spaces().position(|there| there.same(space));
        place(self) <= place(other)
    }

    /// Rise of a counter of snmp or netstat inside the window.
    pub fn mib(self, name: &str) -> u64 {
        delta::mib(self.before, self.after, name).risen()
    }

    /// Rise of a counter of snmp6 inside the window.
    pub fn mib6(self, name: &str) -> u64 {
        delta::mib6(self.before, self.after, name).risen()
    }

    /// A counter's value at the end of the window.
    pub fn mib_value(self, name: &str) -> Option<u64> {
        self.after.mib.get()?.get(name).copied()
    }

    /// Rise of a device counter; nothing for a device that was made anew in the window.
    pub fn link_rise(self, link: &Link, field: &str) -> u64 {
        let before = self.before.link(link.index).filter(|b| b.name == link.name);
        Change::of(before.and_then(|b| b.stats.get(field).copied()), link.stats.get(field).copied()).risen()
    }

    /// The interface with this number.
    pub fn link(self, index: u32) -> Option<&'a Link> {
        self.case.index.link(self.inode(), index)
    }

    /// Interfaces at the end of the window.
    pub fn links(self) -> impl Iterator<Item = &'a Link> {
        self.after.links.iter()
    }

    /// Drops of a qdisc inside the window. A qdisc that appeared in the window counted all its drops in it.
    pub fn qdisc_drops(self, qdisc: &Qdisc) -> u64 {
        if !self.before.qdiscs.is_present() {
            return 0;
        }
        let same = |q: &&Qdisc| {
            (q.link, q.handle, q.parent) == (qdisc.link, qdisc.handle, qdisc.parent) && q.kind == qdisc.kind
        };
        let before = self.before.qdiscs.iter().find(same).map(|q| q.stats.drops);
        match Change::of_u32(before, Some(qdisc.stats.drops)) {
            Change::Rose(n) | Change::Appeared(n) => n,
            _ => 0,
        }
    }

    /// The number by which drop events and flows name it.
    pub fn inode(self) -> u64 {
        self.target().netns_inode
    }

    /// Drop events of this namespace, by kind.
    pub fn drop_counts(self) -> impl Iterator<Item = &'a DropCount> {
        self.case.index.counts(self.inode()).iter().copied()
    }

    /// Drop events of this namespace that were sampled.
    pub fn drop_events(self) -> impl Iterator<Item = &'a DropEvent> {
        self.case.index.sampled(self.inode()).iter().copied()
    }

    /// Drop events of this namespace with one of these reasons.
    pub fn drops_because(self, reasons: &[&str]) -> u64 {
        self.drop_counts().filter(|c| reasons.contains(&c.reason.as_str())).map(|c| c.drops).sum()
    }

    /// Drop events of this namespace at places that admit this cause only; on kernels without reasons, too.
    pub fn drops_of(self, cause: &str) -> u64 {
        let of_cause = |count: &&DropCount| place::of_count(count).cause == Some(cause);
        self.drop_counts().filter(of_cause).map(|count| count.drops).sum()
    }

    /// The other end of a veth, if its namespace is observed.
    pub fn peer(self, link: &Link) -> Option<(Space<'a>, &'a Link)> {
        if link.kind.as_deref() != Some("veth") {
            return None;
        }
        let index = link.link?;
        let mutual = |space: Space<'a>| {
            let end = space.link(index)?;
            (end.link == Some(link.index) && end.kind.as_deref() == Some("veth")).then_some(end)
        };
        match (link.link_netnsid, link.link_netns_inode) {
            (None, _) => mutual(self).map(|l| (self, l)),
            (Some(_), Some(inode)) => {
                let space = self.case.space_by_inode(inode)?;
                mutual(space).map(|l| (space, l))
            }
            // The id could not be resolved: two ends that name each other's index are taken for a pair only if no
            // second pair would do as well.
            (Some(_), None) => {
                let mut pairs =
                    self.case.spaces().filter(|s| !s.same(self)).filter_map(|s| mutual(s).map(|l| (s, l)));
                pairs.next().filter(|_| pairs.next().is_none())
            }
        }
    }

    /// Interfaces that carry this address.
    pub fn links_with(self, ip: IpAddr) -> impl Iterator<Item = &'a Link> {
        self.after.addresses.iter().filter(move |a| a.ip == ip).filter_map(move |a| self.link(a.link))
    }

    /// True if this interface carries the address.
    pub fn carries(self, link: u32, ip: IpAddr) -> bool {
        self.links_with(ip).any(|carrier| carrier.index == link)
    }

    /// Neighbours without an answer at the end of the window: interface and address.
    pub fn unresolved(self) -> impl Iterator<Item = (u32, IpAddr)> + 'a {
        let silent = |n: &&Neighbour| matches!(n.state.as_str(), "incomplete" | "failed");
        self.after.neighbours.iter().filter(silent).map(|n| (n.link, n.ip))
    }

    /// Neighbours that somebody needs: next hops of flows that suffer, and some of those without an answer.
    pub fn asks_for(self) -> BTreeSet<(u32, IpAddr)> {
        let flows = self.case.flows.iter().filter(|flow| flow.suffers());
        flows.flat_map(|flow| flow.next_hops(self)).chain(self.unresolved().take(MOST_UNRESOLVED)).collect()
    }

    /// Sockets that take what is sent to a port: TCP listeners, or unconnected UDP sockets.
    pub fn listeners(self, protocol: Protocol, port: u16) -> impl Iterator<Item = &'a Socket> {
        self.after.sockets.iter().filter(move |s| {
            let open = match protocol {
                Protocol::Tcp => s.state == "listen",
                Protocol::Udp | Protocol::Raw(_) | Protocol::Packet(_) | Protocol::Ping => {
                    s.remote.port() == 0
                }
            };
            open && s.protocol == protocol && s.local.port() == port
        })
    }

    /// Flows whose way passes this interface.
    pub fn flows_via(self, link: u32) -> impl Iterator<Item = &'a Flow<'a>> {
        self.case.flows.iter().filter(move |flow| flow.passes(self, link))
    }

    /// Flows whose way passes this namespace.
    pub fn flows_through(self) -> impl Iterator<Item = &'a Flow<'a>> {
        self.case.flows.iter().filter(move |flow| flow.visits(self))
    }

    /// What was lost in this namespace.
    pub fn losses(self) -> impl Iterator<Item = &'a Loss<'a>> {
        let from = |after: bool| {
            self.case.losses.partition_point(|loss| match loss.inode {
                Some(inode) if after => inode <= self.inode(),
                Some(inode) => inode < self.inode(),
                None => false,
            })
        };
        self.case.losses.get(from(false)..from(true)).unwrap_or(&[]).iter()
    }
}
