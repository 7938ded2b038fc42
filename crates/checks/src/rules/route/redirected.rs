//! `route.redirected`: a next hop that an ICMP redirect taught leads to nowhere.

use super::wrong_gateway::is_no_router;
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::evidence::route::{Lookup, is_learned, lookup, table_says};
use crate::evidence::segment;
use crate::evidence::way::Path;
use crate::fixes::by_hand;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_model::snapshot::{Link, Route};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.redirected",
    title: text!("A next hop learned by ICMP redirect leads to nowhere", "由 ICMP 重定向学到的下一跳不可用"),
    meaning: text!(
        "A router once said that another one is nearer to the destination; the kernel remembers that for this one address. That other router is gone, or does not forward, while the route itself is good.",
        "路由器曾告知另一台路由器离目的地更近，内核为该地址记住了这一点。那台路由器已不在或不转发，而路由本身没有问题。"
    ),
    seen_by: text!(
        "The exceptions of the routes (ip route show cache) name another gateway for an address than its route, that gateway does not answer or does not forward, and somebody misses answers from the address.",
        "路由例外（ip route show cache）为某地址给出的网关与其路由不同，该网关不应答或不转发，且有人得不到该地址的应答。"
    ),
    why_lost: text!(
        "All packets to that one address go to the wrong gateway, for five minutes after the redirect and longer while new ones come.",
        "发往该地址的所有包都被交给错误的网关，在收到重定向后持续五分钟，若不断收到新的重定向则更久。"
    ),
    what_to_do: text!(
        "Forget what was learned (ip route flush cache) and accept no redirects (net.ipv4.conf.DEV.accept_redirects=0); let the router that sends them know the right way.",
        "清除学到的内容（ip route flush cache），不再接受重定向（net.ipv4.conf.DEV.accept_redirects=0）；并修正发出重定向的路由器的路由。"
    ),
    when_wrong: text!(
        "A redirect to a router that works is what redirects are for.",
        "指向正常路由器的重定向正是其用途所在。"
    ),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Routes, Source::RouteExceptions, Source::Neighbours], judge };

const SUMMARY: Text = text!(
    "A redirect sends packets to {to} through {gateway}, and nobody there takes them on.",
    "ICMP 重定向让发往 {to} 的包经由 {gateway}，而那里无人继续转发。"
);
const LEARNED: Text = text!(
    "learned for {to}: {gateway} on {dev}; the route itself says {table}",
    "为 {to} 学到的下一跳：{dev} 上的 {gateway}；而路由本身为 {table}"
);
const SILENT: Text = text!("{gateway} does not answer", "{gateway} 不应答");
const DOES_NOT: Text =
    text!("{owner}, which has {gateway}, does not take them on", "拥有 {gateway} 的 {owner} 不继续转发");
const FLUSH: Text = text!(
    "forget what was learned, and learn no more: ip {family}route flush cache; sysctl -w net.{ip}.conf.{dev}.accept_redirects=0 net.{ip}.conf.all.accept_redirects=0 (to go back: 1 in place of 0)",
    "清除学到的内容并不再学习：ip {family}route flush cache；sysctl -w net.{ip}.conf.{dev}.accept_redirects=0 net.{ip}.conf.all.accept_redirects=0（恢复：把 0 换成 1）"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut met: BTreeMap<(u32, IpAddr, IpAddr), Redirected<'_>> = BTreeMap::new();
    for flow in space.case.flows.iter().filter(|flow| flow.in_trouble()) {
        let hops = flow.next_hops(space);
        for to in [flow.address, flow.source].into_iter().flatten() {
            let Some(redirected) = Redirected::of(space, to) else { continue };
            if hops.contains(&(redirected.link.index, redirected.gateway)) {
                met.entry((redirected.link.index, redirected.gateway, to)).or_insert(redirected);
            }
        }
    }
    met.into_values().map(Redirected::culprit).collect::<Vec<_>>().into()
}

/// An address to which a redirect shows a way that ends.
#[derive(Clone, Copy)]
struct Redirected<'a> {
    space: Space<'a>,
    link: &'a Link,
    gateway: IpAddr,
    exception: &'a Route,
    to: IpAddr,
    /// Who has the gateway's address, if he is in view.
    owner: Option<(Space<'a>, &'a Link)>,
}

impl<'a> Redirected<'a> {
    fn of(space: Space<'a>, to: IpAddr) -> Option<Self> {
        let Lookup::Via(exception, hop) = lookup(space, to, None) else { return None };
        let gateway = hop.gateway.filter(|_| is_learned(space, exception))?;
        let link = space.after.link(hop.link?)?;
        let near = segment::reachable(space, link).into_iter().filter(|(there, _)| !there.same(space));
        let owner = near.into_iter().find(|(there, device)| there.carries(device.index, gateway));
        let ends = match owner {
            Some((there, device)) => is_no_router(there, device, to) || !Path::arrives(there, to),
            None => space.unresolved().any(|silent| silent == (link.index, gateway)),
        };
        ends.then_some(Self { space, link, gateway, exception, to, owner })
    }

    fn culprit(self) -> Culprit<'a> {
        let Self { space, link, gateway, to, .. } = self;
        let subject = format!("redirect of {to} to {gateway} dev {}", link.name);
        Culprit::new(space, &CAUSE, "route.output", Scope::Route, subject)
            .direction(Direction::Transmit)
            .on(link.index)
            .reaches()
            .takes(move |loss| self.takes(loss))
            .harms(move |flow| {
                let by_it = flow.suffers() && flow.next_hops(space).contains(&(link.index, gateway));
                Fit::sure(by_it && [flow.address, flow.source].contains(&Some(to)))
            })
            .tell(move |_| self.story())
    }

    /// The question for the gateway, and what its owner discards.
    fn takes(self, loss: &Loss<'a>) -> Fit {
        let asked = loss.asks_for() == Some(self.gateway) && loss.is_imagined_at(self.space, self.link.index);
        let discarded = self.owner.is_some_and(|(there, device)| {
            let to_it = loss.event.and_then(|event| event.destination).is_some_and(|to| to.ip() == self.to);
            let stage = loss.is_at_stage("route") || loss.is_at_stage("ip.forward");
            to_it && stage && loss.is_at(there, device.index)
        });
        Fit::sure(asked || discarded)
    }

    fn story(self) -> Story {
        let table = match table_says(self.space, self.exception) {
            Some(hop) => match hop.gateway {
                Some(gateway) => gateway.to_string(),
                None => hop.link.map_or_else(|| "-".to_owned(), |link| self.space.after.link_name(link)),
            },
            None => "-".to_owned(),
        };
        let owner = self.owner.map_or_else(String::new, |(there, _)| there.target().id.clone());
        let (family, ip) = if self.to.is_ipv6() { ("-6 ", "ipv6") } else { ("", "ipv4") };
        let words: [(&str, &dyn std::fmt::Display); 7] = [
            ("to", &self.to),
            ("gateway", &self.gateway),
            ("dev", &self.link.name),
            ("table", &table),
            ("owner", &owner),
            ("family", &family),
            ("ip", &ip),
        ];
        let story = Story::new(SUMMARY.fill(&words)).evidence(
            LEARNED.fill(&words),
            "route_exceptions",
            &["ip", "route", "show", "cache"],
        );
        let story = match self.owner {
            None => story.evidence(SILENT.fill(&words), "neighbours", &["ip", "neigh", "show"]),
            Some(_) => story.evidence(DOES_NOT.fill(&words), "sysctl", &[]),
        };
        story.fix(by_hand(FLUSH.fill(&words)))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::Reading;

    /// The server reaches 10.9.0.1 by a router that is out of sight; a redirect names another one.
    fn world(answers: bool) -> World {
        let mut world = World::pair();
        let learned = route("10.9.0.1/32", "unicast", Some("10.0.0.66"), Some(2));
        world.both(SERVER, |s| {
            let near = route("10.0.0.0/24", "unicast", None, Some(2));
            let far = route("0.0.0.0/0", "unicast", Some("10.0.0.254"), Some(2));
            s.routes = Reading::Present(vec![near, far]);
            s.route_exceptions = Reading::Present(vec![learned.clone()]);
            let (mac, state) =
                if answers { (Some("02:00:00:00:00:66"), "reachable") } else { (None, "failed") };
            s.neighbours = Reading::Present(vec![neighbour("10.0.0.66", mac, state)]);
        });
        let talk = world.talk(SERVER, "10.9.0.1:80");
        (talk.attempts, talk.failed, talk.syn_repeats) = (6, 6, 6);
        world
    }

    #[test]
    fn a_redirect_to_a_router_that_is_gone_is_the_cause_and_one_that_answers_is_none() {
        let found = world(false).found();
        assert_eq!(found, ["route.redirected @ netns:server: redirect of 10.9.0.1 to 10.0.0.66 dev eth0"]);
        let found = world(true).found();
        assert!(!found.iter().any(|found| found.starts_with("route.redirected")), "{found:?}");
    }

    #[test]
    fn a_path_mtu_is_no_redirect() {
        let mut world = world(false);
        world.both(SERVER, |s| {
            let own = route("10.9.0.1/32", "unicast", Some("10.0.0.254"), Some(2));
            s.route_exceptions = Reading::Present(vec![own]);
        });
        let found = world.found();
        assert!(!found.iter().any(|found| found.starts_with("route.redirected")), "{found:?}");
    }
}
