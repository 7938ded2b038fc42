//! `cargo xtask fresh`: the README's commands on a bare Debian that has Rust and a C compiler and nothing else.

use crate::apt;
use crate::machine::{Machine, at};
use crate::process::{output, run as must, workspace};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// What the machine has beyond Debian's smallest set: what a linker needs, and what a download needs.
const PACKAGES: &str = "gcc,libc6-dev,ca-certificates";

/// Where Rust is, and the checkout, below the root. As on most machines, nobody but root can look into /root.
const RUST: &str = "/opt/rust";
const CHECKOUT: &str = "/root/whydrop";

/// The commands of the README. Docker and the guests do not depend on what the machine has installed.
const COMMANDS: [&str; 2] = ["cargo run --release -- demo", "cargo xtask ci --only format,files,tests"];

/// Options of `cargo xtask fresh`.
#[derive(clap::Args)]
pub struct Options {
    /// Releases of Debian
    #[arg(long, value_delimiter = ',', default_values = ["bookworm", "trixie"])]
    suite: Vec<String>,
    /// Run this shell command in the checkout instead of the README's
    #[arg(long)]
    exec: Option<String>,
}

/// Runs the commands on each release; an error names those that failed.
pub fn run(options: &Options) -> Result<()> {
    apt::install_missing(&[("git", "git")])?;
    let mut failed = Vec::new();
    for suite in &options.suite {
        println!("\n== Debian {suite}");
        let outcome = with_rust(suite).and_then(|machine| match &options.exec {
            Some(command) => run_in(&machine, &["sh", "-c", command]),
            None => COMMANDS.iter().try_for_each(|line| {
                println!("\n$ {line}");
                run_in(&machine, &line.split(' ').collect::<Vec<_>>())
            }),
        });
        if let Err(error) = outcome {
            eprintln!("xtask: Debian {suite}: {error:#}");
            failed.push(suite.as_str());
        }
    }
    println!("{} passed, {} failed", options.suite.len() - failed.len(), failed.len());
    if !failed.is_empty() {
        bail!("failed on Debian {}", failed.join(", "));
    }
    Ok(())
}

/// A fresh Debian with this machine's Rust and a clone of the checkout.
fn with_rust(suite: &str) -> Result<Machine> {
    let machine = Machine::with(suite, PACKAGES)?;
    let rust = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    output(machine.enter("mkdir").args(["--parents", &at(RUST), &at("/root/.cargo")]))?;
    output(machine.enter("mount").args(["--bind", "--options", "ro", rust.trim(), &at(RUST)]))?;
    // What was downloaded once is not downloaded again; a copy, because cargo's lock is not shared.
    let registry = cargo_home()?.join("registry");
    if registry.is_dir() {
        output(machine.enter("cp").arg("--archive").arg(registry).arg(at("/root/.cargo/")))?;
    }
    let clone = ["clone", "--quiet", "--no-hardlinks"];
    output(machine.enter("git").args(clone).arg(workspace()).arg(at(CHECKOUT)))?;
    Ok(machine)
}

/// Runs a program in the checkout, with the environment of a fresh login.
fn run_in(machine: &Machine, words: &[&str]) -> Result<()> {
    let mut command = machine.inside("env");
    command.arg(format!("--chdir={CHECKOUT}")).arg(format!("PATH={RUST}/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    must(command.arg("CARGO_TERM_COLOR=never").args(words))
}

/// Where cargo keeps what it downloaded.
fn cargo_home() -> Result<PathBuf> {
    let set = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    set.or_else(home).context("neither CARGO_HOME nor HOME is set")
}
