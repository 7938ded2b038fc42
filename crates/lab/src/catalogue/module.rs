//! What only kernels with modules have: filters that act, WireGuard, a bond of two.

use super::tool;
use crate::fault::{BOTH, Fault};
use crate::need::Need;
use crate::site::{Place, Topology};
use crate::traffic::Traffic;
use std::net::Ipv4Addr;
use whydrop_model::{Text, text};

const BEYOND: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 2);
const ACTION: Need = Need::Module(&[
    &["tc", "qdisc", "add", "dev", "lo", "clsact"],
    &[
        "tc", "filter", "add", "dev", "lo", "ingress", "protocol", "ip", "u32", "match", "u32", "0", "0",
        "action", "drop",
    ],
]);
const POLICE: Need = Need::Module(&[
    &["tc", "qdisc", "add", "dev", "lo", "clsact"],
    &[
        "tc", "filter", "add", "dev", "lo", "ingress", "protocol", "ip", "u32", "match", "u32", "0", "0",
        "action", "police", "rate", "1mbit", "burst", "10k", "drop",
    ],
]);
const WIREGUARD: Need = Need::Module(&[&["ip", "link", "add", "wg0", "type", "wireguard"]]);

pub(super) fn faults() -> Vec<Fault> {
    vec![action(), police(), peer_key(), allowed(), dead_member()]
}

const CLSACT: [&[&str]; 2] =
    [&["tc", "qdisc", "add", "dev", "eth0", "clsact"], &["tc", "qdisc", "del", "dev", "eth0", "clsact"]];

/// A filter on what the server receives from the web's clients.
fn filter(causes: &'static [&'static str; 1], title: Text, filter: &'static [&'static str]) -> Fault {
    let [id] = *causes;
    let [add, delete] = CLSACT;
    let mut fault = Fault::pair(id, title).asked(&[BOTH, &[Place::Server]]);
    fault.changes = vec![tool(Place::Server, add, delete), tool(Place::Server, filter, &["true"])];
    fault.causes = causes;
    fault
}

fn action() -> Fault {
    filter(
        &["tc.action_drop"],
        text!("a tc filter of the server drops requests", "服务器的 tc 过滤器丢弃请求"),
        &[
            "tc", "filter", "add", "dev", "eth0", "ingress", "protocol", "ip", "u32", "match", "ip", "dport",
            "80", "0xffff", "action", "drop",
        ],
    )
    .needs(&[ACTION])
}

fn police() -> Fault {
    filter(
        &["tc.police"],
        text!("the server polices what it receives", "服务器对接收流量限速"),
        &[
            "tc", "filter", "add", "dev", "eth0", "ingress", "protocol", "ip", "u32", "match", "u32", "0",
            "0", "action", "police", "rate", "8kbit", "burst", "1500", "drop",
        ],
    )
    .needs(&[POLICE])
}

/// `wg` reads a private key from a file: that of 32 times the digit 1 or 2.
const fn private(of: char) -> [&'static str; 3] {
    match of {
        '1' => [
            "sh",
            "-c",
            "echo MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE= >/tmp/{client}.key; wg set wg0 private-key /tmp/{client}.key listen-port 51820; rm /tmp/{client}.key",
        ],
        _ => [
            "sh",
            "-c",
            "echo MjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjI= >/tmp/{server}.key; wg set wg0 private-key /tmp/{server}.key listen-port 51820; rm /tmp/{server}.key",
        ],
    }
}

const CLIENT_KEY: &str = "BPXykWLDGo3voY5udCIk7oBvwXGKJ4voWbpWIEArjzo=";
const SERVER_KEY: &str = "WdkiVHNFHv/+azbbyu/b97GJXeYghFCaf1tYvwHQZBg=";
const OTHER_KEY: &str = "ew1H2TQn+DERYHgcfHM/2J+IlwrvSQ2KoO4ZpMuKGxQ=";
const FIRST: [&str; 3] = private('1');
const SECOND: [&str; 3] = private('2');
const TO_SERVER: [&str; 9] = peer(SERVER_KEY, "10.77.0.2:51820", "10.79.0.2/32");
const TO_CLIENT: [&str; 9] = peer(CLIENT_KEY, "10.77.0.1:51820", "10.79.0.1/32");
const TO_NOBODY: [&str; 9] = peer(OTHER_KEY, "10.77.0.1:51820", "10.79.0.1/32");
const ADD: &[&str] = &["ip", "link", "add", "wg0", "type", "wireguard"];
const UP: &[&str] = &["ip", "link", "set", "wg0", "up"];

/// Sets a peer of the tunnel: its key, where it is, and the addresses that it may have.
const fn peer(key: &'static str, at: &'static str, allowed: &'static str) -> [&'static str; 9] {
    ["wg", "set", "wg0", "peer", key, "endpoint", at, "allowed-ips", allowed]
}

/// A WireGuard between client and server, asked through.
fn tunnel(id: &'static str, title: Text) -> Fault {
    let mut fault = Fault::pair(id, title).needs(&[WIREGUARD]).prepares(vec![
        tool(Place::Client, ADD, &[]),
        tool(Place::Client, &FIRST, &[]),
        tool(Place::Client, &TO_SERVER, &[]),
        tool(Place::Client, &["ip", "addr", "add", "10.79.0.1/24", "dev", "wg0"], &[]),
        tool(Place::Client, UP, &[]),
        tool(Place::Server, ADD, &[]),
        tool(Place::Server, &SECOND, &[]),
        tool(Place::Server, &TO_CLIENT, &[]),
        tool(Place::Server, &["ip", "addr", "add", "10.79.0.2/24", "dev", "wg0"], &[]),
        tool(Place::Server, UP, &[]),
    ]);
    fault.traffic = vec![Traffic::web(BEYOND, 10)];
    fault.probes = vec!["tcp://10.79.0.2:80"];
    fault.target = Place::Client;
    fault
}

/// The server knows its peer by a key that nobody has.
fn peer_key() -> Fault {
    tunnel(
        "wg.peer_key",
        text!("the server has another key for the client", "服务器为客户端配置了错误的公钥"),
    )
    .breaks(
        vec![
            tool(Place::Server, &["wg", "set", "wg0", "peer", CLIENT_KEY, "remove"], &TO_CLIENT),
            tool(Place::Server, &TO_NOBODY, &["wg", "set", "wg0", "peer", OTHER_KEY, "remove"]),
            tool(Place::Client, &["wg", "set", "wg0", "peer", SERVER_KEY, "remove"], &["true"]),
            tool(Place::Client, &TO_SERVER, &["true"]),
        ],
        &["wg.peer_key"],
    )
}

fn allowed() -> Fault {
    tunnel(
        "wg.allowed_ips",
        text!(
            "no peer of the client's tunnel may have the server's address",
            "客户端隧道的对端均不允许服务器的地址"
        ),
    )
    .breaks(
        vec![tool(
            Place::Client,
            &["wg", "set", "wg0", "peer", SERVER_KEY, "allowed-ips", "10.79.0.7/32"],
            &["wg", "set", "wg0", "peer", SERVER_KEY, "allowed-ips", "10.79.0.2/32"],
        )],
        &["wg.allowed_ips"],
    )
    .asked(&[BOTH, &[Place::Client]])
}

/// The server's bond sends by turns over two cables, of which one leads to an interface that is off.
fn dead_member() -> Fault {
    let server = |argv: &'static [&'static str]| tool(Place::Server, argv, &[]);
    let client = |argv: &'static [&'static str]| tool(Place::Client, argv, &[]);
    let mut fault = Fault::pair(
        "bond.member_dead",
        text!("one of two members of the server's bond leads nowhere", "服务器 bond 的两个成员之一已不通"),
    )
    .needs(&[Need::Bond])
    .prepares(vec![
        client(&["ip", "link", "add", "br0", "type", "bridge"]),
        client(&["ip", "addr", "flush", "dev", "eth0"]),
        client(&["ip", "link", "set", "eth0", "master", "br0"]),
        client(&["ip", "link", "set", "eth1", "master", "br0"]),
        client(&["ip", "addr", "flush", "dev", "eth1"]),
        client(&["ip", "addr", "add", "10.77.0.1/24", "dev", "br0"]),
        client(&["ip", "link", "set", "br0", "up"]),
        server(&["ip", "link", "add", "bond0", "type", "bond", "mode", "balance-rr", "miimon", "0"]),
        server(&["ip", "addr", "flush", "dev", "eth0"]),
        server(&["ip", "addr", "flush", "dev", "eth1"]),
        server(&["ip", "link", "set", "eth0", "down"]),
        server(&["ip", "link", "set", "eth1", "down"]),
        server(&["ip", "link", "set", "eth0", "master", "bond0"]),
        server(&["ip", "link", "set", "eth1", "master", "bond0"]),
        server(&["ip", "link", "set", "bond0", "up"]),
        server(&["ip", "addr", "add", "10.77.0.2/24", "dev", "bond0"]),
    ])
    .breaks(
        vec![tool(
            Place::Client,
            &["ip", "link", "set", "eth1", "nomaster"],
            &["ip", "link", "set", "eth1", "master", "br0"],
        )],
        &["bond.member_dead"],
    );
    fault.topology = Topology::TwoLinks;
    fault
}
