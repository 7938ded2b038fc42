//! One file per command. Each has its arguments and a `run` that gives the exit status.

pub mod demo;
pub mod diagnose;
pub mod explain;
pub mod fix;
pub mod lab;
pub mod observing;
pub mod probe;
pub mod record;
pub mod self_check;
pub mod standing;
pub mod syn_lines;
pub mod trace;
pub mod undo;

use crate::cli::{Cli, Command};
use clap::CommandFactory;
use std::io::Write;

/// Runs the command; the exit status of the contract, or an error (status 2).
pub fn run(cli: Cli) -> anyhow::Result<u8> {
    match cli.command {
        Command::Diagnose(args) => diagnose::run(args),
        Command::Probe(args) => probe::run(args),
        Command::Fix(args) => fix::run(args),
        Command::Undo(args) => undo::run(args),
        Command::Record(args) => record::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Lab(args) => lab::run(args),
        Command::Explain(args) => explain::run(args),
        Command::SelfCheck(args) => self_check::run(args),
        Command::Trace(args) => trace::run(args),
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "whydrop", &mut script);
            print(&script)
        }
        Command::Man => {
            let mut page = vec![];
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            print(&page)
        }
    }
}

fn print(bytes: &[u8]) -> anyhow::Result<u8> {
    std::io::stdout().lock().write_all(bytes)?;
    Ok(0)
}
