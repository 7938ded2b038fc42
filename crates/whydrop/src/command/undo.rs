//! `whydrop undo`: takes a fix back, the last one unless another is named.

use crate::settings::{lang, say};
use anyhow::Result;
use std::io::Write;
use whydrop_host::act::{Journal, Transaction};
use whydrop_model::text;

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

/// Runs the command.
pub fn run(args: UndoArgs) -> Result<u8> {
    let journal = Journal::open()?;
    let mut out = std::io::stdout().lock();
    if args.list {
        for entry in journal.list()? {
            writeln!(out, "{}", entry.line(lang()))?;
        }
        return Ok(0);
    }
    let Some(id) = args.id.map_or_else(|| journal.last().map(|e| e.map(|e| e.id)), |id| Ok(Some(id)))? else {
        writeln!(out, "{}", text!("nothing to take back", "没有可撤销的修复").get(lang()))?;
        return Ok(0);
    };
    Transaction::undo(&journal, &id)?;
    let done = text!("taken back: {id}", "已撤销：{id}").fill(&[("id", &id)]);
    writeln!(out, "{}", done.get(lang()))?;
    Ok(0)
}
