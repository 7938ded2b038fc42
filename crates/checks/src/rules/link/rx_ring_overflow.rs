//! `nic.rx_ring_overflow`: the receive ring overflows.

use super::judge_counters;
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "nic.rx_ring_overflow",
    title: text!("The receive ring overflows", "网卡接收环形缓冲区溢出"),
    meaning: text!(
        "The network card has no free descriptor for a frame that arrives.",
        "帧到达时网卡没有空闲的描述符。"
    ),
    seen_by: text!(
        "rx_missed_errors or rx_fifo_errors of the interface rose in the window.",
        "接口的 rx_missed_errors 或 rx_fifo_errors 在窗口内增加。"
    ),
    why_lost: text!(
        "The CPU that empties the ring does not keep up with bursts, and the card drops what does not fit.",
        "清空环形缓冲区的 CPU 跟不上突发流量，网卡丢弃放不下的帧。"
    ),
    what_to_do: text!(
        "Enlarge the ring (ethtool -G), use more queues, spread interrupts.",
        "增大环形缓冲区（ethtool -G），使用更多队列，分散中断。"
    ),
    when_wrong: text!(
        "When a driver counts flow-controlled frames there.",
        "有些驱动把受流控的帧也计入其中。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links], judge };

/// Drivers fill one or the other; the larger is the number of frames.
const FIELDS: &[&str] = &["rx_missed_errors", "rx_fifo_errors", "rx_over_errors"];

const SUMMARY: Text = text!("The receive ring of {dev} overflows.", "{dev} 的接收环形缓冲区溢出。");
const CHECK: Text = text!("enlarge the ring: ethtool -G DEV rx MAX", "增大环形缓冲区：ethtool -G DEV rx MAX");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let largest = |rises: &[u64]| rises.iter().copied().max().unwrap_or(0);
    judge_counters(space, &CAUSE, "nic.receive", FIELDS, largest, [SUMMARY, CHECK])
}
