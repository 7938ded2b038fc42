//! `netfilter.rate_limit`: A firewall rule drops above a rate.

use super::drop_policy::judge_policies;
use super::drops::Class;
use super::judge::judge_class;
use crate::coverage::NETFILTER;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "netfilter.rate_limit",
    title: text!("A firewall rule drops above a rate", "防火墙规则丢弃超过速率的包"),
    meaning: text!(
        "A rule lets packets pass up to a rate (limit, hashlimit, meter) and the rest is dropped.",
        "规则只放行一定速率以内的包（limit、hashlimit、meter），其余丢弃。"
    ),
    seen_by: text!(
        "The counter of a rule rose that matches above a rate, or of a rule that takes what an earlier limit rule of the same chain does not let pass.",
        "超过速率才匹配的规则计数增加，或者同一链中前面的 limit 规则未放行的包被后面的规则丢弃。"
    ),
    why_lost: text!(
        "Bursts of honest traffic exceed the rate as well as attacks do.",
        "正常的突发流量和攻击一样会超过速率。"
    ),
    what_to_do: text!(
        "Raise the rate and the burst to what the service must take, or delete the pair of rules.",
        "把速率和突发值提高到业务所需，或删除这一对规则。"
    ),
    when_wrong: text!("When the traffic really is an attack.", "流量确实是攻击时。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: NETFILTER, judge };

const SUMMARY: Text =
    text!("A rule drops {way} packets above a rate.", "一条规则丢弃超过速率限制的{way}包。");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut judgement = judge_class(space, &CAUSE, Class::RateLimit, SUMMARY);
    let behind = judge_policies(space, &CAUSE, SUMMARY, |gate| gate == Some(Class::RateLimit));
    judgement.culprits.extend(behind.culprits);
    judgement.notes.extend(behind.notes);
    judgement
}
