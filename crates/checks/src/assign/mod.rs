//! Which culprit took which packets, who follows from whom, and what nobody took.

mod capacity;
mod consequences;
#[cfg(test)]
mod dropper_tests;
mod edges;

use crate::culprit::{Count, Culprit, Scope, Share};
use crate::evidence::case::Case;
use crate::evidence::packet::Fit;
use crate::loss::{Kind, Loss, Standing};
use edges::Edges;
use std::collections::{BTreeMap, BTreeSet};

/// So many packets may be lost beyond what a counter says that was read a moment earlier or later …
const SLACK: u64 = 2;
/// … or one for so many that it counted.
const SLACK_SHARE: u64 = 8;

/// The one answer to "what took this packet".
pub struct Assignment<'a> {
    case: Case<'a>,
    /// All that may have taken packets or harmed flows, guilty or not, in the order of their identity.
    pub culprits: Vec<Culprit<'a>>,
    /// For each culprit what it took: number of the loss and packets. What several share is not among it.
    taken: Vec<Vec<(usize, u64)>>,
    /// What several may equally have taken.
    pub shared: Vec<Shared>,
    /// For each culprit whether it is among several that may equally have taken something, and whether anybody misses
    /// that.
    shares: Vec<Sharing>,
    /// For packets of flows that nobody saw die all that may have taken them, where there are several.
    either: BTreeMap<usize, Vec<usize>>,
    /// For each loss how many packets nobody took.
    pub left: Vec<u64>,
    /// For each culprit the flows in trouble that it can have harmed.
    harmed: Vec<Vec<(usize, Fit)>>,
    /// For each flow that nothing is known to have harmed: how special the most special of those that may have is.
    suspects: BTreeMap<usize, Scope>,
    /// For each symptom those that it follows from, at the end of the chain.
    roots: Vec<BTreeSet<usize>>,
    /// For each root the symptoms that follow from it.
    symptoms: BTreeMap<usize, Vec<usize>>,
    /// For each culprit whether it is to be told of.
    guilty: Vec<bool>,
}

/// What a culprit shares with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sharing {
    any: bool,
    missed: bool,
}

/// Losses are shared out in this order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Those at known places, as far as the counters go.
    Located,
    /// What is left of them, to counters that were not read at the same moment.
    Slack,
    /// Those of which only the flow is known.
    Astray,
}

/// Packets that several culprits may equally have taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The culprits.
    pub among: Vec<usize>,
    /// The loss.
    pub loss: usize,
    /// How many packets.
    pub packets: u64,
}

impl<'a> Assignment<'a> {
    /// Assigns every loss of a case.
    pub fn of(case: Case<'a>, mut culprits: Vec<Culprit<'a>>) -> Self {
        // The order of the registry decides nothing.
        culprits.sort_by(|a, b| {
            let key = |c: &Culprit<'a>| (c.scope, c.cause.id, c.space.inode());
            key(a).cmp(&key(b)).then_with(|| a.subject.cmp(&b.subject))
        });
        let edges = Edges::of(case, &culprits);
        let mut out = Self {
            case,
            taken: vec![vec![]; culprits.len()],
            shared: vec![],
            shares: vec![Sharing::default(); culprits.len()],
            either: BTreeMap::new(),
            left: case.losses.iter().map(|loss| loss.packets).collect(),
            harmed: edges.harmed,
            suspects: BTreeMap::new(),
            roots: vec![],
            symptoms: BTreeMap::new(),
            guilty: vec![false; culprits.len()],
            culprits,
        };
        out.share_out(&edges.located, Pass::Located);
        out.share_out(&edges.located, Pass::Slack);
        out.find_astray();
        let astray = edges::with_witnesses(edges.astray, &out);
        out.share_out(&astray, Pass::Astray);
        out.roots = consequences::roots(&out);
        for (symptom, roots) in out.roots.iter().enumerate() {
            for root in roots {
                out.symptoms.entry(*root).or_default().push(symptom);
            }
        }
        out.suspects = out.most_special();
        out.guilty = (0..out.culprits.len()).map(|index| out.did_harm(index)).collect();
        for (index, roots) in out.roots.iter().enumerate() {
            if out.guilty.get(index) == Some(&true) {
                for root in roots {
                    if let Some(guilty) = out.guilty.get_mut(*root) {
                        *guilty = true;
                    }
                }
            }
        }
        out
    }

    /// For each flow that nothing is known to harm the narrowest scope among those that may.
    fn most_special(&self) -> BTreeMap<usize, Scope> {
        let mut explained: BTreeSet<usize> =
            self.taken.iter().flatten().filter_map(|(loss, _)| self.case.losses.get(*loss)?.flow).collect();
        let sure = self.harmed.iter().flatten().filter(|(_, fit)| *fit == Fit::Yes);
        explained.extend(sure.map(|(flow, _)| *flow));
        let mut out = BTreeMap::new();
        for (culprit, harmed) in self.culprits.iter().zip(&self.harmed) {
            for (flow, _) in
                harmed.iter().filter(|(flow, fit)| *fit == Fit::Maybe && !explained.contains(flow))
            {
                let scope = out.entry(*flow).or_insert(culprit.scope);
                *scope = culprit.scope.min(*scope);
            }
        }
        out
    }

    /// Sends losses to culprits: those at known places first, then those of which only the flow is known. What of these
    /// is among the packets that a counter counted is no further loss.
    fn share_out(&mut self, edges: &[capacity::Edge], pass: Pass) {
        let capacities: Vec<Option<u64>> =
            (0..self.culprits.len()).map(|index| self.room(index, pass)).collect();
        let carried = capacity::maximum_flow(&self.left, &capacities, edges);
        let mut of_loss: BTreeMap<usize, Vec<(capacity::Edge, u64)>> = BTreeMap::new();
        for (edge, packets) in edges.iter().zip(&carried) {
            of_loss.entry(edge.from).or_default().push((*edge, *packets));
        }
        for (loss, edges) in of_loss {
            for (edge, packets) in edges.iter().filter(|(_, packets)| *packets > 0) {
                if let Some(left) = self.left.get_mut(loss) {
                    *left -= packets;
                }
                // Without counters, who is equally near may equally have taken them.
                let unmetered = |to: usize| capacities.get(to) == Some(&None);
                let near = edges.iter().map(|(rival, _)| rival).filter(|rival| rival.level == edge.level);
                let near: Vec<usize> = near.map(|rival| rival.to).collect();
                let rivals: Vec<usize> = near.iter().copied().filter(|rival| unmetered(*rival)).collect();
                if pass == Pass::Astray && near.len() > 1 {
                    self.either.insert(loss, near);
                }
                if !unmetered(edge.to) || rivals.len() < 2 {
                    self.take(edge.to, loss, *packets);
                } else if !self.in_proportion(loss, &rivals, *packets) {
                    self.share_among(&rivals, loss);
                    self.shared.push(Shared { among: rivals, loss, packets: *packets });
                }
            }
        }
    }

    /// What a flow misses and nobody saw die is what was seen to die where that may be harm, as far as somebody took it:
    /// the same packet is no second one.
    fn find_astray(&mut self) {
        let may_be = |loss: &usize| self.case.losses.get(*loss).filter(|loss| loss.kind == Kind::MayBeHarm);
        let taken = self.taken.iter().flatten().copied();
        let shared = self.shared.iter().map(|shared| (shared.loss, shared.packets));
        let mut found: BTreeMap<usize, u64> = BTreeMap::new();
        for (loss, packets) in taken.chain(shared) {
            if let Some(flow) = may_be(&loss).and_then(|loss| loss.flow) {
                *found.entry(flow).or_default() += packets;
            }
        }
        for (loss, left) in self.case.losses.iter().zip(&mut self.left).filter(|(loss, _)| loss.is_astray()) {
            let known = loss.flow.and_then(|flow| found.get(&flow)).copied().unwrap_or(0);
            *left = left.saturating_sub(known);
        }
    }

    fn share_among(&mut self, rivals: &[usize], loss: usize) {
        let Some(loss) = self.case.losses.get(loss) else { return };
        for rival in rivals {
            let missed = !self.is_strangers(*rival, loss);
            if let Some(sharing) = self.shares.get_mut(*rival) {
                *sharing = Sharing { any: true, missed: sharing.missed || missed };
            }
        }
    }

    /// True if it is among several that may equally have taken something.
    pub fn shares(&self, index: usize) -> bool {
        self.shares.get(index).is_some_and(|sharing| sharing.any)
    }

    fn take(&mut self, culprit: usize, loss: usize, packets: u64) {
        if let Some(taken) = self.taken.get_mut(culprit).filter(|_| packets > 0) {
            taken.push((loss, packets));
        }
    }

    /// Of drops that were only counted, the proportion of those that were sampled of the same shape holds. False if
    /// none was sampled.
    fn in_proportion(&mut self, loss: usize, rivals: &[usize], packets: u64) -> bool {
        let alike = self.case.losses.get(loss).map(|loss| loss.alike.as_slice()).unwrap_or(&[]);
        let sampled = |rival: &usize| -> u64 {
            let taken = self.taken.get(*rival).into_iter().flatten();
            taken.filter(|(other, _)| alike.contains(other)).map(|(_, n)| n).sum()
        };
        let votes: Vec<u64> = rivals.iter().map(sampled).collect();
        let all: u64 = votes.iter().sum();
        if all == 0 {
            return false;
        }
        let mut left = packets;
        for (rival, vote) in rivals.iter().zip(&votes) {
            let share = u128::from(packets) * u128::from(*vote) / u128::from(all);
            let share = u64::try_from(share).unwrap_or(packets).min(left);
            self.take(*rival, loss, share);
            left -= share;
        }
        if let Some(most) = rivals.iter().zip(&votes).max_by_key(|(_, vote)| **vote).map(|(rival, _)| *rival)
        {
            self.take(most, loss, left);
        }
        true
    }

    /// All that may have taken a packet of a flow that nobody saw die, if there are several.
    pub fn either(&self, loss: usize) -> Option<&[usize]> {
        self.either.get(&loss).map(Vec::as_slice)
    }

    /// How many packets a culprit can take; none: without limit.
    fn room(&self, index: usize, pass: Pass) -> Option<u64> {
        let meter = self.culprits.get(index)?.meter.as_ref()?;
        if meter.count == Count::AtLeast {
            return None;
        }
        let moved = meter.count == Count::Exact && meter.packets > 0;
        let slack = if moved { SLACK.max(meter.packets / SLACK_SHARE) } else { 0 };
        // Of a flow's packets those that were seen to die here are known already.
        let known = || self.taken_by(index).filter(|(loss, _)| loss.flow.is_some()).map(|(_, n)| n).sum();
        Some(match pass {
            Pass::Located => meter.packets,
            Pass::Slack => slack,
            Pass::Astray => meter.packets.saturating_sub(known()) + slack,
        })
    }

    /// What a culprit took for certain.
    pub fn taken_by(&self, index: usize) -> impl Iterator<Item = (&'a Loss<'a>, u64)> + '_ {
        let taken = self.taken.get(index).into_iter().flatten();
        taken.filter_map(|(loss, packets)| Some((self.case.losses.get(*loss)?, *packets)))
    }

    /// What a culprit took, alone or perhaps.
    fn took_any(&self, index: usize) -> bool {
        self.taken.get(index).is_some_and(|taken| !taken.is_empty()) || self.shares(index)
    }

    /// Packets that it took and that nobody in view misses.
    pub fn strangers(&self, index: usize) -> u64 {
        self.taken_by(index).filter(|(loss, _)| self.is_strangers(index, loss)).map(|(_, n)| n).sum()
    }

    /// True if it kept strangers out, and took nothing else that was seen.
    pub fn does_its_duty(&self, index: usize) -> bool {
        let missed = self.taken_by(index).any(|(loss, _)| !self.is_strangers(index, loss));
        let missed = missed || self.shares.get(index).is_some_and(|sharing| sharing.missed);
        !missed && self.strangers(index) > 0
    }

    /// True if nobody in view misses what this culprit took.
    fn is_strangers(&self, index: usize, loss: &Loss<'_>) -> bool {
        let Some(culprit) = self.culprits.get(index) else { return false };
        let dutiful = culprit.duty.is_some() && loss.standing == Standing::Stranger;
        dutiful || (culprit.innocent && loss.flow.is_none())
    }

    /// Packets of its own that are charged to a culprit; none if they cannot be counted.
    pub fn packets(&self, index: usize) -> Option<u64> {
        let culprit = self.culprits.get(index)?;
        let (mut events, mut unseen, mut astray) = (0, 0, 0);
        for (loss, packets) in self.taken_by(index).filter(|(loss, _)| !self.is_strangers(index, loss)) {
            match (loss.is_astray(), loss.event.is_some() && loss.kind != Kind::MayBeHarm) {
                (true, _) => astray += packets,
                (false, seen) => {
                    events += packets;
                    unseen += if seen { 0 } else { packets };
                }
            }
        }
        match &culprit.meter {
            Some(meter) if meter.count == Count::Exact => {
                Some(meter.packets.saturating_sub(self.strangers(index)))
            }
            Some(meter) if meter.count == Count::AtLeast => Some(meter.packets.max(events).max(astray)),
            // A packet of a flow that nobody saw die may be among the drops that were only counted.
            _ if events + astray > 0 => Some(events + astray.saturating_sub(unseen)),
            _ => None,
        }
    }

    /// What to call the number of [`Assignment::packets`].
    pub fn counted_by(&self, index: usize) -> Option<String> {
        let meter = self.culprits.get(index)?.meter.as_ref();
        if let Some(meter) = meter.filter(|meter| meter.count != Count::AtMost) {
            return Some(meter.source.clone());
        }
        let mut sources = BTreeSet::new();
        for (loss, _) in self.taken_by(index) {
            sources.insert(source_of(loss));
        }
        (!sources.is_empty()).then(|| sources.into_iter().collect::<Vec<_>>().join(", "))
    }

    /// Flows in trouble that a culprit can have harmed, or whose packets it took.
    pub fn flows_of(&self, index: usize) -> BTreeSet<usize> {
        let harmed = self.harmed.get(index).into_iter().flatten();
        let sure = harmed.filter(|(flow, fit)| *fit == Fit::Yes || self.is_suspect(index, *flow));
        let sure = sure.map(|(flow, _)| *flow);
        sure.chain(self.taken_by(index).filter_map(|(loss, _)| loss.flow)).collect()
    }

    /// True if nothing is known to harm the flow, and of those that may this one is among the most special.
    fn is_suspect(&self, index: usize, flow: usize) -> bool {
        let scope = self.culprits.get(index).map(|culprit| culprit.scope);
        scope.is_some() && self.suspects.get(&flow).copied() == scope
    }

    /// True if it cost something that counts by itself.
    fn did_harm(&self, index: usize) -> bool {
        let Some(culprit) = self.culprits.get(index) else { return false };
        let ended =
            |flow: usize| self.case.flows.get(flow).is_some_and(|flow| edges::ends_all(culprit, flow));
        let idle =
            culprit.stood_still() && !self.took_any(index) && !self.flows_of(index).into_iter().any(ended);
        let target = culprit.space.is_target() || culprit.concerns;
        // What is a fault by itself is none the less one because only strangers' packets met it.
        let whole = culprit.by_itself && target;
        if idle || (!whole && self.does_its_duty(index) && self.flows_of(index).is_empty()) {
            return false;
        }
        let moved =
            culprit.meter.as_ref().is_some_and(|meter| meter.packets > 0 && meter.count != Count::AtMost);
        let counted = moved && !culprit.needs_harm;
        let asked = whole || (target && (counted || self.took_any(index)));
        asked || !self.flows_of(index).is_empty() || self.took_any(index)
    }

    /// All that took something, alone or perhaps; of symptoms their roots.
    pub fn takers(&self) -> impl Iterator<Item = &Culprit<'a>> {
        let took = (0..self.culprits.len()).filter(|index| self.took_any(*index));
        let ends: BTreeSet<usize> = took
            .flat_map(|index| {
                let roots = self.root_of(index);
                if roots.is_empty() { BTreeSet::from([index]) } else { roots.clone() }
            })
            .collect();
        ends.into_iter().filter_map(|index| self.culprits.get(index))
    }

    /// Those that a symptom follows from, at the end of the chain; empty for one that is its own root.
    pub fn root_of(&self, index: usize) -> &BTreeSet<usize> {
        const NONE: &BTreeSet<usize> = &BTreeSet::new();
        self.roots.get(index).unwrap_or(NONE)
    }

    /// True if it is to be told of.
    pub fn is_guilty(&self, index: usize) -> bool {
        self.guilty.get(index) == Some(&true)
    }

    /// Guilty ones that follow from nothing else.
    pub fn roots(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.culprits.len()).filter(|index| self.is_guilty(*index) && self.root_of(*index).is_empty())
    }

    /// Symptoms that follow from this one.
    pub fn symptoms_of(&self, index: usize) -> impl Iterator<Item = usize> + '_ {
        let symptoms = self.symptoms.get(&index).into_iter().flatten().copied();
        symptoms.filter(|other| self.is_guilty(*other))
    }

    /// Its share, for its story.
    pub fn share(&self, index: usize) -> Share<'a, 'a> {
        let flows = self.flows_of(index).into_iter().filter_map(|flow| self.case.flows.get(flow)).collect();
        Share { packets: self.packets(index), losses: self.taken_by(index).collect(), flows }
    }
}

/// What counted a loss.
pub fn source_of(loss: &Loss<'_>) -> &'static str {
    match (loss.is_astray(), loss.count.is_some() || loss.event.is_some()) {
        (true, _) => crate::tell::BY_FLOWS,
        (false, true) => crate::tell::BY_EVENTS,
        (false, false) => crate::loss::FRAMES,
    }
}
