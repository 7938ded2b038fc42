//! Limits that stand in a jump, and a queue that is slower than its packets: what refuses is not what is at fault.

use super::tool;
use crate::fault::{Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::{Place, Topology};
use crate::traffic::{Manner, Traffic};
use std::net::SocketAddr;
use std::time::Duration;
use whydrop_model::text;

const RECENT: Need =
    Need::Commands(&[&["iptables-nft", "-A", "INPUT", "-m", "recent", "--set", "-j", "REJECT"]]);
const CONNLIMIT: Need = Need::Commands(&[&[
    "iptables-nft",
    "-A",
    "INPUT",
    "-p",
    "tcp",
    "-m",
    "connlimit",
    "--connlimit-above",
    "2",
]]);
const NFQUEUE: Need =
    Need::Commands(&[&["iptables-nft", "-A", "INPUT", "-j", "NFQUEUE", "--queue-num", "5"]]);

const CHAIN: [&[&str]; 2] = [&["iptables-nft", "-N", "limited"], &["iptables-nft", "-X", "limited"]];
const REFUSE: [&[&str]; 2] =
    [&["iptables-nft", "-A", "limited", "-p", "tcp", "-j", "REJECT"], &["iptables-nft", "-F", "limited"]];
const SEEN: [&[&str]; 2] = [
    &["iptables-nft", "-A", "INPUT", "-p", "tcp", "--syn", "-m", "recent", "--name", "web", "--set"],
    &["iptables-nft", "-D", "INPUT", "-p", "tcp", "--syn", "-m", "recent", "--name", "web", "--set"],
];
const OFTEN: [&[&str]; 2] = [&recent("-A"), &recent("-D")];
const MANY: [&[&str]; 2] = [&connlimit("-A"), &connlimit("-D")];
const QUEUED: [&[&str]; 2] = [&queued("-A"), &queued("-D")];

const fn recent(verb: &'static str) -> [&'static str; 17] {
    [
        "iptables-nft",
        verb,
        "INPUT",
        "-p",
        "tcp",
        "--syn",
        "-m",
        "recent",
        "--name",
        "web",
        "--update",
        "--seconds",
        "30",
        "--hitcount",
        "6",
        "-j",
        "limited",
    ]
}

const fn connlimit(verb: &'static str) -> [&'static str; 14] {
    [
        "iptables-nft",
        verb,
        "INPUT",
        "-p",
        "tcp",
        "--dport",
        "5222",
        "--syn",
        "-m",
        "connlimit",
        "--connlimit-above",
        "2",
        "-j",
        "limited",
    ]
}

const fn queued(verb: &'static str) -> [&'static str; 11] {
    ["iptables-nft", verb, "INPUT", "-p", "udp", "--dport", "9000", "-j", "NFQUEUE", "--queue-num", "5"]
}

fn at_the_server(steps: &[[&'static [&'static str]; 2]]) -> Vec<Change> {
    steps.iter().map(|[argv, undo]| tool(Place::Server, argv, undo)).collect()
}

pub(super) fn faults() -> Vec<Fault> {
    let mut often = Fault::pair(
        "netfilter.rate_limit/recent",
        text!(
            "who connects more than five times in 30 seconds is sent to a chain that refuses",
            "30 秒内连接超过 5 次的来源被送入一条拒绝链"
        ),
    )
    .needs(&[RECENT])
    .breaks(at_the_server(&[CHAIN, REFUSE, SEEN, OFTEN]), &["netfilter.rate_limit"]);
    often.traffic = vec![Traffic::requests(Topology::Pair, 12)];

    let mut many = Fault::pair(
        "netfilter.connlimit",
        text!(
            "who has two connections open is sent to a chain that refuses",
            "已有两个连接的来源被送入一条拒绝链"
        ),
    )
    .needs(&[CONNLIMIT])
    .breaks(at_the_server(&[CHAIN, REFUSE, MANY]), &["netfilter.connlimit"]);
    // A protocol in which a client may wait for long: on others a service that answers nobody is one that hangs.
    let to = SocketAddr::new(Topology::Pair.server().into(), 5222);
    let manner = Manner::Polls(Duration::from_millis(800));
    many.services = vec![Service::Silent { port: 5222 }];
    many.traffic = vec![Traffic::Requests { to, per_second: 20, manner }];
    many.probes = vec![];

    let mut slow = Fault::pair(
        "netfilter.nfqueue_overflow",
        text!(
            "the program behind an NFQUEUE rule takes 20 ms for each packet",
            "NFQUEUE 规则后面的程序处理每个包需要 20 毫秒"
        ),
    )
    .needs(&[NFQUEUE])
    .breaks(at_the_server(&[QUEUED]), &["netfilter.nfqueue_overflow"]);
    let reader = Service::Queue { number: 5, waiting: 16, pause: Duration::from_millis(20) };
    slow.services.extend([Service::datagrams(), reader]);
    slow.traffic.push(Traffic::datagrams(Topology::Pair, 200, 100));
    vec![often, many, slow]
}
