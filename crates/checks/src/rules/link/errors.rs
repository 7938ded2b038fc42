//! `link.errors`: frames are damaged on the wire.

use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule, Suspect, manual};
use whydrop_model::{Cause, Direction, Text, text};

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
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links], consequence_of: &[], judge };

/// Each is contained in rx_errors, which is therefore not added.
const FIELDS: &[&str] = &["rx_crc_errors", "rx_frame_errors", "rx_length_errors"];

const SUMMARY: Text = text!("{dev} receives damaged frames.", "{dev} 收到损坏的帧。");
const ROSE: Text = text!("{field} rose by {n}", "{field} 计数 +{n}");
const CHECK: Text =
    text!("check cable, transceiver, port, speed and duplex", "检查线缆、光模块、端口、速率和双工");

fn judge(space: Space<'_>) -> Judgement {
    let suspects = space.links().filter(|link| !link.loopback).filter_map(|link| {
        let rises: Vec<(&str, u64)> =
            FIELDS.iter().map(|f| (*f, space.link_rise(link, f))).filter(|(_, n)| *n > 0).collect();
        let lost = rises.iter().map(|(_, n)| n).sum::<u64>();
        if lost == 0 {
            return None;
        }
        let dev = link.name.as_str();
        let mut suspect =
            Suspect::new(space, &CAUSE, "link.receive", dev.to_owned(), SUMMARY.fill(&[("dev", &dev)]))
                .direction(Direction::Receive)
                .packets(lost, "interface counters")
                .on(link.index)
                .touches(space.probes_via(link.index))
                .fix(manual(CHECK));
        for (field, n) in rises {
            let claim = ROSE.fill(&[("field", &field), ("n", &n)]);
            suspect = suspect.evidence(
                claim,
                "interface counters",
                &["ip", "-s", "-s", "link", "show", "dev", dev],
            );
        }
        Some(suspect)
    });
    suspects.collect::<Vec<_>>().into()
}
