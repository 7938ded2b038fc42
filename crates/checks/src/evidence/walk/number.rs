//! Numbers of a packet: those that are known, and those that the rest of it implies.

use super::super::packet::{Fit, State};
use super::fit::View;
use std::net::IpAddr;
use whydrop_model::Snapshot;
use whydrop_model::netfilter::{Field, Hook};

/// IPPROTO_TCP, IPPROTO_ICMP, IPPROTO_ICMPV6.
const TCP: u8 = 6;
const ICMP: [u8; 2] = [1, 58];

/// Flags of the first packet of a connection: SYN.
const OPENING: [u32; 1] = [0x02];
/// Flags that later packets of a connection have: ACK, PSH ACK, FIN ACK, FIN PSH ACK, RST, RST ACK.
const LATER: [u32; 6] = [0x10, 0x18, 0x11, 0x19, 0x04, 0x14];
/// Those of answers: SYN ACK, too.
const ANSWERS: [u32; 7] = [0x12, 0x10, 0x18, 0x11, 0x19, 0x04, 0x14];

/// `RTN_UNICAST` and so on.
const UNICAST: u32 = 1;
const LOCAL: u32 = 2;
const BROADCAST: u32 = 3;
const MULTICAST: u32 = 5;
/// Types that a look-up for an IPv6 address may give, beside local and multicast: unicast, anycast, blackhole,
/// unreachable, prohibit (`nft_fib6_eval_type`, xt_addrtype's `match_lookup_rt6`).
const OTHER_V6: [u32; 5] = [1, 4, 6, 7, 8];

/// RT_TABLE_LOCAL.
const LOCAL_TABLE: u32 = 255;

/// Does the number of this field fit? `Maybe` if it is not known, and its possible values differ.
pub(super) fn fits(view: &View<'_, '_>, field: Field, accepts: impl Fn(u32) -> bool) -> Fit {
    let packet = view.packet;
    let all = |values: &[u32]| match values.iter().filter(|n| accepts(**n)).count() {
        0 => Fit::No,
        n if n == values.len() => Fit::Yes,
        _ => Fit::Maybe,
    };
    let one = |value: Option<u32>| value.map_or(Fit::Maybe, |n| Fit::sure(accepts(n)));
    let known = packet.fields.get(&field).copied();
    match field {
        Field::TcpFlags | Field::TcpMss if packet.protocol != TCP && packet.protocol != 0 => Fit::No,
        Field::IcmpType | Field::IcmpCode if !ICMP.contains(&packet.protocol) && packet.protocol != 0 => {
            Fit::No
        }
        Field::TcpFlags if known.is_none() && packet.protocol == TCP => match packet.tracked() {
            State::New => all(&OPENING),
            State::Established if packet.reply => all(&ANSWERS),
            State::Established => all(&LATER),
            _ => Fit::Maybe,
        },
        Field::NetworkProtocol => one(known.or(packet.is_v6().map(|v6| if v6 { 10 } else { 2 }))),
        Field::EtherType => one(known.or(packet.is_v6().map(|v6| if v6 { 0x86dd } else { 0x0800 }))),
        Field::CtDirection => match view.tracking() {
            State::New | State::Established => one(known.or(Some(u32::from(packet.reply)))),
            _ => one(known),
        },
        // Without a connection there is nothing to compare.
        Field::CtMark | Field::CtStatus
            if matches!(view.tracking(), State::Invalid | State::Untracked | State::Unclear) =>
        {
            Fit::Maybe
        }
        Field::SourceType => all(&types(view.snapshot, packet.source)),
        Field::DestinationType => all(&types(view.snapshot, packet.destination)),
        Field::InIndex | Field::OutIndex => one(view.index(field)),
        Field::Uid | Field::Gid if view.hook == Some(Hook::Forward) => Fit::Maybe,
        _ => one(known),
    }
}

/// Types that an address may have here; all of them if that cannot be told.
fn types(snapshot: &Snapshot, ip: Option<IpAddr>) -> Vec<u32> {
    let anything = || (0..=8).collect();
    let Some(ip) = ip else { return anything() };
    let fixed = match ip {
        IpAddr::V4(ip) if ip.is_multicast() => Some(MULTICAST),
        // `inet_addr_type`: all of 0.0.0.0/8, and the limited broadcast.
        IpAddr::V4(ip) if ip.octets()[0] == 0 || ip.is_broadcast() => Some(BROADCAST),
        IpAddr::V6(ip) if ip.is_multicast() => Some(MULTICAST),
        _ if ip.is_loopback() || snapshot.owns(ip) => Some(LOCAL),
        _ => None,
    };
    if let Some(fixed) = fixed {
        return vec![fixed];
    }
    let Some(routes) = snapshot.routes.get().filter(|_| snapshot.addresses.is_present()) else {
        return anything();
    };
    let mut local: Vec<_> = routes
        .iter()
        .filter(|route| route.table == LOCAL_TABLE)
        .filter(|route| crate::evidence::route::contains(route.destination, route.prefix, ip))
        .collect();
    local.sort_by_key(|route| std::cmp::Reverse(route.prefix));
    match local.first().map(|route| route.kind.as_str()) {
        Some("local") => vec![LOCAL],
        Some("broadcast") => vec![BROADCAST],
        Some(_) => anything(),
        None if ip.is_ipv6() => OTHER_V6.to_vec(),
        None => vec![UNICAST],
    }
}
