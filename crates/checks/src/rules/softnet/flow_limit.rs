//! `softnet.flow_limit`: the per-flow limit of the backlog drops packets of a dominant flow.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "softnet.flow_limit",
    title: text!("The flow limit drops packets of a dominant flow", "流限制丢弃了占主导的流的包"),
    meaning: text!(
        "The backlog of a CPU is more than half full, most of it is one flow's, and the flow limit keeps room for the others.",
        "某 CPU 的积压队列过半且大部分属于同一个流，流限制为其他流保留空间。"
    ),
    seen_by: text!(
        "The flow-limit column of softnet_stat rose in the window and accounts for most of what the backlogs dropped.",
        "softnet_stat 的流限制列在窗口内增加，且占积压队列丢包的大部分。"
    ),
    why_lost: text!(
        "A flow that takes more than half of the recent packets of a CPU loses the excess (skb_flow_limit()), so that the others get through.",
        "某个流占某 CPU 最近包的一半以上时，超出部分被丢弃（skb_flow_limit()），以便其他流通过。"
    ),
    what_to_do: text!(
        "Raise net.core.netdev_max_backlog, spread the flow's CPU from the others' (RPS), or take the CPU out of net.core.flow_limit_cpu_bitmap.",
        "提高 net.core.netdev_max_backlog，用 RPS 把该流与其他流分到不同 CPU，或从 net.core.flow_limit_cpu_bitmap 中去掉该 CPU。"
    ),
    when_wrong: text!("Against a flood the limit does its work.", "面对洪泛流量时，该限制正在发挥作用。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Softnet], judge };

const SUMMARY: Text = text!(
    "The flow limit of the backlog drops packets of a dominant flow.",
    "积压队列的流限制丢弃了占主导的流的包。"
);
const ROSE: Text =
    text!("softnet flow_limit_count rose by {n} on this machine", "本机 softnet flow_limit_count +{n}");
const DO: Text = text!(
    "switch the limit off (sysctl -w net.core.flow_limit_cpu_bitmap=0), or give the backlog more room (net.core.netdev_max_backlog)",
    "关闭该限制（sysctl -w net.core.flow_limit_cpu_bitmap=0），或扩大积压队列（net.core.netdev_max_backlog）"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let limited = space.case.flow_limit_drops();
    if !space.case.limits_flows() || !space.losses().any(is_of_backlog) {
        return Judgement::default();
    }
    let culprit = Culprit::new(
        space,
        &CAUSE,
        "softnet.backlog",
        Scope::Netns,
        "net.core.flow_limit_cpu_bitmap".to_owned(),
    )
    .direction(Direction::Receive)
    .takes(move |loss| sure(loss.is_in(space) && is_of_backlog(loss)))
    .harms(move |flow| if flow.suffers() && flow.visits(space) { Fit::Maybe } else { Fit::No })
    .tell(move |_| {
        let show = ["cat", "/proc/net/softnet_stat"];
        Story::new(SUMMARY.phrase())
            .evidence(ROSE.fill(&[("n", &limited)]), "softnet_stat", &show)
            .fix(by_hand(DO.phrase()))
    });
    vec![culprit].into()
}

/// The kernel calls both the drops of a full backlog and those of the limit so.
fn is_of_backlog(loss: &Loss<'_>) -> bool {
    loss.reason() == Some("CPU_BACKLOG")
}
