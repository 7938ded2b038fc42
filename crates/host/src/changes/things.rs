//! What can be changed in a namespace, each thing with what is set of it: of a snapshot, and of an announcement.

use std::collections::BTreeMap;
use whydrop_model::netfilter::{Chain, RuleVerdict};
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::{Address, Link, PolicyRule, Qdisc, QdiscOptions, Route, TcAction, TcFilter};
use whydrop_model::{Snapshot, Text, text};

/// Longest name of a thing, and of what is set of it.
const LONGEST: usize = 200;
/// The table of what the kernel makes of an address; it goes with the address.
const LOCAL: u32 = 255;
/// TC_H_ROOT and TC_H_INGRESS (include/uapi/linux/pkt_sched.h).
const ROOT: u32 = 0xffff_ffff;
const INGRESS: u32 = 0xffff_fff1;

/// A kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Link,
    Address,
    Route,
    Policy,
    /// Of nf_tables: a transaction announces them.
    Rule,
    /// Of the older iptables: nothing announces them.
    OldRule,
    Queue,
    /// Of tc.
    Filter,
    Setting,
}

impl Kind {
    /// The word before the thing's name.
    pub fn word(self) -> Text {
        match self {
            Self::Link => text!("interface", "接口"),
            Self::Address => text!("address", "地址"),
            Self::Route => text!("route", "路由"),
            Self::Policy => text!("policy rule", "策略路由规则"),
            Self::Rule | Self::OldRule => text!("rule", "规则"),
            Self::Queue => text!("queue", "队列"),
            Self::Filter => text!("tc filter", "tc 过滤器"),
            Self::Setting => text!("setting", "设置"),
        }
    }
}

/// A thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Thing {
    /// By what it is known again.
    pub id: String,
    /// As it is shown.
    pub label: String,
    /// What is set of it.
    pub value: String,
}

impl Thing {
    fn new(label: &str, value: &str) -> Self {
        let label = sanitize(label, LONGEST);
        Self { id: label.clone(), label, value: sanitize(value.trim(), LONGEST) }
    }
}

/// Name and transmit queue length of interfaces by their index.
pub(super) type Names = BTreeMap<u32, (String, Option<u32>)>;

fn name(names: &Names, index: u32) -> String {
    names.get(&index).map_or_else(|| format!("if{index}"), |(name, _)| name.clone())
}

/// Interfaces keep their index when they are renamed.
pub(super) fn link(link: &Link, names: &Names) -> Thing {
    let state = if link.up { link.operstate.as_str() } else { "down" };
    let master = link.master.map_or_else(|| "none".to_owned(), |index| name(names, index));
    let mac = link.mac.as_deref().unwrap_or("none");
    let xdp = if link.xdp.is_some() { "on" } else { "off" };
    let value = format!("state={state} mtu={} master={master} mac={mac} xdp={xdp}", link.mtu);
    Thing { id: link.index.to_string(), ..Thing::new(&link.name, &value) }
}

pub(super) fn address(address: &Address, names: &Names) -> Thing {
    // The kernel's own test of a new address ends by itself.
    let flags: Vec<&str> = address.flags.iter().map(String::as_str).filter(|f| *f != "tentative").collect();
    let label = format!("{}/{} dev {}", address.ip, address.prefix, name(names, address.link));
    Thing::new(&label, &flags.join(" "))
}

/// None for those that the kernel makes of an address.
pub(super) fn route(route: &Route, names: &Names) -> Option<Thing> {
    if route.table == LOCAL {
        return None;
    }
    let hops = route.next_hops.iter().map(|hop| {
        let gateway = hop.gateway.map(|ip| format!("via {ip} ")).unwrap_or_default();
        let dev = hop.link.map(|link| format!("dev {}", name(names, link))).unwrap_or_default();
        format!("{gateway}{dev}")
    });
    let hops = hops.collect::<Vec<_>>().join(", ");
    let label =
        format!("{}/{} table {} metric {}", route.destination, route.prefix, route.table, route.metric);
    // Of IPv6 there is one of the same destination for each interface.
    let id = if route.destination.is_ipv6() { format!("{label} {hops}") } else { label.clone() };
    Some(Thing { id, ..Thing::new(&label, &format!("{} {hops}", route.kind)) })
}

pub(super) fn policy(rule: &PolicyRule) -> Thing {
    let network = |net: &Option<(std::net::IpAddr, u8)>| {
        net.map_or_else(|| "all".to_owned(), |(ip, prefix)| format!("{ip}/{prefix}"))
    };
    let table = rule.table.map(|table| format!(" {table}")).unwrap_or_default();
    let mark = rule.fwmark.map(|(mark, mask)| format!(" fwmark {mark:#x}/{mask:#x}")).unwrap_or_default();
    let side = |word: &str, name: &Option<String>| name.as_ref().map(|name| format!(" {word} {name}"));
    let sides = [side("iif", &rule.iif), side("oif", &rule.oif)].into_iter().flatten().collect::<String>();
    let label = format!("{} from {} to {}", rule.priority, network(&rule.from), network(&rule.to));
    let value = format!("{}{table}{mark}{sides} {}", rule.action, rule.conditions.join(" "));
    Thing { id: format!("{} {label} {value}", rule.family), ..Thing::new(&label, &value) }
}

pub(super) fn queue(qdisc: &Qdisc, names: &Names) -> Thing {
    let label = format!("{} {}", name(names, qdisc.link), parent(qdisc.parent));
    let value = format!("{} {}", qdisc.kind, options(&qdisc.options));
    Thing { id: format!("{} {:x}", qdisc.link, qdisc.parent), ..Thing::new(&label, &value) }
}

fn parent(parent: u32) -> String {
    match parent {
        ROOT => "root".to_owned(),
        INGRESS => "ingress".to_owned(),
        parent => format!("{:x}:{:x}", parent >> 16, parent & 0xffff),
    }
}

fn filter(filter: &TcFilter, names: &Names) -> Thing {
    let TcFilter { kind, preference, handle, program, .. } = filter;
    let (device, parent) = (name(names, filter.link), parent(filter.parent));
    let label = format!("{device} {parent} pref {preference} {kind} {handle:x}");
    let action = |action: &TcAction| match &action.verdict {
        Some(verdict) => format!("{} {verdict}", action.kind),
        None => action.kind.clone(),
    };
    let actions: Vec<String> = program.iter().cloned().chain(filter.actions.iter().map(action)).collect();
    Thing::new(&label, &actions.join(", "))
}

/// What is set of a queue, without what it counts.
fn options(options: &QdiscOptions) -> String {
    match options {
        QdiscOptions::Htb { default, .. } => format!("default {default:x}"),
        QdiscOptions::FqCodel { limit, target_us, .. } => format!("limit {limit} target {target_us} us"),
        QdiscOptions::Other => String::new(),
        // `Tbf { rate: 1000, burst: 200 }`: the kind is said already.
        other => {
            let all = format!("{other:?}");
            all.split_once('{').map_or(String::new(), |(_, set)| set.trim_end_matches('}').trim().to_owned())
        }
    }
}

/// Rules by their handle, for one that only moves is the same; and chains that drop what no rule takes.
pub(super) fn rules<'a>(chains: impl Iterator<Item = &'a Chain>) -> Vec<Thing> {
    let mut out = vec![];
    for chain in chains {
        let title = format!("{} {}", chain.command(), chain.title());
        if chain.policy == Some(RuleVerdict::Drop) {
            out.push(Thing::new(&format!("{title}: policy drop"), ""));
        }
        for rule in &chain.rules {
            let thing = Thing::new(&format!("{title}: {}", rule.text), "");
            let id = rule.handle.map(|handle| format!("{title} {handle}"));
            out.push(Thing { id: id.unwrap_or_else(|| thing.id.clone()), ..thing });
        }
    }
    out
}

/// Names of the interfaces of a snapshot; none if it has none.
pub(super) fn names(snapshot: &Snapshot) -> Option<Names> {
    Some(snapshot.links.get()?.iter().map(|link| (link.index, (link.name.clone(), link.txqlen))).collect())
}

/// All of one kind in a snapshot; none if they were not read.
pub(super) fn of(kind: Kind, snapshot: &Snapshot, names: &Names) -> Option<Vec<Thing>> {
    Some(match kind {
        Kind::Link => snapshot.links.get()?.iter().map(|each| link(each, names)).collect(),
        Kind::Address => snapshot.addresses.get()?.iter().map(|each| address(each, names)).collect(),
        Kind::Route => snapshot.routes.get()?.iter().filter_map(|each| route(each, names)).collect(),
        Kind::Policy => snapshot.policy_rules.get()?.iter().map(policy).collect(),
        Kind::Rule => rules(snapshot.nftables.get()?.iter()),
        Kind::OldRule => {
            let both = [&snapshot.iptables_legacy, &snapshot.ip6tables_legacy];
            if both.iter().any(|reading| reading.is_hidden()) {
                return None;
            }
            rules(both.into_iter().flat_map(|reading| reading.iter()))
        }
        Kind::Queue => snapshot.qdiscs.get()?.iter().map(|each| queue(each, names)).collect(),
        Kind::Filter => snapshot.filters.get()?.iter().map(|each| filter(each, names)).collect(),
        Kind::Setting => {
            let read = snapshot.sysctls.iter().filter_map(|(key, value)| Some((key, value.get()?)));
            read.map(|(key, value)| Thing::new(key, value)).collect()
        }
    })
}

/// Each of them.
pub(super) const KINDS: [Kind; 9] = [
    Kind::Link,
    Kind::Address,
    Kind::Route,
    Kind::Policy,
    Kind::Rule,
    Kind::OldRule,
    Kind::Queue,
    Kind::Filter,
    Kind::Setting,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_queue_counts_is_no_setting() {
        let codel = |drops| QdiscOptions::FqCodel { limit: 10, target_us: 5, drop_overlimit: drops };
        assert_eq!(options(&codel(1)), options(&codel(900)));
    }
}
