//! `tc.action_drop`: A tc filter with action drop.

use super::{Found, judge_filters};
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tc.action_drop",
    title: text!("A tc filter with action drop", "带 drop 动作的 tc 过滤器"),
    meaning: text!(
        "A filter attached to the interface with tc throws packets away.",
        "用 tc 挂在接口上的过滤器丢弃数据包。"
    ),
    seen_by: text!(
        "The drop counter of a gact action rose in the window.",
        "gact 动作的丢弃计数在窗口内增加。"
    ),
    why_lost: text!(
        "Packets die before (ingress) or after (egress) the IP layer; the IP counters and iptables do not show them.",
        "包在 IP 层之前（ingress）或之后（egress）被丢弃；IP 计数器和 iptables 都看不到。"
    ),
    what_to_do: text!(
        "Delete the filter: tc filter del dev DEV ingress|egress.",
        "删除该过滤器：tc filter del dev DEV ingress|egress。"
    ),
    when_wrong: text!("When it blocks on purpose.", "有意阻止时。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Filters, Source::Qdiscs], judge };

const SUMMARY: Text = text!("A tc filter on {dev} drops {way} packets.", "{dev} 上的 tc 过滤器丢弃{way}包。");

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_filters(space, &CAUSE, Found::Action, SUMMARY)
}
