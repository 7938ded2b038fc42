//! From what was read to counters by place and id.

use std::collections::BTreeMap;
use whydrop_model::Snapshot;
use whydrop_model::census::Glance;
use whydrop_model::netfilter::{Chain, RuleVerdict, Tool};
use whydrop_model::reading::Reading;
use whydrop_model::snapshot::{Counters, Link, MachineSnapshot, QdiscOptions, QueueStats, Socket};

/// A counter now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub value: u64,
    /// The kernel has 32 bits for it: it wraps.
    pub narrow: bool,
}

/// Counters by place and id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(pub(super) BTreeMap<(String, String), Number>);

impl Table {
    /// All of a namespace.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut out = Self::default();
        out.protocols(&snapshot.mib, &snapshot.mib6);
        out.links(&snapshot.links);
        for (device, counters) in snapshot.ethtool.get().into_iter().flatten() {
            out.group(device, "ethtool", counters);
        }
        for qdisc in snapshot.qdiscs.iter() {
            let handle = format!("{:x}:", qdisc.handle >> 16);
            let place = format!("{} qdisc {} {handle}", snapshot.link_name(qdisc.link), qdisc.kind);
            out.queue(&place, &qdisc.stats);
            if let QdiscOptions::FqCodel { drop_overlimit, .. } = &qdisc.options {
                out.narrow(&place, "qdisc_fq_codel.drop_overlimit", *drop_overlimit);
            }
        }
        for class in snapshot.classes.iter() {
            let id = format!("{:x}:{:x}", class.handle >> 16, class.handle & 0xffff);
            out.queue(&format!("{} class {id}", snapshot.link_name(class.link)), &class.stats);
        }
        for filter in snapshot.filters.iter() {
            let place =
                format!("{} filter {} {:x}", snapshot.link_name(filter.link), filter.kind, filter.handle);
            for (action, stats) in filter.actions.iter().filter_map(|a| Some((a, a.stats.as_ref()?))) {
                out.narrow(
                    &format!("{place} {}", action.kind),
                    "tc_action.TCA_STATS_QUEUE_drops",
                    stats.drops,
                );
            }
        }
        snapshot.chains().for_each(|chain| out.chain(chain));
        if let Some(conntrack) = snapshot.conntrack.get() {
            out.group("", "nf_conntrack_stat", &conntrack.stats);
            out.wide("", "conntrack.nf_conntrack_count", conntrack.count);
        }
        for socket in snapshot.sockets.iter() {
            out.socket("inet_diag.skmem_d", socket);
        }
        for socket in snapshot.raw_sockets.iter() {
            out.socket("proc_net_raw.drops", socket);
        }
        for queue in snapshot.nf_queues.iter() {
            let place = format!("queue {}", queue.number);
            out.narrow(&place, "nfnetlink_queue.queue_dropped", queue.queue_dropped);
            out.narrow(&place, "nfnetlink_queue.user_dropped", queue.user_dropped);
        }
        if let Some(counters) = snapshot.xfrm_stat.get() {
            out.group("", "Xfrm", counters);
        }
        out
    }

    /// What a first look shows.
    pub fn of_glance(glance: &Glance) -> Self {
        let mut out = Self::default();
        out.protocols(&glance.mib, &glance.mib6);
        out.links(&glance.links);
        out
    }

    /// What belongs to no namespace; the backlogs of all processors as one.
    pub fn of_machine(machine: &MachineSnapshot) -> Self {
        let mut out = Self::default();
        if let Some(cpus) = machine.softnet.get() {
            let sums = [
                ("1_processed", cpus.iter().map(|c| c.processed).sum()),
                ("2_dropped", cpus.iter().map(|c| c.dropped).sum()),
                ("3_time_squeeze", cpus.iter().map(|c| c.time_squeeze).sum()),
                ("11_flow_limit_count", cpus.iter().map(|c| c.flow_limit).sum()),
            ];
            for (name, sum) in sums {
                out.wide("CPUs", &format!("softnet_stat.{name}"), sum);
            }
        }
        for (name, value) in machine.neighbour_tables.get().into_iter().flatten() {
            out.wide("", name, *value);
        }
        out
    }

    /// Those that are not zero.
    #[must_use]
    pub fn counted(mut self) -> Self {
        self.0.retain(|_, number| number.value > 0);
        self
    }

    fn wide(&mut self, place: &str, counter: &str, value: u64) {
        self.0.insert((place.to_owned(), counter.to_owned()), Number { value, narrow: false });
    }

    fn narrow(&mut self, place: &str, counter: &str, value: u32) {
        let number = Number { value: value.into(), narrow: true };
        self.0.insert((place.to_owned(), counter.to_owned()), number);
    }

    fn group(&mut self, place: &str, group: &str, counters: &Counters) {
        for (name, value) in counters {
            self.wide(place, &format!("{group}.{name}"), *value);
        }
    }

    fn protocols(&mut self, mib: &Reading<Counters>, mib6: &Reading<Counters>) {
        for (name, value) in mib.get().into_iter().flatten() {
            self.wide("", name, *value);
        }
        if let Some(counters) = mib6.get() {
            self.group("", "snmp6", counters);
        }
    }

    fn links(&mut self, links: &Reading<Vec<Link>>) {
        for link in links.iter() {
            self.group(&link.name, "rtnl_link_stats64", &link.stats);
        }
    }

    fn queue(&mut self, place: &str, stats: &QueueStats) {
        for (name, value) in [
            ("drops", stats.drops),
            ("overlimits", stats.overlimits),
            ("requeues", stats.requeues),
            ("qlen", stats.qlen),
            ("backlog", stats.backlog),
        ] {
            self.narrow(place, &format!("qdisc_common.{name}"), value);
        }
    }

    /// Rules and policies that keep packets; those that let pass count work.
    fn chain(&mut self, chain: &Chain) {
        let counter = match chain.tool {
            Tool::Nft => "nft.rule_counter_packets",
            Tool::IptablesNft | Tool::Ip6tablesNft | Tool::IptablesLegacy | Tool::Ip6tablesLegacy => {
                "iptables.rule_policy_packets"
            }
        };
        let keeps = |verdict: &RuleVerdict| {
            matches!(verdict, RuleVerdict::Drop | RuleVerdict::Reject | RuleVerdict::Queue(_))
        };
        let title = format!("{} {}", chain.command(), chain.title());
        if let (Some(packets), true) = (chain.policy_packets, chain.policy.as_ref().is_some_and(keeps)) {
            self.wide(&format!("{title}, policy"), counter, packets);
        }
        for rule in chain.rules.iter().filter(|rule| keeps(&rule.verdict)) {
            if let Some(packets) = rule.packets {
                self.wide(&format!("{title}, rule {}", rule.position), counter, packets);
            }
        }
    }

    fn socket(&mut self, counter: &str, socket: &Socket) {
        let Some(drops) = socket.drops else { return };
        let owner = socket.owners.first().map(|owner| format!(" {}", owner.comm));
        let ends = format!("{} > {}", socket.local, socket.remote);
        // Sockets may share their address; the cookie tells them apart.
        let place = format!("socket {ends}{} ({:x})", owner.unwrap_or_default(), socket.cookie);
        self.narrow(&place, counter, drops);
    }
}
