//! `route.blackhole`: A blackhole, unreachable or prohibit route.

use super::{endings, fit, is_quiet, peers};
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::route::{Lookup, Selector, lookup};
use crate::evidence::way::{End, Ending};
use crate::fixes::{fix, owned};
use crate::rule::{Judgement, Rule};
use std::net::IpAddr;
use whydrop_model::action::{Action, RouteSpec};
use whydrop_model::snapshot::Route;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.blackhole",
    title: text!("A blackhole, unreachable or prohibit route", "blackhole、unreachable 或 prohibit 路由"),
    meaning: text!(
        "A route for the destination says: throw away, or refuse.",
        "到目的地的路由规定丢弃或拒绝。"
    ),
    seen_by: text!(
        "The routing tables were searched as the kernel does it for each wanted address and for the way back, and such a route is the best match.",
        "按内核的方式为每个所访问的地址及返回方向查找路由表，最佳匹配是这样一条路由。"
    ),
    why_lost: text!(
        "blackhole drops silently, unreachable and prohibit answer with an ICMP error.",
        "blackhole 静默丢弃，unreachable 和 prohibit 回应 ICMP 错误。"
    ),
    what_to_do: text!("Delete the route, or add a more specific one.", "删除该路由，或添加更具体的路由。"),
    when_wrong: text!(
        "Routing daemons set such routes on purpose for unused parts of a network.",
        "路由守护进程会有意为网络中未使用的部分设置这类路由。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Routes], judge };

const SUMMARY: Text =
    text!("A {kind} route takes the packets to {address}.", "一条 {kind} 路由吞掉了发往 {address} 的包。");
const MATCHES: Text = text!(
    "{kind} {network} in table {table} is the best match for {address}",
    "表 {table} 中的 {kind} {network} 是 {address} 的最佳匹配"
);
const DELETE: Text = text!("delete the route", "删除该路由");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut met: Vec<(&Route, Ending)> = vec![];
    for ending in endings(space, End::Refused) {
        if let Lookup::Refused(route) = ending.lookup(space)
            && met.iter().all(|(known, _)| *known != route)
        {
            met.push((route, ending));
        }
    }
    match met.is_empty() {
        true => by_counter(space).into(),
        false => {
            met.into_iter().map(|(route, ending)| culprit(space, route, ending)).collect::<Vec<_>>().into()
        }
    }
}

/// Without a flow: packets were not sent for want of a way, and a refusing route takes an address that this namespace
/// talks to.
fn by_counter(space: Space<'_>) -> Option<Culprit<'_>> {
    let rise = space.mib("Ip.OutNoRoutes");
    if rise == 0 || !is_quiet(space) {
        return None;
    }
    let mut refused = peers(space).filter(IpAddr::is_ipv4).filter_map(|ip| match lookup(space, ip, None) {
        Lookup::Refused(route) => Some((ip, route)),
        _ => None,
    });
    let (to, route) = refused.next()?;
    let ending = Ending { to, from: None, incoming: None, asks: Selector::default() };
    Some(culprit(space, route, ending).meter(rise, Count::Exact, "Ip.OutNoRoutes"))
}

fn culprit<'a>(space: Space<'a>, route: &'a Route, ending: Ending) -> Culprit<'a> {
    let is_it = move |ending: &Ending| matches!(ending.lookup(space), Lookup::Refused(r) if r == route);
    let subject = format!("{} {}/{}", route.kind, route.destination, route.prefix);
    Culprit::new(space, &CAUSE, ending.stage(), Scope::Route, subject)
        .direction(ending.direction())
        .takes(move |loss| fit(space, loss, |_, said| matches!(said, Lookup::Refused(r) if r == route)))
        .harms(move |flow| {
            sure(flow.suffers() && flow.ending(space, End::Refused).is_some_and(|e| is_it(&e)))
        })
        .tell(move |_| story(space, route, ending.to))
}

fn story(space: Space<'_>, route: &Route, to: IpAddr) -> Story {
    let network = format!("{}/{}", route.destination, route.prefix);
    let words: [(&str, &dyn std::fmt::Display); 4] =
        [("kind", &route.kind), ("network", &network), ("table", &route.table), ("address", &to)];
    let delete = Action::RouteDelete(RouteSpec { route: route.clone(), dev: None });
    let table = route.table.to_string();
    Story::new(SUMMARY.fill(&words))
        .evidence(MATCHES.fill(&words), "routes", &["ip", "route", "show", "table", &table])
        .counter("Ip.OutNoRoutes", space.mib("Ip.OutNoRoutes"))
        .exhibit(format!("{} {network}", route.kind))
        .fix(owned::route_there(route).unwrap_or_else(|| fix(space, DELETE.phrase(), vec![delete])))
}
