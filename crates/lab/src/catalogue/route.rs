//! Packets that find no way, or the wrong one.

use super::{filter, route, to_web};
use crate::fault::{BOTH, Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::{Place, Topology};
use crate::traffic::Traffic;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use whydrop_model::netfilter::{Hook, Match, RuleVerdict};
use whydrop_model::snapshot::PolicyRule;
use whydrop_model::{Action, text};

pub(super) fn faults() -> Vec<Fault> {
    let mut no_route = Fault::routed(
        "route.no_route",
        text!("the client has no route to the server's network", "客户端没有通往服务器网络的路由"),
    )
    .breaks(
        vec![Change::Act(
            Place::Client,
            Action::RouteDelete(route(
                "unicast",
                Ipv4Addr::new(10, 77, 2, 0),
                24,
                Some(Ipv4Addr::new(10, 77, 1, 1)),
            )),
        )],
        &["route.no_route"],
    );
    no_route.target = Place::Client;
    no_route.asked = &[BOTH, &[Place::Client]];

    let black_hole = Fault::routed(
        "route.blackhole",
        text!("the server's route back to the client is a blackhole", "服务器返回客户端的路由是 blackhole"),
    )
    .breaks(
        vec![Change::Act(
            Place::Server,
            Action::RouteAdd(route("blackhole", Ipv4Addr::new(10, 77, 1, 2), 32, None)),
        )],
        &["route.blackhole"],
    );
    vec![no_route, black_hole, policy_rule(), rp_filter(), unresolved(), remote_loss()]
}

/// The server refuses to send anything back to the client.
fn policy_rule() -> Fault {
    let prohibit = PolicyRule {
        family: 4,
        priority: 100,
        action: "prohibit".into(),
        table: None,
        from: None,
        to: Some((IpAddr::V4(Ipv4Addr::new(10, 77, 1, 2)), 32)),
        iif: None,
        oif: None,
        fwmark: None,
        conditions: vec![],
    };
    Fault::routed(
        "route.policy_rule",
        text!("a policy rule of the server refuses the way back", "服务器的策略规则拒绝返回的包"),
    )
    .breaks(
        vec![Change::Act(Place::Server, Action::PolicyRuleAdd { rule: prohibit })],
        &["route.policy_rule"],
    )
}

/// Datagrams arrive on eth0 with a source whose way back leads over eth1.
fn rp_filter() -> Fault {
    let mut fault = Fault::pair(
        "route.rp_filter",
        text!(
            "strict reverse path filtering discards what arrives on the other cable",
            "严格反向路径过滤丢弃从另一条链路到达的包"
        ),
    )
    .breaks(
        vec![Change::Act(
            Place::Server,
            Action::Sysctl {
                name: "net.ipv4.conf.eth0.rp_filter".into(),
                value: "1".into(),
                was: "0".into(),
            },
        )],
        &["route.rp_filter"],
    );
    fault.topology = Topology::TwoLinks;
    fault.services.push(Service::datagrams());
    fault.traffic.push(Traffic::Datagrams {
        from: Ipv4Addr::new(10, 78, 0, 1).into(),
        to: SocketAddr::new(Topology::TwoLinks.server().into(), 9000),
        per_second: 50,
        bytes: 100,
    });
    fault
}

/// The client asks for an address that nobody has. Its cable was off for a moment, so that nothing is remembered.
fn unresolved() -> Fault {
    let eth0 = |up| Change::Act(Place::Client, Action::LinkState { dev: "eth0".into(), up });
    let server = IpAddr::V4(Topology::Pair.server());
    let mut fault = Fault::pair(
        "neigh.unresolved",
        text!("nobody answers ARP for the server's address", "没有主机应答对服务器地址的 ARP 请求"),
    )
    .breaks(
        vec![
            Change::Act(
                Place::Server,
                Action::AddressDelete { dev: "eth0".into(), ip: server, prefix: crate::site::PREFIX },
            ),
            eth0(false),
            eth0(true),
        ],
        &["neigh.unresolved"],
    )
    .in_view(&["addr.missing"]);
    fault.target = Place::Client;
    fault.asked = &[BOTH, &[Place::Client]];
    fault
}

/// The loss is at the router, which nobody looks at.
fn remote_loss() -> Fault {
    Fault::routed(
        "path.remote_loss",
        text!("the network between client and server loses 30 %", "客户端与服务器之间的网络丢失 30% 的包"),
    )
    .needs(&[Need::Nftables])
    .breaks(
        filter(
            Place::Router,
            Hook::Forward,
            [to_web(), vec![Match::Random(0.3)]].concat(),
            RuleVerdict::Drop,
            "tcp dport 80 numgen random mod 100 < 30 counter drop",
        ),
        &["path.remote_loss"],
    )
    .in_view(&["netfilter.drop_rule"])
}
