//! Messages inside the machine, captures, queues that are emptied, netfilter.

use super::{NETFILTER, Row, SILENT, TO_QUEUE, row};
use crate::Class::{Benign, Conditional, Loss, Policy};
use whydrop_model::text;

pub static ROWS: &[Row] = &[
    // Not packets of a network.
    row(
        Benign,
        "local",
        &[],
        text!("a message between processes of this machine, no packet", "本机进程间的消息，并非网络包"),
    )
    .on(&[
        "unix_*",
        "netlink_*",
        "__netlink_*",
        "nfnetlink_*",
        "rtnetlink_*",
        "nlmsg_*",
        "genl_*",
        "virtio_transport_*",
        "vsock_*",
    ]),
    row(
        Benign,
        "local",
        &["UNIX_DISCONNECT", "UNIX_SKIP_OOB"],
        text!("a message between processes of this machine, no packet", "本机进程间的消息，并非网络包"),
    ),
    // Copies for programs that capture.
    row(
        Benign,
        "capture",
        &[],
        text!(
            "the copy for a capturing program (tcpdump); the packet itself went on",
            "给抓包程序（tcpdump）的副本；包本身继续前行"
        ),
    )
    .on(&["packet_rcv*", "tpacket_rcv"]),
    row(
        Benign,
        "capture",
        &["PACKET_SOCK_ERROR"],
        text!(
            "the copy for a capturing program (tcpdump); the packet itself went on",
            "给抓包程序（tcpdump）的副本；包本身继续前行"
        ),
    ),
    row(
        Benign,
        "capture",
        &["SOCKET_FILTER"],
        text!(
            "the copy for a raw socket that did not want it; the packet itself went on",
            "给原始套接字的副本，它并不需要；包本身继续前行"
        ),
    )
    .on(&["raw_rcv*", "rawv6_rcv*", "raw_v4_input", "raw_local_deliver"]),
    // Queues that are emptied: whose queue it was decides.
    row(
        Loss,
        "neighbour.transmit",
        &["QUEUE_PURGE", "NOT_SPECIFIED"],
        text!("packets waited for a neighbour that never answered", "包在等待一个始终不应答的邻居"),
    )
    .under(&["neigh_*", "__neigh_*"])
    .on(&["skb_queue_purge*", "__skb_queue_purge*", "neigh_*", "__neigh_*"])
    .cause("neigh.unresolved"),
    row(
        Benign,
        "socket.close",
        &["QUEUE_PURGE", "SOCKET_CLOSE"],
        text!("left unread in a socket that was closed", "套接字关闭时仍未读取的数据"),
    )
    .under(&[
        "inet_release",
        "inet6_release",
        "inet_sock_destruct",
        "udp_*",
        "tcp_*",
        "inet_csk_*",
        "__sk_destruct",
        "sk_*",
        "__sk_*",
        "packet_release",
        "raw_*",
        "sock_*",
        "__sock_*",
        "ping_*",
        "tun_*",
        "netlink_*",
        "unix_*",
    ]),
    row(
        Benign,
        "socket.close",
        &["QUEUE_PURGE"],
        text!("left unread in a socket that was closed", "套接字关闭时仍未读取的数据"),
    )
    .on(&["sk_stream_kill_queues", "inet_sock_destruct", "udp_destruct_*", "udpv6_destruct_*"]),
    row(
        Benign,
        "socket.close",
        &["SOCKET_CLOSE"],
        text!("left unread in a socket that was closed", "套接字关闭时仍未读取的数据"),
    ),
    row(
        Conditional,
        "queue.purge",
        &["QUEUE_PURGE"],
        text!("a queue was emptied; whose queue it was is not known", "一个队列被清空；不知属于谁"),
    ),
    row(
        Benign,
        "socket.close",
        SILENT,
        text!("left unread in a socket that was closed", "套接字关闭时仍未读取的数据"),
    )
    .on(&[
        "skb_queue_purge*",
        "inet_sock_destruct",
        "sk_stream_kill_queues",
        "tcp_write_queue_purge",
        "skb_rbtree_purge",
        "udp_destruct_*",
        "udpv6_destruct_*",
    ]),
    // Netfilter.
    row(
        Policy,
        NETFILTER,
        &["NETFILTER_DROP"],
        text!("a firewall rule or a chain's policy dropped it", "防火墙规则或链的默认策略将其丢弃"),
    )
    .cause("netfilter.drop_rule"),
    row(
        Policy,
        NETFILTER,
        SILENT,
        text!("a firewall rule or a chain's policy dropped it", "防火墙规则或链的默认策略将其丢弃"),
    )
    .on(&["nf_hook_slow*", "nft_do_chain", "ipt_do_table", "ip6t_do_table"])
    .cause("netfilter.drop_rule"),
    row(
        Loss,
        NETFILTER,
        SILENT,
        text!(
            "a rule sent it to an NFQUEUE that no program reads, or that is full",
            "规则将其送入无程序读取或已满的 NFQUEUE"
        ),
    )
    .on(TO_QUEUE),
    row(
        Policy,
        NETFILTER,
        SILENT,
        text!("the program behind an NFQUEUE dropped it", "NFQUEUE 背后的程序将其丢弃"),
    )
    .on(&["nf_reinject", "nfqnl_*"]),
];
