//! Development tasks of whydrop: `cargo xtask TASK`.
//!
//! Whatever the project needs beside cargo is written here in Rust, so that there is one language, one way to run
//! it, and nothing that only works on one person's machine.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its user")]

mod apt;
mod bpf;
mod ci;
mod docker;
mod generate;
mod new_cause;
mod process;
mod programs;
mod record;
mod vm;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks of whydrop")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Compile the kernel tracer with clang
    Bpf {
        /// Compile nothing; fail if the committed object is not made from the committed source
        #[arg(long)]
        check: bool,
    },
    /// Run every check of the project: format, lints, tests, Docker, guests
    Ci(ci::Options),
    /// Run the whole-program test with a real Docker engine
    Docker,
    /// Write the files that are made from the code
    Gen {
        /// Write nothing; fail if one of them is old
        #[arg(long)]
        check: bool,
    },
    /// Write the file of a new cause
    NewCause {
        /// Its id, such as netfilter.drop_rule
        id: String,
    },
    /// Make the recordings of scenarios/ anew, from the live tests
    Record(record::Options),
    /// Run the whole-program tests in QEMU guests with Debian's kernels
    Vm(vm::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Bpf { check } => bpf::bpf(check),
        Task::Ci(options) => ci::run(&options),
        Task::Docker => docker::run(),
        Task::Gen { check } => generate::generate(check),
        Task::NewCause { id } => new_cause::run(&id),
        Task::Record(options) => record::run(&options),
        Task::Vm(options) => vm::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
