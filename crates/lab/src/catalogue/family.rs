//! Two families of addresses: what is right for one leaves the other out.

use super::tool;
use crate::fault::{BOTH, Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::Place;
use crate::traffic::Traffic;
use std::net::{IpAddr, Ipv6Addr};
use whydrop_model::text;

const SERVER: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2));
const ACCEPT_WEB: [&str; 9] = ["ip6tables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "ACCEPT"];

/// Addresses of the second family beside those of the topology.
fn addresses() -> Vec<Change> {
    vec![
        tool(Place::Client, &["ip", "addr", "add", "fd77::1/64", "dev", "eth0", "nodad"], &[]),
        tool(Place::Server, &["ip", "addr", "add", "fd77::2/64", "dev", "eth0", "nodad"], &[]),
    ]
}

pub(super) fn faults() -> Vec<Fault> {
    let everywhere = Service::Page { ip: Ipv6Addr::UNSPECIFIED.into(), port: 80, bytes: 8192 };
    let mut own = Fault::pair(
        "app.bound_wrong_family",
        text!(
            "the web server listens on IPv4 only; its neighbour asks ::1",
            "Web 服务器只监听 IPv4，而本机程序访问 ::1"
        ),
    )
    .breaks(vec![Change::Serve(vec![Service::page(8192)])], &["app.bound_wrong_family"])
    .asked(&[BOTH, &[Place::Server]]);
    own.services = vec![everywhere.clone()];
    own.sender = Place::Server;
    own.traffic = vec![Traffic::web(Ipv6Addr::LOCALHOST, 10)];
    own.probes = vec!["tcp://[::1]:80"];

    let mut other = Fault::pair(
        "app.bound_wrong_family/remote",
        text!(
            "the web server listens on IPv4 only; the client asks by IPv6",
            "Web 服务器只监听 IPv4，而客户端使用 IPv6"
        ),
    )
    .needs(&[Need::Commands(&[&["ip", "addr", "add", "fd77::1/64", "dev", "lo"]])])
    .prepares(addresses())
    .breaks(vec![Change::Serve(vec![Service::page(8192)])], &["app.bound_wrong_family"]);
    other.services = vec![everywhere.clone()];
    other.traffic = vec![Traffic::web(SERVER, 10)];
    other.probes = vec!["tcp://[fd77::2]:80"];

    let mut deaf = Fault::pair(
        "netfilter.drop_policy/icmpv6",
        text!(
            "the policy of an IPv6 chain drops neighbour discovery, too",
            "IPv6 链的默认策略把邻居发现也丢弃了"
        ),
    )
    .needs(&[Need::Commands(&[&ACCEPT_WEB])])
    .prepares(addresses())
    .breaks(
        vec![
            Change::Traffic(vec![]),
            tool(Place::Server, &ACCEPT_WEB, &["ip6tables-nft", "-F", "INPUT"]),
            tool(
                Place::Server,
                &["ip6tables-nft", "-P", "INPUT", "DROP"],
                &["ip6tables-nft", "-P", "INPUT", "ACCEPT"],
            ),
            // Forgotten, as after a while without traffic.
            tool(Place::Server, &["ip", "-6", "neigh", "flush", "dev", "eth0"], &[]),
            tool(Place::Client, &["ip", "-6", "neigh", "flush", "dev", "eth0"], &[]),
            Change::Traffic(vec![Traffic::web(SERVER, 10)]),
        ],
        &["netfilter.drop_policy"],
    );
    deaf.services = vec![everywhere];
    deaf.lingers = true;
    deaf.traffic = vec![Traffic::web(SERVER, 10)];
    deaf.probes = vec!["tcp://[fd77::2]:80"];
    vec![own, other, deaf]
}
