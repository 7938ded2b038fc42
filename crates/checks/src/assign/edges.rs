//! Who may have taken what, found by place.

use super::Assignment;
use super::capacity::Edge;
use crate::culprit::{Count, Culprit, Scope};
use crate::evidence::case::Case;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::loss::{Kind, Loss};
use std::collections::{BTreeMap, BTreeSet};

/// The edges of an assignment.
pub struct Edges {
    /// From losses at known places to culprits.
    pub located: Vec<Edge>,
    /// From packets of flows that nobody saw die to culprits.
    pub astray: Vec<Edge>,
    /// For each culprit the flows in trouble that it can have harmed.
    pub harmed: Vec<Vec<(usize, Fit)>>,
}

/// As many scopes as there are, so that a better fit always goes before a nearer one.
const SCOPES: u8 = 8;

impl Edges {
    /// Asks each culprit for the losses of the namespaces in its reach, and for the flows in trouble.
    pub fn of<'a>(case: Case<'a>, culprits: &[Culprit<'a>]) -> Self {
        let mut by_space: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        let mut anywhere = vec![];
        for (index, culprit) in culprits.iter().enumerate() {
            match culprit.reaches {
                true => anywhere.push(index),
                false => by_space.entry(culprit.space.inode()).or_default().push(index),
            }
        }
        let mut fits: BTreeMap<usize, Vec<(usize, Fit)>> = BTreeMap::new();
        for loss in case.losses.iter().filter(|loss| !loss.is_astray()) {
            let near = loss.inode.and_then(|inode| by_space.get(&inode)).into_iter().flatten();
            let mut found: Vec<(usize, Fit)> = vec![];
            for index in near.chain(&anywhere) {
                let Some(culprit) = culprits.get(*index) else { continue };
                let fit = fit(culprit, loss, |alike| known(&fits, alike, *index));
                if fit != Fit::No {
                    found.push((*index, fit));
                }
            }
            fits.insert(loss.id, found);
        }
        let located = fits.into_iter().flat_map(|(loss, found)| {
            let edge = move |(index, fit): (usize, Fit)| {
                Some(Edge { from: loss, to: index, level: level(culprits.get(index)?, fit) })
            };
            found.into_iter().filter_map(edge)
        });
        let located = located.collect();
        let mut harmed: Vec<Vec<(usize, Fit)>> = vec![vec![]; culprits.len()];
        for flow in case.flows.iter().filter(|flow| flow.in_trouble()) {
            for (culprit, harmed) in culprits.iter().zip(&mut harmed) {
                match culprit.fit_of_flow(flow) {
                    Fit::No => {}
                    fit if culprit.stood_still() && !(fit == Fit::Yes && ends_all(culprit, flow)) => {}
                    fit => harmed.push((flow.id, fit)),
                }
            }
        }
        let mut by_flow: BTreeMap<usize, Vec<(usize, u8)>> = BTreeMap::new();
        for (index, (culprit, harmed)) in culprits.iter().zip(&harmed).enumerate() {
            for (flow, fit) in harmed {
                by_flow.entry(*flow).or_default().push((index, level(culprit, *fit)));
            }
        }
        let mut astray = vec![];
        for loss in case.losses.iter().filter(|loss| loss.kind == Kind::Unanswered) {
            let harmers = loss.flow.and_then(|flow| by_flow.get(&flow)).into_iter().flatten();
            astray.extend(harmers.map(|(index, level)| Edge { from: loss.id, to: *index, level: *level }));
        }
        Self { located, astray, harmed }
    }
}

/// True if it would end whatever a flow sends, which sent nothing in the window: of what died before no counter of the
/// window tells.
pub fn ends_all(culprit: &Culprit<'_>, flow: &Flow<'_>) -> bool {
    flow.is_silent() && matches!(culprit.scope, Scope::Rule | Scope::Hook | Scope::Route | Scope::Neighbour)
}

/// Edges of packets that nobody saw die, with those to whoever was seen to take others of the same flow.
pub fn with_witnesses(mut edges: Vec<Edge>, assignment: &Assignment<'_>) -> Vec<Edge> {
    let astray = assignment.case.losses.iter().filter(|loss| loss.is_astray());
    let of_flow: BTreeMap<usize, usize> = astray.filter_map(|loss| Some((loss.flow?, loss.id))).collect();
    let mut known: BTreeSet<(usize, usize)> = edges.iter().map(|edge| (edge.from, edge.to)).collect();
    for (index, culprit) in assignment.culprits.iter().enumerate() {
        for loss in assignment.taken_by(index).filter_map(|(taken, _)| of_flow.get(&taken.flow?)) {
            if known.insert((*loss, index)) {
                edges.push(Edge { from: *loss, to: index, level: level(culprit, Fit::Yes) });
            }
        }
    }
    edges
}

/// How a culprit fits a loss. Of drops that were only counted, what was sampled of the same shape tells.
fn fit<'a>(culprit: &Culprit<'a>, loss: &Loss<'a>, of_alike: impl Fn(usize) -> Fit) -> Fit {
    match loss.alike.iter().map(|alike| of_alike(*alike)).max() {
        Some(fit) => fit,
        None => culprit.fit(loss),
    }
}

fn known(fits: &BTreeMap<usize, Vec<(usize, Fit)>>, loss: usize, culprit: usize) -> Fit {
    let found = fits.get(&loss).and_then(|found| found.iter().find(|(index, _)| *index == culprit));
    found.map_or(Fit::No, |(_, fit)| *fit)
}

/// Counters that are exact are filled first, since they took that many for certain; then the better fit, then the
/// nearer scope.
fn level(culprit: &Culprit<'_>, fit: Fit) -> u8 {
    let exact = culprit.meter.as_ref().is_some_and(|meter| meter.count == Count::Exact);
    let steps = match (exact, fit) {
        (true, Fit::Yes) => 0,
        (true, _) => 1,
        (false, Fit::Yes) => 2,
        (false, _) => 3,
    };
    steps * SCOPES + culprit.scope as u8
}
