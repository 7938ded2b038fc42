//! Joins the deaths of our own probes, as the kernel reported them, with what was found.

use crate::case::{Case, Space};
use crate::fate::{Death, Leg, fate};
use crate::ledger::harms;
use crate::rule::Suspect;
use crate::rules::netfilter::{self, Dropping};
use crate::way::Way;
use std::collections::BTreeMap;
use whydrop_model::probe::{Fate, Outcome};
use whydrop_model::{Evidence, ProbeResult, Text, text};

/// How the stages of all netfilter hooks begin.
const NETFILTER: &str = "netfilter.";

const REQUESTS: Text = text!("{n} of our probes were traced to it", "我们的 {n} 个探测包被追踪到此处");
const ANSWERS: Text =
    text!("{n} answers to our probes were traced to it", "{n} 个对我们探测的应答被追踪到此处");

/// Ties to findings the probes that the kernel saw die at their place, where addresses and routes alone did not show
/// that the way leads there: behind a translated address, above all.
pub fn tie(case: Case<'_>, suspects: &mut [Suspect]) {
    let places = Places::of(case, suspects);
    for (way, death) in deaths(case) {
        let only = places.only(suspects, &death);
        if let Some(suspect) = only.and_then(|index| suspects.get_mut(index))
            && !suspect.touches.contains(&way.index)
        {
            suspect.touches.push(way.index);
        }
    }
}

/// Lets the kernel's account of our own packets speak for the findings where it can have been no other.
pub fn testify(case: Case<'_>, suspects: &mut [Suspect]) {
    let mut counts: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    let places = Places::of(case, suspects);
    for (_, death) in deaths(case) {
        if let Some(index) = places.only(suspects, &death) {
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

/// The probes with their fate: for each that was lost, where the kernel saw it die and the findings that can have
/// taken it there; for the rest the findings on its way. More than one finding means that nobody can tell which.
pub fn fates(case: Case<'_>, suspects: &[Suspect]) -> Vec<ProbeResult> {
    let places = Places::of(case, suspects);
    let mut probes = case.observation.probes.clone();
    for (probe, way) in probes.iter_mut().zip(case.ways).filter(|(probe, _)| probe.fate.is_empty()) {
        let mut ends: BTreeMap<End, u64> = BTreeMap::new();
        let on_way: Vec<&Suspect> = suspects.iter().filter(|s| harms(case, way, s)).collect();
        for death in of_lost(case, way) {
            let space = death.event.netns_inode.and_then(|inode| case.space_by_inode(inode));
            let at = places.of_death(suspects, &death);
            let mut at: Vec<&Suspect> = at.into_iter().filter_map(|index| suspects.get(index)).collect();
            // Where it died only a consequence was found: its root is on the way.
            if let ([], [root]) = (at.as_slice(), on_way.as_slice()) {
                at.push(root);
            }
            let end = End {
                target: space.map_or_else(unknown, |s| s.target().id.clone()),
                stage: Some(death.place.stage.to_owned()),
                ..End::of(&at, death.place.cause)
            };
            *ends.entry(end).or_default() += 1;
        }
        let left = way.lost().saturating_sub(ends.values().sum());
        if left > 0 {
            *ends.entry(End::of(&on_way, None)).or_default() += left;
        }
        let fate = |(end, probes)| {
            let End { cause, target, stage, subjects } = end;
            Fate { cause, target, stage, subjects, probes }
        };
        probe.fate = ends.into_iter().map(fate).collect();
    }
    probes
}

/// How a probe ended.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct End {
    cause: String,
    target: String,
    stage: Option<String>,
    subjects: Vec<String>,
}

impl End {
    /// What the findings that can have taken a probe have in common; `suspected` is the cause where there are none.
    fn of(suspects: &[&Suspect], suspected: Option<&str>) -> Self {
        let common = |of: fn(&Suspect) -> &String| {
            let mut all = suspects.iter().map(|s| of(s));
            let first = all.next()?;
            all.all(|other| other == first).then(|| first.clone())
        };
        let cause = match suspects.is_empty() {
            true => suspected.map(str::to_owned),
            false => common(|s| &s.finding.cause),
        };
        Self {
            cause: cause.unwrap_or_else(unknown),
            target: common(|s| &s.finding.target).unwrap_or_else(unknown),
            stage: None,
            subjects: suspects.iter().map(|s| s.finding.subject.clone()).collect(),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// Deaths of the probes of one way that were lost; late ones had a death, too, but were not lost.
pub fn of_lost<'a>(case: Case<'a>, way: &Way<'a>) -> Vec<Death<'a>> {
    let Some(log) = case.drop_log() else { return vec![] };
    let mut deaths = fate(log, way.probe);
    let lost = |seq| way.probe.packets.iter().any(|p| p.seq == seq && p.outcome == Outcome::Lost);
    deaths.retain(|death| lost(death.seq));
    deaths
}

/// True if a probe's packet died in this namespace at a place that admits this cause only.
pub fn end_by(space: Space<'_>, cause: &str) -> bool {
    let inode = Some(space.target().netns_inode);
    let here = |death: &Death<'_>| death.event.netns_inode == inode && death.place.cause == Some(cause);
    deaths(space.case).iter().any(|(_, death)| here(death))
}

/// Deaths of probes in this namespace, with the numbers of the probes: where addresses are translated on the way, only
/// the kernel knows that they came here.
pub fn deaths_in<'a>(space: Space<'a>) -> impl Iterator<Item = (usize, Death<'a>)> {
    let inode = Some(space.target().netns_inode);
    let here = deaths(space.case).into_iter().filter(move |(_, death)| death.event.netns_inode == inode);
    here.map(|(way, death)| (way.index, death))
}

fn deaths<'a>(case: Case<'a>) -> Vec<(&'a Way<'a>, Death<'a>)> {
    let Some(log) = case.drop_log() else { return vec![] };
    let of = |way: &'a Way<'a>| fate(log, way.probe).into_iter().map(move |death| (way, death));
    case.ways.iter().flat_map(of).collect()
}

/// The findings by the places where packets die at them.
struct Places<'a> {
    case: Case<'a>,
    /// For each finding that is about a firewall rule: its index, and the rule.
    rules: Vec<(usize, Dropping<'a>)>,
}

impl<'a> Places<'a> {
    fn of(case: Case<'a>, suspects: &[Suspect]) -> Self {
        let mut rules = vec![];
        for space in case.spaces() {
            let here = |s: &&Suspect| {
                s.finding.target == space.target().id && s.finding.stage.starts_with(NETFILTER)
            };
            let subjects: Vec<&str> =
                suspects.iter().filter(here).map(|s| s.finding.subject.as_str()).collect();
            if subjects.is_empty() {
                continue;
            }
            for (subject, rule) in netfilter::rules_of(space, &subjects) {
                let about = suspects.iter().position(|s| here(&s) && s.finding.subject == subject);
                rules.extend(about.map(|index| (index, rule)));
            }
        }
        Self { case, rules }
    }

    /// Indices of the findings that can have taken the packet at the place where it died.
    fn of_death(&self, suspects: &[Suspect], death: &Death<'_>) -> Vec<usize> {
        let space = death.event.netns_inode.and_then(|inode| self.case.space_by_inode(inode));
        let Some(space) = space else { return vec![] };
        let here = |(index, s): &(usize, &Suspect)| {
            let rule = self.rules.iter().find(|(about, _)| about == index).map(|(_, rule)| rule);
            s.finding.target == space.target().id && is_at(s, rule, death) && {
                rule.is_none_or(|rule| rule.can_take(space, death.event))
            }
        };
        suspects.iter().enumerate().filter(here).map(|(index, _)| index).collect()
    }

    /// The same, if there is only one.
    fn only(&self, suspects: &[Suspect], death: &Death<'_>) -> Option<usize> {
        match self.of_death(suspects, death).as_slice() {
            [index] => Some(*index),
            _ => None,
        }
    }
}

/// True if the finding stands where the packet died. A netfilter drop whose hook is known belongs to that hook.
fn is_at(suspect: &Suspect, rule: Option<&Dropping<'_>>, death: &Death<'_>) -> bool {
    let (finding, place) = (&suspect.finding, &death.place);
    match (death.hook.filter(|_| finding.stage.starts_with(NETFILTER)), rule) {
        (Some(hook), Some(rule)) => rule.hooks.contains(&hook),
        (Some(_), None) => finding.stage == place.stage,
        (None, _) => finding.stage == place.stage || Some(finding.cause.as_str()) == place.cause,
    }
}
