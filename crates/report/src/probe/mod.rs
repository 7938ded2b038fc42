//! One probe run for people: the closing block that hping3 taught them, then what it leaves out.

mod graph;
mod http;

pub use http::failure as http_failure;

use crate::layout::{Page, name, pad};
use crate::number::{count, interval, millis, percent};
use crate::text::Options;
use std::io::{self, Write};
use std::net::SocketAddr;
use whydrop_model::probe::{Elsewhere, Hop, Share};
use whydrop_model::{Lang, ProbeResult, Text, text};

/// ICMP and send errors that are listed.
const ERRORS: usize = 8;

/// Writes the closing block of a run.
///
/// # Errors
/// Those of `out`.
pub fn write(result: &ProbeResult, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let mut page = options.page();
    let mut block = Block { rows: vec![], lang: options.lang };
    page.blank();
    headline(result, &mut page);
    block.shares(result);
    block.rest(result);
    block.errors(result);
    http::rows(&mut block, result);
    http::sizes(&mut block, result);
    block.pmtu(result);
    block.flows(result);
    if !options.plain {
        graph::strip(&mut block, result, options.width);
    }
    block.write(&mut page);
    if !options.plain {
        graph::histogram(result, &mut page, options.width);
    }
    hops(&result.extra.hops, options.lang, &mut page);
    for note in &result.extra.notes {
        page.paragraph(2, note.get(options.lang));
    }
    out.write_all(page.finish().as_bytes())
}

/// The three lines that scripts look for: English in every language.
fn headline(result: &ProbeResult, page: &mut Page) {
    let host = result.address.map_or_else(|| result.url.clone(), |a| a.to_string());
    page.line(&format!("--- {host} hping statistic ---"));
    let loss = match result.loss {
        Some(loss) => format!("{:.0}%", loss * 100.0),
        None if result.transmitted == 0 => "no".to_owned(),
        None => "unknown".to_owned(),
    };
    let (sent, received) = (result.transmitted, result.received);
    page.line(&format!("{sent} packets transmitted, {received} packets received, {loss} packet loss"));
    if let Some(rtt) = &result.rtt_ms {
        page.line(&format!("round-trip min/avg/max = {:.3}/{:.3}/{:.3} ms", rtt.min, rtt.avg, rtt.max));
    }
}

/// Labelled lines below the headline.
struct Block {
    rows: Vec<(String, String)>,
    lang: Lang,
}

impl Block {
    fn row(&mut self, label: Text, value: impl Into<String>) {
        self.rows.push((label.get(self.lang).to_owned(), value.into()));
    }

    fn number(&mut self, label: Text, n: u64) {
        if n > 0 {
            self.row(label, count(n));
        }
    }

    fn write(&self, page: &mut Page) {
        let column = self.rows.iter().map(|(label, _)| crate::layout::width(label)).max().unwrap_or(0) + 4;
        for (label, value) in &self.rows {
            page.entry(&format!("  {label}"), column, value);
        }
    }

    fn share(&self, share: Share) -> String {
        let (loss, ci) = (percent(share.loss, self.lang), interval(share.ci95, self.lang));
        let text = text!("{loss} (95 % interval {ci})", "{loss}（95% 置信区间 {ci}）");
        text.fill(&[("loss", &loss), ("ci", &ci)]).get(self.lang).to_owned()
    }

    fn shares(&mut self, p: &ProbeResult) {
        if let (Some(loss), Some(ci95)) = (p.loss, p.loss_ci95) {
            let parts = text!("{share}: {lost} lost, {late} late", "{share}：丢失 {lost}，迟到 {late}");
            let share = self.share(Share { loss, ci95 });
            let parts = parts.fill(&[("share", &share), ("lost", &count(p.lost)), ("late", &count(p.late))]);
            self.row(text!("loss", "丢包率"), parts.get(self.lang));
        }
        if let Some(forward) = p.forward {
            self.row(text!("request", "去程"), self.share(forward));
        }
        if let Some(reverse) = p.reverse {
            self.row(text!("answer", "回程"), self.share(reverse));
        }
    }

    fn rest(&mut self, p: &ProbeResult) {
        self.number(text!("duplicates", "重复"), p.duplicates);
        self.number(text!("refused", "被拒绝"), p.refused);
        self.number(text!("not sent", "未发出"), p.not_sent);
        self.number(text!("still open", "未定"), p.extra.undecided);
        self.number(text!("never left", "未离开本机"), p.extra.never_left.unwrap_or(0));
        self.number(text!("own filter", "本机过滤"), p.extra.dropped_on_return.unwrap_or(0));
        for Elsewhere { address, port, probes } in p.extra.elsewhere.iter().take(ERRORS) {
            let source =
                port.map_or_else(|| address.to_string(), |port| SocketAddr::new(*address, port).to_string());
            let text = text!("{source} answered {n}", "{source} 应答 {n} 个");
            let text = text.fill(&[("source", &source), ("n", &count(*probes))]);
            self.row(text!("not the probed one", "并非探测目标"), text.get(self.lang));
        }
        if let Some(rtt) = &p.rtt_ms {
            let text = text!(
                "median {p50}, 95th percentile {p95}, 99th {p99}, deviation {mdev}",
                "中位数 {p50}，95 百分位 {p95}，99 百分位 {p99}，偏差 {mdev}"
            );
            let [p50, p95, p99, mdev] = [rtt.p50, rtt.p95, rtt.p99, rtt.mdev].map(millis);
            let mut value = text
                .fill(&[("p50", &p50), ("p95", &p95), ("p99", &p99), ("mdev", &mdev)])
                .get(self.lang)
                .to_owned();
            if let Some(jitter) = p.extra.jitter_ms {
                let text = text!(", jitter {j}", "，抖动 {j}").fill(&[("j", &millis(jitter))]);
                value += text.get(self.lang);
            }
            self.row(text!("round trip", "往返"), value);
        }
    }

    fn errors(&mut self, p: &ProbeResult) {
        for (label, errors) in
            [(text!("send errors", "发送错误"), &p.send_errors), (text!("icmp", "ICMP"), &p.icmp_errors)]
        {
            let list: Vec<String> = errors
                .iter()
                .take(ERRORS)
                .map(|(what, n)| format!("{} ({})", name(what), count(*n)))
                .collect();
            if !list.is_empty() {
                self.row(label, list.join(", "));
            }
        }
    }

    fn pmtu(&mut self, p: &ProbeResult) {
        let Some(pmtu) = &p.pmtu else { return };
        let Some(ok) = pmtu.largest_ok else { return };
        let text = match pmtu.smallest_lost {
            Some(bad) => text!(
                "packets up to {ok} bytes pass, {bad} bytes do not",
                "{ok} 字节以内的包能通过，{bad} 字节不能"
            )
            .fill(&[("ok", &ok), ("bad", &bad)]),
            None => text!(
                "packets up to {ok} bytes pass, as many as the interface here allows",
                "{ok} 字节以内的包能通过，即本端接口允许的最大长度"
            )
            .fill(&[("ok", &ok)]),
        };
        self.row(text!("path mtu", "路径 MTU"), text.get(self.lang));
        if let Some((from, mtu)) = pmtu.icmp {
            let text =
                text!("{from} says {mtu}", "{from} 告知 {mtu}").fill(&[("from", &from), ("mtu", &mtu)]);
            self.row(text!("icmp", "ICMP"), text.get(self.lang));
        }
    }

    fn flows(&mut self, p: &ProbeResult) {
        for flow in &p.extra.flows {
            let share = if flow.transmitted == 0 {
                "-".to_owned()
            } else {
                percent(flow.lost as f64 / flow.transmitted as f64, self.lang)
            };
            let text = text!(
                "port {port}: {lost} of {n} lost ({share})",
                "端口 {port}：{n} 中丢失 {lost}（{share}）"
            );
            let text = text.fill(&[
                ("port", &flow.sport),
                ("lost", &flow.lost),
                ("n", &flow.transmitted),
                ("share", &share),
            ]);
            self.row(text!("flow", "流"), text.get(self.lang));
        }
    }
}

fn hops(hops: &[Hop], lang: Lang, page: &mut Page) {
    for hop in hops {
        let who: Vec<String> = hop.addresses.iter().map(ToString::to_string).collect();
        let who = if who.is_empty() { "*".to_owned() } else { who.join(" ") };
        let rtt = hop.rtt_ms.map_or_else(|| "-".to_owned(), |r| millis(r.avg));
        let verdict = match hop.verdict.as_str() {
            "loss" => text!("LOSS, and it persists to the end", "丢包，且一直持续到终点"),
            "limited" => text!("answers are limited here (not loss)", "此跳限制 ICMP 应答（不是丢包）"),
            "silent" => text!("never answers (not loss)", "从不应答（不是丢包）"),
            "end" => text!("nothing answers from here on", "从此跳起再无应答"),
            _ => text!("ok", "正常"),
        };
        page.line(&format!(
            "  {:>2}  {}  {} / {}  {}  {}",
            hop.ttl,
            pad(&who, 24),
            hop.received,
            hop.transmitted,
            pad(&rtt, 10),
            verdict.get(lang)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whydrop_model::probe::{Outcome, Packet, Rtt};

    fn result() -> ProbeResult {
        let packet = |seq: u32, outcome: Outcome| Packet {
            seq,
            sport: 61000,
            sent_ns: 0,
            rtt_ms: (outcome == Outcome::Received).then_some(0.1 * f64::from(seq + 1)),
            outcome,
            duplicates: 0,
        };
        let mut packets: Vec<Packet> = (0..8).map(|i| packet(i, Outcome::Received)).collect();
        packets.extend([packet(8, Outcome::Lost), packet(9, Outcome::NotSent("EPERM".into()))]);
        ProbeResult {
            url: "tcp://10.0.0.2:80".into(),
            transmitted: 9,
            received: 8,
            lost: 1,
            not_sent: 1,
            loss: Some(1.0 / 9.0),
            loss_ci95: Some([0.003, 0.48]),
            rtt_ms: Some(Rtt { min: 0.1, avg: 0.45, p50: 0.4, p95: 0.8, p99: 0.8, max: 0.8, mdev: 0.2 }),
            packets,
            ..ProbeResult::default()
        }
    }

    fn text(lang: Lang) -> String {
        let mut out = vec![];
        write(&result(), &Options { lang, ..Options::default() }, &mut out).expect("a Vec");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn has_the_lines_that_scripts_look_for() {
        for lang in [Lang::En, Lang::Zh] {
            let text = text(lang);
            assert!(
                text.contains("\n9 packets transmitted, 8 packets received, 11% packet loss\n"),
                "{text}"
            );
            assert!(text.contains("\nround-trip min/avg/max = 0.100/0.450/0.800 ms\n"), "{text}");
            assert!(text.contains("........x!"), "{text}");
        }
        assert!(text(Lang::En).is_ascii());
    }
}
