//! The looking behind the view: one observation after the other on a thread of its own, and the recorder of changes.

use crate::command::judging::judge_apart;
use crate::failure::Refusal;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use whydrop_checks::live;
use whydrop_facts::{Class, place};
use whydrop_host::changes::Recorder;
use whydrop_host::observe::{Observer, Plan, Progress};
use whydrop_host::targets::{self, Found};
use whydrop_model::shell::sanitize;
use whydrop_model::{Change, DropCount, DropEvent, Observation, Verdict, text};
use whydrop_report::stat;
use whydrop_report::watch::{Changed, Moment, Round};

/// Rounds that may wait for a view that is busy.
const WAITING: usize = 4;
/// Dropped packets of one round that are told.
const DROPS: usize = 20;
/// Where nothing is lost and nothing was changed, a round takes so long: it ends with the first sign of trouble, and looking
/// costs more than waiting.
const QUIET: Duration = Duration::from_secs(10);
/// Rounds after a change in which it may still show what it did.
const ALERT: u64 = 5;
/// Lengths of a round, in milliseconds, that one can choose from.
const LENGTHS: [u64; 7] = [250, 500, 1000, 2000, 5000, 10_000, 30_000];

/// A thread that looks.
pub struct Looking {
    rounds: Receiver<whydrop_host::error::Result<Round>>,
    last: Arc<Mutex<Option<Observation>>>,
    /// Milliseconds of a round.
    window: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Looking {
    /// Starts it.
    pub fn start(found: Found, window: Duration, keep: Duration, trace: bool) -> Result<Self> {
        let plan = Plan {
            targets: found.resolved,
            missing: found.missing,
            from: targets::host()?,
            window,
            probes: vec![],
            passive: true,
            trace,
            engines: found.engines,
            calls: false,
        };
        let (sender, rounds) = sync_channel(WAITING);
        let last = Arc::new(Mutex::new(None));
        let stop = Arc::new(AtomicBool::new(false));
        let window = Arc::new(AtomicU64::new(u64::try_from(window.as_millis()).unwrap_or(u64::MAX)));
        let shared = (Arc::clone(&last), Arc::clone(&window), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .spawn(move || look(plan, keep, &sender, &shared.0, &shared.1, &shared.2))
            .context(Refusal::new(text!("cannot start the thread that looks", "无法启动观察线程")))?;
        Ok(Self { rounds, last, window, stop, thread })
    }

    /// The next round, if one has ended.
    pub fn next(&self) -> Result<Option<Round>> {
        match self.rounds.try_recv() {
            Ok(Ok(round)) => Ok(Some(round)),
            Ok(Err(error)) => Err(error.into()),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => {
                Err(Refusal::new(text!("the thread that looks has ended", "观察线程已退出")).into())
            }
        }
    }

    /// Looks more often from the next round on, or less often; gives the new length of a round.
    pub fn change_window(&self, faster: bool) -> Duration {
        let now = self.window.load(Ordering::Relaxed);
        let next = match faster {
            true => LENGTHS.into_iter().rev().find(|length| *length < now),
            false => LENGTHS.into_iter().find(|length| *length > now),
        };
        let next = next.unwrap_or(now);
        self.window.store(next, Ordering::Relaxed);
        Duration::from_millis(next)
    }

    /// Does something with the last observation, which comes back; none if there is none yet.
    pub fn with_last<E>(
        &self,
        work: impl FnOnce(Observation) -> std::result::Result<Observation, E>,
    ) -> Option<std::result::Result<(), E>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match work(last.take()?) {
            Ok(back) => {
                *last = Some(back);
                Some(Ok(()))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Ends it, in the middle of a window.
    pub fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.rounds);
        // What a panic said stands on the screen already.
        self.thread.join().ok();
    }
}

/// The thread.
fn look(
    mut plan: Plan,
    keep: Duration,
    rounds: &SyncSender<whydrop_host::error::Result<Round>>,
    last: &Mutex<Option<Observation>>,
    window: &AtomicU64,
    stop: &AtomicBool,
) {
    let began = Instant::now();
    let recorder = match Recorder::start(&plan, keep) {
        Ok(recorder) => recorder,
        Err(error) => {
            // Nobody waits for it if the view has ended.
            rounds.try_send(Err(error)).ok();
            return;
        }
    };
    let mut untold: Vec<Changed> = vec![];
    let mut alert = ALERT;
    let mut observer = Observer::default();
    while !stop.load(Ordering::Relaxed) {
        let usual = Duration::from_millis(window.load(Ordering::Relaxed));
        plan.window = if alert > 0 { usual } else { usual.max(QUIET) };
        let over = AtomicBool::new(false);
        let seen = observer.observe(&plan, &over, &|at| {
            let usual = Duration::from_millis(window.load(Ordering::Relaxed));
            let disturbed = || is_trouble(at, &plan) || recorder.has_fresh();
            if stop.load(Ordering::Relaxed) || (at.elapsed >= usual && disturbed()) {
                over.store(true, Ordering::Relaxed);
            }
        });
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let sent = seen.and_then(|mut observation| {
            recorder.look(&observation);
            observation.history = recorder.history();
            observation.unheard = recorder.unheard();
            let ended = jiff::Timestamp::now();
            let fresh = recorder.fresh();
            alert = if fresh.is_empty() { alert.saturating_sub(1) } else { ALERT };
            untold.extend(fresh.iter().map(|change| changed(&observation, change)));
            let round = round(&observation, std::mem::take(&mut untold), ended, began.elapsed().as_secs());
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(observation);
            round
        });
        if sent.as_ref().is_ok_and(|round| round.report.verdict == Verdict::Loss) {
            alert = ALERT;
        }
        let failed = sent.is_err();
        match rounds.try_send(sent) {
            // A view that does not take its rounds loses them rather than memory; what was changed is told by the next.
            Err(TrySendError::Full(Ok(lost))) => untold = lost.changes,
            Ok(()) | Err(TrySendError::Full(Err(_))) => {}
            Err(TrySendError::Disconnected(_)) => return,
        }
        if failed {
            return;
        }
    }
}

fn round(
    observation: &Observation,
    changes: Vec<Changed>,
    ended: jiff::Timestamp,
    second: u64,
) -> whydrop_host::error::Result<Round> {
    let mut counters = stat::of_observation(observation);
    counters.retain(stat::Row::matters);
    let began: Option<jiff::Timestamp> = observation.started_at.parse().ok();
    Ok(Round {
        report: judge_apart(observation)?,
        counters,
        drops: drops(observation),
        first_drops: first_drops(observation),
        changes,
        ended_ns: moment(ended).realtime_ns,
        began: began.map(moment).unwrap_or_default(),
        at: clock(ended, "%H:%M:%S"),
        second,
    })
}

/// True if packets were dropped that somebody may miss, or a conversation is in trouble.
fn is_trouble(at: &Progress, plan: &Plan) -> bool {
    let harm = |count: &DropCount| !matches!(place::of_count(count).class, Class::Benign | Class::NotADrop);
    let by_inode = |inode| plan.targets.iter().map(|t| &t.target).find(|t| t.netns_inode == inode);
    at.drops.iter().any(harm) || at.flows.as_ref().is_some_and(|log| !live::flows(log, by_inode).is_empty())
}

fn clock(at: jiff::Timestamp, format: &str) -> String {
    at.to_zoned(jiff::tz::TimeZone::system()).strftime(format).to_string()
}

fn moment(at: jiff::Timestamp) -> Moment {
    let realtime_ns = u64::try_from(at.as_nanosecond()).unwrap_or(0);
    Moment { at: clock(at, "%H:%M:%S%.3f"), realtime_ns }
}

fn moment_of(realtime_ns: u64) -> Moment {
    let at = jiff::Timestamp::from_nanosecond(i128::from(realtime_ns));
    at.map_or_else(|_| Moment { at: "-".to_owned(), realtime_ns }, moment)
}

fn changed(observation: &Observation, change: &Change) -> Changed {
    let target = observation.namespaces.iter().find(|n| n.target.id == change.target);
    let target = target.map_or(change.target.as_str(), |n| n.target.name.as_str());
    Changed {
        when: moment_of(change.realtime_ns),
        announced: change.announced,
        not_before_ns: change.not_before_ns.unwrap_or(change.realtime_ns),
        target: sanitize(target, 80),
        what: change.sentence(),
    }
}

fn is_harmful(event: &&DropEvent) -> bool {
    !matches!(place::of_event(event).class, Class::Benign | Class::NotADrop)
}

/// The first harmful drop at each stage of each target.
fn first_drops(observation: &Observation) -> BTreeMap<(String, String), Moment> {
    let mut first: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for event in observation.drops.get().into_iter().flat_map(|log| &log.sampled).filter(is_harmful) {
        let namespace =
            observation.namespaces.iter().find(|n| Some(n.target.netns_inode) == event.netns_inode);
        if let Some(namespace) = namespace {
            let stage = place::of_event(event).stage;
            let at = first.entry((&namespace.target.id, stage)).or_insert(u64::MAX);
            *at = event.realtime_ns.min(*at);
        }
    }
    let owned = |(target, stage): (&str, &str)| (target.to_owned(), stage.to_owned());
    first.into_iter().map(|(place, at)| (owned(place), moment_of(at))).collect()
}

/// The last harmful drops of the round, a line each.
fn drops(observation: &Observation) -> Vec<String> {
    let sampled = observation.drops.get().map(|log| log.sampled.as_slice()).unwrap_or_default();
    let harmful: Vec<&DropEvent> = sampled.iter().filter(is_harmful).collect();
    let first = harmful.len().saturating_sub(DROPS);
    harmful.iter().skip(first).map(|event| line(observation, event)).collect()
}

fn line(observation: &Observation, event: &DropEvent) -> String {
    let nanos = i128::from(event.realtime_ns);
    let at = jiff::Timestamp::from_nanosecond(nanos).map_or_else(
        |_| "-".to_owned(),
        |at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S%.3f").to_string(),
    );
    let target = observation.namespaces.iter().find(|n| Some(n.target.netns_inode) == event.netns_inode);
    let target = target.map_or("-", |n| n.target.name.as_str());
    let place = place::of_event(event);
    let ends = match (event.source, event.destination) {
        (Some(from), Some(to)) => format!("{from} > {to}"),
        _ => String::new(),
    };
    let (interface, class) = (event.interface.as_deref().unwrap_or("-"), place.class.word());
    format!(
        "{at} {} {target}/{interface} {} {} {ends}",
        class.get(crate::settings::lang()),
        place.stage,
        event.reason
    )
}
