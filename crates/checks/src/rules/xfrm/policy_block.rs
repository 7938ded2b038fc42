//! `xfrm.policy_block`: an IPsec policy blocks.

use super::{of_event, of_flow, policies, rise};
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use whydrop_model::snapshot::XfrmPolicy;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "xfrm.policy_block",
    title: text!("An IPsec policy blocks packets", "IPsec 策略阻止数据包"),
    meaning: text!(
        "A policy of the kernel's IPsec with the action block covers the traffic; no firewall rule shows it.",
        "内核 IPsec 的一条动作为 block 的策略覆盖了该流量，防火墙规则中看不到它。"
    ),
    seen_by: text!(
        "It reads the policies, finds the one that decides about each packet of a flow in trouble, and reads XfrmOutPolBlock and XfrmInPolBlock in /proc/net/xfrm_stat.",
        "读取策略，找出对受影响流量的每个包起决定作用的策略，并读取 /proc/net/xfrm_stat 中的 XfrmOutPolBlock 和 XfrmInPolBlock。"
    ),
    why_lost: text!(
        "Who sends gets EPERM; what comes in or is forwarded is dropped without an answer.",
        "发送方得到 EPERM；入站或转发的包被直接丢弃，不作应答。"
    ),
    what_to_do: text!(
        "Find out who wrote the policy (an IKE daemon, a kill switch of a VPN) and correct it there, or delete it.",
        "查明是谁写入该策略（IKE 守护进程、VPN 的断网保护）并在那里修正，或删除该策略。"
    ),
    when_wrong: text!(
        "A VPN may block on purpose what must not leave in the clear while its tunnel is down: then the tunnel is the trouble.",
        "VPN 可能在隧道断开时有意阻止明文外发：那么问题在隧道。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Xfrm, Source::XfrmStat], judge };

const SUMMARY: Text =
    text!("An IPsec policy blocks packets: {policy}.", "一条 IPsec 策略阻止数据包：{policy}。");
const COVERS: Text = text!("the policy's action is block", "该策略的动作为 block");
const DELETE: Text = text!(
    "change it where it was written, or delete it: ip xfrm policy delete dir {direction} src {source} dst {destination}",
    "在写入它的地方修改，或删除：ip xfrm policy delete dir {direction} src {source} dst {destination}"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let blocks = || policies(space).iter().filter(|policy| policy.block);
    let alone =
        |policy: &XfrmPolicy| blocks().filter(|other| counter(other) == counter(policy)).nth(1).is_none();
    let met = |policy: &&XfrmPolicy| {
        let counted = alone(policy) && rise(space, counter(policy)).is_some_and(|n| n > 0);
        let mut flows = space.case.flows.iter().filter(|flow| flow.in_trouble());
        counted
            || flows.any(|flow| decided(&of_flow(space, flow), policy))
            || space.losses().any(|loss| takes(space, policy, loss) != Fit::No)
    };
    blocks().filter(met).map(|policy| culprit(space, policy, alone(policy))).collect::<Vec<_>>().into()
}

/// The counter that counts what a policy blocks (net/xfrm/xfrm_policy.c).
fn counter(policy: &XfrmPolicy) -> &'static str {
    if policy.direction == "out" { "XfrmOutPolBlock" } else { "XfrmInPolBlock" }
}

fn decided(by: &[&XfrmPolicy], policy: &XfrmPolicy) -> bool {
    by.iter().any(|other| std::ptr::eq(*other, policy))
}

fn culprit<'a>(space: Space<'a>, policy: &'a XfrmPolicy, alone: bool) -> Culprit<'a> {
    let (stage, direction) = match policy.direction.as_str() {
        "out" => ("xfrm", Direction::Transmit),
        "fwd" => ("xfrm", Direction::Forward),
        _ => ("xfrm", Direction::Receive),
    };
    let culprit = Culprit::new(space, &CAUSE, stage, Scope::Rule, shown(policy))
        .direction(direction)
        .takes(move |loss| takes(space, policy, loss))
        .harms(move |flow| sure(flow.suffers() && decided(&of_flow(space, flow), policy)))
        .tell(move |_| story(policy));
    match rise(space, counter(policy)) {
        Some(n) => culprit.meter(n, if alone { Count::Exact } else { Count::AtMost }, counter(policy)),
        None => culprit,
    }
}

fn takes(space: Space<'_>, policy: &XfrmPolicy, loss: &Loss<'_>) -> Fit {
    match loss.event {
        _ if !loss.is_in(space) || !loss.is_at_stage("xfrm") => Fit::No,
        Some(event) => sure(decided(&of_event(space, event), policy)),
        None => Fit::Maybe,
    }
}

fn story(policy: &XfrmPolicy) -> Story {
    let network = |(ip, prefix): (std::net::IpAddr, u8)| format!("{ip}/{prefix}");
    let (source, destination) = (network(policy.selector.source), network(policy.selector.destination));
    let words: [(&str, &dyn std::fmt::Display); 3] =
        [("direction", &policy.direction), ("source", &source), ("destination", &destination)];
    Story::new(SUMMARY.fill(&[("policy", &shown(policy))]))
        .evidence(COVERS.phrase(), "xfrm", &["ip", "xfrm", "policy"])
        .fix(by_hand(DELETE.fill(&words)))
}

/// As `ip xfrm policy` names it.
fn shown(policy: &XfrmPolicy) -> String {
    let (source, destination) = (policy.selector.source, policy.selector.destination);
    let (from, to) = (format!("{}/{}", source.0, source.1), format!("{}/{}", destination.0, destination.1));
    format!("src {from} dst {to} dir {}", policy.direction)
}
