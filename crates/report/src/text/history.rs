//! What was changed on the machine before and in the window, if somebody listened.

use super::{Options, target_name};
use crate::layout::{Page, width};
use whydrop_model::{Change, Lang, Phrase, Report, Text, text};

/// Changes that are shown, the last ones; the rest is in the JSON.
const SHOWN: usize = 12;
/// Characters of the date in `2026-01-31T12:00:41.023Z`.
const DATE: usize = 10;

const CHANGED: Text = text!("Changed", "改动");

/// The last changes, oldest first, and a word on those before them.
pub(crate) fn told(report: &Report, lang: Lang) -> Vec<String> {
    let earlier = report.history.len().saturating_sub(SHOWN);
    let before = text!("{n} more before these (--json has all)", "此前还有 {n} 处（--json 含全部）");
    let before = (earlier > 0).then(|| before.fill(&[("n", &earlier)]).get(lang).to_owned());
    let last = report.history.iter().skip(earlier).map(|change| line(report, change).get(lang).to_owned());
    before.into_iter().chain(last).collect()
}

fn line(report: &Report, change: &Change) -> Phrase {
    let not_before = change.not_before().map(|time| Phrase::same(short(report, &time)));
    let line = match (change.announced, &not_before) {
        (true, _) => text!("{at} {target}: {what}", "{at} {target}：{what}"),
        (false, Some(_)) => {
            text!("between {first} and {at} {target}: {what}", "{first} 至 {at} 之间 {target}：{what}")
        }
        (false, None) => text!("up to {at} {target}: {what}", "不晚于 {at} {target}：{what}"),
    };
    line.with(&[
        ("first", &not_before.unwrap_or_else(|| Phrase::same(""))),
        ("at", &Phrase::same(short(report, &change.time()))),
        ("target", &Phrase::same(target_name(report, &change.target))),
        ("what", &change.sentence()),
    ])
}

/// A time without its date, if that is the day of the report.
fn short(report: &Report, time: &str) -> String {
    let (date, clock) = time.split_at_checked(DATE).unwrap_or(("", time));
    match report.started_at.starts_with(date) {
        true => clock.trim_start_matches('T').to_owned(),
        false => time.to_owned(),
    }
}

pub(super) fn write(report: &Report, options: &Options, page: &mut Page) {
    let lang: Lang = options.lang;
    let column = width(CHANGED.get(lang)) + 2;
    for (index, line) in told(report, lang).iter().enumerate() {
        page.entry(if index == 0 { CHANGED.get(lang) } else { "" }, column, line);
    }
}
