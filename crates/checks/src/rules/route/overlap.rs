//! `route.overlap`: two subnets overlap and the wrong one is chosen.

use super::spec;
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::evidence::route::{Lookup, contains, lookup};
use crate::evidence::segment;
use crate::evidence::way::Path;
use crate::fixes::fix;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_model::action::Action;
use whydrop_model::snapshot::{Link, NextHop, Route};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.overlap",
    title: text!("Two subnets overlap and the wrong one is chosen", "两个子网重叠且选中了错误的一个"),
    meaning: text!(
        "Two routes of different interfaces cover the address, and the one that wins leads to a network on which it is not.",
        "两条经由不同接口的路由都覆盖该地址，而胜出的那条通往并不包含它的网络。"
    ),
    seen_by: text!(
        "The best route takes the address for a neighbour's on an interface that its owner, who is in view, is not joined with; another route covers it as well and leads to him.",
        "最佳路由把该地址当作某接口上的邻居，而其拥有者（在可见范围内）并未与该接口相连；另有一条路由也覆盖该地址并通向它。"
    ),
    why_lost: text!("The address is asked for where nobody has it.", "在没有主机拥有该地址的网络上查询它。"),
    what_to_do: text!(
        "Give one of the networks other addresses (container networks: the address pools of the engine), or add a route to the host.",
        "为其中一个网络更换地址（容器网络：引擎的地址池），或为该主机添加主机路由。"
    ),
    when_wrong: text!(
        "When a proxy answers for addresses of the other network.",
        "有代理为另一网络的地址应答时。"
    ),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Routes, Source::Addresses, Source::Links], judge };

const SUMMARY: Text = text!(
    "{near} on {dev} overlaps with {far} on {other}: packets to {address} leave by {dev}, where it is not.",
    "{dev} 上的 {near} 与 {other} 上的 {far} 重叠：发往 {address} 的包从 {dev} 发出，而它不在那里。"
);
const CHOSEN: Text = text!(
    "{near} on {dev} is the best match for {address}; {far} on {other} covers it, too",
    "{dev} 上的 {near} 是 {address} 的最佳匹配；{other} 上的 {far} 也覆盖它"
);
const OWNER: Text = text!(
    "{address} is in {target}, which {dev} is not joined with",
    "{address} 在 {target} 中，它未与 {dev} 相连"
);
const ADD: Text = text!("add a route to {address} through {other}", "添加经由 {other} 到 {address} 的路由");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut met: BTreeMap<(u32, IpAddr), Overlap<'_>> = BTreeMap::new();
    for flow in space.case.flows.iter().filter(|flow| flow.suffers()) {
        for (link, to) in flow.next_hops(space) {
            if let Some(overlap) = Overlap::of(space, link, to) {
                met.entry((link, to)).or_insert(overlap);
            }
        }
    }
    met.into_values().map(Overlap::culprit).collect::<Vec<_>>().into()
}

/// An address that is looked for on the wrong one of two networks.
#[derive(Clone, Copy)]
struct Overlap<'a> {
    space: Space<'a>,
    to: IpAddr,
    link: &'a Link,
    near: &'a Route,
    far: (&'a Route, &'a NextHop),
    owner: Space<'a>,
}

impl<'a> Overlap<'a> {
    fn of(space: Space<'a>, link: u32, to: IpAddr) -> Option<Self> {
        let near = match lookup(space, to, None) {
            Lookup::Via(route, hop) if hop.link == Some(link) && hop.gateway.is_none() => route,
            _ => return None,
        };
        let link = space.after.link(link)?;
        let answered =
            |n: &whydrop_model::snapshot::Neighbour| (n.link, n.ip) == (link.index, to) && n.mac.is_some();
        let is_here = || segment::of(space, link).into_iter().any(|(s, l)| s.carries(l.index, to));
        if space.after.neighbours.iter().any(answered) || is_here() {
            return None;
        }
        let owner = space.case.spaces().find(|there| !there.same(space) && there.after.owns(to))?;
        let leads = |hop: &NextHop| {
            let out =
                hop.link.and_then(|index| space.after.link(index)).filter(|l| l.up && l.index != link.index);
            let next = hop.gateway.unwrap_or(to);
            let near = out.into_iter().flat_map(|out| segment::reachable(space, out));
            let mut at = near.filter(|(s, l)| !s.same(space) && s.carries(l.index, next));
            at.any(|(there, _)| there.after.owns(to) || Path::arrives(there, to))
        };
        let others = space.after.routes.iter().filter(|route| {
            let covers = contains(route.destination, route.prefix, to) && route.prefix <= near.prefix;
            covers && *route != near && route.kind == "unicast" && route.table == near.table
        });
        let mut ways = others.flat_map(|route| route.next_hops.iter().map(move |hop| (route, hop)));
        let far = ways.find(|(_, hop)| leads(hop))?;
        Some(Self { space, to, link, near, far, owner })
    }

    fn culprit(self) -> Culprit<'a> {
        let Self { space, to, link, near, .. } = self;
        let subject = format!("{}/{} dev {}", near.destination, near.prefix, link.name);
        Culprit::new(space, &CAUSE, "route.output", Scope::Route, subject)
            .direction(Direction::Transmit)
            .on(link.index)
            .takes(move |loss| match loss.asks_for() == Some(to) && loss.is_imagined_at(space, link.index) {
                true => Fit::Yes,
                false => Fit::No,
            })
            .harms(move |flow| match flow.suffers() && flow.next_hops(space).contains(&(link.index, to)) {
                true => Fit::Yes,
                false => Fit::No,
            })
            .tell(move |_| self.story())
    }

    fn story(self) -> Story {
        let Self { space, to, link, near, far: (far, hop), owner } = self;
        let network = |route: &Route| match route.prefix {
            0 => "default".to_owned(),
            prefix => format!("{}/{prefix}", route.destination),
        };
        let other = hop.link.map_or_else(String::new, |index| space.after.link_name(index));
        let words: [(&str, &dyn std::fmt::Display); 6] = [
            ("near", &network(near)),
            ("dev", &link.name),
            ("far", &network(far)),
            ("other", &other),
            ("address", &to),
            ("target", &owner.target().id),
        ];
        let address = to.to_string();
        let story = Story::new(SUMMARY.fill(&words))
            .evidence(CHOSEN.fill(&words), "routes", &["ip", "route", "get", &address])
            .evidence(OWNER.fill(&words), "addresses", &[]);
        let host = if to.is_ipv6() { 128 } else { 32 };
        let Some(out) = hop.link else { return story };
        let action = Action::RouteAdd(spec(space, (to, host), hop.gateway, out));
        story.fix(fix(space, ADD.fill(&words), vec![action]))
    }
}
