//! Joins the deaths of our own probes, as the kernel reported them, with what was found.

use crate::case::{Case, Space};
use crate::fate::{Death, Leg, fate};
use crate::rule::Suspect;
use crate::way::Way;
use std::collections::BTreeMap;
use whydrop_model::probe::Fate;
use whydrop_model::{Evidence, ProbeResult, Text, text};

const REQUESTS: Text = text!("{n} of our probes were traced to it", "我们的 {n} 个探测包被追踪到此处");
const ANSWERS: Text =
    text!("{n} answers to our probes were traced to it", "{n} 个对我们探测的应答被追踪到此处");

/// Ties to findings the probes that the kernel saw die at their place, where addresses and routes alone did not show
/// that the way leads there: behind a translated address, above all.
pub fn tie(case: Case<'_>, suspects: &mut [Suspect]) {
    for (way, death) in deaths(case) {
        let Some(space) = death.event.netns_inode.and_then(|inode| case.space_by_inode(inode)) else {
            continue;
        };
        let mut at = suspects.iter_mut().filter(|s| is_at(s, space, &death));
        if let (Some(suspect), None) = (at.next(), at.next())
            && !suspect.touches.contains(&way.index)
        {
            suspect.touches.push(way.index);
        }
    }
}

/// Lets the kernel's account of our own packets speak for the findings where it can have been no other.
pub fn testify(case: Case<'_>, suspects: &mut [Suspect]) {
    let mut counts: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for (way, death) in deaths(case) {
        if let Some(index) = only_suspect(case, suspects, way, &death) {
            let (requests, answers) = counts.entry(index).or_default();
            match death.leg {
                Leg::Request => *requests += 1,
                Leg::Answer => *answers += 1,
            }
        }
    }
    for (index, (requests, answers)) in counts {
        let Some(suspect) = suspects.get_mut(index) else { continue };
        for (n, text) in [(requests, REQUESTS), (answers, ANSWERS)].into_iter().filter(|(n, _)| *n > 0) {
            suspect.finding.evidence.push(Evidence {
                claim: text.fill(&[("n", &n)]),
                source: "traced probes".into(),
                reproduce: vec![],
                supports: true,
            });
        }
    }
}

/// The probes with their fate: where the kernel saw them die, and for the rest the only cause that can have met them.
pub fn fates(case: Case<'_>, suspects: &[Suspect]) -> Vec<ProbeResult> {
    let all = deaths(case);
    let mut probes = case.observation.probes.clone();
    for (probe, way) in probes.iter_mut().zip(case.ways).filter(|(probe, _)| probe.fate.is_empty()) {
        let mut ends: BTreeMap<(String, String), u64> = BTreeMap::new();
        let died = all.iter().filter(|(w, death)| w.index == way.index && died_lost(way, death));
        for (_, death) in died {
            let found = only_suspect(case, suspects, way, death).and_then(|i| suspects.get(i));
            let cause = found.map(|s| s.finding.cause.as_str()).or(death.place.cause).unwrap_or("unknown");
            let space = death.event.netns_inode.and_then(|inode| case.space_by_inode(inode));
            let target = space.map_or_else(|| "unknown".to_owned(), |s| s.target().id.clone());
            *ends.entry((cause.to_owned(), target)).or_default() += 1;
        }
        let left = way.lost().saturating_sub(ends.values().sum());
        let mut harming = suspects.iter().filter(|s| s.touches.contains(&way.index));
        if let Some(only) = harming.next().filter(|_| left > 0 && harming.next().is_none()) {
            *ends.entry((only.finding.cause.clone(), only.finding.target.clone())).or_default() += left;
        }
        probe.fate =
            ends.into_iter().map(|((cause, target), probes)| Fate { cause, target, probes }).collect();
    }
    probes
}

/// True if a probe's packet died in this namespace for one of these reasons.
pub fn end_in(space: Space<'_>, reasons: &[&str]) -> bool {
    let inode = Some(space.target().netns_inode);
    let here = |death: &Death<'_>| {
        death.event.netns_inode == inode && reasons.contains(&death.event.reason.as_str())
    };
    deaths(space.case).iter().any(|(_, death)| here(death))
}

fn deaths<'a>(case: Case<'a>) -> Vec<(&'a Way<'a>, Death<'a>)> {
    let Some(log) = case.drop_log() else { return vec![] };
    let of = |way: &'a Way<'a>| fate(log, way.probe).into_iter().map(move |death| (way, death));
    case.ways.iter().flat_map(of).collect()
}

/// A late answer died on its way first, but the probe was not lost.
fn died_lost(way: &Way<'_>, death: &Death<'_>) -> bool {
    use whydrop_model::probe::Outcome;
    way.probe.packets.iter().any(|p| p.seq == death.seq && p.outcome == Outcome::Lost)
}

/// The finding at the place of a death, if there is only one.
fn only_suspect(case: Case<'_>, suspects: &[Suspect], way: &Way<'_>, death: &Death<'_>) -> Option<usize> {
    let space = case.space_by_inode(death.event.netns_inode?)?;
    let here = |s: &Suspect| s.touches.contains(&way.index) && is_at(s, space, death);
    let mut at = suspects.iter().enumerate().filter(|(_, s)| here(s)).map(|(i, _)| i);
    at.next().filter(|_| at.next().is_none())
}

/// True if the finding stands where the packet died.
fn is_at(suspect: &Suspect, space: Space<'_>, death: &Death<'_>) -> bool {
    let finding = &suspect.finding;
    let same_place = finding.stage == death.place.stage || Some(finding.cause.as_str()) == death.place.cause;
    finding.target == space.target().id && same_place
}
