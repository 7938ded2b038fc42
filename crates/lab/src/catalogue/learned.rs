//! Ways that were learned from others: by a redirect, by a routing program.

use super::tool;
use crate::fault::{Change, Fault};
use crate::service::Service;
use crate::site::{Place, Topology};
use crate::traffic::Traffic;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use whydrop_model::text;

/// Behind the server, out of the network that the stations share.
const BEHIND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 79, 0, 2));
/// The server's address for its neighbours.
const SPEAKER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 20));
/// BGP.
const BGP: u16 = 179;

pub(super) fn faults() -> Vec<Fault> {
    vec![redirected(), daemon_down()]
}

/// The other station is the client's router and says that 10.77.0.9, an address of the server, is nearer. That address
/// goes, and the router knows the new one: the client does not.
fn redirected() -> Fault {
    let other = |argv, undo| tool(Place::Other, argv, undo);
    let server = |argv, undo| tool(Place::Server, argv, undo);
    let mut fault = Fault::new(
        "route.redirected",
        text!("the next hop that a redirect taught the client is gone", "客户端由重定向学到的下一跳已不存在"),
        Topology::Stations,
        vec!["tcp://10.79.0.2:80"],
    )
    .prepares(vec![
        server(&["ip", "addr", "add", "10.77.0.9/24", "dev", "eth0"], &[]),
        server(&["ip", "addr", "add", "10.79.0.2/32", "dev", "lo"], &[]),
        server(&["ip", "route", "add", "10.77.0.1", "dev", "eth0", "src", "10.79.0.2"], &[]),
        other(&["sysctl", "-qw", "net.ipv4.ip_forward=1"], &[]),
        other(&["ip", "route", "add", "10.79.0.0/24", "via", "10.77.0.9"], &[]),
        tool(
            Place::Client,
            &[
                "sysctl",
                "-qw",
                "net.ipv4.conf.all.accept_redirects=1",
                "net.ipv4.conf.eth0.accept_redirects=1",
            ],
            &[],
        ),
        tool(Place::Client, &["ip", "route", "add", "10.79.0.0/24", "via", "10.77.0.3"], &[]),
    ])
    .breaks(
        vec![
            server(
                &["ip", "addr", "del", "10.77.0.9/24", "dev", "eth0"],
                &["ip", "addr", "add", "10.77.0.9/24", "dev", "eth0"],
            ),
            other(
                &["ip", "route", "replace", "10.79.0.0/24", "via", "10.77.0.2"],
                &["ip", "route", "replace", "10.79.0.0/24", "via", "10.77.0.9"],
            ),
            tool(Place::Client, &["ip", "neigh", "flush", "dev", "eth0"], &["true"]),
        ],
        &["route.redirected"],
    );
    // A TCP socket of this machine is busy when the redirect comes; one of UDP takes it.
    let asks = Traffic::Asks { to: SocketAddr::new(BEHIND, 9000), per_second: 10 };
    fault.services.push(Service::Echo { port: 9000 });
    fault.traffic = vec![asks, Traffic::web(BEHIND, 5)];
    fault.target = Place::Client;
    fault
}

/// The server learns by BGP where the client's second address is. Its BGP speaker ends, and the route goes with it.
fn daemon_down() -> Fault {
    let page = |port| Service::Page { ip: Ipv4Addr::UNSPECIFIED.into(), port, bytes: 100 };
    let mut fault = Fault::pair(
        "route.daemon_down",
        text!(
            "the server's BGP speaker ended, and its route to the client with it",
            "服务器的 BGP 程序已退出，其到客户端的路由随之消失"
        ),
    )
    .prepares(vec![
        tool(Place::Client, &["ip", "addr", "add", "10.79.0.1/32", "dev", "lo"], &[]),
        tool(Place::Client, &["ip", "route", "add", "10.77.0.2", "dev", "eth0", "src", "10.79.0.1"], &[]),
        tool(Place::Server, &["ip", "addr", "add", "10.77.0.20/24", "dev", "eth0"], &[]),
        tool(Place::Server, &["ip", "route", "add", "10.79.0.1", "via", "10.77.0.1", "proto", "bgp"], &[]),
    ])
    .breaks(
        vec![
            Change::Serve(vec![page(80)]),
            tool(
                Place::Server,
                &["ip", "route", "del", "10.79.0.1", "via", "10.77.0.1"],
                &["ip", "route", "add", "10.79.0.1", "via", "10.77.0.1", "proto", "bgp"],
            ),
        ],
        &["route.daemon_down"],
    );
    fault.services = vec![page(80), page(BGP)];
    let speaks = Traffic::Requests {
        to: SocketAddr::new(SPEAKER, BGP),
        per_second: 5,
        manner: crate::traffic::Manner::Reads,
    };
    fault.traffic.push(speaks);
    fault
}
