//! `route.wrong_gateway`: the next hop of a route is no router.

use super::turn::turns;
use super::{forwards, stands_alone};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::route::{Lookup, is_learned, lookup_from};
use crate::evidence::segment;
use crate::evidence::way::Path;
use crate::fixes::{by_hand, fix, owned};
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_model::action::{Action, RouteSpec};
use whydrop_model::snapshot::{Link, NextHop, Route};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.wrong_gateway",
    title: text!("The next hop of a route is no router", "路由的下一跳不是路由器"),
    meaning: text!(
        "A route names a gateway that nobody is, or a host that does not pass packets on.",
        "路由指定的网关不存在，或是一台不转发数据包的主机。"
    ),
    seen_by: text!(
        "The next hop of a flow in trouble is a gateway. Everybody on its network is in view, and nobody has the address; or its owner is in view, does not forward, and has no other way to the destination than back.",
        "受影响流量的下一跳是网关。该网络上的所有主机都在可见范围内，却无人拥有该地址；或其拥有者在可见范围内，但不转发，并且除原路返回外没有到目的地的其他路径。"
    ),
    why_lost: text!(
        "Nobody answers the question for the gateway, or the host that gets the packets discards what is not its own.",
        "没有人应答对网关的查询，或收到包的主机丢弃不属于自己的包。"
    ),
    what_to_do: text!("Let the route lead through a router.", "让路由经由真正的路由器。"),
    when_wrong: text!(
        "A router that is switched off for a moment looks like one that never was.",
        "暂时关机的路由器看起来与从不存在的一样。"
    ),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Routes, Source::Neighbours, Source::Addresses], judge };

/// That nobody in view has an address is a weak witness where nobody else would be a router either.
const BY_EXCLUSION: f64 = 0.8;

const NOBODY: Text = text!(
    "The route to {network} leads through {gateway} on {dev}, which nobody is.",
    "到 {network} 的路由经由 {dev} 上的 {gateway}，但没有主机拥有该地址。"
);
const NO_ROUTER: Text = text!(
    "The route to {network} leads through {gateway}, which is {owner} and no router.",
    "到 {network} 的路由经由 {gateway}，它是 {owner}，并非路由器。"
);
const SILENT: Text = text!(
    "{gateway} does not answer on {dev}, and nobody in view has it",
    "{dev} 上无人应答 {gateway}，可见范围内也无人拥有它"
);
const DOES_NOT: Text = text!(
    "{owner} does not forward, and has no other way to {address} than back",
    "{owner} 不转发，且除原路返回外没有到 {address} 的路径"
);
const RIGHT: Text = text!(
    "{right} on the same network is {router}, which knows the way to {address}",
    "同一网络上的 {right} 是 {router}，它有到 {address} 的路径"
);
const REPLACE: Text = text!("let the route lead through {right}", "让路由经由 {right}");
const DO: Text = text!(
    "let the route to {network} lead through a router: ip route replace {network} via ROUTER dev {dev}",
    "让到 {network} 的路由经由真正的路由器：ip route replace {network} via ROUTER dev {dev}"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut met: BTreeMap<(u32, IpAddr), Wrong<'_>> = BTreeMap::new();
    for flow in space.case.flows.iter().filter(|flow| flow.in_trouble()) {
        // Where a policy rule chose the route that is its fault.
        let turned = turns(space, flow);
        for (to, route, link, gateway) in gateways(space, flow) {
            if turned.iter().any(|turn| turn.hop.gateway == Some(gateway)) {
                continue;
            }
            if let Some(wrong) = Wrong::of(space, route, (link, gateway), to) {
                met.entry((link, gateway)).or_insert(wrong);
            }
        }
    }
    met.into_values().map(Wrong::culprit).collect::<Vec<_>>().into()
}

/// The gateways to which this namespace hands request and answer of a flow: for which address, by which route and device.
fn gateways<'a>(space: Space<'a>, flow: &Flow<'a>) -> Vec<(IpAddr, &'a Route, u32, IpAddr)> {
    let handed = flow.decisions(space).filter_map(|decision| match decision.lookup(space) {
        Lookup::Via(route, hop) => Some((decision.to, route, hop.link?, hop.gateway?)),
        _ => None,
    });
    handed.collect()
}

/// A gateway that is none.
#[derive(Clone, Copy)]
struct Wrong<'a> {
    space: Space<'a>,
    link: &'a Link,
    gateway: IpAddr,
    route: &'a Route,
    /// Where the packets that come by it want to go.
    to: IpAddr,
    /// Who has the address, if anybody.
    owner: Option<(Space<'a>, &'a Link)>,
    /// Who would be the right one, if he is in view.
    right: Option<(Space<'a>, IpAddr)>,
}

impl<'a> Wrong<'a> {
    fn of(space: Space<'a>, route: &'a Route, (link, gateway): (u32, IpAddr), to: IpAddr) -> Option<Self> {
        if is_learned(space, route) {
            return None;
        }
        let link = space.after.link(link)?;
        let near: Vec<_> =
            segment::reachable(space, link).into_iter().filter(|(s, _)| !s.same(space)).collect();
        let owner = near.iter().copied().find(|(there, l)| there.carries(l.index, gateway));
        let routes = |there: Space<'a>| {
            !there.after.owns(gateway)
                && forwards(there, to.is_ipv6()) == Some(true)
                && Path::arrives(there, to)
        };
        let address_of = |there: Space<'a>, l: &Link| {
            let mut own = there.after.addresses.iter().filter(|a| a.link == l.index);
            own.find(|a| a.ip.is_ipv4() == to.is_ipv4() && stands_alone(a)).map(|a| a.ip)
        };
        let mut routers = near.iter().filter(|(there, _)| routes(*there));
        let right = routers.find_map(|(there, l)| Some((*there, address_of(*there, l)?)));
        let wrong = Self { space, link, gateway, route, to, owner, right };
        let holds = match owner {
            Some((there, device)) => is_no_router(there, device, to),
            None => wrong.is_nobody(&near),
        };
        holds.then_some(wrong)
    }

    /// True if nobody has the gateway's address: everybody there is in view, and nobody is known to have had it.
    fn is_nobody(&self, near: &[(Space<'a>, &'a Link)]) -> bool {
        let Self { space, link, gateway, to, .. } = *self;
        let entry = |n: &&whydrop_model::snapshot::Neighbour| (n.link, n.ip) == (link.index, gateway);
        let known = space.after.neighbours.iter().chain(space.before.neighbours.iter());
        let answered = known.filter(entry).any(|n| n.mac.is_some());
        let silent = space.unresolved().any(|unresolved| unresolved == (link.index, gateway));
        let had = space.case.spaces().any(|there| there.before.owns(gateway) || there.after.owns(gateway));
        let out = || segment::of(space, link).into_iter().any(|(there, l)| segment::leads_out(there, l));
        let ends = |l: &Link| l.master.is_none() && l.kind.as_deref() != Some("bridge");
        let addressed = |there: Space<'a>, l: &Link| {
            let mut own = there.after.addresses.iter().filter(|a| a.link == l.index);
            own.any(|a| a.ip.is_ipv4() == to.is_ipv4() && stands_alone(a))
        };
        // An interface that lost its address could be the one that is meant.
        let all_known = near.iter().filter(|(_, l)| ends(l)).all(|(there, l)| l.up && addressed(*there, l));
        silent && !answered && !had && !out() && all_known && !near.is_empty()
    }

    fn culprit(self) -> Culprit<'a> {
        let Self { space, link, gateway, .. } = self;
        let subject = format!("gateway {gateway} dev {}", link.name);
        let exclusion = self.owner.is_none() && self.right.is_none();
        Culprit::new(space, &CAUSE, "route.output", Scope::Route, subject)
            .direction(Direction::Transmit)
            .on(link.index)
            .reaches()
            .at_most(if exclusion { BY_EXCLUSION } else { 1.0 })
            .takes(move |loss| self.takes(loss))
            .harms(move |flow| self.harms(flow))
            .tell(move |_| self.story())
    }

    /// The question for it, and what the host that is no router discards.
    fn takes(self, loss: &Loss<'a>) -> Fit {
        let asked = loss.asks_for() == Some(self.gateway) && loss.is_imagined_at(self.space, self.link.index);
        let discarded = self.owner.is_some_and(|(there, device)| {
            let to_it = loss.event.and_then(|event| event.destination).is_some_and(|to| to.ip() == self.to);
            let stage = loss.is_at_stage("route") || loss.is_at_stage("ip.forward");
            to_it && stage && loss.is_at(there, device.index)
        });
        if asked || discarded { Fit::Yes } else { Fit::No }
    }

    fn harms(self, flow: &Flow<'a>) -> Fit {
        let by_it = |(to, _, link, gateway): &(IpAddr, &Route, u32, IpAddr)| {
            (*to, *link, *gateway) == (self.to, self.link.index, self.gateway)
        };
        match flow.suffers() && gateways(self.space, flow).iter().any(by_it) {
            true => Fit::Yes,
            false => Fit::No,
        }
    }

    fn story(self) -> Story {
        let network = match self.route.prefix {
            0 => "default".to_owned(),
            prefix => format!("{}/{prefix}", self.route.destination),
        };
        let owner = self
            .owner
            .map_or_else(String::new, |(there, device)| format!("{} {}", there.target().id, device.name));
        let (right, router) = self
            .right
            .map_or_else(Default::default, |(there, ip)| (ip.to_string(), there.target().id.clone()));
        let words: [(&str, &dyn std::fmt::Display); 7] = [
            ("network", &network),
            ("gateway", &self.gateway),
            ("dev", &self.link.name),
            ("owner", &owner),
            ("address", &self.to),
            ("right", &right),
            ("router", &router),
        ];
        let show = ["ip", "route", "show"];
        let story = match self.owner {
            None => Story::new(NOBODY.fill(&words)).evidence(SILENT.fill(&words), "neighbours", &show),
            Some(_) => Story::new(NO_ROUTER.fill(&words)).evidence(DOES_NOT.fill(&words), "sysctl", &show),
        };
        let Some((_, right)) = self.right else { return story.fix(by_hand(DO.fill(&words))) };
        let story = story.evidence(RIGHT.fill(&words), "routes", &[]);
        if let Some(theirs) = owned::route_there(self.route) {
            return story.fix(theirs);
        }
        if self.route.next_hops.len() > 1 {
            return story.fix(by_hand(DO.fill(&words)));
        }
        let dev = Some(self.link.name.clone());
        let hop = NextHop { gateway: Some(right), link: Some(self.link.index), weight: 1, flags: vec![] };
        let old = RouteSpec { route: self.route.clone(), dev: dev.clone() };
        let new = RouteSpec { route: Route { next_hops: vec![hop], ..self.route.clone() }, dev };
        let actions = vec![Action::RouteDelete(old), Action::RouteAdd(new)];
        story.fix(fix(self.space, REPLACE.fill(&words), actions))
    }
}

/// True for a host that keeps to itself what is not its own, and to whom nothing else leads than the way back.
pub(super) fn is_no_router(there: Space<'_>, device: &Link, to: IpAddr) -> bool {
    let back = match lookup_from(there, to, None, Some(device.index)) {
        Lookup::Via(_, hop) => hop.link == Some(device.index),
        Lookup::Missing => true,
        _ => false,
    };
    back && forwards(there, to.is_ipv6()) == Some(false)
}
