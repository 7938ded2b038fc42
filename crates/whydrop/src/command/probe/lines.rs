//! What `probe` shows while it runs: a line per event, or one live line.

use super::{ProbeArgs, running};
use crate::command::syn_lines;
use crate::settings::lang;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::time::SystemTime;
use whydrop_model::{Phrase, text};
use whydrop_probe::account::Credit;
use whydrop_probe::progress::{Event, Progress, Reply};
use whydrop_probe::{ProbeSpec, Scheme};

/// Shows events as they come.
pub struct Lines {
    spec: ProbeSpec,
    each: bool,
    timestamps: bool,
    bar: Option<ProgressBar>,
}

impl Lines {
    /// Lines on stdout; with `--quiet` or `--json` a live line on stderr instead, if that is a terminal.
    pub fn new(args: &ProbeArgs, spec: &ProbeSpec) -> Self {
        let each = !args.quiet && !args.json;
        let live = !each && std::io::stderr().is_terminal() && std::env::var_os("CI").is_none();
        let bar = live.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { spec: spec.clone(), each, timestamps: args.timestamps, bar }
    }

    /// Shows one event.
    pub fn show(&self, progress: &Progress) {
        if let Some(bar) = &self.bar {
            let counts = running::counts(&progress.counts, progress.total);
            let live = text!("{counts} (Ctrl-C: stop)", "{counts}（Ctrl-C：停止）")
                .fill(&[("counts", &counts.get(lang()))]);
            bar.set_message(live.get(lang()).to_owned());
        }
        if let Some(line) = self.each.then(|| self.line(&progress.event)).flatten() {
            // A closed stdout is noticed when the closing block is written.
            writeln!(std::io::stdout().lock(), "{}{line}", self.stamp()).ok();
        }
    }

    /// Removes the live line.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// As `ping -D` writes it.
    fn stamp(&self) -> String {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(now) if self.timestamps => format!("[{}.{:06}] ", now.as_secs(), now.subsec_micros()),
            _ => String::new(),
        }
    }

    fn line(&self, event: &Event) -> Option<String> {
        let seconds = format!("{:.1}", self.spec.timeout.as_secs_f64());
        let phrase = match event {
            Event::Started { address, because, .. } => {
                let what = announcement(&self.spec, *address);
                match because {
                    Some(why) => Phrase {
                        en: format!("{}\n{}", what.en, why.en),
                        zh: format!("{}\n{}", what.zh, why.zh),
                    },
                    None => what,
                }
            }
            Event::Reply(reply) => return Some(self.reply(reply)),
            Event::Lost(seq) => text!("seq={seq} no reply ({seconds} s)", "seq={seq} 无应答（{seconds} 秒）")
                .fill(&[("seq", seq), ("seconds", &seconds)]),
            Event::Failed { seq, ms, why } => {
                let why = whydrop_report::probe::http_failure(why);
                Phrase {
                    en: format!("seq={seq} failed after {ms:.1} ms: {}", why.en),
                    zh: format!("seq={seq} 在 {ms:.1} 毫秒后失败：{}", why.zh),
                }
            }
            Event::NotSent(seq, "EPERM") => text!(
                "seq={seq} not sent: EPERM (a filter on this side drops it)",
                "seq={seq} 未发出：EPERM（被本端过滤器丢弃）"
            )
            .fill(&[("seq", seq)]),
            Event::NotSent(seq, errno) => text!("seq={seq} not sent: {errno}", "seq={seq} 未发出：{errno}")
                .fill(&[("seq", seq), ("errno", errno)]),
            Event::IcmpError(seq, error) => Phrase::same(format!("seq={seq} {error}")),
            Event::Elsewhere(seq, source) => text!(
                "seq={seq} answered from {source}, which is not what was probed: no client takes that",
                "seq={seq} 的应答来自 {source}，并非探测目标：任何客户端都不会接受"
            )
            .fill(&[("seq", seq), ("source", source)]),
            Event::Sent(_) | Event::Packet { .. } => return None,
        };
        Some(phrase.get(lang()).to_owned())
    }

    fn reply(&self, reply: &Reply) -> String {
        let line = match (self.spec.scheme, self.spec.port) {
            (Scheme::Tcp, Some(port)) => syn_lines::reply(reply, port),
            _ => ping_shaped(reply),
        };
        let prefix = if reply.credit == Credit::Duplicate { "DUP! " } else { "" };
        let repeated = self.spec.scheme == Scheme::Tcp && reply.attempt.is_some_and(|k| k > 0);
        let note = match (reply.credit, repeated) {
            (Credit::Late, true) => {
                text!(" [SYN-ACK sent again: an answer was lost]", " [SYN-ACK 重发：应答曾丢失]").phrase()
            }
            (Credit::Duplicate, true) => {
                text!(" [SYN-ACK sent again: our RST was lost]", " [SYN-ACK 重发：本端 RST 丢失]").phrase()
            }
            (Credit::Late, false) => text!(" [late]", " [迟到]").phrase(),
            _ => Phrase::default(),
        };
        format!("{prefix}{line}{}", note.get(lang()))
    }
}

/// `64 bytes from 10.0.0.2: seq=1 ttl=64 time=0.051 ms`
fn ping_shaped(reply: &Reply) -> String {
    let length = reply.length.map_or_else(String::new, |n| format!("{n} bytes "));
    let ttl = reply.ttl.map_or_else(String::new, |ttl| format!(" ttl={ttl}"));
    format!("{length}from {}: seq={}{ttl} time={:.3} ms", reply.from, reply.seq, reply.rtt_ms)
}

/// What is going to be sent, before it is.
pub fn announcement(spec: &ProbeSpec, address: IpAddr) -> Phrase {
    let each = spec.bytes_per_probe(address.is_ipv4());
    let interval = format!("{}", spec.interval.as_secs_f64() * 1000.0);
    let url = whydrop_model::shell::sanitize(&spec.url, 200);
    match (spec.scheme, spec.count) {
        (Scheme::Http | Scheme::Https, _) if spec.sizes => text!(
            "{url} ({address}): some dozen connections, one after another, with requests and answers of growing segments",
            "{url}（{address}）：依次建立数十个连接，请求与应答的报文段逐渐增大"
        )
        .fill(&[("url", &url), ("address", &address)]),
        (Scheme::Pmtu, _) => text!(
            "{url} ({address}): some dozen echo requests of up to 65535 bytes, never in fragments",
            "{url}（{address}）：数十个 ICMP 回显请求，最大 65535 字节，不分片"
        )
        .fill(&[("url", &url), ("address", &address)]),
        (Scheme::Path, Some(count)) => text!(
            "{url} ({address}): {count} rounds, one probe of {each} bytes to each hop every {interval} ms",
            "{url}（{address}）：{count} 轮，每轮每跳一个 {each} 字节的探测，间隔 {interval} 毫秒"
        )
        .fill(&[
            ("url", &url),
            ("address", &address),
            ("count", &count),
            ("each", &each),
            ("interval", &interval),
        ]),
        (_, Some(count)) => text!(
            "{url} ({address}): {count} probes, one every {interval} ms, {total} bytes in all",
            "{url}（{address}）：{count} 个探测，每 {interval} 毫秒一个，共 {total} 字节"
        )
        .fill(&[
            ("url", &url),
            ("address", &address),
            ("count", &count),
            ("interval", &interval),
            ("total", &(u64::from(count) * each)),
        ]),
        (_, None) => text!(
            "{url} ({address}): one probe of {each} bytes every {interval} ms until Ctrl-C",
            "{url}（{address}）：每 {interval} 毫秒一个 {each} 字节的探测，直到 Ctrl-C"
        )
        .fill(&[("url", &url), ("address", &address), ("interval", &interval), ("each", &each)]),
    }
}
