//! `netfilter.bridge_drop`: the bridge family drops.

use super::drop_policy::judge_policies;
use super::drops::Class;
use super::judge::judge_class;
use crate::coverage::NETFILTER;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "netfilter.bridge_drop",
    title: text!("The bridge family drops", "bridge 族规则丢弃数据包"),
    meaning: text!(
        "A rule of ebtables or of an nftables table of family bridge drops frames that a bridge passes on.",
        "ebtables 或 nftables bridge 族的规则丢弃网桥转发的帧。"
    ),
    seen_by: text!(
        "The rule's counter rose in the window, or the kernel reported drops that it or the chain's policy takes.",
        "规则计数在窗口内增加，或内核报告了由该规则或链的默认策略造成的丢弃。"
    ),
    why_lost: text!(
        "The frames never reach the other port; the IP firewall does not see them.",
        "帧到不了另一个端口，IP 防火墙也看不到它们。"
    ),
    what_to_do: text!("Delete the rule.", "删除该规则。"),
    when_wrong: text!("When it isolates guests on purpose.", "有意隔离虚拟机时。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: NETFILTER, judge };

const SUMMARY: Text =
    text!("A rule of the bridge drops {share}{way} frames.", "网桥的一条规则丢弃{share}{way}帧。");

const POLICY: Text = text!(
    "The policy of a chain drops the {way} frames that no rule accepts.",
    "链的默认策略丢弃没有规则放行的{way}帧。"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut judgement = judge_class(space, &CAUSE, Class::Bridge, SUMMARY);
    let policies = judge_policies(space, &CAUSE, POLICY, |class| class == Some(Class::Bridge));
    judgement.culprits.extend(policies.culprits);
    judgement.notes.extend(policies.notes);
    judgement
}
