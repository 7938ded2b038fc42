//! From an assignment to what people read: findings, fates, the ledger, notes and the verdict.

mod fates;
mod findings;
pub mod flows;
mod ledger;
mod notes;
mod sequence;
mod verdict;
mod ways;

use crate::assign::Assignment;
use crate::coverage;
use crate::evidence::case::{Case, Space};
use std::collections::{BTreeMap, BTreeSet};
use whydrop_model::{Note, NoteStatus, Report};

/// What counted a loss that the kernel reported.
pub const BY_EVENTS: &str = "drop events";
/// What counted packets that were missed by those who sent them.
pub const BY_FLOWS: &str = "lost probes";

/// More notes of one cause in one namespace than this help nobody.
const MAX_NOTES_PER_CAUSE: usize = 5;

/// The order of findings: number of the culprit to place in the report.
type Places = BTreeMap<usize, usize>;

/// Tells a case.
pub fn report<'a>(case: Case<'a>, assignment: &Assignment<'a>, mut notes: Vec<Note>) -> Report {
    let observation = case.observation;
    let spaces: Vec<Space<'_>> = case.spaces().collect();
    let (findings, places) = findings::tell(case, assignment);
    let ledger = ledger::close(case, assignment, &places);
    for space in spaces.iter().filter(|space| space.is_target()) {
        notes.extend(notes::of(*space, assignment, &findings, &ledger));
    }
    notes.extend(duties(assignment));
    let told: BTreeSet<(&str, &str)> =
        findings.iter().map(|f| (f.cause.as_str(), f.subject.as_str())).collect();
    let is_told = |note: &Note| {
        note.cause.as_deref().is_some_and(|cause| told.contains(&(cause, note.subject.as_str())))
    };
    notes.retain(|note| !is_told(note));
    Report {
        hostname: observation.hostname.clone(),
        kernel: observation.kernel.clone(),
        started_at: observation.started_at.clone(),
        window_seconds: observation.window_ns as f64 / 1e9,
        targets: observation.namespaces.iter().map(|n| n.target.clone()).collect(),
        verdict: verdict::of(case, &findings, &ledger),
        flows: flows::tell(case, assignment),
        flows_seen: flows::seen(case),
        probes: fates::of_probes(case, assignment, &places),
        probe_ways: ways::of_probes(case),
        findings,
        notes: at_most_a_few(notes),
        ledger,
        coverage: coverage::list(observation, &spaces),
        history: observation.history.kept().cloned().collect(),
    }
}

/// Culprits that only kept strangers out.
fn duties(assignment: &Assignment<'_>) -> Vec<Note> {
    let idle = |index: &usize| !assignment.is_guilty(*index) && assignment.does_its_duty(*index);
    let note = |index: usize| {
        let culprit = assignment.culprits.get(index).filter(|culprit| culprit.space.is_target())?;
        Some(Note {
            cause: Some(culprit.cause.id.to_owned()),
            target: culprit.space.target().id.clone(),
            subject: culprit.subject.clone(),
            status: NoteStatus::Benign,
            text: culprit.duty?.fill(&[("n", &assignment.strangers(index))]),
        })
    };
    (0..assignment.culprits.len()).filter(idle).filter_map(note).collect()
}

fn at_most_a_few(notes: Vec<Note>) -> Vec<Note> {
    let mut kept: BTreeMap<(Option<String>, String, NoteStatus), Vec<usize>> = BTreeMap::new();
    let mut out: Vec<Note> = vec![];
    for note in notes {
        let alike = kept.entry((note.cause.clone(), note.target.clone(), note.status)).or_default();
        let known = alike.iter().any(|index| out.get(*index) == Some(&note));
        if alike.len() < MAX_NOTES_PER_CAUSE && !known {
            alike.push(out.len());
            out.push(note);
        }
    }
    out
}
