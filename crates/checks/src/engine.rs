//! Runs the rules and puts the report together.

use crate::case::{Case, Space};
use crate::coverage::{self, Source};
use crate::registry::RULES;
use crate::rule::Suspect;
use crate::rules::path::remote_loss;
use crate::way::Way;
use crate::{correlate, ledger, notes, reconcile, sequence, traced};
use whydrop_model::{Ledger, Note, Observation, Report, Role, Verdict};

/// More notes of one cause in one namespace than this help nobody.
const MAX_NOTES_PER_CAUSE: usize = 5;

/// Sources without which nobody can say that nothing was lost.
const ESSENTIAL: &[Source] =
    &[Source::Links, Source::Qdiscs, Source::Mib, Source::Nftables, Source::IptablesLegacy, Source::Sockets];

/// Judges an observation.
pub fn judge(observation: &Observation) -> Report {
    let bare = Case { observation, ways: &[] };
    let probes = observation.probes.iter().enumerate();
    let ways: Vec<Way<'_>> = probes.map(|(index, probe)| Way::of(bare, index, probe)).collect();
    let case = Case { observation, ways: &ways };
    let spaces: Vec<Space<'_>> = case.spaces().collect();

    let (mut suspects, mut notes, mut excused) = (vec![], vec![], vec![]);
    for rule in RULES {
        for space in &spaces {
            let judgement = (rule.judge)(*space);
            suspects.extend(judgement.suspects.into_iter().map(|s| (rule, s)));
            notes.extend(judgement.notes.into_iter().filter(|_| space.is_target()));
            excused.extend(judgement.excused);
        }
    }
    let unclaimed = reconcile::settle(case, &mut suspects, &excused);
    suspects.retain(|(_, suspect)| relevant(case, suspect));
    let mut suspects = correlate::fold(case, suspects);
    traced::tie(case, &mut suspects);
    suspects.extend(remote_loss::judge(case, &suspects));
    let book = ledger::charge(case, &mut suspects, unclaimed);
    traced::testify(case, &mut suspects);
    correlate::settle(case, &mut suspects);
    sequence::prepare_undo(&mut suspects);
    for space in spaces.iter().filter(|s| s.is_target()) {
        notes.extend(notes::of(*space, &suspects, &book.unexplained_at));
    }
    let verdict = verdict(observation, &spaces, &suspects, &book);
    Report {
        hostname: observation.hostname.clone(),
        kernel: observation.kernel.clone(),
        started_at: observation.started_at.clone(),
        window_seconds: observation.window_ns as f64 / 1e9,
        targets: observation.namespaces.iter().map(|n| n.target.clone()).collect(),
        verdict,
        probes: traced::fates(case, &suspects),
        ledger: ledger::close(book, &mut suspects),
        findings: suspects.into_iter().map(|s| s.finding).collect(),
        notes: at_most_a_few(notes),
        coverage: coverage::list(observation, &spaces),
    }
}

/// In a namespace that the user asked about every loss counts. Where probes only start, what cost the probes.
fn relevant(case: Case<'_>, suspect: &Suspect) -> bool {
    let mut ways = suspect.touches.iter().filter_map(|i| case.ways.get(*i));
    let asked = case.space(&suspect.finding.target).is_some_and(|space| space.is_target());
    ways.any(|way| way.troubled() || way.refused()) || (asked && suspect.counted_alone)
}

fn verdict(observation: &Observation, spaces: &[Space<'_>], suspects: &[Suspect], book: &Ledger) -> Verdict {
    let asked = observation.namespaces.iter().filter(|n| n.target.role == Role::Target);
    let mut unread = asked.filter(|n| !n.before.is_present() || !n.after.is_present());
    let blind = unread.next().is_some()
        || spaces.iter().filter(|s| s.is_target()).any(|s| ESSENTIAL.iter().any(|source| source.hidden(*s)));
    match (suspects.is_empty(), book.unexplained) {
        (false, _) => Verdict::Loss,
        (true, 0) if blind => Verdict::Inconclusive,
        (true, 0) => Verdict::Clear,
        (true, _) if blind || observation.drops.is_hidden() => Verdict::Inconclusive,
        (true, _) => Verdict::Loss,
    }
}

fn at_most_a_few(notes: Vec<Note>) -> Vec<Note> {
    let mut out: Vec<Note> = vec![];
    for note in notes {
        let alike = |n: &&Note| (&n.cause, &n.target, n.status) == (&note.cause, &note.target, note.status);
        if out.iter().filter(alike).count() < MAX_NOTES_PER_CAUSE && !out.contains(&note) {
            out.push(note);
        }
    }
    out
}
