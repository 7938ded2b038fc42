//! The IP layer: headers, reassembly, routing, IPsec, tunnels.

use super::{Row, SILENT, row};
use crate::Class::{Benign, Conditional, Loss, Policy};
use whydrop_model::text;

pub static ROWS: &[Row] = &[
    // IP input and reassembly.
    row(Loss, "ip.receive", &["IP_CSUM"], text!("the IP header was damaged on its way", "IP 头在途中损坏"))
        .cause("wire.corruption"),
    row(
        Conditional,
        "ip.forward",
        &["IP_INHDR", "NOT_SPECIFIED"],
        text!(
            "its TTL or hop limit ended here: a loop, or a traceroute",
            "TTL（跳数）在此耗尽：路由环路，或 traceroute"
        ),
    )
    .on(&["ip_forward", "ip6_forward"])
    .cause("route.loop"),
    row(Loss, "ip.receive", &["IP_INHDR"], text!("the IP header is not valid", "IP 头无效")),
    row(
        Conditional,
        "ip.receive",
        &["PKT_TOO_SMALL", "HDR_TRUNC", "IPV6_BAD_EXTHDR", "IPV6_TOO_MANY_EXTHDRS"],
        text!(
            "shorter than its headers say, or with headers that are refused",
            "比头部声明的短，或含有被拒绝的头部"
        ),
    ),
    row(
        Conditional,
        "ip.receive",
        &["IPV6DISABLED"],
        text!("IPv6 is disabled on the device", "该设备已禁用 IPv6"),
    ),
    // ip6_rcv_core() names the reason only where the device once had IPv6.
    row(
        Benign,
        "ip.receive",
        SILENT,
        text!("IPv6 multicast for a device without IPv6", "发给没有 IPv6 的设备的 IPv6 组播"),
    )
    .on(&["ip6_rcv_core"])
    .multicast(),
    row(
        Conditional,
        "ip.receive",
        SILENT,
        text!(
            "the device has no IPv6 (an MTU below 1280 ends it), or the header is not valid",
            "该设备没有 IPv6（MTU 小于 1280 时会失去它），或 IPv6 头无效"
        ),
    )
    .on(&["ip6_rcv_core"]),
    row(
        Benign,
        "ip.reassembly",
        &["DUP_FRAG"],
        text!("a fragment that had arrived already", "重复到达的分片"),
    ),
    row(
        Loss,
        "ip.reassembly",
        &["FRAG_REASM_TIMEOUT", "FRAG_TOO_FAR"],
        text!("fragments of it never arrived", "其余分片始终没有到达"),
    )
    .cause("ip.frag_reassembly"),
    row(
        Loss,
        "ip.reassembly",
        SILENT,
        text!(
            "fragments of it never arrived, or there was no room for them",
            "其余分片始终没有到达，或没有内存存放"
        ),
    )
    .on(&["ip_expire", "ip6frag_expire_frag_queue", "inet_frag_*", "ip_defrag", "ipv6_frag_rcv"])
    .cause("ip.frag_reassembly"),
    row(
        Benign,
        "ip.receive",
        SILENT,
        text!("multicast that no program here has joined", "本机没有程序加入的组播"),
    )
    .on(&["ip6_mc_input", "ip_mc_input"]),
    // Routing.
    row(
        Benign,
        "route.input",
        &[
            "IP_INNOROUTES",
            "IP_OUTNOROUTES",
            "IP_INVALID_DEST",
            "IP_INADDRERRORS",
            "IP_LOCALNET",
            "NOT_SPECIFIED",
        ],
        text!(
            "multicast or broadcast that nothing here waits for, as while an interface comes up",
            "本机无人等待的组播或广播，例如接口刚启用时"
        ),
    )
    .on(&[
        "ip_error",
        "ip6_pkt_*",
        "ip_rcv_finish*",
        "ip_route_input*",
        "ip6_rcv_finish*",
        "ip_forward",
        "ip6_forward",
    ])
    .multicast(),
    row(
        Loss,
        "route.input",
        &["IP_RPFILTER"],
        text!(
            "it came in by another interface than the route back (rp_filter)",
            "到达的接口与回程路由不一致（rp_filter）"
        ),
    )
    .cause("route.rp_filter"),
    row(
        Loss,
        "route.input",
        &["IP_LOCAL_SOURCE", "IP_INVALID_SOURCE"],
        text!("its source address is impossible here", "源地址在此不可能出现"),
    )
    .cause("route.martian_source"),
    row(
        Policy,
        "route.input",
        &["IP_LOCALNET"],
        text!(
            "127.0.0.0/8 may not enter by a device (route_localnet)",
            "127.0.0.0/8 不得从设备进入（route_localnet）"
        ),
    )
    .cause("container.route_localnet"),
    row(
        Loss,
        "route.input",
        &["IP_INVALID_DEST"],
        text!("its destination address is impossible here", "目的地址在此不可能出现"),
    ),
    row(
        Conditional,
        "route.input",
        &["UNICAST_IN_L2_MULTICAST", "ARP_PVLAN_DISABLE"],
        text!("a unicast packet in a multicast frame", "组播帧中的单播包"),
    ),
    row(
        Conditional,
        "route.input",
        &["IP_INADDRERRORS"],
        text!("not for this machine, and it does not forward", "不是发给本机的，而本机不转发"),
    )
    .cause("route.forwarding_off"),
    row(
        Loss,
        "route.input",
        &["IP_INNOROUTES"],
        text!("no route to its destination", "没有到目的地址的路由"),
    )
    .cause("route.no_route"),
    row(
        Loss,
        "route.output",
        &["IP_OUTNOROUTES"],
        text!("no route to its destination", "没有到目的地址的路由"),
    )
    .cause("route.no_route"),
    row(Policy, "route.input", SILENT, text!("a blackhole route swallowed it", "被黑洞路由吞掉"))
        .on(&["dst_discard*"])
        .cause("route.blackhole"),
    row(
        Loss,
        "route.input",
        SILENT,
        text!(
            "an unreachable or prohibit route or rule, or forwarding is off",
            "unreachable 或 prohibit 路由（规则），或未开启转发"
        ),
    )
    .on(&["ip_error", "ip6_pkt_*"]),
    row(Conditional, "route.input", SILENT, text!("the route lookup refused it", "路由查找将其拒绝")).on(&[
        "ip_rcv_finish*",
        "ip_route_input*",
        "ip6_rcv_finish*",
    ]),
    row(
        Conditional,
        "ip.transmit",
        &["PKT_TOO_BIG"],
        text!(
            "too big for the next link, and it may not be fragmented: its sender is told, and most send smaller ones",
            "超过下一链路的 MTU，且不允许分片：会通知发送方，多数发送方会改发更小的包"
        ),
    )
    .cause("mtu.too_small"),
    row(
        Loss,
        "ip.transmit",
        SILENT,
        text!("too big for the next link, and it may not be fragmented", "超过下一链路的 MTU，且不允许分片"),
    )
    .on(&["ip_fragment", "ip_do_fragment", "ip6_fragment"])
    .cause("mtu.too_small"),
    // IPsec, tunnels.
    row(Policy, "xfrm", &["XFRM_POLICY"], text!("an IPsec policy refused it", "IPsec 策略将其拒绝")),
    row(Conditional, "xfrm", SILENT, text!("IPsec refused it", "IPsec 将其拒绝"))
        .on(&["xfrm*", "esp*", "ah_*"]),
    row(
        Loss,
        "tunnel.receive",
        &["VXLAN_VNI_NOT_FOUND"],
        text!("no tunnel here has this id", "本机没有该 ID 的隧道"),
    )
    .cause("tunnel.vni_mismatch"),
    row(
        Loss,
        "tunnel.receive",
        &["VXLAN_INVALID_HDR", "VXLAN_ENTRY_EXISTS", "IP_TUNNEL_ECN"],
        text!("the tunnel refused its header", "隧道拒绝其头部"),
    ),
    row(
        Conditional,
        "tunnel.receive",
        SILENT,
        text!("the tunnel took it for none of its own", "隧道认为不属于自己"),
    )
    .on(&["vxlan_rcv", "geneve_udp_encap_recv", "gre_rcv", "ipip_rcv", "ip_tunnel_rcv"]),
    row(
        Loss,
        "tunnel.transmit",
        &["TUNNEL_TXINFO"],
        text!("the tunnel does not know where to send it", "隧道不知道发往何处"),
    ),
];
