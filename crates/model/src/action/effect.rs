//! What a change does to traffic that is not in trouble: from this follows whether it may run unasked.

use super::{Action, QdiscSpec, RouteSpec};
use crate::netfilter::{Rule, RuleVerdict};
use crate::snapshot::QdiscOptions;
use std::net::IpAddr;

/// What else a change does, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing: it restores the traffic in trouble.
    Restores,
    /// Traffic that works is interrupted, if only for a moment.
    Interrupts,
    /// More gets through than the traffic in trouble, or a limit is switched off.
    Opens,
}

/// How the names of settings end that only make room: for packets, connections, bytes, or time to work on them.
const ROOM: [&str; 12] = [
    "_backlog",
    "_max",
    "_mem",
    "_budget",
    "_budget_usecs",
    "_weight",
    "_thresh",
    "_thresh1",
    "_thresh2",
    "_thresh3",
    "somaxconn",
    "tcp_syncookies",
];

impl Action {
    /// What it does beyond the traffic in trouble. What is not known to be harmless is taken for the gravest.
    pub fn effect(&self) -> Effect {
        match self {
            // An interface's routes come and go with its state, and many drivers stop for a new MTU.
            Self::LinkState { .. } | Self::LinkMtu { .. } => Effect::Interrupts,
            // Isolation keeps tenants apart. A port that opens may close a loop.
            Self::BridgePort { setting, .. } => opens_if(setting == "isolated"),
            Self::QdiscAdd(_) => Effect::Interrupts,
            Self::QdiscDelete(spec) => spec.deletion(),
            Self::ChainAdd { policy, .. } | Self::ChainDelete { policy, .. } => match policy {
                Some(RuleVerdict::Drop) => Effect::Opens,
                _ => Effect::Interrupts,
            },
            Self::ChainPolicy { policy, .. } => opens_if(*policy != RuleVerdict::Drop),
            Self::RuleInsert(rule) => opens_if(lets_pass(&rule.rule)),
            Self::RuleDelete(rule) => opens_if(!lets_pass(&rule.rule)),
            Self::Exception(exception) if exception.past_no_decision => Effect::Restores,
            Self::Exception(_) => Effect::Opens,
            Self::Sysctl { name, .. } if ROOM.iter().any(|end| name.ends_with(end)) => Effect::Restores,
            // Forwarding, rp_filter, route_localnet and their like are protections.
            Self::Sysctl { .. } => Effect::Opens,
            Self::RouteAdd(spec) => spec.addition(),
            Self::RouteDelete(RouteSpec { route, .. }) => opens_if(is_refusal(&route.kind)),
            Self::PolicyRuleAdd { .. } => Effect::Interrupts,
            Self::PolicyRuleDelete { rule } => opens_if(is_refusal(&rule.action)),
            Self::AddressAdd { .. } => Effect::Opens,
            Self::AddressDelete { .. } | Self::NeighbourAdd { .. } => Effect::Interrupts,
            // The next packet asks for the address again.
            Self::NeighbourDelete { .. } => Effect::Restores,
        }
    }
}

fn opens_if(opens: bool) -> Effect {
    if opens { Effect::Opens } else { Effect::Interrupts }
}

/// True for a rule without which less gets through. What is not decoded is not counted among them.
fn lets_pass(rule: &Rule) -> bool {
    matches!(rule.verdict, RuleVerdict::Accept | RuleVerdict::Return)
}

fn is_refusal(kind: &str) -> bool {
    matches!(kind, "blackhole" | "unreachable" | "prohibit" | "throw")
}

impl QdiscSpec {
    /// What its deletion does: the packets in its queue are lost, and its limit is gone.
    fn deletion(&self) -> Effect {
        match &self.options {
            QdiscOptions::Netem { rate, .. } if *rate > 0 => Effect::Opens,
            QdiscOptions::Netem { delay_us: 0, .. } => Effect::Restores,
            QdiscOptions::Netem { .. } | QdiscOptions::Fifo { .. } | QdiscOptions::FqCodel { .. } => {
                Effect::Interrupts
            }
            QdiscOptions::Tbf { .. } | QdiscOptions::Htb { .. } | QdiscOptions::Other => Effect::Opens,
        }
    }
}

impl RouteSpec {
    /// What its addition does: the way to one host, or to the network of an own interface, leads nobody elsewhere.
    fn addition(&self) -> Effect {
        let route = &self.route;
        let host = match route.destination {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let on_link = route.prefix > 0 && route.next_hops.iter().all(|hop| hop.gateway.is_none());
        match route.kind.as_str() {
            "unicast" if route.prefix == host || on_link => Effect::Restores,
            "unicast" => Effect::Opens,
            _ => Effect::Interrupts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::TC_ROOT;
    use crate::finding::Applicability;

    fn setting(name: &str) -> Action {
        Action::Sysctl { name: name.into(), value: "1".into(), was: "0".into() }
    }

    fn netem(delay_us: u64, rate: u64) -> Action {
        let options = QdiscOptions::Netem {
            loss: 0.3,
            model: None,
            limit: 1000,
            delay_us,
            jitter_us: 0,
            corrupt: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            rate,
        };
        let (dev, kind) = ("eth0".to_owned(), "netem".to_owned());
        Action::QdiscDelete(QdiscSpec { dev, kind, parent: TC_ROOT, handle: 0, options })
    }

    #[test]
    fn protections_are_not_switched_off_unasked() {
        for name in
            ["net.ipv4.ip_forward", "net.ipv4.conf.eth0.rp_filter", "net.ipv4.conf.all.route_localnet"]
        {
            assert_eq!(setting(name).effect(), Effect::Opens, "{name}");
        }
        for name in
            ["net.core.netdev_max_backlog", "net.netfilter.nf_conntrack_max", "net.ipv4.tcp_syncookies"]
        {
            assert_eq!(setting(name).effect(), Effect::Restores, "{name}");
        }
    }

    #[test]
    fn a_queue_is_more_than_its_losses() {
        assert_eq!(netem(0, 0).effect(), Effect::Restores);
        assert_eq!(netem(10, 0).effect(), Effect::Interrupts);
        assert_eq!(netem(10, 1000).effect(), Effect::Opens);
    }

    #[test]
    fn the_gravest_change_decides() {
        let up = Action::LinkState { dev: "eth0".into(), up: true };
        assert_eq!(Applicability::of([]), Applicability::Manual);
        assert_eq!(Applicability::of([&netem(0, 0)]), Applicability::Safe);
        assert_eq!(Applicability::of([&netem(0, 0), &up]), Applicability::Disruptive);
        assert_eq!(Applicability::of([&up, &setting("net.ipv4.ip_forward")]), Applicability::Weakens);
    }
}
