//! Does a packet fit a rule? Three-valued, since not every condition can be judged from outside.

use crate::case::Space;
use crate::route::contains;
use crate::way::Hop;
use std::net::IpAddr;
use whydrop_model::netfilter::{Chain, Match, Rule, RuleVerdict};

/// A chain of jumps deeper than this is taken for a loop (the kernel refuses loops; a recording may hold one).
const MAX_JUMPS: usize = 16;

/// Below this no ephemeral port lies.
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// IPPROTO_TCP.
const TCP: u8 = 6;

/// How iptables and nft write `--syn`: the first packet of a connection.
const SYN_ONLY: [&str; 2] = ["--tcp-flags FIN,SYN,RST,ACK SYN", "tcp flags syn / fin,syn,rst,ack"];

/// How sure a match is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// Certainly not.
    No,
    /// Cannot be told, or only some of the packets.
    Maybe,
    /// Certainly.
    Yes,
}

/// What is known of a packet; `None` is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// IP protocol number.
    pub protocol: u8,
    /// Source.
    pub source: Option<IpAddr>,
    /// Destination.
    pub destination: Option<IpAddr>,
    /// Source port; unknown means ephemeral.
    pub source_port: Option<u16>,
    /// Destination port; unknown means ephemeral.
    pub destination_port: Option<u16>,
    /// Input interface.
    pub in_interface: Option<String>,
    /// Output interface.
    pub out_interface: Option<String>,
    /// True for an answer: established to connection tracking.
    pub reply: bool,
}

impl Packet {
    /// The packet with the interfaces of a hop.
    pub fn at(&self, space: Space<'_>, hop: &Hop) -> Self {
        // A bridge is what netfilter sees of a packet that came through its port.
        let name = |index: Option<&u32>| index.map(|i| space.after.link_name(*i));
        Self {
            in_interface: name(hop.incoming.last()),
            out_interface: name(hop.outgoing.first()),
            ..self.clone()
        }
    }

    /// The packet that answers it; interfaces change places, too.
    pub fn answer(&self) -> Self {
        Self {
            protocol: self.protocol,
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            in_interface: self.out_interface.clone(),
            out_interface: self.in_interface.clone(),
            reply: !self.reply,
        }
    }

    /// Does it fit all conditions of a rule?
    pub fn fits(&self, rule: &Rule) -> Fit {
        rule.matches.iter().map(|m| self.fits_match(m)).min().unwrap_or(Fit::Yes)
    }

    /// What a rule may do to it: a verdict map has a verdict for each entry.
    fn outcomes<'r>(&self, rule: &'r Rule) -> Vec<(Fit, &'r RuleVerdict)> {
        let fit = self.fits(rule);
        match &rule.verdict {
            RuleVerdict::Map(entries) => {
                entries.iter().map(|(key, verdict)| (fit.min(self.fits_match(key)), verdict)).collect()
            }
            verdict => vec![(fit, verdict)],
        }
    }

    /// May the rule drop it?
    pub fn is_dropped_by(&self, rule: &Rule) -> Fit {
        let drops = |(fit, verdict)| match verdict {
            &RuleVerdict::Drop | &RuleVerdict::Reject => fit,
            verdict if is_unread_map(verdict) => Fit::Maybe.min(fit),
            _ => Fit::No,
        };
        self.outcomes(rule).into_iter().map(drops).max().unwrap_or(Fit::No)
    }

    fn fits_match(&self, condition: &Match) -> Fit {
        let sure = |yes: bool| if yes { Fit::Yes } else { Fit::No };
        let network = |ip: Option<IpAddr>, net: IpAddr, prefix: u8| {
            ip.map_or(Fit::Maybe, |ip| sure(contains(net, prefix, ip)))
        };
        let ports = |port: Option<u16>, low: u16, high: u16| match port {
            _ if !matches!(self.protocol, 6 | 17) => Fit::No,
            Some(port) => sure((low..=high).contains(&port)),
            None => {
                if high < FIRST_UNPRIVILEGED_PORT {
                    Fit::No
                } else {
                    Fit::Maybe
                }
            }
        };
        let interface = |name: &Option<String>, pattern: &str| match (name, pattern.strip_suffix(['+', '*']))
        {
            (None, _) => Fit::Maybe,
            (Some(name), Some(start)) => sure(name.starts_with(start)),
            (Some(name), None) => sure(name == pattern),
        };
        match condition {
            Match::L4Proto(protocol) => sure(*protocol == self.protocol),
            Match::Source(net, prefix) => network(self.source, *net, *prefix),
            Match::Destination(net, prefix) => network(self.destination, *net, *prefix),
            Match::SourcePorts(low, high) => ports(self.source_port, *low, *high),
            Match::DestinationPorts(low, high) => ports(self.destination_port, *low, *high),
            Match::InInterface(pattern) => interface(&self.in_interface, pattern),
            Match::OutInterface(pattern) => interface(&self.out_interface, pattern),
            Match::CtState(states) => self.fits_state(states),
            Match::AnyOf(members) => members.iter().map(|m| self.fits_match(m)).max().unwrap_or(Fit::No),
            Match::Other(text) if SYN_ONLY.iter().any(|syn| text.contains(syn)) => {
                sure(self.protocol == TCP && !self.reply)
            }
            Match::Not(condition) => match self.fits_match(condition) {
                Fit::No => Fit::Yes,
                Fit::Maybe => Fit::Maybe,
                Fit::Yes => Fit::No,
            },
            Match::Random(_)
            | Match::Nth(_)
            | Match::Limit { .. }
            | Match::Connlimit { .. }
            | Match::Quota { .. }
            | Match::Other(_) => Fit::Maybe,
        }
    }

    fn fits_state(&self, states: &[String]) -> Fit {
        let has = |state: &str| states.iter().any(|s| s.eq_ignore_ascii_case(state));
        match if self.reply { has("ESTABLISHED") } else { has("NEW") } {
            true => Fit::Yes,
            // Tracking may be off for this packet, or confused; what opens a flow is not invalid.
            false if has("UNTRACKED") || has("INVALID") && self.reply => Fit::Maybe,
            // The first packet of a flow is new; what follows it is established.
            false => Fit::No,
        }
    }
}

/// True for a verdict map whose entries are not known: which of them drop cannot be told.
pub fn is_unread_map(verdict: &RuleVerdict) -> bool {
    matches!(verdict, RuleVerdict::Other(name) if name == "vmap")
}

/// Can the packet get through all rules of a chain to its end (the policy of a base chain)?
pub fn reaches_end(chains: &[&Chain], chain: &Chain, packet: &Packet) -> Fit {
    walk(chains, chain, &chain.rules, packet, 0)
}

/// Can the packet get as far as this rule of its chain, and be dropped by it?
pub fn ends_at_rule(chains: &[&Chain], chain: &Chain, rule: &Rule, packet: &Packet) -> Fit {
    let dropped = packet.is_dropped_by(rule);
    // Most rules of a long chain are about other packets: no need to go there.
    if dropped == Fit::No {
        return Fit::No;
    }
    let before = chain.rules.iter().take_while(|r| r.position < rule.position).count();
    walk(chains, chain, chain.rules.split_at(before).0, packet, 0).min(dropped)
}

fn walk(chains: &[&Chain], chain: &Chain, rules: &[Rule], packet: &Packet, depth: usize) -> Fit {
    if depth > MAX_JUMPS {
        return Fit::Maybe;
    }
    let mut sure = Fit::Yes;
    let outcomes = rules.iter().flat_map(|rule| packet.outcomes(rule));
    for (fit, verdict) in outcomes.filter(|(fit, _)| *fit != Fit::No) {
        let passes = match verdict {
            RuleVerdict::Continue => Fit::Yes,
            RuleVerdict::Accept | RuleVerdict::Drop | RuleVerdict::Reject | RuleVerdict::Queue(_) => Fit::No,
            RuleVerdict::Other(_) | RuleVerdict::Map(_) => Fit::Maybe,
            // The end of a user chain is reached; the caller goes on after its jump.
            RuleVerdict::Return if fit == Fit::Yes => return sure,
            RuleVerdict::Return => Fit::Yes,
            RuleVerdict::Jump(name) | RuleVerdict::Goto(name) => {
                let called = chains.iter().find(|c| {
                    (c.tool, c.family) == (chain.tool, chain.family)
                        && c.table == chain.table
                        && c.name == *name
                });
                called.map_or(Fit::Maybe, |c| walk(chains, c, &c.rules, packet, depth + 1))
            }
        };
        match (fit, passes) {
            (Fit::Yes, Fit::No) => return Fit::No,
            (Fit::Yes, passes) => sure = sure.min(passes),
            (_, Fit::Yes) => {}
            _ => sure = Fit::Maybe,
        }
    }
    sure
}
