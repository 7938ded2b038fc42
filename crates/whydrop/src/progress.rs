//! One line on stderr while something runs, gone when it is done.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;
use whydrop_host::observe::Progress;
use whydrop_model::text;

use crate::settings::lang;

/// Nothing is shown before this: what ends sooner needs no line.
const QUIET_START: Duration = Duration::from_millis(300);

/// The progress line of an observation.
pub struct Line {
    bar: Option<ProgressBar>,
    who: String,
    window: Duration,
}

impl Line {
    /// A line for `who`; silent with `quiet`, without a terminal on stderr, or when CI is set.
    pub fn new(who: String, window: Duration, quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal() && std::env::var_os("CI").is_none();
        let bar = shown.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, who, window }
    }

    /// Shows how far it is.
    pub fn update(&self, at: Progress) {
        let Some(bar) = self.bar.as_ref().filter(|_| at.elapsed >= QUIET_START) else { return };
        let (elapsed, window) =
            (format!("{:.1}", at.elapsed.as_secs_f64()), format!("{:.0}", self.window.as_secs_f64()));
        let phrase = if at.sent == 0 {
            text!(
                "{who}: {elapsed} of {window} s (Ctrl-C: report now)",
                "{who}：{elapsed}/{window} 秒（Ctrl-C：立即出报告）"
            )
            .fill(&[("who", &self.who), ("elapsed", &elapsed), ("window", &window)])
        } else {
            text!(
                "{who}: {elapsed} of {window} s, {answered} of {sent} probes answered (Ctrl-C: report now)",
                "{who}：{elapsed}/{window} 秒，探测 {sent} 个，应答 {answered} 个（Ctrl-C：立即出报告）"
            )
            .fill(&[
                ("who", &self.who),
                ("elapsed", &elapsed),
                ("window", &window),
                ("answered", &at.answered),
                ("sent", &at.sent),
            ])
        };
        bar.set_message(phrase.get(lang()).to_owned());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
