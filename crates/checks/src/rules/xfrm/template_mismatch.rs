//! `xfrm.template_mismatch`: plain or wrongly protected packets where IPsec is required.

use super::{of_event, of_flow, rise};
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::manual;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use whydrop_model::snapshot::XfrmPolicy;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "xfrm.template_mismatch",
    title: text!(
        "Packets come without the IPsec protection that a policy wants",
        "到达的包缺少策略要求的 IPsec 保护"
    ),
    meaning: text!(
        "A policy lets in only what is protected in a certain way, and packets come in the clear or protected otherwise.",
        "策略只接受以特定方式保护的包，而到达的包是明文或以其他方式保护。"
    ),
    seen_by: text!(
        "XfrmInTmplMismatch or XfrmInNoPols in /proc/net/xfrm_stat rises; flows in trouble are compared with the policies.",
        "/proc/net/xfrm_stat 的 XfrmInTmplMismatch 或 XfrmInNoPols 上升；并把受影响的流量与策略比对。"
    ),
    why_lost: text!(
        "The kernel drops them without an answer, behind the packet filter's view of the interface: tcpdump sees them arrive.",
        "内核不作应答直接丢弃；tcpdump 能看到它们到达。"
    ),
    what_to_do: text!(
        "Bring up the tunnel on the other side, or make the policies of both ends agree (ip xfrm policy, the IKE daemon's configuration).",
        "在对端建立隧道，或使两端策略一致（ip xfrm policy、IKE 守护进程的配置）。"
    ),
    when_wrong: text!(
        "Strangers who send in the clear to a protected network are kept out on purpose.",
        "陌生人以明文发往受保护网络时，被拒绝正是策略的目的。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::XfrmStat], judge };

/// What counts such packets (net/xfrm/xfrm_policy.c:__xfrm_policy_check).
const COUNTERS: [&str; 2] = ["XfrmInTmplMismatch", "XfrmInNoPols"];

const SUMMARY: Text = text!(
    "{n} {n|packet|packets} came without the IPsec protection that a policy wants.",
    "{n} 个包到达时没有策略要求的 IPsec 保护。"
);
const ROSE: Text = text!("{name} rose by {n}", "{name} 计数 +{n}");
const DO: Text = text!(
    "compare ip xfrm policy and ip xfrm state of both ends, and bring up what protects the traffic on the sending one",
    "比较两端的 ip xfrm policy 与 ip xfrm state，并在发送端建立所需的保护"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let rises = COUNTERS.map(|name| (name, rise(space, name)));
    let lost: u64 = rises.iter().filter_map(|(_, n)| *n).sum();
    let culprit = Culprit::new(space, &CAUSE, "xfrm", Scope::Netns, "IPsec policies".to_owned())
        .direction(Direction::Receive)
        .meter(lost, Count::Exact, "xfrm_stat")
        .takes(move |loss| takes(space, loss))
        .harms(move |flow| match of_flow(space, flow).into_iter().any(protects) {
            true if flow.suffers() => Fit::Maybe,
            _ => Fit::No,
        })
        .tell(move |_| {
            let story = Story::new(SUMMARY.fill(&[("n", &lost)])).fix(manual(DO));
            rises.iter().fold(story, |story, (name, n)| match n {
                Some(n) if *n > 0 => {
                    let claim = ROSE.fill(&[("name", name), ("n", n)]);
                    story.evidence(claim, "xfrm_stat", &["cat", "/proc/net/xfrm_stat"])
                }
                _ => story,
            })
        });
    (lost > 0).then_some(culprit).into()
}

/// True if a policy lets in only what is protected.
pub fn protects(policy: &XfrmPolicy) -> bool {
    !policy.block && policy.direction != "out" && policy.templates.iter().any(|template| !template.optional)
}

fn takes(space: Space<'_>, loss: &Loss<'_>) -> Fit {
    match loss.event.map(|event| of_event(space, event)) {
        _ if !loss.is_in(space) || !loss.is_at_stage("xfrm") => Fit::No,
        Some(by) if by.iter().any(|policy| policy.block) => Fit::No,
        Some(by) if by.iter().any(|policy| protects(policy)) => Fit::Yes,
        Some(_) | None => Fit::Maybe,
    }
}
