//! Packets that rules hand to an NFQUEUE, and that the kernel dropped on their way into it: nobody reads the queue, or
//! its reader is too slow. The kernel's function is the same for both.

use super::judge;
use crate::culprit::{Culprit, Scope, Share, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::evidence::verdicts::At;
use crate::evidence::walk::{End, RuleAt};
use crate::fixes::{manual, owned};
use crate::loss::Loss;
use std::collections::BTreeSet;
use whydrop_facts::place::TO_QUEUE;
use whydrop_model::netfilter::RuleVerdict;
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::NfQueue;
use whydrop_model::{Cause, Text, text};

/// Longer rules are cut in what people read.
const MAX_RULE_TEXT: usize = 300;

const HANDS: Text = text!("{rule} hands packets to queue {number}", "{rule} 把包送往队列 {number}");

/// The rules that hand packets to this queue.
fn rules<'a>(space: Space<'a>, number: u16) -> impl Iterator<Item = RuleAt<'a>> {
    let chains = space.after.chains();
    let rules = chains.flat_map(|chain| chain.rules.iter().map(move |rule| RuleAt { chain, rule }));
    rules.filter(move |at| at.rule.verdict == RuleVerdict::Queue(number))
}

/// The queues to which rules hand packets, without those that packets pass if nobody reads them
/// (`--queue-bypass`, `queue flags bypass`).
pub fn unbypassed(space: Space<'_>) -> BTreeSet<u16> {
    let rules = space.after.chains().flat_map(|chain| &chain.rules);
    rules
        .filter_map(|rule| match rule.verdict {
            RuleVerdict::Queue(number) if !rule.text.contains("bypass") => Some(number),
            _ => None,
        })
        .collect()
}

/// The open queue of this number.
pub fn open(space: Space<'_>, number: u16) -> Option<&NfQueue> {
    space.after.nf_queues.iter().find(|queue| queue.number == number)
}

/// True if something that was lost, or that somebody misses, was handed to this queue.
pub fn is_met(space: Space<'_>, number: u16) -> bool {
    let flows =
        || space.case.verdicts.is_some_and(|verdicts| verdicts.here(space).any(|at| goes(at, number)));
    space.losses().any(|loss| takes(space, number, loss) != Fit::No) || flows()
}

/// A queue that takes packets or may have taken them.
pub fn culprit<'a>(
    space: Space<'a>,
    cause: &'static Cause,
    number: u16,
    harm: Fit,
    tell: impl Fn(&Share<'_, 'a>) -> Story + 'a,
) -> Culprit<'a> {
    let hook = rules(space, number).find_map(|at| at.chain.hook);
    let stage = hook.map_or_else(|| "netfilter".to_owned(), |hook| format!("netfilter.{}", hook.word()));
    Culprit::new(space, cause, &stage, Scope::Rule, format!("NFQUEUE {number}"))
        .takes(move |loss| takes(space, number, loss))
        .harms(move |flow| {
            let endings = space.case.verdicts.map(|verdicts| verdicts.of_flow(space, flow.id)).unwrap_or(&[]);
            let mine = endings.iter().filter(|at| flow.suffers() && goes(at, number));
            mine.map(|(_, ending)| ending.fit.min(harm)).max().unwrap_or(Fit::No)
        })
        .tell(tell)
}

fn goes((_, ending): &At<'_>, number: u16) -> bool {
    ending.end == End::Queue(number)
}

fn takes(space: Space<'_>, number: u16, loss: &Loss<'_>) -> Fit {
    let here = loss.function().is_some_and(|function| TO_QUEUE.contains(&function));
    if !loss.is_in(space) || !here {
        return Fit::No;
    }
    let endings = space.case.verdicts.map(|verdicts| verdicts.of_loss(loss)).unwrap_or(&[]);
    let queued = || endings.iter().filter(|(_, ending)| matches!(ending.end, End::Queue(_)));
    match queued().find(|at| goes(at, number)) {
        Some((_, ending)) => ending.fit,
        None if queued().next().is_none() => Fit::Maybe,
        None => Fit::No,
    }
}

/// Shows the rule in a story, and says what to do; what a program wrote is changed there.
pub fn shown(space: Space<'_>, number: u16, story: Story, advice: Text) -> Story {
    let Some(at) = rules(space, number).next() else { return story.fix(manual(advice)) };
    let list = judge::list_argv(at.chain);
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let text = sanitize(&at.rule.text, MAX_RULE_TEXT);
    let story = story
        .evidence(
            HANDS.fill(&[("rule", &judge::subject((at.chain, at.rule))), ("number", &number)]),
            "rules",
            &list,
        )
        .exhibit(text)
        .handle(at.rule.handle);
    match owned::rule_owner(at.chain, at.rule) {
        Some(owner) => story.fix(manual(advice)).fix(owned::there(owner)),
        None => story.fix(manual(advice)),
    }
}
