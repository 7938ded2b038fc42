//! What the numbers in the README come from: `cargo run --release -p whydrop-benches [NAME]...`
//!
//! Each bench does the same work with whydrop and with what people use today, in turns in one run on one machine, and
//! prints the median of both. Numbers of different machines or runs are not to be compared; ratios are.
#![allow(clippy::print_stdout, reason = "a command-line program talks to its user")]

mod calls;
mod connections;
mod evidence;
mod flood;
mod judge;
mod measure;
mod probes;
mod rules;
mod snapshot;
mod sockets;
mod source_case;
mod stream;
mod watcher;

use anyhow::{Result, bail};
use clap::Parser;
use measure::Comparison;

#[derive(Parser)]
#[command(name = "whydrop-benches", about = "What the numbers in the README come from")]
struct Arguments {
    /// Benches to run: all of them when none is named
    names: Vec<String>,
}

type Bench = fn() -> Result<Vec<Comparison>>;

const BENCHES: [(&str, Bench); 11] = [
    ("snapshot", snapshot::run),
    ("rules", rules::run),
    ("sockets", sockets::run),
    ("flood", flood::run),
    ("evidence", evidence::run),
    ("stream", stream::run),
    ("connections", connections::run),
    ("calls", calls::run),
    ("judge", judge::run),
    ("probes", probes::run),
    ("source-case", source_case::run),
];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(unknown) = arguments.names.iter().find(|name| BENCHES.iter().all(|(known, _)| known != name))
    {
        bail!("no bench {unknown}; there are {}", BENCHES.map(|(name, _)| name).join(", "));
    }
    println!("| work | with | wall | times as fast | CPU | peak memory |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (name, bench) in BENCHES {
        if arguments.names.is_empty() || arguments.names.iter().any(|wanted| wanted == name) {
            bench()?.iter().for_each(|comparison| println!("{comparison}"));
        }
    }
    Ok(())
}
