//! `tc.bpf_drop`: A BPF program attached with tc drops.

use super::{Found, judge_filters};
use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tc.bpf_drop",
    title: text!("A BPF program attached with tc drops", "用 tc 挂载的 BPF 程序丢弃数据包"),
    meaning: text!(
        "A BPF program on the interface's ingress or egress decides on each packet.",
        "接口 ingress 或 egress 上的 BPF 程序决定每个包的去留。"
    ),
    seen_by: text!(
        "The drops of clsact rose, or the kernel reported TC_INGRESS or TC_EGRESS drops, where a BPF filter is attached and no other action accounts for them.",
        "clsact 的丢弃计数增加，或内核报告了 TC_INGRESS、TC_EGRESS 丢弃，而该处挂有 BPF 过滤器且没有其他动作能解释。"
    ),
    why_lost: text!(
        "What the program refuses never reaches the IP layer or the wire.",
        "被程序拒绝的包到不了 IP 层或线路。"
    ),
    what_to_do: text!(
        "Detach or mend the program: tc filter show dev DEV ingress.",
        "卸载或修正该程序：tc filter show dev DEV ingress。"
    ),
    when_wrong: text!(
        "Container networks (Cilium) drop by policy in such programs.",
        "容器网络（如 Cilium）会在这类程序中按策略丢包。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Filters, Source::Qdiscs], judge };

const SUMMARY: Text =
    text!("A BPF program on {dev} drops {way} packets.", "{dev} 上的 BPF 程序丢弃{way}包。");

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_filters(space, &CAUSE, Found::Bpf, SUMMARY)
}
