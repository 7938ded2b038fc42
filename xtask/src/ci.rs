//! `cargo xtask ci`: every check of the project, one after the other, each with its time.
//!
//! A failed step does not stop the others: one run tells everything. In CI (`CI=true`) nothing may be skipped; elsewhere
//! a step that needs root is skipped without it, and the end says so.

use crate::apt;
use crate::process::{cargo, find_program, run as must};
use crate::{bpf, docker, generate, programs, vm};
use anyhow::{Result, bail};
use clap::Parser;
use std::time::Instant;

/// Options of `cargo xtask ci`.
#[derive(clap::Args)]
pub struct Options {
    /// Run only these steps
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

struct Step {
    name: &'static str,
    needs_root: bool,
    run: fn() -> Result<()>,
}

const STEPS: [Step; 7] = [
    Step { name: "format", needs_root: false, run: format },
    Step { name: "lints", needs_root: false, run: lints },
    Step { name: "files", needs_root: false, run: files },
    Step { name: "tests", needs_root: true, run: tests },
    Step { name: "demo", needs_root: true, run: demo },
    Step { name: "docker", needs_root: true, run: docker::run },
    Step { name: "guests", needs_root: true, run: guests },
];

/// Runs the steps; an error when one of them failed.
pub fn run(options: &Options) -> Result<()> {
    if let Some(unknown) = options.only.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        bail!("no step {unknown}; the steps are {}", STEPS.map(|step| step.name).join(", "));
    }
    let in_ci = std::env::var_os("CI").is_some();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let mut lines = Vec::new();
    for step in
        STEPS.iter().filter(|step| options.only.is_empty() || options.only.iter().any(|o| o == step.name))
    {
        if step.needs_root && !is_root() && !in_ci {
            skipped += 1;
            lines.push(format!("{:<8} skipped: needs root", step.name));
            continue;
        }
        println!("\n== {}", step.name);
        let started = Instant::now();
        let outcome = (step.run)();
        let seconds = started.elapsed().as_secs();
        match outcome {
            Ok(()) => {
                passed += 1;
                lines.push(format!("{:<8} passed  {seconds:>5} s", step.name));
            }
            Err(error) => {
                failed += 1;
                eprintln!("xtask: {}: {error:#}", step.name);
                lines.push(format!("{:<8} FAILED  {seconds:>5} s  {error:#}", step.name));
            }
        }
    }
    println!("\n{}\n{passed} passed, {failed} failed, {skipped} skipped", lines.join("\n"));
    if failed > 0 {
        bail!("{failed} of the steps failed");
    }
    Ok(())
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t0")))
}

fn format() -> Result<()> {
    must(cargo().args(["fmt", "--all", "--check"]))
}

fn lints() -> Result<()> {
    must(cargo().args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
}

/// What is made from other files is what they make.
fn files() -> Result<()> {
    bpf::bpf(true)?;
    generate::generate(true)
}

fn tests() -> Result<()> {
    apt::install_missing(apt::TEST_TOOLS)?;
    let mut tests = cargo();
    match find_program("cargo-nextest") {
        Some(_) => tests.args(["nextest", "run", "--workspace", "--no-fail-fast"]),
        None => tests.args(["test", "--workspace", "--no-fail-fast"]),
    };
    must(tests.env("WHYDROP", programs::whydrop()?))
}

/// The first command of the README.
fn demo() -> Result<()> {
    must(cargo().args(["run", "--quiet", "--release", "--", "demo"]))
}

/// All that the guests run, on every kernel: two at a time, some three minutes each.
fn guests() -> Result<()> {
    vm::run(&vm::Options::parse_from(["vm"]))
}
