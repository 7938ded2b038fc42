//! The numbers up to now: the live line, and the line that SIGQUIT (Ctrl-\) asks for, as with ping.

use crate::failure::Refusal;
use crate::settings::lang;
use anyhow::{Context, Result};
use signal_hook::consts::SIGQUIT;
use signal_hook::iterator::Signals;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use whydrop_model::{Phrase, text};
use whydrop_probe::account::{Counts, Credit};
use whydrop_probe::progress::{Event, Progress};

/// What a run has counted so far.
#[derive(Clone, Copy, Debug, Default)]
struct Running {
    counts: Counts,
    total: Option<u32>,
    /// Answers in time: smallest, sum and largest round trip in milliseconds, and their number.
    rtt: Option<(f64, f64, f64, u64)>,
}

impl Running {
    fn add(&mut self, progress: &Progress) {
        (self.counts, self.total) = (progress.counts, progress.total);
        if let Event::Reply(reply) = &progress.event
            && reply.credit == Credit::OnTime
        {
            let ms = reply.rtt_ms;
            let (min, sum, max, n) = self.rtt.unwrap_or((ms, 0.0, ms, 0));
            self.rtt = Some((min.min(ms), sum + ms, max.max(ms), n + 1));
        }
    }

    fn line(&self) -> Phrase {
        let counts = counts(&self.counts, self.total);
        let Some((min, sum, max, n)) = self.rtt else { return counts };
        let rtt = format!("min/avg/max = {min:.3}/{:.3}/{max:.3} ms", sum / n as f64);
        Phrase { en: format!("{}, {rtt}", counts.en), zh: format!("{}，{rtt}", counts.zh) }
    }
}

/// The counts in one line. What is sent and in no other count is still open.
pub fn counts(c: &Counts, total: Option<u32>) -> Phrase {
    let total = total.map_or_else(String::new, |n| format!("/{n}"));
    text!(
        "{sent}{total} sent, {received} answered, {lost} lost, {late} late",
        "已发 {sent}{total}，应答 {received}，丢失 {lost}，迟到 {late}"
    )
    .fill(&[
        ("sent", &c.transmitted),
        ("total", &total),
        ("received", &c.received),
        ("lost", &c.lost),
        ("late", &c.late),
    ])
}

/// Answers SIGQUIT on a thread of its own, at once, however long the next event takes.
#[derive(Debug)]
pub struct OnQuit(Arc<Mutex<Running>>);

impl OnQuit {
    /// From now on SIGQUIT writes a line to stderr instead of ending the program.
    pub fn install() -> Result<Self> {
        let running = Arc::new(Mutex::new(Running::default()));
        let mut signals = Signals::new([SIGQUIT]).context(Refusal::new(text!(
            "cannot install the handler of SIGQUIT",
            "无法安装 SIGQUIT 的处理程序"
        )))?;
        let shared = Arc::clone(&running);
        // Ends with the process.
        std::thread::spawn(move || {
            for _ in &mut signals {
                let line = shared.lock().unwrap_or_else(PoisonError::into_inner).line();
                // Nobody there to read it: the run goes on.
                writeln!(std::io::stderr(), "{}", line.get(lang())).ok();
            }
        });
        Ok(Self(running))
    }

    /// Takes note of an event.
    pub fn add(&self, progress: &Progress) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(progress);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_known_so_far() {
        let counts = Counts { transmitted: 9, received: 5, lost: 2, late: 1, open: 1, ..Counts::default() };
        let mut running = Running { counts, total: Some(20), rtt: None };
        assert_eq!(running.line().en, "9/20 sent, 5 answered, 2 lost, 1 late");
        running.rtt = Some((0.5, 6.0, 2.0, 4));
        assert!(running.line().en.ends_with(", min/avg/max = 0.500/1.500/2.000 ms"));
        assert!(running.line().zh.starts_with("已发 9/20，"));
    }
}
