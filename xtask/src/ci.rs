//! `cargo xtask ci`: every check of the project, one after the other, each with its time.
//!
//! A failed step does not stop the others: one run tells everything. In CI (`CI=true`) nothing may be skipped; elsewhere
//! a step that needs root is skipped without it, and the end says so.

use crate::apt;
use crate::process::{cargo, find_program, run as must};
use crate::{bpf, dist, docker, engines, generate, installed, programs, vm};
use anyhow::{Result, bail};
use clap::Parser;
use std::process::Command;
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

const STEPS: [Step; 9] = [
    Step { name: "format", needs_root: false, run: format },
    Step { name: "lints", needs_root: false, run: lints },
    Step { name: "files", needs_root: false, run: files },
    Step { name: "tests", needs_root: true, run: tests },
    Step { name: "demo", needs_root: true, run: demo },
    Step { name: "packages", needs_root: true, run: packages },
    Step { name: "docker", needs_root: true, run: docker::run },
    Step { name: "engines", needs_root: true, run: engines::all },
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

/// The first thing that people run.
fn demo() -> Result<()> {
    must(Command::new(programs::whydrop_optimised()?).arg("demo"))
}

/// What people install, on one Debian; all of them take minutes each.
fn packages() -> Result<()> {
    if let Err(error) = dist::obtainable() {
        println!("not tried, the static program cannot be built here: {error:#}");
        return Ok(());
    }
    installed::on(&["bookworm"])
}

/// All that the usual guests run: two at a time, some three minutes each. The others are for whoever changes the tracer.
fn guests() -> Result<()> {
    vm::run(&vm::Options::parse_from(["vm", "--kernels", &vm::usual().join(",")]))
}
