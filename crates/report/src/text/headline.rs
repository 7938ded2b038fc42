//! The first line: the answer in one sentence that fits into 80 columns.

use super::seen::is_blind;
use crate::layout::{Ink, Page, name, width};
use crate::probe::http_failure;
use crate::{number, words};
use std::collections::BTreeSet;
use whydrop_model::{Lang, Phrase, ProbeResult, Report, Verdict, text};

/// Columns of the whole first line.
const LINE: usize = 80;

pub(super) fn write(report: &Report, lang: Lang, page: &mut Page) {
    let (word, sentence) = headline(report, lang);
    let ink = match report.verdict {
        Verdict::Loss => Ink::Red,
        Verdict::Inconclusive => Ink::Yellow,
        Verdict::Clear => Ink::Plain,
    };
    page.marked(ink, word, width(word) + 2, &sentence);
}

/// The verdict word and its sentence.
pub(crate) fn headline(report: &Report, lang: Lang) -> (&'static str, String) {
    let word = words::verdict(report.verdict).get(lang);
    let candidates = match report.verdict {
        Verdict::Loss => loss(report),
        Verdict::Clear => clear(report),
        Verdict::Inconclusive => inconclusive(report),
    };
    let room = LINE - width(word) - 2;
    let shown = |p: &Phrase| whydrop_model::shell::sanitize(p.get(lang), 400);
    let fits = candidates.iter().map(shown).find(|s| width(s) <= room);
    (word, fits.or_else(|| candidates.last().map(shown)).unwrap_or_default())
}

/// Sentences from the fullest to one that always fits.
fn loss(report: &Report) -> Vec<Phrase> {
    let causes = causes(report);
    let tail = tail(report, &causes);
    let mut out = Vec::new();
    let mut candidate = |fact: &Phrase| {
        out.push(Phrase {
            en: format!("{}. {}", fact.en, tail.en), zh: format!("{}。{}", fact.zh, tail.zh)
        });
        out.push(Phrase { en: fact.en.clone(), zh: format!("{}。", fact.zh) });
    };
    if let Some(probe) = worst(&report.probes) {
        candidate(&unanswered(probe));
    }
    let ledger = &report.ledger;
    if ledger.lost > 0 {
        candidate(&lost_in_window(report));
    } else if let Some(first) = report.findings.first() {
        let sentence = |s: &str| s.trim_end_matches(['.', '。']).to_owned();
        candidate(&Phrase { en: sentence(&first.summary.en), zh: sentence(&first.summary.zh) });
    }
    out.push(tail);
    out
}

/// How many causes.
fn causes(report: &Report) -> Phrase {
    match report.findings.len() {
        0 => text!("No cause found", "未找到原因。").phrase(),
        1 => text!("1 cause", "1 个原因。").phrase(),
        n => text!("{n} causes", "{n} 个原因。").fill(&[("n", &n)]),
    }
}

/// How many causes, and what they leave unexplained.
fn tail(report: &Report, causes: &Phrase) -> Phrase {
    let rest = match (report.ledger.lost, report.ledger.unexplained) {
        _ if report.findings.is_empty() => return causes.clone(),
        // More may be wrong than what the book says.
        _ if report.ledger.uncounted > 0 => text!("{n} drops without a place", "另有 {n} 次丢弃未记录位置")
            .fill(&[("n", &number::count(report.ledger.uncounted))]),
        (0, _) => text!("packets not countable", "包数无法统计。").phrase(),
        (_, 0) => text!("nothing unexplained", "全部查明。").phrase(),
        (_, n) => text!("{n} unexplained", "{n} 个包未查明。").fill(&[("n", &number::count(n))]),
    };
    let zh = causes.zh.trim_end_matches('。');
    Phrase { en: format!("{}, {}", causes.en, rest.en), zh: format!("{zh}，{}", rest.zh) }
}

/// How many packets were lost, and in what time.
pub(super) fn lost_in_window(report: &Report) -> Phrase {
    let seconds = format!("{:.1}", report.window_seconds);
    text!("{n} {n|packet|packets} lost in {s} s", "{s} 秒内丢失 {n} 个包")
        .fill(&[("n", &number::count(report.ledger.lost)), ("s", &seconds)])
}

fn clear(report: &Report) -> Vec<Phrase> {
    let seconds = format!("{:.1}", report.window_seconds);
    let nothing = text!("no packet lost in {s} s", "{s} 秒内没有丢包").fill(&[("s", &seconds)]);
    let probe = report.probes.iter().find(|p| p.transmitted > 0);
    let mut out = Vec::new();
    out.extend(report.probes.iter().find_map(failed).into_iter().flatten());
    if let Some(p) = probe {
        let (thing, to) = (things(p), destination(p));
        let answered =
            text!("{got} of {sent} {thing} to {to} answered", "发往 {to} 的{thing}{sent} 个，应答 {got} 个");
        let fill = |thing: &str| {
            answered.fill(&[("got", &p.received), ("sent", &p.transmitted), ("thing", &thing), ("to", &to)])
        };
        let (en, zh) = (fill(&thing.en).en, fill(&thing.zh).zh);
        let rtt = p.rtt_ms.map(|r| number::millis(r.avg));
        if let Some(rtt) = rtt {
            out.push(Phrase {
                en: format!("{}: {en}, {rtt}", nothing.en),
                zh: format!("{}：{zh}，{rtt}", nothing.zh),
            });
        }
        out.push(Phrase { en: format!("{}: {en}", nothing.en), zh: format!("{}：{zh}", nothing.zh) });
    }
    out.push(nothing);
    out
}

/// Requests that the other side ended: no loss, and yet no answer. With the reason, and without.
fn failed(p: &ProbeResult) -> Option<[Phrase; 2]> {
    let http = p.http.as_ref().filter(|http| http.ended_by_peer())?;
    let text = text!(
        "no packet lost, but {n} of {of} requests to {to} failed",
        "没有丢包，但发往 {to} 的 {of} 个 HTTP 请求中有 {n} 个失败"
    );
    let short = text.fill(&[("n", &p.lost), ("of", &p.transmitted), ("to", &destination(p))]);
    let why = http_failure(http.error.as_deref()?);
    let long = Phrase { en: format!("{}: {}", short.en, why.en), zh: format!("{}：{}", short.zh, why.zh) };
    Some([long, short])
}

fn inconclusive(report: &Report) -> Vec<Phrase> {
    let hidden = text!("the place is out of sight", "丢包位置看不到");
    let join = |fact: Phrase| Phrase {
        en: format!("{}, and {}", fact.en, hidden.en),
        zh: format!("{}，{}", fact.zh, hidden.zh),
    };
    let mut out = Vec::new();
    if let Some(probe) = worst(&report.probes) {
        out.push(join(unanswered(probe)));
    }
    if report.ledger.uncounted > 0 {
        let fact = match report.ledger.lost {
            0 => text!("no loss seen", "没有看到丢包").phrase(),
            _ => lost_in_window(report),
        };
        let text = text!(
            "{fact}, but {n} drops found no room in the tracer",
            "{fact}，但有 {n} 次丢弃跟踪器未能记下"
        );
        let fill = |fact: &str| text.fill(&[("fact", &fact), ("n", &number::count(report.ledger.uncounted))]);
        out.push(Phrase { en: fill(&fact.en).en, zh: fill(&fact.zh).zh });
    }
    if report.ledger.lost > 0 {
        out.push(join(lost_in_window(report)));
    }
    let seconds = format!("{:.1}", report.window_seconds);
    let unread: BTreeSet<String> =
        report.coverage.iter().filter(|c| is_blind(c)).map(|c| name(&c.source)).collect();
    if !unread.is_empty() {
        let sources = unread.into_iter().collect::<Vec<_>>().join(", ");
        let text = text!(
            "no loss seen in {s} s, but not read: {sources}",
            "{s} 秒内没有看到丢包，但未能读取：{sources}"
        );
        out.push(text.fill(&[("s", &seconds), ("sources", &sources)]));
    }
    out.push(
        text!(
            "no loss seen in {s} s, but not everything could be looked at",
            "{s} 秒内没有看到丢包，但有些地方未能查看"
        )
        .fill(&[("s", &seconds)]),
    );
    out
}

/// The probe with the largest share without an answer in time.
fn worst(probes: &[ProbeResult]) -> Option<&ProbeResult> {
    let bad = |p: &&ProbeResult| p.lost + p.late + p.not_sent > 0;
    let share = |p: &ProbeResult| {
        let all = p.transmitted + p.not_sent;
        (p.lost + p.late + p.not_sent) as f64 / all.max(1) as f64
    };
    probes.iter().filter(bad).max_by(|a, b| share(a).total_cmp(&share(b)))
}

fn unanswered(p: &ProbeResult) -> Phrase {
    let (thing, to) = (things(p), destination(p));
    let fill = |template: whydrop_model::Text, n: u64, of: u64| {
        let make = |thing: &str| template.fill(&[("n", &n), ("of", &of), ("thing", &thing), ("to", &to)]);
        Phrase { en: make(&thing.en).en, zh: make(&thing.zh).zh }
    };
    if p.lost + p.late == 0 {
        let text = text!(
            "{n} of {of} {thing} to {to} could not be sent",
            "发往 {to} 的{thing}{of} 个中有 {n} 个无法发出"
        );
        return fill(text, p.not_sent, p.transmitted + p.not_sent);
    }
    let text = match p.late {
        0 => text!("{n} of {of} {thing} to {to} unanswered", "发往 {to} 的{thing}{of} 个中 {n} 个无应答"),
        _ => {
            text!("{n} of {of} {thing} to {to} lost or late", "发往 {to} 的{thing}{of} 个中丢失或迟到 {n} 个")
        }
    };
    fill(text, p.lost + p.late, p.transmitted)
}

/// What the probe sends, in the plural. The Chinese noun carries the spaces that it needs beside Latin letters
/// and digits.
fn things(p: &ProbeResult) -> Phrase {
    match p.method.as_str() {
        "syn" => text!("SYNs", " SYN 包 "),
        "connect" => text!("connections", "连接 "),
        "icmp" => text!("pings", " ping 包 "),
        "udp" => text!("datagrams", " UDP 包 "),
        "http" => text!("requests", " HTTP 请求 "),
        _ => text!("probes", "探测包 "),
    }
    .phrase()
}

/// The part of the URL that names the other side.
fn destination(p: &ProbeResult) -> String {
    let rest = p.url.split_once("://").map_or(p.url.as_str(), |(_, rest)| rest);
    name(rest.split('/').next().unwrap_or(rest))
}
