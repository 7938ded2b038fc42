//! `nat.dnat_missing`: the rule that should forward the port is gone.

use super::is_own;
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::tracked;
use crate::fixes::by_hand;
use crate::loss::Kind;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "nat.dnat_missing",
    title: text!("The rule that should forward the port is gone", "应转发该端口的规则不见了"),
    meaning: text!(
        "Connections to this port were forwarded to another address before; now no rule does that, and nothing listens here.",
        "以前到该端口的连接会被转发到另一个地址；现在没有规则这样做，本机也无人监听。"
    ),
    seen_by: text!(
        "Connection tracking still has entries of connections that were translated from this address and port, and the rules that are there now do not translate the requests in trouble.",
        "连接跟踪中仍有从该地址和端口转换过的连接条目，而现有规则不再转换受影响的请求。"
    ),
    why_lost: text!(
        "The request is taken for the machine itself, which has no socket for the port, and is refused.",
        "请求被当作发给本机的，而本机没有该端口的套接字，于是被拒绝。"
    ),
    what_to_do: text!(
        "Write the rule again: restart the program that keeps it (a container engine after a firewall reload), or load the rule set that has it.",
        "重新写入该规则：重启维护它的程序（例如防火墙重载后的容器引擎），或加载包含它的规则集。"
    ),
    when_wrong: text!("When the service was moved away or closed on purpose.", "该服务是有意迁走或关闭时。"),
};

/// The rule.
pub const RULE: Rule = Rule {
    cause: &CAUSE,
    needs: &[
        Source::Sockets,
        Source::ConntrackEntries,
        Source::Nftables,
        Source::IptablesLegacy,
        Source::Ip6tablesLegacy,
    ],
    judge,
};

const SUMMARY: Text = text!(
    "Port {port} of {ip} was forwarded to {to}, and no rule does that any more.",
    "{ip} 的端口 {port} 以前被转发到 {to}，现在没有规则这样做。"
);
const WAS: Text = text!(
    "connection tracking has connections for {from} that were sent to {to}",
    "连接跟踪中有发往 {from} 并被转到 {to} 的连接"
);
const NO_RULE: Text = text!("no rule translates {from} now", "现在没有规则转换 {from}");
const AGAIN: Text = text!(
    "let the program that published the port write its rules again, or: iptables -t nat -A PREROUTING -d {ip} -p {protocol} --dport {port} -j DNAT --to-destination {to}",
    "让发布该端口的程序重新写入规则，或执行：iptables -t nat -A PREROUTING -d {ip} -p {protocol} --dport {port} -j DNAT --to-destination {to}"
);

/// IPPROTO_UDP.
const UDP: u8 = 17;

type Gone = (u8, SocketAddr, SocketAddr);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let gone: BTreeSet<Gone> = space.case.flows.iter().filter_map(|flow| gone(space, flow)).collect();
    gone.into_iter().map(|gone| culprit(space, gone)).collect::<Vec<_>>().into()
}

/// Protocol, what a flow in trouble asks here, and where that was sent before.
fn gone(space: Space<'_>, flow: &Flow<'_>) -> Option<Gone> {
    let arrival = flow.arrival().filter(|_| flow.in_trouble())?;
    flow.destination(space.case).filter(|there| there.same(space))?;
    let from = SocketAddr::new(arrival.destination?, arrival.destination_port?);
    let to = tracked::sent_before(space, flow.protocol, from).filter(|_| is_own(space, from.ip()))?;
    Some((flow.protocol, from, to))
}

fn culprit(space: Space<'_>, gone: Gone) -> Culprit<'_> {
    let (protocol, from, to) = gone;
    Culprit::new(space, &CAUSE, "netfilter.prerouting", Scope::Rule, format!("{from} to {to}"))
        .direction(Direction::Receive)
        .takes(move |loss| {
            let event = loss.event.filter(|event| event.protocol == Some(protocol));
            let meant = event.is_some_and(|event| event.destination == Some(from));
            Fit::sure(loss.is_in(space) && loss.kind == Kind::Refused && meant)
        })
        .harms(move |flow| Fit::sure(self::gone(space, flow) == Some(gone)))
        .tell(move |_| {
            let (ip, port) = (from.ip(), from.port());
            let name = if protocol == UDP { "udp" } else { "tcp" };
            let words: [(&str, &dyn std::fmt::Display); 5] =
                [("ip", &ip), ("port", &port), ("from", &from), ("to", &to), ("protocol", &name)];
            let asked = port.to_string();
            Story::new(SUMMARY.fill(&words))
                .evidence(
                    WAS.fill(&words),
                    "conntrack entries",
                    &["conntrack", "-L", "-p", name, "--orig-port-dst", &asked],
                )
                .evidence(NO_RULE.fill(&words), "rules", &["iptables", "-t", "nat", "-nvL"])
                .fix(by_hand(AGAIN.fill(&words)))
        })
}
