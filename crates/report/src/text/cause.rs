//! The causes: what acts, who saw it, what follows from it, how to check it by hand and what ends it.

use super::{FULL_CAUSES, Options, command_line, fix_lines, next, target_name};
use crate::layout::{Ink, Page, name, width};
use crate::number::maybe;
use crate::words;
use std::collections::BTreeSet;
use whydrop_model::{Evidence, Finding, Fix, Lang, Phrase, Report, Severity, Text, text};

/// Below this confidence the text says "probably".
const SURE: f64 = 0.8;
/// Commands shown for checking by hand.
const CHECKS: usize = 2;
/// Column of the values where no label is longer.
const COLUMN: usize = 14;

const EVIDENCE: Text = text!("evidence", "证据");
const AGAINST: Text = text!("against", "反证");
const EXPLAINS: Text = text!("explains", "由此引起");
const CHECK: Text = text!("check", "自行核对");

pub(super) fn write(report: &Report, options: &Options, page: &mut Page) {
    let full = if options.every_cause { report.findings.len() } else { FULL_CAUSES };
    for (i, finding) in report.findings.iter().enumerate().take(full) {
        heading(report, finding, i, options, page);
        body(report, finding, options, page);
        page.blank();
    }
    if report.findings.len() > full {
        for (i, finding) in report.findings.iter().enumerate().skip(full) {
            heading(report, finding, i, options, page);
        }
        let text = text!("all of them in full: add --format text", "全部详列：加上 --format text");
        page.paragraph(2, text.get(options.lang));
        page.command("  ", 2, &format!("{} --brief", next::diagnose(report)));
        page.blank();
    }
}

fn heading(report: &Report, finding: &Finding, index: usize, options: &Options, page: &mut Page) {
    let lang = options.lang;
    let severity = words::severity(finding.severity).get(lang);
    let ink = if finding.severity == Severity::Critical { Ink::Bold } else { Ink::Plain };
    let place = text!("{target}: {subject}", "{target}：{subject}")
        .fill(&[("target", &target_name(report, &finding.target)), ("subject", &name(&finding.subject))]);
    let (number, of) = (index + 1, report.findings.len());
    if options.plain {
        let label = text!("Cause {n} of {of}, {severity}", "第 {n} 个原因（共 {of} 个），{severity}");
        let label = label.fill(&[("n", &number), ("of", &of), ("severity", &severity)]);
        let text = text!("{cause} in {place}", "{place} 的 {cause}");
        let text = text.fill(&[("cause", &name(&finding.cause)), ("place", &place.get(lang))]);
        page.entry(label.get(lang), 0, text.get(lang));
        return;
    }
    let cause = name(&finding.cause);
    let brief = index >= FULL_CAUSES && !options.every_cause;
    let packets = match brief {
        true => text!("  {n} {n|packet|packets}", "  {n} 个包").fill(&[("n", &maybe(finding.packets_lost))]),
        false => Phrase::default(),
    };
    let text = format!("{cause:<20}  {}{}", place.get(lang), packets.get(lang));
    let column = of.to_string().len() + widest_severity(report, lang) + 3;
    page.marked(ink, &format!("{number} {severity}"), column, &text);
}

fn widest_severity(report: &Report, lang: Lang) -> usize {
    report.findings.iter().map(|f| width(words::severity(f.severity).get(lang))).max().unwrap_or(0)
}

fn body(report: &Report, finding: &Finding, options: &Options, page: &mut Page) {
    let lang = options.lang;
    let labels: Vec<String> = finding.fixes.iter().enumerate().map(|(i, f)| fix_label(f, i, lang)).collect();
    let column = labels.iter().map(|l| width(l) + 2).max().unwrap_or(0).max(COLUMN);
    let entry = |page: &mut Page, label: Text, text: &str| {
        page.entry(&format!("    {}", label.get(lang)), column, text);
    };
    let summary = match finding.confidence < SURE {
        true => text!("Probably: {s}", "很可能：{s}").fill(&[("s", &finding.summary.get(lang))]),
        false => finding.summary.clone(),
    };
    page.paragraph(2, summary.get(lang));
    if let Some(exhibit) = &finding.exhibit {
        entry(page, exhibit_label(&finding.cause), exhibit);
    }
    if let Some(claims) = claims(finding, true, lang) {
        entry(page, EVIDENCE, &claims);
    }
    if let Some(claims) = claims(finding, false, lang) {
        entry(page, AGAINST, &claims);
    }
    if !finding.explains.is_empty() {
        entry(page, EXPLAINS, &join(&finding.explains, if lang == Lang::Zh { "、" } else { ", " }, lang));
    }
    for (i, check) in checks(report, finding).iter().enumerate() {
        let label = if i == 0 { format!("    {}", CHECK.get(lang)) } else { String::new() };
        match check {
            Ok(line) => page.command(&label, column, line),
            Err(reason) => page.entry(&label, column, reason.get(lang)),
        }
    }
    for (fix, label) in finding.fixes.iter().zip(&labels) {
        write_fix(report, fix, label, column, lang, page);
    }
}

/// What kind of thing the exhibit is.
fn exhibit_label(cause: &str) -> Text {
    match cause.split('.').next() {
        Some("netfilter") => text!("rule", "规则"),
        Some("qdisc" | "tc") => text!("queue", "队列"),
        Some("route") => text!("route", "路由"),
        _ => text!("object", "对象"),
    }
}

fn join(phrases: &[Phrase], separator: &str, lang: Lang) -> String {
    phrases.iter().map(|p| p.get(lang)).collect::<Vec<_>>().join(separator)
}

/// Claims of one side as one line. A finding that only one kind of witness supports says so.
pub(crate) fn claims(finding: &Finding, supports: bool, lang: Lang) -> Option<String> {
    let side: Vec<&Evidence> = finding.evidence.iter().filter(|e| e.supports == supports).collect();
    let separator = if lang == Lang::Zh { "；" } else { "; " };
    let text = side.iter().map(|e| e.claim.get(lang)).collect::<Vec<_>>().join(separator);
    let witnesses: BTreeSet<&str> = side.iter().map(|e| e.source.as_str()).collect();
    match (witnesses.len(), supports) {
        (0, _) => None,
        (1, true) => {
            let text = text!("one witness: {t}", "仅一项证据：{t}").fill(&[("t", &text)]);
            Some(text.get(lang).to_owned())
        }
        _ => Some(text),
    }
}

/// Commands that show the evidence, or the reasons why they are not shown.
pub(crate) fn all_checks(report: &Report, finding: &Finding) -> Vec<Result<String, Phrase>> {
    let mut lines = Vec::new();
    for evidence in finding.evidence.iter().filter(|e| !e.reproduce.is_empty()) {
        let line =
            command_line(report, evidence.target.as_ref().unwrap_or(&finding.target), &evidence.reproduce);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

fn checks(report: &Report, finding: &Finding) -> Vec<Result<String, Phrase>> {
    let mut lines = all_checks(report, finding);
    lines.truncate(CHECKS);
    lines
}

fn fix_label(fix: &Fix, index: usize, lang: Lang) -> String {
    let word = words::applicability(fix.applicability).get(lang);
    let label = if index == 0 { text!("fix, {a}", "修复，{a}") } else { text!("or, {a}", "或者，{a}") };
    format!("  {}", label.fill(&[("a", &word)]).get(lang))
}

fn write_fix(report: &Report, fix: &Fix, label: &str, column: usize, lang: Lang, page: &mut Page) {
    match fix_lines(report, fix) {
        Ok(lines) if lines.is_empty() => page.entry(label, column, fix.title.get(lang)),
        Ok(lines) => {
            for (i, line) in lines.iter().enumerate() {
                page.command(if i == 0 { label } else { "" }, column, line);
            }
        }
        Err(reason) => {
            page.entry(label, column, fix.title.get(lang));
            page.entry("", column, reason.get(lang));
        }
    }
    for remark in [&fix.caution, &fix.persist].into_iter().flatten() {
        page.entry("", column, remark.get(lang));
    }
}
