//! Rule sets evaluated for a packet: which rule takes it, and by which jumps it came there.
//!
//! All back ends are one walk, as in the kernel: the base chains of a hook by priority, their jumps and returns,
//! policies, translations. The answer is three-valued. What whydrop does not decode, or what depends on earlier
//! packets (a rate, a quota, a share), is `Maybe` with its reason, and everything behind it is reached `Maybe`.

mod chain;
mod ending;
mod fit;
mod hook;
mod number;
mod translate;
mod tried;

#[cfg(test)]
mod tests;

pub use ending::{Condition, End, Ending, RuleAt, Walk};
pub use tried::Tried;

pub use chain::is_unread_map;

use super::packet::{Fit, Packet};
use chain::Walker;
use fit::View;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use whydrop_model::Snapshot;
use whydrop_model::netfilter::{Chain, Change, Family, Field, Hook, Match, Rule, Tool};

/// All rule sets of a namespace, ready to be asked.
#[derive(Clone, Debug)]
pub struct Rules<'a> {
    snapshot: &'a Snapshot,
    base: Vec<&'a Chain>,
    called: BTreeMap<Key<'a>, &'a Chain>,
    /// Rules with a twin of the same text that does not stand right beside them, by chain and position.
    scattered: OnceCell<BTreeSet<(*const Chain, u32)>>,
}

type Key<'a> = (Tool, Family, &'a str, &'a str);

fn key(chain: &Chain) -> Key<'_> {
    (chain.tool, chain.family, &chain.table, &chain.name)
}

impl<'a> Rules<'a> {
    /// The rule sets of a snapshot.
    pub fn of(snapshot: &'a Snapshot) -> Self {
        let called = snapshot.chains().map(|chain| (key(chain), chain)).collect();
        Self { snapshot, base: hook::base_chains(snapshot), called, scattered: OnceCell::new() }
    }

    /// True if all rules of this chain that have the text of this one stand right beside each other.
    pub fn stands_with_twins(&self, chain: &Chain, rule: &Rule) -> bool {
        let scattered =
            self.scattered.get_or_init(|| self.called.values().flat_map(|c| scattered(c)).collect());
        !scattered.contains(&(std::ptr::from_ref(chain), rule.position))
    }

    /// What happens to a packet at a hook: of its device for ingress and egress, of ARP for an ARP packet, else of IP.
    pub fn at_hook(&self, hook: Hook, packet: &Packet) -> Walk<'a> {
        hook::walk(self, hook::Level::of(hook, packet), hook, packet)
    }

    /// The mark that a packet has behind a hook; none if that cannot be told.
    pub fn mark(&self, hook: Hook, packet: &Packet) -> Option<u32> {
        let walk = self.at_hook(hook, packet);
        let marks = walk.packets.iter().map(|(_, p)| p.fields.get(&Field::Mark).copied().unwrap_or(0));
        let marks: BTreeSet<u32> = marks.collect();
        marks.first().copied().filter(|_| marks.len() == 1)
    }

    /// What happens at a hook of the bridge family to a packet that is bridged.
    pub fn at_bridge(&self, hook: Hook, packet: &Packet) -> Walk<'a> {
        hook::walk(self, hook::Level::Bridge, hook, packet)
    }

    /// Does the packet fit all conditions of a rule, wherever the rule stands?
    pub fn fits(&self, rule: &Rule, packet: &Packet) -> Fit {
        rule.matches.iter().map(|asks| self.fits_condition(asks, packet)).min().unwrap_or(Fit::Yes)
    }

    /// Does it fit one condition, wherever the rule stands?
    pub fn fits_condition(&self, asks: &Match, packet: &Packet) -> Fit {
        View { packet, hook: None, tracked: true, snapshot: self.snapshot }.fits(asks)
    }

    /// Does the packet fit one condition, wherever it is asked?
    pub fn meets(&self, condition: &Match, packet: &Packet) -> Fit {
        View { packet, hook: None, tracked: true, snapshot: self.snapshot }.fits(condition)
    }

    /// Does a packet that meets this chain get through all its rules (to the policy of a base chain)?
    pub fn reaches_end(&self, chain: &'a Chain, packet: &Packet) -> Fit {
        Walker::new(self, chain.hook, packet).chain(chain, &chain.rules, Fit::Yes)
    }

    /// Does a packet that meets this chain get as far as this rule of it, and does the rule drop or refuse it?
    pub fn ends_at_rule(&self, chain: &'a Chain, rule: &'a Rule, packet: &Packet) -> Fit {
        let mut walker = Walker::new(self, chain.hook, packet);
        let dropped = walker.dropped_by(chain, rule);
        // Most rules of a long chain are about other packets: no need to go there.
        if dropped == Fit::No {
            return Fit::No;
        }
        let before = chain.rules.iter().take_while(|r| r.position < rule.position).count();
        walker.chain(chain, chain.rules.split_at(before).0, Fit::Yes).min(dropped)
    }

    /// The rules of a chain that a packet meets, each with the first condition that it does not fit: why none of them
    /// let it pass.
    pub fn tried(&self, chain: &'a Chain, packet: &Packet) -> Vec<Tried<'a>> {
        tried::tried(self, chain, packet)
    }

    /// The first rule that takes this packet, or its answer, out of connection tracking.
    pub fn untracking(&self, packet: &Packet) -> Option<RuleAt<'a>> {
        let untracks = |rule: &Rule| rule.matches.contains(&Match::Change(Change::Notrack));
        let either = [packet.clone(), packet.answer()];
        let chains = self.snapshot.chains();
        let mut rules = chains.flat_map(|chain| chain.rules.iter().map(move |rule| RuleAt { chain, rule }));
        rules
            .find(|at| untracks(at.rule) && either.iter().any(|packet| self.fits(at.rule, packet) != Fit::No))
    }

    fn chain(&self, caller: &Chain, name: &str) -> Option<&'a Chain> {
        self.called.get(&(caller.tool, caller.family, caller.table.as_str(), name)).copied()
    }
}

fn scattered(chain: &Chain) -> impl Iterator<Item = (*const Chain, u32)> {
    let mut by_text: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for rule in &chain.rules {
        by_text.entry(&rule.text).or_default().push(rule.position);
    }
    let apart = |positions: &Vec<u32>| {
        positions.iter().zip(positions.iter().skip(1)).any(|(one, next)| next.abs_diff(*one) != 1)
    };
    let apart = by_text.into_values().filter(apart).flatten();
    apart.map(move |position| (std::ptr::from_ref(chain), position))
}
