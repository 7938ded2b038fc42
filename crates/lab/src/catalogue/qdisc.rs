//! Queueing disciplines that lose packets.

use super::{NETEM_30, RootQdisc};
use crate::fault::{BOTH, Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::Place;
use whydrop_model::{Action, snapshot::QdiscOptions, text};

/// 32 kB/s with room for two full segments: a page of 64 KiB overflows it at once.
const TIGHT_TBF: RootQdisc =
    RootQdisc { kind: "tbf", options: QdiscOptions::Tbf { rate: 32_000, burst: 4000, limit: 4000 } };

/// Longer than the first time-out of a SYN.
const LATE: RootQdisc = RootQdisc {
    kind: "netem",
    options: QdiscOptions::Netem {
        loss: 0.0,
        model: None,
        limit: 1000,
        delay_us: 1_800_000,
        jitter_us: 0,
        corrupt: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
        rate: 0,
    },
};

/// All that comes to the server's eth0 goes to a cable that ends in itself.
const ELSEWHERE: [[&[&str]; 2]; 5] = [
    [
        &["ip", "link", "add", "away0", "type", "veth", "peer", "name", "away1"],
        &["ip", "link", "del", "away0"],
    ],
    [&["ip", "link", "set", "away0", "up"], &["ip", "link", "set", "away0", "down"]],
    [&["ip", "link", "set", "away1", "up"], &["ip", "link", "set", "away1", "down"]],
    [&["tc", "qdisc", "add", "dev", "eth0", "clsact"], &["tc", "qdisc", "del", "dev", "eth0", "clsact"]],
    [
        &[
            "tc", "filter", "add", "dev", "eth0", "ingress", "protocol", "all", "pref", "10", "u32", "match",
            "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", "away0",
        ],
        &["tc", "filter", "del", "dev", "eth0", "ingress", "pref", "10"],
    ],
];

const BLACKHOLE: RootQdisc = RootQdisc { kind: "blackhole", options: QdiscOptions::Other };

pub(super) fn faults() -> Vec<Fault> {
    let on_server = |qdisc: &RootQdisc| vec![Change::Act(Place::Server, Action::QdiscAdd(qdisc.on("eth0")))];
    let mut shaper = Fault::pair(
        "qdisc.shaper_drop",
        text!("a token bucket far too small on the server's eth0", "服务器 eth0 上的令牌桶限速过低"),
    )
    .breaks(on_server(&TIGHT_TBF), &["qdisc.shaper_drop"]);
    // What a queue of the sender refuses TCP takes back and sends later: the client gets every byte, only late.
    shaper.asked = &[BOTH, &[Place::Server]];
    shaper.services = vec![Service::page(64 * 1024)];
    vec![
        Fault::pair(
            "qdisc.netem_loss",
            text!("netem throws away 30 % of what the server sends", "netem 丢弃服务器 30% 的出站包"),
        )
        .needs(&[Need::Netem])
        .breaks(on_server(&NETEM_30), &["qdisc.netem_loss"]),
        shaper,
        Fault::pair(
            "qdisc.netem_delay",
            text!("netem delays what the server sends by 1.8 s", "netem 使服务器的出站包延迟 1.8 秒"),
        )
        .needs(&[Need::Netem])
        .breaks(on_server(&LATE), &["qdisc.netem_delay"]),
        Fault::pair(
            "tc.mirred_redirect",
            text!("a filter redirects all that comes to the server", "过滤器把到达服务器的所有包重定向"),
        )
        .needs(&[Need::Mirred])
        .breaks(
            ELSEWHERE.iter().map(|[argv, undo]| Change::Tool { at: Place::Server, argv, undo }).collect(),
            &["tc.mirred_redirect"],
        ),
        Fault::pair(
            "qdisc.blackhole",
            text!(
                "a blackhole qdisc swallows all that the server sends",
                "blackhole 队列吞掉服务器发出的所有包"
            ),
        )
        .breaks(on_server(&BLACKHOLE), &["qdisc.blackhole"]),
    ]
}
