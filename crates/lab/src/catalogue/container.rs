//! What containers and their port mappings bring along.

use super::{ANYWHERE, dnat, tool};
use crate::fault::{Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::Place;
use crate::traffic::{Manner, Traffic};
use std::net::{Ipv4Addr, SocketAddr};
use whydrop_model::{Text, text};

pub(super) fn faults() -> Vec<Fault> {
    vec![
        Fault::pair(
            "container.route_localnet",
            text!(
                "port 80 is sent on to a server that listens on 127.0.0.1",
                "80 端口被转到只监听 127.0.0.1 的服务器"
            ),
        )
        .needs(&[Need::IptablesNft])
        .breaks(
            vec![
                Change::Serve(vec![Service::Page { ip: Ipv4Addr::LOCALHOST.into(), port: 80, bytes: 8192 }]),
                Change::Tool { at: Place::Server, argv: &SEND_ON, undo: &KEEP },
            ],
            &["container.route_localnet"],
        ),
        Fault::pair(
            "container.port_map_wrong",
            text!(
                "the published port 80 is mapped to 8000, and the server listens on 80",
                "发布的 80 端口映射到 8000，而服务器监听的是 80"
            ),
        )
        .needs(&[Need::IptablesNft])
        .breaks(
            [ENGINE_CHAIN, ENGINE_JUMP, ENGINE_RULE]
                .map(|[argv, undo]| Change::Tool { at: Place::Server, argv, undo })
                .into(),
            &["container.port_map_wrong"],
        ),
        hairpin(
            "container.hairpin",
            text!(
                "a container asks its own published port, and its bridge port has no hairpin mode",
                "容器访问自己发布的端口，而其网桥端口没有开启 hairpin 模式"
            ),
            [&["bridge", "link", "set", "dev", "eth1", "hairpin", "off"], &HAIRPIN],
        ),
        hairpin(
            "container.hairpin/same_source",
            text!(
                "a container asks its own published port, and no rule changes its source",
                "容器访问自己发布的端口，而没有规则改写其源地址"
            ),
            [&ITSELF_AS_IT_IS, &TO_ITSELF],
        ),
    ]
}

/// The host is the switch, has an address on the bridge, and maps its port 8080 to the server.
fn hairpin(id: &'static str, title: Text, [argv, undo]: [&'static [&'static str]; 2]) -> Fault {
    let host = |argv| tool(Place::Router, argv, &[]);
    let mut fault = Fault::switched(id, title)
        .needs(&[Need::IptablesNft])
        .prepares(vec![
            host(&["ip", "addr", "add", "10.77.0.254/24", "dev", "br0"]),
            host(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]),
            host(&MAPPED),
            host(&TO_ITSELF),
            host(&HAIRPIN),
        ])
        .breaks(vec![tool(Place::Router, argv, undo)], &["container.hairpin"])
        .asked(&[&[Place::Server, Place::Router], &[Place::Server], &[Place::Router]]);
    let to = SocketAddr::new(Ipv4Addr::new(10, 77, 0, 254).into(), 8080);
    fault.traffic = vec![Traffic::Requests { to, per_second: 10, manner: Manner::Reads }];
    (fault.sender, fault.probes) = (Place::Server, vec!["tcp://10.77.0.254:8080"]);
    fault
}

const HAIRPIN: [&str; 7] = ["bridge", "link", "set", "dev", "eth1", "hairpin", "on"];
const TO_ITSELF: [&str; 11] = to_itself("-A");
const ITSELF_AS_IT_IS: [&str; 11] = to_itself("-D");
const MAPPED: [&str; 15] = [
    "iptables-nft",
    "-t",
    "nat",
    "-A",
    "PREROUTING",
    "-d",
    "10.77.0.254",
    "-p",
    "tcp",
    "--dport",
    "8080",
    "-j",
    "DNAT",
    "--to-destination",
    "10.77.0.2:80",
];

const fn to_itself(verb: &'static str) -> [&'static str; 11] {
    [
        "iptables-nft",
        "-t",
        "nat",
        verb,
        "POSTROUTING",
        "-s",
        "10.77.0.2",
        "-d",
        "10.77.0.2",
        "-j",
        "MASQUERADE",
    ]
}

const ENGINE_CHAIN: [&[&str]; 2] =
    [&["iptables-nft", "-t", "nat", "-N", "DOCKER"], &["iptables-nft", "-t", "nat", "-X", "DOCKER"]];
const ENGINE_JUMP: [&[&str]; 2] = [
    &[
        "iptables-nft",
        "-t",
        "nat",
        "-A",
        "PREROUTING",
        "-m",
        "addrtype",
        "--dst-type",
        "LOCAL",
        "-j",
        "DOCKER",
    ],
    &[
        "iptables-nft",
        "-t",
        "nat",
        "-D",
        "PREROUTING",
        "-m",
        "addrtype",
        "--dst-type",
        "LOCAL",
        "-j",
        "DOCKER",
    ],
];
const ENGINE_RULE: [&[&str]; 2] =
    [&dnat("-A", "DOCKER", ANYWHERE, "10.77.0.2:8000"), &dnat("-D", "DOCKER", ANYWHERE, "10.77.0.2:8000")];

const SEND_ON: [&str; 13] = rule("-A");
const KEEP: [&str; 13] = rule("-D");

const fn rule(verb: &'static str) -> [&'static str; 13] {
    [
        "iptables-nft",
        "-t",
        "nat",
        verb,
        "PREROUTING",
        "-p",
        "tcp",
        "--dport",
        "80",
        "-j",
        "DNAT",
        "--to-destination",
        "127.0.0.1:80",
    ]
}
