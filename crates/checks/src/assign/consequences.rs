//! What merely follows: a symptom misses packets, and whoever would take those is its root.

use super::Assignment;
use crate::culprit::Culprit;
use crate::evidence::packet::Fit;
use crate::loss::Loss;
use crate::loss::missing::Frame;
use std::collections::{BTreeMap, BTreeSet};

/// For each culprit those that it follows from, at the end of the chain; none for one that is its own root.
pub fn roots(assignment: &Assignment<'_>) -> Vec<BTreeSet<usize>> {
    let next = above(assignment);
    (0..next.len()).map(|index| ends(&next, index)).collect()
}

/// Where the chains that begin here end.
fn ends(next: &[Vec<usize>], index: usize) -> BTreeSet<usize> {
    let mut ends = BTreeSet::new();
    let (mut seen, mut open) = (BTreeSet::from([index]), vec![index]);
    while let Some(at) = open.pop() {
        let above = next.get(at).map(Vec::as_slice).unwrap_or(&[]);
        if at != index && above.is_empty() {
            ends.insert(at);
        }
        open.extend(above.iter().copied().filter(|root| seen.insert(*root)));
    }
    ends
}

/// For each culprit those that would take the packets that it misses. A counter that stood still says no; one that
/// says perhaps must have taken something else.
fn above(assignment: &Assignment<'_>) -> Vec<Vec<usize>> {
    let culprits = &assignment.culprits;
    let mut out: Vec<Vec<usize>> = vec![vec![]; culprits.len()];
    // Most take what died in their own namespace only, and are asked for nothing else.
    let mut near: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    let mut anywhere = vec![];
    for (index, culprit) in culprits.iter().enumerate().filter(|(_, culprit)| !culprit.stood_still()) {
        match culprit.reaches {
            true => anywhere.push(index),
            false => near.entry(culprit.space.inode()).or_default().push(index),
        }
    }
    let mut named: Vec<(usize, usize)> = vec![];
    for (index, symptom) in culprits.iter().enumerate().filter(|(_, culprit)| !culprit.misses.is_empty()) {
        let places: BTreeSet<u64> = symptom.misses.iter().filter_map(|missing| missing.inode).collect();
        let there = places.iter().filter_map(|inode| near.get(inode)).flatten();
        let mut asked: Vec<usize> = there.chain(&anywhere).copied().filter(|other| *other != index).collect();
        asked.sort_unstable();
        let mut found = vec![];
        for other in asked {
            let Some(culprit) = culprits.get(other) else { continue };
            let sure = symptom.misses.iter().map(|missing| culprit.fit(missing)).max().unwrap_or(Fit::No);
            let moved =
                culprit.meter.as_ref().is_some_and(|meter| meter.packets > 0) || assignment.took_any(other);
            if sure == Fit::Yes || (sure == Fit::Maybe && moved) {
                found.push(other);
            }
        }
        if symptom.names_roots {
            named.extend(
                found
                    .into_iter()
                    .filter(|root| only_missing(assignment, *root, symptom))
                    .map(|root| (root, index)),
            );
        } else if let Some(roots) = out.get_mut(index) {
            *roots = found;
        }
    }
    for (root, name) in named {
        if let Some(roots) = out.get_mut(root) {
            roots.push(name);
        }
    }
    break_circles(assignment, &mut out);
    out
}

/// True if all that a root was seen to take are packets of the protocol that the symptom misses.
fn only_missing(assignment: &Assignment<'_>, root: usize, symptom: &Culprit<'_>) -> bool {
    let protocols: BTreeSet<Option<u8>> = symptom.misses.iter().map(protocol).collect();
    assignment.taken_by(root).all(|(loss, _)| protocols.contains(&protocol(loss)))
}

fn protocol(loss: &Loss<'_>) -> Option<u8> {
    match &loss.frame {
        Some(Frame::Ip(packet)) => packet.as_ref().map(|packet| packet.protocol),
        _ => loss.count.and_then(|count| count.protocol),
    }
}

/// In a circle the one with a counter of its own is the root.
fn break_circles(assignment: &Assignment<'_>, roots: &mut [Vec<usize>]) {
    let metered = |index: usize| {
        assignment
            .culprits
            .get(index)
            .is_some_and(|c| c.meter.as_ref().is_some_and(|meter| meter.packets > 0))
    };
    for index in 0..roots.len() {
        let circle = reaches(roots, index);
        if circle.contains(&index)
            && (metered(index) || !circle.iter().any(|other| metered(*other)))
            && let Some(own) = roots.get_mut(index)
        {
            own.clear();
        }
    }
}

/// All that a culprit follows from, near and far.
fn reaches(roots: &[Vec<usize>], from: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        for next in roots.get(at).into_iter().flatten() {
            if seen.insert(*next) {
                open.push(*next);
            }
        }
    }
    seen
}
