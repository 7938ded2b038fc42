//! A cause over many rounds.

use super::Round;
use super::changes::{self, Changed, Onset};
use crate::layout::name;
use crate::text::{fix_lines, target_name, undo_lines};
use std::collections::VecDeque;
use whydrop_model::{Applicability, Finding, Phrase, Report};

/// Seconds that a place which loses no more stays among those that do.
const FRESH: u64 = 60;
/// Seconds that the strip shows.
const STRIP: u64 = 60;
/// A loss that comes back after so many seconds has begun anew.
const PAUSE: u64 = 10;

/// By what a cause is known again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    cause: String,
    target: String,
    thing: String,
}

impl Identity {
    pub fn of(finding: &Finding) -> Self {
        Self {
            cause: finding.cause.clone(),
            target: finding.target.clone(),
            thing: finding.exhibit.clone().unwrap_or_else(|| finding.subject.clone()),
        }
    }
}

/// A fix, to be read: nothing here can be run.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub title: Phrase,
    pub applicability: Option<Applicability>,
    pub commands: Vec<String>,
    pub undo: Vec<String>,
    pub caution: Option<Phrase>,
}

/// A round in which a cause was seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Second of its end.
    second: u64,
    packets: u64,
    /// Packets per second; none if they cannot be counted.
    rate: Option<f64>,
}

/// A cause with what it took so far.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub identity: Identity,
    /// Cause id.
    pub cause: String,
    /// Name of the target.
    pub target: String,
    /// Word that leads to the target, for commands.
    pub word: String,
    /// Target and thing.
    pub place: String,
    pub summary: Phrase,
    pub explanation: Phrase,
    /// Packets since the begin; what cannot be counted is none of them.
    pub lost: u64,
    pub seen_at: u64,
    /// Time at which it began, the last time.
    pub began: Onset,
    /// What was changed shortly before.
    pub suspects: Vec<Changed>,
    /// Its first fix.
    pub fix: Plan,
    /// One entry for each round in which it was seen, as far as one can go back.
    history: VecDeque<Seen>,
}

impl Tracked {
    pub fn new(identity: Identity, report: &Report, finding: &Finding) -> Self {
        Self {
            identity,
            cause: name(&finding.cause),
            target: target_name(report, &finding.target),
            word: name(&finding.target),
            place: place(report, finding),
            summary: finding.summary.clone(),
            explanation: finding.explanation.clone(),
            lost: 0,
            seen_at: 0,
            began: Onset::default(),
            suspects: vec![],
            fix: Plan::default(),
            history: VecDeque::new(),
        }
    }

    /// Seen in a round, in which it took `packets`.
    pub fn see<'a>(
        &mut self,
        round: &Round,
        index: usize,
        packets: u64,
        changed: impl Iterator<Item = &'a Changed>,
    ) {
        let report = &round.report;
        let Some(finding) = report.findings.get(index) else { return };
        let begins = self.history.is_empty() || round.second > self.seen_at + PAUSE;
        if begins {
            self.began = changes::onset(round, finding);
        }
        if begins || changes::tells_more(round, &self.began) {
            self.suspects = changes::suspects(changed, &self.began, &self.target);
        }
        self.place = place(report, finding);
        self.summary = finding.summary.clone();
        self.lost = self.lost.saturating_add(packets);
        let id = whydrop_model::report::finding_id(index);
        let counted =
            finding.packets_lost.is_some() || report.ledger.entries.iter().any(|e| e.one_of.contains(&id));
        let rate = counted.then(|| packets as f64 / report.window_seconds.max(f64::EPSILON));
        self.seen_at = round.second;
        self.fix = plan(report, finding);
        self.history.push_back(Seen { second: round.second, packets, rate });
    }

    /// Forgets what is before `oldest`, to which nobody can go back.
    pub fn age(&mut self, oldest: u64) {
        while self.history.front().is_some_and(|seen| seen.second < oldest) {
            self.history.pop_front();
        }
    }

    /// Packets up to the end of a round.
    pub fn lost_at(&self, second: u64) -> u64 {
        let later = self.history.iter().filter(|seen| seen.second > second).map(|seen| seen.packets);
        self.lost.saturating_sub(later.sum())
    }

    /// True if it was seen up to the end of a round.
    pub fn is_known_at(&self, second: u64) -> bool {
        self.history.front().is_none_or(|seen| seen.second <= second) || self.lost_at(second) > 0
    }

    /// Packets per second in a round; none if they cannot be counted.
    pub fn rate_at(&self, second: u64) -> Option<f64> {
        match self.history.iter().find(|seen| seen.second == second) {
            Some(seen) => seen.rate,
            None => self.history.back().and_then(|seen| seen.rate).map(|_| 0.0),
        }
    }

    /// Packets of the minute before.
    pub fn lately(&self, second: u64) -> u64 {
        let minute =
            self.history.iter().filter(|seen| seen.second + STRIP >= second && seen.second <= second);
        minute.map(|seen| seen.packets).sum()
    }

    pub fn is_fresh(&self, second: u64) -> bool {
        second <= self.seen_at + FRESH
    }

    /// The minute before in `columns` signs: blank, `.`, `:` and `|` by what was lost.
    pub fn strip(&self, second: u64, columns: usize) -> String {
        let mut cells = vec![0u64; columns];
        for seen in self.history.iter().filter(|seen| seen.second <= second) {
            let back = ((second - seen.second) * columns as u64 / STRIP) as usize;
            if let Some(cell) = columns.checked_sub(back + 1).and_then(|index| cells.get_mut(index)) {
                *cell += seen.packets;
            }
        }
        let most = cells.iter().copied().max().unwrap_or(0);
        let sign = |n: u64| match n * 3 {
            0 => ' ',
            n if n <= most => '.',
            n if n <= most * 2 => ':',
            _ => '|',
        };
        cells.into_iter().map(sign).collect()
    }
}

fn place(report: &Report, finding: &Finding) -> String {
    format!("{} {}", target_name(report, &finding.target), name(&finding.subject))
}

fn plan(report: &Report, finding: &Finding) -> Plan {
    let Some(fix) = finding.fixes.first() else { return Plan::default() };
    Plan {
        title: fix.title.clone(),
        applicability: Some(fix.applicability),
        commands: fix_lines(report, fix).unwrap_or_else(|why| vec![why.en]),
        undo: undo_lines(report, fix).and_then(Result::ok).unwrap_or_default(),
        caution: fix.caution.clone(),
    }
}
