//! What looks bad and is not: the verdict must be clear.

use super::{filter, tool};
use crate::fault::{Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::{Place, Topology};
use crate::traffic::{Manner, Traffic};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use whydrop_model::netfilter::{Hook, Match, RuleVerdict};
use whydrop_model::text;

pub(super) fn cases() -> Vec<Fault> {
    let mut idle = Fault::pair("healthy/idle", text!("nothing happens", "没有任何流量"));
    idle.traffic = vec![];

    let mut busy = Fault::pair("healthy/busy", text!("many requests and datagrams", "大量请求与数据报"));
    busy.services = vec![Service::page(64 * 1024), Service::datagrams()];
    busy.traffic = vec![Traffic::requests(Topology::Pair, 100), Traffic::datagrams(Topology::Pair, 500, 512)];

    let unused = Fault::pair(
        "healthy/unused_rule",
        text!("a DROP rule that no packet meets", "一条没有命中任何包的 DROP 规则"),
    )
    .needs(&[Need::Nftables])
    .breaks(
        filter(
            Place::Server,
            Hook::Input,
            vec![Match::L4Proto(6), Match::DestinationPorts(9999, 9999)],
            RuleVerdict::Drop,
            "tcp dport 9999 counter drop",
        ),
        &[],
    );

    let mut scan = Fault::pair(
        "healthy/port_scan",
        text!("somebody tries ports on which nobody listens", "有人在扫描无人监听的端口"),
    );
    scan.traffic.push(Traffic::Scan { to: Topology::Pair.server().into(), first_port: 2000, per_second: 50 });

    vec![
        idle,
        busy,
        unused,
        old_counters(),
        scan,
        close_unread(),
        blocked_strangers(),
        nat_gateway(),
        keep_alive(),
        impatient(),
        eyeballs(),
        long_poll(),
        monitor(),
        talk_to_all(),
    ]
}

const TELNET: [&str; 9] = ["iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "23", "-j", "DROP"];
const MASQUERADE: [&str; 9] =
    ["iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-o", "eth1", "-j", "MASQUERADE"];
const MDNS: [u8; 4] = [224, 0, 0, 251];

/// A client's requests to a port of the server beside the usual ones.
fn also(fault: &mut Fault, port: u16, per_second: u32, manner: Manner) {
    let to = SocketAddr::new(fault.topology.server().into(), port);
    fault.traffic.push(Traffic::Requests { to, per_second, manner });
}

/// A rule keeps people from a port on which nobody listens.
fn blocked_strangers() -> Fault {
    let mut fault = Fault::pair(
        "healthy/blocked_strangers",
        text!("strangers try a port that a rule keeps closed", "陌生人尝试访问被规则封闭的端口"),
    )
    .needs(&[Need::IptablesNft])
    .prepares(vec![tool(Place::Server, &TELNET, &[])]);
    also(&mut fault, 23, 10, Manner::Reads);
    fault.probes = vec![];
    fault.asked = &[&[Place::Server]];
    fault
}

/// Everything passes a router that translates.
fn nat_gateway() -> Fault {
    let mut fault = Fault::routed(
        "healthy/nat_gateway",
        text!("a busy gateway translates addresses", "繁忙的网关进行地址转换"),
    )
    .needs(&[Need::Commands(&[&MASQUERADE])])
    .prepares(vec![tool(Place::Router, &MASQUERADE, &[])]);
    fault.traffic = vec![Traffic::requests(Topology::Routed, 200)];
    fault.target = Place::Router;
    fault
}

/// Clients ask again on a connection that the server has closed meanwhile: the kernel resets it.
fn keep_alive() -> Fault {
    let mut fault = Fault::pair(
        "healthy/keep_alive",
        text!("the server closes connections that clients keep", "服务器关闭了客户端保持的连接"),
    );
    fault.services.push(Service::OneAnswer { port: 8080 });
    also(&mut fault, 8080, 20, Manner::AsksAgain);
    fault
}

/// Clients go away before they have read all.
fn impatient() -> Fault {
    let mut fault = Fault::pair(
        "healthy/impatient",
        text!("clients reset their connections early", "客户端提前重置连接"),
    );
    fault.services.push(Service::Page { ip: Ipv4Addr::UNSPECIFIED.into(), port: 8080, bytes: 1 << 20 });
    also(&mut fault, 8080, 20, Manner::Resets);
    fault
}

/// A client that tries IPv6 first, on a machine that has none.
fn eyeballs() -> Fault {
    let mut fault = Fault::pair(
        "healthy/eyeballs",
        text!("a client tries IPv6 first and has none", "客户端先尝试 IPv6，但本机没有"),
    );
    let first = SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2).into(), 80);
    let then = SocketAddr::new(Topology::Pair.server().into(), 80);
    fault.traffic = vec![Traffic::Eyeballs { first, then, per_second: 20 }];
    fault
}

/// Clients wait for news that do not come.
fn long_poll() -> Fault {
    let mut fault =
        Fault::pair("healthy/long_poll", text!("clients wait long for an answer", "客户端长时间等待应答"));
    fault.services.push(Service::Silent { port: 8080 });
    also(&mut fault, 8080, 10, Manner::Polls(Duration::from_secs(60)));
    fault
}

/// A monitor asks hosts that are not there.
fn monitor() -> Fault {
    let mut fault = Fault::pair(
        "healthy/monitor",
        text!("a monitor looks for hosts that are not there", "监控程序查找不存在的主机"),
    );
    let hosts = (2..=60).map(|last| Ipv4Addr::new(10, 77, 0, last).into()).collect();
    fault.traffic.push(Traffic::Monitor { hosts, per_second: 10 });
    fault
}

/// What neighbours say to everybody, and a policy that lets nothing of it in.
fn talk_to_all() -> Fault {
    let accept: &[&str] = &["iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "80", "-j", "ACCEPT"];
    let mut fault = Fault::pair(
        "healthy/talk_to_all",
        text!("a policy drops multicast that nobody joined", "默认策略丢弃无人加入的组播"),
    )
    .needs(&[Need::IptablesNft])
    .prepares(vec![tool(Place::Client, &["ip", "route", "add", "224.0.0.0/8", "dev", "eth0"], &[])])
    .breaks(
        vec![
            tool(Place::Server, accept, &["iptables-nft", "-F", "INPUT"]),
            tool(
                Place::Server,
                &["iptables-nft", "-P", "INPUT", "DROP"],
                &["iptables-nft", "-P", "INPUT", "ACCEPT"],
            ),
        ],
        &[],
    );
    fault.traffic.push(Traffic::Datagrams {
        from: Ipv4Addr::UNSPECIFIED.into(),
        to: SocketAddr::new(MDNS.into(), 5353),
        per_second: 5,
        bytes: 100,
    });
    fault
}

/// A socket overflowed before anybody looked; now it reads.
fn old_counters() -> Fault {
    let deaf = Service::Datagrams { port: 9000, reads: false, buffer: Some(4096) };
    let mut fault = Fault::pair(
        "healthy/old_counters",
        text!("counters that rose before the window", "计数器在观察窗口之前就已上升"),
    )
    .breaks(
        vec![
            Change::Serve(vec![Service::page(8192), deaf]),
            Change::Send(Traffic::datagrams(Topology::Pair, 200, 512), Duration::from_millis(500)),
            Change::Serve(vec![Service::page(8192), Service::datagrams()]),
        ],
        &[],
    );
    fault.services.push(Service::datagrams());
    fault
}

/// Requests to a service that closes with bytes unread: the kernel purges them and resets.
fn close_unread() -> Fault {
    let mut fault = Fault::pair(
        "healthy/close_unread",
        text!("connections closed with unread data", "连接关闭时仍有未读数据"),
    );
    fault.services.push(Service::Abrupt { port: 8080 });
    let to = SocketAddr::new(Topology::Pair.server().into(), 8080);
    fault.traffic.push(Traffic::Requests { to, per_second: 20, manner: Manner::Reads });
    fault
}
