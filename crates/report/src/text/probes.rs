//! What the probes measured.

use crate::layout::{Page, name, width};
use crate::number::{self, count};
use whydrop_model::{Lang, ProbeResult, Report, Text, text};

/// Probes that are shown; the rest is in the JSON.
const SHOWN: usize = 6;

const LABEL: Text = text!("probe", "探测");

pub(super) fn write(report: &Report, lang: Lang, page: &mut Page) {
    let column = width(LABEL.get(lang)) + 2;
    for (i, probe) in report.probes.iter().take(SHOWN).enumerate() {
        let label = if i == 0 { LABEL.get(lang) } else { "" };
        for (j, line) in lines(report, probe, lang).iter().enumerate() {
            page.entry(if j == 0 { label } else { "" }, column, line);
        }
    }
    let more = report.probes.len().saturating_sub(SHOWN);
    if more > 0 {
        let text =
            text!("{n} more probes: --format json", "另有 {n} 个探测：--format json").fill(&[("n", &more)]);
        page.entry("", column, text.get(lang));
    }
}

/// One probe: what was sent and answered, then the shares, then what else came back.
pub(crate) fn lines(report: &Report, p: &ProbeResult, lang: Lang) -> Vec<String> {
    let from = super::target_name(report, &p.from);
    let mut parts = vec![
        text!("{n} sent", "发 {n}").fill(&[("n", &count(p.transmitted))]),
        text!("{n} answered", "应答 {n}").fill(&[("n", &count(p.received))]),
    ];
    let optional = [
        (p.refused, text!("{n} of them refused", "其中被拒绝 {n}")),
        (p.late, text!("{n} late", "迟到 {n}")),
        (p.lost, text!("{n} lost", "丢失 {n}")),
        (p.duplicates, text!("{n} duplicates", "重复 {n}")),
        (p.not_sent, text!("{n} could not be sent", "未能发出 {n}")),
        (p.extra.undecided, text!("{n} still open at the end", "结束时未定 {n}")),
    ];
    parts.extend(optional.iter().filter(|(n, _)| *n > 0).map(|(n, t)| t.fill(&[("n", &count(*n))])));
    let joined = |comma: &str| parts.iter().map(|p| p.get(lang)).collect::<Vec<_>>().join(comma);
    let head = text!("{url} from {from}: {parts}", "{url} ，自 {from} 发出：{parts}");
    let comma = if lang == Lang::Zh { "，" } else { ", " };
    let head = head.fill(&[("url", &name(&p.url)), ("from", &from), ("parts", &joined(comma))]);
    let mut out = vec![head.get(lang).to_owned()];
    out.extend(shares(p, lang));
    out.extend(http(p, lang));
    out.extend(pmtu(p, lang));
    out.extend(p.extra.notes.iter().map(|note| note.get(lang).to_owned()));
    let errors = p.send_errors.iter().chain(&p.icmp_errors);
    let errors: Vec<String> =
        errors.take(SHOWN).map(|(what, n)| format!("{} {}", name(what), count(*n))).collect();
    if !errors.is_empty() {
        out.push(text!("errors: {e}", "错误：{e}").fill(&[("e", &errors.join(", "))]).get(lang).to_owned());
    }
    out
}

fn shares(p: &ProbeResult, lang: Lang) -> Option<String> {
    let loss = p.loss?;
    if p.lost + p.late == 0 {
        let rtt = p.rtt_ms?;
        let text = text!(
            "no loss; round trip {avg} (99th percentile {p99})",
            "无丢包；往返 {avg}（99 百分位 {p99}）"
        );
        let text = text.fill(&[("avg", &number::millis(rtt.avg)), ("p99", &number::millis(rtt.p99))]);
        return Some(text.get(lang).to_owned());
    }
    let word = if p.late > 0 {
        text!("{share} lost or late", "丢失或迟到 {share}")
    } else {
        text!("{share} lost", "丢包率 {share}")
    };
    let mut out = word.fill(&[("share", &number::percent(loss, lang))]).get(lang).to_owned();
    if let Some(ci) = p.loss_ci95 {
        let text = text!(" (95 % interval {ci})", "（95% 置信区间 {ci}）");
        out += text.fill(&[("ci", &number::interval(ci, lang))]).get(lang);
    }
    let ways = [(p.forward, text!("request {s}", "去程 {s}")), (p.reverse, text!("answer {s}", "回程 {s}"))];
    let ways = ways.iter().filter_map(|(share, text)| {
        Some(text.fill(&[("s", &number::percent((*share)?.loss, lang))]).get(lang).to_owned())
    });
    let ways: Vec<String> = ways.collect();
    if !ways.is_empty() {
        let (semicolon, comma) = if lang == Lang::Zh { ("；", "，") } else { ("; ", ", ") };
        out += semicolon;
        out += &ways.join(comma);
    }
    Some(out)
}

fn http(p: &ProbeResult, lang: Lang) -> Option<String> {
    let http = p.http.as_ref()?;
    let mut parts: Vec<String> = Vec::new();
    let mut part = |text: Text, value: Option<String>| {
        if let Some(value) = value {
            parts.push(text.fill(&[("v", &value)]).get(lang).to_owned());
        }
    };
    part(text!("status {v}", "状态码 {v}"), http.status.map(|s| s.to_string()));
    part(text!("connected after {v}", "建立连接 {v}"), http.connect_ms.map(number::millis));
    let handshake = http.tls.as_ref().and_then(|tls| tls.handshake_ms);
    part(text!("TLS handshake {v}", "TLS 握手 {v}"), handshake.map(number::millis));
    part(text!("first byte after {v}", "首字节 {v}"), http.first_byte_ms.map(number::millis));
    part(text!("whole after {v}", "总计 {v}"), http.total_ms.map(number::millis));
    part(text!("{v} bytes", "{v} 字节"), Some(count(http.bytes)));
    part(text!("ended by {v}", "终止于 {v}"), http.error.as_deref().map(name));
    let comma = if lang == Lang::Zh { "，" } else { ", " };
    Some(format!("http{}{}", if lang == Lang::Zh { "：" } else { ": " }, parts.join(comma)))
}

fn pmtu(p: &ProbeResult, lang: Lang) -> Option<String> {
    let pmtu = p.pmtu.as_ref()?;
    let unknown = || "?".to_owned();
    let text = match pmtu.black_hole {
        true => text!(
            "packets up to {ok} bytes pass; {bad} bytes vanish without an ICMP answer",
            "{ok} 字节以内的包能通过；{bad} 字节的包消失且没有 ICMP 应答"
        ),
        false => text!(
            "packets up to {ok} bytes pass; smallest that did not: {bad}",
            "{ok} 字节以内的包能通过；不能通过的最小长度：{bad}"
        ),
    };
    let ok = pmtu.largest_ok.map_or_else(unknown, |n| n.to_string());
    let bad = pmtu.smallest_lost.map_or_else(unknown, |n| n.to_string());
    Some(text.fill(&[("ok", &ok), ("bad", &bad)]).get(lang).to_owned())
}
