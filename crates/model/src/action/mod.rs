//! Changes to a namespace, as data. A fix is a list of them, and so is a fault of the lab.
//!
//! Each action carries what it replaces, so that its inverse is known before anything is changed, and the machine
//! can be checked to be still as it was seen.

mod argv;
mod effect;

pub use argv::{split_words, tc_handle};
pub use effect::Effect;

use crate::netfilter::{Chain, Family, Hook, Rule, RuleVerdict, Tool};
use crate::snapshot::{PolicyRule, QdiscOptions, Route};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Names one chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChainRef {
    /// Tool.
    pub tool: Tool,
    /// Family.
    pub family: Family,
    /// Table.
    pub table: String,
    /// Name.
    pub name: String,
}

impl From<&Chain> for ChainRef {
    fn from(chain: &Chain) -> Self {
        Self { tool: chain.tool, family: chain.family, table: chain.table.clone(), name: chain.name.clone() }
    }
}

/// A rule frozen as it was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleRef {
    /// Its chain.
    pub chain: ChainRef,
    /// The rule; position or handle says where, text says that it is still the same.
    pub rule: Rule,
    /// True if it can be deleted by its text: no other rule of the chain has the same, or only its neighbours.
    pub unique: bool,
    /// Rules in front of it that are gone when its own deletion is taken back, because fixes named before it deleted
    /// them.
    #[serde(default)]
    pub gone_before: u32,
}

/// A rule that accepts one kind of traffic: from one address to one address, of one protocol and one port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exception {
    /// The chain that it goes into.
    pub chain: ChainRef,
    /// The rule in front of which it stands, as it was seen; none: at the end, in front of the chain's policy.
    pub before: Option<Rule>,
    /// What it accepts.
    pub rule: Rule,
    /// True if it lets the traffic past nothing but refusals that nobody wrote for it: a policy, a random share, a
    /// limit that is used up.
    pub past_no_decision: bool,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// `ip link set dev D up|down`.
    LinkState {
        /// Interface.
        dev: String,
        /// Wanted state.
        up: bool,
    },
    /// `ip link set dev D mtu N`.
    LinkMtu {
        /// Interface.
        dev: String,
        /// Wanted MTU in bytes.
        mtu: u32,
        /// MTU as seen.
        was: u32,
    },
    /// `bridge link set dev D SETTING VALUE`.
    BridgePort {
        /// Port.
        dev: String,
        /// In the words of `bridge`: state, isolated, mcast_flood.
        setting: String,
        /// Wanted value.
        value: String,
        /// Value as seen.
        was: String,
    },
    /// `tc qdisc add`; also replaces the default qdisc at that place.
    QdiscAdd(QdiscSpec),
    /// `tc qdisc del`.
    QdiscDelete(QdiscSpec),
    /// Adds a base or plain chain (and its table, if missing).
    ChainAdd {
        /// Which.
        chain: ChainRef,
        /// Hook and priority of a base chain.
        hook: Option<(Hook, i32)>,
        /// Policy of a base chain.
        policy: Option<RuleVerdict>,
    },
    /// Deletes an empty chain, and its table if that is then empty.
    ChainDelete {
        /// Which.
        chain: ChainRef,
        /// As in `ChainAdd`, for the way back.
        hook: Option<(Hook, i32)>,
        /// As in `ChainAdd`.
        policy: Option<RuleVerdict>,
    },
    /// `iptables -P`, `nft chain … { policy … }`.
    ChainPolicy {
        /// Which.
        chain: ChainRef,
        /// Wanted policy.
        policy: RuleVerdict,
        /// Policy as seen.
        was: RuleVerdict,
    },
    /// Inserts a rule at its position.
    RuleInsert(RuleRef),
    /// Deletes a rule.
    RuleDelete(RuleRef),
    /// Accepts exactly one kind of traffic, in front of what refuses it.
    Exception(Exception),
    /// `sysctl -w`.
    Sysctl {
        /// Dotted name.
        name: String,
        /// Wanted value.
        value: String,
        /// Value as seen.
        was: String,
    },
    /// `ip route add`.
    RouteAdd(RouteSpec),
    /// `ip route del`.
    RouteDelete(RouteSpec),
    /// `ip rule add`.
    PolicyRuleAdd {
        /// The rule.
        rule: PolicyRule,
    },
    /// `ip rule del`.
    PolicyRuleDelete {
        /// As it was seen.
        rule: PolicyRule,
    },
    /// `ip addr add`.
    AddressAdd {
        /// Interface.
        dev: String,
        /// Address.
        ip: IpAddr,
        /// Prefix length.
        prefix: u8,
    },
    /// `ip addr del`.
    AddressDelete {
        /// Interface.
        dev: String,
        /// Address.
        ip: IpAddr,
        /// Prefix length.
        prefix: u8,
    },
    /// `ip neigh replace … nud permanent`.
    NeighbourAdd {
        /// Interface.
        dev: String,
        /// Address.
        ip: IpAddr,
        /// Link-layer address.
        mac: String,
    },
    /// `ip neigh del`.
    NeighbourDelete {
        /// Interface.
        dev: String,
        /// Address.
        ip: IpAddr,
        /// Link-layer address as seen.
        mac: String,
    },
}

/// A qdisc with its place and options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QdiscSpec {
    /// Interface.
    pub dev: String,
    /// netem, tbf, blackhole, pfifo …
    pub kind: String,
    /// Parent as in [`crate::snapshot::Qdisc`].
    pub parent: u32,
    /// Handle; 0 lets the kernel choose.
    pub handle: u32,
    /// Options.
    pub options: QdiscOptions,
}

/// A route with the names of its devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteSpec {
    /// The route.
    pub route: Route,
    /// Name of the output interface of its only next hop.
    pub dev: Option<String>,
}

/// `TC_H_ROOT`.
pub const TC_ROOT: u32 = 0xffff_ffff;
/// `TC_H_INGRESS` (= `TC_H_CLSACT`).
pub const TC_INGRESS: u32 = 0xffff_fff1;

impl Action {
    /// The action that takes this one back; none where the way back is not known.
    pub fn inverse(&self) -> Option<Self> {
        Some(match self.clone() {
            Self::LinkState { dev, up } => Self::LinkState { dev, up: !up },
            Self::LinkMtu { dev, mtu, was } => Self::LinkMtu { dev, mtu: was, was: mtu },
            Self::BridgePort { dev, setting, value, was } => {
                Self::BridgePort { dev, setting, value: was, was: value }
            }
            Self::QdiscAdd(spec) => Self::QdiscDelete(spec),
            // Options that were not decoded cannot be put back.
            Self::QdiscDelete(spec) => match spec.options {
                QdiscOptions::Other if spec.kind != "blackhole" => return None,
                _ => Self::QdiscAdd(spec),
            },
            Self::ChainAdd { chain, hook, policy } => Self::ChainDelete { chain, hook, policy },
            Self::ChainDelete { chain, hook, policy } => Self::ChainAdd { chain, hook, policy },
            Self::ChainPolicy { chain, policy, was } => Self::ChainPolicy { chain, policy: was, was: policy },
            Self::RuleInsert(rule) => Self::RuleDelete(rule),
            // A rule whose text is not whole cannot be written again.
            Self::RuleDelete(rule) if rule.words().is_none() => return None,
            Self::RuleDelete(mut rule) => {
                rule.rule.position = rule.rule.position.saturating_sub(rule.gone_before).max(1);
                Self::RuleInsert(rule)
            }
            Self::Exception(exception) => Self::RuleDelete(exception.as_rule()),
            Self::Sysctl { name, value, was } => Self::Sysctl { name, value: was, was: value },
            Self::RouteAdd(spec) => Self::RouteDelete(spec),
            Self::RouteDelete(spec) => Self::RouteAdd(spec),
            Self::PolicyRuleAdd { rule } => Self::PolicyRuleDelete { rule },
            Self::PolicyRuleDelete { rule } => Self::PolicyRuleAdd { rule },
            Self::AddressAdd { dev, ip, prefix } => Self::AddressDelete { dev, ip, prefix },
            Self::AddressDelete { dev, ip, prefix } => Self::AddressAdd { dev, ip, prefix },
            Self::NeighbourAdd { dev, ip, mac } => Self::NeighbourDelete { dev, ip, mac },
            Self::NeighbourDelete { dev, ip, mac } => Self::NeighbourAdd { dev, ip, mac },
        })
    }
}

impl Exception {
    /// The rule at the place that it gets. Its handle is known only once the kernel has given it.
    pub fn as_rule(&self) -> RuleRef {
        let position = self.before.as_ref().map_or(self.rule.position, |before| before.position);
        let rule = Rule { position, handle: None, ..self.rule.clone() };
        RuleRef { chain: self.chain.clone(), rule, unique: true, gone_before: 0 }
    }
}
