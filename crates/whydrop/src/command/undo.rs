//! `whydrop undo`: takes a fix back, the last one unless another is named.

use crate::failure::Refusal;
use crate::settings::{lang, say};
use crate::signals::Signals;
use anyhow::Result;
use std::io::{self, Write};
use whydrop_host::act::{self, Journal, Outcome, State, TakenBack, Transaction};
use whydrop_model::shell::sanitize;
use whydrop_model::{Phrase, text};
use whydrop_report::error::Problem;

/// Arguments of `undo`.
#[derive(Debug, clap::Args)]
pub struct UndoArgs {
    /// Which.
    #[arg(value_name = "ID", help = say(text!("Number of the fix (default: the last one)", "修复的编号（默认：最近一次）")))]
    pub id: Option<String>,
    /// Only list.
    #[arg(long, help = say(text!("List what was applied and can be taken back", "列出已执行、可撤销的修复")))]
    pub list: bool,
    /// No question.
    #[arg(long, help = say(text!("Accepted for scripts; undo does not ask", "供脚本使用；undo 不询问")))]
    pub yes: bool,
}

/// Characters of one line about a step or a record.
const LINE: usize = 400;

/// Runs the command.
pub fn run(args: UndoArgs) -> Result<u8> {
    // A way back that is torn apart in the middle helps nobody.
    Signals::watch()?.protect();
    let journal = Journal::open()?;
    if args.list {
        return list(&journal);
    }
    let Some(id) = args.id.map_or_else(|| last(&journal), |id| Ok(Some(id)))? else {
        let nothing = text!("nothing to take back", "没有可撤销的修复");
        writeln!(io::stdout().lock(), "{}", nothing.get(lang()))?;
        return Ok(0);
    };
    let back = Transaction::undo(&journal, &id)?;
    tell(&back, &id, &mut io::stdout().lock())?;
    if back.failed().is_some() {
        return Err(incomplete(&id));
    }
    let done = text!("taken back: {id}", "已撤销：{id}").fill(&[("id", &id)]);
    writeln!(io::stdout().lock(), "{}", done.get(lang()))?;
    Ok(0)
}

fn list(journal: &Journal) -> Result<u8> {
    let listing = journal.list()?;
    let mut out = io::stdout().lock();
    for entry in listing.records {
        writeln!(out, "{}", sanitize(&entry.line(lang()), LINE))?;
    }
    for error in listing.unreadable {
        skipped(&error)?;
    }
    Ok(0)
}

/// The last change that stands and can be reached; what is in its way is named and left.
fn last(journal: &Journal) -> Result<Option<String>> {
    let listing = journal.list()?;
    for error in &listing.unreadable {
        skipped(error)?;
    }
    for record in listing.records.iter().rev() {
        if record.state == State::Undone || record.steps.is_empty() || !record.is_of_this_boot()? {
            continue;
        }
        match act::reachable(record) {
            Ok(()) => return Ok(Some(record.id.clone())),
            Err(error) => skipped(&error.with_detail(&record.id))?,
        }
    }
    Ok(None)
}

fn skipped(error: &whydrop_host::Error) -> Result<()> {
    let said = text!("skipped: {error}", "已跳过：{error}").with(&[("error", &error.phrase())]);
    Ok(writeln!(io::stderr().lock(), "{}", sanitize(said.get(lang()), LINE))?)
}

/// Says what became of each step.
pub(super) fn tell(back: &TakenBack, id: &str, out: &mut dyn Write) -> io::Result<()> {
    for (command, outcome) in &back.steps {
        let command = Phrase::same(sanitize(command, LINE));
        let said = match outcome {
            Outcome::Undone => continue,
            Outcome::AsBefore => text!("as before already: {command}", "本已恢复原状：{command}"),
            Outcome::Failed(error) => {
                let said = text!("NOT taken back: {command}: {error}", "未能撤销：{command}：{error}");
                let said = said.with(&[("command", &command), ("error", &error.phrase())]);
                writeln!(out, "{}", said.get(lang()))?;
                continue;
            }
        };
        writeln!(out, "{}", said.with(&[("command", &command)]).get(lang()))?;
    }
    if let Some(error) = &back.unrecorded {
        let said = text!(
            "the journal does not know that {id} was taken back, and need not: {error}",
            "改动记录未能写入 {id} 已撤销，但不影响结果：{error}"
        );
        let said = said.with(&[("id", &Phrase::same(id)), ("error", &error.phrase())]);
        writeln!(out, "{}", said.get(lang()))?;
    }
    Ok(())
}

/// The error of a way back that leaves something.
pub(super) fn incomplete(id: &str) -> anyhow::Error {
    let what = text!("not all of {id} could be taken back", "{id} 未能全部撤销").fill(&[("id", &id)]);
    Refusal(Problem { what, tries: Some(format!("whydrop undo {id}")), ..Problem::default() }).into()
}
