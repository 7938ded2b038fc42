//! Why no rule let a packet pass: the rules that could have, each with the condition that the packet does not fit.

use super::super::packet::{Fit, Packet};
use super::Rules;
use super::chain::Walker;
use super::ending::RuleAt;
use whydrop_model::netfilter::{Chain, Match, RuleVerdict};

/// A rule that a packet met and did not fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tried<'a> {
    /// The rule.
    pub at: RuleAt<'a>,
    /// The first condition that the packet does not fit.
    pub missed: &'a Match,
    /// Conditions that it does not fit, of all that the rule has: one is a near miss.
    pub misses: usize,
}

pub(super) fn tried<'a>(rules: &Rules<'a>, chain: &'a Chain, packet: &Packet) -> Vec<Tried<'a>> {
    let walker = Walker::new(rules, chain.hook, packet);
    let view = walker.view();
    let lets_pass = |verdict: &RuleVerdict| {
        matches!(
            verdict,
            RuleVerdict::Accept | RuleVerdict::Jump(_) | RuleVerdict::Goto(_) | RuleVerdict::Map(_)
        )
    };
    let could = chain.rules.iter().filter(|rule| lets_pass(&rule.verdict));
    could
        .filter_map(|rule| {
            let mut missed = rule.matches.iter().filter(|asks| view.fits(asks) == Fit::No);
            let first = missed.next()?;
            Some(Tried { at: RuleAt { chain, rule }, missed: first, misses: 1 + missed.count() })
        })
        .collect()
}
