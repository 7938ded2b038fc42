//! Development tasks of whydrop: `cargo xtask TASK`.
//!
//! Whatever the project needs beside cargo is written here in Rust, so that there is one language, one way to run
//! it, and nothing that only works on one person's machine.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its user")]

mod apt;
mod bpf;
mod ci;
mod dist;
mod docker;
mod engines;
mod fresh;
mod generate;
mod image;
mod installed;
mod licences;
mod machine;
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
    /// Build all that people install: static programs, packages, images
    Dist(dist::Options),
    /// Run the whole-program test with a real Docker engine
    Docker,
    /// Run the whole-program tests with real containerd, Podman, compose, LXC and systemd-nspawn
    Engines(engines::Options),
    /// Run the README's commands on a bare Debian with Rust and a C compiler
    Fresh(fresh::Options),
    /// Write the files that are made from the code
    Gen {
        /// Write nothing; fail if one of them is old
        #[arg(long)]
        check: bool,
    },
    /// Build the container image, without an engine and without a registry
    Image(image::Options),
    /// Try every artefact of this machine's kind in fresh Debians
    Installed(installed::Options),
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
        Task::Dist(options) => dist::run(&options),
        Task::Docker => docker::run(),
        Task::Engines(options) => engines::run(&options),
        Task::Fresh(options) => fresh::run(&options),
        Task::Gen { check } => generate::generate(check),
        Task::Image(options) => image::run(&options),
        Task::Installed(options) => installed::run(&options),
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
