//! The report for people at a terminal.
//!
//! Order: verdict, probes, where (the ledger), causes, what is not a cause, what was not seen, the next command.
//! The first line is the answer and the last lines are what to do; a reader can stop after any block.

mod brief;
mod cause;
pub mod flows;
mod headline;
mod history;
mod ledger;
mod next;
mod outcome;
mod plan;
mod probes;
mod seen;
pub(crate) mod tenants;

pub use outcome::outcome;
pub use plan::plan;

pub(crate) use cause::{all_checks, claims};
pub(crate) use headline::headline;
pub(crate) use history::told as history;
pub(crate) use ledger::{rows, unexplained_places};
pub(crate) use next::commands as next_commands;
pub(crate) use probes::lines as probe_lines;
pub(crate) use seen::unseen;

use crate::layout::{Page, Style, name};
use crate::way::Picture;
use std::io::{self, Write};
use whydrop_model::report::SufferingFlow;
use whydrop_model::{Action, Fix, Lang, Phrase, Report, Verdict};

/// Causes that are told in full unless [`Options::every_cause`] is set; the rest take one line each.
pub const FULL_CAUSES: usize = 8;

/// How the text is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Language.
    pub lang: Lang,
    /// Escape sequences for colour.
    pub colour: bool,
    /// For screen readers: sentences without columns and bars.
    pub plain: bool,
    /// One tab-separated line for each cause, and nothing else.
    pub brief: bool,
    /// All causes in full, however many: an explicit `--format text`.
    pub every_cause: bool,
    /// The way of whoever suffers most, namespace by namespace.
    pub way: bool,
    /// Columns of a line; commands may pass it.
    pub width: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lang: Lang::En,
            colour: false,
            plain: false,
            brief: false,
            every_cause: false,
            way: false,
            width: 80,
        }
    }
}

impl Options {
    pub(crate) fn page(&self) -> Page {
        // Below 40 columns nothing can be aligned; the terminal may break lines itself there.
        Page::new(Style {
            width: self.width.max(40),
            colour: self.colour,
            plain: self.plain,
            lang: self.lang,
        })
    }
}

/// Writes the whole report.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    if options.brief {
        return out.write_all(brief::lines(report).as_bytes());
    }
    let mut page = options.page();
    headline::write(report, options.lang, &mut page);
    tenants::write(report, options.lang, &mut page);
    flows::write(report, options.lang, &mut page);
    // With nothing to explain the report is short: no blocks and no blank lines.
    let airy = report.verdict == Verdict::Loss || !report.findings.is_empty();
    if airy {
        page.blank();
        probes::write(report, options.lang, &mut page);
        ledger::write(report, options, &mut page);
        page.blank();
        way(report, options, &mut page);
        cause::write(report, options, &mut page);
    } else {
        if report.ledger.lost > 0 {
            ledger::write(report, options, &mut page);
        }
        way(report, options, &mut page);
    }
    history::write(report, options, &mut page);
    seen::write(report, options, &mut page);
    if airy {
        page.blank();
    }
    next::write(report, options, &mut page);
    out.write_all(page.finish().as_bytes())
}

/// Who suffers and how, in one line.
pub(crate) fn flow_line(report: &Report, flow: &SufferingFlow, lang: Lang) -> String {
    flows::line(&target_name(report, &flow.target), flow, lang)
}

/// The picture of the way, if it is wanted and there is one.
fn way(report: &Report, options: &Options, page: &mut Page) {
    if let Some(picture) = Picture::of(report, options.lang).filter(|_| options.way) {
        crate::way::write(&picture, options, page);
        page.blank();
    }
}

/// The short name of a target for sentences; its id where it is not in the report.
pub(crate) fn target_name(report: &Report, id: &str) -> String {
    name(report.target(id).map_or(id, |t| t.name.as_str()))
}

/// The words of an argv as they have to be typed from the caller's shell to run in the target's namespace.
pub(crate) fn command_line(report: &Report, target: &str, argv: &[String]) -> Result<String, Phrase> {
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    match report.target(target) {
        Some(target) => target.command_line(&words),
        // Cannot be entered from here by any known way; a comment keeps a paste from running on the host.
        None => {
            whydrop_model::command::check(argv)?;
            Ok(format!("# in {}: {}", name(target), whydrop_model::shell::join(argv)))
        }
    }
}

/// The commands of a fix. What is pasted in part does something else, so a reason for one is a reason for all.
pub(crate) fn fix_lines(report: &Report, fix: &Fix) -> Result<Vec<String>, Phrase> {
    fix.steps.iter().map(|step| action_line(report, &step.target, &step.action)).collect()
}

/// The commands that take a fix back, last change first; none if it has no way back.
pub(crate) fn undo_lines(report: &Report, fix: &Fix) -> Option<Result<Vec<String>, Phrase>> {
    let back: Option<Vec<_>> =
        fix.steps.iter().rev().map(|step| Some((&step.target, step.action.inverse()?))).collect();
    Some(back?.into_iter().map(|(target, action)| action_line(report, target, &action)).collect())
}

/// The command of one change.
fn action_line(report: &Report, target: &str, action: &Action) -> Result<String, Phrase> {
    command_line(report, target, &action.command()?)
}
