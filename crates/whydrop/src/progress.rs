//! One line on stderr while something runs, gone when it is done.

use crate::settings::{self, lang};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::Duration;
use whydrop_checks::live;
use whydrop_facts::{Class, place};
use whydrop_host::observe::Progress;
use whydrop_model::shell::sanitize;
use whydrop_model::{DropCount, FlowLog, Lang, Phrase, Target, text};
use whydrop_report::text::flows;

/// Targets that are named.
const NAMED: usize = 3;

/// Nothing is shown before this: what ends sooner needs no line.
const QUIET_START: Duration = Duration::from_millis(300);

/// How much a run tells of itself while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Nothing.
    Silent,
    /// A sentence at the begin and one at the end, for screen readers.
    Sentences,
    /// A line that moves.
    Line,
}

impl Telling {
    /// What `--quiet` and `--plain` ask for. Without a terminal on stderr, or when CI is set, nothing is told.
    pub fn of(quiet: bool, plain: bool) -> Self {
        match () {
            () if quiet || !std::io::stderr().is_terminal() || std::env::var_os("CI").is_some() => {
                Self::Silent
            }
            () if settings::plain(plain) => Self::Sentences,
            () => Self::Line,
        }
    }
}

/// The progress line of an observation.
pub struct Line {
    bar: Option<ProgressBar>,
    telling: Telling,
    who: String,
    window: Duration,
    /// The targets.
    targets: Vec<Target>,
}

impl Line {
    /// A line for an observation of `targets` that takes `window`.
    pub fn new(targets: Vec<Target>, window: Duration, telling: Telling) -> Self {
        let bar = (telling == Telling::Line).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        let shown: Vec<&str> = targets.iter().map(|target| target.name.as_str()).take(NAMED).collect();
        let line = Self { bar, telling, who: sanitize(&shown.join(", "), 40), window, targets };
        let seconds = format!("{:.1}", window.as_secs_f64());
        line.sentence(
            text!("observing {who} for {s} s", "正在观察 {who}，共 {s} 秒")
                .fill(&[("who", &line.who), ("s", &seconds)]),
        );
        line
    }

    /// Shows how far it is, and what has been seen.
    pub fn update(&self, at: &Progress) {
        let Some(bar) = self.bar.as_ref().filter(|_| at.elapsed >= QUIET_START) else { return };
        let (elapsed, window) =
            (format!("{:.1}", at.elapsed.as_secs_f64()), format!("{:.0}", self.window.as_secs_f64()));
        // The terminal cuts the end of a line that is too long for it.
        let how_far = text!(
            "{who}: {elapsed} of {window} s (Ctrl-C: report now)",
            "{who}：{elapsed}/{window} 秒（Ctrl-C：立即出报告）"
        );
        let mut parts = vec![how_far.fill(&[("who", &self.who), ("elapsed", &elapsed), ("window", &window)])];
        if at.sent > 0 {
            parts.push(
                text!("{answered} of {sent} probes answered", "探测 {sent} 个，应答 {answered} 个")
                    .fill(&[("answered", &at.answered), ("sent", &at.sent)]),
            );
        }
        parts.extend(at.flows.as_ref().and_then(|log| self.suffering(log)));
        parts.extend(self.seen(&at.drops));
        let side = |lang, comma| parts.iter().map(|p| p.get(lang)).collect::<Vec<_>>().join(comma);
        let line = Phrase { en: side(Lang::En, ", "), zh: side(Lang::Zh, "，") };
        bar.set_message(line.get(lang()).to_owned());
    }

    /// Who suffers most so far, and how many more do.
    fn suffering(&self, log: &FlowLog) -> Option<Phrase> {
        let all = live::flows(log, |inode| self.by_inode(inode));
        let first = all.first()?;
        let name = self.targets.iter().find(|target| target.id == first.target);
        let name = sanitize(name.map_or("?", |target| target.name.as_str()), 30);
        let side = |lang| flows::line(&name, first, lang);
        let line = Phrase { en: side(Lang::En), zh: side(Lang::Zh) };
        match all.len() - 1 {
            0 => Some(line),
            more => {
                let n = Phrase::same(more.to_string());
                Some(
                    text!("{line} (and {n} more)", "{line}（另有 {n} 个）")
                        .with(&[("line", &line), ("n", &n)]),
                )
            }
        }
    }

    fn by_inode(&self, inode: u64) -> Option<&Target> {
        self.targets.iter().find(|target| target.netns_inode == inode)
    }

    /// How many packets the kernel dropped so far that somebody may miss, and where most of them.
    fn seen(&self, drops: &[DropCount]) -> Option<Phrase> {
        let harm =
            |count: &&DropCount| !matches!(place::of_count(count).class, Class::Benign | Class::NotADrop);
        let harmful: Vec<&DropCount> = drops.iter().filter(harm).collect();
        let most = harmful.iter().max_by_key(|count| count.drops)?;
        let total: u64 = harmful.iter().map(|count| count.drops).sum();
        let target = most.netns_inode.and_then(|inode| self.by_inode(inode));
        let target = target.map(|target| format!("{} ", sanitize(&target.name, 30))).unwrap_or_default();
        Some(
            text!("{n} dropped so far, most: {target}{stage}", "已丢弃 {n} 个，主要在 {target}{stage}")
                .fill(&[("n", &total), ("target", &target), ("stage", &place::of_count(most).stage)]),
        )
    }

    fn sentence(&self, phrase: Phrase) {
        if self.telling == Telling::Sentences {
            // Nothing is left to be done if stderr is closed.
            writeln!(std::io::stderr().lock(), "{}", phrase.get(lang())).ok();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.sentence(text!("done", "完成").phrase());
    }
}
