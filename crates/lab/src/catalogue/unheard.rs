//! Requests that reach nobody who could answer: turned elsewhere, too short of breath, to a stopped program, through a
//! rule to a program that would not hear them either, read too late.

use super::{ANYWHERE, dnat, filter, to_web, tool};
use crate::fault::{BOTH, Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::{Place, Topology};
use crate::traffic::{Manner, Traffic};
use std::net::{Ipv4Addr, SocketAddr};
use whydrop_model::netfilter::{Hook, RuleVerdict};
use whydrop_model::{Action, text};

const TURN: [&str; 11] = redirect("-A");
const TURN_BACK: [&str; 11] = redirect("-D");

const fn redirect(verb: &'static str) -> [&'static str; 11] {
    ["iptables-nft", "-t", "nat", verb, "OUTPUT", "-p", "tcp", "-j", "REDIRECT", "--to-ports", "15001"]
}

const SOMETIMES: [&str; 17] = sometimes("-A");
const SOMETIMES_BACK: [&str; 17] = sometimes("-D");
const ELSE: [&str; 15] = dnat("-A", "PREROUTING", ANYWHERE, "10.77.2.2:8000");
const ELSE_BACK: [&str; 15] = dnat("-D", "PREROUTING", ANYWHERE, "10.77.2.2:8000");

/// The first of two backends, as kube-proxy chooses one.
const fn sometimes(verb: &'static str) -> [&'static str; 17] {
    [
        "iptables-nft",
        "-t",
        "nat",
        verb,
        "PREROUTING",
        "-p",
        "tcp",
        "-m",
        "statistic",
        "--mode",
        "random",
        "--probability",
        "0.5",
        "-j",
        "DNAT",
        "--to-destination",
        "10.77.2.2:80",
    ]
}

/// The second, where nobody listens.
pub(super) fn faults() -> Vec<Fault> {
    let turned = Fault::pair(
        "nat.dnat_dead_backend",
        text!(
            "all connections of the client are redirected to a proxy that does not run",
            "客户端的所有连接都被重定向到一个没有运行的代理"
        ),
    )
    .needs(&[Need::Commands(&[&TURN])])
    .breaks(vec![tool(Place::Client, &TURN, &TURN_BACK)], &["nat.dnat_dead_backend"]);

    let half = Fault::routed(
        "nat.dnat_dead_backend/one_of_two",
        text!(
            "the router sends half of the connections to a port on which nothing listens",
            "路由器把一半的连接转到一个无人监听的端口"
        ),
    )
    .needs(&[Need::Commands(&[&SOMETIMES])])
    .breaks(
        vec![tool(Place::Router, &SOMETIMES, &SOMETIMES_BACK), tool(Place::Router, &ELSE, &ELSE_BACK)],
        &["nat.dnat_dead_backend"],
    )
    .aims_at(Place::Router)
    .asked(&[BOTH, &[Place::Client], &[Place::Router]]);

    let to = SocketAddr::new(Topology::Routed.server().into(), 80);
    let short = Traffic::Requests { to, per_second: 10, manner: Manner::Ttl(1) };
    let mut breathless = Fault::routed(
        "ip.ttl_too_low",
        text!("the client's packets have a TTL of 1", "客户端发出的包 TTL 为 1"),
    )
    .breaks(vec![Change::Traffic(vec![short])], &["ip.ttl_too_low"]);
    breathless.probes = vec![];

    let setting = Action::Sysctl {
        name: "net.ipv4.ip_default_ttl".to_owned(),
        value: "1".to_owned(),
        was: "64".to_owned(),
    };
    let answers = Fault::routed(
        "ip.ttl_too_low/answers",
        text!("the server's answers have a TTL of 1", "服务器的应答 TTL 为 1"),
    )
    .breaks(vec![Change::Act(Place::Server, setting)], &["ip.ttl_too_low"]);

    let stopped = Fault::pair(
        "app.hung",
        text!("nginx was stopped by a signal while it listens", "nginx 在监听时被信号暂停"),
    )
    .needs(&[Need::Commands(&[&["nginx", "-v"]])])
    .breaks(vec![Change::Serve(vec![Service::Nginx { port: 80, stopped: true }])], &["app.hung"]);

    let local = Service::Page { ip: Ipv4Addr::LOCALHOST.into(), port: 80, bytes: 8192 };
    let mut both =
        filter(Place::Server, Hook::Input, to_web(), RuleVerdict::Drop, "tcp dport 80 counter drop");
    both.push(Change::Serve(vec![local]));
    let twice = Fault::pair(
        "netfilter.drop_rule/in_front_of_loopback",
        text!(
            "a rule drops the requests, and the web server listens on 127.0.0.1 only",
            "规则丢弃请求，而且 Web 服务器只监听 127.0.0.1"
        ),
    )
    .needs(&[Need::Nftables])
    .breaks(both, &["netfilter.drop_rule", "app.bound_loopback"]);

    let mut late = Fault::pair(
        "socket.rcvbuf_overflow",
        text!(
            "a monitor sends 700 echo requests at once and reads the answers late",
            "监控程序一次发出 700 个回显请求，却很晚才读取应答"
        ),
    )
    .breaks(
        vec![Change::Traffic(vec![Traffic::Pings { to: Topology::Pair.server(), burst: 700 }])],
        &["socket.rcvbuf_overflow"],
    )
    .asked(&[BOTH, &[Place::Client]]);
    late.target = Place::Client;
    late.probes = vec![];
    vec![turned, half, breathless, answers, stopped, twice, late]
}
