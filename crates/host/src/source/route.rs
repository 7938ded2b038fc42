//! Routes of all tables: RTM_GETROUTE.

use crate::error::Result;
use crate::sys::attributes::{Attributes, flags, ip};
use crate::sys::netlink::Netlink;
use netlink_bindings::rt_route;
use netlink_bindings::utils::{parse_u16, parse_u32};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use whydrop_model::snapshot::{NextHop, Route};
use whydrop_model::text;

/// Length of struct rtmsg.
const HEADER: usize = 12;
/// Length of struct rtnexthop.
const NEXT_HOP: usize = 8;

const RTAX_MTU: u16 = 2;

/// RTN_* (include/uapi/linux/rtnetlink.h).
const KINDS: [&str; 12] = [
    "unspec",
    "unicast",
    "local",
    "broadcast",
    "anycast",
    "multicast",
    "blackhole",
    "unreachable",
    "prohibit",
    "throw",
    "nat",
    "xresolve",
];

/// RTNH_F_*.
const FLAGS: [(u32, &str); 7] = [
    (1, "dead"),
    (2, "pervasive"),
    (4, "onlink"),
    (8, "offload"),
    (16, "linkdown"),
    (32, "unresolved"),
    (64, "trap"),
];

/// Routes of all tables, IPv4 then IPv6, in the kernel's order; and the exceptions from them that were learned (path MTUs
/// and redirects, `ip route show cache`), which the same dump has from 5.3 on. Needs no privilege.
pub fn read(route: &mut Netlink) -> Result<(Vec<Route>, Vec<Route>)> {
    let (mut routes, mut exceptions) = (Vec::new(), Vec::new());
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let header = rt_route::Rtmsg { rtm_family: family, ..Default::default() };
        let request = rt_route::Request::new().op_getroute_dump(&header);
        let all = route.dump(text!("the routes", "路由"), &request, |message| either(message, family))?;
        for (learned, entry) in all {
            if learned { exceptions.push(entry) } else { routes.push(entry) }
        }
    }
    Ok((routes, exceptions))
}

/// None for a route of another family and for an exception.
pub(crate) fn parse(message: &[u8], family: u8) -> Option<Route> {
    either(message, family).and_then(|(learned, route)| (!learned).then_some(route))
}

/// A route, and whether it is an exception; none for one of another family (a kernel without IPv6 answers with those of
/// IPv4).
fn either(message: &[u8], family: u8) -> Option<(bool, Route)> {
    let [its_family, prefix, _, _, short_table, protocol, scope, kind] = *message.first_chunk()?;
    let bits = parse_u32(message.get(8..)?)?;
    if its_family != family {
        return None;
    }
    let attributes = Attributes::after(message, HEADER)?;
    let any: IpAddr = match i32::from(family) {
        libc::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    };
    let word = KINDS.get(usize::from(kind));
    let route = Route {
        destination: match attributes.bytes(libc::RTA_DST) {
            Some(bytes) => ip(bytes)?,
            None => any,
        },
        prefix,
        kind: word.map_or_else(|| format!("type {kind}"), |w| (*w).to_owned()),
        table: attributes.u32(libc::RTA_TABLE).unwrap_or(u32::from(short_table)),
        // The kernel leaves out a metric of 0.
        metric: attributes.u32(libc::RTA_PRIORITY).unwrap_or(0),
        next_hops: match kind {
            libc::RTN_BLACKHOLE | libc::RTN_UNREACHABLE | libc::RTN_PROHIBIT | libc::RTN_THROW => Vec::new(),
            _ => next_hops(attributes, bits),
        },
        source: attributes.ip(libc::RTA_PREFSRC),
        mtu: attributes.nested(libc::RTA_METRICS).and_then(|m| m.u32(RTAX_MTU)),
        protocol,
        scope,
    };
    Some((bits & libc::RTM_F_CLONED != 0, route))
}

/// The number of a route's type, RTN_*.
pub(crate) fn kind_number(word: &str) -> Option<u8> {
    KINDS.iter().position(|known| *known == word).and_then(|number| u8::try_from(number).ok())
}

fn next_hops(attributes: Attributes<'_>, bits: u32) -> Vec<NextHop> {
    match attributes.bytes(libc::RTA_MULTIPATH) {
        Some(hops) => multipath(hops),
        None => vec![NextHop {
            gateway: gateway(attributes),
            link: attributes.u32(libc::RTA_OIF),
            weight: 1,
            flags: flags(bits & 0xff, &FLAGS),
        }],
    }
}

fn multipath(mut hops: &[u8]) -> Vec<NextHop> {
    let mut out = Vec::new();
    while let Some((hop, length)) = next_hop(hops) {
        out.push(hop);
        hops = hops.get(length..).unwrap_or(&[]);
    }
    out
}

/// One struct rtnexthop with its attributes, and the offset of the next.
fn next_hop(bytes: &[u8]) -> Option<(NextHop, usize)> {
    let length = usize::from(parse_u16(bytes)?);
    let hop = bytes.get(..length)?;
    let bits = *hop.get(2)?;
    let weight = u32::from(*hop.get(3)?) + 1;
    let link = parse_u32(hop.get(4..)?)?;
    let attributes = Attributes::after(hop, NEXT_HOP)?;
    let hop = NextHop {
        gateway: gateway(attributes),
        link: Some(link),
        weight,
        flags: flags(u32::from(bits), &FLAGS),
    };
    Some((hop, length.next_multiple_of(4)))
}

/// include/uapi/linux/rtnetlink.h; libc has it for glibc only.
const RTA_VIA: u16 = 18;

/// RTA_GATEWAY, or RTA_VIA: the gateway of another family than the route's (IPv4 over an IPv6 next hop).
fn gateway(attributes: Attributes<'_>) -> Option<IpAddr> {
    attributes.ip(libc::RTA_GATEWAY).or_else(|| ip(attributes.bytes(RTA_VIA)?.get(2..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    fn message(kind: u8, prefix: u8, bits: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = vec![2, prefix, 0, 0, 254, 3, 0, kind];
        out.extend(bits.to_ne_bytes());
        for (kind, value) in attributes {
            out.extend(attribute(*kind, value));
        }
        out
    }

    #[test]
    fn a_default_route_with_an_mtu() {
        let metrics = attribute(RTAX_MTU, &1400u32.to_ne_bytes());
        let bytes = message(
            libc::RTN_UNICAST,
            0,
            16,
            &[
                (libc::RTA_GATEWAY, &[10, 0, 0, 1]),
                (libc::RTA_OIF, &3u32.to_ne_bytes()),
                (libc::RTA_PRIORITY, &100u32.to_ne_bytes()),
                (libc::RTA_TABLE, &1000u32.to_ne_bytes()),
                (libc::RTA_METRICS, &metrics),
            ],
        );
        let route = parse(&bytes, 2).unwrap();
        assert_eq!((route.destination.to_string().as_str(), route.prefix), ("0.0.0.0", 0));
        assert_eq!((route.table, route.metric, route.mtu), (1000, 100, Some(1400)));
        assert_eq!(route.next_hops.len(), 1);
        assert_eq!(route.next_hops.first().unwrap().flags, ["linkdown"]);
        assert_eq!(parse(&bytes, 10), None, "not of the family that was asked for");
        torture(&bytes, |b| parse(b, 2));
    }

    #[test]
    fn a_redirect_is_an_exception_and_no_route() {
        let bits = libc::RTM_F_CLONED | 0x0004_0000;
        let bytes = message(
            libc::RTN_UNICAST,
            32,
            bits,
            &[
                (libc::RTA_DST, &[10, 9, 0, 1]),
                (libc::RTA_GATEWAY, &[10, 0, 0, 66]),
                (libc::RTA_OIF, &2u32.to_ne_bytes()),
                (libc::RTA_TABLE, &254u32.to_ne_bytes()),
            ],
        );
        assert_eq!(parse(&bytes, 2), None);
        let (learned, route) = either(&bytes, 2).unwrap();
        assert!(learned);
        let gateways: Vec<_> = route.next_hops.iter().map(|hop| hop.gateway.unwrap().to_string()).collect();
        assert_eq!((route.prefix, route.table, gateways), (32, 254, vec!["10.0.0.66".to_owned()]));
        torture(&bytes, |b| either(b, 2));
    }

    #[test]
    fn two_next_hops_one_of_them_by_ipv6() {
        let hop = |weight: u8, attribute: Vec<u8>| {
            let mut out = u16::try_from(NEXT_HOP + attribute.len()).unwrap().to_ne_bytes().to_vec();
            out.extend([1, weight - 1]);
            out.extend(9u32.to_ne_bytes());
            out.extend(attribute);
            out
        };
        let mut via = 10u16.to_ne_bytes().to_vec();
        via.extend(Ipv6Addr::LOCALHOST.octets());
        let mut hops = hop(1, attribute(libc::RTA_GATEWAY, &[10, 0, 0, 1]));
        hops.extend(hop(20, attribute(libc::RTA_VIA, &via)));
        let bytes = message(libc::RTN_UNICAST, 0, 0, &[(libc::RTA_MULTIPATH, &hops)]);
        let read = parse(&bytes, 2).unwrap().next_hops;
        let seen: Vec<_> = read.iter().map(|h| (h.gateway.unwrap().to_string(), h.weight)).collect();
        assert_eq!(seen, [("10.0.0.1".to_owned(), 1), ("::1".to_owned(), 20)]);
        assert!(read.iter().all(|h| h.flags == ["dead"] && h.link == Some(9)));
        torture(&bytes, |b| parse(b, 2));
    }

    #[test]
    fn a_blackhole_has_no_next_hop_and_an_exception_is_no_route() {
        let dst: (u16, &[u8]) = (libc::RTA_DST, &[192, 0, 2, 0]);
        let bytes = message(libc::RTN_BLACKHOLE, 24, 0, &[dst, (libc::RTA_OIF, &1u32.to_ne_bytes())]);
        let route = parse(&bytes, 2).unwrap();
        assert_eq!((route.kind.as_str(), route.next_hops.len()), ("blackhole", 0));
        let cached = message(libc::RTN_UNICAST, 32, libc::RTM_F_CLONED, &[dst]);
        assert_eq!(parse(&cached, 2), None);
    }
}
