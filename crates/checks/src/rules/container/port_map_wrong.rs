//! `container.port_map_wrong`: the published port leads to a container port on which nothing listens.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::loss::Kind;
use crate::rule::{Judgement, Rule};
use crate::rules::nat::dead::{Dead, Sent, judge_dead, others};
use crate::rules::netfilter::judge as rules;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::Protocol;
use whydrop_model::{Cause, Direction, Phrase, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "container.port_map_wrong",
    title: text!("The published port leads to the wrong container port", "发布的端口指向了错误的容器端口"),
    meaning: text!(
        "A container's port is published, but its program listens on another port than the one that the mapping names.",
        "容器的端口已发布，但其中的程序监听的不是映射所指的端口。"
    ),
    seen_by: text!(
        "Requests to a published port are sent to a container that has no socket for the mapped port and serves another one.",
        "发往已发布端口的请求被送到容器，而容器没有映射端口的套接字，却在另一个端口提供服务。"
    ),
    why_lost: text!(
        "The container's kernel refuses; behind a proxy process the connection is accepted first and cut then.",
        "容器的内核拒绝连接；若经过代理进程，则连接先被接受随后被切断。"
    ),
    what_to_do: text!(
        "Publish the port on which the program listens (-p HOST:CONTAINER), or let the program listen on the mapped one.",
        "发布程序实际监听的端口（-p 主机端口:容器端口），或让程序监听映射的端口。"
    ),
    when_wrong: text!(
        "A program that is still starting listens on its other ports first.",
        "仍在启动的程序可能先监听其他端口。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule {
    cause: &CAUSE,
    needs: &[Source::Sockets, Source::Nftables, Source::IptablesLegacy, Source::Ip6tablesLegacy],
    judge,
};

/// IPPROTO_UDP.
const UDP: u8 = 17;
/// Longer rules are cut in what people read.
const MAX_RULE_TEXT: usize = 300;
/// Ports beyond these are not listed.
const MOST_PORTS: usize = 6;

const SUMMARY: Text = text!(
    "The published port leads to {to}, where nothing listens; the container listens on {ports}.",
    "发布的端口指向 {to}，那里无人监听；容器监听的是 {ports}。"
);
const SERVES: Text = text!("{target} listens on {ports}, not on {to}", "{target} 监听 {ports}，而不是 {to}");
const PUBLISH: Text = text!(
    "publish one of the ports on which the container listens ({ports}), or let its program listen on port {port}",
    "发布容器实际监听的端口之一（{ports}），或让其程序监听端口 {port}"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut judgement = judge_dead(space, &CAUSE, |dead| matches!(dead, Dead::WrongPort(_)), story);
    let ends: BTreeSet<(u8, SocketAddr)> =
        space.case.flows.iter().filter_map(|flow| behind_proxy(space, flow)).collect();
    judgement.culprits.extend(ends.into_iter().map(|(protocol, to)| by_proxy(space, protocol, to)));
    judgement
}

/// Where a publishing process of the host asks in vain in this container, which serves something else.
fn behind_proxy(space: Space<'_>, flow: &Flow<'_>) -> Option<(u8, SocketAddr)> {
    let here = flow.is_of_publisher() && flow.in_trouble() && flow.refused();
    let arrival = flow.arrival().filter(|_| here)?;
    flow.destination(space.case).filter(|there| there.same(space))?;
    let to = SocketAddr::new(arrival.destination?, arrival.destination_port?);
    let kind = kind(flow.protocol);
    let open = space.listeners(kind, to.port()).next().is_some();
    (!open && others(space, kind).next().is_some()).then_some((flow.protocol, to))
}

fn by_proxy(space: Space<'_>, protocol: u8, to: SocketAddr) -> Culprit<'_> {
    Culprit::new(space, &CAUSE, "socket.lookup", Scope::Rule, format!("port {} of {}", to.port(), to.ip()))
        .direction(Direction::Receive)
        .takes(move |loss| {
            let meant = loss.event.is_some_and(|event| event.destination == Some(to));
            Fit::sure(loss.is_in(space) && loss.kind == Kind::Refused && meant)
        })
        .harms(move |flow| Fit::sure(behind_proxy(space, flow) == Some((protocol, to))))
        .tell(move |_| told(Story::new(summary(space, protocol, to)), space, protocol, to))
}

fn story(_: Space<'_>, sent: &Sent<'_>) -> Story {
    let Dead::WrongPort(there) = sent.dead else { return Story::default() };
    let list = rules::list_argv(sent.at.chain);
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let rule = sanitize(&sent.at.rule.text, MAX_RULE_TEXT);
    let story = Story::new(summary(there, sent.protocol, sent.to)).exhibit(rule).handle(sent.at.rule.handle);
    let story = story.evidence(CAUSE.meaning.phrase(), "rules", &list);
    told(story, there, sent.protocol, sent.to)
}

fn summary(there: Space<'_>, protocol: u8, to: SocketAddr) -> Phrase {
    SUMMARY.fill(&[("to", &to), ("ports", &ports(there, protocol))])
}

fn told(story: Story, there: Space<'_>, protocol: u8, to: SocketAddr) -> Story {
    let ports = ports(there, protocol);
    let option = if protocol == UDP { "-lunp" } else { "-lntp" };
    let words: [(&str, &dyn std::fmt::Display); 4] =
        [("target", &there.target().id), ("ports", &ports), ("to", &to), ("port", &to.port())];
    story
        .evidence_in(there, SERVES.fill(&words), "sockets", &["ss", option])
        .fix(by_hand(PUBLISH.fill(&words)))
}

fn ports(there: Space<'_>, protocol: u8) -> String {
    let ports: BTreeSet<u16> = others(there, kind(protocol)).map(|socket| socket.local.port()).collect();
    ports.iter().take(MOST_PORTS).map(u16::to_string).collect::<Vec<_>>().join(", ")
}

const fn kind(protocol: u8) -> Protocol {
    if protocol == UDP { Protocol::Udp } else { Protocol::Tcp }
}
