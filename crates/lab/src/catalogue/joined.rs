//! Two ends that are in view and do not meet: macvlan and its lower device, tunnels, a moved address, a group joined on
//! another interface.

use super::tool;
use crate::fault::{BOTH, Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::{Place, Topology};
use crate::traffic::Traffic;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use whydrop_model::text;

const MACVLAN: Need = Need::Commands(&[
    &["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1"],
    &["ip", "link", "add", "link", "eth0", "name", "mv0", "type", "macvlan", "mode", "bridge"],
]);
const VXLAN: Need =
    Need::Commands(&[&["ip", "link", "add", "vx0", "type", "vxlan", "id", "42", "dstport", "8472"]]);
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 0, 1);
const MOVED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);

pub(super) fn faults() -> Vec<Fault> {
    vec![below(), overlay(), moved(), group()]
}

/// The client's address moves from its macvlan down to the device below, which macvlans do not talk to.
fn below() -> Fault {
    let at = Place::Client;
    let macvlan = |argv| tool(at, argv, &[]);
    Fault::new(
        "macvlan.mode_isolation",
        text!(
            "the server's eth0 is a macvlan over the very interface that the client asks by",
            "服务器的 eth0 是 macvlan，其下层设备正是客户端所用的接口"
        ),
        Topology::Hosted,
        vec!["tcp://10.77.0.2:80"],
    )
    .needs(&[MACVLAN])
    .prepares(vec![
        macvlan(&["ip", "link", "add", "link", "eth0", "name", "mv0", "type", "macvlan", "mode", "bridge"]),
        macvlan(&["ip", "addr", "add", "10.77.0.1/24", "dev", "mv0"]),
        macvlan(&["ip", "link", "set", "mv0", "up"]),
        macvlan(&["ip", "link", "add", "link", "eth0", "name", "mv1", "type", "macvlan", "mode", "bridge"]),
        macvlan(&["ip", "link", "set", "mv1", "netns", "{server}", "name", "eth0"]),
        tool(Place::Server, &["ip", "addr", "add", "10.77.0.2/24", "dev", "eth0"], &[]),
        tool(Place::Server, &["ip", "link", "set", "eth0", "up"], &[]),
    ])
    .breaks(
        vec![
            tool(
                at,
                &["ip", "addr", "del", "10.77.0.1/24", "dev", "mv0"],
                &["ip", "addr", "add", "10.77.0.1/24", "dev", "mv0"],
            ),
            tool(
                at,
                &["ip", "addr", "add", "10.77.0.1/24", "dev", "eth0"],
                &["ip", "addr", "del", "10.77.0.1/24", "dev", "eth0"],
            ),
        ],
        &["macvlan.mode_isolation"],
    )
    // From below nothing shows that there is somebody above.
    .asked(&[BOTH, &[Place::Server]])
}

const CLIENT_MAC: &str = "02:00:00:00:79:01";
const SERVER_MAC: &str = "02:00:00:00:79:02";
const OVERLAY: [&[&str]; 6] = [
    &end("10.77.0.2", "8472", CLIENT_MAC),
    &["ip", "addr", "add", "10.79.0.1/24", "dev", "vx0"],
    &["ip", "link", "set", "vx0", "up"],
    &end("10.77.0.1", "8472", SERVER_MAC),
    &["ip", "addr", "add", "10.79.0.2/24", "dev", "vx0"],
    &end("10.77.0.1", "4789", SERVER_MAC),
];

/// With a MAC of its own, so that the end that is made anew is known by its neighbour.
const fn end(remote: &'static str, port: &'static str, mac: &'static str) -> [&'static str; 14] {
    [
        "ip", "link", "add", "vx0", "address", mac, "type", "vxlan", "id", "42", "remote", remote, "dstport",
        port,
    ]
}

/// The server's end is made anew with the port of the standard instead of Linux's old one.
fn overlay() -> Fault {
    let [client, client_address, up, server, address, wrong] = OVERLAY;
    let delete: &[&str] = &["ip", "link", "del", "vx0"];
    let mut fault = Fault::pair(
        "tunnel.port_mismatch",
        text!("the two ends of a VXLAN tunnel use different ports", "VXLAN 隧道两端使用的端口不同"),
    )
    .needs(&[VXLAN])
    .prepares(vec![
        tool(Place::Client, client, &[]),
        tool(Place::Client, client_address, &[]),
        tool(Place::Client, up, &[]),
        tool(Place::Server, server, &[]),
        tool(Place::Server, address, &[]),
        tool(Place::Server, up, &[]),
    ])
    .breaks(
        vec![
            tool(Place::Server, delete, up),
            tool(Place::Server, wrong, address),
            tool(Place::Server, address, server),
            tool(Place::Server, up, delete),
        ],
        &["tunnel.port_mismatch"],
    );
    fault.traffic = vec![Traffic::web(Ipv4Addr::new(10, 79, 0, 2), 10)];
    fault.probes = vec!["tcp://10.79.0.2:80"];
    fault
}

/// An address moves to another station, and nobody tells the client.
fn moved() -> Fault {
    let mut fault = Fault::new(
        "neigh.wrong_lladdr",
        text!(
            "the server's second address moves to another station; the client still has the old MAC",
            "服务器的第二个地址移到了另一台主机，客户端仍保留旧的 MAC"
        ),
        Topology::Stations,
        vec!["tcp://10.77.0.100:80"],
    )
    .prepares(vec![
        tool(Place::Server, &["ip", "addr", "add", "10.77.0.100/24", "dev", "eth0"], &[]),
        // It would send on what is no longer meant for it, where forwarding is inherited from the machine.
        tool(Place::Server, &["sysctl", "-qw", "net.ipv4.ip_forward=0"], &[]),
        tool(Place::Client, &["sysctl", "-qw", "net.ipv4.neigh.eth0.base_reachable_time_ms=600000"], &[]),
    ])
    .breaks(
        vec![
            // Known anew by what the requests find, should it have been broken before.
            tool(Place::Client, &["ip", "neigh", "flush", "dev", "eth0"], &[]),
            Change::Send(Traffic::web(MOVED, 10), Duration::from_millis(500)),
            tool(
                Place::Server,
                &["ip", "addr", "del", "10.77.0.100/24", "dev", "eth0"],
                &["ip", "addr", "add", "10.77.0.100/24", "dev", "eth0"],
            ),
            tool(
                Place::Other,
                &["ip", "addr", "add", "10.77.0.100/24", "dev", "eth0"],
                &["ip", "addr", "del", "10.77.0.100/24", "dev", "eth0"],
            ),
        ],
        &["neigh.wrong_lladdr"],
    )
    .asked(&[BOTH, &[Place::Client], &[Place::Other]]);
    fault.other_services = vec![Service::page(8192)];
    fault.traffic = vec![Traffic::web(MOVED, 10)];
    fault.lingers = true;
    fault.target = Place::Client;
    fault
}

/// The group's datagrams come on the other interface.
fn group() -> Fault {
    let member = |on| Service::Member { group: GROUP, on, port: 9000 };
    let mut fault = Fault::new(
        "mcast.joined_elsewhere",
        text!(
            "the receiver joined its group on eth1, but the datagrams come on eth0",
            "接收者在 eth1 上加入组播组，而数据报从 eth0 到达"
        ),
        Topology::TwoLinks,
        vec![],
    )
    .prepares(vec![tool(Place::Client, &["ip", "route", "add", "239.0.0.0/8", "dev", "eth0"], &[])])
    .breaks(
        vec![Change::Serve(vec![Service::page(8192), member(Ipv4Addr::new(10, 78, 0, 2))])],
        &["mcast.joined_elsewhere"],
    )
    .asked(&[BOTH, &[Place::Server]]);
    fault.services.push(member(Topology::TwoLinks.server()));
    fault.traffic.push(Traffic::Datagrams {
        from: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        to: SocketAddr::new(GROUP.into(), 9000),
        per_second: 50,
        bytes: 100,
    });
    fault
}
