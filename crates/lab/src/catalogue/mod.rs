//! The faults, one file per layer.

mod app;
mod bridge;
mod confined;
mod connected;
mod container;
mod family;
mod gateway;
mod healthy;
mod joined;
mod learned;
mod limit;
mod link;
mod module;
mod netfilter;
mod program;
mod qdisc;
mod route;
mod ruled;
mod scripted;
mod segment;
mod size;
mod source_case;
mod stack;
mod tracked;
mod translated;
mod unanswered;
mod unheard;
mod way;

use crate::fault::{Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::{Place, Topology};
use crate::traffic::{Manner, Traffic};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use whydrop_model::action::{ChainRef, QdiscSpec, RouteSpec, RuleRef, TC_ROOT};
use whydrop_model::netfilter::{Family, Hook, Match, Rule, RuleVerdict, Tool};
use whydrop_model::snapshot::{NextHop, QdiscOptions, Route};
use whydrop_model::{Action, Text};

pub use source_case::source_case;

/// A Python script: what all of them begin with, a file of `scripts/`, and a call of what that defines.
macro_rules! script {
    ($file:literal, $call:literal) => {
        concat!(
            include_str!("scripts/common.py"),
            include_str!(concat!("scripts/", $file, ".py")),
            $call,
            "\n"
        )
    };
}
use script;

/// What a script needs.
const PYTHON: &[Need] = &[Need::Commands(&[PYTHON_3])];
const PYTHON_3: &[&str] = &["python3", "-c", ""];

/// A pair whose server is a script, in good order and not.
fn served(
    id: &'static str,
    title: Text,
    [well, broken]: [&'static str; 2],
    causes: &'static [&'static str],
) -> Fault {
    let serve = |text| vec![Service::Script { text }];
    let mut fault = Fault::pair(id, title).needs(PYTHON).breaks(vec![Change::Serve(serve(broken))], causes);
    fault.services = serve(well);
    fault
}

/// All faults, then the healthy cases.
pub fn list() -> Vec<Fault> {
    let layers = [
        link::faults(),
        bridge::faults(),
        stack::faults(),
        qdisc::faults(),
        netfilter::faults(),
        size::faults(),
        route::faults(),
        ruled::faults(),
        segment::faults(),
        way::faults(),
        gateway::faults(),
        app::faults(),
        container::faults(),
        family::faults(),
        joined::faults(),
        learned::faults(),
        program::faults(),
        limit::faults(),
        module::faults(),
        unheard::faults(),
        scripted::faults(),
        confined::faults(),
        translated::faults(),
        tracked::faults(),
        unanswered::faults(),
        connected::faults(),
        healthy::cases(),
    ];
    layers.into_iter().flatten().collect()
}

/// The fault with this id.
pub fn find(id: &str) -> Option<Fault> {
    list().into_iter().find(|fault| fault.id == id)
}

impl Traffic {
    /// Requests to the server's port 80.
    pub(crate) fn requests(topology: Topology, per_second: u32) -> Self {
        Self::web(topology.server(), per_second)
    }

    /// Datagrams to the server's port 9000.
    pub(crate) fn datagrams(topology: Topology, per_second: u32, bytes: usize) -> Self {
        let to = SocketAddr::new(topology.server().into(), 9000);
        Self::Datagrams { from: Ipv4Addr::UNSPECIFIED.into(), to, per_second, bytes }
    }

    /// Requests to port 80 of an address.
    pub(crate) fn web(to: impl Into<IpAddr>, per_second: u32) -> Self {
        Self::Requests { to: SocketAddr::new(to.into(), 80), per_second, manner: Manner::Reads }
    }
}

impl Service {
    /// A UDP service on port 9000 that reads, with the default buffer.
    pub(crate) const fn datagrams() -> Self {
        Self::Datagrams { port: 9000, reads: true, buffer: None }
    }
}

/// A root qdisc without its interface.
pub(crate) struct RootQdisc {
    kind: &'static str,
    options: QdiscOptions,
}

impl RootQdisc {
    /// On this interface.
    pub(crate) fn on(&self, dev: &str) -> QdiscSpec {
        let (kind, options) = (self.kind.to_owned(), self.options.clone());
        QdiscSpec { dev: dev.into(), kind, parent: TC_ROOT, handle: 0, options }
    }
}

/// `netem loss 30%`; the limit is tc's default.
pub(crate) const NETEM_30: RootQdisc = RootQdisc {
    kind: "netem",
    options: QdiscOptions::Netem {
        loss: 0.3,
        model: None,
        limit: 1000,
        delay_us: 0,
        jitter_us: 0,
        corrupt: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        rate: 0,
    },
};

fn nft_chain_ref(hook: Hook) -> ChainRef {
    ChainRef { tool: Tool::Nft, family: Family::Inet, table: "firewall".into(), name: hook.word().into() }
}

/// A base chain of the table `inet firewall`, named after its hook.
pub(crate) fn nft_chain(hook: Hook, policy: Option<RuleVerdict>) -> Action {
    Action::ChainAdd { chain: nft_chain_ref(hook), hook: Some((hook, 0)), policy }
}

/// Puts a rule first into such a chain.
pub(crate) fn nft_rule(hook: Hook, matches: Vec<Match>, verdict: RuleVerdict, text: &str) -> Action {
    let rule = Rule {
        position: 1,
        handle: None,
        packets: Some(0),
        bytes: Some(0),
        verdict,
        matches,
        comment: None,
        text: text.into(),
    };
    Action::RuleInsert(RuleRef { chain: nft_chain_ref(hook), rule, unique: true, gone_before: 0 })
}

/// TCP to the server's port 80.
fn to_web() -> Vec<Match> {
    vec![Match::L4Proto(6), Match::DestinationPorts(80, 80)]
}

/// A command in a namespace, and its way back.
const fn tool(at: Place, argv: &'static [&'static str], undo: &'static [&'static str]) -> Change {
    Change::Tool { at, argv, undo }
}

/// Every address of IPv4, as iptables writes it.
const ANYWHERE: &str = "0.0.0.0/0";

/// An iptables rule that forwards port 80 of an address.
const fn dnat(
    verb: &'static str,
    chain: &'static str,
    address: &'static str,
    to: &'static str,
) -> [&'static str; 15] {
    [
        "iptables-nft",
        "-t",
        "nat",
        verb,
        chain,
        "-d",
        address,
        "-p",
        "tcp",
        "--dport",
        "80",
        "-j",
        "DNAT",
        "--to-destination",
        to,
    ]
}

/// A chain and one rule in it.
fn filter(at: Place, hook: Hook, matches: Vec<Match>, verdict: RuleVerdict, text: &str) -> Vec<Change> {
    vec![Change::Act(at, nft_chain(hook, None)), Change::Act(at, nft_rule(hook, matches, verdict, text))]
}

/// A route of the main table.
fn route(kind: &str, destination: Ipv4Addr, prefix: u8, gateway: Option<Ipv4Addr>) -> RouteSpec {
    let next_hops =
        gateway.map(|ip| NextHop { gateway: Some(IpAddr::V4(ip)), link: None, weight: 1, flags: vec![] });
    RouteSpec {
        route: Route {
            destination: IpAddr::V4(destination),
            prefix,
            kind: kind.into(),
            table: 254,
            metric: 0,
            next_hops: next_hops.into_iter().collect(),
            source: None,
            mtu: None,
            protocol: 4,
            scope: 0,
        },
        dev: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_name_their_cause() {
        let faults = list();
        for (i, fault) in faults.iter().enumerate() {
            assert!(faults.iter().skip(i + 1).all(|other| other.id != fault.id), "{} twice", fault.id);
            let cause = fault.id.split('/').next();
            match fault.causes.first() {
                Some(first) => assert_eq!(cause, Some(*first)),
                None => assert_eq!(cause, Some("healthy"), "{}", fault.id),
            }
        }
    }
}
