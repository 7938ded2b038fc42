//! How a walk ends.

use super::super::packet::{Fit, Packet};
use std::fmt;
use whydrop_model::netfilter::{Chain, Match, Nat, Rule};

/// What became of a packet.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// It passed.
    Accept,
    /// It passed with another address or port.
    Translated(Nat),
    /// Silently dropped.
    Drop,
    /// Dropped with an answer.
    Reject,
    /// Given to user space under this number.
    Queue(u16),
    /// Cannot be told, and why.
    Unknown(String),
}

impl End {
    /// True if the packet goes no further, as far as the kernel is concerned.
    pub const fn is_loss(&self) -> bool {
        matches!(self, Self::Drop | Self::Reject)
    }
}

/// A rule with its chain.
#[derive(Clone, Copy, Debug)]
pub struct RuleAt<'a> {
    /// Its chain.
    pub chain: &'a Chain,
    /// The rule.
    pub rule: &'a Rule,
}

impl PartialEq for RuleAt<'_> {
    /// The same rule, not an equal one.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.rule, other.rule)
    }
}

impl fmt::Display for RuleAt<'_> {
    /// `filter INPUT 3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.chain.title(), self.rule.position)
    }
}

/// A condition on which an ending hangs: one that could not be decided, or that is measured over many packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition<'a> {
    /// The rule that asks: the ending's own, or a jump that led to it.
    pub at: RuleAt<'a>,
    /// What it asks.
    pub asks: &'a Match,
    /// How the packet fits.
    pub fit: Fit,
}

/// One way in which a packet may end at a hook, or pass one of its base chains.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending<'a> {
    /// What becomes of it.
    pub end: End,
    /// How sure that is: `Yes` if nothing else can happen to the packet here.
    pub fit: Fit,
    /// The base chain; none if the packet passed all of them, or rule sets could not be read.
    pub base: Option<&'a Chain>,
    /// The rule; none for a policy, and for a packet that passed all base chains.
    pub rule: Option<RuleAt<'a>>,
    /// The jumps that led to the rule, the outermost first.
    pub via: Vec<RuleAt<'a>>,
    /// Conditions of the jumps and of the rule that were not decided or are measured.
    pub because: Vec<Condition<'a>>,
}

impl<'a> Ending<'a> {
    /// True if a policy decided.
    pub fn is_policy(&self) -> bool {
        self.base.is_some() && self.rule.is_none()
    }

    /// The rule and the jumps that led to it, the innermost first.
    pub fn rules(&self) -> impl Iterator<Item = RuleAt<'a>> {
        self.rule.into_iter().chain(self.via.iter().rev().copied())
    }

    /// The measured condition nearest to the end: a limit, a quota, a number of connections.
    pub fn measured(&self) -> Option<Condition<'a>> {
        self.rules().find_map(|at| {
            self.because.iter().find(|condition| condition.at == at && condition.asks.is_measured()).copied()
        })
    }
}

/// A walk through the base chains of a hook.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk<'a> {
    /// How the packet passed each base chain, in their order: the rule that accepted it or translated it, or the policy.
    pub steps: Vec<Ending<'a>>,
    /// Everything that may become of it. The last one is `Accept` without a chain, if it may pass all of them.
    pub endings: Vec<Ending<'a>>,
    /// The packet behind the hook, translated and marked, in each shape that it may have, and how surely it is that.
    pub packets: Vec<(Fit, Packet)>,
}

impl<'a> Walk<'a> {
    /// Everything that may become of the packet.
    pub fn endings(&self) -> impl Iterator<Item = &Ending<'a>> {
        self.endings.iter()
    }

    /// Endings at which the packet is lost, the sure one first.
    pub fn losses(&self) -> impl Iterator<Item = &Ending<'a>> {
        let of = |fit| self.endings.iter().filter(move |e| e.end.is_loss() && e.fit == fit);
        of(Fit::Yes).chain(of(Fit::Maybe))
    }

    /// How surely the packet passes.
    pub fn passes(&self) -> Fit {
        let passes = self.endings.iter().filter(|ending| ending.end == End::Accept);
        passes.map(|ending| ending.fit).max().unwrap_or(Fit::No)
    }
}
