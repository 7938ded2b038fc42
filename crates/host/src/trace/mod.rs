//! The kernel's drop events: where each packet died, by its own account.
//!
//! [`Tracer::start`] takes the best step of a ladder that this machine allows and says why it could not take the
//! ones above. Drops are counted in the kernel, all of them; some are sampled with their packet.

mod bpf;
mod btf;
mod calls;
mod dropmon;
mod flow_layout;
mod flows;
mod layout;
mod loader;
mod losses;
mod maps;
mod names;
mod owner;
mod packet;
mod reasons;
mod signals;
mod symbols;
mod tally;
mod tracefs;
mod tracepoints;
#[cfg(test)]
mod verifier;

use crate::error::{Error, Result};
use rustix::time::{ClockId, clock_gettime};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use whydrop_model::drops::Signal;
use whydrop_model::{DropCount, DropEvent, DropLog, FlowLog, Lang, Phrase, Reading, text};

/// What the kernel asks for before it lets BPF programs in.
pub const NEEDED: &str = "CAP_BPF and CAP_PERFMON";
/// Reason of the row that holds the drops for whose shape the count map had no room.
pub const OTHER: &str = "OTHER";
/// How often a recording looks at its ring: long enough to cost nothing, short enough for the ring to hold.
const POLL: Duration = Duration::from_millis(50);
/// Samples that a recording keeps: about 8 MiB.
const MOST_SAMPLES: usize = 8192;

/// A way to learn of drops; better ones are smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// BPF, following kernel pointers directly.
    TpBtf,
    /// BPF, copying what it reads.
    RawTp,
    /// No BPF: the tracepoint as text. No packets, no namespaces.
    Tracefs,
    /// No tracing at all: messages of the drop monitor. No namespaces; hardware drops, too.
    DropMonitor,
}

impl Step {
    /// All, best first.
    pub const LADDER: [Self; 4] = [Self::TpBtf, Self::RawTp, Self::Tracefs, Self::DropMonitor];

    /// The word in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::RawTp => "raw_tp",
            Self::Tracefs => "tracefs",
            Self::DropMonitor => "drop_monitor",
        }
    }

    /// The step with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::LADDER.into_iter().find(|step| step.word() == word)
    }

    fn start(self, options: &TraceOptions) -> Result<Box<dyn Source>> {
        match self {
            Self::TpBtf | Self::RawTp => Ok(Box::new(bpf::BpfSource::start(self, options)?)),
            Self::Tracefs => Ok(Box::new(tracefs::TracefsSource::start()?)),
            Self::DropMonitor => Ok(Box::new(dropmon::DropMonitor::start()?)),
        }
    }
}

/// What to trace.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// Inodes of the network namespaces to watch; empty for all. Drops whose namespace cannot be told are kept.
    pub netns: Vec<u64>,
    /// Take the stack of sampled drops: it tells the netfilter hook.
    pub stacks: bool,
    /// Look for the processes that own the sockets of sampled packets; walks /proc at most every two seconds.
    pub owners: bool,
    /// Watch conversations, too.
    pub flows: bool,
    /// Step to begin with; those above are left out.
    pub from: Step,
}

impl Default for TraceOptions {
    fn default() -> Self {
        Self { netns: vec![], stacks: true, owners: false, flows: false, from: Step::TpBtf }
    }
}

/// Every step failed; each with its reason.
#[derive(Clone, Debug)]
pub struct LadderReport(pub Vec<(Step, Error)>);

impl LadderReport {
    /// One sentence per step.
    pub fn phrases(&self) -> Vec<Phrase> {
        let told = text!("{step}: {error}", "{step}：{error}");
        let phrase = |(step, error): &(Step, Error)| {
            told.with(&[("step", &step.word().into()), ("error", &error.phrase())])
        };
        self.0.iter().map(phrase).collect()
    }

    /// All of them in one line.
    pub fn phrase(&self) -> Phrase {
        let side = |lang, between| {
            self.phrases().iter().map(|phrase| phrase.get(lang)).collect::<Vec<_>>().join(between)
        };
        Phrase { en: side(Lang::En, "; "), zh: side(Lang::Zh, "；") }
    }

    /// One line per step, for records.
    pub fn words(&self) -> Vec<String> {
        self.phrases().into_iter().map(|phrase| phrase.en).collect()
    }

    /// True if a privilege would help: the best step was refused for want of one.
    pub fn is_denied(&self) -> bool {
        self.0.first().is_some_and(|(_, error)| error.is_denied())
    }
}

impl std::fmt::Display for LadderReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.phrase().en)
    }
}

/// True if the running kernel has a drop reason of this name, without `SKB_DROP_REASON_`. False, too, if it cannot be
/// asked: kernels without type information have no names for their reasons.
pub fn knows_reason(name: &str) -> bool {
    btf::Blob::read("vmlinux").is_ok_and(|kernel| reasons::Reasons::of(&kernel).knows(name))
}

/// What a source counted until its end.
struct Totals {
    counts: Vec<DropCount>,
    /// Drops without a row that says where.
    counts_lost: u64,
    /// Drops whose packet was wanted and not kept.
    samples_lost: u64,
    /// Names that could not be read and signals that could not be watched, each with the reason.
    missing: Vec<String>,
    signals: Vec<Signal>,
    /// None where the step sees no conversations, or nobody asked for them.
    flows: Option<FlowLog>,
}

/// What a tracer saw.
pub struct Traced {
    /// Drops.
    pub drops: DropLog,
    /// Conversations; denied or failed on the steps without BPF, which do not see them.
    pub flows: Reading<FlowLog>,
}

/// One step of the ladder at work.
trait Source: Send {
    /// Hands over what was sampled since the last call; never blocks.
    fn poll(&mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<()>;
    /// What was counted so far.
    fn counts(&mut self) -> Result<Vec<DropCount>>;
    /// What conversations told so far; none where the step sees none, or nobody asked for them.
    fn flows(&mut self) -> Result<Option<FlowLog>> {
        Ok(None)
    }
    /// Counts from zero, also if it was held, and forgets the samples that were not handed over.
    fn restart(&mut self) -> Result<()>;
    /// Watches system calls that fail, with the conversations, if the step sees these.
    fn watch_calls(&mut self) -> Result<()> {
        Ok(())
    }
    /// Counts nothing more until [`Source::restart`].
    fn hold(&mut self) -> Result<()>;
    /// Once it is held: hands over the last samples, and what was counted.
    fn totals(&mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<Totals>;
}

/// A running tracer. Dropping it stops it.
pub struct Tracer {
    source: Box<dyn Source>,
    step: Step,
    refused: LadderReport,
    started: Instant,
    held_after: Option<Duration>,
}

impl Tracer {
    /// Starts on the best step that works. Takes 50 to 100 ms.
    pub fn start(options: &TraceOptions) -> std::result::Result<Self, LadderReport> {
        let mut refused = LadderReport(vec![]);
        for step in Step::LADDER.into_iter().filter(|&step| step >= options.from) {
            match step.start(options) {
                Ok(source) => {
                    return Ok(Self { source, step, refused, started: Instant::now(), held_after: None });
                }
                Err(error) => refused.0.push((step, error)),
            }
        }
        Err(refused)
    }

    /// Where on the ladder it stands.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Steps that were tried before, and why they failed.
    pub fn refused(&self) -> &LadderReport {
        &self.refused
    }

    /// Hands over the packets sampled since the last call. To be called every 50 to 100 ms; never blocks.
    pub fn poll(&mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<()> {
        self.source.poll(sink)
    }

    /// Every drop counted so far, sampled or not. Asked before a poll, it holds no drop whose sample that poll misses.
    pub fn counts(&mut self) -> Result<Vec<DropCount>> {
        self.source.counts()
    }

    /// Conversations so far, without the repeated segments and the failed calls; none where they are not watched.
    pub fn flows(&mut self) -> Result<Option<FlowLog>> {
        self.source.flows()
    }

    /// Counts from zero again.
    fn restart(&mut self) -> Result<()> {
        self.source.restart()?;
        self.started = Instant::now();
        self.held_after = None;
        Ok(())
    }

    /// Watches system calls that fail from now on: slows every system call of the machine.
    fn watch_calls(&mut self) -> Result<()> {
        self.source.watch_calls()
    }

    /// Counts nothing more; at once, while stopping takes the kernel some time. Gives how long it counted.
    fn hold(&mut self) -> Result<Duration> {
        let counted = self.started.elapsed();
        self.source.hold()?;
        self.held_after = Some(counted);
        Ok(counted)
    }

    /// Stops. The last samples of drops go to `sink`; their log holds the counts, and no samples.
    pub fn stop(mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<Traced> {
        self.window(sink)
    }

    /// What was seen since it started or was restarted, as [`Tracer::stop`]; nothing more is counted.
    fn window(&mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<Traced> {
        let counted = match self.held_after {
            Some(counted) => counted,
            None => self.hold()?,
        };
        let seconds = counted.as_secs_f64();
        let totals = self.source.totals(sink)?;
        let drops = DropLog {
            step: self.step.word().to_owned(),
            counts: totals.counts,
            sampled: vec![],
            tracer_lost: totals.counts_lost + totals.samples_lost,
            counts_lost: totals.counts_lost,
            seconds,
            signals: totals.signals,
            refused: [self.refused.words(), totals.missing].concat(),
        };
        let flows = match totals.flows {
            Some(flows) => Reading::Present(flows),
            None if self.refused.is_denied() => Reading::Denied(NEEDED.to_owned()),
            None => Reading::Failed(format!("{} shows no conversations", self.step.word())),
        };
        Ok(Traced { drops, flows })
    }

    /// Goes on in a thread of its own until [`Recording::stop`].
    pub fn record(self) -> Recording {
        let (commands, received) = channel();
        let thread = Some(thread::spawn(move || record(self, &received)));
        Recording { commands, thread }
    }
}

/// A tracer that keeps its samples, on a thread of its own. Dropping it stops it.
pub struct Recording {
    commands: Sender<Command>,
    /// None once it was stopped.
    thread: Option<JoinHandle<Result<Traced>>>,
}

/// What a recording is told.
enum Command {
    /// Begin anew, and answer.
    Restart(Sender<()>),
    /// Watch system calls, too, and answer.
    WatchCalls(Sender<()>),
    /// Count nothing more, and answer.
    Hold(Sender<()>),
    /// Say what was counted so far.
    Look(Sender<Vec<DropCount>>),
    /// Say what conversations told so far.
    Flows(Sender<Option<FlowLog>>),
    /// Say everything, and wait for the next window.
    Window(Sender<Traced>),
    Stop,
}

impl Recording {
    /// Forgets all that was seen so far; returns when what follows is counted from zero. A thread that has ended tells
    /// why at [`Recording::stop`].
    pub fn restart(&self) {
        let _ = self.tell(Command::Restart);
    }

    /// Watches system calls that fail, too: slows every system call of the machine.
    pub fn watch_calls(&self) {
        let _ = self.tell(Command::WatchCalls);
    }

    /// Returns when nothing more is counted; the end of a window, before what else belongs to its end is read.
    pub fn hold(&self) {
        let _ = self.tell(Command::Hold);
    }

    /// Every drop counted so far; empty if the thread has ended, which tells why at [`Recording::stop`].
    pub fn counts(&self) -> Vec<DropCount> {
        self.tell(Command::Look).into_iter().flatten().collect()
    }

    /// Conversations so far, as [`Tracer::flows`]; none if the thread has ended.
    pub fn flows(&self) -> Option<FlowLog> {
        self.tell(Command::Flows).flatten()
    }

    /// The thread's answer; none if it has ended.
    fn tell<T>(&self, command: fn(Sender<T>) -> Command) -> Option<T> {
        let (done, answer) = channel();
        self.commands.send(command(done)).ok()?;
        answer.recv().ok()
    }

    /// Ends the window and gives everything; what comes later is nobody's until [`Recording::restart`]. None if the
    /// thread has ended, which tells why at [`Recording::stop`].
    pub fn window(&self) -> Option<Traced> {
        self.tell(Command::Window)
    }

    /// Stops and gives everything.
    pub fn stop(mut self) -> Result<Traced> {
        let ended = || {
            Err(Error::new(
                text!("record {object}", "记录{object}"),
                text!("drop events", "丢包事件"),
                text!("the tracer's thread ended", "追踪线程已退出").phrase(),
            ))
        };
        self.end().unwrap_or_else(ended)
    }

    /// Ends the thread; none if it has panicked, or was ended before.
    fn end(&mut self) -> Option<Result<Traced>> {
        let thread = self.thread.take()?;
        let _ = self.commands.send(Command::Stop);
        thread.join().ok()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // What it saw is wanted by nobody, but what it set up in the kernel has to go.
        let _ = self.end();
    }
}

fn record(mut tracer: Tracer, commands: &Receiver<Command>) -> Result<Traced> {
    let mut sampled = vec![];
    loop {
        tracer.poll(&mut |event| keep(&mut sampled, event))?;
        match commands.recv_timeout(POLL) {
            Ok(Command::Restart(done)) => {
                tracer.restart()?;
                sampled.clear();
                let _ = done.send(());
            }
            Ok(Command::WatchCalls(done)) => {
                tracer.watch_calls()?;
                let _ = done.send(());
            }
            Ok(Command::Hold(done)) => {
                tracer.hold()?;
                let _ = done.send(());
            }
            Ok(Command::Look(done)) => {
                let _ = done.send(tracer.counts()?);
            }
            Ok(Command::Flows(done)) => {
                let _ = done.send(tracer.flows()?);
            }
            Ok(Command::Window(done)) => {
                let _ = done.send(everything(&mut tracer, &mut sampled)?);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    everything(&mut tracer, &mut sampled)
}

fn everything(tracer: &mut Tracer, sampled: &mut Vec<DropEvent>) -> Result<Traced> {
    let mut traced = tracer.window(&mut |event| keep(sampled, event))?;
    traced.drops.sampled = std::mem::take(sampled);
    Ok(traced)
}

fn keep(sampled: &mut Vec<DropEvent>, event: DropEvent) {
    if sampled.len() < MOST_SAMPLES {
        sampled.push(event);
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Time since the start of the machine is no negative number.
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}

/// What to add to CLOCK_MONOTONIC to get CLOCK_REALTIME, in nanoseconds.
fn clock_offset() -> u64 {
    let now = |clock| {
        let t = clock_gettime(clock);
        (t.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(t.tv_nsec as u64)
    };
    now(ClockId::Realtime).wrapping_sub(now(ClockId::Monotonic))
}
