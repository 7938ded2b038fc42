//! `netfilter.quota`: A firewall quota is used up.

use super::drop_policy::judge_policies;
use super::drops::Class;
use super::judge::judge_class;
use crate::coverage::NETFILTER;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "netfilter.quota",
    title: text!("A firewall quota is used up", "防火墙配额已用完"),
    meaning: text!(
        "A rule lets so many bytes pass, then its packets are dropped.",
        "规则只放行一定字节数，用完后丢弃后续的包。"
    ),
    seen_by: text!(
        "The counter of a rule with a quota, or of the rule that takes the rest, rose in the window.",
        "带配额的规则或承接其余流量的规则在窗口内计数增加。"
    ),
    why_lost: text!(
        "A quota never refills by itself: everything after it is lost.",
        "配额不会自动恢复：之后的包全部丢失。"
    ),
    what_to_do: text!(
        "Delete the rule, or load it anew with a larger quota.",
        "删除该规则，或以更大的配额重新加载。"
    ),
    when_wrong: text!("When the quota was meant to stop the traffic.", "配额本来就是用来截断流量时。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: NETFILTER, judge };

const SUMMARY: Text =
    text!("A rule drops {way} packets because its quota is used up.", "配额用完，一条规则丢弃{way}包。");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut judgement = judge_class(space, &CAUSE, Class::Quota, SUMMARY);
    let behind = judge_policies(space, &CAUSE, SUMMARY, |gate| gate == Some(Class::Quota));
    judgement.culprits.extend(behind.culprits);
    judgement.notes.extend(behind.notes);
    judgement
}
