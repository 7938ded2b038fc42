//! `cargo xtask bpf`: compiles the tracer's BPF program, or checks that the committed object belongs to its sources.
//!
//! The object is committed so that nobody needs clang to build whydrop; the sums beside it tie it to its sources.
//! clang versions differ in what they emit, so the check compares sums and compiles nothing.

use crate::process::{output, run, workspace};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "drops.bpf.c";
const OBJECT: &str = "drops.bpf.o";
const HEADERS: [&str; 6] = ["ktypes.h", "common.h", "drops.h", "flows.h", "flows.bpf.h", "calls.bpf.h"];
/// In the format of sha256sum, so that a person can check it without us.
const SUMS: &str = "SHA256SUMS";

/// Compiles the object and writes the sums, or with `check` only compares them.
pub fn bpf(check: bool) -> Result<()> {
    if check {
        return run(sha256sum().args(["--check", "--strict", "--quiet", SUMS])).context(
            "the committed BPF object and its sources do not belong together: run `cargo xtask bpf`",
        );
    }
    // No path of this machine may get into the object; v3 is the instruction set of Linux 5.1.
    let flags = ["-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror", "-fdebug-compilation-dir=."];
    run(Command::new("clang").current_dir(directory()).args(flags).args(["-c", SOURCE, "-o", OBJECT]))
        .context("compiling needs clang and libbpf's headers (Debian: clang llvm libbpf-dev)")?;
    // Debug sections go, BTF stays: CO-RE needs it.
    run(Command::new("llvm-strip").current_dir(directory()).args(["-g", OBJECT]))?;
    let sums = output(sha256sum().args(HEADERS).args([SOURCE, OBJECT]))?;
    std::fs::write(directory().join(SUMS), sums).context("cannot write the sums")
}

fn directory() -> PathBuf {
    workspace().join("crates/host/bpf")
}

fn sha256sum() -> Command {
    let mut command = Command::new("sha256sum");
    command.current_dir(directory());
    command
}
