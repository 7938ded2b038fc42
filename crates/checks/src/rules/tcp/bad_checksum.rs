//! `tcp.bad_checksum`: segments arrive with a wrong checksum.

use super::TCP;
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::evidence::damage::{self, Damage};
use crate::rule::{Judgement, Rule};
use crate::rules::events::{Events, by_events};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tcp.bad_checksum",
    title: text!("Segments arrive with a wrong checksum", "收到校验和错误的 TCP 报文段"),
    meaning: text!(
        "The content of segments does not fit their checksum when they arrive.",
        "报文段到达时内容与校验和不符。"
    ),
    seen_by: text!("Tcp.InCsumErrors rose in the window.", "Tcp.InCsumErrors 在窗口内增加。"),
    why_lost: text!(
        "A damaged segment is discarded and has to be sent again.",
        "损坏的报文段被丢弃，必须重传。"
    ),
    what_to_do: text!(
        "Look for a bad cable, memory or tunnel; switch off checksum offloads one at a time (ethtool -K).",
        "检查线缆、内存或隧道；逐个关闭校验和卸载（ethtool -K）。"
    ),
    when_wrong: text!(
        "A capture on the sender shows wrong checksums with offload: harmless.",
        "在发送方抓包会因卸载看到错误校验和：无害。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Mib], judge };

const SUMMARY: Text =
    text!("TCP segments arrive damaged and are discarded.", "收到损坏的 TCP 报文段，已被丢弃。");
const DO: Text = text!(
    "find what damages them: ethtool -K DEV rx off tx off, one at a time, then cable and memory",
    "查找损坏原因：逐个执行 ethtool -K DEV rx off tx off，再检查线缆和内存"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    // What their content or their way tells more of is another cause.
    if matches!(damage::of(space), Some(Damage::Offload(_) | Damage::Program(..) | Damage::Wire(_))) {
        return Judgement::default();
    }
    let seen = Events {
        stage: "tcp.receive",
        counters: &["Tcp.InCsumErrors"],
        protocol: Some(TCP),
        summary: SUMMARY,
        advice: DO,
    };
    by_events(space, &CAUSE, seen).into()
}
