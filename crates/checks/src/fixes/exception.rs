//! The smallest exception: accept exactly the traffic in trouble, in front of what refuses it.
//!
//! It is no more than that where the traffic passes, beyond the refusal that nobody wrote for it, no other refusal on the
//! rest of its way through the chains, see [`whydrop_model::action::Exception`].

use crate::evidence::case::Space;
use crate::evidence::packet::{Fit, Packet};
use crate::evidence::walk::{Rules, is_unread_map};
use std::net::IpAddr;
use whydrop_model::action::{Action, ChainRef, Exception};
use whydrop_model::netfilter::{Chain, Family, Match, Rule, RuleVerdict, Tool};

/// More kinds of traffic than this are no exception.
const MOST: usize = 4;
/// Jumps deeper than this are taken for a loop; the kernel's own limit is 16 for nftables.
const MAX_JUMPS: usize = 16;

/// A packet that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sufferer {
    /// The packet as it met the chain.
    pub packet: Packet,
    /// True if it is in trouble for sure: it belongs to a probe that suffers, or one of its other ends is observed.
    /// Packets of strangers are dropped, and perhaps rightly.
    pub in_trouble: bool,
}

impl Sufferer {
    /// A packet that was seen to die here: it is in trouble if a namespace in view sent it.
    pub fn seen(space: Space<'_>, packet: Packet) -> Self {
        let sent = |ip: IpAddr| space.case.owners(ip).next().is_some();
        Self { in_trouble: packet.source.is_some_and(sent), packet }
    }
}

/// What refuses.
#[derive(Clone, Copy)]
pub enum Refusal<'a> {
    /// A rule of the chain; true if it is one that takes what exceeds a limit.
    Rule(&'a Rule, bool),
    /// The chain's policy.
    Policy,
}

impl Refusal<'_> {
    /// True if it refuses what connection tracking can make nothing of.
    fn is_of_invalid(self) -> bool {
        let Self::Rule(rule, _) = self else { return false };
        rule.matches.iter().any(Match::is_only_invalid)
    }
}

/// Exceptions for what was refused; none if these are no few kinds, or not known well enough.
pub fn exceptions(
    space: Space<'_>,
    chain: &Chain,
    refusal: Refusal<'_>,
    sufferers: &[Sufferer],
) -> Vec<Action> {
    let mut out: Vec<Exception> = vec![];
    for sufferer in sufferers.iter().filter(|_| !matches!(chain.family, Family::Arp | Family::Bridge)) {
        let Some(rule) = accept(chain, &sufferer.packet, refusal.is_of_invalid()) else { return vec![] };
        let past_no_decision = sufferer.in_trouble && !is_decided(space, chain, refusal, &sufferer.packet);
        match out.iter_mut().find(|known| known.rule.text == rule.text) {
            Some(known) => known.past_no_decision |= past_no_decision,
            None => {
                let before = match refusal {
                    Refusal::Rule(rule, _) => Some(rule.clone()),
                    Refusal::Policy => None,
                };
                out.push(Exception { chain: ChainRef::from(chain), before, rule, past_no_decision });
            }
        }
    }
    if out.len() > MOST {
        return vec![];
    }
    out.into_iter().map(Action::Exception).collect()
}

/// The rule that accepts this traffic only; none if a part of it is not known. An answer is known by its connection,
/// too: everybody can send from a port. What is refused because it has no connection is accepted as that.
fn accept(chain: &Chain, packet: &Packet, is_invalid: bool) -> Option<Rule> {
    let (source, destination) = (packet.source?, packet.destination?);
    let host = if source.is_ipv6() { 128 } else { 32 };
    let (word, has_ports) = match packet.protocol {
        1 => ("icmp", false),
        6 => ("tcp", true),
        17 => ("udp", true),
        58 => ("ipv6-icmp", false),
        _ => return None,
    };
    let mut matches = vec![
        Match::Source(source, host),
        Match::Destination(destination, host),
        Match::L4Proto(packet.protocol),
    ];
    let is_answer = packet.reply || has_ports && packet.destination_port.is_none();
    match (has_ports, is_answer) {
        (true, true) => matches.push(Match::SourcePorts(packet.source_port?, packet.source_port?)),
        (true, false) => {
            matches.push(Match::DestinationPorts(packet.destination_port?, packet.destination_port?))
        }
        (false, _) => {}
    }
    let states: &[&str] = match (is_invalid, is_answer) {
        (true, _) => &["INVALID"],
        (false, true) => &["RELATED", "ESTABLISHED"],
        (false, false) => &[],
    };
    if !states.is_empty() {
        matches.push(Match::CtState(states.iter().map(|state| (*state).to_owned()).collect()));
    }
    let text = match chain.tool {
        Tool::Nft => {
            let family = if source.is_ipv6() { "ip6" } else { "ip" };
            let ports = match (has_ports, is_answer) {
                (true, true) => format!("{word} sport {}", packet.source_port?),
                (true, false) => format!("{word} dport {}", packet.destination_port?),
                (false, _) => format!("meta l4proto {word}"),
            };
            let state = match (is_invalid, is_answer) {
                (true, _) => " ct state invalid",
                (false, true) => " ct state established,related",
                (false, false) => "",
            };
            format!("{family} saddr {source} {family} daddr {destination} {ports}{state} counter accept")
        }
        _ => {
            let ports = match (has_ports, is_answer) {
                (true, true) => format!(" -m {word} --sport {}", packet.source_port?),
                (true, false) => format!(" -m {word} --dport {}", packet.destination_port?),
                (false, _) => String::new(),
            };
            let state = match states {
                [] => String::new(),
                states => format!(" -m conntrack --ctstate {}", states.join(",")),
            };
            format!("-s {source}/{host} -d {destination}/{host} -p {word}{ports}{state} -j ACCEPT")
        }
    };
    let position = u32::try_from(chain.rules.len()).ok()?.checked_add(1)?;
    let verdict = RuleVerdict::Accept;
    Some(Rule { position, handle: None, packets: None, bytes: None, verdict, matches, comment: None, text })
}

/// True if an exception would let the packet past what somebody decided: a refusal written for such traffic, or another
/// refusal further on.
fn is_decided(space: Space<'_>, chain: &Chain, refusal: Refusal<'_>, packet: &Packet) -> bool {
    let chains: Vec<&Chain> = space.after.chains().collect();
    let walk = Walk { chains: &chains, rules: Rules::of(space.after), packet };
    match refusal {
        // In front of the policy everything else is behind.
        Refusal::Policy => false,
        Refusal::Rule(rule, is_limit) => {
            let throws_dice = rule.matches.iter().any(|m| matches!(m, Match::Random(_) | Match::Nth(_)));
            let behind =
                chain.rules.iter().position(|r| r.position > rule.position).unwrap_or(chain.rules.len());
            !(throws_dice || is_limit)
                || names_whom(rule)
                || walk.is_refused_after(chain, chain.rules.get(behind..).unwrap_or(&[]), 0)
        }
    }
}

/// True if a rule says whose packets it means, or may say so.
fn names_whom(rule: &Rule) -> bool {
    fn names(condition: &Match) -> bool {
        match condition {
            Match::Source(_, prefix) => *prefix > 0,
            Match::AnyOf(members) => members.iter().any(names),
            Match::Other(_) | Match::SourceRange(..) | Match::Recent { .. } | Match::Named { .. } => true,
            // All but somebody means everybody else.
            Match::Not(_) => false,
            _ => false,
        }
    }
    rule.matches.iter().any(names)
}

/// What a packet meets on its way through the rest of the chains.
struct Walk<'a> {
    chains: &'a [&'a Chain],
    rules: Rules<'a>,
    packet: &'a Packet,
}

/// How it leaves a list of rules.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// Some rule may refuse it.
    Refused,
    /// A rule accepts it for sure.
    Accepted,
    /// By the end.
    End,
}

impl Walk<'_> {
    /// May these rules of a chain, or what follows the chain, refuse the packet?
    fn is_refused_after(&self, chain: &Chain, rules: &[Rule], depth: usize) -> bool {
        match self.through(chain, rules, depth) {
            Leaves::Refused => true,
            Leaves::Accepted => false,
            Leaves::End if chain.hook.is_some() => chain.policy == Some(RuleVerdict::Drop),
            Leaves::End => {
                depth > MAX_JUMPS
                    || self.callers(chain).any(|(caller, at)| {
                        let (jump, rest) = (caller.rules.get(at), caller.rules.get(at + 1..).unwrap_or(&[]));
                        // Who was sent here by name was meant.
                        jump.is_some_and(names_whom) || self.is_refused_after(caller, rest, depth + 1)
                    })
            }
        }
    }

    fn callers<'s>(&'s self, chain: &'s Chain) -> impl Iterator<Item = (&'s Chain, usize)> {
        let calls = |rule: &Rule| {
            let named = |v: &RuleVerdict| matches!(v, RuleVerdict::Jump(n) | RuleVerdict::Goto(n) if *n == chain.name);
            match &rule.verdict {
                RuleVerdict::Map(entries) => entries.iter().any(|(_, verdict)| named(verdict)),
                verdict => named(verdict),
            }
        };
        let near = self.chains.iter().filter(|c| is_in_table(c, chain));
        near.flat_map(move |c| {
            let at = c.rules.iter().enumerate().filter(move |(_, rule)| calls(rule)).map(|(at, _)| at);
            at.map(move |at| (*c, at)).collect::<Vec<_>>()
        })
    }

    fn through(&self, chain: &Chain, rules: &[Rule], depth: usize) -> Leaves {
        if depth > MAX_JUMPS {
            return Leaves::Refused;
        }
        for rule in rules {
            for (fit, verdict) in self.outcomes(rule) {
                let leaves = match verdict {
                    RuleVerdict::Continue => Leaves::End,
                    RuleVerdict::Accept => Leaves::Accepted,
                    RuleVerdict::Return if fit == Fit::Yes => return Leaves::End,
                    RuleVerdict::Return => Leaves::End,
                    RuleVerdict::Jump(name) | RuleVerdict::Goto(name) => {
                        let called = self.chains.iter().find(|c| is_in_table(c, chain) && c.name == *name);
                        called.map_or(Leaves::Refused, |c| self.through(c, &c.rules, depth + 1))
                    }
                    verdict if is_unread_map(verdict) => Leaves::Refused,
                    // With other addresses it meets other rules.
                    RuleVerdict::Nat(_)
                    | RuleVerdict::Tproxy { .. }
                    | RuleVerdict::Drop
                    | RuleVerdict::Reject
                    | RuleVerdict::Queue(_)
                    | RuleVerdict::Map(_)
                    | RuleVerdict::Other(_) => Leaves::Refused,
                };
                match (fit, leaves) {
                    (_, Leaves::Refused) => return Leaves::Refused,
                    (Fit::Yes, Leaves::Accepted) => return Leaves::Accepted,
                    _ => {}
                }
            }
        }
        Leaves::End
    }

    /// What a rule may do to any packet of this traffic: later ones have other states than the first.
    fn outcomes<'r>(&self, rule: &'r Rule) -> Vec<(Fit, &'r RuleVerdict)> {
        let any_state = |m: &Match| match m {
            Match::CtState(_) => Fit::Maybe,
            m => self.rules.meets(m, self.packet),
        };
        let fit = rule.matches.iter().map(any_state).min().unwrap_or(Fit::Yes);
        let all: Vec<(Fit, &RuleVerdict)> = match &rule.verdict {
            RuleVerdict::Map(entries) => {
                entries.iter().map(|(key, verdict)| (fit.min(any_state(key)), verdict)).collect()
            }
            verdict => vec![(fit, verdict)],
        };
        all.into_iter().filter(|(fit, _)| *fit != Fit::No).collect()
    }
}

fn is_in_table(a: &Chain, b: &Chain) -> bool {
    (a.tool, a.family) == (b.tool, b.family) && a.table == b.table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{SERVER, World, chain, rule};
    use whydrop_model::netfilter::Hook;

    #[test]
    fn an_exception_to_a_rule_against_the_invalid_accepts_what_is_invalid() {
        let state = vec![Match::CtState(vec!["INVALID".into()])];
        let drop = rule("-m conntrack --ctstate INVALID -j DROP", RuleVerdict::Drop, Some(0), state);
        let chain = chain("INPUT", Hook::Input, RuleVerdict::Accept, vec![drop]);
        let drop = &chain.rules[0];
        let packet = Packet {
            protocol: 6,
            source: "10.0.0.1".parse().ok(),
            destination: "10.0.0.2".parse().ok(),
            source_port: Some(80),
            reply: true,
            ..Packet::default()
        };
        let suffers = [Sufferer { packet, in_trouble: true }];
        let actions = World::pair().with(|case| {
            let space = case.spaces().nth(SERVER).unwrap();
            exceptions(space, &chain, Refusal::Rule(drop, false), &suffers)
        });
        let argv: Vec<String> = actions.iter().map(|action| action.argv().join(" ")).collect();
        assert_eq!(
            argv,
            ["iptables-nft -I INPUT 1 -s 10.0.0.1/32 -d 10.0.0.2/32 -p tcp -m tcp --sport 80 -m conntrack \
              --ctstate INVALID -j ACCEPT"]
        );
    }
}
