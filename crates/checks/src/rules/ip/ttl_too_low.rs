//! `ip.ttl_too_low`: packets start with a TTL too small for their path.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::tunnel::{Pair, Tunnel};
use crate::evidence::way::{End, Path};
use crate::fixes::{by_hand, manual};
use crate::loss::death::Leg;
use crate::loss::{Loss, standing};
use crate::rule::{Judgement, Rule};
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_facts::place;
use whydrop_model::flow::IcmpSent;
use whydrop_model::{Cause, Direction, DropEvent, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "ip.ttl_too_low",
    title: text!("Packets start with a TTL too small for their path", "数据包的初始 TTL 小于路径所需"),
    meaning: text!(
        "The sender gives its packets a TTL (IPv6: hop limit) that ends at a router before the destination.",
        "发送方给数据包设置的 TTL（IPv6 为跳数限制）在到达目的地之前的路由器上耗尽。"
    ),
    seen_by: text!(
        "A router in view discarded packets of one flow because their TTL ended, and it is the first time that they pass it: the routes do not circle. A traceroute makes no connections, and is none of these. Or a router discarded datagrams with a TTL of 1 to a group that somebody in view joined behind it.",
        "可见范围内的路由器因 TTL 耗尽丢弃了某个流的包，而这些包是第一次经过它：路由没有形成环路。traceroute 不建立连接，不在此列。或路由器丢弃了 TTL 为 1 的组播数据报，而可见范围内有人在其后加入了该组。"
    ),
    why_lost: text!(
        "Each router takes one from the TTL; at zero the packet is discarded and the sender gets an ICMP error.",
        "每个路由器把 TTL 减一，减到零时包被丢弃，发送方收到 ICMP 错误。"
    ),
    what_to_do: text!(
        "Let the program set a larger TTL (IP_TTL, IPV6_UNICAST_HOPS), or take away what sets it: net.ipv4.ip_default_ttl, a hop limit of the route, a TTL rule of the firewall.",
        "让程序设置更大的 TTL（IP_TTL、IPV6_UNICAST_HOPS），或去掉设置它的地方：net.ipv4.ip_default_ttl、路由的 hoplimit、防火墙的 TTL 规则。"
    ),
    when_wrong: text!(
        "Some protocols use a TTL of 1 on purpose, so that nothing leaves the link.",
        "有些协议有意使用 TTL 1，使包不离开本链路。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Routes], judge };

/// ICMP time exceeded, in transit (RFC 792).
const TIME_EXCEEDED: (u8, u8) = (11, 0);

const SUMMARY: Text = text!(
    "Packets to {address} start with a TTL that ends after {hops} routers.",
    "发往 {address} 的包的初始 TTL 经过 {hops} 个路由器后就耗尽。"
);
const ENDED: Text = text!(
    "their TTL ended in {router}, router number {hops} of their way",
    "它们的 TTL 在 {router} 耗尽，它是路径上的第 {hops} 个路由器"
);
const SUMMARY_TUNNEL: Text = text!(
    "What {dev} sends to {address} starts with a TTL that ends at a router before it.",
    "{dev} 发往 {address} 的包的初始 TTL 在途中的路由器上就耗尽。"
);
const ENDED_OUTER: Text =
    text!("the TTL of the packets of {dev} ended in {router}", "{dev} 的外层包的 TTL 在 {router} 耗尽");
const DO_TUNNEL: Text = text!(
    "give the tunnel a larger TTL: ip link set {dev} type {kind} ttl 64",
    "给隧道设置更大的 TTL：ip link set {dev} type {kind} ttl 64"
);
const DO: Text = text!(
    "set a larger TTL: the program's IP_TTL or IPV6_UNICAST_HOPS, net.ipv4.ip_default_ttl, the route's hoplimit",
    "设置更大的 TTL：程序的 IP_TTL 或 IPV6_UNICAST_HOPS、net.ipv4.ip_default_ttl、路由的 hoplimit"
);

/// Whose packets end: those that begin a flow here, or the answers to one that ends here.
type Sent = (IpAddr, Leg);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut met: BTreeMap<(IpAddr, bool), (Sent, Space<'_>, usize)> = BTreeMap::new();
    for (flow, leg) in space.case.flows.iter().filter_map(|flow| Some((flow, own(space, flow)?))) {
        if let Some((to, (router, hops))) = receiver(flow, leg).zip(ended(space, flow, leg)) {
            met.entry((to, leg == Leg::Answer)).or_insert(((to, leg), router, hops));
        }
    }
    let conversations = met.into_values().map(|(sent, router, hops)| culprit(space, sent, router, hops));
    let tunnels = space.links().filter_map(|link| of_tunnel(Tunnel::of(space, link)?));
    conversations.chain(tunnels).chain(super::group::culprits(space, &CAUSE)).collect::<Vec<_>>().into()
}

/// A tunnel whose packets end at a router before the other end.
fn of_tunnel(tunnel: Tunnel<'_>) -> Option<Culprit<'_>> {
    let case = tunnel.space.case;
    let sampled = case.drop_log().into_iter().flat_map(|log| &log.sampled);
    let mut ended = sampled.filter(|event| is_outer(&tunnel, event));
    let (router, to) = ended.find_map(|event| {
        let router = case.space_by_inode(event.netns_inode?)?;
        Some((router, event.destination?.ip())).filter(|(_, to)| !Path::circles(tunnel.space, *to))
    })?;
    let others: Vec<Tunnel<'_>> = Tunnel::all(case).filter(|other| tunnel.sends_to(other)).collect();
    let asked = others.clone();
    let subject = format!("TTL of {}", tunnel.link.name);
    let culprit = Culprit::new(tunnel.space, &CAUSE, "tunnel.transmit", Scope::Link, subject)
        .direction(Direction::Transmit)
        .on(tunnel.link.index)
        .reaches()
        .takes(move |loss| {
            let outer = loss.event.is_some_and(|event| is_outer(&tunnel, event));
            sure(outer || asked.iter().any(|other| Pair(tunnel, *other).is_asked(loss)))
        })
        .harms(move |flow| sure(others.iter().any(|other| Pair(tunnel, *other).is_needed_by(flow))));
    Some(culprit.tell(move |_| {
        let words: [(&str, &dyn std::fmt::Display); 4] = [
            ("dev", &tunnel.link.name),
            ("kind", &tunnel.kind),
            ("address", &to),
            ("router", &router.target().name),
        ];
        Story::new(SUMMARY_TUNNEL.fill(&words))
            .evidence(ENDED_OUTER.fill(&words), "ttl", &[])
            .fix(by_hand(DO_TUNNEL.fill(&words)))
    }))
}

/// True for a packet of the tunnel whose TTL ended.
fn is_outer(tunnel: &Tunnel<'_>, event: &DropEvent) -> bool {
    let Some((from, to)) = event.source.zip(event.destination) else { return false };
    standing::ends_ttl(place::of_event(event))
        && event.protocol == Some(tunnel.protocol())
        && tunnel.port.is_none_or(|port| port == to.port())
        && tunnel.space.after.owns(from.ip())
        && tunnel.remotes().any(|remote| remote == to.ip())
}

fn culprit<'a>(space: Space<'a>, (to, leg): Sent, router: Space<'a>, hops: usize) -> Culprit<'a> {
    let meant = move |flow: &Flow<'a>| own(space, flow) == Some(leg) && receiver(flow, leg) == Some(to);
    let of_flow = move |loss: &Loss<'a>| {
        let flow = loss.flow.and_then(|flow| space.case.flows.get(flow));
        loss.leg == Some(leg) && flow.is_some_and(meant)
    };
    Culprit::new(space, &CAUSE, "ip.forward", Scope::Socket, format!("TTL of packets to {to}"))
        .direction(Direction::Transmit)
        .reaches()
        .takes(move |loss| match loss.is_in(router) && loss.is_ttl_ended() && of_flow(loss) {
            true => Fit::Yes,
            false => Fit::No,
        })
        .harms(move |flow| sure(meant(flow) && ended(space, flow, leg).is_some()))
        .tell(move |_| {
            let router = &router.target().name;
            let words: [(&str, &dyn std::fmt::Display); 3] =
                [("address", &to), ("hops", &hops), ("router", router)];
            Story::new(SUMMARY.fill(&words)).evidence(ENDED.fill(&words), "ttl", &[]).fix(manual(DO))
        })
}

/// Which packets of a flow in trouble start here, on a way that does not circle.
fn own(space: Space<'_>, flow: &Flow<'_>) -> Option<Leg> {
    // A search for the hops of a path lets TTLs end on purpose.
    let searches = flow.probe().is_some_and(|probe| probe.method == "path");
    if !flow.in_trouble() || searches {
        return None;
    }
    let answers = || flow.destination(space.case).is_some_and(|there| there.same(space));
    let leg = if flow.starts_in(space) { Leg::Request } else { Leg::Answer };
    let here = leg == Leg::Request || answers();
    (here && path(flow, leg)?.end != End::Circles).then_some(leg)
}

fn path<'f>(flow: &'f Flow<'_>, leg: Leg) -> Option<&'f Path> {
    match leg {
        Leg::Request => Some(&flow.forward),
        Leg::Answer => flow.back.as_ref(),
    }
}

fn receiver(flow: &Flow<'_>, leg: Leg) -> Option<IpAddr> {
    if leg == Leg::Request { flow.address } else { flow.source }
}

/// The router on the way of these packets in which their TTL ended, and how many routers that makes.
fn ended<'a>(space: Space<'a>, flow: &Flow<'a>, leg: Leg) -> Option<(Space<'a>, usize)> {
    let routers = path(flow, leg)?.hops.iter().filter(|hop| !hop.bridged && !hop.outer).skip(1).zip(1..);
    let mut routers =
        routers.filter_map(|(hop, number)| Some((space.case.space_by_inode(hop.inode)?, number)));
    let icmp = || space.case.observation.flows.get().into_iter().flat_map(|log| &log.icmp_sent);
    routers.find(|(router, _)| {
        let dropped = router
            .losses()
            .any(|loss| loss.is_ttl_ended() && loss.flow == Some(flow.id) && loss.leg == Some(leg));
        dropped || leg == Leg::Request && icmp().any(|sent| tells(sent, *router, flow))
    })
}

fn tells(sent: &IcmpSent, router: Space<'_>, flow: &Flow<'_>) -> bool {
    (sent.kind, sent.code) == TIME_EXCEEDED
        && sent.netns_inode == router.inode()
        && sent.protocol == flow.protocol
        && Some(sent.source) == flow.source
        && Some(sent.destination.ip()) == flow.address
        && flow.port.is_none_or(|port| port == sent.destination.port())
}
