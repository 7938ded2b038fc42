//! `route.policy_rule`: A policy rule refuses the packets.

use super::turn::{Turn, turns};
use super::{endings, fit};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::evidence::route::Lookup;
use crate::evidence::way::{End, Ending};
use crate::fixes::{by_hand, fix};
use crate::loss::missing::Frame;
use crate::rule::{Judgement, Rule};
use whydrop_model::action::Action;
use whydrop_model::snapshot::{NextHop, PolicyRule};
use whydrop_model::{Cause, Fix, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.policy_rule",
    title: text!("A policy rule refuses or misdirects the packets", "策略路由规则拒绝数据包或将其引向别处"),
    meaning: text!(
        "A rule of ip rule with action blackhole, unreachable or prohibit, or with a table that leads elsewhere, comes before the tables that hold the route.",
        "ip rule 中动作为 blackhole、unreachable 或 prohibit 的规则，或指向其他去处的路由表的规则，排在含有正确路由的表之前。"
    ),
    seen_by: text!(
        "The policy rules were followed in order for each wanted address and for the way back. A rule misdirects if packets do not arrive by its table, and the tables behind it have another next hop, which is in view.",
        "按顺序为每个所访问的地址及返回方向检查策略规则。若按其路由表包无法到达，而其后的路由表另有可见的下一跳，则该规则将包引向了别处。"
    ),
    why_lost: text!("The route that would fit is never looked at.", "合适的路由根本没有机会被查到。"),
    what_to_do: text!("Delete the rule: ip rule del priority N.", "删除该规则：ip rule del priority N。"),
    when_wrong: text!(
        "What a socket's mark, user and type of service were nobody tells of one that was closed before the end of the window.",
        "在窗口结束前已关闭的套接字，其标记、用户和服务类型无从得知。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::PolicyRules], judge };

const SUMMARY: Text = text!(
    "Policy rule {priority} ({action}) takes the packets to {address}.",
    "策略规则 {priority}（{action}）拒绝了发往 {address} 的包。"
);
const MATCHES: Text = text!(
    "rule {priority} with action {action} matches {address} before any table is searched",
    "规则 {priority}（动作 {action}）在查表之前就匹配了 {address}"
);
const SUMMARY_TURNED: Text = text!(
    "Policy rule {priority} (table {table}) sends the packets to {address} {wrong}, where they do not arrive; without it they go {right}.",
    "策略规则 {priority}（表 {table}）把发往 {address} 的包引向 {wrong}，无法到达；没有该规则时它们走 {right}。"
);
const TURNED: Text = text!(
    "rule {priority} matches {address} before the table that leads {right}",
    "规则 {priority} 在通往 {right} 的路由表之前匹配了 {address}"
);
const DELETE: Text = text!("delete the rule", "删除该规则");
const OPENS: Text = text!(
    "all that it refused can be sent then, and all that it sent elsewhere goes the ordinary way",
    "此后它所拒绝的包都可以发出，被它引向别处的包改走普通路由"
);
const PERSIST: Text =
    text!("take it out of the network configuration that adds it, too", "同时把它从添加它的网络配置中去掉");
const BY_HAND: Text =
    text!("delete the rule: ip rule del priority {priority}", "删除该规则：ip rule del priority {priority}");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut met: Vec<(&PolicyRule, Ending)> = vec![];
    for ending in endings(space, End::Refused) {
        if let Lookup::RefusedByRule(rule) = ending.lookup(space)
            && met.iter().all(|(known, _)| *known != rule)
        {
            met.push((rule, ending));
        }
    }
    let refusing = met.into_iter().map(|(rule, ending)| culprit(space, rule, ending));
    refusing.chain(turned(space).into_iter().map(|turn| misdirecting(space, turn))).collect::<Vec<_>>().into()
}

fn turned(space: Space<'_>) -> Vec<Turn<'_>> {
    let mut out: Vec<Turn<'_>> = vec![];
    for flow in space.case.flows.iter().filter(|flow| flow.suffers()) {
        for turn in turns(space, flow) {
            if out.iter().all(|known| (known.rule, known.to) != (turn.rule, turn.to)) {
                out.push(turn);
            }
        }
    }
    out
}

fn misdirecting<'a>(space: Space<'a>, turn: Turn<'a>) -> Culprit<'a> {
    let Turn { rule, to, hop, .. } = turn;
    Culprit::new(space, &CAUSE, "route.input", Scope::Rule, format!("ip rule {}", rule.priority))
        .reaches()
        // Whoever is asked for instead, and wherever the packets turn up.
        .takes(move |loss| match &loss.frame {
            Some(_) if hop.gateway.is_some() && loss.asks_for() == hop.gateway => sure(loss.is_in(space)),
            Some(Frame::Ip(Some(packet))) => sure(loss.link.is_none() && packet.destination == Some(to)),
            None if loss.flow.is_some() && loss.is_at_stage("route") => {
                sure(loss.event.and_then(|event| event.destination).is_some_and(|at| at.ip() == to))
            }
            _ => Fit::No,
        })
        .harms(move |flow| {
            sure(flow.suffers() && turns(space, flow).iter().any(|t| (t.rule, t.to) == (rule, to)))
        })
        .tell(move |_| misdirected(space, turn))
}

fn misdirected(space: Space<'_>, turn: Turn<'_>) -> Story {
    let Turn { rule, table, to, hop, right } = turn;
    let via = |hop: &NextHop| {
        let gateway = hop.gateway.map(|gateway| format!("via {gateway}"));
        let dev = hop.link.map(|link| format!("dev {}", space.after.link_name(link)));
        gateway.into_iter().chain(dev).collect::<Vec<_>>().join(" ")
    };
    let (wrong, right) = (via(hop), via(right));
    let words: [(&str, &dyn std::fmt::Display); 5] = [
        ("priority", &rule.priority),
        ("table", &table),
        ("address", &to),
        ("wrong", &wrong),
        ("right", &right),
    ];
    Story::new(SUMMARY_TURNED.fill(&words))
        .evidence(TURNED.fill(&words), "policy rules", &["ip", "rule", "show"])
        .fix(deletion(space, rule, &words))
}

fn culprit<'a>(space: Space<'a>, rule: &'a PolicyRule, ending: Ending) -> Culprit<'a> {
    let is_it = move |e: &Ending| matches!(e.lookup(space), Lookup::RefusedByRule(r) if r == rule);
    Culprit::new(space, &CAUSE, ending.stage(), Scope::Route, format!("ip rule {}", rule.priority))
        .direction(ending.direction())
        .takes(move |loss| fit(space, loss, |_, said| matches!(said, Lookup::RefusedByRule(r) if r == rule)))
        .harms(move |flow| {
            sure(flow.suffers() && flow.ending(space, End::Refused).is_some_and(|e| is_it(&e)))
        })
        .tell(move |_| story(space, rule, &ending))
}

fn deletion(space: Space<'_>, rule: &PolicyRule, words: &[(&str, &dyn std::fmt::Display)]) -> Fix {
    match rule.conditions.as_slice() {
        [] => {
            let action = Action::PolicyRuleDelete { rule: rule.clone() };
            let mut delete = fix(space, DELETE.phrase(), vec![action]);
            (delete.caution, delete.persist) = (Some(OPENS.phrase()), Some(PERSIST.phrase()));
            delete
        }
        // Not all conditions can be written as `ip rule` wants them.
        _ => by_hand(BY_HAND.fill(words)),
    }
}

fn story(space: Space<'_>, rule: &PolicyRule, ending: &Ending) -> Story {
    let words: [(&str, &dyn std::fmt::Display); 3] =
        [("priority", &rule.priority), ("action", &rule.action), ("address", &ending.to)];
    Story::new(SUMMARY.fill(&words))
        .evidence(MATCHES.fill(&words), "policy rules", &["ip", "rule", "show"])
        .fix(deletion(space, rule, &words))
}
