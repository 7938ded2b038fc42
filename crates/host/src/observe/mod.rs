//! One observation: snapshots around a window, the tracer and the probes inside it.

mod reach;

pub use reach::contains;

use crate::collect::{self, Context};
use crate::error::{Error, Result};
use crate::probing;
use crate::sys::netns::Netns;
use crate::targets::Resolved;
use crate::trace::{LadderReport, Recording, TraceOptions, Tracer};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use whydrop_model::bundle::ProbeSkip;
use whydrop_model::{
    DropLog, NamespaceEvidence, Observation, ProbeResult, Reading, Role, Snapshot, Target, text,
};
use whydrop_probe::ProbeSpec;
use whydrop_probe::progress::Progress as ProbeProgress;

/// Between the end of the window and the second snapshot: packets on their way and per-CPU counters settle.
const SETTLE: Duration = Duration::from_millis(60);

/// How often the waiting thread looks at the clock and the cancel flag.
const TICK: Duration = Duration::from_millis(50);

/// Limits of one GET: below, a single lost packet (1 s) would already be a lost GET; above, nobody waits.
const SHORTEST_GET: Duration = Duration::from_secs(2);
const LONGEST_GET: Duration = Duration::from_secs(5);

/// What the kernel asks for before it lets BPF programs in.
const TRACING: &str = "CAP_BPF and CAP_PERFMON";

/// Packets of one probe that nobody asked for (contract: gently).
const GENTLE_COUNT: u32 = 20;

/// What to observe.
#[derive(Debug)]
pub struct Plan {
    /// What the user asked about; names of one namespace are folded.
    pub targets: Vec<Resolved>,
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
}

/// How far an observation is, for the progress line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Since the window began.
    pub elapsed: Duration,
    /// Probe packets sent.
    pub sent: u64,
    /// Probe packets answered.
    pub answered: u64,
}

/// The namespaces of a plan, each once, the vantage last if it is not a target itself.
struct Namespaces {
    evidence: Vec<(Target, Vec<Target>)>,
    netns: Vec<Netns>,
}

impl Namespaces {
    fn of(plan: &Plan) -> Result<Self> {
        let mut out = Self { evidence: vec![], netns: vec![] };
        for resolved in &plan.targets {
            out.add(resolved, Role::Target)?;
        }
        // A vantage from which nothing is sent has nothing to say.
        if !plan.passive {
            out.add(&plan.from, Role::Vantage)?;
        }
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

    fn snapshots(&self) -> Vec<Reading<Snapshot>> {
        let all: Vec<&Netns> = self.netns.iter().collect();
        collect::snapshots(&all, &Context::read(&all))
    }

    /// Name of the namespace as findings will use it.
    fn id_of(&self, netns: &Netns) -> Option<&Target> {
        let at = self.netns.iter().position(|n| n.inode() == netns.inode())?;
        self.evidence.get(at).map(|(target, _)| target)
    }
}

/// Observes. `cancel` ends the window early with what was seen until then; `progress` is called about 20 times a
/// second. Fails only if nothing can be looked at; whatever else cannot be read stands in the readings.
pub fn observe(
    plan: &Plan,
    cancel: &AtomicBool,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Observation> {
    let namespaces = Namespaces::of(plan)?;
    let started_at = jiff::Timestamp::now();
    let inodes: Vec<u64> = namespaces.netns.iter().map(Netns::inode).collect();
    let tracer = plan.trace.then(|| {
        Tracer::start(&TraceOptions { netns: inodes, ..TraceOptions::default() }).map(Tracer::record)
    });
    let machine_before = collect::machine();
    let before = namespaces.snapshots();
    // The events' window lies inside that of the counters, so that what no counter saw is not a matter of moments.
    if let Some(Ok(recording)) = &tracer {
        recording.restart();
    }
    let began = Instant::now();
    let (probes, mut skipped) = wanted_probes(plan, &namespaces, &before);
    let results = Window { began, cancel, progress }.run(plan, &namespaces, &probes, &mut skipped)?;
    std::thread::sleep(SETTLE);
    let window_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    if let Some(Ok(recording)) = &tracer {
        recording.hold();
    }
    let after = namespaces.snapshots();
    let machine_after = collect::machine();
    let drops = drops(tracer);
    let evidence = namespaces.evidence.into_iter().zip(before.into_iter().zip(after));
    Ok(Observation {
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        started_at: started_at.to_string(),
        window_ns,
        machine: [machine_before, machine_after],
        namespaces: evidence
            .map(|((target, aliases), (before, after))| NamespaceEvidence { target, aliases, before, after })
            .collect(),
        drops,
        probes: results,
        probe_skips: skipped,
    })
}

/// The named probes, or the gentle ones of a single target.
fn wanted_probes(
    plan: &Plan,
    namespaces: &Namespaces,
    before: &[Reading<Snapshot>],
) -> (Vec<ProbeSpec>, Vec<ProbeSkip>) {
    if plan.passive || !plan.probes.is_empty() || plan.targets.len() != 1 {
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
    progress: &'a (dyn Fn(Progress) + Sync),
}

impl Window<'_> {
    /// Runs the probes on threads of their own and waits until they are done and the window is over.
    /// A probe for which a privilege is missing is skipped, with the reason; any other failure is one of the run.
    fn run(
        &self,
        plan: &Plan,
        namespaces: &Namespaces,
        probes: &[ProbeSpec],
        skipped: &mut Vec<ProbeSkip>,
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
                scope.spawn(move || {
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
                });
            }
            loop {
                let ended = self.began.elapsed() >= plan.window || cancel.load(Ordering::Relaxed);
                over.store(ended, Ordering::Relaxed);
                if ended && running.load(Ordering::Acquire) == 0 {
                    break;
                }
                (self.progress)(Progress {
                    elapsed: self.began.elapsed(),
                    sent: sent.load(Ordering::Relaxed),
                    answered: answered.load(Ordering::Relaxed),
                });
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

/// What the tracer gave, if it was wanted and could start.
fn drops(tracer: Option<std::result::Result<Recording, LadderReport>>) -> Reading<DropLog> {
    match tracer {
        None => Reading::Absent("not wanted (--no-trace)".to_owned()),
        Some(Ok(recording)) => recording.stop().map_or_else(|e| e.reading(TRACING), Reading::Present),
        Some(Err(ladder)) if ladder.is_denied() => Reading::Denied(TRACING.to_owned()),
        // The kernel has drops, and no way to them worked: that hides something.
        Some(Err(ladder)) => Reading::Failed(ladder.to_string()),
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
