//! Queueing disciplines that lose packets.

use super::{NETEM_30, RootQdisc};
use crate::fault::{Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::Place;
use whydrop_model::{Action, snapshot::QdiscOptions, text};

/// 32 kB/s with room for two full segments: a page of 64 KiB overflows it at once.
const TIGHT_TBF: RootQdisc =
    RootQdisc { kind: "tbf", options: QdiscOptions::Tbf { rate: 32_000, burst: 4000, limit: 4000 } };

const BLACKHOLE: RootQdisc = RootQdisc { kind: "blackhole", options: QdiscOptions::Other };

pub(super) fn faults() -> Vec<Fault> {
    let on_server = |qdisc: &RootQdisc| vec![Change::Act(Place::Server, Action::QdiscAdd(qdisc.on("eth0")))];
    let mut shaper = Fault::pair(
        "qdisc.shaper_drop",
        text!("a token bucket far too small on the server's eth0", "服务器 eth0 上的令牌桶限速过低"),
    )
    .breaks(on_server(&TIGHT_TBF), &["qdisc.shaper_drop"]);
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
            "qdisc.blackhole",
            text!(
                "a blackhole qdisc swallows all that the server sends",
                "blackhole 队列吞掉服务器发出的所有包"
            ),
        )
        .breaks(on_server(&BLACKHOLE), &["qdisc.blackhole"]),
    ]
}
