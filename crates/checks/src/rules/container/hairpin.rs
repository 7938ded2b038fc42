//! `container.hairpin`: a container cannot reach itself through its published port.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use std::net::IpAddr;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "container.hairpin",
    title: text!(
        "A container cannot reach itself through its published port",
        "容器无法通过自己发布的端口访问自己"
    ),
    meaning: text!(
        "A request to the published port is translated back to the container that sent it, and must leave the bridge by the port it came by, with another source address.",
        "发往发布端口的请求被转换回发出它的容器：它必须从进入网桥的同一端口离开，且源地址要被改写。"
    ),
    seen_by: text!(
        "The translated request of a flow in trouble leads back to where it began, and the bridge port has no hairpin mode or no rule translates its source.",
        "受影响流量的请求经转换后回到出发处，而网桥端口没有开启 hairpin 模式，或没有规则改写其源地址。"
    ),
    why_lost: text!(
        "A bridge sends no frame back by the port it came by; and a container drops packets from its own address that come from outside.",
        "网桥不会把帧从其进入的端口送回；容器也会丢弃来自外部、源地址却是自己的包。"
    ),
    what_to_do: text!(
        "Set hairpin mode on the bridge port and masquerade what a container sends to itself; or use the container's own address or localhost inside it.",
        "开启网桥端口的 hairpin 模式，并对容器发给自己的流量做 masquerade；或在容器内使用自身地址或 localhost。"
    ),
    when_wrong: text!(
        "When a proxy process of the engine should answer on the host's address, and does not.",
        "本应由引擎的代理进程在主机地址上应答、而它没有应答时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule {
    cause: &CAUSE,
    needs: &[Source::Links, Source::Nftables, Source::IptablesLegacy, Source::Ip6tablesLegacy],
    judge,
};

const SUMMARY: Text = text!(
    "{target} asks a port of {asked} that leads back to itself ({own}), and the packets do not come back to it.",
    "{target} 访问的 {asked} 的端口指回它自己（{own}），而包回不到它那里。"
);
const NO_HAIRPIN: Text =
    text!("the bridge port {port} has no hairpin mode", "网桥端口 {port} 未开启 hairpin 模式");
const NO_SOURCE: Text = text!(
    "no rule changes the source {own} of what goes back to {own}",
    "没有规则改写从 {own} 发回 {own} 的包的源地址"
);
const SET_HAIRPIN: Text =
    text!("bridge link set dev {port} hairpin on", "bridge link set dev {port} hairpin on（开启 hairpin）");
const MASQUERADE: Text = text!(
    "iptables -t nat -A POSTROUTING -s {own} -d {own} -j MASQUERADE (ip6tables for IPv6), or let the engine write it",
    "iptables -t nat -A POSTROUTING -s {own} -d {own} -j MASQUERADE（IPv6 用 ip6tables），或由容器引擎写入"
);

/// What a namespace does not do for a request that it sends back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hairpin {
    /// Who asks himself.
    home: u64,
    asked: IpAddr,
    own: IpAddr,
    /// The port without hairpin mode.
    port: Option<String>,
    /// True if the source stays.
    same_source: bool,
}

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut found: Vec<Hairpin> = space.case.flows.iter().filter_map(|flow| hairpin(space, flow)).collect();
    found.sort();
    found.dedup();
    found.into_iter().map(|hairpin| culprit(space, hairpin)).collect::<Vec<_>>().into()
}

/// What stands in the way of a flow that this namespace sends back to where it came from.
fn hairpin(space: Space<'_>, flow: &Flow<'_>) -> Option<Hairpin> {
    let home = flow.home(space.case).filter(|home| flow.in_trouble() && !home.same(space))?;
    let arrival = flow.arrival().filter(|_| flow.destination(space.case).is_some_and(|d| d.same(home)))?;
    let own = arrival.destination.filter(|own| flow.is_turned_to(*own))?;
    let hop = flow.forward.hops.iter().find(|hop| hop.inode == space.inode() && !hop.bridged)?;
    let came = hop.incoming.first().and_then(|index| space.after.link(*index));
    let port = came.filter(|port| port.master.is_some() && hop.outgoing.contains(&port.index));
    let set = |value: &String| matches!(value.as_str(), "1" | "on" | "true");
    let port = port.filter(|port| !port.details.get("hairpin").is_some_and(set));
    let same_source = hop.late.source == Some(own);
    (port.is_some() || same_source).then(|| Hairpin {
        home: home.inode(),
        asked: flow.address.unwrap_or(own),
        own,
        port: port.map(|port| port.name.clone()),
        same_source,
    })
}

fn culprit<'a>(space: Space<'a>, hairpin: Hairpin) -> Culprit<'a> {
    let subject = match &hairpin.port {
        Some(port) => format!("{port} hairpin"),
        None => format!("{} to itself", hairpin.own),
    };
    let (taken, meant) = (hairpin.clone(), hairpin.clone());
    Culprit::new(space, &CAUSE, "bridge.forward", Scope::Rule, subject)
        .direction(Direction::Forward)
        .reaches()
        .takes(move |loss| takes(space, &taken, loss))
        .harms(move |flow| Fit::sure(self::hairpin(space, flow).as_ref() == Some(&meant)))
        .tell(move |_| story(space, &hairpin))
}

fn takes(space: Space<'_>, hairpin: &Hairpin, loss: &Loss<'_>) -> Fit {
    let place = loss.is_in(space) || loss.inode == Some(hairpin.home);
    let ends = loss.event.and_then(|event| Some((event.source?.ip(), event.destination?.ip())));
    let back = ends.is_some_and(|(from, to)| to == hairpin.own && (from == to || space.after.owns(from)));
    Fit::sure(place && back)
}

fn story(space: Space<'_>, hairpin: &Hairpin) -> Story {
    let home = space.case.space_by_inode(hairpin.home);
    let target = home.map_or_else(String::new, |home| home.target().id.clone());
    let words: [(&str, &dyn std::fmt::Display); 3] =
        [("target", &target), ("asked", &hairpin.asked), ("own", &hairpin.own)];
    let mut story = Story::new(SUMMARY.fill(&words));
    if let Some(port) = &hairpin.port {
        story = story
            .evidence(
                NO_HAIRPIN.fill(&[("port", port)]),
                "links",
                &["bridge", "-d", "link", "show", "dev", port],
            )
            .fix(by_hand(SET_HAIRPIN.fill(&[("port", port)])));
    }
    if hairpin.same_source {
        story = story
            .evidence(NO_SOURCE.fill(&words), "rules", &["iptables", "-t", "nat", "-nvL", "POSTROUTING"])
            .fix(by_hand(MASQUERADE.fill(&words)));
    }
    story
}
