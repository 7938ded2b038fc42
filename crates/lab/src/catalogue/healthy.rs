//! What looks bad and is not: the verdict must be clear.

use super::filter;
use crate::fault::{Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::{Place, Topology};
use crate::traffic::Traffic;
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
    scan.traffic.push(Traffic::Scan { to: Topology::Pair.server(), first_port: 2000, per_second: 50 });

    vec![idle, busy, unused, old_counters(), scan, close_unread()]
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
    let to = std::net::SocketAddrV4::new(Topology::Pair.server(), 8080);
    fault.traffic.push(Traffic::Requests { to, per_second: 20 });
    fault
}
