//! Prints a snapshot of one namespace as JSON, and how long each step took.
//!
//! `cargo run --example snapshot [PATH of a namespace]…`; with several paths or `--time` only the times.
#![allow(clippy::print_stdout, clippy::print_stderr)] // an example is a program

use std::path::Path;
use std::time::Instant;
use whydrop_host::Netns;
use whydrop_host::collect::{self, Context};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (options, paths): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let namespaces: Vec<Netns> = match paths.as_slice() {
        [] => vec![Netns::current()?],
        paths => paths.iter().map(|path| Netns::open(Path::new(path))).collect::<Result<_, _>>()?,
    };
    let namespaces: Vec<&Netns> = namespaces.iter().collect();
    let start = Instant::now();
    let context = Context::read(&namespaces);
    eprintln!("owners and namespaces: {:?}", start.elapsed());
    let start = Instant::now();
    let snapshots = collect::snapshots(&namespaces, &context);
    eprintln!("{} snapshots: {:?}", snapshots.len(), start.elapsed());
    if let ([snapshot], false) = (snapshots.as_slice(), options.iter().any(|o| o == "--time")) {
        println!("{}", serde_json::to_string_pretty(snapshot)?);
    }
    Ok(())
}
