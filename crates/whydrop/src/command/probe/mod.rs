//! `whydrop probe`: one URL, honest numbers.

mod arguments;
mod capture;
mod comparison;
mod lines;
mod running;

pub use arguments::ProbeArgs;

use crate::failure::Refusal;
use crate::output::answer;
use crate::settings::lang;
use crate::signals;
use anyhow::{Context, Result};
use capture::Capture;
use lines::Lines;
use running::OnQuit;
use std::io::Write;
use std::sync::Mutex;
use whydrop_host::{probing, targets};
use whydrop_model::{ProbeResult, text};
use whydrop_report::text::Options;

/// Exit status of ping: some reply.
const SOME: u8 = 0;
/// Exit status of ping: no reply; or more loss than `--fail-loss` allows.
const NONE: u8 = 1;

/// Runs the command.
pub fn run(args: ProbeArgs) -> Result<u8> {
    let spec = args.spec()?;
    let before = args.compare.as_deref().map(|path| comparison::read(path, &args.url)).transpose()?;
    let from = match &args.from {
        Some(word) => targets::resolve(word)?,
        None => targets::host()?,
    };
    let to = args.to.as_deref().map(targets::resolve).transpose()?;
    if args.dry_run {
        let address = probing::resolve::address(&spec)?;
        write(lines::announcement(&spec, address).get(lang()))?;
        return Ok(SOME);
    }
    let cancel = signals::cancel_flag()?;
    let capture = args.pcap.as_deref().map(Capture::create).transpose()?.map(Mutex::new);
    let lines = Lines::new(&args, &spec);
    let on_quit = OnQuit::install()?;
    let result = probing::run_between(
        &from.netns,
        to.as_ref().map(|t| &t.netns),
        &from.target.id,
        &spec,
        &cancel,
        &|progress| {
            lines.show(progress);
            on_quit.add(progress);
            if let Some(capture) = &capture {
                capture.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(&progress.event);
            }
        },
    );
    lines.clear();
    let result = result?;
    if let Some(capture) = capture {
        capture.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).finish()?;
    }
    let mut out = answer();
    if args.json {
        whydrop_report::json::pretty(&whydrop_report::json::probe(&result, lang()), &mut out)?;
    } else {
        let options = Options {
            lang: lang(),
            width: columns(),
            plain: crate::settings::plain(false),
            ..Options::default()
        };
        whydrop_report::probe::write(&result, &options, &mut out)?;
        if let Some(before) = before {
            writeln!(out, "  {}", comparison::sentence(before, &result).get(lang()))?;
        }
    }
    out.flush()?;
    Ok(status(&result, args.fail_loss))
}

/// Columns of the terminal; without one, enough for most sentences.
fn columns() -> usize {
    const USUAL: usize = 100;
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    size.map(|s| usize::from(s.ws_col)).filter(|n| *n > 0).map_or(USUAL, |n| n.clamp(40, 200))
}

/// Chance is no failure: the lower bound of the loss must be above the limit.
fn status(result: &ProbeResult, limit: Option<f64>) -> u8 {
    let too_much = limit.zip(result.loss_ci95).is_some_and(|(limit, [low, _])| low > limit);
    if result.received + result.late > 0 && !too_much { SOME } else { NONE }
}

fn write(line: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{line}")
        .context(Refusal::new(text!("cannot write to stdout", "无法写到标准输出")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loss_that_is_certain_fails() {
        let result =
            |received, low| ProbeResult { received, loss_ci95: Some([low, 0.9]), ..ProbeResult::default() };
        assert_eq!(status(&result(9, 0.02), None), SOME);
        assert_eq!(status(&result(9, 0.02), Some(0.01)), NONE);
        assert_eq!(status(&result(9, 0.005), Some(0.01)), SOME);
        assert_eq!(status(&result(0, 0.7), None), NONE);
    }
}
