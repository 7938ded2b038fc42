//! Routes. They are put back from the message in which the kernel showed them, as `ip route restore` does, so that
//! nothing of them is lost that whydrop has no word for.

use super::address::{CREATE, family};
use super::{Announce, Undo, changed, find_link, from_hex};
use crate::error::{Error, Result};
use crate::source::{address, link, route as source};
use crate::sys::netlink::{Netlink, errno};
use netlink_bindings::traits::NetlinkRequest;
use netlink_bindings::utils::parse_u32;
use netlink_bindings::{rt_addr, rt_route};
use whydrop_model::action::RouteSpec;
use whydrop_model::snapshot::{Address, Link, NextHop, Route};
use whydrop_model::text;
use whydrop_model::{Action, Text};

/// Offset of the flags in `struct rtmsg`.
const FLAGS: usize = 8;
/// RTNH_F_ONLINK, the only flag that a new route may carry; the others describe its present state.
const ONLINK: u32 = 4;

/// `ip route add`; with `raw` exactly the route that was deleted.
pub(super) fn add(spec: &RouteSpec, raw: Option<&str>, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let mut netlink = Netlink::route()?;
    let undo = vec![Undo::plain(Action::RouteDelete(spec.clone()))];
    let fail = |e: std::io::Error| {
        Error::io(text!("add the route {object}", "添加路由 {object}"), title(&spec.route), &e)
    };
    if let Some(raw) = raw {
        announce(&undo)?;
        return match netlink.execute_raw(libc::RTM_NEWROUTE, CREATE, &from_hex(raw)?) {
            // The kernel put it back by itself.
            Err(e) if errno(&e) == Some(libc::EEXIST) => Ok(vec![]),
            other => other.map(|()| undo).map_err(fail),
        };
    }
    let payload = encode(&mut netlink, spec, true)?;
    announce(&undo)?;
    netlink.execute_raw(libc::RTM_NEWROUTE, CREATE, &payload).map_err(fail)?;
    Ok(undo)
}

/// `ip route del`.
pub(super) fn delete(spec: &RouteSpec, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let mut netlink = Netlink::route()?;
    let wanted = resolved(&mut netlink, spec)?;
    let found = raw_routes(&mut netlink)?.into_iter().find(|(route, _)| same(route, &wanted));
    let Some((route, message)) = found else {
        return Err(changed(
            text!("the route {route}", "路由 {route}").fill(&[("route", &title(&spec.route))]),
            &text!("it is gone", "它已不存在").phrase(),
        ));
    };
    let undo = vec![restore(&mut netlink, &route, &message)?];
    announce(&undo)?;
    let payload = encode(&mut netlink, spec, false)?;
    netlink.execute_raw(libc::RTM_DELROUTE, 0, &payload).map_err(|e| {
        Error::io(text!("delete the route {object}", "删除路由 {object}"), title(&spec.route), &e)
    })?;
    Ok(undo)
}

/// True if there is such a route.
pub(super) fn stands(spec: &RouteSpec) -> Result<bool> {
    let mut netlink = Netlink::route()?;
    let wanted = resolved(&mut netlink, spec)?;
    Ok(raw_routes(&mut netlink)?.iter().any(|(route, _)| same(route, &wanted)))
}

fn title(route: &Route) -> String {
    format!("{}/{}", route.destination, route.prefix)
}

/// True if the wanted route is this one: its key, and its next hops as far as they are given.
fn same(route: &Route, wanted: &Route) -> bool {
    let key = |r: &Route| (r.destination, r.prefix, r.kind.clone(), if r.table == 0 { 254 } else { r.table });
    let metric = |r: &Route| if r.metric == 0 && r.destination.is_ipv6() { 1024 } else { r.metric };
    let hops = |a: &NextHop, b: &NextHop| {
        (b.gateway.is_none() || a.gateway == b.gateway) && (b.link.is_none() || a.link == b.link)
    };
    key(route) == key(wanted)
        && metric(route) == metric(wanted)
        && (wanted.next_hops.is_empty()
            || route.next_hops.len() == wanted.next_hops.len()
                && route.next_hops.iter().zip(&wanted.next_hops).all(|(a, b)| hops(a, b)))
}

/// The route with the index of the device that the specification names: indices differ between namespaces.
fn resolved(netlink: &mut Netlink, spec: &RouteSpec) -> Result<Route> {
    let mut route = spec.route.clone();
    if let Some(dev) = &spec.dev {
        let index = find_link(netlink, dev)?.index;
        match route.next_hops.as_mut_slice() {
            [] => {
                let hop = NextHop { gateway: None, link: Some(index), weight: 1, flags: vec![] };
                route.next_hops.push(hop);
            }
            [hop] => hop.link = Some(index),
            _ => (),
        }
    }
    Ok(route)
}

/// Message of a route. For deletion protocol and scope are left open, as `ip route del` leaves them.
fn encode(netlink: &mut Netlink, spec: &RouteSpec, new: bool) -> Result<Vec<u8>> {
    let route = resolved(netlink, spec)?;
    let refuse = |why: Text| {
        Error::new(
            text!("write {object}", "写入{object}"),
            text!("the route {route}", "路由 {route}").fill(&[("route", &title(&route))]),
            why.phrase(),
        )
    };
    let kind = source::kind_number(&route.kind)
        .ok_or_else(|| refuse(text!("its type is not known", "它的类型未知")))?;
    let hop = match route.next_hops.as_slice() {
        [] => None,
        [hop] => Some(hop),
        _ => return Err(refuse(text!("it has several next hops", "它有多个下一跳"))),
    };
    let table = if route.table == 0 { u32::from(libc::RT_TABLE_MAIN) } else { route.table };
    let header = rt_route::Rtmsg {
        rtm_family: family(route.destination),
        rtm_dst_len: route.prefix,
        rtm_table: u8::try_from(table).unwrap_or(libc::RT_TABLE_COMPAT),
        rtm_protocol: if new { route.protocol } else { 0 },
        rtm_scope: if new { route.scope } else { libc::RT_SCOPE_NOWHERE },
        rtm_type: kind,
        ..Default::default()
    };
    let mut request = rt_route::Request::new().op_newroute_do(&header);
    let mut attributes = request.encode().push_table(table);
    if route.prefix > 0 {
        attributes = attributes.push_dst(route.destination);
    }
    if route.metric != 0 {
        attributes = attributes.push_priority(route.metric);
    }
    if let Some(gateway) = hop.and_then(|hop| hop.gateway) {
        if gateway.is_ipv4() != route.destination.is_ipv4() {
            return Err(refuse(text!("its gateway is of another family", "它的网关属于另一协议族")));
        }
        attributes = attributes.push_gateway(gateway);
    }
    if let Some(link) = hop.and_then(|hop| hop.link) {
        attributes = attributes.push_oif(link);
    }
    if let Some(source) = route.source.filter(|_| new) {
        attributes = attributes.push_prefsrc(source);
    }
    if let Some(mtu) = route.mtu.filter(|_| new) {
        attributes = attributes.nested_metrics().push_mtu(mtu).end_nested();
    }
    // Its end closes what is still open in the message.
    drop(attributes);
    Ok(request.payload().to_vec())
}

/// All routes with the messages in which they came.
pub(super) fn raw_routes(netlink: &mut Netlink) -> Result<Vec<(Route, Vec<u8>)>> {
    let mut routes = vec![];
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let header = rt_route::Rtmsg { rtm_family: family, ..Default::default() };
        let request = rt_route::Request::new().op_getroute_dump(&header);
        let parse = |message: &[u8]| Some((source::parse(message, family)?, message.to_vec()));
        routes.extend(netlink.dump(text!("the routes", "路由"), &request, parse)?);
    }
    Ok(routes)
}

/// All addresses with the messages in which they came.
pub(super) fn raw_addresses(netlink: &mut Netlink) -> Result<Vec<(Address, Vec<u8>)>> {
    let request = rt_addr::Request::new().op_getaddr_dump(&rt_addr::Ifaddrmsg::default());
    netlink.dump(text!("the addresses", "地址"), &request, |message| {
        Some((address::parse(message)?, message.to_vec()))
    })
}

/// What switching an interface off takes away for good: its IPv6 addresses (but the link-local one, which the
/// kernel makes anew), and the routes over it that the kernel did not make itself.
pub(super) fn lost_with_link(netlink: &mut Netlink, link: &Link) -> Result<Vec<Undo>> {
    let mut undo = vec![];
    for (address, message) in raw_addresses(netlink)? {
        let local = matches!(address.ip, std::net::IpAddr::V6(ip) if ip.is_unicast_link_local());
        if address.link == link.index && address.ip.is_ipv6() && !local {
            let back = Action::AddressAdd { dev: link.name.clone(), ip: address.ip, prefix: address.prefix };
            undo.push(Undo::raw(back, &message));
        }
    }
    for (route, message) in raw_routes(netlink)? {
        let over = route.next_hops.iter().any(|hop| hop.link == Some(link.index));
        if over && is_made(&route) {
            undo.push(restore(netlink, &route, &message)?);
        }
    }
    Ok(undo)
}

/// Routes of an earlier reading that are gone now and that the kernel does not make itself.
pub(super) fn lost_since(netlink: &mut Netlink, before: Vec<(Route, Vec<u8>)>) -> Result<Vec<Undo>> {
    let now = raw_routes(netlink)?;
    let gone = |route: &Route| !now.iter().any(|(other, _)| same(other, route));
    let lost: Vec<_> = before.into_iter().filter(|(route, _)| is_made(route) && gone(route)).collect();
    lost.iter().map(|(route, message)| restore(netlink, route, message)).collect()
}

/// True unless the kernel made the route itself (RTPROT_KERNEL, RTPROT_RA, redirects).
fn is_made(route: &Route) -> bool {
    !matches!(route.protocol, libc::RTPROT_KERNEL | libc::RTPROT_REDIRECT | 9)
}

/// The way back to a route. Flags that describe a state (dead, linkdown) would be refused in a new route.
fn restore(netlink: &mut Netlink, route: &Route, message: &[u8]) -> Result<Undo> {
    let mut message = message.to_vec();
    if let Some(flags) = message.get(FLAGS..).and_then(parse_u32) {
        message.splice(FLAGS..FLAGS + 4, (flags & ONLINK).to_ne_bytes());
    }
    let index = route.next_hops.first().filter(|_| route.next_hops.len() == 1).and_then(|hop| hop.link);
    let links = link::read(netlink)?;
    let dev = links.into_iter().map(|found| found.link).find(|l| Some(l.index) == index).map(|l| l.name);
    Ok(Undo::raw(Action::RouteAdd(RouteSpec { route: route.clone(), dev }), &message))
}
