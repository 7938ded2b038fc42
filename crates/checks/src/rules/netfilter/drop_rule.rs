//! `netfilter.drop_rule`: A firewall rule drops packets.

use super::drops::Class;
use super::judge::judge_class;
use crate::coverage::NETFILTER;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "netfilter.drop_rule",
    title: text!("A firewall rule drops packets", "防火墙规则丢弃数据包"),
    meaning: text!(
        "A rule of iptables, ip6tables or nftables matches packets and throws them away without an answer.",
        "iptables、ip6tables 或 nftables 的一条规则匹配到数据包并直接丢弃，不作任何应答。"
    ),
    seen_by: text!(
        "It reads the rules of both back ends at the start and at the end of the window. A rule whose counter rose in between dropped that many packets. For a rule without counter it compares the kernel's drop events and the lost probes with the rule's conditions.",
        "在观察窗口的开始和结束各读取一次两种后端的规则。期间计数增加的规则就丢弃了同样数量的包。没有计数器的规则，则用内核丢包事件和丢失的探测包与规则条件比对。"
    ),
    why_lost: text!(
        "The sender learns nothing: TCP sends again after a second or more, UDP is gone.",
        "发送方一无所知：TCP 要等一秒以上才重传，UDP 则直接丢失。"
    ),
    what_to_do: text!(
        "Delete the rule, or narrow it. Find the script, container image or daemon that adds it, or it comes back.",
        "删除该规则，或收窄其条件。还要找到添加它的脚本、镜像或守护进程，否则它会再次出现。"
    ),
    when_wrong: text!(
        "The drop may be policy: a firewall that blocks strangers does its work. Then the traffic is at fault, not the rule.",
        "丢弃可能正是安全策略：防火墙阻止陌生访问是在尽职。此时有问题的是流量而不是规则。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: NETFILTER, judge };

const SUMMARY: Text = text!("A rule drops {share}{way} packets.", "一条规则丢弃{share}{way}包。");

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_class(space, &CAUSE, Class::Drop, SUMMARY)
}
