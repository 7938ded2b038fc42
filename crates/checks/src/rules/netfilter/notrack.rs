//! `netfilter.notrack`: untracked packets meet a rule that wants connection tracking's state.

use super::drop_policy::judge_policies;
use super::drops::Class;
use super::judge::judge_class;
use crate::coverage::NETFILTER;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "netfilter.notrack",
    title: text!(
        "Untracked packets meet a rule that wants connection tracking's state",
        "未被跟踪的包遇到要求连接跟踪状态的规则"
    ),
    meaning: text!(
        "A rule takes packets out of connection tracking (NOTRACK), and further on only what is NEW or ESTABLISHED may pass.",
        "一条规则让包不做连接跟踪（NOTRACK），而后面只允许 NEW 或 ESTABLISHED 的包通过。"
    ),
    seen_by: text!(
        "It walks the rule sets with the packets in trouble twice, untracked as they are and tracked: only the tracked ones pass.",
        "用受影响的包遍历规则集两次，一次按未跟踪、一次按已跟踪：只有后者能通过。"
    ),
    why_lost: text!(
        "Untracked packets, and answers to untracked requests, have the state UNTRACKED, NEW or INVALID and are never ESTABLISHED.",
        "未被跟踪的包及其应答的状态是 UNTRACKED、NEW 或 INVALID，永远不会是 ESTABLISHED。"
    ),
    what_to_do: text!(
        "Delete the NOTRACK rule, give it both directions and accept UNTRACKED behind it, or narrow it.",
        "删除 NOTRACK 规则，或让它覆盖两个方向并在其后放行 UNTRACKED，或缩小其范围。"
    ),
    when_wrong: text!(
        "Where the stateless traffic is meant to be blocked by the rules behind.",
        "后面的规则有意阻止无状态流量时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: NETFILTER, judge };

const SUMMARY: Text = text!(
    "A rule takes {way} packets out of connection tracking, and what wants their state drops them.",
    "一条规则让{way}包不做连接跟踪，而要求其状态的规则把它们丢弃。"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut judgement = judge_class(space, &CAUSE, Class::Untracked, SUMMARY);
    let policies = judge_policies(space, &CAUSE, SUMMARY, |class| class == Some(Class::Untracked));
    judgement.culprits.extend(policies.culprits);
    judgement.notes.extend(policies.notes);
    judgement
}
