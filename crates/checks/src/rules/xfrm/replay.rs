//! `xfrm.replay`: the replay window discards packets.

use super::{Refusals, refused_by_state};
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "xfrm.replay",
    title: text!("The replay window discards protected packets", "重放窗口丢弃受保护的包"),
    meaning: text!(
        "Packets come whose sequence number was seen before, or is older than the replay window: they were reordered too far, or the sender started again to count.",
        "到达的包的序列号先前已出现过，或早于重放窗口：乱序过大，或发送方重新开始计数。"
    ),
    seen_by: text!(
        "XfrmInStateSeqError in /proc/net/xfrm_stat rises, and a state counts packets outside of its window.",
        "/proc/net/xfrm_stat 的 XfrmInStateSeqError 上升，且某个状态统计到窗口之外的包。"
    ),
    why_lost: text!(
        "The kernel takes such a packet for a repeat by an attacker and drops it without an answer.",
        "内核将其视为攻击者的重放，直接丢弃，不作应答。"
    ),
    what_to_do: text!(
        "Use a larger window (replay_window of the IKE daemon, up to 4096 with ESN) where queues or several CPUs reorder; let both ends negotiate again after one of them was restarted.",
        "在队列或多 CPU 造成乱序时使用更大的窗口（IKE 守护进程的 replay_window，配合 ESN 可达 4096）；某一端重启后让两端重新协商。"
    ),
    when_wrong: text!(
        "A repeat that somebody really sends again is what the window is for.",
        "有人确实重发的包，正是该窗口要拒绝的。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Xfrm, Source::XfrmStat], judge };

const SUMMARY: Text = text!(
    "{n} protected packets fell outside of the replay window of {state}.",
    "{n} 个受保护的包落在 {state} 的重放窗口之外。"
);
const DO: Text = text!(
    "give {state} a larger replay window, or let both ends negotiate again if one of them began anew to count",
    "为 {state} 设置更大的重放窗口；若某一端重新开始计数，则让两端重新协商"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let of = Refusals {
        // net/xfrm/xfrm_input.c:xfrm_input(): the replay check failed.
        counter: "XfrmInStateSeqError",
        of_state: |state| u64::from(state.replayed) + u64::from(state.outside_window),
        summary: SUMMARY,
        advice: DO,
    };
    refused_by_state(space, &CAUSE, of).into()
}
