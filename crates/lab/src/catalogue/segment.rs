//! Stations of one network that do not find each other: two with one address, an entry that leads elsewhere, a port
//! without its bridge, a tunnel whose ends do not agree.

use super::tool;
use crate::fault::{BOTH, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::{Place, Topology};
use crate::traffic::Traffic;
use std::net::Ipv4Addr;
use whydrop_model::{Text, text};

const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
const OVERLAY: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 2);
const VXLAN: Need =
    Need::Commands(&[&["ip", "link", "add", "vx0", "type", "vxlan", "id", "42", "dstport", "8472"]]);
/// Locally administered addresses that the faults name.
const CLIENT_MAC: &str = "02:00:00:00:77:01";
const SERVER_MAC: &str = "02:00:00:00:77:02";
const OTHER_MAC: &str = "02:00:00:00:77:03";
const NOBODY_MAC: &str = "02:00:00:00:77:99";

pub(super) fn faults() -> Vec<Fault> {
    vec![
        bridge_off(),
        loose_port(),
        flapping(),
        duplicate_mac(),
        duplicate_ip(),
        wrong_port(),
        fixed_neighbour(),
        ids(),
        remote(),
        station(),
    ]
}

/// The switch's bridge itself is switched off: its ports look disabled.
fn bridge_off() -> Fault {
    Fault::switched(
        "link.admin_down/bridge",
        text!("the switch's bridge is switched off", "交换机的网桥被关闭"),
    )
    .breaks(
        vec![tool(Place::Router, &["ip", "link", "set", "br0", "down"], &["ip", "link", "set", "br0", "up"])],
        &["link.admin_down"],
    )
    .asked(&[BOTH, &[Place::Router]])
}

fn loose_port() -> Fault {
    Fault::switched(
        "link.detached/port",
        text!("the switch's port to the server left its bridge", "交换机通往服务器的端口脱离了网桥"),
    )
    .breaks(
        vec![tool(
            Place::Router,
            &["ip", "link", "set", "eth1", "nomaster"],
            &["ip", "link", "set", "eth1", "master", "br0"],
        )],
        &["link.detached"],
    )
}

/// Off and on again by a program that ends by itself, should nobody end it.
fn flapping() -> Fault {
    const FLAP: &str = "(for i in $(seq 60); do ip link set eth1 down; sleep 0.2; ip link set eth1 up; sleep 0.7; \
        done) >/dev/null 2>&1 & echo $! >/tmp/{router}.pid";
    const END: &str =
        "kill $(cat /tmp/{router}.pid); rm -f /tmp/{router}.pid; sleep 0.3; ip link set eth1 up";
    Fault::switched(
        "link.flapping",
        text!("the switch's port to the server goes off and on", "交换机通往服务器的端口反复断开与恢复"),
    )
    .breaks(vec![tool(Place::Router, &["sh", "-c", FLAP], &["sh", "-c", END])], &["link.flapping"])
    .asked(&[BOTH, &[Place::Server]])
}

/// Three stations whose addresses are known, with requests to server and other.
fn stations(id: &'static str, title: Text) -> Fault {
    let mut fault = Fault::new(id, title, Topology::Stations, vec!["tcp://10.77.0.2:80"]).prepares(vec![
        tool(Place::Server, &["ip", "link", "set", "eth0", "address", SERVER_MAC], &[]),
        tool(Place::Other, &["ip", "link", "set", "eth0", "address", OTHER_MAC], &[]),
    ]);
    fault.other_services = vec![Service::page(8192)];
    fault.traffic.push(Traffic::web(OTHER, 10));
    fault.target = Place::Router;
    fault
}

fn duplicate_mac() -> Fault {
    stations(
        "l2.duplicate_mac",
        text!("another station has the server's MAC address", "另一台主机使用了服务器的 MAC 地址"),
    )
    .breaks(
        vec![
            tool(
                Place::Other,
                &["ip", "link", "set", "eth0", "address", SERVER_MAC],
                &["ip", "link", "set", "eth0", "address", OTHER_MAC],
            ),
            tool(
                Place::Client,
                &["ip", "neigh", "flush", "dev", "eth0"],
                &["ip", "neigh", "flush", "dev", "eth0"],
            ),
        ],
        &["l2.duplicate_mac"],
    )
    .asked(&[&[Place::Client, Place::Server, Place::Other]])
}

fn duplicate_ip() -> Fault {
    let mut fault = stations(
        "l2.duplicate_ip",
        text!("another station has the server's address, too", "另一台主机也配置了服务器的地址"),
    )
    .breaks(
        vec![
            tool(
                Place::Other,
                &["ip", "addr", "add", "10.77.0.2/24", "dev", "eth0"],
                &["ip", "addr", "del", "10.77.0.2/24", "dev", "eth0"],
            ),
            // Who answered last is believed.
            tool(
                Place::Client,
                &[
                    "ip",
                    "neigh",
                    "replace",
                    "10.77.0.2",
                    "lladdr",
                    OTHER_MAC,
                    "dev",
                    "eth0",
                    "nud",
                    "reachable",
                ],
                &["ip", "neigh", "del", "10.77.0.2", "dev", "eth0"],
            ),
        ],
        &["l2.duplicate_ip"],
    )
    .asked(&[&[Place::Client, Place::Server, Place::Other]]);
    fault.other_services = vec![];
    fault.traffic.pop();
    fault
}

fn wrong_port() -> Fault {
    stations(
        "bridge.fdb_wrong_port",
        text!("a fixed forwarding entry leads to another port", "固定的转发表项指向另一个端口"),
    )
    .breaks(
        vec![tool(
            Place::Router,
            &["bridge", "fdb", "replace", SERVER_MAC, "dev", "eth2", "master", "static", "sticky"],
            &["bridge", "fdb", "del", SERVER_MAC, "dev", "eth2", "master"],
        )],
        &["bridge.fdb_wrong_port"],
    )
    .asked(&[BOTH, &[Place::Router]])
}

fn fixed_neighbour() -> Fault {
    Fault::pair(
        "neigh.wrong_lladdr/fixed",
        text!(
            "the client's entry for the server is fixed, and wrong",
            "客户端为服务器设置了错误的永久邻居项"
        ),
    )
    .breaks(
        vec![tool(
            Place::Client,
            &["ip", "neigh", "replace", "10.77.0.2", "lladdr", NOBODY_MAC, "dev", "eth0", "nud", "permanent"],
            &["ip", "neigh", "del", "10.77.0.2", "dev", "eth0"],
        )],
        &["neigh.wrong_lladdr"],
    )
    .aims_at(Place::Client)
}

const fn end(id: &'static str, remote: &'static str, mac: &'static str) -> [&'static str; 14] {
    [
        "ip", "link", "add", "vx0", "address", mac, "type", "vxlan", "id", id, "remote", remote, "dstport",
        "8472",
    ]
}

const CLIENT_ADDRESS: &[&str] = &["ip", "addr", "add", "10.79.0.1/24", "dev", "vx0"];
const SERVER_ADDRESS: &[&str] = &["ip", "addr", "add", "10.79.0.2/24", "dev", "vx0"];
const UP: &[&str] = &["ip", "link", "set", "vx0", "up"];
const DELETE: &[&str] = &["ip", "link", "del", "vx0"];
const CLIENT_END: [&str; 14] = end("42", "10.77.0.2", CLIENT_MAC);
const SERVER_END: [&str; 14] = end("42", "10.77.0.1", SERVER_MAC);
const OTHER_ID: [&str; 14] = end("43", "10.77.0.1", SERVER_MAC);

/// A VXLAN between client and server, asked through.
fn overlay(id: &'static str, title: Text) -> Fault {
    let mut fault = Fault::pair(id, title).needs(&[VXLAN]).prepares(vec![
        tool(Place::Client, &CLIENT_END, &[]),
        tool(Place::Client, CLIENT_ADDRESS, &[]),
        tool(Place::Client, UP, &[]),
        tool(Place::Server, &SERVER_END, &[]),
        tool(Place::Server, SERVER_ADDRESS, &[]),
        tool(Place::Server, UP, &[]),
    ]);
    fault.traffic = vec![Traffic::web(OVERLAY, 10)];
    fault.probes = vec!["tcp://10.79.0.2:80"];
    fault
}

fn ids() -> Fault {
    overlay(
        "tunnel.vni_mismatch",
        text!("the two ends of a VXLAN tunnel use different ids", "VXLAN 隧道两端的标识不同"),
    )
    .breaks(
        vec![
            tool(Place::Server, DELETE, UP),
            tool(Place::Server, &OTHER_ID, SERVER_ADDRESS),
            tool(Place::Server, SERVER_ADDRESS, &SERVER_END),
            tool(Place::Server, UP, DELETE),
            tool(Place::Client, FORGET, FORGET),
        ],
        &["tunnel.vni_mismatch"],
    )
}

const FORGET: &[&str] = &["ip", "neigh", "flush", "dev", "vx0"];

fn remote() -> Fault {
    let change =
        |to: &'static [&'static str; 8], back: &'static [&'static str; 8]| tool(Place::Client, to, back);
    const WRONG: [&str; 8] = ["ip", "link", "set", "vx0", "type", "vxlan", "remote", "10.77.0.9"];
    const RIGHT: [&str; 8] = ["ip", "link", "set", "vx0", "type", "vxlan", "remote", "10.77.0.2"];
    let mut fault = overlay(
        "tunnel.wrong_remote",
        text!("the client's tunnel sends to an address that nobody has", "客户端的隧道发往无人拥有的地址"),
    )
    .breaks(
        vec![
            // What still waits for the wrong neighbour goes with it.
            tool(Place::Client, &["true"], &["ip", "neigh", "flush", "dev", "eth0"]),
            change(&WRONG, &RIGHT),
            tool(Place::Client, FORGET, FORGET),
        ],
        &["tunnel.wrong_remote"],
    );
    fault.target = Place::Client;
    fault
}

fn station() -> Fault {
    let entry =
        |verb: &'static [&'static str], back: &'static [&'static str]| tool(Place::Client, verb, back);
    let mut fault = overlay(
        "tunnel.wrong_remote/entry",
        text!("a forwarding entry of the client's tunnel is wrong", "客户端隧道的一条转发表项有误"),
    )
    .breaks(
        vec![
            tool(Place::Client, &["true"], &["ip", "neigh", "flush", "dev", "eth0"]),
            entry(
                &[
                    "bridge",
                    "fdb",
                    "replace",
                    SERVER_MAC,
                    "dev",
                    "vx0",
                    "dst",
                    "10.77.0.9",
                    "self",
                    "permanent",
                ],
                &["bridge", "fdb", "del", SERVER_MAC, "dev", "vx0", "dst", "10.77.0.9", "self"],
            ),
        ],
        &["tunnel.wrong_remote"],
    );
    fault.target = Place::Client;
    fault
}
