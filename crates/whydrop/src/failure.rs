//! How an error reaches a person: one error, its remedy, exit status 2.

use std::process::ExitCode;
use whydrop_model::shell::sanitize;
use whydrop_model::{Lang, Phrase};
use whydrop_report::error::Problem;

/// Status of a usage or internal error.
const FAILED: u8 = 2;

/// Characters of a message; it may hold names that somebody else chose.
const LONGEST: usize = 2000;

/// An error of the program itself, with what helps.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.what.en)]
pub struct Refusal(pub Problem);

/// Prints clap's error or help; help and version are no failures.
pub fn usage(error: &clap::Error) -> ExitCode {
    let shown = error.print();
    match (shown, error.use_stderr()) {
        (Ok(()), false) => ExitCode::SUCCESS,
        (Err(e), false) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        _ => ExitCode::from(FAILED),
    }
}

/// Prints an error with its hints. A broken pipe is no error.
pub fn report(error: &anyhow::Error, lang: Lang) -> ExitCode {
    let broken = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
    if error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(broken)) {
        return ExitCode::SUCCESS;
    }
    // Nothing is left to be done if stderr is closed.
    let _ = problem(error).write(lang, &mut std::io::stderr().lock());
    ExitCode::from(FAILED)
}

fn problem(error: &anyhow::Error) -> Problem {
    if let Some(Refusal(problem)) = error.downcast_ref() {
        return problem.clone();
    }
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    let mut problem = Problem::new(Phrase::same(sanitize(&chain.join(": "), LONGEST)));
    if let Some(host) = error.chain().find_map(|cause| cause.downcast_ref::<whydrop_host::Error>()) {
        problem.needs = host.hint.as_deref().cloned();
        problem.close.clone_from(&host.close);
    }
    problem
}
