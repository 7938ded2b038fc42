//! `netfilter.arp_drop`: an ARP table drops.

use super::drop_policy::judge_policies;
use super::drops::Class;
use super::judge::judge_class;
use crate::coverage::NETFILTER;
use crate::evidence::case::Space;
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
    seen_by: text!(
        "The rule's counter rose in the window, or the kernel reported drops that it or the chain's policy takes.",
        "规则计数在窗口内增加，或内核报告了由该规则或链的默认策略造成的丢弃。"
    ),
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
pub const RULE: Rule = Rule { cause: &CAUSE, needs: NETFILTER, judge };

const SUMMARY: Text = text!("A rule drops {way} ARP packets.", "一条规则丢弃{way} ARP 包。");

const POLICY: Text = text!(
    "The policy of a chain drops the {way} ARP packets that no rule accepts.",
    "链的默认策略丢弃没有规则放行的{way}ARP 包。"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut judgement = judge_class(space, &CAUSE, Class::Arp, SUMMARY);
    let policies = judge_policies(space, &CAUSE, POLICY, |class| class == Some(Class::Arp));
    judgement.culprits.extend(policies.culprits);
    judgement.notes.extend(policies.notes);
    judgement
}
