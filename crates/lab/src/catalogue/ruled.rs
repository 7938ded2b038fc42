//! What tools leave behind in a namespace and what drops by it: quotas, hooks of devices, of ARP and of bridges, a queue
//! that nobody reads, IPsec policies, a source translation that is gone, marks that lead nowhere; and a service that
//! reads every request and answers none.

use super::tool;
use crate::fault::{Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::Place;
use whydrop_model::text;

/// A command and its way back.
type Step = [&'static [&'static str]; 2];

const WEB: &str = "80";

const QUOTA: [Step; 2] = [
    [
        &[
            "iptables-nft",
            "-A",
            "INPUT",
            "-p",
            "tcp",
            "--dport",
            WEB,
            "-m",
            "quota",
            "--quota",
            "2000",
            "-j",
            "ACCEPT",
        ],
        &[
            "iptables-nft",
            "-D",
            "INPUT",
            "-p",
            "tcp",
            "--dport",
            WEB,
            "-m",
            "quota",
            "--quota",
            "2000",
            "-j",
            "ACCEPT",
        ],
    ],
    [
        &["iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", WEB, "-j", "DROP"],
        &["iptables-nft", "-D", "INPUT", "-p", "tcp", "--dport", WEB, "-j", "DROP"],
    ],
];

const UNREAD: [Step; 1] = [[
    &["iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", WEB, "-j", "NFQUEUE", "--queue-num", "9"],
    &["iptables-nft", "-D", "INPUT", "-p", "tcp", "--dport", WEB, "-j", "NFQUEUE", "--queue-num", "9"],
]];

const INGRESS: [Step; 3] = [
    [&["nft", "add table netdev early"], &["nft", "delete table netdev early"]],
    [&["nft", "add chain netdev early in { type filter hook ingress device eth0 priority 0 ; }"], &[]],
    [&["nft", "add rule netdev early in tcp dport 80 counter drop"], &[]],
];

const BRIDGE: [Step; 3] = [
    [&["nft", "add table bridge between"], &["nft", "delete table bridge between"]],
    [&["nft", "add chain bridge between pass { type filter hook forward priority 0 ; }"], &[]],
    [&["nft", "add rule bridge between pass tcp dport 80 counter drop"], &[]],
];

const BLOCK: [Step; 1] = [[
    &["ip", "xfrm", "policy", "add", "src", "10.77.0.1", "dst", "10.77.0.2", "dir", "in", "action", "block"],
    &["ip", "xfrm", "policy", "delete", "src", "10.77.0.1", "dst", "10.77.0.2", "dir", "in"],
]];

const TEMPLATE: [Step; 1] = [[
    &[
        "ip",
        "xfrm",
        "policy",
        "add",
        "src",
        "10.77.0.1",
        "dst",
        "10.77.0.2",
        "dir",
        "in",
        "tmpl",
        "proto",
        "esp",
        "mode",
        "transport",
    ],
    &["ip", "xfrm", "policy", "delete", "src", "10.77.0.1", "dst", "10.77.0.2", "dir", "in"],
]];

const MARKED: [Step; 3] = [
    [
        &["ip", "route", "add", "blackhole", "default", "table", "77"],
        &["ip", "route", "flush", "table", "77"],
    ],
    [
        &["ip", "rule", "add", "fwmark", "7", "table", "77"],
        &["ip", "rule", "del", "fwmark", "7", "table", "77"],
    ],
    [
        &[
            "iptables-nft",
            "-t",
            "mangle",
            "-A",
            "OUTPUT",
            "-p",
            "tcp",
            "--sport",
            WEB,
            "-j",
            "MARK",
            "--set-mark",
            "7",
        ],
        &[
            "iptables-nft",
            "-t",
            "mangle",
            "-D",
            "OUTPUT",
            "-p",
            "tcp",
            "--sport",
            WEB,
            "-j",
            "MARK",
            "--set-mark",
            "7",
        ],
    ],
];

fn steps(at: Place, steps: &[Step]) -> Vec<Change> {
    steps.iter().map(|[argv, undo]| tool(at, argv, undo)).collect()
}

pub(super) fn faults() -> Vec<Fault> {
    vec![
        Fault::pair("netfilter.quota", text!("a quota of 2000 bytes is used up", "2000 字节的配额已用完"))
            .needs(&[Need::Commands(&[QUOTA[0][0], QUOTA[0][1]])])
            .breaks(steps(Place::Server, &QUOTA), &["netfilter.quota"]),
        Fault::pair(
            "netfilter.nfqueue_no_listener",
            text!(
                "a rule queues the requests for a program that does not run",
                "规则把请求放入队列，而读取队列的程序没有运行"
            ),
        )
        .needs(&[Need::Commands(&[UNREAD[0][0], UNREAD[0][1]])])
        .breaks(steps(Place::Server, &UNREAD), &["netfilter.nfqueue_no_listener"]),
        Fault::pair(
            "netfilter.ingress_drop",
            text!(
                "a chain at the server's eth0 drops before the IP layer",
                "服务器 eth0 上的链在 IP 层之前丢包"
            ),
        )
        .needs(&[Need::Nftables])
        .breaks(steps(Place::Server, &INGRESS), &["netfilter.ingress_drop"]),
        Fault::switched(
            "netfilter.bridge_drop",
            text!("a rule of the bridge family drops between two ports", "bridge 族的规则在两个端口之间丢包"),
        )
        .needs(&[Need::Nftables])
        .breaks(steps(Place::Router, &BRIDGE), &["netfilter.bridge_drop"]),
        Fault::pair(
            "xfrm.policy_block",
            text!("an IPsec policy of the server blocks the client", "服务器的 IPsec 策略拦截客户端"),
        )
        .needs(&[Need::Commands(&[BLOCK[0][0], BLOCK[0][1]])])
        .breaks(steps(Place::Server, &BLOCK), &["xfrm.policy_block"]),
        Fault::pair(
            "xfrm.template_mismatch",
            text!(
                "the server wants IPsec, and the client sends plain packets",
                "服务器要求 IPsec，而客户端发送明文"
            ),
        )
        .needs(&[Need::Commands(&[TEMPLATE[0][0], TEMPLATE[0][1]])])
        .breaks(steps(Place::Server, &TEMPLATE), &["xfrm.template_mismatch"]),
        Fault::pair(
            "route.blackhole/marked",
            text!(
                "a mark leads the server's answers into a table that refuses",
                "标记把服务器的应答引入拒绝的路由表"
            ),
        )
        .needs(&[Need::Commands(&[MARKED[2][0], MARKED[2][1]])])
        .breaks(steps(Place::Server, &MARKED), &["route.blackhole"]),
        Fault::pair(
            "app.hung/answers_nobody",
            text!(
                "the web server reads every request and answers none",
                "Web 服务器读取每个请求，却从不应答"
            ),
        )
        .breaks(vec![Change::Serve(vec![Service::Silent { port: 80 }])], &["app.hung"]),
    ]
}
