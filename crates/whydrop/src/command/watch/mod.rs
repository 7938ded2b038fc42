//! `whydrop watch`: the full-screen live view, and the recorder of what was changed.

mod keys;
mod looking;
mod terminal;

use super::observing::parse_duration;
use super::target_args::TargetArgs;
use crate::failure::Refusal;
use crate::output::print;
use crate::settings::{Colour, lang, say};
use crate::signals;
use anyhow::Result;
use looking::Looking;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use terminal::Terminal;
use whydrop_host::replay;
use whydrop_host::sys::memory;
use whydrop_model::shell::{quote, sanitize};
use whydrop_model::text;
use whydrop_report::error::Problem;
use whydrop_report::watch::{Ask, Watch};

/// How long a key may wait to be read.
const TICK: Duration = Duration::from_millis(50);
/// The screen is drawn again after this, whatever happens: the terminal may have another size.
const REDRAW: Duration = Duration::from_millis(250);

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// Where.
    #[command(flatten)]
    place: TargetArgs,
    /// How long a round takes.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration,
          help = say(text!("How long one look takes: 1s, 500ms", "每轮观察多久：1s、500ms")))]
    duration: Duration,
    /// How far back.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration,
          help = say(text!("How far one can go back: 10m", "可回看多久：10m")))]
    keep: Duration,
    /// No drop events.
    #[arg(long, help = say(text!("Do not use the kernel's drop events", "不使用内核丢包事件")))]
    no_trace: bool,
    /// Colour.
    #[arg(long, value_enum, default_value = "auto", help = say(text!("When to use colours", "何时使用颜色")))]
    color: Colour,
}

/// Runs the command. It keeps what reading needs, for it reads on; it judges in threads without any privilege.
pub fn run(args: &WatchArgs) -> Result<u8> {
    if !(std::io::stdout().is_terminal() && std::io::stdin().is_terminal()) {
        return Err(Refusal(Problem {
            what: text!("cannot draw a screen", "无法绘制屏幕").phrase(),
            reason: Some(text!("this is no terminal", "这里不是终端").phrase()),
            tries: Some("whydrop stat --watch".to_owned()),
            ..Problem::default()
        })
        .into());
    }
    memory::one_heap();
    let found = args.place.open()?;
    let names: Vec<String> = found.resolved.iter().map(|t| sanitize(&t.target.name, 40)).collect();
    let rounds = (args.keep.as_secs_f64() / args.duration.as_secs_f64()).ceil();
    let mut watch = Watch::new(names.join(", "), rounds.clamp(1.0, MOST_ROUNDS) as usize, lang());
    let cancel = signals::cancel_flag()?;
    let mut terminal = Terminal::open(args.color.stdout())?;
    let looking = Looking::start(found, args.duration, args.keep, !args.no_trace)?;
    let ended = show(&mut watch, &mut terminal, &looking, &cancel);
    // The terminal is as it was before anything else can fail.
    drop(terminal);
    looking.end();
    ended?;
    print((watch.farewell().join("\n") + "\n").as_bytes())?;
    Ok(0)
}

/// Rounds that are kept at most, so that memory has an end.
const MOST_ROUNDS: f64 = 1200.0;

/// Draws, reads keys and takes rounds in until the end.
fn show(
    watch: &mut Watch,
    terminal: &mut Terminal,
    looking: &Looking,
    cancel: &std::sync::atomic::AtomicBool,
) -> Result<()> {
    let began = Instant::now();
    let mut drawn: Option<Instant> = None;
    while !cancel.load(Ordering::Relaxed) {
        let mut fresh = false;
        while let Some(round) = looking.next()? {
            watch.push(round);
            fresh = true;
        }
        for key in terminal.keys(TICK)? {
            match watch.key(key, began.elapsed().as_secs()) {
                Ask::Quit => return Ok(()),
                Ask::Write => watch.tell(write(looking)),
                Ask::Copy(command) => terminal.copy(&command)?,
                Ask::Faster(faster) => {
                    let length = looking.change_window(faster).as_secs_f64();
                    let said = text!("a look takes {s} s from now on", "此后每轮观察 {s} 秒");
                    watch.tell(said.fill(&[("s", &length)]).get(lang()).to_owned());
                }
                Ask::Draw => {}
            }
            fresh = true;
        }
        if fresh || drawn.is_none_or(|at| at.elapsed() >= REDRAW) {
            watch.tick(jiff::Zoned::now().strftime("%H:%M:%S").to_string());
            let (columns, rows) = terminal.size();
            terminal.draw(&watch.draw(columns, rows))?;
            drawn = Some(Instant::now());
        }
    }
    Ok(())
}

/// Writes the last round; the answer is for the last line of the screen.
fn write(looking: &Looking) -> String {
    let at = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
    let path = PathBuf::from(format!("whydrop-{at}.json"));
    let written = looking.with_last(|observation| replay::write(&path, observation));
    let said = match written {
        None => text!("nothing to write yet", "还没有可写的内容").phrase(),
        Some(Ok(())) => {
            let file = quote(&path.display().to_string());
            text!("written: whydrop diagnose --replay {file}", "已写入：whydrop diagnose --replay {file}")
                .fill(&[("file", &file)])
        }
        Some(Err(error)) => error.phrase(),
    };
    said.get(lang()).to_owned()
}
