//! What a program wrote is changed in that program: by hand it comes back, or breaks what the program keeps.

use super::by_hand;
use crate::rule::fill_words;
use whydrop_facts::{Owner, owner_of_chain, owner_of_policy, owner_of_route, owner_of_rule};
use whydrop_model::netfilter::{Chain, Rule, RuleVerdict};
use whydrop_model::snapshot::Route;
use whydrop_model::{Fix, Text, text};

const THERE: Text =
    text!("{owner} wrote this, so change it there: {how}", "这是 {owner} 写入的，应在那里修改：{how}");
const UNKNOWN: Text = text!(
    "a program set this route (protocol {number} in /etc/iproute2/rt_protos): change it there",
    "该路由由某个程序设置（/etc/iproute2/rt_protos 中的协议 {number}）：应在该程序中修改"
);

/// Who wrote this rule.
pub fn rule_owner(chain: &Chain, rule: &Rule) -> Option<&'static Owner> {
    owner_of_chain(&chain.table, &chain.name).or_else(|| owner_of_rule(rule.comment.as_deref(), &rule.text))
}

/// Who set this chain's policy.
pub fn policy_owner(chain: &Chain) -> Option<&'static Owner> {
    let jumps = chain.rules.iter().filter_map(|rule| match &rule.verdict {
        RuleVerdict::Jump(name) | RuleVerdict::Goto(name) => Some(name),
        _ => None,
    });
    owner_of_chain(&chain.table, &chain.name)
        .or_else(|| jumps.into_iter().find_map(|name| owner_of_policy(name)))
}

/// The fix for what a program wrote: to change it there.
pub fn there(owner: &Owner) -> Fix {
    by_hand(fill_words(THERE, &[("owner", &owner.name.phrase()), ("how", &owner.how.phrase())]))
}

/// The fix for a route that a program set; none if it is the kernel's or an administrator's.
pub fn route_there(route: &Route) -> Option<Fix> {
    owner_of_route(route.protocol)
        .map(|owner| owner.map_or_else(|| by_hand(UNKNOWN.fill(&[("number", &route.protocol)])), there))
}
