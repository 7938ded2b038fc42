//! Does a packet fit a condition?

use super::super::packet::{Fit, Packet, State};
use super::number;
use crate::evidence::route::contains;
use std::net::IpAddr;
use whydrop_model::Snapshot;
use whydrop_model::netfilter::{Field, Hook, Match};

/// Below this no ephemeral port lies.
pub(super) const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// Protocols with ports at the start of their header: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// A packet where it meets a rule.
pub(super) struct View<'p, 's> {
    /// The packet.
    pub packet: &'p Packet,
    /// The hook; none if the rule can be met at several.
    pub hook: Option<Hook>,
    /// False in front of connection tracking.
    pub tracked: bool,
    /// The namespace: addresses and interfaces.
    pub snapshot: &'s Snapshot,
}

/// An interface that a packet may have.
enum Name<'p> {
    Unknown,
    Known(&'p str),
}

impl View<'_, '_> {
    /// How well the packet fits; a change always does.
    pub fn fits(&self, condition: &Match) -> Fit {
        match condition {
            Match::L4Proto(_) if self.packet.protocol == 0 => Fit::Maybe,
            Match::L4Proto(protocol) => Fit::sure(*protocol == self.packet.protocol),
            Match::Source(net, prefix) => network(self.packet.source, *net, *prefix),
            Match::Destination(net, prefix) => network(self.packet.destination, *net, *prefix),
            Match::SourceRange(first, last) => between(self.packet.source, *first, *last),
            Match::DestinationRange(first, last) => between(self.packet.destination, *first, *last),
            Match::SourcePorts(low, high) => self.ports(self.packet.source_port, *low, *high),
            Match::DestinationPorts(low, high) => self.ports(self.packet.destination_port, *low, *high),
            Match::InInterface(pattern) => interface(&self.incoming(), pattern),
            Match::OutInterface(pattern) => interface(&self.outgoing(), pattern),
            Match::Number { field, mask, low, high } => {
                number::fits(self, *field, |n| (*low..=*high).contains(&(n & mask)))
            }
            Match::CtState(states) => self.state(states),
            Match::AnyOf(members) => members.iter().map(|m| self.fits(m)).max().unwrap_or(Fit::No),
            Match::AllOf(members) => members.iter().map(|m| self.fits(m)).min().unwrap_or(Fit::Yes),
            Match::Not(condition) => self.fits(condition).inverted(),
            Match::Change(_) => Fit::Yes,
            Match::Random(share) if *share <= 0.0 => Fit::No,
            Match::Random(share) if *share >= 1.0 => Fit::Yes,
            Match::Nth(1) => Fit::Yes,
            Match::Random(_)
            | Match::Nth(_)
            | Match::Limit { .. }
            | Match::Connlimit { .. }
            | Match::Quota { .. }
            | Match::Named { .. }
            | Match::Recent { .. }
            | Match::Other(_) => Fit::Maybe,
        }
    }

    /// State in connection tracking where the rule stands.
    pub fn tracking(&self) -> State {
        match self.packet.tracked() {
            // Nothing is tracked yet: the kernel calls that invalid, too.
            state if !self.tracked && state != State::Untracked => State::Invalid,
            state => state,
        }
    }

    /// Input interface: what is made here has none, and the kernel compares with an empty name then.
    fn incoming(&self) -> Name<'_> {
        match (self.hook, &self.packet.in_interface) {
            (Some(Hook::Output), _) => Name::Known(""),
            (_, Some(name)) => Name::Known(name),
            (_, None) => Name::Unknown,
        }
    }

    /// Output interface: in front of the routing decision there is none.
    fn outgoing(&self) -> Name<'_> {
        match (self.hook, &self.packet.out_interface) {
            (Some(Hook::Prerouting | Hook::Input | Hook::Ingress), _) => Name::Known(""),
            (_, Some(name)) => Name::Known(name),
            (_, None) => Name::Unknown,
        }
    }

    /// Index of an interface of the packet: 0 if it has none, none if that is not known.
    pub fn index(&self, field: Field) -> Option<u32> {
        let name = if field == Field::InIndex { self.incoming() } else { self.outgoing() };
        match name {
            Name::Unknown => None,
            Name::Known("") => Some(0),
            Name::Known(name) => self.snapshot.link_named(name).map(|link| link.index),
        }
    }

    fn ports(&self, port: Option<u16>, low: u16, high: u16) -> Fit {
        // Only the first fragment has ports.
        if self.packet.fields.get(&Field::FragmentOffset).is_some_and(|offset| *offset > 0) {
            return Fit::No;
        }
        match port {
            _ if matches!(self.packet.protocol, 1 | 58) => Fit::No,
            _ if !WITH_PORTS.contains(&self.packet.protocol) => Fit::Maybe,
            Some(port) => Fit::sure((low..=high).contains(&port)),
            None if high < FIRST_UNPRIVILEGED_PORT => Fit::No,
            None if (low, high) == (0, u16::MAX) => Fit::Yes,
            None => Fit::Maybe,
        }
    }

    fn state(&self, states: &[String]) -> Fit {
        let has = |state: &str| states.iter().any(|s| s.eq_ignore_ascii_case(state));
        let word = match self.tracking() {
            State::New => "NEW",
            State::Established => "ESTABLISHED",
            State::Related => "RELATED",
            State::Invalid => "INVALID",
            State::Untracked => "UNTRACKED",
            State::Unclear => return Fit::Maybe,
        };
        if has(word) {
            return Fit::Yes;
        }
        // States of iptables that are bits of the connection's status.
        let translated = [("SNAT", 1 << 4), ("DNAT", 1 << 5)];
        let bits = translated.iter().filter(|(state, _)| has(state)).map(|(_, bit)| bit).sum::<u32>();
        let translated = match bits {
            0 => Fit::No,
            bits => number::fits(self, Field::CtStatus, |n| n & bits != 0),
        };
        // Tracking may be off for this packet, or confused; what opens a flow is not invalid.
        let unsure = self.packet.state.is_none()
            && self.tracked
            && (has("UNTRACKED") || has("INVALID") && self.packet.reply);
        if unsure { translated.max(Fit::Maybe) } else { translated }
    }
}

fn network(ip: Option<IpAddr>, net: IpAddr, prefix: u8) -> Fit {
    ip.map_or(Fit::Maybe, |ip| Fit::sure(contains(net, prefix, ip)))
}

fn between(ip: Option<IpAddr>, first: IpAddr, last: IpAddr) -> Fit {
    ip.map_or(Fit::Maybe, |ip| Fit::sure(ip.is_ipv6() == first.is_ipv6() && (first..=last).contains(&ip)))
}

fn interface(name: &Name<'_>, pattern: &str) -> Fit {
    match (name, pattern.strip_suffix(['+', '*'])) {
        (Name::Unknown, _) => Fit::Maybe,
        (Name::Known(name), Some(start)) => Fit::sure(name.starts_with(start)),
        (Name::Known(name), None) => Fit::sure(*name == pattern),
    }
}
