//! `xfrm.no_state`: no security association for the packet.

use super::{of_event, of_flow, rise, states};
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use whydrop_model::snapshot::{XfrmPolicy, XfrmTemplate};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "xfrm.no_state",
    title: text!("No security association for the packet", "没有适用于该包的安全关联（SA）"),
    meaning: text!(
        "A policy wants IPsec for the traffic, and the kernel has no state (SA) to protect it with; or a protected packet comes whose SPI nobody here knows.",
        "策略要求用 IPsec 保护该流量，而内核没有可用的状态（SA）；或到达的受保护包带有本机未知的 SPI。"
    ),
    seen_by: text!(
        "XfrmOutNoStates or XfrmInNoStates in /proc/net/xfrm_stat rises, or a flow in trouble meets a policy for whose template there is no state.",
        "/proc/net/xfrm_stat 的 XfrmOutNoStates 或 XfrmInNoStates 上升；或受影响的流量遇到一条策略，而其模板没有对应的状态。"
    ),
    why_lost: text!(
        "The kernel asks the IKE daemon for a state and drops what is sent meanwhile; what comes with an unknown SPI is dropped without an answer.",
        "内核向 IKE 守护进程请求状态，其间发送的包被丢弃；带未知 SPI 的入站包被直接丢弃，不作应答。"
    ),
    what_to_do: text!(
        "Look at ip xfrm state of both ends and at the IKE daemon: is it running, did it negotiate, did one end forget the states after a restart?",
        "查看两端的 ip xfrm state 和 IKE 守护进程：是否在运行、协商是否成功、某一端重启后是否丢失了状态？"
    ),
    when_wrong: text!(
        "A tunnel on demand has no state until the first packet asks for one.",
        "按需建立的隧道在第一个包到来之前没有状态。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Xfrm, Source::XfrmStat], judge };

const OUT: &str = "XfrmOutNoStates";
const IN: &str = "XfrmInNoStates";

const SUMMARY_OUT: Text = text!(
    "A policy wants {template}, and there is no such state: packets are not sent.",
    "策略要求 {template}，而没有这样的状态：包不会发出。"
);
const SUMMARY_IN: Text = text!(
    "{n} protected packets came for which there is no state here.",
    "到达的 {n} 个受保护的包在本机没有对应的状态。"
);
const ROSE: Text = text!("{name} rose by {n}", "{name} 计数 +{n}");
const WANTED: Text = text!(
    "no state from {source} to {destination} fits the policy",
    "没有从 {source} 到 {destination} 的状态符合该策略"
);
const DO: Text = text!(
    "let the IKE daemon of this end negotiate again, and compare ip xfrm state of both ends (SPI, addresses, reqid)",
    "让本端的 IKE 守护进程重新协商，并比较两端的 ip xfrm state（SPI、地址、reqid）"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let sent = rise(space, OUT).unwrap_or(0);
    let lacks = |flow: &crate::evidence::flow::Flow<'_>| {
        of_flow(space, flow).into_iter().find_map(|p| lacking(space, p))
    };
    let mut flows = space.case.flows.iter().filter(|flow| flow.in_trouble());
    let template = flows.find_map(lacks).or_else(|| {
        let policies = super::policies(space).iter();
        policies.filter(|_| sent > 0).find_map(|policy| lacking(space, policy))
    });
    let mut culprits = vec![];
    if template.is_some() || sent > 0 {
        culprits.push(outgoing(space, template, sent));
    }
    if let Some(n) = rise(space, IN).filter(|n| *n > 0) {
        culprits.push(incoming(space, n));
    }
    culprits.into()
}

/// The template of a policy for sending for which there is no state.
pub fn lacking<'a>(space: Space<'a>, policy: &'a XfrmPolicy) -> Option<&'a XfrmTemplate> {
    let fits = |template: &XfrmTemplate| {
        let own = |state: &&whydrop_model::snapshot::XfrmState| {
            state.protocol == template.protocol
                && (template.mode != "tunnel" || state.destination == template.destination)
                && (template.reqid == 0 || state.reqid == template.reqid)
                && (template.spi == 0 || state.spi == template.spi)
                && state.spi != 0
        };
        states(space).iter().any(|state| own(&state))
    };
    let wanted = policy.templates.iter().filter(|template| !template.optional);
    let sends = policy.direction == "out" && !policy.block;
    wanted.filter(|_| sends).find(|template| !fits(template))
}

fn outgoing<'a>(space: Space<'a>, template: Option<&'a XfrmTemplate>, n: u64) -> Culprit<'a> {
    let subject = template.map_or_else(|| "IPsec states for sending".to_owned(), shown);
    let culprit = Culprit::new(space, &CAUSE, "xfrm", Scope::Rule, subject.clone())
        .direction(Direction::Transmit)
        .takes(move |loss| takes(space, loss, false))
        .harms(move |flow| {
            let lacks = of_flow(space, flow).into_iter().any(|policy| lacking(space, policy).is_some());
            if flow.in_trouble() && lacks { Fit::Yes } else { Fit::No }
        })
        .tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 3] =
                [("template", &subject), ("name", &OUT), ("n", &n)];
            let mut story = Story::new(SUMMARY_OUT.fill(&words)).fix(by_hand(DO.phrase()));
            if n > 0 {
                story = story.evidence(ROSE.fill(&words), "xfrm_stat", &["cat", "/proc/net/xfrm_stat"]);
            }
            match template {
                Some(t) => {
                    let ends: [(&str, &dyn std::fmt::Display); 2] =
                        [("source", &t.source), ("destination", &t.destination)];
                    story.evidence(WANTED.fill(&ends), "xfrm", &["ip", "xfrm", "state"])
                }
                None => story,
            }
        });
    if n > 0 { culprit.meter(n, Count::AtLeast, OUT) } else { culprit }
}

fn incoming(space: Space<'_>, n: u64) -> Culprit<'_> {
    Culprit::new(space, &CAUSE, "xfrm", Scope::Netns, "IPsec states for receiving".to_owned())
        .direction(Direction::Receive)
        .meter(n, Count::Exact, IN)
        .takes(move |loss| takes(space, loss, true))
        .harms(move |flow| if flow.suffers() && flow.visits(space) { Fit::Maybe } else { Fit::No })
        .tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 2] = [("name", &IN), ("n", &n)];
            Story::new(SUMMARY_IN.fill(&words))
                .evidence(ROSE.fill(&words), "xfrm_stat", &["cat", "/proc/net/xfrm_stat"])
                .fix(by_hand(DO.phrase()))
        })
}

/// The route of a packet for which a state is wanted and missing leads to nowhere meanwhile
/// (net/xfrm/xfrm_policy.c:xfrm_create_dummy_bundle).
const NOWHERE: &str = "dst_discard";

fn takes(space: Space<'_>, loss: &Loss<'_>, received: bool) -> Fit {
    let nowhere = loss.function().is_some_and(|function| function.starts_with(NOWHERE));
    if nowhere && !received && loss.is_in(space) {
        let lacks = |policy: &XfrmPolicy| lacking(space, policy).is_some();
        return match loss.event {
            Some(event) if of_event(space, event).into_iter().any(lacks) => Fit::Yes,
            Some(_) => Fit::No,
            None => Fit::Maybe,
        };
    }
    let mine = loss.is_in(space) && loss.is_at_stage("xfrm");
    match mine && super::is_protected(loss).is_none_or(|protected| protected == received) {
        true => Fit::Maybe,
        false => Fit::No,
    }
}

/// `esp tunnel 10.0.0.1 - 10.0.0.2`.
fn shown(template: &XfrmTemplate) -> String {
    format!("{} {} {} - {}", template.protocol, template.mode, template.source, template.destination)
}
