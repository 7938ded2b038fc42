//! `path.remote_refusal`: somebody beyond this machine refuses.

use super::SIGHT;
use crate::culprit::{Count, Culprit, Scope, Share, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::way::End;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "path.remote_refusal",
    title: text!("Somebody beyond this machine refuses", "本机之外的一方拒绝连接"),
    meaning: text!(
        "The packets arrive somewhere, and what comes back is a refusal: nothing listens there, or a firewall rejects.",
        "包到达了某处，返回的却是拒绝：那里没有程序监听，或防火墙拒绝。"
    ),
    seen_by: text!(
        "A program or a probe was refused again and again without any success, its way leads out of the observed namespaces, and no rule on this side refuses.",
        "某个程序或探测反复被拒绝且从未成功，其路径通向被观察命名空间之外，而本侧没有规则拒绝它。"
    ),
    why_lost: text!(
        "The other side answers with a TCP reset or an ICMP error. Nothing is lost on the way.",
        "对方以 TCP RST 或 ICMP 错误作答。途中没有丢包。"
    ),
    what_to_do: text!(
        "Look at the other machine: is the service running, on this port and address, and does its firewall let this machine in? Run whydrop there.",
        "检查对方机器：服务是否在该端口和地址上运行，其防火墙是否放行本机？请在那里运行 whydrop。"
    ),
    when_wrong: text!(
        "A monitor that asks whether something is down gets the answer that it asks for.",
        "监控程序探测服务是否停止时，得到的正是它要的答案。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: SIGHT, judge };

/// What nobody here did was done elsewhere: what was not looked at cannot be excluded.
const BY_EXCLUSION: f64 = 0.8;

const SUMMARY: Text = text!(
    "{service} refuses: {n} of {attempts} attempts.",
    "{service} 拒绝连接：{attempts} 次尝试中有 {n} 次。"
);
const NOT_HERE: Text = text!("nothing on this side refuses them", "本侧没有任何环节拒绝它们");
const ASK: Text = text!(
    "look at the machine that has {address}: does a program listen on the port, and does its firewall let this machine in?",
    "检查持有 {address} 的机器：端口上是否有程序监听，其防火墙是否放行本机？"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let flows = space.case.flows.iter().filter(|flow| is_refused_beyond(space, flow));
    let services: BTreeSet<(IpAddr, Option<u16>)> =
        flows.filter_map(|flow| Some((flow.address?, flow.port))).collect();
    services.into_iter().map(|(address, port)| culprit(space, address, port)).collect::<Vec<_>>().into()
}

fn culprit(space: Space<'_>, address: IpAddr, port: Option<u16>) -> Culprit<'_> {
    let service = port.map_or_else(|| address.to_string(), |port| SocketAddr::new(address, port).to_string());
    Culprit::new(space, &CAUSE, "path", Scope::Machine, service.clone())
        // A refusal loses no packet.
        .meter(0, Count::AtMost, "")
        .at_most(BY_EXCLUSION)
        .harms(move |flow| {
            let meant = (flow.address, flow.port) == (Some(address), port);
            if meant && is_refused_beyond(space, flow) { Fit::Maybe } else { Fit::No }
        })
        .tell(move |share| story(share, address, &service))
}

fn story(share: &Share<'_, '_>, address: IpAddr, service: &str) -> Story {
    let sum = |of: fn(&Flow<'_>) -> u64| share.flows.iter().map(|flow| of(flow)).sum::<u64>();
    let (n, attempts) = (sum(|flow| flow.trouble.refused), sum(|flow| flow.attempts));
    let words: [(&str, &dyn std::fmt::Display); 4] =
        [("service", &service), ("n", &n), ("attempts", &attempts), ("address", &address)];
    Story::new(SUMMARY.fill(&words)).evidence(NOT_HERE.phrase(), "rules", &[]).fix(by_hand(ASK.fill(&words)))
}

/// True if the flow starts here, is refused, and nobody in view has the address; what could not be looked at on its way
/// might have refused as well.
fn is_refused_beyond(space: Space<'_>, flow: &Flow<'_>) -> bool {
    let blind = |there: Space<'_>| SIGHT.iter().any(|source| source.hidden(there));
    flow.in_trouble()
        && flow.refused()
        && flow.starts_in(space)
        && flow.forward.end == End::OutOfSight
        && !space.case.spaces().any(|there| flow.visits(there) && blind(there))
}
