//! `whydrop watch` without its terminal: what was seen round after round, what the keys do, and the lines of a screen.
//!
//! Pure: time comes in with each round and each key, so every screen can be drawn in a test.

mod changes;
mod detail;
mod keys;
mod screen;
mod tracked;

pub use changes::{Changed, Moment};
pub use keys::{Ask, Key};
pub use screen::{Line, Tone};

use crate::stat::Row;
use std::collections::{BTreeMap, VecDeque};
use tracked::Tracked;
use whydrop_model::{Lang, Report, Verdict};

/// Seconds between two orders of the list: a row must not run away from the eye.
const ORDER_EVERY: u64 = 5;
/// Seconds after a key in which nothing moves.
const STILL: u64 = 3;
/// Changes that are kept.
const MOST_CHANGES: usize = 500;
/// Dropped packets that are shown.
const MOST_DROPS: usize = 200;
/// Causes that are kept apart; of more, those that were not seen for the longest time are only counted.
const MOST_CAUSES: usize = 200;
/// Conversations and notes of a round that one can only go back to.
const MOST_ROWS: usize = 30;

/// What one window gave.
#[derive(Clone, Debug)]
pub struct Round {
    /// Local time of its end: `12:00:41`.
    pub at: String,
    /// Seconds since the first round began.
    pub second: u64,
    /// When it began.
    pub began: Moment,
    /// When it ended, CLOCK_REALTIME in nanoseconds.
    pub ended_ns: u64,
    /// What was concluded.
    pub report: Report,
    /// The table of `stat`.
    pub counters: Vec<Row>,
    /// Dropped packets, a line each, the last one last.
    pub drops: Vec<String>,
    /// The first harmful one at each stage of each target, by the target's id and the stage.
    pub first_drops: BTreeMap<(String, String), Moment>,
    /// What was changed on the machine since the round before.
    pub changes: Vec<Changed>,
}

impl Round {
    /// Leaves out what only the last round shows, for there are many that one can go back to.
    fn slim(&mut self) {
        let report = &mut self.report;
        report.history = vec![];
        report.coverage.retain(screen::is_shown_later);
        report.coverage.shrink_to_fit();
        for finding in &mut report.findings {
            finding.evidence = vec![];
            finding.explains = vec![];
        }
        first_rows(&mut report.flows);
        first_rows(&mut report.notes);
        first_rows(&mut self.counters);
    }
}

/// The rest gives its room back, too.
fn first_rows<T>(rows: &mut Vec<T>) {
    rows.truncate(MOST_ROWS);
    rows.shrink_to_fit();
}

/// Which screen is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Now,
    Way,
    Drops,
    Counters,
    Flows,
    Changes,
    Cause,
    Fix,
    Explain,
    Keys,
}

impl View {
    const ALL: [Self; 6] = [Self::Now, Self::Way, Self::Drops, Self::Counters, Self::Flows, Self::Changes];
}

/// How the list of causes is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// What took most in the last minute.
    Lately,
    /// What took most since the begin.
    Lost,
    /// By name.
    Place,
}

/// All that the screens show.
#[derive(Debug)]
pub struct Watch {
    lang: Lang,
    names: String,
    kept: usize,
    rounds: VecDeque<Round>,
    causes: Vec<Tracked>,
    /// Packets of causes that are not kept apart any more.
    older: u64,
    unexplained: u64,
    changes: VecDeque<Changed>,
    /// Time of the last zero, and how long it was watched since.
    since: String,
    watched: f64,
    view: View,
    /// Identity of the cause under the cursor.
    cursor: Option<tracked::Identity>,
    /// Lines by which the list is scrolled.
    scroll: usize,
    /// How many rounds back, if held.
    held: Option<usize>,
    order: Order,
    ordered_at: u64,
    key_at: Option<u64>,
    /// Only lines with this in them.
    filter: String,
    /// What is typed of a new one.
    typing: Option<String>,
    /// Only this target.
    target: Option<String>,
    message: Option<String>,
    /// Local time.
    now: Option<String>,
}

impl Watch {
    /// An empty one for targets of these names; `kept` rounds can be gone back to.
    pub fn new(names: String, kept: usize, lang: Lang) -> Self {
        Self {
            lang,
            names,
            kept: kept.max(1),
            rounds: VecDeque::new(),
            causes: vec![],
            older: 0,
            unexplained: 0,
            changes: VecDeque::new(),
            since: String::new(),
            watched: 0.0,
            view: View::Now,
            cursor: None,
            scroll: 0,
            held: None,
            order: Order::Lately,
            ordered_at: 0,
            key_at: None,
            filter: String::new(),
            typing: None,
            target: None,
            message: None,
            now: None,
        }
    }

    /// Takes a round in.
    pub fn push(&mut self, round: Round) {
        if self.since.is_empty() {
            self.since.clone_from(&round.at);
        }
        self.watched += round.report.window_seconds;
        self.changes.extend(round.changes.iter().cloned());
        let over = self.changes.len().saturating_sub(MOST_CHANGES);
        self.changes.drain(..over);
        self.unexplained = self.unexplained.saturating_add(round.report.ledger.unexplained);
        if let Some(last) = self.rounds.back_mut() {
            last.slim();
        }
        self.rounds.push_back(round);
        if self.rounds.len() > self.kept {
            self.rounds.pop_front();
        }
        if let Some(held) = &mut self.held {
            *held = (*held + 1).min(self.rounds.len() - 1);
        }
        self.track();
    }

    /// Charges the last round's packets to causes that are known again.
    fn track(&mut self) {
        let Self { rounds, causes, changes, .. } = self;
        let (Some(oldest), Some(round)) = (rounds.front().map(|r| r.second), rounds.back()) else { return };
        let (second, report) = (round.second, &round.report);
        for (index, finding) in report.findings.iter().enumerate() {
            let charged = report.ledger.entries.iter().filter(|entry| entry.finding == Some(index));
            let packets: u64 = charged.map(|entry| entry.packets).sum();
            let identity = tracked::Identity::of(finding);
            let at = causes.iter().position(|cause| cause.identity == identity).unwrap_or_else(|| {
                causes.push(Tracked::new(identity, report, finding));
                causes.len() - 1
            });
            if let Some(cause) = causes.get_mut(at) {
                cause.see(round, index, packets, changes.iter());
            }
        }
        causes.iter_mut().for_each(|cause| cause.age(oldest));
        while causes.len() > MOST_CAUSES {
            let last =
                causes.iter().enumerate().min_by_key(|(_, cause)| cause.seen_at).map(|(index, _)| index);
            let Some(last) = last else { break };
            self.older = self.older.saturating_add(causes.remove(last).lost);
        }
        let still = self.key_at.is_some_and(|at| second < at + STILL);
        if second >= self.ordered_at + ORDER_EVERY && !still || self.ordered_at == 0 {
            self.ordered_at = second.max(1);
            self.sort();
        }
        if self.cursor.is_none() {
            self.cursor = self.causes.first().map(|cause| cause.identity.clone());
        }
    }

    fn sort(&mut self) {
        let second = self.rounds.back().map_or(0, |round| round.second);
        let most = std::cmp::Reverse::<(bool, u64)>;
        match self.order {
            Order::Lately => self.causes.sort_by_key(|c| most((c.is_fresh(second), c.lately(second)))),
            Order::Lost => self.causes.sort_by_key(|c| most((true, c.lost))),
            Order::Place => self.causes.sort_by(|a, b| a.place.cmp(&b.place)),
        }
    }

    /// Tells the local time, for the head: a round takes longer where nothing happens.
    pub fn tick(&mut self, now: String) {
        self.now = Some(now);
    }

    /// Says something in the last line until the next key.
    pub fn tell(&mut self, message: String) {
        self.message = Some(message);
    }

    /// Causes that are listed, in their order, each with its number.
    fn listed(&self) -> Vec<(usize, &Tracked)> {
        let second = self.second();
        let all = self.causes.iter().enumerate().map(|(index, cause)| (index + 1, cause));
        all.filter(|(_, cause)| {
            cause.is_known_at(second)
                && self.target.as_ref().is_none_or(|target| cause.target == *target)
                && self.passes(&format!("{} {}", cause.place, cause.cause))
        })
        .collect()
    }

    /// True if the filter lets a line pass.
    fn passes(&self, line: &str) -> bool {
        self.filter.is_empty() || line.to_lowercase().contains(&self.filter.to_lowercase())
    }

    /// The cause under the cursor, which follows it wherever the list puts it; else the first that is listed.
    fn selected(&self) -> Option<(usize, &Tracked)> {
        let listed = self.listed();
        let wanted = self.cursor.as_ref();
        let chosen = listed.iter().find(|(_, cause)| Some(&cause.identity) == wanted);
        chosen.or(listed.first()).copied()
    }

    /// Counts from zero again; nothing in the kernel is touched.
    fn zero(&mut self) {
        self.causes.clear();
        self.cursor = None;
        (self.older, self.unexplained, self.watched) = (0, 0, 0.0);
        self.held = None;
        self.since = self.rounds.back().map(|round| round.at.clone()).unwrap_or_default();
    }

    /// The round that is shown: the last one, or the one that is held.
    fn shown(&self) -> Option<&Round> {
        let back = self.held.unwrap_or(0);
        self.rounds.len().checked_sub(back + 1).and_then(|index| self.rounds.get(index))
    }

    /// Second of its end.
    fn second(&self) -> u64 {
        self.shown().map_or(0, |round| round.second)
    }

    /// Rounds up to the one that is shown, the last first.
    fn until_shown(&self) -> impl Iterator<Item = &Round> {
        self.rounds.iter().rev().skip(self.held.unwrap_or(0))
    }

    /// Packets lost since the begin or the last zero, up to the round that is shown.
    pub fn lost(&self) -> u64 {
        let second = self.second();
        let causes = self.causes.iter().map(|cause| cause.lost_at(second)).sum::<u64>();
        causes.saturating_add(self.older).saturating_add(self.unexplained_then())
    }

    /// Of them without a known cause.
    fn unexplained_then(&self) -> u64 {
        let later = self.rounds.iter().rev().take(self.held.unwrap_or(0));
        self.unexplained.saturating_sub(later.map(|round| round.report.ledger.unexplained).sum())
    }

    fn verdict(&self) -> Verdict {
        match self.shown() {
            Some(round) => round.report.verdict,
            None => Verdict::Inconclusive,
        }
    }
}

#[cfg(test)]
mod tests;
