//! What was looked at, and what stayed out of sight.

use crate::case::Space;
use whydrop_model::bundle::{NamespaceEvidence, Observation};
use whydrop_model::{Coverage, CoverageStatus, DropLog, Reading, Snapshot};

/// A kind of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Interfaces with their counters.
    Links,
    /// Addresses.
    Addresses,
    /// Routes.
    Routes,
    /// Policy rules.
    PolicyRules,
    /// ARP and ND entries.
    Neighbours,
    /// Queues.
    Qdiscs,
    /// Classes of classful queues.
    Classes,
    /// tc filters.
    Filters,
    /// Protocol counters.
    Mib,
    /// IPv6 protocol counters.
    Mib6,
    /// nftables and iptables over nftables.
    Nftables,
    /// Legacy iptables.
    IptablesLegacy,
    /// Legacy ip6tables.
    Ip6tablesLegacy,
    /// Connection tracking.
    Conntrack,
    /// Sockets.
    Sockets,
    /// Driver statistics.
    Ethtool,
    /// The kernel's drop events (whole machine).
    DropEvents,
    /// Per-CPU backlog counters (whole machine).
    Softnet,
}

/// All back ends of packet filtering.
pub const NETFILTER: &[Source] = &[Source::Nftables, Source::IptablesLegacy, Source::Ip6tablesLegacy];

impl Source {
    const OF_NAMESPACE: [Self; 16] = [
        Self::Links,
        Self::Addresses,
        Self::Routes,
        Self::PolicyRules,
        Self::Neighbours,
        Self::Qdiscs,
        Self::Classes,
        Self::Filters,
        Self::Mib,
        Self::Mib6,
        Self::Nftables,
        Self::IptablesLegacy,
        Self::Ip6tablesLegacy,
        Self::Conntrack,
        Self::Sockets,
        Self::Ethtool,
    ];

    /// Name as in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Links => "links",
            Self::Addresses => "addresses",
            Self::Routes => "routes",
            Self::PolicyRules => "policy_rules",
            Self::Neighbours => "neighbours",
            Self::Qdiscs => "qdiscs",
            Self::Classes => "classes",
            Self::Filters => "tc_filters",
            Self::Mib => "snmp_netstat",
            Self::Mib6 => "snmp6",
            Self::Nftables => "nftables",
            Self::IptablesLegacy => "iptables_legacy",
            Self::Ip6tablesLegacy => "ip6tables_legacy",
            Self::Conntrack => "conntrack",
            Self::Sockets => "sockets",
            Self::Ethtool => "ethtool",
            Self::DropEvents => "drop_events",
            Self::Softnet => "softnet",
        }
    }

    /// How reading it went in this namespace: the worse of both ends of the window.
    pub fn status(self, space: Space<'_>) -> (CoverageStatus, String) {
        match self {
            Self::DropEvents => status(&space.case.observation.drops),
            Self::Softnet => status_of_both(&space.case.observation.machine, |m| status(&m.softnet)),
            _ => status_of_both(&[space.before, space.after], |s| self.in_snapshot(s)),
        }
    }

    fn in_snapshot(self, s: &Snapshot) -> (CoverageStatus, String) {
        match self {
            Self::Links => status(&s.links),
            Self::Addresses => status(&s.addresses),
            Self::Routes => status(&s.routes),
            Self::PolicyRules => status(&s.policy_rules),
            Self::Neighbours => status(&s.neighbours),
            Self::Qdiscs => status(&s.qdiscs),
            Self::Classes => status(&s.classes),
            Self::Filters => status(&s.filters),
            Self::Mib => status(&s.mib),
            Self::Mib6 => status(&s.mib6),
            Self::Nftables => status(&s.nftables),
            Self::IptablesLegacy => status(&s.iptables_legacy),
            Self::Ip6tablesLegacy => status(&s.ip6tables_legacy),
            Self::Conntrack => status(&s.conntrack),
            Self::Sockets => status(&s.sockets),
            Self::Ethtool => status(&s.ethtool),
            Self::DropEvents | Self::Softnet => (CoverageStatus::Absent, String::new()),
        }
    }

    /// True if something is there that could not be read.
    pub fn hidden(self, space: Space<'_>) -> bool {
        matches!(self.status(space).0, CoverageStatus::Denied | CoverageStatus::Failed)
    }
}

fn status<T>(reading: &Reading<T>) -> (CoverageStatus, String) {
    match reading {
        Reading::Present(_) => (CoverageStatus::Read, String::new()),
        Reading::Absent(why) => (CoverageStatus::Absent, why.clone()),
        Reading::Denied(needs) => (CoverageStatus::Denied, needs.clone()),
        Reading::Failed(error) => (CoverageStatus::Failed, error.clone()),
    }
}

fn status_of_both<T>(ends: &[T; 2], of: impl Fn(&T) -> (CoverageStatus, String)) -> (CoverageStatus, String) {
    let rank = |status: CoverageStatus| match status {
        CoverageStatus::Read => 0,
        CoverageStatus::Absent => 1,
        CoverageStatus::Denied => 2,
        CoverageStatus::Failed => 3,
    };
    let [a, b] = ends.each_ref().map(of);
    if rank(b.0) > rank(a.0) { b } else { a }
}

/// The report's list: every source of every namespace, then what belongs to the machine.
pub fn list<'a>(observation: &'a Observation, spaces: &[Space<'a>]) -> Vec<Coverage> {
    let row = |target: &str, source: &str, (status, detail): (CoverageStatus, String)| Coverage {
        target: target.to_owned(),
        source: source.to_owned(),
        status,
        detail,
        limits: vec![],
    };
    let mut out = vec![];
    for evidence in &observation.namespaces {
        let target = &evidence.target.id;
        let space = spaces.iter().find(|s| std::ptr::eq(s.evidence, evidence));
        match space {
            Some(space) => {
                let rows = Source::OF_NAMESPACE.iter().map(|s| row(target, s.name(), s.status(*space)));
                out.extend(rows);
            }
            None => out.push(row(target, "namespace", missing(evidence))),
        }
    }
    let machine = observation.namespaces.first().map(|n| n.target.id.as_str()).unwrap_or("host");
    let softnet = status_of_both(&observation.machine, |m| status(&m.softnet));
    out.push(row(machine, Source::Softnet.name(), softnet));
    let events = row(machine, Source::DropEvents.name(), status(&observation.drops));
    out.push(match observation.drops.get() {
        Some(log) => Coverage { detail: log.step.clone(), limits: limits(log), ..events },
        None => events,
    });
    let skips = observation.probe_skips.iter();
    out.extend(skips.map(|skip| row(&skip.target, &skip.url, (CoverageStatus::Absent, skip.why.clone()))));
    out
}

/// What this way of reading the drop events does not show, and what stood in a better one's way.
fn limits(log: &DropLog) -> Vec<String> {
    let mut out = vec![];
    if !log.knows_namespaces() {
        out.push(
            "drops of the whole machine: neither their namespace nor the owner of a socket is told"
                .to_owned(),
        );
    }
    if log.tracer_lost > 0 {
        out.push(format!("{} events lost by the tracer", log.tracer_lost));
    }
    out.extend(log.refused.iter().cloned());
    out
}

/// Why a namespace could not be judged.
fn missing(evidence: &NamespaceEvidence) -> (CoverageStatus, String) {
    let before = status(&evidence.before);
    if before.0 != CoverageStatus::Read {
        return before;
    }
    (CoverageStatus::Failed, format!("vanished during the window: {}", status(&evidence.after).1))
}
