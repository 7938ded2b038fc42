//! What the second measurement proves about a fix.

use super::choice::Choice;
use whydrop_model::{Observation, ProbeResult, Report, Snapshot, Verdict};

/// How a cause stands after its fix.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Proof {
    /// Gone, and what suffered gets through or at least fares better.
    Gone,
    /// Not seen any more, but nothing came by that it could have harmed.
    NotProven,
    /// Not seen any more, and this probe is lost as before.
    Unhelped(String),
    /// As before.
    StillThere,
}

/// Judges one of the fixes that were made.
pub(super) fn prove(
    before: &Report,
    after: &Report,
    seen: &Observation,
    made: &[Choice<'_>],
    choice: &Choice<'_>,
) -> Proof {
    // Several findings can read the same; as many of them must be gone as were fixed.
    let identity = choice.finding.identity();
    let left = |report: &Report| report.findings.iter().filter(|f| f.identity() == identity).count();
    let mut fixed: Vec<usize> =
        made.iter().filter(|other| other.finding.identity() == identity).map(|other| other.at).collect();
    fixed.dedup();
    if left(after) + fixed.len() > left(before) {
        return Proof::StillThere;
    }
    let harmed = harmed(before, choice);
    if harmed.is_empty() {
        let expected = choice.finding.packets_lost.unwrap_or(0).div_ceil(2).max(1);
        return if frames(seen, &choice.finding.target) >= expected { Proof::Gone } else { Proof::NotProven };
    }
    let again = |old: &ProbeResult| after.probes.iter().find(|p| p.url == old.url && p.from == old.from);
    let sent = |p: &&ProbeResult| p.transmitted > 0;
    if harmed.iter().any(|old| again(old).filter(sent).is_some_and(|new| better(old, new))) {
        return Proof::Gone;
    }
    match harmed.iter().find(|old| again(old).filter(sent).is_some()) {
        Some(probe) => Proof::Unhelped(probe.url.clone()),
        None => Proof::NotProven,
    }
}

/// Probes that met this cause; if none is known to have met it, all that were in trouble.
fn harmed<'a>(before: &'a Report, choice: &Choice<'_>) -> Vec<&'a ProbeResult> {
    let finding = choice.finding;
    let met = |probe: &&ProbeResult| {
        probe.fate.iter().any(|fate| {
            fate.cause == finding.cause
                && fate.target == finding.target
                && (fate.subjects.is_empty() || fate.subjects.contains(&finding.subject))
        })
    };
    let known: Vec<&ProbeResult> = before.probes.iter().filter(met).collect();
    if !known.is_empty() {
        return known;
    }
    before.probes.iter().filter(|probe| share(probe) < (1.0, 0.0)).collect()
}

/// Share of what was answered as its sender wished, then the negated share of what was lost: a refusal is no success,
/// but better than silence.
fn share(probe: &ProbeResult) -> (f64, f64) {
    if probe.transmitted == 0 {
        return (0.0, -1.0);
    }
    let of = |n: u64| n as f64 / probe.transmitted as f64;
    (of(probe.received.saturating_sub(probe.refused)), -of(probe.lost.saturating_add(probe.late)))
}

fn better(old: &ProbeResult, new: &ProbeResult) -> bool {
    share(new) > share(old)
}

/// Frames that the interfaces of a target received and sent in the window.
fn frames(seen: &Observation, target: &str) -> u64 {
    let own = seen.namespaces.iter().find(|n| n.target.id == target);
    let Some((before, after)) = own.and_then(|n| Some((n.before.get()?, n.after.get()?))) else { return 0 };
    let total = |snapshot: &Snapshot| {
        let links = snapshot.links.get().into_iter().flatten();
        let names = ["rx_packets", "tx_packets"];
        links.flat_map(|link| names.iter().filter_map(|name| link.stats.get(*name))).sum::<u64>()
    };
    total(after).saturating_sub(total(before))
}

/// A cause that was not proven to be gone makes a clear answer uncertain.
pub(super) fn temper(after: &mut Report, proofs: &[Proof]) {
    if after.verdict == Verdict::Clear && proofs.contains(&Proof::NotProven) {
        after.verdict = Verdict::Inconclusive;
    }
}
