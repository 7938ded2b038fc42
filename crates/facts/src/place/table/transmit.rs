//! On the way out: cgroup, neighbours, queue, device.

use super::{Row, SILENT, row};
use crate::Class::{Conditional, Loss, Policy};
use whydrop_model::text;

pub static ROWS: &[Row] = &[
    row(
        Policy,
        "cgroup.egress",
        &["BPF_CGROUP_EGRESS"],
        text!("a BPF program on the cgroup dropped it", "cgroup 上的 BPF 程序将其丢弃"),
    )
    .cause("cgroup.bpf_drop"),
    row(
        Loss,
        "neighbour.transmit",
        &["NEIGH_FAILED", "NEIGH_QUEUEFULL"],
        text!("no answer to ARP or neighbour discovery", "ARP 或邻居发现没有应答"),
    )
    .cause("neigh.unresolved"),
    row(
        Loss,
        "neighbour.transmit",
        SILENT,
        text!("no answer to ARP or neighbour discovery", "ARP 或邻居发现没有应答"),
    )
    .on(&[
        "arp_error_report",
        "ndisc_error_report",
        "neigh_invalidate",
        "__neigh_event_send",
        "neigh_timer_handler",
    ])
    .cause("neigh.unresolved"),
    row(
        Loss,
        "neighbour.transmit",
        &["NEIGH_CREATEFAIL"],
        text!("the neighbour table had no room", "邻居表没有空间"),
    )
    .cause("neigh.table_overflow"),
    row(
        Conditional,
        "neighbour.transmit",
        &["NEIGH_DEAD", "NEIGH_HH_FILLFAIL"],
        text!("the neighbour entry was being removed", "邻居表项正被删除"),
    ),
    row(
        Conditional,
        "neighbour.receive",
        &["IPV6_NDISC_*"],
        text!("a neighbour discovery message that is not valid here", "在此无效的邻居发现报文"),
    ),
    row(
        Loss,
        "qdisc.transmit",
        &["QDISC_*", "FQ_*", "CAKE_FLOOD", "DUALPI2_STEP_DROP"],
        text!(
            "the queue of the device dropped it: full, limited or by design",
            "设备的队列将其丢弃：已满、限速或有意为之"
        ),
    ),
    row(
        Loss,
        "qdisc.transmit",
        SILENT,
        text!(
            "the queue of the device dropped it: full, limited or by design",
            "设备的队列将其丢弃：已满、限速或有意为之"
        ),
    )
    .on(&["__dev_queue_xmit", "__dev_xmit_skb", "kfree_skb_list*", "__qdisc_drop*", "qdisc_*"]),
    row(
        Loss,
        "link.transmit",
        SILENT,
        text!(
            "too big for the other end of the link, or that end is down",
            "超过链路对端的 MTU，或对端未启用"
        ),
    )
    .on(&["__dev_forward_skb*", "____dev_forward_skb"])
    .cause("mtu.peer_mismatch"),
    row(Loss, "link.transmit", SILENT, text!("the other end of the link was not there", "链路对端不存在"))
        .on(&["veth_xmit"]),
    row(
        Loss,
        "tun.transmit",
        &["FULL_RING"],
        text!("the program behind the tun or tap device does not read", "tun/tap 设备背后的程序没有读取"),
    )
    .on(&["tun_*", "tap_*"])
    .cause("tun.reader_stalled"),
    row(
        Loss,
        "link.transmit",
        &["FULL_RING", "NOMEM", "SKB_*", "DEV_HDR", "RECURSION_LIMIT", "PSP_OUTPUT"],
        text!("the device could not send it", "设备无法将其发出"),
    ),
    row(
        Conditional,
        "tun.transmit",
        &["TAP_FILTER", "TAP_TXFILTER", "NOT_SPECIFIED"],
        text!(
            "a filter of the tun or tap device, or nobody has it open",
            "tun/tap 设备的过滤器，或没有程序打开它"
        ),
    )
    .on(&["tun_*", "tap_*"]),
    row(
        Conditional,
        "link.transmit",
        SILENT,
        text!("the virtual device did not pass it on", "虚拟设备没有将其传递"),
    )
    .on(&[
        "macvlan_*",
        "ipvlan_*",
        "macvtap_*",
        "vlan_*",
        "bond_*",
        "dev_*",
        "loopback_xmit",
        "validate_xmit_*",
    ]),
    row(Policy, "ovs.datapath", &["OVS_*"], text!("Open vSwitch dropped it", "Open vSwitch 将其丢弃")),
    row(
        Conditional,
        "wifi.receive",
        &["RX_DROP_*"],
        text!("the wireless stack dropped it", "无线协议栈将其丢弃"),
    ),
    row(Loss, "can.receive", &["CAN*"], text!("an invalid CAN frame", "无效的 CAN 帧")),
];
