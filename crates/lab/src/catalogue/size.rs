//! Packets that are too large for their way.

use super::{filter, tool};
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

    let mut port = Fault::switched(
        "mtu.too_small/bridge_port",
        text!(
            "a port of the bridge takes smaller frames than the other one",
            "网桥的一个端口所能承载的帧比另一个小"
        ),
    )
    .breaks(vec![Change::Act(Place::Router, mtu("eth1", 1400))], &["mtu.too_small"]);
    // What comes back is small: the other way the two ends of the cable disagree, which is another fault.
    port.services = vec![Service::page(100), Service::datagrams()];
    port.traffic.push(Traffic::datagrams(Topology::Switched, 100, 1472));
    vec![small, mismatch, black_hole, port, overlay()]
}

const VXLAN: Need =
    Need::Commands(&[&["ip", "link", "add", "vx0", "type", "vxlan", "id", "42", "dstport", "4789"]]);

/// One end of the tunnel, for 50 bytes less than its path carries.
const fn end(remote: &'static str) -> [&'static str; 14] {
    [
        "ip", "link", "add", "vx0", "mtu", "1450", "type", "vxlan", "id", "42", "remote", remote, "dstport",
        "4789",
    ]
}

const NEAR_END: [&str; 14] = end("10.78.0.2");
const FAR_END: [&str; 14] = end("10.78.0.1");

/// The client stands behind a bridge that leads into a tunnel, as a container of an overlay network does.
fn overlay() -> Fault {
    let router = |argv: &'static [&'static str]| tool(Place::Router, argv, &[]);
    let server = |argv: &'static [&'static str]| tool(Place::Server, argv, &[]);
    let mut fault = Fault::new(
        "mtu.tunnel_overhead",
        text!(
            "the client of an overlay network sends 1500 bytes, of which its tunnel takes 1450",
            "overlay 网络的客户端发送 1500 字节的包，而隧道只能承载 1450 字节"
        ),
        Topology::Hosted,
        vec!["tcp://10.77.0.2:80"],
    )
    .needs(&[VXLAN])
    .prepares(vec![
        router(&["ip", "addr", "flush", "dev", "eth0"]),
        router(&["ip", "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", "{server}"]),
        router(&["ip", "addr", "add", "10.78.0.1/24", "dev", "up0"]),
        router(&["ip", "link", "set", "up0", "up"]),
        router(&["ip", "link", "add", "br0", "type", "bridge"]),
        router(&NEAR_END),
        router(&["ip", "link", "set", "eth0", "master", "br0"]),
        router(&["ip", "link", "set", "vx0", "master", "br0"]),
        router(&["ip", "link", "set", "vx0", "up"]),
        router(&["ip", "link", "set", "br0", "up"]),
        server(&["ip", "addr", "add", "10.78.0.2/24", "dev", "up0"]),
        server(&["ip", "link", "set", "up0", "up"]),
        server(&FAR_END),
        server(&["ip", "addr", "add", "10.77.0.2/24", "dev", "vx0"]),
        server(&["ip", "link", "set", "vx0", "up"]),
        tool(Place::Client, &["ip", "link", "set", "eth0", "mtu", "1450"], &[]),
        tool(Place::Client, &["ip", "addr", "add", "10.77.0.1/24", "dev", "eth0"], &[]),
    ])
    .breaks(
        vec![tool(
            Place::Client,
            &["ip", "link", "set", "eth0", "mtu", "1500"],
            &["ip", "link", "set", "eth0", "mtu", "1450"],
        )],
        &["mtu.tunnel_overhead"],
    );
    fault.services.push(Service::datagrams());
    fault.traffic.push(Traffic::datagrams(Topology::Hosted, 100, 1472));
    fault.target = Place::Router;
    fault
}
