//! Routers that translate, and stop to: sources, destinations, and answers that go round them.

use super::{PYTHON_3, dnat, script, tool};
use crate::fault::{BOTH, Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::{Place, Topology};
use crate::traffic::Traffic;
use std::net::Ipv4Addr;
use whydrop_model::{Text, text};

/// The server's address on the Internet.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// The router's address for its clients.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
/// The other station's address.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

const MASQUERADE: [&str; 11] = masquerade("-A", "10.77.1.0/24", "eth1");
const MASQUERADE_NOT: [&str; 11] = masquerade("-D", "10.77.1.0/24", "eth1");
const PUBLISH: [&str; 15] = dnat("-A", "PREROUTING", "10.77.1.1", "10.77.2.2:80");
const PUBLISH_NOT: [&str; 15] = dnat("-D", "PREROUTING", "10.77.1.1", "10.77.2.2:80");
const HAIRPIN: [&str; 15] = dnat("-A", "PREROUTING", "10.77.0.3", "10.77.0.2:80");
const HIDE: [&str; 11] = masquerade("-A", "10.77.0.0/24", "eth0");
const HIDE_NOT: [&str; 11] = masquerade("-D", "10.77.0.0/24", "eth0");

const fn masquerade(verb: &'static str, source: &'static str, dev: &'static str) -> [&'static str; 11] {
    ["iptables-nft", "-t", "nat", verb, "POSTROUTING", "-s", source, "-o", dev, "-j", "MASQUERADE"]
}

pub(super) fn faults() -> Vec<Fault> {
    vec![bare(), unpublished(), round(), forgotten()]
}

/// A private network behind a router that hides it, and a server on the Internet, which knows no way back to it.
pub(super) fn internet(id: &'static str, title: Text) -> Fault {
    let mut fault = Fault::routed(id, title)
        .needs(&[Need::Commands(&[&MASQUERADE, PYTHON_3])])
        .prepares(vec![
            tool(Place::Client, &["ip", "route", "add", "default", "via", "10.77.1.1"], &[]),
            tool(Place::Router, &["ip", "addr", "add", "203.0.113.1/24", "dev", "eth1"], &[]),
            tool(Place::Server, &["ip", "addr", "add", "203.0.113.2/24", "dev", "eth0"], &[]),
            tool(Place::Server, &["ip", "route", "del", "10.77.1.0/24"], &[]),
            tool(Place::Router, &MASQUERADE, &[]),
        ])
        .aims_at(Place::Router)
        .asked(&[BOTH, &[Place::Client], &[Place::Server], &[Place::Router]]);
    fault.traffic = vec![Traffic::web(PUBLIC, 10)];
    fault.probes = vec!["tcp://203.0.113.2:80"];
    fault
}

fn bare() -> Fault {
    internet(
        "nat.no_masquerade",
        text!("the router's masquerade rule is gone", "路由器的 masquerade 规则不见了"),
    )
    .breaks(vec![tool(Place::Router, &MASQUERADE_NOT, &MASQUERADE)], &["nat.no_masquerade"])
}

/// As after a reload of the firewall, which takes along what a container engine wrote.
fn unpublished() -> Fault {
    let mut fault = Fault::routed(
        "nat.dnat_missing",
        text!("the rule that publishes the server's port 80 is gone", "发布服务器 80 端口的规则不见了"),
    )
    .needs(&[Need::Commands(&[&PUBLISH])])
    .prepares(vec![tool(Place::Router, &PUBLISH, &[])])
    .breaks(vec![tool(Place::Router, &PUBLISH_NOT, &PUBLISH)], &["nat.dnat_missing"])
    .aims_at(Place::Router)
    .asked(&[BOTH, &[Place::Client], &[Place::Router]]);
    fault.traffic = vec![Traffic::web(ROUTER, 10)];
    fault.probes = vec!["tcp://10.77.1.1:80"];
    fault
}

/// The other station publishes the server to stations of the same network, and hides them from it.
fn round() -> Fault {
    let other = |argv, undo| tool(Place::Other, argv, undo);
    let mut fault = Fault::new(
        "nat.reply_bypass",
        text!(
            "the server answers its neighbour directly, which asked another address",
            "服务器直接应答邻居，而邻居访问的是另一个地址"
        ),
        Topology::Stations,
        vec!["tcp://10.77.0.3:80"],
    )
    .needs(&[Need::Commands(&[&HIDE])])
    .prepares(vec![
        other(&["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0"], &[]),
        other(&["sysctl", "-qw", "net.ipv4.conf.eth0.send_redirects=0"], &[]),
        other(&HAIRPIN, &[]),
        other(&HIDE, &[]),
    ])
    .breaks(vec![other(&HIDE_NOT, &HIDE)], &["nat.reply_bypass"])
    .aims_at(Place::Other)
    .asked(&[BOTH, &[Place::Client], &[Place::Server], &[Place::Other]]);
    fault.traffic = vec![Traffic::web(OTHER, 10)];
    fault
}

/// Such a network with connections that stay open and say something now and then, which this script makes; the router takes
/// none up from its middle.
pub(super) fn held(id: &'static str, title: Text, talks: &'static str) -> Fault {
    let mut fault = internet(id, title);
    let strict: &[&str] = &["sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0"];
    fault.prepared.push(tool(Place::Router, strict, &[]));
    fault.services = vec![Service::Script { text: script!("held", "echo()") }];
    fault.traffic = vec![Traffic::Script { text: talks }];
    fault.probes = vec![];
    fault
}

/// The entries of living connections are deleted, and without loose tracking none is made from the middle of one.
fn forgotten() -> Fault {
    let again = script!("held", "hold('203.0.113.2', 0.3)");
    let fault = held(
        "nat.mapping_lost",
        text!("somebody runs conntrack -F on the router", "有人在路由器上执行了 conntrack -F"),
        again,
    );
    let flush: &[&str] = &["conntrack", "-F"];
    // The programs connect again once it is mended.
    let settle = tool(Place::Router, &["sleep", "2"], &["true"]);
    fault.breaks(
        vec![
            Change::Traffic(vec![Traffic::Script { text: again }]),
            settle.clone(),
            tool(Place::Router, flush, &["true"]),
            settle,
        ],
        &["nat.mapping_lost"],
    )
}
