//! `route.policy_rule`: A policy rule refuses the packets.

use super::add_dropped;
use crate::case::Space;
use crate::coverage::Source;
use crate::route::Lookup;
use crate::rule::{Judgement, Rule, Suspect, fix, manual};
use crate::way::{End, Ending};
use whydrop_model::action::Action;
use whydrop_model::{Applicability, Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.policy_rule",
    title: text!("A policy rule refuses the packets", "策略路由规则拒绝数据包"),
    meaning: text!(
        "A rule of ip rule with action blackhole, unreachable or prohibit comes before the tables that hold the route.",
        "ip rule 中动作为 blackhole、unreachable 或 prohibit 的规则排在含有路由的表之前。"
    ),
    seen_by: text!(
        "The policy rules were followed in order for each probed address and for the way back.",
        "按顺序为每个被探测的地址及返回方向检查策略规则。"
    ),
    why_lost: text!("The route that would fit is never looked at.", "合适的路由根本没有机会被查到。"),
    what_to_do: text!("Delete the rule: ip rule del priority N.", "删除该规则：ip rule del priority N。"),
    when_wrong: text!(
        "Rules that match marks or ports are not followed.",
        "按标记或端口匹配的规则不在检查之列。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::PolicyRules], consequence_of: &[], judge };

const SUMMARY: Text = text!(
    "Policy rule {priority} ({action}) takes the packets to {address}.",
    "策略规则 {priority}（{action}）拒绝了发往 {address} 的包。"
);
const MATCHES: Text = text!(
    "rule {priority} with action {action} matches {address} before any table is searched",
    "规则 {priority}（动作 {action}）在查表之前就匹配了 {address}"
);
const DELETE: Text = text!("delete the rule", "删除该规则");
const OPENS: Text = text!("all that it refused can be sent then", "此后它所拒绝的包都可以发出");
const PERSIST: Text =
    text!("take it out of the network configuration that adds it, too", "同时把它从添加它的网络配置中去掉");
const BY_HAND: Text =
    text!("delete the rule: ip rule del priority {priority}", "删除该规则：ip rule del priority {priority}");

fn judge(space: Space<'_>) -> Judgement {
    let mut suspects: Vec<Suspect> = vec![];
    for way in space.case.ways.iter().filter(|way| way.lost() > 0) {
        let met = way.ending(space, End::Refused).and_then(|ending| refused(space, &ending));
        let Some(suspect) = met else { continue };
        match suspects.iter_mut().find(|s| s.finding.subject == suspect.finding.subject) {
            Some(known) => known.touches.push(way.index),
            None => suspects.push(suspect.touches(vec![way.index])),
        }
    }
    add_dropped(space, &mut suspects, refused);
    suspects.into()
}

fn refused(space: Space<'_>, ending: &Ending) -> Option<Suspect> {
    let Lookup::RefusedByRule(rule) = ending.lookup(space) else { return None };
    let subject = format!("ip rule {}", rule.priority);
    let words: [(&str, &dyn std::fmt::Display); 3] =
        [("priority", &rule.priority), ("action", &rule.action), ("address", &ending.to)];
    let delete = match rule.conditions.as_slice() {
        [] => {
            let action = Action::PolicyRuleDelete { rule: (*rule).clone() };
            let mut delete = fix(space, DELETE.phrase(), Applicability::Safe, vec![action]);
            (delete.caution, delete.persist) = (Some(OPENS.phrase()), Some(PERSIST.phrase()));
            delete
        }
        // Not all conditions can be written as `ip rule` wants them.
        _ => {
            let mut by_hand = manual(BY_HAND);
            by_hand.title = BY_HAND.fill(&words);
            by_hand
        }
    };
    let suspect = Suspect::new(space, &CAUSE, ending.stage(), subject, SUMMARY.fill(&words))
        .evidence(MATCHES.fill(&words), "policy rules", &["ip", "rule", "show"])
        .direction(ending.direction())
        .fix(delete);
    Some(suspect)
}
