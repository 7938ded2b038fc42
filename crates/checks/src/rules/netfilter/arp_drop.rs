//! `netfilter.arp_drop`: an ARP table drops.

use super::drops::Class;
use super::judge::judge_class;
use crate::case::Space;
use crate::coverage::NETFILTER;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "netfilter.arp_drop",
    title: text!("An ARP table drops", "ARP 表规则丢弃数据包"),
    meaning: text!(
        "A rule of arptables or of an nftables table of family arp drops ARP requests or answers.",
        "arptables 或 nftables arp 族的规则丢弃 ARP 请求或应答。"
    ),
    seen_by: text!("The rule's counter rose in the window.", "规则计数在窗口内增加。"),
    why_lost: text!(
        "Without ARP the neighbour stays unknown and no IP packet can be sent to it.",
        "没有 ARP 就无法得知邻居的链路层地址，IP 包发不出去。"
    ),
    what_to_do: text!("Delete the rule.", "删除该规则。"),
    when_wrong: text!(
        "When it keeps a virtual address silent on purpose, as on a load balancer's backend.",
        "有意让虚拟地址保持沉默时，例如负载均衡的后端。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: NETFILTER, consequence_of: &[], judge };

const SUMMARY: Text = text!("A rule drops {way} ARP packets.", "一条规则丢弃{way} ARP 包。");

fn judge(space: Space<'_>) -> Judgement {
    judge_class(space, &CAUSE, Class::Arp, SUMMARY)
}
