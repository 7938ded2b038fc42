//! The recorder of what is changed on a machine: interfaces, addresses, routes, policy rules, queues, packet filters,
//! settings, containers.
//!
//! What the kernel announces is told with its time, and where it says so with the process that did it. What it does
//! not announce (settings, the older iptables, what was thrown away in a storm) is found by comparing looks.

mod ear;
mod state;
mod things;
mod who;

use crate::containers;
use crate::error::{Error, Result};
use crate::observe::{self, Plan};
use crate::{collect, sys::netns::Netns, targets};
use ear::{Ear, Found};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use whydrop_model::{Bounded, Change, Observation, Phrase, Reading, Role, Target, Unheard, text};

/// Changes that are kept, whatever is asked for.
const MOST: usize = 2000;
/// How often a thread looks whether it shall end.
const TICK: Duration = Duration::from_millis(250);
/// How often the containers are compared: it asks every engine.
const CONTAINERS_EVERY: Duration = Duration::from_secs(3);
/// What an engine may take for that.
const PATIENCE: Duration = Duration::from_millis(500);

/// A running recorder. Dropping it ends it.
#[derive(Debug)]
pub struct Recorder {
    heard: Arc<Mutex<All>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What was heard.
#[derive(Debug)]
struct All {
    ears: Vec<Ear>,
    kept: VecDeque<Change>,
    /// Changes at the end of `kept` that nobody has taken yet.
    fresh: usize,
    /// Some are not kept.
    more: bool,
    /// How long they are kept, in nanoseconds.
    keep: u64,
    /// Engines that did not tell of their containers when they were asked last, with the reason.
    silent: Vec<(String, Reading<()>)>,
}

impl Recorder {
    /// Opens an ear in each namespace of `plan`, reads what there is, and listens from then on. What was changed longer
    /// than `keep` ago is forgotten.
    pub fn start(plan: &Plan, keep: Duration) -> Result<Self> {
        let places = observe::places(plan)?;
        let netns = places.iter().map(|(_, netns)| netns.try_clone()).collect::<Result<Vec<_>>>()?;
        let mut ears = Ear::open_all(places.into_iter().map(|(target, netns)| (target.id, netns)).collect());
        let netns: Vec<&Netns> = netns.iter().collect();
        let first = collect::snapshots(&netns, &collect::Context::read(&netns));
        for (ear, snapshot) in ears.iter_mut().zip(&first) {
            snapshot.get().into_iter().for_each(|snapshot| drop(ear.look(snapshot)));
        }
        let keep = u64::try_from(keep.as_nanos()).unwrap_or(u64::MAX);
        let all = All { ears, kept: VecDeque::new(), fresh: 0, more: false, keep, silent: vec![] };
        let heard = Arc::new(Mutex::new(all));
        let stop = Arc::new(AtomicBool::new(false));
        let mut out = Self { heard, stop, threads: vec![] };
        out.spawn(listen)?;
        out.spawn(compare_containers)?;
        Ok(out)
    }

    fn spawn(&mut self, work: impl FnOnce(&Mutex<All>, &AtomicBool) + Send + 'static) -> Result<()> {
        let (heard, stop) = (Arc::clone(&self.heard), Arc::clone(&self.stop));
        let thread = std::thread::Builder::new().spawn(move || work(&heard, &stop)).map_err(|error| {
            Error::io(text!("start {object}", "启动{object}"), text!("a thread", "线程"), &error)
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Compares the end of an observation with what is known, for what nobody announced. An ear follows its namespaces:
    /// one that is not observed any more is let go, for an open socket would keep it alive.
    pub fn look(&self, observation: &Observation) {
        let seen = || observation.namespaces.iter().filter(|n| n.target.role != Role::Vantage);
        let mut all = lock(&self.heard);
        all.listen(true);
        all.ears.retain(|ear| seen().any(|n| n.target.netns_inode == ear.inode));
        let new = seen().filter(|n| n.after.get().is_some() && all.ear(n.target.netns_inode).is_none());
        let open = |target: &Target| Some((target.id.clone(), targets::open(target).ok()?));
        let new =
            new.filter_map(|n| open(&n.target).filter(|(_, netns)| netns.inode() == n.target.netns_inode));
        let new = Ear::open_all(new.collect());
        all.ears.extend(new);
        for namespace in seen() {
            let Some(after) = namespace.after.get() else { continue };
            let Some(ear) = all.ear(namespace.target.netns_inode) else { continue };
            let (found, target) = (ear.look(after), ear.target.clone());
            all.keep(&target, found, false);
        }
    }

    /// What was changed since the last call, oldest first.
    pub fn fresh(&self) -> Vec<Change> {
        let mut all = lock(&self.heard);
        let known = all.kept.len().saturating_sub(std::mem::take(&mut all.fresh));
        all.kept.iter().skip(known).cloned().collect()
    }

    /// True if something was changed that [`Recorder::fresh`] has not given yet.
    pub fn has_fresh(&self) -> bool {
        lock(&self.heard).fresh > 0
    }

    /// All that is kept, oldest first.
    pub fn history(&self) -> Reading<Bounded<Change>> {
        let all = lock(&self.heard);
        Reading::Present(Bounded { items: all.kept.iter().cloned().collect(), more: all.more })
    }

    /// Of what changes cannot be heard: then looks alone tell, later, and not by whom; or nobody does.
    pub fn unheard(&self) -> Vec<Unheard> {
        let all = lock(&self.heard);
        let silent = all.silent.iter().map(|(source, why)| Unheard {
            target: None,
            source: "changes_containers".to_owned(),
            why: match why {
                Reading::Present(()) => Reading::Present(()),
                Reading::Denied(needs) => Reading::Denied(format!("{needs} ({source})")),
                Reading::Absent(why) | Reading::Failed(why) => Reading::Failed(format!("{source}: {why}")),
            },
        });
        all.ears.iter().flat_map(Ear::unheard).chain(silent).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What a panic said stands on the screen already.
            thread.join().ok();
        }
    }
}

impl All {
    fn ear(&mut self, inode: u64) -> Option<&mut Ear> {
        self.ears.iter_mut().find(|ear| ear.inode == inode)
    }

    fn listen(&mut self, at_once: bool) {
        for index in 0..self.ears.len() {
            let Some(ear) = self.ears.get_mut(index) else { continue };
            let (found, target) = (ear.listen(at_once), ear.target.clone());
            self.keep(&target, found, true);
        }
    }

    fn keep(&mut self, target: &str, found: Vec<Found>, announced: bool) {
        for Found { at, not_before, what, by } in found {
            let target = target.to_owned();
            self.kept.push_back(Change {
                realtime_ns: at,
                announced,
                not_before_ns: not_before,
                target,
                what,
                by,
            });
            self.fresh += 1;
        }
        let oldest = clock(ClockId::Realtime).saturating_sub(self.keep);
        while self.kept.len() > MOST {
            self.kept.pop_front();
            self.more = true;
        }
        while self.kept.front().is_some_and(|change| change.realtime_ns < oldest) {
            self.kept.pop_front();
        }
        self.fresh = self.fresh.min(self.kept.len());
    }
}

fn lock(heard: &Mutex<All>) -> MutexGuard<'_, All> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nanoseconds of a clock.
fn clock(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Waits for announcements and takes them at once, for their time is that of their taking.
fn listen(heard: &Mutex<All>, stop: &AtomicBool) {
    let mut wait = TICK;
    while !stop.load(Ordering::Relaxed) {
        let sockets: Vec<Arc<OwnedFd>> = lock(heard).ears.iter().flat_map(Ear::sockets).cloned().collect();
        let mut ready: Vec<PollFd<'_>> =
            sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        let timeout = Timespec::try_from(wait).ok();
        // A signal only wakes it earlier.
        let woken = poll(&mut ready, timeout.as_ref()).unwrap_or(0);
        let mut all = lock(heard);
        if woken > 0 || all.ears.iter().any(Ear::waits) {
            all.listen(false);
        }
        wait = if all.ears.iter().any(Ear::waits) { Duration::from_nanos(ear::REST) } else { TICK };
    }
}

/// Compares the running containers from time to time.
fn compare_containers(heard: &Mutex<All>, stop: &AtomicBool) {
    let mut known = Containers::default();
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() < next {
            std::thread::sleep(TICK);
            continue;
        }
        let began = clock(ClockId::Realtime);
        let listing = containers::list_within(PATIENCE);
        next = Instant::now() + CONTAINERS_EVERY;
        let running = listing.containers.iter().filter(|container| container.running);
        let running = running.map(|container| (container.id.clone(), container.word())).collect();
        let told = known.compare(running, listing.silent.is_empty(), began);
        let mut all = lock(heard);
        let at = clock(ClockId::Realtime);
        for (word, not_before, what) in told {
            all.keep(&word, vec![Found { at, not_before: Some(not_before), what, by: None }], false);
        }
        let silent = listing.silent.iter();
        all.silent = silent.map(|(source, error)| (source.clone(), error.reading("root"))).collect();
    }
}

/// The containers that were known to run.
#[derive(Debug, Default)]
struct Containers {
    /// By id the word; none before all engines answered once.
    running: Option<BTreeMap<String, String>>,
    /// When all engines were asked the last time and answered, and when those were that did (CLOCK_REALTIME).
    all_at: u64,
    some_at: u64,
}

impl Containers {
    /// Those that were started and those that have stopped: the word, the time of the look that did not show it yet, and
    /// what happened. An engine that is silent hides whose containers have stopped, and none that were started: what it
    /// runs is known from when it spoke.
    fn compare(
        &mut self,
        running: BTreeMap<String, String>,
        whole: bool,
        began: u64,
    ) -> Vec<(String, u64, Phrase)> {
        let mut out = vec![];
        if let Some(known) = &mut self.running {
            let stopped = text!("the container has stopped", "容器已停止").phrase();
            let started = text!("the container was started", "容器已启动").phrase();
            if whole {
                let gone = known.iter().filter(|(id, _)| !running.contains_key(*id));
                out.extend(gone.map(|(_, word)| (word.clone(), self.all_at, stopped.clone())));
            }
            let come = running.iter().filter(|(id, _)| !known.contains_key(*id));
            let since = if whole { self.all_at } else { self.some_at };
            out.extend(come.map(|(_, word)| (word.clone(), since, started.clone())));
            match whole {
                true => *known = running,
                false => known.extend(running),
            }
        } else if whole {
            self.running = Some(running);
        }
        self.some_at = began;
        if whole {
            self.all_at = began;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(known: &mut Containers, ids: &[&str], whole: bool, at: u64) -> Vec<(String, u64, String)> {
        let running = ids.iter().map(|id| ((*id).to_owned(), format!("docker:{id}"))).collect();
        let told = known.compare(running, whole, at).into_iter();
        told.map(|(word, since, what)| (word, since, what.en)).collect()
    }

    fn row(word: &str, since: u64, what: &str) -> (String, u64, String) {
        (word.to_owned(), since, what.to_owned())
    }

    #[test]
    fn containers_that_start_and_stop_are_told_by_their_id() {
        let mut known = Containers::default();
        assert!(told(&mut known, &["a", "b"], true, 1).is_empty(), "the first look");
        assert_eq!(
            told(&mut known, &["b", "c"], true, 4),
            [
                row("docker:a", 1, "the container has stopped"),
                row("docker:c", 1, "the container was started")
            ]
        );
    }

    #[test]
    fn an_engine_that_is_silent_stops_no_container_and_what_happened_meanwhile_is_told_later() {
        let mut known = Containers::default();
        told(&mut known, &["a", "b"], true, 1);
        assert!(told(&mut known, &[], false, 4).is_empty());
        assert_eq!(told(&mut known, &["d"], false, 7), [row("docker:d", 4, "the container was started")]);
        assert_eq!(
            told(&mut known, &["b", "c", "d"], true, 10),
            [
                row("docker:a", 1, "the container has stopped"),
                row("docker:c", 1, "the container was started")
            ]
        );
        assert!(
            told(&mut Containers::default(), &["a"], false, 1).is_empty(),
            "nobody knows what ran before"
        );
    }

    #[test]
    fn what_is_kept_has_an_end() {
        let mut all = All {
            ears: vec![],
            kept: VecDeque::new(),
            fresh: 0,
            more: false,
            keep: u64::MAX,
            silent: vec![],
        };
        for n in 0..MOST + 5 {
            let found = Found { at: n as u64 + 1, not_before: None, what: Phrase::same("x"), by: None };
            all.keep("host", vec![found], true);
        }
        assert_eq!((all.kept.len(), all.more, all.fresh), (MOST, true, MOST));
    }
}
