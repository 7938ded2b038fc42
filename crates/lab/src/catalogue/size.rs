//! Packets that are too large for their way.

use super::filter;
use crate::fault::{Change, Fault};
use crate::need::Need;
use crate::service::Service;
use crate::site::{Place, Topology};
use crate::traffic::Traffic;
use whydrop_model::netfilter::{Hook, Match, RuleVerdict};
use whydrop_model::{Action, text};

pub(super) fn faults() -> Vec<Fault> {
    let mtu = |dev: &str, mtu| Action::LinkMtu { dev: dev.into(), mtu, was: 1500 };
    let mut small = Fault::pair(
        "mtu.too_small",
        text!("the MTU of the server's eth0 is 100 bytes", "服务器 eth0 的 MTU 仅 100 字节"),
    )
    .breaks(vec![Change::Act(Place::Server, mtu("eth0", 100))], &["mtu.too_small"]);
    small.probes.push("http://10.77.0.2/");

    let mut mismatch = Fault::pair(
        "mtu.peer_mismatch",
        text!("the two ends of a cable have different MTUs", "链路两端的 MTU 不一致"),
    )
    .breaks(vec![Change::Act(Place::Server, mtu("eth0", 1400))], &["mtu.peer_mismatch"]);
    mismatch.services.push(Service::datagrams());
    // 1472 + 28 bytes of headers fill the client's MTU.
    mismatch.traffic.push(Traffic::datagrams(Topology::Pair, 100, 1472));

    let mut black_hole = Fault::routed(
        "mtu.pmtu_blackhole",
        text!(
            "a narrow link behind the router, whose ICMP never arrives",
            "路由器之后有一段窄链路，而其 ICMP 消息到不了服务器"
        ),
    )
    .needs(&[Need::Nftables]);
    let mute = filter(
        Place::Router,
        Hook::Output,
        vec![Match::L4Proto(1)],
        RuleVerdict::Drop,
        "meta l4proto icmp counter drop",
    );
    let narrow = Change::Act(Place::Router, mtu("eth0", 1300));
    black_hole = black_hole.breaks([mute, vec![narrow]].concat(), &["mtu.pmtu_blackhole"]);
    black_hole.services = vec![Service::page(64 * 1024)];
    black_hole.probes.push("http://10.77.2.2/");
    vec![small, mismatch, black_hole]
}
