//! `route.multipath_dead_nexthop`: one next hop of a multipath route is dead.

use super::forwards;
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::route::{Lookup, lookup, lookup_from};
use crate::fixes::{by_hand, owned};
use crate::loss::{Loss, missing};
use crate::rule::{Judgement, Rule};
use std::net::IpAddr;
use whydrop_model::snapshot::{NextHop, Route};
use whydrop_model::{Cause, Direction, Phrase, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.multipath_dead_nexthop",
    title: text!("One next hop of a multipath route is dead", "多路径路由的一个下一跳已失效"),
    meaning: text!(
        "A route has several next hops, and one of them does not pass packets on.",
        "一条路由有多个下一跳，其中一个不再传递数据包。"
    ),
    seen_by: text!(
        "The route of a flow in trouble has several next hops. One of them does not answer ARP or ND, its interface has no carrier, or its owner is in view and does not pass the packets on; another one is alive.",
        "受影响流量的路由有多个下一跳。其中一个不应答 ARP 或 ND，或其接口无载波，或其拥有者在可见范围内却不转发；而另一个是好的。"
    ),
    why_lost: text!(
        "The kernel chooses the next hop by a hash of each flow and goes on to choose the dead one: these flows die, others live.",
        "内核按每个流的散列选择下一跳，仍会选到失效的那个：这些流中断，其他流正常。"
    ),
    what_to_do: text!(
        "Take the dead next hop out of the route, or bring it back; let a routing daemon with BFD watch over it.",
        "从路由中去掉失效的下一跳或恢复它；让带 BFD 的路由守护进程监视它。"
    ),
    when_wrong: text!(
        "When the flow's hash leads to a next hop that is alive and something else ails it.",
        "流的散列指向好的下一跳，而受影响另有原因时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Routes, Source::Neighbours], judge };

const SUMMARY: Text = text!(
    "The route to {network} has {n} next hops, and {gateway} on {dev} is dead: a part of the flows dies.",
    "到 {network} 的路由有 {n} 个下一跳，而 {dev} 上的 {gateway} 已失效：部分流中断。"
);
const SILENT: Text =
    text!("{gateway} on {dev} does not answer ARP or ND", "{dev} 上的 {gateway} 不应答 ARP 或 ND");
const NO_CARRIER: Text = text!("{dev} has no carrier", "{dev} 没有载波");
const NO_WAY: Text = text!(
    "{owner}, which has {gateway}, does not pass packets to {address} on",
    "拥有 {gateway} 的 {owner} 不转发到 {address} 的包"
);
const DO: Text = text!(
    "leave the dead next hop out until it is back: ip route replace {network} {rest}",
    "在其恢复之前去掉失效的下一跳：ip route replace {network} {rest}"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut met: Vec<Dead<'_>> = vec![];
    for flow in space.case.flows.iter().filter(|flow| flow.suffers()) {
        let ends = [flow.address, flow.source].into_iter().flatten();
        for to in ends.filter(|to| meets(flow, space, *to)) {
            let Lookup::Via(route, _) = lookup(space, to, None) else { continue };
            for dead in Dead::all(space, route, to) {
                if met.iter().all(|known| (known.route, known.hop) != (dead.route, dead.hop)) {
                    met.push(dead);
                }
            }
        }
    }
    met.into_iter().map(Dead::culprit).collect::<Vec<_>>().into()
}

/// True if this namespace sends packets of the flow on to that address.
fn meets(flow: &Flow<'_>, space: Space<'_>, to: IpAddr) -> bool {
    let hops = flow.next_hops(space);
    let Lookup::Via(route, _) = lookup(space, to, None) else { return false };
    let of_route = |(link, ip): &(u32, IpAddr)| {
        route.next_hops.iter().any(|hop| hop.link == Some(*link) && hop.gateway.unwrap_or(to) == *ip)
    };
    hops.iter().any(of_route)
}

/// A next hop that is dead, of a route that has others.
#[derive(Clone)]
struct Dead<'a> {
    space: Space<'a>,
    route: &'a Route,
    hop: &'a NextHop,
    link: u32,
    gateway: IpAddr,
    why: Phrase,
}

impl<'a> Dead<'a> {
    /// Those of a route by which packets to an address may leave, if one that lives is among the others.
    fn all(space: Space<'a>, route: &'a Route, to: IpAddr) -> Vec<Self> {
        // The kernel itself leaves out what it calls dead (fib_select_multipath(), rt6_multipath_select()).
        let used = route.next_hops.iter().filter(|hop| hop.flags.iter().all(|flag| flag != "dead"));
        let (mut dead, mut alive) = (vec![], 0);
        for hop in used {
            match (why(space, hop, to), hop.link, hop.gateway) {
                (Some(why), Some(link), Some(gateway)) => {
                    dead.push(Self { space, route, hop, link, gateway, why });
                }
                (Some(_), ..) => {}
                (None, ..) => alive += 1,
            }
        }
        if alive > 0 { dead } else { vec![] }
    }

    fn culprit(self) -> Culprit<'a> {
        let Self { space, route, link, gateway, .. } = self;
        let subject = format!("nexthop {gateway} dev {}", space.after.link_name(link));
        let asked = space.after.link(link).into_iter();
        let asked = asked.flat_map(|device| missing::neighbour(space, device, gateway)).collect();
        let of_route = move |to: IpAddr| matches!(lookup(space, to, None), Lookup::Via(r, _) if r == route);
        Culprit::new(space, &CAUSE, "route.output", Scope::Route, subject)
            .direction(Direction::Transmit)
            .on(link)
            .reaches()
            .names_roots()
            .misses(asked)
            .takes(move |loss| takes(space, (link, gateway), loss, of_route))
            .harms(move |flow| {
                let ends = [flow.address, flow.source].into_iter().flatten();
                match flow.suffers() && ends.into_iter().any(|to| of_route(to) && meets(flow, space, to)) {
                    true => Fit::Yes,
                    false => Fit::No,
                }
            })
            .tell(move |_| self.story())
    }

    fn story(&self) -> Story {
        let route = self.route;
        let network = match route.prefix {
            0 => "default".to_owned(),
            prefix => format!("{}/{prefix}", route.destination),
        };
        let dev = self.space.after.link_name(self.link);
        let written = |hop: &NextHop| {
            let via = hop.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
            let dev = hop
                .link
                .map_or_else(String::new, |link| format!(" dev {}", self.space.after.link_name(link)));
            format!("nexthop{via}{dev} weight {}", hop.weight)
        };
        let rest: Vec<String> = route.next_hops.iter().filter(|hop| *hop != self.hop).map(written).collect();
        let words: [(&str, &dyn std::fmt::Display); 5] = [
            ("network", &network),
            ("n", &route.next_hops.len()),
            ("gateway", &self.gateway),
            ("dev", &dev),
            ("rest", &rest.join(" ")),
        ];
        Story::new(SUMMARY.fill(&words))
            .evidence(self.why.clone(), "neighbours", &["ip", "route", "show"])
            .fix(owned::route_there(route).unwrap_or_else(|| by_hand(DO.fill(&words))))
    }
}

/// What died waiting for it, and the question for it.
fn takes<'a>(
    space: Space<'a>,
    (link, gateway): (u32, IpAddr),
    loss: &Loss<'a>,
    of_route: impl Fn(IpAddr) -> bool,
) -> Fit {
    let asked = loss.asks_for() == Some(gateway) && loss.is_imagined_at(space, link);
    let waited = || {
        let to = loss.event.and_then(|event| event.destination);
        loss.is_at(space, link) && loss.is_at_stage("neighbour") && to.is_some_and(|to| of_route(to.ip()))
    };
    if asked || waited() { Fit::Yes } else { Fit::No }
}

/// Why packets by this next hop do not arrive, if that is known.
fn why(space: Space<'_>, hop: &NextHop, to: IpAddr) -> Option<Phrase> {
    let (index, gateway) = (hop.link?, hop.gateway?);
    let link = space.after.link(index)?;
    let words: [(&str, &dyn std::fmt::Display); 3] =
        [("gateway", &gateway), ("dev", &link.name), ("address", &to)];
    if !link.lower_up {
        return Some(NO_CARRIER.fill(&words));
    }
    if space.unresolved().any(|unresolved| unresolved == (index, gateway)) {
        return Some(SILENT.fill(&words));
    }
    let (owner, device) = space
        .case
        .spaces()
        .filter(|there| !there.same(space))
        .find_map(|there| Some((there, there.links_with(gateway).next()?)))?;
    // A router in view that has another way, and does not let them pass, has a reason of its own, which is named there.
    let back = match lookup_from(owner, to, None, Some(device.index)) {
        Lookup::Via(_, hop) => hop.link == Some(device.index),
        Lookup::Missing => true,
        _ => false,
    };
    let passes = owner.after.owns(to) || !back || forwards(owner, to.is_ipv6()) != Some(false);
    (!passes).then(|| {
        let words: [(&str, &dyn std::fmt::Display); 3] =
            [("gateway", &gateway), ("owner", &owner.target().id), ("address", &to)];
        NO_WAY.fill(&words)
    })
}
