//! The question before anything is changed.

use super::choice::Choice;
use crate::failure::Refusal;
use crate::settings::lang;
use crate::signals::Signals;
use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::{BufRead, IsTerminal, Write};
use whydrop_model::{Applicability, text};
use whydrop_report::error::Problem;

/// How often a signal is looked for while nobody answers: one that falls between look and wait is not seen by the wait.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Asks. Anything but a clear yes is a no, and so is a signal; what is not safe needs the whole word.
pub(super) fn confirmed(chosen: &[Choice<'_>], signals: &Signals) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        let what =
            text!("cannot ask before applying: stdin is no terminal", "无法询问是否执行：标准输入不是终端");
        let tries = Some("whydrop fix TARGET --apply --yes".to_owned());
        return Err(Refusal(Problem { what: what.phrase(), tries, ..Problem::default() }).into());
    }
    let whole = chosen.iter().any(|choice| choice.fix.applicability != Applicability::Safe);
    let question = if whole {
        text!(
            "Apply? More than the traffic in trouble is affected. Type yes, or Enter for no: ",
            "执行？受影响的不只是出问题的流量。输入 yes 确认，直接回车取消："
        )
    } else {
        text!("Apply? [y]es, [N]o: ", "执行？[y] 是，[N] 否：")
    };
    let mut err = std::io::stderr().lock();
    write!(err, "{}", question.get(lang()))?;
    err.flush()?;
    if !answered(signals)? {
        writeln!(err)?;
        return Ok(false);
    }
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let answer = answer.trim();
    Ok(answer == "yes" || (!whole && answer == "y"))
}

/// Waits for an answer; false if a signal came first. A read that is begun anew after each signal would never notice.
fn answered(signals: &Signals) -> Result<bool> {
    let stdin = std::io::stdin();
    while !signals.came() {
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut fds, Some(&TICK)) {
            Ok(0) | Err(Errno::INTR) => (),
            Ok(_) => return Ok(!signals.came()),
            Err(e) => return Err(std::io::Error::from(e).into()),
        }
    }
    Ok(false)
}
