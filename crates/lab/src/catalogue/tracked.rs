//! What connection tracking does not know, and what becomes of its packets.

use super::translated::held;
use super::{PYTHON_3, script, tool};
use crate::fault::{BOTH, Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::Place;
use crate::traffic::Traffic;
use whydrop_model::text;

const INVALID: [&str; 9] =
    ["iptables-nft", "-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"];

pub(super) fn faults() -> Vec<Fault> {
    vec![half_seen(), idle(), moved(), unhelped()]
}

/// The client's requests take a new cable to the server; the answers still come by the router, which has seen no
/// request.
fn half_seen() -> Fault {
    let client = |argv| tool(Place::Client, argv, &[]);
    let server = |argv| tool(Place::Server, argv, &[]);
    Fault::routed(
        "conntrack.invalid_drop",
        text!(
            "only the answers pass the router, which drops what is INVALID",
            "只有应答经过路由器，而路由器丢弃 INVALID 的包"
        ),
    )
    .needs(&[Need::Commands(&[&INVALID])])
    .prepares(vec![
        client(&["ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", "{server}"]),
        client(&["ip", "addr", "add", "10.78.0.1/24", "dev", "eth1"]),
        server(&["ip", "addr", "add", "10.78.0.2/24", "dev", "eth1"]),
        client(&["ip", "link", "set", "eth1", "up"]),
        server(&["ip", "link", "set", "eth1", "up"]),
        server(&["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth1.rp_filter=0"]),
        client(&["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0"]),
        tool(Place::Router, &INVALID, &[]),
    ])
    .breaks(
        vec![tool(
            Place::Client,
            &["ip", "route", "replace", "10.77.2.0/24", "via", "10.78.0.2", "src", "10.77.1.2"],
            &["ip", "route", "replace", "10.77.2.0/24", "via", "10.77.1.1"],
        )],
        &["conntrack.invalid_drop"],
    )
    .aims_at(Place::Router)
    .asked(&[BOTH, &[Place::Client], &[Place::Server], &[Place::Router]])
}

/// Connections say something every three seconds, and the router remembers them for two.
fn idle() -> Fault {
    let again = script!("held", "hold('203.0.113.2', 3)");
    let fault = held(
        "conntrack.timeout_idle",
        text!("the router forgets connections after two silent seconds", "路由器在两秒静默后遗忘连接"),
        again,
    );
    fault.breaks(
        vec![
            // The programs connect again once it is mended.
            Change::Traffic(vec![Traffic::Script { text: again }]),
            tool(
                Place::Router,
                &["sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_established=2"],
                &["sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_established=432000"],
            ),
            tool(Place::Router, &["sleep", "8"], &["true"]),
        ],
        &["conntrack.timeout_idle"],
    )
}

const TO_OLD: [&str; 15] = logs("-A", "10.77.2.2:5140");
const TO_OLD_NOT: [&str; 15] = logs("-D", "10.77.2.2:5140");
const TO_NEW: [&str; 15] = logs("-A", "10.77.2.3:5140");
const TO_NEW_NOT: [&str; 15] = logs("-D", "10.77.2.3:5140");

const fn logs(verb: &'static str, to: &'static str) -> [&'static str; 15] {
    [
        "iptables-nft",
        "-t",
        "nat",
        verb,
        "PREROUTING",
        "-d",
        "10.77.1.1",
        "-p",
        "udp",
        "--dport",
        "5140",
        "-j",
        "DNAT",
        "--to-destination",
        to,
    ]
}

/// The server gets another address, as a container that is started anew, and the rule follows.
fn moved() -> Fault {
    let server = |argv, undo| tool(Place::Server, argv, undo);
    let mut fault = Fault::routed(
        "conntrack.stale_entry",
        text!(
            "a log server moved, and an old entry keeps sending its clients to the old address",
            "日志服务器已搬迁，旧的连接条目仍把客户端的包送往旧地址"
        ),
    )
    .needs(&[Need::Commands(&[&TO_OLD, PYTHON_3])])
    .prepares(vec![
        tool(Place::Router, &TO_OLD, &[]),
        server(&["sysctl", "-qw", "net.ipv4.conf.eth0.promote_secondaries=1"], &[]),
        server(&["ip", "addr", "add", "10.77.2.9/24", "dev", "eth0"], &[]),
        server(&["ip", "route", "replace", "10.77.1.0/24", "via", "10.77.2.1", "src", "10.77.2.9"], &[]),
    ])
    .breaks(
        vec![
            tool(Place::Router, &TO_OLD_NOT, &TO_OLD),
            tool(Place::Router, &TO_NEW, &TO_NEW_NOT),
            server(
                &["ip", "addr", "add", "10.77.2.3/24", "dev", "eth0"],
                &["ip", "addr", "del", "10.77.2.3/24", "dev", "eth0"],
            ),
            server(
                &["ip", "addr", "del", "10.77.2.2/24", "dev", "eth0"],
                &["ip", "addr", "add", "10.77.2.2/24", "dev", "eth0"],
            ),
        ],
        &["conntrack.stale_entry"],
    )
    .aims_at(Place::Router)
    .asked(&[BOTH, &[Place::Client], &[Place::Server], &[Place::Router]]);
    fault.services = vec![Service::Echo { port: 5140 }];
    fault.traffic = vec![Traffic::Script { text: script!("log_sender", "send('10.77.1.1', 5140)") }];
    fault.probes = vec![];
    fault
}

const HELPER: [&str; 13] = help("-A");
const HELPER_NOT: [&str; 13] = help("-D");

const fn help(verb: &'static str) -> [&'static str; 13] {
    [
        "iptables-nft",
        "-t",
        "raw",
        verb,
        "PREROUTING",
        "-p",
        "tcp",
        "--dport",
        "21",
        "-j",
        "CT",
        "--helper",
        "ftp",
    ]
}

/// As after an upgrade to a kernel that assigns no helper by itself.
fn unhelped() -> Fault {
    let server = |argv| tool(Place::Server, argv, &[]);
    let mut fault = Fault::pair(
        "conntrack.helper_missing",
        text!(
            "a stateful firewall in front of an FTP server whose connections no helper reads",
            "FTP 服务器前是有状态防火墙，却没有 helper 读取其控制连接"
        ),
    )
    .needs(&[Need::Commands(&[&HELPER, PYTHON_3])])
    .prepares(vec![
        server(&HELPER),
        server(&[
            "iptables-nft",
            "-A",
            "INPUT",
            "-m",
            "conntrack",
            "--ctstate",
            "ESTABLISHED,RELATED",
            "-j",
            "ACCEPT",
        ]),
        server(&["iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "21", "-j", "ACCEPT"]),
        server(&["iptables-nft", "-A", "INPUT", "-p", "tcp", "-j", "REJECT"]),
    ])
    .breaks(vec![tool(Place::Server, &HELPER_NOT, &HELPER)], &["conntrack.helper_missing"]);
    fault.services = vec![Service::Script { text: script!("ftp", "serve_files()") }];
    fault.traffic = vec![Traffic::Script { text: script!("ftp", "visit('10.77.0.2')") }];
    fault.probes = vec![];
    fault
}
