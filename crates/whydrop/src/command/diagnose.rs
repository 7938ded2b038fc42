//! `whydrop diagnose`: observe, judge, report.

use super::observing::ObserveArgs;
use crate::failure::Refusal;
use crate::settings::{self, Colour, lang, say};
use crate::signals;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use whydrop_host::replay;
use whydrop_model::{Report, Severity, text};
use whydrop_report as report;

/// Arguments of `diagnose`.
#[derive(Debug, clap::Args)]
pub struct DiagnoseArgs {
    /// Where to look.
    #[command(flatten)]
    pub observe: ObserveArgs,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputArgs,
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
}

/// A severity, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MinSeverity {
    /// All.
    Warning,
    /// Only critical ones.
    Critical,
}

/// Runs the command.
pub fn run(args: DiagnoseArgs) -> Result<u8> {
    let observation = match &args.replay {
        Some(file) => replay::read(file)?,
        None => {
            let cancel = signals::cancel_flag()?;
            args.observe.observe(&cancel, args.output.quiet)?
        }
    };
    let mut report = whydrop_checks::judge(&observation);
    if let Some(file) = &args.record {
        replay::write(file, observation)?;
    }
    args.output.show(&mut report)?;
    Ok(report.verdict.exit_status())
}

impl OutputArgs {
    /// Writes the report where and how it is wanted.
    pub fn show(&self, report: &mut Report) -> Result<()> {
        if self.min_severity == Some(MinSeverity::Critical) {
            report.keep(Severity::Critical);
        }
        match &self.output {
            Some(path) => {
                let fail = || {
                    let what = text!("cannot write the report to {path}", "无法把报告写入 {path}");
                    Refusal::new(what.fill(&[("path", &path.display())]))
                };
                let file = File::create(path).with_context(fail)?;
                let mut out = BufWriter::new(file);
                self.render(report, false, &mut out)?;
                out.flush().with_context(fail)
            }
            None if self.quiet => Ok(()),
            None => {
                let mut out = BufWriter::new(std::io::stdout().lock());
                self.render(report, self.color.stdout(), &mut out)?;
                Ok(out.flush()?)
            }
        }
    }

    fn render(&self, report: &Report, colour: bool, out: &mut dyn Write) -> Result<()> {
        let format = if self.json { Format::Json } else { self.format.unwrap_or(Format::Text) };
        let options = report::text::Options {
            lang: lang(),
            colour,
            plain: settings::plain(self.plain),
            brief: self.brief,
            // Whoever names the format wants all of it.
            every_cause: self.format.is_some(),
            ..report::text::Options::default()
        };
        match format {
            Format::Text => report::text::write(report, &options, out)?,
            Format::Markdown => report::markdown::write(report, lang(), out)?,
            Format::Json => report::json::write(report, lang(), env!("CARGO_PKG_VERSION"), out)?,
        }
        Ok(())
    }
}
