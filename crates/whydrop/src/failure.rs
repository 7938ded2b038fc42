//! How an error reaches a person: one error, its remedy, exit status 2.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::process::ExitCode;
use whydrop_model::shell::sanitize;
use whydrop_model::{Lang, Phrase, text};
use whydrop_report::error::Problem;
use whydrop_report::nearest::nearest;

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

/// Prints help, or what is wrong with the command line; help and version are no failures.
pub fn usage(error: &clap::Error, lang: Lang) -> ExitCode {
    let shown = match mistyped(error) {
        Some(problem) => problem.write(lang, &mut std::io::stderr().lock()),
        None => error.print(),
    };
    match (shown, error.use_stderr()) {
        (Ok(()), false) => ExitCode::SUCCESS,
        (Err(e), false) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        _ => ExitCode::from(FAILED),
    }
}

/// A mistake of the command line in our words, with the nearest names; none for help and what is rare.
fn mistyped(error: &clap::Error) -> Option<Problem> {
    let words = |kind: ContextKind| -> Vec<String> {
        match error.get(kind) {
            Some(ContextValue::String(word)) => vec![word.clone()],
            Some(ContextValue::Strings(words)) => words.clone(),
            _ => vec![],
        }
    };
    let first = |kind| sanitize(words(kind).first().map_or("", String::as_str), 80);
    let (argument, value) = (first(ContextKind::InvalidArg), first(ContextKind::InvalidValue));
    let (what, close) = match error.kind() {
        ErrorKind::UnknownArgument => (
            text!("\"{a}\" is no flag or argument here", "此处没有 \"{a}\" 这个选项或参数")
                .fill(&[("a", &argument)]),
            words(ContextKind::SuggestedArg),
        ),
        ErrorKind::InvalidSubcommand => {
            let typed = first(ContextKind::InvalidSubcommand);
            let mut close = words(ContextKind::SuggestedSubcommand);
            if close.is_empty() {
                let known = crate::cli::Cli::command();
                close = nearest(&typed, known.get_subcommands().map(clap::Command::get_name));
            }
            (text!("there is no command \"{a}\"", "没有 \"{a}\" 这个命令").fill(&[("a", &typed)]), close)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => (
            text!("\"{v}\" is no value for {a}", "\"{v}\" 不能作为 {a} 的值")
                .fill(&[("v", &value), ("a", &argument)]),
            words(ContextKind::ValidValue),
        ),
        ErrorKind::MissingRequiredArgument => (
            text!("{a} is missing", "缺少 {a}").fill(&[("a", &words(ContextKind::InvalidArg).join(", "))]),
            vec![],
        ),
        ErrorKind::ArgumentConflict => (
            text!("{a} does not go together with {b}", "{a} 不能与 {b} 同时使用")
                .fill(&[("a", &argument), ("b", &words(ContextKind::PriorArg).join(", "))]),
            vec![],
        ),
        _ => return None,
    };
    let reason = std::error::Error::source(error).map(|source| Phrase::same(source.to_string()));
    Some(Problem { what, reason, close, tries: Some(help_of(error)), ..Problem::default() })
}

/// The help of the command that was typed.
fn help_of(error: &clap::Error) -> String {
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string(),
        _ => String::new(),
    };
    let words = usage.split_whitespace().skip_while(|word| *word != "whydrop");
    let command: Vec<&str> = words.take_while(|word| !word.starts_with(['[', '<', '-'])).collect();
    format!("{} --help", if command.is_empty() { "whydrop".to_owned() } else { command.join(" ") })
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
        problem.tries = problem.tries.or_else(|| host.tries.map(str::to_owned));
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
    fn a_mistyped_flag_names_the_nearest_and_the_help() {
        let parse = |words: &[&str]| crate::cli::Cli::command().try_get_matches_from(words).unwrap_err();
        let told = |words: &[&str]| mistyped(&parse(words)).unwrap();
        let flag = told(&["whydrop", "diagnose", "--dration", "5s"]);
        assert_eq!(flag.close, ["--duration"]);
        assert_eq!(flag.tries.as_deref(), Some("whydrop diagnose --help"));
        assert_eq!(told(&["whydrop", "diagnos"]).close, ["diagnose"]);
        assert!(told(&["whydrop", "xyzzy"]).close.len() == 3);
        let value = told(&["whydrop", "diagnose", "--format", "htm"]);
        assert!(value.close.contains(&"html".to_owned()), "{value:?}");
        assert!(told(&["whydrop", "diagnose", "--duration", "1y"]).reason.is_some());
        assert!(mistyped(&parse(&["whydrop", "--help"])).is_none());
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
