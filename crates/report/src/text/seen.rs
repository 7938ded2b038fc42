//! What is not a cause, and what could not be looked at.

use super::{Options, target_name};
use crate::layout::{Page, name, width, wrap};
use crate::words;
use std::collections::BTreeSet;
use whydrop_model::{Coverage, CoverageStatus, Lang, Note, Report, Text, Verdict, text};

/// Notes shown below causes; the rest is in the JSON.
const NOTES: usize = 10;
/// Lines of a report without findings, where what could not be seen leaves the room.
const SHORT: usize = 6;
/// Groups of unread sources shown.
const GROUPS: usize = 6;
/// A source whose absence is a blind spot, not an empty table.
const DROP_EVENTS: &str = "drop_events";

const INNOCENT: Text = text!("Not a cause", "不是原因");
const UNSEEN: Text = text!("Not seen", "未能查看");

pub(super) fn write(report: &Report, options: &Options, page: &mut Page) {
    let lang = options.lang;
    let column = width(INNOCENT.get(lang)).max(width(UNSEEN.get(lang))) + 2;
    let unseen = unseen(report, lang);
    match report.verdict {
        Verdict::Loss => notes(report, options, page),
        _ => {
            let taken: usize = unseen.iter().map(|l| wrap(l, column, column, options.width).len()).sum();
            // The verdict and the next command take a line each.
            let room = SHORT.saturating_sub(taken + 2).max(1);
            notes_in_short(report, options, column, room, page);
        }
    }
    for (i, line) in unseen.iter().enumerate() {
        page.entry(if i == 0 { UNSEEN.get(lang) } else { "" }, column, line);
    }
}

/// What a note says, without its status.
fn sentence(report: &Report, note: &Note, lang: Lang) -> String {
    let text = text!("{target} {subject}: {text}", "{target} {subject}：{text}").fill(&[
        ("target", &target_name(report, &note.target)),
        ("subject", &name(&note.subject)),
        ("text", &note.text.get(lang)),
    ]);
    let cause = note.cause.as_deref().map(|c| format!(" ({})", name(c))).unwrap_or_default();
    format!("{}{cause}", text.get(lang))
}

fn notes(report: &Report, options: &Options, page: &mut Page) {
    let lang = options.lang;
    if report.notes.is_empty() {
        return;
    }
    page.line(INNOCENT.get(lang));
    let shown = &report.notes[..report.notes.len().min(NOTES)];
    let status = |n: &Note| words::note_status(n.status).get(lang);
    let column = shown.iter().map(|n| width(status(n)) + 4).max().unwrap_or(0);
    for note in shown {
        page.entry(&format!("  {}", status(note)), column, &sentence(report, note, lang));
    }
    more(report.notes.len() - shown.len(), "", column, lang, page);
}

/// Whole notes as far as `room` lines hold them, the last line for how many there are besides.
fn notes_in_short(report: &Report, options: &Options, column: usize, mut room: usize, page: &mut Page) {
    let lang = options.lang;
    let mut label = INNOCENT.get(lang);
    let mut rest = report.notes.iter();
    while let Some(note) = rest.as_slice().first() {
        let line = sentence(report, note, lang);
        let needed = wrap(&line, column, column, options.width).len();
        if needed + usize::from(rest.len() > 1) > room {
            break;
        }
        page.entry(label, column, &line);
        (label, room) = ("", room - needed);
        rest.next();
    }
    more(rest.len(), label, column, lang, page);
}

fn more(n: usize, label: &str, column: usize, lang: Lang, page: &mut Page) {
    if n > 0 {
        let text = text!("{n} more: --format json", "另有 {n} 项：--format json");
        page.entry(label, column, text.fill(&[("n", &n)]).get(lang));
    }
}

/// Sources that could not be read, those with one reason together; or what was read.
pub(crate) fn unseen(report: &Report, lang: Lang) -> Vec<String> {
    let hidden: Vec<&Coverage> = report.coverage.iter().filter(|c| is_blind(c)).collect();
    let limited = limited(report, lang);
    if hidden.is_empty() && limited.is_empty() {
        return vec![all_read(report, lang)];
    }
    let mut groups: Vec<(&Coverage, BTreeSet<String>, BTreeSet<String>)> = Vec::new();
    for c in hidden {
        let (source, target) = (name(&c.source), target_name(report, &c.target));
        match groups.iter_mut().find(|(g, ..)| g.status == c.status && g.detail == c.detail) {
            Some((_, sources, targets)) => {
                sources.insert(source);
                targets.insert(target);
            }
            None => groups.push((c, [source].into(), [target].into())),
        }
    }
    let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
    let mut lines: Vec<String> = groups
        .iter()
        .take(GROUPS)
        .map(|(c, sources, targets)| {
            let text = match c.status {
                CoverageStatus::Denied => {
                    text!("{sources} of {targets} (needs {detail})", "{targets} 的 {sources} (需要 {detail})")
                }
                _ => text!("{sources} of {targets} ({detail})", "{targets} 的 {sources} ({detail})"),
            };
            let (sources, targets, detail) = (list(sources), list(targets), name(&c.detail));
            let text = text.fill(&[("sources", &sources), ("targets", &targets), ("detail", &detail)]);
            text.get(lang).to_owned()
        })
        .collect();
    if groups.len() > GROUPS {
        let n = groups.len() - GROUPS;
        let text = text!("{n} more: --format json", "另有 {n} 项：--format json").fill(&[("n", &n)]);
        lines.push(text.get(lang).to_owned());
    }
    lines.extend(limited);
    lines
}

/// Sources that were read in part, or by a lesser way: the first reason of each.
fn limited(report: &Report, lang: Lang) -> Vec<String> {
    let read = report.coverage.iter().filter(|c| !is_blind(c));
    let line = |c: &Coverage| {
        let limit = name(c.limits.first()?);
        let (source, detail) = (name(&c.source), name(&c.detail));
        let words: [(&str, &dyn std::fmt::Display); 3] =
            [("source", &source), ("detail", &detail), ("limit", &limit)];
        let text = text!(
            "part of {source}, read by {detail} ({limit})",
            "{source} 的一部分，由 {detail} 读取（{limit}）"
        );
        Some(text.fill(&words).get(lang).to_owned())
    };
    read.filter_map(line).collect()
}

/// True for a source that could hide a loss. A table that the kernel does not have hides none.
pub(super) fn is_blind(c: &Coverage) -> bool {
    match c.status {
        CoverageStatus::Denied | CoverageStatus::Failed => true,
        CoverageStatus::Absent => c.source == DROP_EVENTS || is_probe(c),
        CoverageStatus::Read => false,
    }
}

/// True for a probe that was wanted and not made: its URL stands as the source.
fn is_probe(c: &Coverage) -> bool {
    c.source.contains("://")
}

fn all_read(report: &Report, lang: Lang) -> String {
    let read = || report.coverage.iter().filter(|c| c.status == CoverageStatus::Read);
    let targets = read().map(|c| c.target.as_str()).collect::<BTreeSet<_>>().len();
    let sources = read().map(|c| c.source.as_str()).collect::<BTreeSet<_>>().len();
    if sources == 0 {
        return text!("nothing was looked at", "什么都没有查看").get(lang).to_owned();
    }
    let tracer = report.coverage.iter().find(|c| c.source == DROP_EVENTS).map(|c| name(&c.detail));
    let text = match (&tracer, targets) {
        (Some(_), 1) => text!(
            "nothing missing: {sources} sources, drop events by {step}",
            "无：{sources} 个来源均已读取，丢包事件来自 {step}"
        ),
        (Some(_), _) => text!(
            "nothing missing: {sources} sources in {targets} namespaces, drop events by {step}",
            "无：{targets} 个命名空间的 {sources} 个来源均已读取，丢包事件来自 {step}"
        ),
        (None, _) => text!(
            "kernel drops were not traced; {sources} sources were read in {targets} namespaces",
            "未跟踪内核丢包事件；已读取 {targets} 个命名空间的 {sources} 个来源"
        ),
    };
    let step = tracer.unwrap_or_default();
    text.fill(&[("sources", &sources), ("targets", &targets), ("step", &step)]).get(lang).to_owned()
}
