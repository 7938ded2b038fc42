//! What was looked at, and what stayed out of sight.

use crate::evidence::case::Space;
use std::collections::BTreeSet;
use whydrop_model::bundle::{NamespaceEvidence, Observation};
use whydrop_model::snapshot::{Link, PolicyRule};
use whydrop_model::{Coverage, CoverageStatus, DropLog, FlowLog, Reading, Snapshot};

/// A kind of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Interfaces with their counters.
    Links,
    /// Addresses.
    Addresses,
    /// Routes.
    Routes,
    /// Redirects and path MTUs that were learned.
    RouteExceptions,
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
    /// Raw, packet and ping sockets.
    RawSockets,
    /// Processes that hold sockets, and their cgroups.
    Processes,
    /// Entries of connection tracking, at the end of the window.
    ConntrackEntries,
    /// Open NFQUEUE queues.
    NfQueues,
    /// Multicast memberships.
    Groups,
    /// Source filters of multicast memberships.
    GroupSources,
    /// IPsec policies and states.
    Xfrm,
    /// IPsec counters.
    XfrmStat,
    /// Forwarding entries of bridges and tunnels.
    Fdb,
    /// Multicast forwarding entries and router ports of bridges.
    Mdb,
    /// VLANs of bridges and their ports.
    BridgeVlans,
    /// Peers of wireguard devices.
    Wireguard,
    /// Rings, flow control and offloads.
    DeviceSettings,
    /// Announced changes of interfaces in the window.
    LinkEvents,
    /// The kernel's drop events (whole machine).
    DropEvents,
    /// The kernel's account of conversations (whole machine).
    Flows,
    /// System calls that failed (whole machine); watched only if asked for.
    SystemCalls,
    /// Per-CPU backlog counters (whole machine).
    Softnet,
    /// Soft interrupts by CPU (whole machine).
    Softirqs,
    /// Where the time of each CPU went (whole machine).
    CpuTimes,
    /// Load (whole machine).
    Load,
    /// Pressure stall information (whole machine).
    Pressure,
    /// Processes that were killed for want of memory (whole machine).
    OomKills,
    /// Statistics of the neighbour tables (whole machine).
    NeighbourTables,
}

/// All back ends of packet filtering.
pub const NETFILTER: &[Source] = &[Source::Nftables, Source::IptablesLegacy, Source::Ip6tablesLegacy];

impl Source {
    const OF_NAMESPACE: [Self; 31] = [
        Self::Links,
        Self::Addresses,
        Self::Routes,
        Self::RouteExceptions,
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
        Self::RawSockets,
        Self::Processes,
        Self::ConntrackEntries,
        Self::NfQueues,
        Self::Groups,
        Self::GroupSources,
        Self::Xfrm,
        Self::XfrmStat,
        Self::Fdb,
        Self::Mdb,
        Self::BridgeVlans,
        Self::Wireguard,
        Self::DeviceSettings,
        Self::LinkEvents,
    ];

    const OF_MACHINE: [Self; 7] = [
        Self::Softnet,
        Self::Softirqs,
        Self::CpuTimes,
        Self::Load,
        Self::Pressure,
        Self::OomKills,
        Self::NeighbourTables,
    ];

    /// Name as in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Links => "links",
            Self::Addresses => "addresses",
            Self::Routes => "routes",
            Self::RouteExceptions => "route_exceptions",
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
            Self::RawSockets => "raw_sockets",
            Self::Processes => "processes",
            Self::ConntrackEntries => "conntrack_entries",
            Self::NfQueues => "nfnetlink_queue",
            Self::Groups => "multicast_groups",
            Self::GroupSources => "multicast_sources",
            Self::Xfrm => "xfrm",
            Self::XfrmStat => "xfrm_stat",
            Self::Fdb => "fdb",
            Self::Mdb => "mdb",
            Self::BridgeVlans => "bridge_vlans",
            Self::Wireguard => "wireguard",
            Self::DeviceSettings => "device_settings",
            Self::LinkEvents => "link_events",
            Self::DropEvents => "drop_events",
            Self::Flows => "flows",
            Self::SystemCalls => "system_calls",
            Self::Softnet => "softnet",
            Self::Softirqs => "softirqs",
            Self::CpuTimes => "cpu_times",
            Self::Load => "load",
            Self::Pressure => "pressure",
            Self::OomKills => "oom_kills",
            Self::NeighbourTables => "neighbour_tables",
        }
    }

    /// How reading it went in this namespace: the worse of both ends of the window.
    pub fn status(self, space: Space<'_>) -> (CoverageStatus, String) {
        match self {
            Self::DropEvents => status(&space.case.observation.drops),
            Self::Flows => status(&space.case.observation.flows),
            Self::SystemCalls => calls(&space.case.observation.flows),
            _ if Self::OF_MACHINE.contains(&self) => self.in_machines(space.case.observation),
            Self::LinkEvents => status(&space.evidence.link_events),
            // There may be many: they are read once.
            Self::ConntrackEntries => self.in_snapshot(space.after),
            _ => status_of_both(&[space.before, space.after], |s| self.in_snapshot(s)),
        }
    }

    fn in_machines(self, observation: &Observation) -> (CoverageStatus, String) {
        status_of_both(&observation.machine, |m| match self {
            Self::Softnet => status(&m.softnet),
            Self::Softirqs => status(&m.softirqs),
            Self::CpuTimes => status(&m.cpu_times),
            Self::Load => status(&m.load),
            Self::Pressure => status(&m.pressure),
            Self::OomKills => status(&m.oom_kills),
            Self::NeighbourTables => status(&m.neighbour_tables),
            _ => (CoverageStatus::Absent, String::new()),
        })
    }

    fn in_snapshot(self, s: &Snapshot) -> (CoverageStatus, String) {
        match self {
            Self::Links => links(&s.links),
            Self::Addresses => status(&s.addresses),
            Self::Routes => status(&s.routes),
            Self::RouteExceptions => status(&s.route_exceptions),
            Self::PolicyRules => policy_rules(&s.policy_rules),
            Self::Neighbours => status(&s.neighbours),
            Self::Qdiscs => status(&s.qdiscs),
            Self::Classes => status(&s.classes),
            Self::Filters => status(&s.filters),
            Self::Mib => match &s.mib {
                Reading::Present(mib) if mib.is_empty() => {
                    (CoverageStatus::Failed, "no counter in it".to_owned())
                }
                mib => status(mib),
            },
            Self::Mib6 => status(&s.mib6),
            Self::Nftables => status(&s.nftables),
            Self::IptablesLegacy => status(&s.iptables_legacy),
            Self::Ip6tablesLegacy => status(&s.ip6tables_legacy),
            Self::Conntrack => status(&s.conntrack),
            Self::Sockets => status(&s.sockets),
            Self::Ethtool => status(&s.ethtool),
            Self::RawSockets => status(&s.raw_sockets),
            Self::Processes => status(&s.processes),
            Self::ConntrackEntries => status(&s.conntrack_entries),
            Self::NfQueues => status(&s.nf_queues),
            Self::Groups => status(&s.groups),
            Self::GroupSources => status(&s.group_sources),
            Self::Xfrm => status(&s.xfrm),
            Self::XfrmStat => status(&s.xfrm_stat),
            Self::Fdb => status(&s.fdb),
            Self::Mdb => status(&s.mdb),
            Self::BridgeVlans => status(&s.bridge_vlans),
            Self::Wireguard => status(&s.wireguard),
            Self::DeviceSettings => status(&s.device_settings),
            _ => (CoverageStatus::Absent, String::new()),
        }
    }

    /// True if a kernel may well do without it: a module that is not loaded, IPv6 switched off, a namespace without
    /// devices of that kind.
    pub const fn may_be_absent(self) -> bool {
        !matches!(
            self,
            Self::Links
                | Self::Addresses
                | Self::Routes
                | Self::PolicyRules
                | Self::Neighbours
                | Self::Qdiscs
                | Self::Mib
                | Self::Sockets
        )
    }

    /// True if something is there that could not be read.
    pub fn hidden(self, space: Space<'_>) -> bool {
        matches!(self.status(space).0, CoverageStatus::Denied | CoverageStatus::Failed)
    }
}

/// The kernel gives counters with every link, and its state with every port of a bridge (`br_port_fill_attrs()`); a link
/// without (a damaged recording) hides what it dropped.
fn links(reading: &Reading<Vec<Link>>) -> (CoverageStatus, String) {
    let bridges = reading.iter().filter(|link| link.kind.as_deref() == Some("bridge"));
    let bridges: BTreeSet<u32> = bridges.map(|link| link.index).collect();
    // A recording of a version that read no details has none at all, and does not claim to.
    let is_port =
        |link: &Link| link.master.is_some_and(|master| bridges.contains(&master)) && !link.details.is_empty();
    let missing = reading.iter().find_map(|link| match link.stats.is_empty() {
        true => Some(format!("no counters of {}", link.name)),
        false if is_port(link) && !link.details.contains_key("port_state") => {
            Some(format!("no state of the bridge port {}", link.name))
        }
        false => None,
    });
    missing.map_or_else(|| status(reading), |missing| (CoverageStatus::Failed, missing))
}

/// A rule that looks up a table names it, or leaves that to the device (`l3mdev`); without it no way can be followed.
fn policy_rules(reading: &Reading<Vec<PolicyRule>>) -> (CoverageStatus, String) {
    let leads_nowhere = |rule: &&PolicyRule| {
        rule.action == "lookup" && rule.table.is_none() && !rule.conditions.iter().any(|c| c == "l3mdev")
    };
    match reading.iter().find(leads_nowhere) {
        Some(rule) => (CoverageStatus::Failed, format!("no table of rule {}", rule.priority)),
        None => status(reading),
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
    let mut unseen = spaces.iter().peekable();
    for evidence in &observation.namespaces {
        let target = &evidence.target.id;
        // Both are in the order of the list.
        let space = unseen.next_if(|space| std::ptr::eq(space.evidence, evidence));
        match space {
            Some(space) => {
                let rows = Source::OF_NAMESPACE.iter().map(|s| row(target, s.name(), s.status(*space)));
                out.extend(rows);
            }
            None => out.push(row(target, "namespace", missing(evidence))),
        }
    }
    let machine = observation.namespaces.first().map(|n| n.target.id.as_str()).unwrap_or("host");
    out.extend(Source::OF_MACHINE.iter().map(|s| row(machine, s.name(), s.in_machines(observation))));
    let events = row(machine, Source::DropEvents.name(), status(&observation.drops));
    out.push(match observation.drops.get() {
        Some(log) => Coverage { detail: log.step.clone(), limits: limits(log), ..events },
        None => events,
    });
    let flows = row(machine, Source::Flows.name(), status(&observation.flows));
    out.push(Coverage { limits: observation.flows.get().map_or(vec![], not_kept), ..flows });
    out.push(row(machine, Source::SystemCalls.name(), calls(&observation.flows)));
    if let Some(log) = observation.flows.get() {
        let signals = log.signals.iter().map(|(name, watched)| row(machine, name, status(watched)));
        out.extend(signals);
    }
    let skips = observation.probe_skips.iter();
    out.extend(skips.map(|skip| row(&skip.target, &skip.url, (CoverageStatus::Absent, skip.why.clone()))));
    out.extend(observation.silent_engines.iter().map(|(engine, why)| row(machine, engine, status(why))));
    let unheard = observation.unheard.iter();
    out.extend(unheard.map(|u| row(u.target.as_deref().unwrap_or(machine), &u.source, status(&u.why))));
    if observation.history.get().is_some_and(|history| history.more) {
        let why = "there were more than are kept: the oldest are missing".to_owned();
        out.push(row(machine, "changes", (CoverageStatus::Failed, why)));
    }
    out
}

/// Where conversations were not seen, failed calls were not, for the same reason.
fn calls(flows: &Reading<FlowLog>) -> (CoverageStatus, String) {
    match flows.get() {
        Some(log) => status(&log.calls),
        None => status(flows),
    }
}

/// What the tracer could not keep of conversations.
fn not_kept(log: &FlowLog) -> Vec<String> {
    let told = [
        (log.not_kept, "events of conversations counted without addresses"),
        (log.lost, "events of conversations lost by the tracer"),
        (log.calls_unseen, "ends of system calls not seen, whether they failed or not"),
    ];
    told.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect()
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
