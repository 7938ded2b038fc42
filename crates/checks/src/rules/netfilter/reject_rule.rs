//! `netfilter.reject_rule`: A firewall rule rejects packets.

use super::drops::Class;
use super::judge::judge_class;
use crate::coverage::NETFILTER;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "netfilter.reject_rule",
    title: text!("A firewall rule rejects packets", "防火墙规则拒绝数据包"),
    meaning: text!(
        "A rule drops packets and answers with a TCP reset or an ICMP error.",
        "一条规则丢弃数据包，并以 TCP RST 或 ICMP 错误作答。"
    ),
    seen_by: text!("The rule's counter rose in the window.", "观察窗口内规则计数增加。"),
    why_lost: text!(
        "The connection is refused although the service may be up: to the client it looks like a closed port.",
        "即使服务正常，连接也被拒绝：在客户端看来如同端口关闭。"
    ),
    what_to_do: text!(
        "Delete the rule or let the wanted traffic pass before it.",
        "删除该规则，或在它之前放行需要的流量。"
    ),
    when_wrong: text!("A rejected scan is no fault.", "扫描被拒绝不是故障。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: NETFILTER, judge };

const SUMMARY: Text = text!("A rule rejects {share}{way} packets.", "一条规则拒绝{share}{way}包。");

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_class(space, &CAUSE, Class::Reject, SUMMARY)
}
