//! `link.errors`: frames are damaged on the wire.

use super::judge_counters;
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "link.errors",
    title: text!("Frames are damaged on the wire", "线路上的帧损坏"),
    meaning: text!(
        "The interface receives frames with a wrong checksum, alignment or length.",
        "接口收到校验和、对齐或长度错误的帧。"
    ),
    seen_by: text!(
        "rx_crc_errors, rx_frame_errors or rx_length_errors of an interface rose in the window.",
        "接口的 rx_crc_errors、rx_frame_errors 或 rx_length_errors 在窗口内增加。"
    ),
    why_lost: text!(
        "A damaged frame is discarded before anything else sees it.",
        "损坏的帧在被其他部分看到之前就被丢弃。"
    ),
    what_to_do: text!(
        "Change cable, transceiver or port; compare speed and duplex of both ends.",
        "更换线缆、光模块或端口；比较两端的速率和双工。"
    ),
    when_wrong: text!(
        "Some drivers count frames of unknown VLANs as length errors.",
        "有些驱动把未知 VLAN 的帧计为长度错误。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links], judge };

/// Each is contained in rx_errors, which is therefore not added.
const FIELDS: &[&str] = &["rx_crc_errors", "rx_frame_errors", "rx_length_errors"];

const SUMMARY: Text = text!("{dev} receives damaged frames.", "{dev} 收到损坏的帧。");
const CHECK: Text =
    text!("check cable, transceiver, port, speed and duplex", "检查线缆、光模块、端口、速率和双工");

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_counters(space, &CAUSE, "link.receive", FIELDS, |rises| rises.iter().sum(), [SUMMARY, CHECK])
}
