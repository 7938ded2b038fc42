//! Everything that a rule may see, and the questions that rules ask of it.
//!
//! A [`Case`] is the whole observation; a [`Space`] is one namespace that was read twice. Both are cheap copies of
//! references, so that a rule can walk from one namespace to the next.

use crate::way::Way;
use std::net::IpAddr;
use whydrop_facts::place;
use whydrop_model::bundle::{NamespaceEvidence, Observation};
use whydrop_model::delta::{self, Change};
use whydrop_model::drops::{DropCount, DropLog};
use whydrop_model::snapshot::{Link, Protocol, Qdisc, Snapshot, Socket};
use whydrop_model::{Role, Target};

/// The whole observation.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// As it was read.
    pub observation: &'a Observation,
    /// The way of each probe, in the order of the probes.
    pub ways: &'a [Way<'a>],
}

impl<'a> Case<'a> {
    /// Namespaces that were read at both ends of the window.
    pub fn spaces(self) -> impl Iterator<Item = Space<'a>> {
        self.observation.namespaces.iter().filter_map(move |evidence| {
            Some(Space { case: self, evidence, before: evidence.before.get()?, after: evidence.after.get()? })
        })
    }

    /// The namespace with this target id or alias.
    pub fn space(self, id: &str) -> Option<Space<'a>> {
        self.spaces()
            .find(|space| space.target().id == id || space.evidence.aliases.iter().any(|t| t.id == id))
    }

    /// The namespace with this inode.
    pub fn space_by_inode(self, inode: u64) -> Option<Space<'a>> {
        self.spaces().find(|space| space.target().netns_inode == inode)
    }

    /// What the kernel's drop tracer saw, if it ran.
    pub fn drop_log(self) -> Option<&'a DropLog> {
        self.observation.drops.get()
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

    /// Drop events of this namespace, by kind.
    pub fn drop_counts(self) -> impl Iterator<Item = &'a DropCount> {
        let inode = self.target().netns_inode;
        let counts = self.case.drop_log().map(|log| log.counts.as_slice()).unwrap_or(&[]);
        counts.iter().filter(move |count| count.netns_inode == Some(inode))
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
            space
                .links()
                .find(|l| l.index == index && l.link == Some(link.index) && l.kind.as_deref() == Some("veth"))
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
        self.after.addresses.iter().filter(move |a| a.ip == ip).filter_map(move |a| self.after.link(a.link))
    }

    /// Sockets that take what is sent to a port: TCP listeners, or unconnected UDP sockets.
    pub fn listeners(self, protocol: Protocol, port: u16) -> impl Iterator<Item = &'a Socket> {
        self.after.sockets.iter().filter(move |s| {
            let open = match protocol {
                Protocol::Tcp => s.state == "listen",
                Protocol::Udp => s.remote.port() == 0,
            };
            open && s.protocol == protocol && s.local.port() == port
        })
    }

    /// Numbers of the probes whose way passes this interface.
    pub fn probes_via(self, link: u32) -> Vec<usize> {
        self.case.ways.iter().filter(|way| way.passes(self, link)).map(|way| way.index).collect()
    }

    /// Numbers of the probes whose way passes this namespace.
    pub fn probes_through(self) -> Vec<usize> {
        self.case.ways.iter().filter(|way| way.visits(self)).map(|way| way.index).collect()
    }
}
