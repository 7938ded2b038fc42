//! The kernel's drop events: where each packet died, by its own account.
//!
//! [`Tracer::start`] takes the best step of a ladder that this machine allows and says why it could not take the
//! ones above. Drops are counted in the kernel, all of them; some are sampled with their packet.

mod bpf;
mod btf;
mod dropmon;
mod layout;
mod loader;
mod names;
mod owner;
mod packet;
mod reasons;
mod signals;
mod symbols;
mod tally;
mod tracefs;

use crate::error::{Error, Result};
use rustix::time::{ClockId, clock_gettime};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use whydrop_model::drops::Signal;
use whydrop_model::{DropCount, DropEvent, DropLog, Lang, Phrase, text};

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
    /// Step to begin with; those above are left out.
    pub from: Step,
}

impl Default for TraceOptions {
    fn default() -> Self {
        Self { netns: vec![], stacks: true, owners: false, from: Step::TpBtf }
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
    lost: u64,
    /// Names that could not be read and signals that could not be watched, each with the reason.
    missing: Vec<String>,
    signals: Vec<Signal>,
}

/// One step of the ladder at work.
trait Source: Send {
    /// Hands over what was sampled since the last call; never blocks.
    fn poll(&mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<()>;
    /// What was counted so far.
    fn counts(&mut self) -> Result<Vec<DropCount>>;
    /// Counts from zero again, and forgets the samples that were not handed over.
    fn restart(&mut self) -> Result<()>;
    /// Counts nothing more.
    fn hold(&mut self) -> Result<()>;
    /// Stops, hands over the last samples, and counts.
    fn finish(&mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<Totals>;
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

    /// Counts from zero again.
    fn restart(&mut self) -> Result<()> {
        self.source.restart()?;
        self.started = Instant::now();
        Ok(())
    }

    /// Counts nothing more; at once, while stopping takes the kernel some time.
    fn hold(&mut self) -> Result<()> {
        self.held_after = Some(self.started.elapsed());
        self.source.hold()
    }

    /// Stops. The last samples go to `sink`; the log holds the counts, and no samples.
    pub fn stop(mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<DropLog> {
        let seconds = self.held_after.unwrap_or_else(|| self.started.elapsed()).as_secs_f64();
        let totals = self.source.finish(sink)?;
        Ok(DropLog {
            step: self.step.word().to_owned(),
            counts: totals.counts,
            sampled: vec![],
            tracer_lost: totals.lost,
            seconds,
            signals: totals.signals,
            refused: [self.refused.words(), totals.missing].concat(),
        })
    }

    /// Goes on in a thread of its own until [`Recording::stop`].
    pub fn record(self) -> Recording {
        let (commands, received) = channel();
        let thread = thread::spawn(move || record(self, &received));
        Recording { commands, thread }
    }
}

/// A tracer that keeps its samples, on a thread of its own.
pub struct Recording {
    commands: Sender<Command>,
    thread: JoinHandle<Result<DropLog>>,
}

/// What a recording is told.
enum Command {
    /// Begin anew, and answer.
    Restart(Sender<()>),
    /// Count nothing more, and answer.
    Hold(Sender<()>),
    Stop,
}

impl Recording {
    /// Forgets all that was seen so far; returns when what follows is counted from zero. A thread that has ended tells
    /// why at [`Recording::stop`].
    pub fn restart(&self) {
        self.tell(Command::Restart);
    }

    /// Returns when nothing more is counted; the end of a window, before what else belongs to its end is read.
    pub fn hold(&self) {
        self.tell(Command::Hold);
    }

    fn tell(&self, command: fn(Sender<()>) -> Command) {
        let (done, answer) = channel();
        if self.commands.send(command(done)).is_ok() {
            let _ = answer.recv();
        }
    }

    /// Stops and gives everything.
    pub fn stop(self) -> Result<DropLog> {
        let _ = self.commands.send(Command::Stop);
        self.thread.join().unwrap_or_else(|_| {
            Err(Error::new(
                text!("record {object}", "记录{object}"),
                text!("drop events", "丢包事件"),
                text!("the tracer's thread ended", "追踪线程已退出").phrase(),
            ))
        })
    }
}

fn record(mut tracer: Tracer, commands: &Receiver<Command>) -> Result<DropLog> {
    let mut sampled = vec![];
    loop {
        tracer.poll(&mut |event| keep(&mut sampled, event))?;
        match commands.recv_timeout(POLL) {
            Ok(Command::Restart(done)) => {
                tracer.restart()?;
                sampled.clear();
                let _ = done.send(());
            }
            Ok(Command::Hold(done)) => {
                tracer.hold()?;
                let _ = done.send(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let mut log = tracer.stop(&mut |event| keep(&mut sampled, event))?;
    log.sampled = sampled;
    Ok(log)
}

fn keep(sampled: &mut Vec<DropEvent>, event: DropEvent) {
    if sampled.len() < MOST_SAMPLES {
        sampled.push(event);
    }
}

/// What to add to CLOCK_MONOTONIC to get CLOCK_REALTIME, in nanoseconds.
fn clock_offset() -> u64 {
    let now = |clock| {
        let t = clock_gettime(clock);
        (t.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(t.tv_nsec as u64)
    };
    now(ClockId::Realtime).wrapping_sub(now(ClockId::Monotonic))
}
