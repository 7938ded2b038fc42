//! `netfilter.br_netfilter_drop`: bridged frames are sent through the IP firewall and dropped there.

use super::drop_policy::judge_policies;
use super::drops::Class;
use super::judge::judge_class;
use crate::coverage::NETFILTER;
use crate::evidence::case::Space;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "netfilter.br_netfilter_drop",
    title: text!(
        "Bridged frames are sent through the IP firewall and dropped there",
        "网桥转发的帧被送入 IP 防火墙并在那里被丢弃"
    ),
    meaning: text!(
        "br_netfilter hands what a bridge forwards from port to port to iptables, and a rule or policy for routed packets drops it.",
        "br_netfilter 把网桥在端口之间转发的帧交给 iptables，而针对路由包的规则或策略将其丢弃。"
    ),
    seen_by: text!(
        "net.bridge.bridge-nf-call-iptables (or -ip6tables) is on, and bridged packets end at a rule or at the policy of a chain.",
        "net.bridge.bridge-nf-call-iptables（或 -ip6tables）已开启，网桥转发的包止于某条规则或链的默认策略。"
    ),
    why_lost: text!(
        "ARP passes and the bridge has learned the address, so it looks sound; IP packets meet FORWARD although nobody routes them.",
        "ARP 能通过，网桥也学到了地址，看似正常；但 IP 包即使未被路由也会经过 FORWARD。"
    ),
    what_to_do: text!(
        "Set the setting to 0, or accept the bridge's own traffic in front of the rule.",
        "把该设置改为 0，或在该规则之前放行网桥自身的流量。"
    ),
    when_wrong: text!(
        "Where container engines filter between containers of one bridge by this, and mean it.",
        "容器引擎以此在同一网桥的容器之间做过滤，且确实有意如此时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: NETFILTER, judge };

const SUMMARY: Text = text!(
    "The IP firewall drops {way} packets that a bridge only hands from port to port.",
    "IP 防火墙丢弃了网桥在端口之间转发的{way}包。"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut judgement = judge_class(space, &CAUSE, Class::Bridged, SUMMARY);
    let policies = judge_policies(space, &CAUSE, SUMMARY, |class| class == Some(Class::Bridged));
    judgement.culprits.extend(policies.culprits);
    judgement.notes.extend(policies.notes);
    judgement
}
