//! `whydrop record`: the evidence of a run, without a judgement.

use super::observing::ObserveArgs;
use crate::progress::Telling;
use crate::settings::{lang, say};
use anyhow::Result;
use std::io::Write;
use std::path::PathBuf;
use whydrop_host::replay;
use whydrop_model::text;

/// Arguments of `record`.
#[derive(Debug, clap::Args)]
pub struct RecordArgs {
    /// Where to look.
    #[command(flatten)]
    pub observe: ObserveArgs,
    /// File.
    #[arg(short, long, value_name = "FILE", help = say(text!("Where to keep the evidence", "证据保存到哪里")))]
    pub output: PathBuf,
    /// Silence.
    #[arg(long, help = say(text!("Print nothing", "不输出任何内容")))]
    pub quiet: bool,
}

/// Runs the command.
pub fn run(args: RecordArgs) -> Result<u8> {
    let observation = args.observe.observe_once(Telling::of(args.quiet, false))?;
    replay::write(&args.output, observation)?;
    if !args.quiet {
        let file = whydrop_model::shell::quote(&args.output.display().to_string());
        let done = text!(
            "recorded; judge it anywhere with: whydrop diagnose --replay {file}",
            "已录制；可在任何机器上判断：whydrop diagnose --replay {file}"
        )
        .fill(&[("file", &file)]);
        writeln!(std::io::stderr().lock(), "{}", done.get(lang()))?;
    }
    Ok(0)
}
