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
use crate::route::{Lookup, contains, lookup};
use crate::rule::{fix, manual};
use std::net::IpAddr;
use whydrop_model::action::{Action, RouteSpec};
use whydrop_model::snapshot::{NextHop, Route};
use whydrop_model::{Applicability, Fix, Text, text};

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
