//! `whydrop stat`: every loss counter of every layer in one table.

use super::observing::parse_duration;
use super::target_args::{ALL_CONTAINERS, TARGET};
use crate::output::{answer, print};
use crate::settings::{self, Colour, lang, say};
use crate::signals;
use anyhow::Result;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use whydrop_host::collect::{self, Context};
use whydrop_host::targets::{self, Resolved};
use whydrop_host::{Netns, powers};
use whydrop_model::snapshot::MachineSnapshot;
use whydrop_model::{Coverage, Reading, Snapshot, text};
use whydrop_report::stat::{self, MACHINE, Row, Table};
use whydrop_report::{json, text::Options};

/// How often the waiting thread looks at the clock and the cancel flag.
const TICK: Duration = Duration::from_millis(20);

/// Arguments of `stat`.
#[derive(Debug, clap::Args)]
pub struct StatArgs {
    /// Where.
    #[arg(value_name = "TARGET", help = say(TARGET))]
    targets: Vec<String>,
    /// Every container.
    #[arg(long, conflicts_with = "targets", help = say(ALL_CONTAINERS))]
    all_containers: bool,
    /// All counters.
    #[arg(long, help = say(text!(
        "All counters, those at zero and those that count no loss included",
        "列出全部计数器，包括为零的和不表示丢包的")))]
    all: bool,
    /// Again and again.
    #[arg(long, help = say(text!("What rises, again and again until Ctrl-C", "持续列出增加的计数器，直到 Ctrl-C")))]
    watch: bool,
    /// How long.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration,
          help = say(text!("Time between two readings: 5s, 500ms, 1m", "两次读取之间的时间：5s、500ms、1m")))]
    duration: Duration,
    /// Machine-readable.
    #[arg(long, help = say(text!(
        "One JSON document; with --watch one on each line",
        "输出一份 JSON；加 --watch 则每行一份")))]
    json: bool,
    /// Colour.
    #[arg(long, value_enum, default_value = "auto", help = say(text!("When to use colours", "何时使用颜色")))]
    color: Colour,
    /// Sentences.
    #[arg(long, help = say(text!("Sentences instead of columns", "用句子代替表格")))]
    plain: bool,
}

/// Everything that is read at one moment.
struct Round {
    at: Instant,
    machine: MachineSnapshot,
    namespaces: Vec<Reading<Snapshot>>,
}

impl Round {
    fn read(targets: &[Resolved]) -> Self {
        let netns: Vec<&Netns> = targets.iter().map(|target| &target.netns).collect();
        Self {
            at: Instant::now(),
            machine: collect::machine(),
            namespaces: collect::snapshots(&netns, &Context::read(&netns)),
        }
    }

    fn rows(&self, before: &Self, targets: &[Resolved]) -> Vec<Row> {
        let machine = [&before.machine, &self.machine].map(Table::of_machine);
        let mut rows = stat::compare(MACHINE, &machine[0], &machine[1]);
        for ((target, old), new) in targets.iter().zip(&before.namespaces).zip(&self.namespaces) {
            if let (Some(old), Some(new)) = (old.get(), new.get()) {
                rows.extend(stat::compare(&target.target.id, &Table::of(old), &Table::of(new)));
            }
        }
        stat::sort(&mut rows);
        rows
    }

    fn unseen(&self, targets: &[Resolved]) -> Vec<Coverage> {
        let each = targets.iter().zip(&self.namespaces);
        let namespaces = each.flat_map(|(target, reading)| stat::unseen(&target.target.id, reading));
        stat::unseen_of_machine(&self.machine).into_iter().chain(namespaces).collect()
    }
}

/// Runs the command.
pub fn run(args: &StatArgs) -> Result<u8> {
    let found = match args.all_containers {
        true => targets::all_containers()?,
        false => targets::resolve_all(&args.targets)?,
    };
    let cancel = signals::cancel_flag()?;
    let targets = found.resolved;
    let missing: Vec<Coverage> =
        found.missing.iter().flat_map(|m| stat::unseen(&m.target.id, &m.before)).collect();
    let mut options = Options {
        lang: lang(),
        colour: args.color.stdout(),
        plain: settings::plain(args.plain),
        ..Options::default()
    };
    let before = Round::read(&targets);
    if args.watch {
        options.colour = false;
        return watch(args, &targets, before, &options, &cancel);
    }
    wait(args.duration, &cancel);
    let after = Round::read(&targets);
    powers::give_up()?;
    let mut rows = after.rows(&before, &targets);
    rows.retain(|row| args.all || row.matters());
    let coverage: Vec<Coverage> = after.unseen(&targets).into_iter().chain(missing).collect();
    let seconds = (after.at - before.at).as_secs_f64();
    let mut out = vec![];
    match args.json {
        true => json::pretty(&stat::document(&rows, &coverage, seconds, lang()), &mut out)?,
        false => stat::write(&rows, &coverage, seconds, &options, &mut out)?,
    }
    print(&out)?;
    Ok(0)
}

/// Round after round until the end.
fn watch(
    args: &StatArgs,
    targets: &[Resolved],
    mut before: Round,
    options: &Options,
    cancel: &AtomicBool,
) -> Result<u8> {
    let (mut out, mut told) = (answer(), BTreeSet::new());
    while !cancel.load(Ordering::Relaxed) && !out.is_unread() {
        wait(args.duration, cancel);
        let after = Round::read(targets);
        let mut rows = after.rows(&before, targets);
        rows.retain(|row| args.all || row.matters());
        let seconds = (after.at - before.at).as_secs_f64();
        if args.json {
            rows.retain(|row| args.all || row.change.risen() > 0);
            let coverage = after.unseen(targets);
            json::line(&stat::document(&rows, &coverage, seconds, lang()), &mut out)?;
        } else {
            let at = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
            stat::write_round(&rows, seconds, &at, &mut told, options, &mut out)?;
        }
        out.flush()?;
        before = after;
    }
    Ok(0)
}

fn wait(time: Duration, cancel: &AtomicBool) {
    let end = Instant::now() + time;
    while !cancel.load(Ordering::Relaxed) && Instant::now() < end {
        std::thread::sleep(TICK.min(end.saturating_duration_since(Instant::now())));
    }
}
