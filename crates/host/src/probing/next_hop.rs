//! Whether the kernel chooses the route to an address anew for every connection.
//!
//! A raw packet is routed without ports (net/ipv4/raw.c:raw_sendmsg leaves them 0 in the flow), a connection with them.
//! With several next hops (net.ipv4.fib_multipath_hash_policy=1), or a routing rule for a port, raw SYNs would all
//! take one way, and perhaps one that no program takes.

use super::packets::Way;
use super::wire::Tap;
use crate::source::route;
use crate::sys::netlink::Netlink;
use std::io;
use std::net::{IpAddr, SocketAddr};
use whydrop_model::snapshot::Route;
use whydrop_model::{Phrase, text};
use whydrop_probe::ProbeSpec;
use whydrop_probe::wire::protocol;

/// RTM_F_FIB_MATCH: the route as it was configured, not the choice made from it.
const FIB_MATCH: u32 = 0x2000;
/// RTA_IP_PROTO and RTA_DPORT (Linux 4.17).
const IP_PROTO: u16 = 27;
const DPORT: u16 = 29;

/// True if probes of `spec` may not go the way of connections. What cannot be asked (no route: the send fails and says
/// so) is not assumed.
pub fn by_port(spec: &ProbeSpec, remote: SocketAddr) -> bool {
    // A socket that is bound to an interface has no choice between interfaces.
    spec.interface.is_none() && matches!(depends_on_ports(remote), Ok(true))
}

/// Makes a raw socket send from one address: else the kernel, which routes its packets without ports, could choose
/// another than their checksum is made for.
pub fn keep_source(raw: &Tap, remote: SocketAddr) -> io::Result<()> {
    match Way::raw(remote).source() {
        Ok(source) => raw.socket().bind(&SocketAddr::new(source, 0).into()),
        // No route: the send says so.
        Err(_) => Ok(()),
    }
}

/// What [`by_port`] means for probes that are sent as raw packets all the same.
pub fn one_of_several() -> Phrase {
    text!(
        "this machine routes every connection to that address by its ports (several next hops, or a routing rule); these probes all leave by one of them",
        "本机按端口为每个连接选择到该地址的路由（多个下一跳或路由规则）；这些探测都走其中一条"
    )
    .phrase()
}

/// True if connections to `remote` from the namespace of the calling thread may take different next hops, or others
/// than packets without ports take. An error of the kernel, as when there is no route at all.
fn depends_on_ports(remote: SocketAddr) -> io::Result<bool> {
    let mut netlink = Netlink::route().map_err(io::Error::other)?;
    let [without, with] = [None, Some(remote.port())].map(|port| route_to(&mut netlink, remote, port));
    let with = with?;
    let several = |route: &Route| {
        let alive = |flags: &[String]| !flags.iter().any(|f| f == "dead" || f == "linkdown");
        route.next_hops.iter().filter(|hop| alive(&hop.flags)).count() > 1
    };
    Ok(with.as_ref().is_some_and(several) || without.ok() != Some(with))
}

/// The route of TCP packets to an address, and to one of its ports.
fn route_to(netlink: &mut Netlink, remote: SocketAddr, port: Option<u16>) -> io::Result<Option<Route>> {
    let (family, address) = match remote.ip() {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    };
    // struct rtmsg: family, destination's length in bits, then zeros, and flags at the end.
    let mut request = vec![family, address.len() as u8 * 8, 0, 0, 0, 0, 0, 0];
    request.extend(FIB_MATCH.to_ne_bytes());
    attribute(&mut request, libc::RTA_DST, &address);
    attribute(&mut request, IP_PROTO, &[protocol::TCP]);
    if let Some(port) = port {
        attribute(&mut request, DPORT, &port.to_be_bytes());
    }
    if let SocketAddr::V6(v6) = remote
        && v6.scope_id() != 0
    {
        attribute(&mut request, libc::RTA_OIF, &v6.scope_id().to_ne_bytes());
    }
    netlink.get_raw(libc::RTM_GETROUTE, &request, |reply| route::parse(reply, family))
}

fn attribute(request: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = 4 + value.len();
    request.extend((length as u16).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(value);
    request.resize(request.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_one_way() {
        for address in ["127.0.0.1:80", "[::1]:80"] {
            let answer = depends_on_ports(address.parse().expect("an address"));
            assert!(!answer.expect("a route"), "{address}");
        }
    }
}
