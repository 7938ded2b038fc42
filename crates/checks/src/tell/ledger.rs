//! Every lost packet, charged once: adds up by construction.

use super::{BY_EVENTS, BY_FLOWS, Places};
use crate::assign::{Assignment, source_of};
use crate::evidence::case::Case;
use crate::loss::{Kind, Loss, Standing};
use std::collections::{BTreeMap, BTreeSet};
use whydrop_model::report::finding_id;
use whydrop_model::{Ledger, LedgerEntry, Unexplained};

/// Stage of what nobody saw die.
const UNKNOWN: &str = "unknown";

/// The entries of the findings at their places, and what nobody took.
pub fn close(case: Case<'_>, assignment: &Assignment<'_>, places: &Places) -> Ledger {
    let mut book = Ledger::default();
    for (index, place) in places {
        charge(assignment, *index, &BTreeSet::from([*place]), &mut book);
        for symptom in assignment.symptoms_of(*index) {
            let roots: BTreeSet<usize> =
                assignment.root_of(symptom).iter().filter_map(|root| places.get(root).copied()).collect();
            // Written once, with the first of its roots.
            if roots.first() == Some(place) {
                charge(assignment, symptom, &roots, &mut book);
            }
        }
    }
    shared(case, assignment, places, &mut book);
    book.entries.sort_by_key(|entry| (entry.finding, entry.stage.clone(), entry.source.clone()));
    book.unexplained_at = unexplained(case, assignment);
    book.explained = book.entries.iter().map(|entry| entry.packets).sum();
    book.unexplained = book.unexplained_at.iter().map(|place| place.packets).sum();
    book.lost = book.explained + book.unexplained;
    book.uncounted = case.drop_log().map_or(0, |log| log.counts_lost);
    book
}

/// What a culprit took, charged to the findings at these places.
fn charge(assignment: &Assignment<'_>, index: usize, findings: &BTreeSet<usize>, book: &mut Ledger) {
    let Some(culprit) = assignment.culprits.get(index) else { return };
    let packets = assignment.packets(index).unwrap_or(0);
    let first = findings.first().copied();
    if packets > 0 {
        book.entries.push(LedgerEntry {
            cause: culprit.cause.id.to_owned(),
            target: culprit.space.target().id.clone(),
            stage: culprit.stage.clone(),
            packets,
            source: assignment.counted_by(index).unwrap_or_else(|| BY_EVENTS.to_owned()),
            one_of: one_of(findings),
            finding: first,
        });
    }
}

fn one_of(findings: &BTreeSet<usize>) -> Vec<String> {
    if findings.len() > 1 { findings.iter().copied().map(finding_id).collect() } else { vec![] }
}

/// What several may equally have taken: one entry for each set of findings and place.
fn shared(case: Case<'_>, assignment: &Assignment<'_>, places: &Places, book: &mut Ledger) {
    let mut sums: BTreeMap<(BTreeSet<usize>, usize, &'static str), u64> = BTreeMap::new();
    for shared in &assignment.shared {
        let missed = |loss: &&Loss<'_>| loss.standing != Standing::Stranger;
        let Some(loss) = case.losses.get(shared.loss).filter(missed) else { continue };
        let of = |culprit: &usize| -> Vec<usize> {
            let roots = assignment.root_of(*culprit);
            let own = roots.is_empty().then_some(culprit);
            roots.iter().chain(own).filter_map(|root| places.get(root).copied()).collect()
        };
        let findings: BTreeSet<usize> = shared.among.iter().flat_map(of).collect();
        let Some(first) = shared.among.first() else { continue };
        *sums.entry((findings, *first, source_of(loss))).or_default() += shared.packets;
    }
    for ((findings, culprit, source), packets) in sums {
        let Some(culprit) = assignment.culprits.get(culprit) else { continue };
        book.entries.push(LedgerEntry {
            cause: culprit.cause.id.to_owned(),
            target: culprit.space.target().id.clone(),
            stage: culprit.stage.clone(),
            packets,
            source: source.to_owned(),
            one_of: one_of(&findings),
            finding: findings.first().copied(),
        });
    }
}

/// What nobody took, by place, the most first; kinds of one place that differ only in their packets are one.
fn unexplained(case: Case<'_>, assignment: &Assignment<'_>) -> Vec<Unexplained> {
    let mut sums: BTreeMap<Unexplained, u64> = BTreeMap::new();
    for (loss, packets) in case.losses.iter().zip(&assignment.left) {
        // Whether these are harm depends on who misses them: what a flow misses stands with the flow.
        let judged = !matches!(loss.kind, Kind::MayBeHarm | Kind::Refused);
        if *packets == 0 || !judged || loss.standing == Standing::Stranger {
            continue;
        }
        *sums.entry(place_of(case, loss)).or_default() += packets;
    }
    let mut out: Vec<Unexplained> =
        sums.into_iter().map(|(place, packets)| Unexplained { packets, ..place }).collect();
    out.sort_by_key(|place| std::cmp::Reverse(place.packets));
    out
}

fn place_of(case: Case<'_>, loss: &Loss<'_>) -> Unexplained {
    let flow = loss.flow.and_then(|flow| case.flows.get(flow));
    let space = loss.inode.and_then(|inode| case.space_by_inode(inode));
    let last_seen = || {
        let flow = flow?;
        flow.destination(case).or_else(|| flow.home(case)).map(|space| space.target().id.clone())
    };
    let target = space.map(|space| space.target().id.clone()).or_else(last_seen);
    let event = loss.event;
    let reason = loss.count.map(|count| &count.reason).or(event.map(|event| &event.reason));
    let function = loss.count.map(|count| &count.function).or(event.map(|event| &event.function));
    let interface = || Some(space?.after.link(loss.link?)?.name.clone());
    Unexplained {
        target: target.or_else(|| Some(flow?.probe()?.from.clone())).unwrap_or_else(|| UNKNOWN.to_owned()),
        stage: match (loss.kind, loss.place) {
            (Kind::Frames, _) => "link.receive".to_owned(),
            (_, place) => place.map_or(UNKNOWN, |place| place.stage).to_owned(),
        },
        reason: reason.cloned().unwrap_or_else(String::new),
        function: function.cloned().unwrap_or_else(String::new),
        interface: loss.count.and_then(|count| count.interface.clone()).or_else(interface),
        packets: 0,
        source: match loss.flow.filter(|_| loss.count.is_none()) {
            Some(_) => BY_FLOWS.to_owned(),
            None => source_of(loss).to_owned(),
        },
        suspected: loss.place.and_then(|place| place.cause).map(str::to_owned),
    }
}
