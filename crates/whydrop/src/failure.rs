//! How an error reaches a person: one error, its remedy, exit status 2.

use std::io::Write;
use std::process::ExitCode;
use whydrop_model::shell::sanitize;
use whydrop_model::{Lang, Phrase, text};

/// Status of a usage or internal error.
const FAILED: u8 = 2;

/// An error of the program itself, with a hint.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    message: String,
    hint: Option<Phrase>,
}

impl Refusal {
    /// An error that says what is wrong and what to try, in the language of this run.
    pub fn new(message: Phrase, hint: Phrase) -> Self {
        Self { message: message.get(crate::settings::lang()).to_owned(), hint: Some(hint) }
    }
}

/// Prints clap's error or help; help and version are no failures.
pub fn usage(error: &clap::Error) -> ExitCode {
    let shown = error.print();
    match (shown, error.use_stderr()) {
        (Ok(()), false) => ExitCode::SUCCESS,
        (Err(e), false) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        _ => ExitCode::from(FAILED),
    }
}

/// Prints an error with its hint. A broken pipe is no error.
pub fn report(error: &anyhow::Error, lang: Lang) -> ExitCode {
    let broken = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
    if error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(broken)) {
        return ExitCode::SUCCESS;
    }
    let mut message = error.to_string();
    let mut next = error.chain().nth(1);
    while let Some(cause) = next {
        message = format!("{message}: {cause}");
        next = cause.source();
    }
    let hint = error.chain().find_map(|cause| {
        let host = cause.downcast_ref::<whydrop_host::Error>().and_then(|e| e.hint.as_ref());
        host.or_else(|| cause.downcast_ref::<Refusal>().and_then(|r| r.hint.as_ref()))
    });
    let head = text!("error: ", "错误：").get(lang);
    let mut out = format!("{head}{}\n", sanitize(&message, 2000));
    if let Some(hint) = hint {
        out.push_str(&format!("  {}{}\n", text!("try:  ", "可试：").get(lang), hint.get(lang)));
    }
    // Nothing is left to be done if stderr is closed.
    let _ = std::io::stderr().lock().write_all(out.as_bytes());
    ExitCode::from(FAILED)
}
