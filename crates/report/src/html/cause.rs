//! A cause as a card: sentence, evidence, how to check it, what ends it and what takes that back.

use super::{Page, escape};
use crate::number::maybe;
use crate::text::{all_checks, fix_lines, target_name, undo_lines};
use crate::words;
use whydrop_model::{Finding, Fix, Report, text};

pub(super) fn write(report: &Report, finding: &Finding, index: usize, page: &mut Page) {
    let lang = page.lang;
    let number = index + 1;
    let severity = words::severity(finding.severity).get(lang);
    let place = escape(&format!("{}: {}", target_name(report, &finding.target), finding.subject));
    let cause = escape(&finding.cause);
    page.put(format_args!(
        "<section class=\"card\" id=\"f{number}\">\n<h3><span class=\"no\">{number}</span> <span class=\"tag\">{severity}</span> \
         <code>{cause}</code> {place}</h3>"
    ));
    page.tag("p", "", finding.summary.get(lang));
    if let Some(exhibit) = &finding.exhibit {
        page.commands(std::slice::from_ref(exhibit));
    }
    page.html.push_str("<dl>\n");
    let lost = text!("{n} {n|packet|packets}, confidence {c} %", "{n} 个包，置信度 {c}%");
    let lost = lost
        .fill(&[("n", &maybe(finding.packets_lost)), ("c", &format!("{:.0}", finding.confidence * 100.0))]);
    entry(page, page.say(text!("Lost", "丢失")), lost.get(lang));
    for (label, supports) in [(text!("Evidence", "证据"), true), (text!("Against it", "反证"), false)] {
        let claims: Vec<_> = finding.evidence.iter().filter(|e| e.supports == supports).collect();
        if claims.is_empty() {
            continue;
        }
        page.put(format_args!("<dt>{}</dt><dd><ul>", page.say(label)));
        for evidence in claims {
            let (claim, source) = (escape(evidence.claim.get(lang)), escape(&evidence.source));
            page.put(format_args!("<li>{claim} <span class=\"note\">({source})</span></li>"));
        }
        page.html.push_str("</ul></dd>\n");
    }
    if !finding.explains.is_empty() {
        let comma = if lang == whydrop_model::Lang::Zh { "、" } else { ", " };
        let explains: Vec<&str> = finding.explains.iter().map(|phrase| phrase.get(lang)).collect();
        entry(page, page.say(text!("Explains", "由此引起")), &explains.join(comma));
    }
    checks(report, finding, page);
    page.html.push_str("</dl>\n");
    finding.fixes.iter().enumerate().for_each(|(nth, one)| fix(report, one, nth, page));
    let more = page.say(text!("What it means, and why it loses packets", "含义，以及为何丢包"));
    let explanation = escape(finding.explanation.get(lang));
    page.put(format_args!("<details><summary>{more}</summary><p>{explanation}</p></details>\n</section>"));
}

fn entry(page: &mut Page, label: &str, text: &str) {
    let text = escape(text);
    page.put(format_args!("<dt>{label}</dt><dd>{text}</dd>"));
}

fn checks(report: &Report, finding: &Finding, page: &mut Page) {
    let (shown, hidden): (Vec<_>, Vec<_>) = all_checks(report, finding).into_iter().partition(Result::is_ok);
    if shown.is_empty() && hidden.is_empty() {
        return;
    }
    page.put(format_args!("<dt>{}</dt><dd>", page.say(text!("Check it yourself", "自行核对"))));
    let lines: Vec<String> = shown.into_iter().flatten().collect();
    if !lines.is_empty() {
        page.commands(&lines);
    }
    for reason in hidden.into_iter().filter_map(Result::err) {
        page.tag("p", "note", reason.get(page.lang));
    }
    page.html.push_str("</dd>\n");
}

fn fix(report: &Report, fix: &Fix, nth: usize, page: &mut Page) {
    let lang = page.lang;
    let word = words::applicability(fix.applicability).get(lang);
    let label = page.say(if nth == 0 { text!("Fix", "修复") } else { text!("Or", "或者") });
    let title = escape(fix.title.get(lang));
    page.put(format_args!("<p><b>{label}</b> <span class=\"tag\">{word}</span> {title}</p>"));
    match fix_lines(report, fix) {
        Ok(lines) if lines.is_empty() => {}
        Ok(lines) => page.commands(&lines),
        Err(reason) => page.tag("p", "note", reason.get(lang)),
    }
    for remark in [&fix.caution, &fix.persist].into_iter().flatten() {
        page.tag("p", "note", remark.get(lang));
    }
    match undo_lines(report, fix) {
        Some(Ok(lines)) if !lines.is_empty() => {
            let back = page.say(text!("take it back", "撤销"));
            page.put(format_args!("<details><summary>{back}</summary>"));
            page.commands(&lines);
            page.html.push_str("</details>\n");
        }
        Some(Err(reason)) => page.tag("p", "note", reason.get(lang)),
        Some(Ok(_)) | None => {}
    }
}
