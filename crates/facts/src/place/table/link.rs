//! Before the IP layer: XDP, tc ingress, backlog, bridge.

use super::{Row, SILENT, row};
use crate::Class::{Benign, Conditional, Loss, Policy};
use whydrop_model::text;

pub static ROWS: &[Row] = &[
    row(Policy, "xdp.receive", &["XDP"], text!("an XDP program dropped it", "XDP 程序将其丢弃"))
        .cause("xdp.drop"),
    row(Policy, "xdp.receive", SILENT, text!("an XDP program dropped it", "XDP 程序将其丢弃"))
        .on(&["do_xdp_generic", "netif_receive_generic_xdp", "veth_xdp_rcv_skb", "bpf_prog_run_generic_xdp"])
        .cause("xdp.drop"),
    row(
        Policy,
        "tc.ingress",
        &["TC_INGRESS"],
        text!("a tc filter or BPF program dropped it on arrival", "tc 过滤器或 BPF 程序在入口将其丢弃"),
    ),
    row(
        Policy,
        "tc.egress",
        &["TC_EGRESS"],
        text!(
            "a tc filter or BPF program dropped it before the queue",
            "tc 过滤器或 BPF 程序在入队前将其丢弃"
        ),
    ),
    row(
        Loss,
        "tc.ingress",
        &["TC_COOKIE_ERROR", "TC_CHAIN_NOTFOUND", "TC_RECLASSIFY_LOOP"],
        text!("tc filters are not consistent", "tc 过滤器配置不一致"),
    ),
    row(
        Loss,
        "softnet.backlog",
        &["CPU_BACKLOG"],
        text!(
            "the backlog of a CPU was full (netdev_max_backlog)",
            "某个 CPU 的积压队列已满（netdev_max_backlog）"
        ),
    )
    .cause("softnet.backlog_overflow"),
    row(
        Loss,
        "softnet.backlog",
        SILENT,
        text!(
            "the backlog of a CPU was full (netdev_max_backlog)",
            "某个 CPU 的积压队列已满（netdev_max_backlog）"
        ),
    )
    .on(&["enqueue_to_backlog"])
    .cause("softnet.backlog_overflow"),
    row(
        Benign,
        "link.receive",
        &["UNHANDLED_PROTO"],
        text!(
            "a frame of a protocol that nobody here speaks (LLDP, STP ...)",
            "本机无人处理的协议帧（LLDP、STP 等）"
        ),
    ),
    row(
        Conditional,
        "link.receive",
        SILENT,
        text!(
            "no protocol took the frame, or a program at the device dropped it",
            "没有协议接收该帧，或设备上的程序将其丢弃"
        ),
    )
    .on(&["__netif_receive_skb_core"]),
    row(
        Benign,
        "ip.receive",
        &["OTHERHOST"],
        text!(
            "the frame was addressed to another machine (promiscuous mode)",
            "该帧发往其他机器（混杂模式）"
        ),
    ),
    row(
        Benign,
        "link.receive",
        &["MAC_IEEE_MAC_CONTROL"],
        text!("a control frame of the link, never meant for a program", "链路控制帧，本就不交给程序"),
    ),
    row(
        Loss,
        "bridge.receive",
        &["BRIDGE_INGRESS_STP_STATE"],
        text!("the bridge port does not forward (spanning tree state)", "网桥端口处于不转发状态（STP）"),
    )
    .cause("bridge.port_blocking"),
    row(
        Conditional,
        "bridge.receive",
        &["LOCAL_MAC", "MAC_INVALID_SOURCE", "NO_TX_TARGET"],
        text!("the bridge has no port to send it to", "网桥没有可发送的端口"),
    ),
    row(
        Loss,
        "bridge.forward",
        SILENT,
        text!("too big for the port that it should leave by", "超过出口网桥端口的 MTU"),
    )
    .on(&["br_dev_queue_push_xmit", "br_nf_dev_queue_xmit", "br_nf_ip_fragment"])
    .cause("mtu.too_small"),
    row(
        Conditional,
        "bridge.forward",
        SILENT,
        text!("the bridge does not let it pass between these ports", "网桥不允许它在这些端口之间通过"),
    )
    .on(&["br_*", "__br_*"]),
    row(Loss, "link.receive", &["DEV_READY"], text!("the device was not up", "设备未启用")),
    row(
        Loss,
        "link.receive",
        &["MACVLAN_BROADCAST_BACKLOG", "IPVLAN_MULTICAST_BACKLOG"],
        text!("the queue for broadcasts of a virtual device was full", "虚拟设备的广播队列已满"),
    ),
];
