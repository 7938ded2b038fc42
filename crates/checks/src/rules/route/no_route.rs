//! `route.no_route`: no route to the destination.

use super::{
    ADD, add_route, ending_of, fit, forwards, is_answer, is_quiet, lost_interface, lost_neighbours,
    lost_routes, peers, unanswered,
};
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::route::{Lookup, lookup};
use crate::evidence::way::{End, Ending};
use crate::fixes::manual;
use crate::rule::{Judgement, Rule};
use std::net::IpAddr;
use whydrop_model::flow::FlowDirection;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.no_route",
    title: text!("No route to the destination", "没有到目的地的路由"),
    meaning: text!(
        "No route of the namespace covers the destination.",
        "命名空间中没有任何路由覆盖目的地址。"
    ),
    seen_by: text!(
        "The routing tables were searched as the kernel does it, for each wanted address; and Ip.OutNoRoutes or IpExt.InNoRoutes rose.",
        "按内核的方式为每个所访问的地址查找路由表；并且 Ip.OutNoRoutes 或 IpExt.InNoRoutes 增加。"
    ),
    why_lost: text!(
        "The packet cannot be sent: connect() fails with ENETUNREACH, a router answers with an ICMP error.",
        "包发不出去：connect() 返回 ENETUNREACH，路由器则回应 ICMP 错误。"
    ),
    what_to_do: text!("Add the route, usually the default route.", "添加路由，通常是默认路由。"),
    when_wrong: text!(
        "Programs that try an address of a family which the machine does not use (IPv6) fail by design.",
        "程序尝试本机未使用的协议族（如 IPv6）的地址而失败，属正常现象。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Routes], judge };

const SUMMARY: Text = text!("There is no route to {address}.", "没有到 {address} 的路由。");
const SUMMARY_ANY: Text = text!(
    "Packets were not sent because there is no route to where they should go.",
    "由于没有到目的地的路由，部分包未能发出。"
);
const LOOKED: Text = text!("no route of any table covers {address}", "任何路由表都没有覆盖 {address} 的路由");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let flows = space.case.flows.iter().filter_map(|flow| stranded(space, flow));
    let asked = space.losses().filter(|loss| !is_answer(loss)).filter_map(|loss| ending_of(space, loss));
    let dropped = asked.filter(|ending| matches!(ending.lookup(space), Lookup::Missing));
    let mut met: Vec<Ending> = vec![];
    for ending in flows.chain(dropped) {
        if met.iter().all(|known| known.to != ending.to) {
            met.push(ending);
        }
    }
    let rise = space.mib("Ip.OutNoRoutes") + space.mib("IpExt.InNoRoutes");
    // Without a flow only the counters speak; they name neither the address nor the program. Who cannot answer has no
    // route back, which is a cause of its own.
    if met.is_empty() && is_quiet(space) && unanswered(space).is_none() {
        // A refusal counts as well, where an open connection meets it (ip_queue_xmit()).
        let others = space.case.spaces().filter(|there| !there.same(space));
        let mut met = peers(space).chain(others.flat_map(|there| there.after.addresses.iter().map(|a| a.ip)));
        let refused = |ip| matches!(lookup(space, ip, None), Lookup::Refused(_) | Lookup::RefusedByRule(_));
        if met.any(refused) {
            return Judgement::default();
        }
        let rise6 = if passes_over_ipv6(space) { 0 } else { space.mib6("Ip6OutNoRoutes") };
        let counters = [("Ip.OutNoRoutes", rise), ("Ip6OutNoRoutes", rise6)];
        let risen = counters.into_iter().filter(|(_, rise)| *rise > 0);
        return risen.map(|(name, rise)| by_counter(space, name, rise)).collect::<Vec<_>>().into();
    }
    met.into_iter().map(|ending| culprit(space, ending, rise)).collect::<Vec<_>>().into()
}

/// True if programs try IPv6 here and go on with IPv4: nobody has an IPv6 address that leads beyond the link, or
/// connections by IPv4 come about.
fn passes_over_ipv6(space: Space<'_>) -> bool {
    let beyond =
        |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if !ip.is_loopback() && !ip.is_unicast_link_local());
    let log = space.case.observation.flows.get();
    let mut talks = log.into_iter().flat_map(|log| &log.conversations);
    let by_ipv4 = talks.any(|talk| {
        talk.netns_inode == space.inode()
            && talk.direction == FlowDirection::Out
            && talk.remote.is_ipv4()
            && talk.established > 0
    });
    by_ipv4 || !space.after.addresses.iter().any(|address| beyond(address.ip))
}

/// Where the request of a flow that suffers finds no route here.
fn stranded(space: Space<'_>, flow: &Flow<'_>) -> Option<Ending> {
    let here = flow.suffers() && flow.forward.end == End::NoRoute;
    // Who does not forward looks for no route for what is not his own.
    let own =
        |ending: &Ending| ending.incoming.is_none() || forwards(space, ending.to.is_ipv6()) != Some(false);
    flow.ending(space, End::NoRoute).filter(|ending| here && own(ending))
}

fn culprit(space: Space<'_>, ending: Ending, rise: u64) -> Culprit<'_> {
    let to = ending.to;
    let missing = move |ending: &Ending, said: Lookup<'_>| ending.to == to && matches!(said, Lookup::Missing);
    Culprit::new(space, &CAUSE, ending.stage(), Scope::Route, format!("route to {to}"))
        .direction(ending.direction())
        .misses(lost_routes(space, to))
        .takes(move |loss| if is_answer(loss) { Fit::No } else { fit(space, loss, missing) })
        .harms(move |flow| sure(stranded(space, flow).is_some_and(|ending| ending.to == to)))
        .tell(move |_| story(space, to, rise))
}

fn story(space: Space<'_>, to: IpAddr, rise: u64) -> Story {
    let address = to.to_string();
    Story::new(SUMMARY.fill(&[("address", &to)]))
        .evidence(LOOKED.fill(&[("address", &to)]), "routes", &["ip", "route", "get", &address])
        .counter("Ip.OutNoRoutes", rise)
        .fix(add_route(space, to))
}

fn by_counter<'a>(space: Space<'a>, name: &'static str, rise: u64) -> Culprit<'a> {
    let v6 = name.starts_with("Ip6");
    Culprit::new(
        space,
        &CAUSE,
        "route.output",
        Scope::Route,
        if v6 { "IPv6 routes" } else { "routes" }.to_owned(),
    )
    .meter(rise, Count::Exact, name)
    .misses(lost_neighbours(space, v6))
    .misses(lost_interface(space).into_iter().collect())
    .takes(move |loss| {
        fit(space, loss, |ending, said| ending.to.is_ipv6() == v6 && matches!(said, Lookup::Missing))
    })
    .tell(move |_| Story::new(SUMMARY_ANY.phrase()).counter(name, rise).fix(manual(ADD)))
}
