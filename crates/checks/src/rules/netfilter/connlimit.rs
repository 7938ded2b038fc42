//! `netfilter.connlimit`: A firewall rule drops above a number of connections.

use super::drop_policy::judge_policies;
use super::drops::Class;
use super::judge::judge_class;
use crate::coverage::NETFILTER;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "netfilter.connlimit",
    title: text!("A firewall rule drops above a number of connections", "防火墙规则丢弃超过连接数的包"),
    meaning: text!(
        "A rule allows a client so many connections at a time and drops further ones.",
        "规则限制每个客户端的并发连接数，超过的连接被丢弃。"
    ),
    seen_by: text!(
        "The counter of a rule with connlimit or ct count rose in the window.",
        "带 connlimit 或 ct count 的规则计数在窗口内增加。"
    ),
    why_lost: text!(
        "Clients behind one NAT address or a connection pool reach the number soon.",
        "同一 NAT 地址后的多个客户端或连接池很快就会达到上限。"
    ),
    what_to_do: text!("Raise the number or delete the rule.", "提高上限或删除该规则。"),
    when_wrong: text!(
        "When one client really opens too many connections.",
        "某个客户端确实打开了过多连接时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: NETFILTER, judge };

const SUMMARY: Text = text!(
    "A rule drops {way} packets above a number of connections.",
    "一条规则丢弃超过连接数上限的{way}包。"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut judgement = judge_class(space, &CAUSE, Class::Connlimit, SUMMARY);
    let behind = judge_policies(space, &CAUSE, SUMMARY, |gate| gate == Some(Class::Connlimit));
    judgement.culprits.extend(behind.culprits);
    judgement.notes.extend(behind.notes);
    judgement
}
