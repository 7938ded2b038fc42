//! `whydrop diagnose`: observe, judge, report.

use super::judging::judge_apart;
use super::observing::ObserveArgs;
use crate::failure::Refusal;
use crate::output::answer;
use crate::progress::Telling;
use crate::settings::{self, Colour, lang, say};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use whydrop_host::{output, powers, replay};
use whydrop_model::{Observation, Report, Severity, text};
use whydrop_report as report;
use whydrop_report::stat;

/// Arguments of `diagnose`.
#[derive(Debug, clap::Args)]
pub struct DiagnoseArgs {
    /// Where to look.
    #[command(flatten)]
    pub observe: ObserveArgs,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
    /// No longer than needed.
    #[arg(long, conflicts_with = "replay", help = say(text!(
        "End as soon as the causes are certain; --duration is then the longest time",
        "原因一旦确定就结束；此时 --duration 为最长时间")))]
    pub until_sure: bool,
    /// Keep the evidence.
    #[arg(long, value_name = "FILE", help = say(text!("Also keep the evidence in FILE", "同时将证据保存到 FILE")))]
    pub record: Option<PathBuf>,
    /// Judge a recording.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["targets", "all", "probes", "from", "passive", "record"],
          help = say(text!("Judge a recording instead of this machine", "判断一份录制，而不是本机")))]
    pub replay: Option<PathBuf>,
}

/// How a report is shown.
#[derive(Clone, Debug, clap::Args)]
pub struct OutputArgs {
    /// Format.
    #[arg(long, value_enum, help = say(text!("Format of the report (default: text)", "报告格式（默认 text）")))]
    pub format: Option<Format>,
    /// Short for `--format json`.
    #[arg(long, conflicts_with = "format", help = say(text!("Short for --format json", "等同 --format json")))]
    pub json: bool,
    /// File.
    #[arg(short, long, value_name = "FILE", help = say(text!("Write the report to FILE", "将报告写入 FILE")))]
    pub output: Option<PathBuf>,
    /// Severity.
    #[arg(long, value_enum, value_name = "LEVEL",
          help = say(text!("Leave out causes below this severity", "不显示低于此严重程度的原因")))]
    pub min_severity: Option<MinSeverity>,
    /// Silence.
    #[arg(long, help = say(text!("Print nothing; only the exit status answers", "不输出任何内容，仅以退出码作答")))]
    pub quiet: bool,
    /// Colour.
    #[arg(long, value_enum, default_value = "auto", help = say(text!("When to use colours", "何时使用颜色")))]
    pub color: Colour,
    /// Sentences.
    #[arg(long, help = say(text!("Sentences instead of columns and bars", "用句子代替表格与条形")))]
    pub plain: bool,
    /// The picture.
    #[arg(long, help = say(text!("Also show the way of the packets, namespace by namespace", "同时逐个命名空间显示数据包的路径")))]
    pub way: bool,
    /// One line per cause.
    #[arg(long, help = say(text!("One line per cause, tab separated", "每个原因一行，以制表符分隔")))]
    pub brief: bool,
}

/// A format of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// The contract.
    Json,
    /// For tickets.
    Markdown,
    /// One file for a browser.
    Html,
}

/// A severity, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MinSeverity {
    /// All.
    Warning,
    /// Only critical ones.
    Critical,
}

/// Runs the command. What others wrote is judged without any privilege.
pub fn run(args: DiagnoseArgs) -> Result<u8> {
    judge(&args, || powers::give_up().map(drop))
}

/// Observes or loads, writes the recording and opens the report's file; then gives up what `give_up` does, judges
/// and shows.
pub fn judge(args: &DiagnoseArgs, give_up: impl FnOnce() -> whydrop_host::error::Result<()>) -> Result<u8> {
    let (observation, file) = match &args.replay {
        Some(path) => {
            let bytes = replay::load(path)?;
            let file = args.output.open()?;
            give_up()?;
            (replay::decode(path, &bytes)?, file)
        }
        None => {
            let telling = Telling::of(args.output.quiet, args.output.plain);
            let settled = |seen: &Observation| Ok(judge_apart(seen)?.is_settled());
            let mut observation = match args.until_sure {
                true => args.observe.observe_until(telling, &settled)?,
                false => args.observe.observe_once(telling)?,
            };
            if let Some(path) = &args.record {
                observation = replay::write(path, observation)?;
            }
            let file = args.output.open()?;
            give_up()?;
            (observation, file)
        }
    };
    let mut report = whydrop_checks::judge(&observation);
    args.output.show(&mut report, &observation, file)?;
    Ok(report.verdict.exit_status())
}

impl OutputArgs {
    /// Opens the file that the report goes to, if it goes to one.
    pub fn open(&self) -> Result<Option<File>> {
        Ok(self.output.as_deref().map(output::create).transpose()?)
    }

    /// Writes the report where and how it is wanted; `seen` is what it was made from, and `file` comes
    /// from [`OutputArgs::open`].
    pub fn show(&self, report: &mut Report, seen: &Observation, file: Option<File>) -> Result<()> {
        if self.min_severity == Some(MinSeverity::Critical) {
            report.keep(Severity::Critical);
        }
        match file {
            Some(file) => {
                let mut out = BufWriter::new(file);
                self.render(report, seen, false, &mut out)?;
                out.flush().context(Refusal::new(text!("cannot write the report", "无法写入报告")))
            }
            None if self.quiet => Ok(()),
            None => {
                let mut out = answer();
                self.render(report, seen, self.color.stdout(), &mut out)?;
                Ok(out.flush()?)
            }
        }
    }

    fn render(&self, report: &Report, seen: &Observation, colour: bool, out: &mut dyn Write) -> Result<()> {
        let format = if self.json { Format::Json } else { self.format.unwrap_or(Format::Text) };
        let options = report::text::Options {
            lang: lang(),
            colour,
            plain: settings::plain(self.plain),
            brief: self.brief,
            way: self.way,
            // Whoever names the format wants all of it.
            every_cause: self.format.is_some(),
            ..report::text::Options::default()
        };
        match format {
            Format::Text => report::text::write(report, &options, out)?,
            Format::Html => report::html::write(report, &stat::of_observation(seen), lang(), out)?,
            Format::Markdown => report::markdown::write(report, lang(), out)?,
            Format::Json => report::json::write(report, lang(), env!("CARGO_PKG_VERSION"), out)?,
        }
        Ok(())
    }
}
