//! What became of the packets of each flow.

use super::Places;
use crate::assign::Assignment;
use crate::evidence::case::Case;
use std::collections::{BTreeMap, BTreeSet};
use whydrop_model::ProbeResult;
use whydrop_model::probe::Fate;

const UNKNOWN: &str = "unknown";

/// The probes with their fate: for each packet that was lost, where the kernel saw it die and what can have taken it.
/// More than one subject means that nobody can tell which.
pub fn of_probes(case: Case<'_>, assignment: &Assignment<'_>, places: &Places) -> Vec<ProbeResult> {
    let mut fates: BTreeMap<usize, BTreeMap<End, u64>> = BTreeMap::new();
    let mut add = |flow: usize, end: End, packets: u64| {
        *fates.entry(flow).or_default().entry(end).or_default() += packets;
    };
    let stage = |loss: usize| case.losses.get(loss).and_then(|loss| Some(loss.place?.stage.to_owned()));
    for index in 0..assignment.culprits.len() {
        for (loss, packets) in assignment.taken_by(index) {
            if let Some(flow) = loss.flow {
                let among = assignment.either(loss.id).unwrap_or(std::slice::from_ref(&index));
                add(flow, End { stage: stage(loss.id), ..End::of(assignment, places, among) }, packets);
            }
        }
    }
    for shared in &assignment.shared {
        if let Some(flow) = case.losses.get(shared.loss).and_then(|loss| loss.flow) {
            let end = End { stage: stage(shared.loss), ..End::of(assignment, places, &shared.among) };
            add(flow, end, shared.packets);
        }
    }
    for (loss, packets) in case.losses.iter().zip(&assignment.left).filter(|(_, packets)| **packets > 0) {
        let Some(flow) = loss.flow else { continue };
        let space = loss.inode.and_then(|inode| case.space_by_inode(inode));
        let end = End {
            cause: loss.place.and_then(|place| place.cause).unwrap_or(UNKNOWN).to_owned(),
            target: space.map_or_else(|| UNKNOWN.to_owned(), |space| space.target().id.clone()),
            stage: stage(loss.id),
            subjects: BTreeSet::new(),
        };
        add(flow, end, *packets);
    }
    let mut probes = case.observation.probes.clone();
    for (probe, flow) in probes.iter_mut().zip(case.flows).filter(|(probe, _)| probe.fate.is_empty()) {
        let ends = fates.remove(&flow.id).into_iter().flatten();
        probe.fate = ends.map(|(end, packets)| end.fate(packets)).collect();
    }
    probes
}

/// How a packet ended.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct End {
    cause: String,
    target: String,
    stage: Option<String>,
    subjects: BTreeSet<String>,
}

impl End {
    /// What those that can have taken it have in common, by their roots.
    fn of(assignment: &Assignment<'_>, places: &Places, culprits: &[usize]) -> Self {
        let root = |index: &usize| {
            let roots = assignment.root_of(*index);
            if roots.is_empty() { BTreeSet::from([*index]) } else { roots.clone() }
        };
        let roots: BTreeSet<usize> =
            culprits.iter().flat_map(root).filter(|root| places.contains_key(root)).collect();
        let all: Vec<_> = roots.iter().filter_map(|root| assignment.culprits.get(*root)).collect();
        let common = |of: &dyn Fn(usize) -> Option<String>| {
            let mut all = (0..all.len()).map(of);
            let first = all.next().flatten()?;
            all.all(|other| other.as_ref() == Some(&first)).then_some(first)
        };
        let cause = common(&|i| Some(all.get(i)?.cause.id.to_owned()));
        let target = common(&|i| Some(all.get(i)?.space.target().id.clone()));
        Self {
            cause: cause.unwrap_or_else(|| UNKNOWN.to_owned()),
            target: target.unwrap_or_else(|| UNKNOWN.to_owned()),
            stage: None,
            subjects: all.iter().map(|culprit| culprit.subject.clone()).collect(),
        }
    }

    fn fate(self, probes: u64) -> Fate {
        let Self { cause, target, stage, subjects } = self;
        Fate { cause, target, stage, subjects: subjects.into_iter().collect(), probes }
    }
}
