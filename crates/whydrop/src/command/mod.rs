//! One file per command. Each has its arguments and a `run` that gives the exit status.

pub mod completions;
pub mod demo;
pub mod diagnose;
pub mod explain;
pub mod fix;
pub mod judging;
pub mod lab;
pub mod man;
pub mod observing;
pub mod probe;
pub mod record;
pub mod self_check;
pub mod standing;
pub mod stat;
pub mod syn_lines;
pub mod target_args;
pub mod targets;
pub mod trace;
pub mod undo;
pub mod watch;
pub mod way;

use crate::cli::{Cli, Command};
use crate::output::print;
use whydrop_host::sys::caps::{self, CapabilitySet};

/// The capabilities that a command may need until it has read all that it reads. Those that judge give up the rest
/// themselves.
fn needed(command: &Command) -> Option<CapabilitySet> {
    match command {
        Command::Diagnose(args) if args.replay.is_some() => Some(caps::OPEN),
        Command::Diagnose(_)
        | Command::Record(_)
        | Command::Probe(_)
        | Command::Trace(_)
        | Command::SelfCheck(_)
        | Command::Targets(_)
        | Command::Stat(_)
        | Command::Watch(_)
        | Command::Way(_)
        | Command::Fix(_)
        | Command::Undo(_) => Some(caps::OBSERVE),
        Command::Explain(_) | Command::Completions(_) | Command::Man(_) | Command::Licences => {
            Some(CapabilitySet::empty())
        }
        // They build and remove what the kernel has.
        Command::Demo(_) | Command::Lab(_) => None,
    }
}

/// Runs the command; the exit status of the contract, or an error (status 2).
pub fn run(cli: Cli) -> anyhow::Result<u8> {
    if let Some(needed) = needed(&cli.command) {
        caps::keep(needed)?;
    }
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
        Command::Targets(args) => targets::run(&args),
        Command::Stat(args) => stat::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Way(args) => way::run(args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Licences => {
            print(include_bytes!("../licences.txt"))?;
            Ok(0)
        }
    }
}
