//! Runs the passes: evidence, rules, assign, tell.

use crate::assign::Assignment;
use crate::culprit::Culprit;
use crate::evidence::case::Case;
use crate::evidence::flow::Flow;
use crate::evidence::index::Index;
use crate::evidence::verdicts::Verdicts;
use crate::rule::Rule;
use crate::{loss, tell};
use whydrop_model::{Note, Observation, Report};

/// Judges an observation by these rules; their order decides nothing.
pub fn judge(observation: &Observation, rules: &[Rule]) -> Report {
    let index = Index::of(observation);
    let bare = Case::bare(observation, &index);
    let (flows, seen) = Flow::gather(bare);
    let again = loss::again::accounts(bare, &flows);
    let losses = loss::gather(Case { again: Some(&again), seen: Some(&seen), ..bare }, &flows);
    let verdicts = Verdicts::of(Case { flows: &flows, losses: &losses, ..bare }, &losses, &flows);
    let case = Case {
        flows: &flows,
        losses: &losses,
        again: Some(&again),
        seen: Some(&seen),
        verdicts: Some(&verdicts),
        ..bare
    };
    let (culprits, notes) = ask(case, rules);
    let assignment = Assignment::of(case, culprits);
    tell::report(case, &assignment, notes)
}

/// Asks every rule about every namespace.
pub fn ask<'a>(case: Case<'a>, rules: &[Rule]) -> (Vec<Culprit<'a>>, Vec<Note>) {
    let (mut culprits, mut notes) = (vec![], vec![]);
    for rule in rules {
        for space in case.spaces() {
            let judgement = (rule.judge)(space);
            culprits.extend(judgement.culprits);
            notes.extend(judgement.notes.into_iter().filter(|_| space.is_target()));
        }
    }
    // As the culprits, which the assignment orders, they stand in no order of the rules'.
    notes.sort_by(|a, b| (&a.target, &a.cause, &a.subject).cmp(&(&b.target, &b.cause, &b.subject)));
    (culprits, notes)
}
