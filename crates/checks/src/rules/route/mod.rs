//! Routing: no way, the wrong way, or a way that refuses.

pub mod blackhole;
pub mod circle;
pub mod forwarding_off;
pub mod martian_source;
pub mod no_return_route;
pub mod no_route;
pub mod policy_rule;
pub mod rp_filter;
#[cfg(test)]
mod tests;

use crate::case::Space;
use crate::reconcile::BY_EVENTS;
use crate::route::{Lookup, contains, lookup};
use crate::rule::{Suspect, fix, manual};
use crate::rules::container::route_localnet;
use crate::way::Ending;
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_facts::Class;
use whydrop_facts::place::{self, Place};
use whydrop_model::action::{Action, RouteSpec};
use whydrop_model::snapshot::{NextHop, Route};
use whydrop_model::{Applicability, Direction, DropEvent, Fix, Text, text};

/// RT_TABLE_MAIN.
const MAIN: u32 = 254;
/// RTPROT_STATIC: added by an administrator.
const STATIC: u8 = 4;

const ADD: Text = text!(
    "add the missing route: ip route add NETWORK via GATEWAY dev DEV",
    "添加缺失的路由：ip route add 网段 via 网关 dev 接口"
);
const ADD_CONNECTED: Text =
    text!("add the route of the interface's own network", "添加接口所在网络的直连路由");
const ADD_VIA: Text = text!("add a route through {gateway}", "添加经由 {gateway} 的路由");

/// Sampled packets that a routing decision of this namespace dropped, as they came there.
fn dropped(space: Space<'_>) -> impl Iterator<Item = Ending> {
    let inode = Some(space.target().netns_inode);
    let sampled = space.case.drop_log().into_iter().flat_map(|log| &log.sampled);
    let here = sampled.filter(move |e| e.netns_inode == inode && is_decision(place::of_event(e)));
    here.filter_map(ending)
}

/// The cause of a single drop by a routing decision, if a route or a rule refuses it or there is none.
pub fn cause_of(space: Space<'_>, event: &DropEvent) -> Option<&'static str> {
    if place::of_event(event).cause == Some(route_localnet::CAUSE.id)
        && route_localnet::has_loopback_source(event)
    {
        return Some(martian_source::CAUSE.id);
    }
    // Reasons that name their cause, such as rp_filter, are no matter of the way there.
    if !is_decision(place::of_event(event)) || !is_silent(event) {
        return None;
    }
    match ending(event)?.lookup(space) {
        Lookup::Refused(_) => Some(blackhole::CAUSE.id),
        Lookup::RefusedByRule(_) => Some(policy_rule::CAUSE.id),
        Lookup::Missing => Some(no_route::CAUSE.id),
        _ => None,
    }
}

/// True if the reason says no more than that there was no way.
fn is_silent(event: &DropEvent) -> bool {
    matches!(event.reason.as_str(), "" | "NOT_SPECIFIED" | "IP_INNOROUTES" | "IP_OUTNOROUTES")
}

fn ending(event: &DropEvent) -> Option<Ending> {
    let (from, to) = (event.source?.ip(), event.destination?.ip());
    let incoming = event.link.filter(|_| event.direction != Some(Direction::Transmit));
    Some(Ending { to, from: Some(from), incoming })
}

fn is_decision(place: Place) -> bool {
    matches!(place.class, Class::Loss | Class::Policy) && place.stage.starts_with("route.")
}

/// Adds what the sampled packets met, beyond what the probes did: `make` says what an ending met. Where each drop was
/// sampled, the packets of each are counted.
fn add_dropped<'a>(
    space: Space<'a>,
    suspects: &mut Vec<Suspect>,
    make: impl Fn(Space<'a>, &Ending) -> Option<Suspect>,
) {
    if !space.is_target() {
        return;
    }
    let counts = space.drop_counts().filter(|count| is_decision(place::of_count(count)));
    let exact = counts.map(|count| count.drops).sum::<u64>() == dropped(space).count() as u64;
    let mut packets: BTreeMap<String, u64> = BTreeMap::new();
    for ending in dropped(space) {
        let Some(suspect) = make(space, &ending) else { continue };
        let subject = suspect.finding.subject.clone();
        *packets.entry(subject.clone()).or_default() += 1;
        if suspects.iter().all(|known| known.finding.subject != subject) {
            suspects.push(suspect);
        }
    }
    for suspect in suspects.iter_mut().filter(|_| exact) {
        if let Some(n) = packets.get(&suspect.finding.subject) {
            suspect.finding.packets_lost = Some(*n);
            suspect.finding.counted_by = Some(BY_EVENTS.to_owned());
            suspect.loses_more = true;
        }
    }
}

/// The fix for a missing route: the network of an own address, or a neighbour among the observed namespaces that
/// knows the way. Where neither is known, only a person can say which gateway is right.
fn add_route(space: Space<'_>, to: IpAddr) -> Fix {
    let works = |link: u32| space.after.link(link).is_some_and(|l| l.up && !l.loopback);
    let own = space.after.addresses.iter().find(|a| works(a.link) && contains(a.ip, a.prefix, to));
    if let Some(address) = own {
        let action = Action::RouteAdd(spec(
            space,
            (network(address.ip, address.prefix), address.prefix),
            None,
            address.link,
        ));
        return fix(space, ADD_CONNECTED.phrase(), Applicability::Safe, vec![action]);
    }
    let near = |ip: IpAddr| {
        space.after.addresses.iter().find(|a| works(a.link) && contains(a.ip, a.prefix, ip)).map(|a| a.link)
    };
    let others = space.case.spaces().filter(|s| !s.same(space));
    let knowing = others.filter(|s| matches!(lookup(*s, to, None), Lookup::Via(..) | Lookup::Local));
    let gateway = knowing.flat_map(|s| s.after.addresses.iter()).find_map(|a| {
        (a.ip != to && a.ip.is_ipv6() == to.is_ipv6()).then(|| near(a.ip).map(|link| (a.ip, link))).flatten()
    });
    match gateway {
        Some((gateway, link)) => {
            let host = if to.is_ipv6() { 128 } else { 32 };
            let action = Action::RouteAdd(spec(space, (to, host), Some(gateway), link));
            fix(space, ADD_VIA.fill(&[("gateway", &gateway)]), Applicability::Safe, vec![action])
        }
        None => manual(ADD),
    }
}

fn spec(
    space: Space<'_>,
    (destination, prefix): (IpAddr, u8),
    gateway: Option<IpAddr>,
    link: u32,
) -> RouteSpec {
    let hop = NextHop { gateway, link: Some(link), weight: 1, flags: vec![] };
    let route = Route {
        destination,
        prefix,
        kind: "unicast".into(),
        table: MAIN,
        metric: 0,
        next_hops: vec![hop],
        source: None,
        mtu: None,
        protocol: STATIC,
        scope: 0,
    };
    RouteSpec { route, dev: Some(space.after.link_name(link)) }
}

/// The address with its host part cleared.
fn network(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}
