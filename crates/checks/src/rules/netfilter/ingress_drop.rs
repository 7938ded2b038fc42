//! `netfilter.ingress_drop`: A netdev hook of nftables drops.

use super::drop_policy::judge_policies;
use super::drops::Class;
use super::judge::judge_class;
use crate::coverage::NETFILTER;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "netfilter.ingress_drop",
    title: text!("A netdev hook of nftables drops", "nftables 的 netdev 挂载点丢弃数据包"),
    meaning: text!(
        "A rule on a device's ingress or egress hook drops before or after the IP layer.",
        "设备 ingress 或 egress 挂载点上的规则在 IP 层之前或之后丢弃数据包。"
    ),
    seen_by: text!(
        "The rule's counter rose, or the kernel reported drops there.",
        "规则计数增加，或内核报告了该处的丢弃。"
    ),
    why_lost: text!(
        "Neither iptables nor the IP counters show these packets.",
        "iptables 和 IP 计数器都看不到这些包。"
    ),
    what_to_do: text!("Delete the rule.", "删除该规则。"),
    when_wrong: text!("When the rule wards off an attack.", "规则用于抵御攻击时。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: NETFILTER, judge };

const SUMMARY: Text =
    text!("A rule at the device drops {share}{way} packets.", "设备上的一条规则丢弃{share}{way}包。");

const POLICY: Text = text!(
    "The policy of a chain drops the {way} packets at the device that no rule accepts.",
    "链的默认策略丢弃没有规则放行的{way}设备上的包。"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut judgement = judge_class(space, &CAUSE, Class::Ingress, SUMMARY);
    let policies = judge_policies(space, &CAUSE, POLICY, |class| class == Some(Class::Ingress));
    judgement.culprits.extend(policies.culprits);
    judgement.notes.extend(policies.notes);
    judgement
}
