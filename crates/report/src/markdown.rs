//! The report and the pages of the causes as Markdown: for tickets, chats and the documents.

use crate::number::{count, maybe};
use crate::text::{
    all_checks, claims, fix_lines, headline, history, probe_lines, rows, target_name, tenants,
    unexplained_places, unseen,
};
use crate::words;
use std::io::{self, Write};
use whydrop_model::shell::sanitize;
use whydrop_model::{Cause, Finding, Fix, Lang, Report, text};

/// Longest text of one cell or paragraph, in characters.
const LONGEST: usize = 600;

/// Writes the report.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, lang: Lang, out: &mut dyn Write) -> io::Result<()> {
    let (word, sentence) = headline(report, lang);
    writeln!(out, "# {word}: {}\n", escape(&sentence))?;
    let made = text!("{host}, Linux {kernel}, {at}", "{host} ，Linux {kernel} ，{at}");
    let made =
        made.fill(&[("host", &report.hostname), ("kernel", &report.kernel), ("at", &report.started_at)]);
    writeln!(out, "{}\n", escape(made.get(lang)))?;
    for line in tenants::lines(report, lang) {
        writeln!(out, "- {}", escape(&line))?;
    }
    for probe in &report.probes {
        writeln!(out, "- {}", escape(&probe_lines(report, probe, lang).join("; ")))?;
    }
    if !report.probes.is_empty() || report.targets.iter().any(|target| !target.tenants.is_empty()) {
        writeln!(out)?;
    }
    ledger(report, lang, out)?;
    for (i, finding) in report.findings.iter().enumerate() {
        cause(report, finding, i + 1, lang, out)?;
    }
    if !report.notes.is_empty() {
        writeln!(out, "## {}\n", text!("Not a cause", "不是原因").get(lang))?;
        for note in &report.notes {
            let status = words::note_status(note.status).get(lang);
            let target = target_name(report, &note.target);
            let (subject, text) = (escape(&note.subject), escape(note.text.get(lang)));
            writeln!(out, "- **{status}** {} {subject}: {text}", escape(&target))?;
        }
        writeln!(out)?;
    }
    let changed = history(report, lang);
    if !changed.is_empty() {
        writeln!(out, "## {}\n", text!("Changed", "改动").get(lang))?;
        for line in changed {
            writeln!(out, "- {}", escape(&line))?;
        }
        writeln!(out)?;
    }
    writeln!(out, "## {}\n", text!("Not seen", "未能查看").get(lang))?;
    for line in unseen(report, lang) {
        writeln!(out, "- {}", escape(&line))?;
    }
    Ok(())
}

fn ledger(report: &Report, lang: Lang, out: &mut dyn Write) -> io::Result<()> {
    let head = text!("| cause | where | packets |", "| 原因 | 去向 | 包数 |").get(lang);
    writeln!(out, "{head}\n|---|---|--:|")?;
    for row in rows(report, true, lang) {
        let place = escape(&format!("{} {}", row.target, row.place));
        writeln!(out, "| {} | {place} | {} |", row.number, maybe(row.packets))?;
    }
    let rest = text!("unexplained", "未查明").get(lang);
    writeln!(out, "| | {rest} | {} |", count(report.ledger.unexplained))?;
    let total = text!("total", "合计").get(lang);
    writeln!(out, "| | {total} | {} |\n", count(report.ledger.lost))?;
    let places = unexplained_places(report, lang);
    if places.is_empty() {
        return Ok(());
    }
    writeln!(out, "{}\n", text!("Unexplained:", "未查明的包：").get(lang))?;
    for place in places {
        writeln!(out, "- {}", escape(&place))?;
    }
    writeln!(out)
}

fn cause(
    report: &Report,
    finding: &Finding,
    number: usize,
    lang: Lang,
    out: &mut dyn Write,
) -> io::Result<()> {
    let severity = words::severity(finding.severity).get(lang);
    let place = escape(&format!("{}: {}", target_name(report, &finding.target), finding.subject));
    writeln!(out, "## {number}. `{}`, {severity}: {place}\n", finding.cause)?;
    writeln!(out, "{}\n\n{}\n", escape(finding.summary.get(lang)), escape(finding.explanation.get(lang)))?;
    if let Some(exhibit) = &finding.exhibit {
        code(exhibit, out)?;
    }
    for (label, supports) in [(text!("evidence", "证据"), true), (text!("against", "反证"), false)] {
        if let Some(claims) = claims(finding, supports, lang) {
            writeln!(out, "- **{}**: {}", label.get(lang), escape(&claims))?;
        }
    }
    let explains: Vec<String> = finding.explains.iter().map(|p| escape(p.get(lang))).collect();
    if !explains.is_empty() {
        writeln!(out, "- **{}**: {}", text!("explains", "由此引起").get(lang), explains.join(", "))?;
    }
    writeln!(out)?;
    let (shown, hidden): (Vec<_>, Vec<_>) = all_checks(report, finding).into_iter().partition(Result::is_ok);
    if !(shown.is_empty() && hidden.is_empty()) {
        writeln!(out, "{}\n", text!("Check", "自行核对").get(lang))?;
    }
    if !shown.is_empty() {
        code(&shown.into_iter().flatten().collect::<Vec<_>>().join("\n"), out)?;
    }
    for reason in hidden.into_iter().filter_map(Result::err) {
        writeln!(out, "{}\n", escape(reason.get(lang)))?;
    }
    finding.fixes.iter().try_for_each(|f| fix(report, f, lang, out))
}

fn fix(report: &Report, fix: &Fix, lang: Lang, out: &mut dyn Write) -> io::Result<()> {
    let (word, title) = (words::applicability(fix.applicability).get(lang), escape(fix.title.get(lang)));
    writeln!(out, "**{}, {word}**: {title}\n", text!("Fix", "修复").get(lang))?;
    match fix_lines(report, fix) {
        Ok(lines) if lines.is_empty() => {}
        Ok(lines) => code(&lines.join("\n"), out)?,
        Err(reason) => writeln!(out, "{}\n", escape(reason.get(lang)))?,
    }
    for remark in [&fix.caution, &fix.persist].into_iter().flatten() {
        writeln!(out, "{}\n", escape(remark.get(lang)))?;
    }
    Ok(())
}

/// An indented block: unlike a fence, nothing inside can end it.
fn code(text: &str, out: &mut dyn Write) -> io::Result<()> {
    for line in text.split('\n') {
        writeln!(out, "    {}", sanitize(line, usize::MAX))?;
    }
    writeln!(out)
}

/// Text that Markdown (and HTML in it) leaves as it is.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in sanitize(text, LONGEST).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '[' | ']' | '|' | '#' => out.extend(['\\', c]),
            // Within a word it means nothing: `rx_dropped` stays readable.
            c => out.push(c),
        }
    }
    out
}

/// The page of a cause in both languages, for the documents.
pub fn cause_page(cause: &Cause) -> String {
    let mut out = format!("# `{}`\n", cause.id);
    for lang in [Lang::En, Lang::Zh] {
        out += &format!("\n**{}**\n", cause.title.get(lang));
        for (heading, text) in cause.sections() {
            out += &format!("\n## {}\n\n{}\n", heading.get(lang), text.get(lang));
        }
    }
    out
}
