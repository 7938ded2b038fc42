//! `route.blackhole`: A blackhole, unreachable or prohibit route.

use super::add_dropped;
use crate::case::Space;
use crate::coverage::Source;
use crate::route::{Lookup, lookup};
use crate::rule::{Judgement, Rule, Suspect, fix};
use crate::way::{End, Ending};
use std::net::IpAddr;
use whydrop_model::action::{Action, RouteSpec};
use whydrop_model::snapshot::Route;
use whydrop_model::{Applicability, Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.blackhole",
    title: text!("A blackhole, unreachable or prohibit route", "blackhole、unreachable 或 prohibit 路由"),
    meaning: text!(
        "A route for the destination says: throw away, or refuse.",
        "到目的地的路由规定丢弃或拒绝。"
    ),
    seen_by: text!(
        "The routing tables were searched as the kernel does it for each probed address and for the way back, and such a route is the best match.",
        "按内核的方式为每个被探测的地址及返回方向查找路由表，最佳匹配是这样一条路由。"
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
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Routes], consequence_of: &[], judge };

const SUMMARY: Text =
    text!("A {kind} route takes the packets to {address}.", "一条 {kind} 路由吞掉了发往 {address} 的包。");
const MATCHES: Text = text!(
    "{kind} {network} in table {table} is the best match for {address}",
    "表 {table} 中的 {kind} {network} 是 {address} 的最佳匹配"
);
const DELETE: Text = text!("delete the route", "删除该路由");

fn judge(space: Space<'_>) -> Judgement {
    let mut suspects: Vec<Suspect> = vec![];
    for way in space.case.ways.iter().filter(|way| way.lost() > 0) {
        let met = way.ending(space, End::Refused).and_then(|ending| refused(space, &ending));
        let Some(mut suspect) = met else { continue };
        if let Some(known) = suspects.iter_mut().find(|s| s.finding.subject == suspect.finding.subject) {
            known.touches.push(way.index);
            continue;
        }
        let unanswered = space.mib("Ip.OutNoRoutes");
        if unanswered > 0 {
            suspect = suspect.counter("Ip.OutNoRoutes", unanswered);
        }
        suspects.push(suspect.touches(vec![way.index]));
    }
    add_dropped(space, &mut suspects, refused);
    if suspects.is_empty() && space.case.ways.is_empty() {
        suspects.extend(by_counter(space));
    }
    suspects.into()
}

fn refused(space: Space<'_>, ending: &Ending) -> Option<Suspect> {
    let Lookup::Refused(route) = ending.lookup(space) else { return None };
    Some(suspect(space, route, ending.to, ending.stage()).direction(ending.direction()))
}

/// Without a probe: packets were not sent for want of a way, and a refusing route takes an address that this namespace
/// talks to.
fn by_counter(space: Space<'_>) -> Option<Suspect> {
    let rise = space.mib("Ip.OutNoRoutes");
    let neighbours = space.after.neighbours.iter().map(|n| n.ip);
    let peers = space.after.sockets.iter().map(|s| s.remote.ip().to_canonical());
    let mut refused =
        neighbours.chain(peers).filter(IpAddr::is_ipv4).filter_map(|ip| match lookup(space, ip, None) {
            Lookup::Refused(route) => Some((ip, route)),
            _ => None,
        });
    let (ip, route) = refused.next().filter(|_| rise > 0)?;
    Some(
        suspect(space, route, ip, "route.output")
            .packets(rise, "Ip.OutNoRoutes")
            .counter("Ip.OutNoRoutes", rise),
    )
}

fn suspect(space: Space<'_>, route: &Route, to: IpAddr, stage: &str) -> Suspect {
    let network = format!("{}/{}", route.destination, route.prefix);
    let subject = format!("{} {network}", route.kind);
    let words: [(&str, &dyn std::fmt::Display); 4] =
        [("kind", &route.kind), ("network", &network), ("table", &route.table), ("address", &to)];
    let delete = Action::RouteDelete(RouteSpec { route: route.clone(), dev: None });
    let table = route.table.to_string();
    Suspect::new(space, &CAUSE, stage, subject.clone(), SUMMARY.fill(&words))
        .evidence(MATCHES.fill(&words), "routes", &["ip", "route", "show", "table", &table])
        .exhibit(subject)
        .fix(fix(space, DELETE.phrase(), Applicability::Safe, vec![delete]))
}
