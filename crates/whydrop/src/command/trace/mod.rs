//! `whydrop trace`: the kernel's drop events as they happen.

mod filter;
mod flows;
mod json;
mod line;
mod pace;
mod packet;
mod pcapng;
mod summary;
mod view;

use super::observing::parse_duration;
use super::target_args::TargetArgs;
use crate::settings::{Colour, lang, say};
use crate::signals;
use anyhow::Result;
use filter::Filter;
use flows::Flows;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use summary::Summary;
use view::View;
use whydrop_checks::settings::Settings;
use whydrop_facts::Class;
use whydrop_facts::place::Place;
use whydrop_host::Netns;
use whydrop_host::collect::{self, Context};
use whydrop_host::targets::Resolved;
use whydrop_host::trace::{Step, TraceOptions, Tracer};
use whydrop_model::shell::sanitize;
use whydrop_model::{DropEvent, Reading, Target, text};

/// How often the ring is looked at: fast enough to look live, slow enough to cost nothing.
const POLL: Duration = Duration::from_millis(50);
/// The first pauses are shorter: who has just started it waits for the first line.
const FIRST_POLL: Duration = Duration::from_millis(2);

/// Arguments of `trace`.
#[derive(Debug, clap::Args)]
pub struct TraceArgs {
    /// Where.
    #[command(flatten)]
    place: TargetArgs,
    /// How long.
    #[arg(long, value_name = "TIME", value_parser = parse_duration,
          help = say(text!("Stop after this time: 5s, 500ms, 1m (default: at Ctrl-C)", "运行多久：5s、500ms、1m（默认直到 Ctrl-C）")))]
    duration: Option<Duration>,
    /// Machine-readable.
    #[arg(long, help = say(text!("One JSON object per line, the summary last", "每行一个 JSON 对象，最后一行为汇总")))]
    json: bool,
    /// Which lines.
    #[command(flatten)]
    filter: filter::FilterArgs,
    /// Who suffers.
    #[arg(long, help = say(text!("Also show conversations in trouble: refused, unanswered, cut, repeated", "同时显示受影响的会话：被拒绝、无应答、被切断、重传")))]
    flows: bool,
    /// Callers.
    #[arg(long, help = say(text!("Show the kernel functions that led to the drop", "显示导致丢弃的内核调用栈")))]
    stack: bool,
    /// More.
    #[arg(short, long, help = say(text!("Say what each drop means, where exactly, and who owns the socket", "说明每次丢弃的含义、确切位置与套接字所有者")))]
    verbose: bool,
    /// Capture file.
    #[arg(long, value_name = "FILE", help = say(text!(
        "Also write the dropped packets to FILE (pcapng, the reason as a comment)",
        "同时将被丢弃的包写入 FILE（pcapng，原因作为注释）")))]
    pcapng: Option<PathBuf>,
    /// Colour.
    #[arg(long, value_enum, default_value = "auto", help = say(text!("When to use colours", "何时使用颜色")))]
    color: Colour,
    /// For tests: begin the ladder here.
    #[arg(long, hide = true, value_parser = parse_step)]
    step: Option<Step>,
}

fn parse_step(word: &str) -> Result<Step, String> {
    Step::from_word(word).ok_or_else(|| format!("one of {}", Step::LADDER.map(Step::word).join(", ")))
}

/// One drop with what it means and whose it is.
pub struct Line<'a> {
    event: &'a DropEvent,
    place: Place,
    target: Option<&'a Target>,
}

/// Names of namespaces by inode.
pub struct Targets(BTreeMap<u64, Target>);

impl Targets {
    /// The target of a namespace; none if it is not known which namespace it was.
    fn by_inode(&self, inode: Option<u64>) -> Option<&Target> {
        self.0.get(&inode?)
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.0.values().map(|target| sanitize(&target.name, 40)).collect();
        match names.get(..3) {
            Some(first) if names.len() > 3 => format!("{} ... ({})", first.join(", "), names.len()),
            _ => names.join(", "),
        }
    }
}

/// Runs the command.
pub fn run(args: TraceArgs) -> Result<u8> {
    let cancel = signals::cancel_flag()?;
    let found = args.place.open()?;
    for passed in &found.missing {
        let why = match &passed.before {
            Reading::Absent(why) | Reading::Denied(why) | Reading::Failed(why) => why.as_str(),
            Reading::Present(_) => "",
        };
        let (name, why) = (sanitize(&passed.target.name, 80), sanitize(why, 200));
        let said = text!("passed over {name}: {why}", "跳过 {name}：{why}");
        writeln!(std::io::stderr().lock(), "{}", said.fill(&[("name", &name), ("why", &why)]).get(lang()))?;
    }
    let targets = Targets(found.resolved.iter().map(|r| (r.netns.inode(), r.target.clone())).collect());
    let filter = Filter::new(&args.filter)?;
    let options = TraceOptions {
        netns: if args.place.all { vec![] } else { targets.0.keys().copied().collect() },
        stacks: true,
        owners: true,
        flows: args.flows,
        from: args.step.unwrap_or(Step::TpBtf),
    };
    let mut tracer = Tracer::start(&options).map_err(|refused| {
        let error = whydrop_host::Error::new(
            text!("trace {object}", "追踪{object}"),
            text!("kernel drops", "内核丢包"),
            refused.phrase(),
        );
        if refused.is_denied() {
            error.with_hint(text!("run it with sudo", "用 sudo 运行").phrase())
        } else {
            error
        }
    })?;
    announce(&tracer, &targets)?;
    if args.flows && tracer.flows()?.is_none() {
        let blind = text!("{step} shows no conversations", "{step} 看不到会话");
        let blind = blind.fill(&[("step", &tracer.step().word())]);
        writeln!(std::io::stderr().lock(), "{}", blind.get(lang()))?;
    }

    let mut view = View::new(&args, &filter, &targets, settings(&found.resolved))?;
    let mut talks = args.flows.then(|| Flows::new(&targets, args.json));
    let end = args.duration.map(|duration| Instant::now() + duration);
    let (mut failure, mut pause) = (None, FIRST_POLL);
    while !cancel.load(Ordering::Acquire) && end.is_none_or(|end| Instant::now() < end) && failure.is_none() {
        let counts = if view.is_due() { Some(tracer.counts()?) } else { None };
        tracer.poll(&mut |event| {
            if failure.is_none() {
                failure = view.show(&event).err();
            }
        })?;
        if let Some(talks) = talks.as_mut().filter(|talks| talks.is_due())
            && let Some(log) = tracer.flows()?
        {
            talks.show(&log, view.out())?;
        }
        view.tick(tracer.step(), counts.as_deref())?;
        let left = end.map_or(POLL, |end| end.saturating_duration_since(Instant::now()));
        std::thread::sleep(left.min(pause));
        pause = POLL.min(pause * 2);
    }
    if let Some(talks) = &mut talks
        && let Some(log) = tracer.flows()?
    {
        talks.show(&log, view.out())?;
    }
    let step = tracer.step();
    let traced = tracer.stop(&mut |event| {
        if failure.is_none() {
            failure = view.show(&event).err();
        }
    })?;
    if let Some(error) = failure {
        return Err(error);
    }
    let log = traced.drops;
    let summary = Summary::new(&log, step, view.sampled, &targets, &view.places);
    view.finish(&log.counts, &summary)?;
    Ok(0)
}

/// What is set in the namespaces now: it tells apart what one place of the kernel cannot.
fn settings(targets: &[Resolved]) -> Settings {
    let netns: Vec<&Netns> = targets.iter().map(|resolved| &resolved.netns).collect();
    let snapshots = collect::snapshots(&netns, &Context::read(&netns));
    Settings::new(targets.iter().map(|resolved| resolved.target.clone()).zip(snapshots).collect())
}

/// Says on stderr that it has begun, so that silence afterwards means something.
fn announce(tracer: &Tracer, targets: &Targets) -> Result<()> {
    let mut out = std::io::stderr().lock();
    for refused in tracer.refused().phrases() {
        writeln!(out, "{}", sanitize(refused.get(lang()), 300))?;
    }
    let begun = text!(
        "tracing drops in {names} with {step}; silence means none. Ctrl-C: summary",
        "正在用 {step} 追踪 {names} 中的丢包；没有输出即没有丢包。Ctrl-C：汇总"
    );
    let begun = begun.fill(&[("names", &targets.names()), ("step", &tracer.step().word())]);
    writeln!(out, "{}", begun.get(lang()))?;
    Ok(())
}

/// The word of a class on a line, padded by the caller.
fn class_word(class: Class) -> &'static str {
    class.word().get(lang())
}
