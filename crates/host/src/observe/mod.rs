//! One observation: snapshots around a window, the tracer and the probes inside it.

mod around;
mod calls;
mod ended;
mod reach;
mod tracing;

use crate::collect::{self, Context};
use crate::containers::Engines;
use crate::error::{Error, Result};
use crate::probing;
use crate::source::link_events::LinkWatch;
use crate::sys::netns::Netns;
use crate::targets::{Resolved, named};
use crate::trace::Recording;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracing::Tracing;
use whydrop_model::bundle::ProbeSkip;
use whydrop_model::{
    DropCount, FlowLog, NamespaceEvidence, Observation, ProbeResult, Reading, Role, Snapshot, Target,
    TargetKind, text,
};
use whydrop_probe::ProbeSpec;
use whydrop_probe::progress::Progress as ProbeProgress;

/// Between the end of the window and the second snapshot: packets on their way and per-CPU counters settle.
const SETTLE: Duration = Duration::from_millis(60);

/// How often the waiting thread looks at the clock and the cancel flag.
const TICK: Duration = Duration::from_millis(50);

/// How often the tracer is asked what it counted so far, and what conversations told, of which there may be many.
const LOOK: Duration = Duration::from_millis(500);
const LOOK_AT_FLOWS: Duration = Duration::from_secs(1);

/// Limits of one GET: below, a single lost packet (1 s) would already be a lost GET; above, nobody waits.
const SHORTEST_GET: Duration = Duration::from_secs(2);
const LONGEST_GET: Duration = Duration::from_secs(5);

/// Packets of one probe that nobody asked for (contract: gently).
const GENTLE_COUNT: u32 = 20;

/// What to observe.
#[derive(Debug)]
pub struct Plan {
    /// What the user asked about; names of one namespace are folded.
    pub targets: Vec<Resolved>,
    /// What the user asked about and what leads to no namespace, with the reason in place of its readings.
    pub missing: Vec<NamespaceEvidence>,
    /// Where probes start.
    pub from: Resolved,
    /// Length of the window; probes may stretch it until their last answer is due.
    pub window: Duration,
    /// Probes that the user named.
    pub probes: Vec<ProbeSpec>,
    /// Send nothing.
    pub passive: bool,
    /// Use the kernel's drop events.
    pub trace: bool,
    /// The containers of this machine, which give namespaces their names.
    pub engines: Engines,
    /// Watch system calls that fail even if nothing speaks for it: slows every one of the machine.
    pub calls: bool,
}

/// How far an observation is, for the progress line.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Since the window began.
    pub elapsed: Duration,
    /// Probe packets sent.
    pub sent: u64,
    /// Probe packets answered.
    pub answered: u64,
    /// Drops that the kernel counted up to the last look, harmless ones included.
    pub drops: Vec<DropCount>,
    /// What conversations told up to the last look; none where they are not watched.
    pub flows: Option<FlowLog>,
}

/// The namespaces of a plan, each once: the targets, the vantage if it is not a target itself, what is around them.
struct Namespaces {
    evidence: Vec<(Target, Vec<Target>)>,
    netns: Vec<Netns>,
    /// What is around the targets and had no room, in place of its readings.
    beyond: Option<NamespaceEvidence>,
}

impl Namespaces {
    fn of(plan: &Plan) -> Result<Self> {
        let mut out = Self { evidence: vec![], netns: vec![], beyond: None };
        for resolved in &plan.targets {
            out.add(resolved, Role::Target)?;
        }
        let targets: Vec<&Netns> = plan.targets.iter().map(|target| &target.netns).collect();
        let around = around::find(&targets, &plan.engines)?;
        // A vantage from which nothing is sent has nothing to say.
        if !plan.passive {
            out.add(&plan.from, Role::Vantage)?;
        }
        for resolved in &around.joined {
            out.add(resolved, Role::Surrounding)?;
        }
        out.beyond = around.beyond;
        out.name_tenants(&plan.engines);
        Ok(out)
    }

    fn add(&mut self, resolved: &Resolved, role: Role) -> Result<()> {
        let target = Target { role, ..resolved.target.clone() };
        let known = self.netns.iter().position(|n| n.inode() == resolved.netns.inode());
        match known.and_then(|i| self.evidence.get_mut(i)) {
            Some((first, aliases)) => {
                if first.id != target.id && role == Role::Target && aliases.iter().all(|a| a.id != target.id)
                {
                    aliases.push(target);
                }
            }
            None => {
                self.evidence.push((target, vec![]));
                self.netns.push(resolved.netns.try_clone()?);
            }
        }
        Ok(())
    }

    /// Whatever word led there, the report says who lives in it.
    fn name_tenants(&mut self, engines: &Engines) {
        for ((target, _), netns) in self.evidence.iter_mut().zip(&self.netns) {
            if target.tenants.is_empty() && target.kind != TargetKind::Host {
                target.tenants = named::tenants(netns, None, engines);
            }
        }
    }

    fn link_watches(&self) -> Vec<Reading<LinkWatch>> {
        collect::link_watches(&self.netns.iter().collect::<Vec<_>>())
    }

    /// The start of the window, or with the readings of that its end.
    fn snapshots(&self, before: Option<&[Reading<Snapshot>]>) -> Vec<Reading<Snapshot>> {
        let all: Vec<&Netns> = self.netns.iter().collect();
        let context = Context::read(&all);
        let context = match before {
            Some(before) => context.at_end(before),
            None => context,
        };
        collect::snapshots(&all, &context)
    }

    /// Name of the namespace as findings will use it.
    fn id_of(&self, netns: &Netns) -> Option<&Target> {
        let at = self.netns.iter().position(|n| n.inode() == netns.inode())?;
        self.evidence.get(at).map(|(target, _)| target)
    }
}

/// What a plan looks at: its targets and what is around them.
pub(crate) fn places(plan: &Plan) -> Result<Vec<(Target, Netns)>> {
    let Namespaces { evidence, netns, .. } = Namespaces::of(plan)?;
    Ok(evidence.into_iter().map(|(target, _)| target).zip(netns).collect())
}

/// Observes once, as [`Observer::observe`].
pub fn observe(
    plan: &Plan,
    cancel: &AtomicBool,
    progress: &(dyn Fn(&Progress) + Sync),
) -> Result<Observation> {
    Observer::default().observe(plan, cancel, progress)
}

/// Somebody who observes one time after the other, and keeps what the next time needs, too.
#[derive(Default)]
pub struct Observer {
    tracing: Option<Tracing>,
}

impl Observer {
    /// Observes. `cancel` ends the window early with what was seen until then; `progress` is called about 20 times a
    /// second. Fails only if nothing can be looked at; whatever else cannot be read stands in the readings.
    pub fn observe(
        &mut self,
        plan: &Plan,
        cancel: &AtomicBool,
        progress: &(dyn Fn(&Progress) + Sync),
    ) -> Result<Observation> {
        let namespaces = Namespaces::of(plan)?;
        let started_at = jiff::Timestamp::now();
        let inodes: Vec<u64> = namespaces.netns.iter().map(Netns::inode).collect();
        let mut tracing = plan.trace.then(|| Tracing::of(self.tracing.take(), inodes));
        let mut watches = namespaces.link_watches();
        let machine_before = collect::machine();
        let before = namespaces.snapshots(None);
        // The events' window lies inside that of the counters, so that what no counter saw is not a matter of moments.
        let calls = plan.calls || calls::alone_tell(&before);
        if let Some(Ok(tracing)) = &mut tracing {
            tracing.begin(calls);
        }
        let began = Instant::now();
        let (probes, mut skipped) = wanted_probes(plan, &namespaces, &before);
        let mut listen = || {
            for watch in watches.iter_mut().filter_map(Reading::get_mut) {
                watch.listen();
            }
        };
        let recording = tracing.as_ref().and_then(|tracing| Some(tracing.as_ref().ok()?.recording()));
        let counts = || recording.iter().flat_map(|recording| recording.counts()).collect();
        let flows = || recording.and_then(Recording::flows);
        let window = Window { began, cancel, progress, counts: &counts, flows: &flows };
        let results = window.run(plan, &namespaces, &probes, &mut skipped, &mut listen)?;
        std::thread::sleep(SETTLE);
        let window_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if let Some(recording) = recording {
            recording.hold();
        }
        let mut after = namespaces.snapshots(Some(&before));
        let machine_after = collect::machine();
        let ((drops, flows), kept) = match tracing {
            Some(Ok(tracing)) => tracing.end(calls),
            Some(Err(refused)) => (tracing::untraced(Some(&refused)), None),
            None => (tracing::untraced(None), None),
        };
        self.tracing = kept;
        let inodes: Vec<u64> = namespaces.netns.iter().map(Netns::inode).collect();
        calls::add_cgroups(&mut after, &inodes, &flows);
        let events = watches.into_iter().map(|watch| watch.map(LinkWatch::end));
        let readings = before.into_iter().zip(after).zip(events);
        let evidence = namespaces.evidence.into_iter().zip(readings);
        Ok(Observation {
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            started_at: started_at.to_string(),
            window_ns,
            machine: [machine_before, machine_after],
            namespaces: evidence
                .map(|((target, aliases), ((before, after), link_events))| NamespaceEvidence {
                    target,
                    aliases,
                    before,
                    after,
                    link_events,
                })
                .chain(namespaces.beyond)
                .chain(plan.missing.iter().cloned())
                .chain(ended::ended(&plan.targets))
                .collect(),
            drops,
            flows,
            probes: results,
            probe_skips: skipped,
            silent_engines: plan.engines.silent(),
            history: Reading::Absent("only watch keeps a history".to_owned()),
            unheard: vec![],
        })
    }
}

/// The named probes, or the gentle ones of a single target.
fn wanted_probes(
    plan: &Plan,
    namespaces: &Namespaces,
    before: &[Reading<Snapshot>],
) -> (Vec<ProbeSpec>, Vec<ProbeSkip>) {
    if plan.passive || !plan.probes.is_empty() || plan.targets.len() + plan.missing.len() != 1 {
        return (if plan.passive { vec![] } else { plan.probes.clone() }, vec![]);
    }
    let look = |netns: &Netns| {
        let at = namespaces.netns.iter().position(|n| n.inode() == netns.inode())?;
        Some((&namespaces.evidence.get(at)?.0, before.get(at)?.get()?))
    };
    let (Some(from), Some(target)) =
        (look(&plan.from.netns), plan.targets.first().and_then(|t| look(&t.netns)))
    else {
        return (vec![], vec![]);
    };
    let chosen = reach::default_probes(from, target);
    let specs = chosen.urls.iter().filter_map(|url| ProbeSpec::parse(url).ok()).map(|mut spec| {
        spec.count = Some(GENTLE_COUNT);
        spec
    });
    (specs.collect(), chosen.skipped)
}

struct Window<'a> {
    began: Instant,
    cancel: &'a AtomicBool,
    progress: &'a (dyn Fn(&Progress) + Sync),
    /// What the tracer counted so far.
    counts: &'a dyn Fn() -> Vec<DropCount>,
    flows: &'a dyn Fn() -> Option<FlowLog>,
}

impl Window<'_> {
    /// Runs the probes on threads of their own and waits until they are done and the window is over; `listen` is
    /// called at each tick.
    /// A probe for which a privilege is missing is skipped, with the reason; any other failure is one of the run.
    fn run(
        &self,
        plan: &Plan,
        namespaces: &Namespaces,
        probes: &[ProbeSpec],
        skipped: &mut Vec<ProbeSkip>,
        listen: &mut dyn FnMut(),
    ) -> Result<Vec<ProbeResult>> {
        let from =
            namespaces.id_of(&plan.from.netns).map_or_else(|| plan.from.target.id.clone(), |t| t.id.clone());
        let (sent, answered, running) =
            (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(probes.len() as u64));
        let results: Mutex<Vec<(usize, Result<ProbeResult>)>> = Mutex::new(vec![]);
        let cancel = self.cancel;
        // GETs follow each other: none begins after the window, and one on its way then has a second left.
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (i, spec) in probes.iter().enumerate() {
                let (from, sent, answered, running, results) = (&from, &sent, &answered, &running, &results);
                let halt = if spec.scheme.is_http() { &over } else { cancel };
                let spec = paced(spec, plan.window);
                let work = move || {
                    let seen = Mutex::new((0u64, 0u64));
                    let result = probing::run(&plan.from.netns, from, &spec, halt, &|p: &ProbeProgress| {
                        // The engine reports totals; the line on the screen sums over all probes.
                        if let Ok(mut last) = seen.lock() {
                            sent.fetch_add(p.counts.transmitted.saturating_sub(last.0), Ordering::Relaxed);
                            answered.fetch_add(p.counts.received.saturating_sub(last.1), Ordering::Relaxed);
                            *last = (p.counts.transmitted, p.counts.received);
                        }
                    });
                    if let Ok(mut results) = results.lock() {
                        results.push((i, result));
                    }
                    running.fetch_sub(1, Ordering::Release);
                };
                // At a limit of threads the probe fails like any other that cannot be made.
                if let Err(e) = std::thread::Builder::new().spawn_scoped(scope, work) {
                    let error = Error::io(
                        text!("start {object}", "启动{object}"),
                        text!("a probe's thread", "探测线程"),
                        &e,
                    );
                    if let Ok(mut results) = results.lock() {
                        results.push((i, Err(error)));
                    }
                    running.fetch_sub(1, Ordering::Release);
                }
            }
            let (mut drops, mut look) = (vec![], LOOK);
            let (mut flows, mut look_at_flows) = (None, LOOK_AT_FLOWS);
            loop {
                let ended = self.began.elapsed() >= plan.window || cancel.load(Ordering::Relaxed);
                over.store(ended, Ordering::Relaxed);
                if ended && running.load(Ordering::Acquire) == 0 {
                    break;
                }
                if self.began.elapsed() >= look {
                    drops = (self.counts)();
                    look = self.began.elapsed() + LOOK;
                }
                if self.began.elapsed() >= look_at_flows {
                    flows = (self.flows)();
                    look_at_flows = self.began.elapsed() + LOOK_AT_FLOWS;
                }
                let at = Progress {
                    elapsed: self.began.elapsed(),
                    sent: sent.load(Ordering::Relaxed),
                    answered: answered.load(Ordering::Relaxed),
                    drops,
                    flows,
                };
                (self.progress)(&at);
                (drops, flows) = (at.drops, at.flows);
                listen();
                std::thread::sleep(TICK);
            }
        });
        let mut results = results.into_inner().map_err(|_| {
            Error::new(
                text!("run {object}", "运行{object}"),
                text!("the probes", "探测"),
                text!("a probe thread panicked", "一个探测线程崩溃了").phrase(),
            )
        })?;
        results.sort_by_key(|(i, _)| *i);
        let mut made = vec![];
        for (i, result) in results {
            match (result, probes.get(i)) {
                (Ok(result), _) => made.push(result),
                (Err(error), Some(spec)) if error.is_denied() => {
                    let why = error.to_string();
                    skipped.push(ProbeSkip { url: spec.url.clone(), target: from.clone(), why });
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(made)
    }
}

/// Spreads a probe over the window, so that it meets what the window sees and ends with it.
fn paced(spec: &ProbeSpec, window: Duration) -> ProbeSpec {
    let mut spec = spec.clone();
    if spec.scheme.is_http() {
        spec.timeout = window.clamp(SHORTEST_GET, LONGEST_GET);
        spec.late = spec.timeout;
        return spec;
    }
    let room = window.saturating_sub(spec.timeout).max(window / 2);
    let gaps = spec.count.map_or(1, |count| count.saturating_sub(1).max(1));
    spec.interval = (room / gaps).clamp(Duration::from_millis(10), Duration::from_millis(100));
    spec
}
