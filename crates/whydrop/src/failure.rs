//! How an error reaches a person: one error, its remedy, exit status 2.

use std::process::ExitCode;
use whydrop_model::shell::sanitize;
use whydrop_model::{Lang, Phrase};
use whydrop_report::error::Problem;

/// Status of a usage or internal error.
const FAILED: u8 = 2;

/// Characters of a message; it may hold names that somebody else chose.
const LONGEST: usize = 2000;

/// An error of the program itself, with what helps. As the context of another error it says what failed, and that
/// error is the reason.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.what.en)]
pub struct Refusal(pub Problem);

impl Refusal {
    /// Without hints.
    pub fn new(what: impl Into<Phrase>) -> Self {
        Self(Problem::new(what.into()))
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
    let mut problem = match error.downcast_ref() {
        Some(Refusal(problem)) => {
            let reason = problem.reason.clone().or_else(|| words(error.chain().skip(1)));
            Problem { reason, ..problem.clone() }
        }
        None => Problem::new(words(error.chain()).unwrap_or_default()),
    };
    if let Some(host) = error.chain().find_map(|cause| cause.downcast_ref::<whydrop_host::Error>()) {
        problem.needs = host.hint.as_deref().cloned();
        problem.close.clone_from(&host.close);
    }
    problem
}

/// What errors say, the outermost first; those of libraries and of the kernel speak English. None if there are none.
fn words<'a>(chain: impl Iterator<Item = &'a (dyn std::error::Error + 'static)>) -> Option<Phrase> {
    let said: Vec<Phrase> = chain
        .map(|cause| match cause.downcast_ref::<whydrop_host::Error>() {
            Some(host) => host.phrase(),
            None => Phrase::same(cause.to_string()),
        })
        .collect();
    let side = |lang, between| {
        let said: Vec<&str> = said.iter().map(|phrase| phrase.get(lang)).collect();
        sanitize(&said.join(between), LONGEST)
    };
    (!said.is_empty()).then(|| Phrase { en: side(Lang::En, ": "), zh: side(Lang::Zh, "：") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::io::ErrorKind;
    use whydrop_model::text;

    fn shown(error: &anyhow::Error, lang: Lang) -> String {
        let mut out = vec![];
        problem(error).write(lang, &mut out).expect("a vector takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn speaks_the_language_of_the_run_and_leaves_the_kernel_its_own_words() {
        let refused = std::io::Error::from_raw_os_error(1);
        let read = text!("read the rules of {object}", "读取 {object} 的规则");
        let host = whydrop_host::Error::io(read, "netns:web", &refused);
        let error = anyhow::Error::from(host.with_hint(text!("be root", "需要 root").phrase()));
        let english =
            "error: cannot read the rules of netns:web: Operation not permitted\n  needs: be root\n";
        assert_eq!(shown(&error, Lang::En), english);
        let chinese = "错误：无法读取 netns:web 的规则：Operation not permitted\n  需要：需要 root\n";
        assert_eq!(shown(&error, Lang::Zh), chinese);
    }

    #[test]
    fn the_error_under_a_context_is_the_reason() {
        let below: Result<(), std::io::Error> = Err(std::io::Error::from(ErrorKind::NotFound));
        let what = text!("cannot read {path}", "无法读取 {path}").fill(&[("path", &"a.json")]);
        let error = below.context(Refusal::new(what)).unwrap_err();
        assert_eq!(shown(&error, Lang::En), "error: cannot read a.json: entity not found\n");
        assert_eq!(shown(&error, Lang::Zh), "错误：无法读取 a.json：entity not found\n");
    }
}
