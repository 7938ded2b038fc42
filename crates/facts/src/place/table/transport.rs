//! Sockets, TCP, UDP.

use super::{ACK, FIN, RST, Row, SILENT, SYN, TCP, UDP, row};
use crate::Class::{Benign, Conditional, Loss, Policy};
use whydrop_model::text;

pub static ROWS: &[Row] = &[
    // Sockets.
    row(
        Benign,
        "socket.lookup",
        &["NO_SOCKET"],
        text!("a ping answer that a raw socket has read already", "原始套接字已读取的 ping 应答"),
    )
    .on(&["ping_rcv"]),
    row(
        Benign,
        "socket.lookup",
        &["NO_SOCKET"],
        text!("a reset for a connection that is gone already", "针对已不存在的连接的 RST"),
    )
    .flags(RST, RST),
    row(
        Conditional,
        "socket.lookup",
        &["NO_SOCKET"],
        text!("no program listens on this port", "没有程序监听该端口"),
    )
    .protocol(TCP)
    .flags(SYN | ACK, SYN)
    .cause("app.not_listening"),
    row(
        Conditional,
        "socket.lookup",
        &["NO_SOCKET"],
        text!(
            "the connection that it belongs to is not, or no longer, known here",
            "本机不认识或已不再认识它所属的连接"
        ),
    )
    .protocol(TCP),
    row(
        Conditional,
        "socket.lookup",
        &["NO_SOCKET"],
        text!("no program listens on this port", "没有程序监听该端口"),
    )
    .cause("app.not_listening"),
    row(
        Conditional,
        "socket.lookup",
        &["IP_NOPROTO"],
        text!("no program takes this IP protocol", "没有程序接收该 IP 协议"),
    ),
    row(
        Policy,
        "socket.filter",
        &["SOCKET_FILTER"],
        text!("a filter of the socket or of its cgroup refused it", "套接字或其 cgroup 上的过滤程序将其拒绝"),
    ),
    row(
        Policy,
        "socket.filter",
        &["SECURITY_HOOK", "PSP_INPUT"],
        text!("a security module refused it", "安全模块将其拒绝"),
    ),
    row(
        Loss,
        "socket.receive_queue",
        &["PFMEMALLOC"],
        text!("memory was reserved for swapping", "内存已预留给交换"),
    ),
    row(
        Loss,
        "socket.receive_queue",
        &["SOCKET_RCVBUFF"],
        text!("the receive buffer of the socket was full", "套接字接收缓冲区已满"),
    )
    .protocol(UDP)
    .cause("udp.rcvbuf_overflow"),
    row(
        Loss,
        "socket.receive_queue",
        &["SOCKET_RCVBUFF"],
        text!("the receive buffer of the socket was full", "套接字接收缓冲区已满"),
    ),
    row(
        Loss,
        "socket.receive_queue",
        SILENT,
        text!(
            "the receive buffer of the socket was full, or its checksum was wrong",
            "套接字接收缓冲区已满，或校验和错误"
        ),
    )
    .on(&["udp_queue_rcv_*", "udpv6_queue_rcv_*", "__udp_queue_rcv_skb", "__udpv6_queue_rcv_skb"]),
    row(
        Loss,
        "socket.receive_queue",
        &["PROTO_MEM"],
        text!("the memory for all UDP sockets was used up (udp_mem)", "UDP 套接字内存总额已用完（udp_mem）"),
    )
    .protocol(UDP)
    .cause("udp.memory"),
    row(
        Loss,
        "socket.receive_queue",
        &["PROTO_MEM"],
        // tcp_data_queue() says so in both cases (tcp_try_rmem_schedule()).
        text!(
            "the receive buffer of the socket was full, or the memory for all TCP sockets (tcp_mem)",
            "套接字接收缓冲区已满，或 TCP 套接字内存总额（tcp_mem）已用完"
        ),
    )
    .protocol(TCP),
    row(
        Loss,
        "socket.receive_queue",
        &["PROTO_MEM"],
        text!("the memory for the protocol was used up", "该协议的内存已用完"),
    ),
    row(
        Loss,
        "socket.receive_queue",
        &["SOCKET_BACKLOG"],
        text!("the socket was busy and its backlog full", "套接字正忙，其积压队列已满"),
    ),
    // TCP and UDP.
    row(Loss, "tcp.receive", &["TCP_CSUM"], text!("the segment was damaged on its way", "报文段在途中损坏"))
        .cause("tcp.bad_checksum"),
    row(Loss, "udp.receive", &["UDP_CSUM"], text!("the datagram was damaged on its way", "数据报在途中损坏"))
        .cause("udp.bad_checksum"),
    row(
        Loss,
        "icmp.receive",
        &["ICMP_CSUM"],
        text!("the ICMP message was damaged on its way", "ICMP 报文在途中损坏"),
    )
    .cause("wire.corruption"),
    row(
        Benign,
        "icmp.receive",
        &["INVALID_PROTO"],
        text!("an ICMP error about a protocol that nobody here speaks", "关于本机无人使用的协议的 ICMP 差错"),
    ),
    row(
        Loss,
        "tcp.receive",
        &["TCP_AUTH_HDR", "TCP_MD5*", "TCP_AO*"],
        text!("TCP MD5 or AO keys are missing or different", "TCP MD5 或 AO 密钥缺失或不一致"),
    )
    .cause("tcp.md5_mismatch"),
    row(
        Loss,
        "tcp.accept_queue",
        &["TCP_LISTEN_OVERFLOW"],
        text!("the accept queue of the listener was full", "监听者的全连接队列已满"),
    )
    .cause("tcp.accept_queue_overflow"),
    row(
        Loss,
        "tcp.receive",
        &["TCP_RFC7323_PAWS", "TCP_RFC7323_TW_PAWS"],
        text!("its time stamp is older than one seen before (PAWS)", "时间戳早于先前所见（PAWS）"),
    )
    .cause("tcp.paws"),
    row(
        Loss,
        "tcp.receive",
        &["TCP_ZEROWINDOW"],
        text!("the receiver had no room: its program does not read", "接收方没有空间：程序没有读取"),
    )
    .cause("app.slow_reader"),
    row(
        Benign,
        "tcp.receive",
        &[
            "TCP_OLD_DATA",
            "TCP_OFOMERGE",
            "TCP_OLD_ACK",
            "TCP_OFO_DROP",
            "TCP_OLD_SEQUENCE",
            "TCP_RFC7323_PAWS_ACK",
        ],
        text!("a repeat of what had arrived already", "已到达内容的重复"),
    ),
    row(
        Benign,
        "tcp.receive",
        &["TCP_RESET", "TCP_CLOSE", "TCP_ABORT_ON_DATA"],
        text!("it ended the connection, or came after its end", "它结束了连接，或在连接结束后到达"),
    ),
    row(
        Policy,
        "tcp.receive",
        &["TCP_MINTTL"],
        text!("its TTL is below what the socket demands", "TTL 低于套接字的要求"),
    ),
    row(
        Loss,
        "tcp.receive",
        &["TCP_OVERWINDOW", "TCP_OFO_QUEUE_PRUNE", "TCP_INVALID_END_SEQUENCE", "TCP_RFC7323_TSECR"],
        text!("the receive window of the connection had no place for it", "连接的接收窗口容纳不下"),
    ),
    row(
        Conditional,
        "tcp.receive",
        &["TCP_*"],
        text!("it does not fit the state of its connection", "与其连接的状态不符"),
    ),
    row(
        Benign,
        "tcp.close",
        SILENT,
        text!(
            "the last packets of a connection that is closed already (TIME_WAIT)",
            "已关闭的连接（TIME_WAIT）的最后几个包"
        ),
    )
    .on(&["tcp_v4_rcv", "tcp_v6_rcv"])
    .flags(FIN, FIN),
    row(
        Benign,
        "tcp.close",
        SILENT,
        text!(
            "a reset that ended its connection, half open ones of SYN probes among them",
            "结束其连接的 RST，包括 SYN 探测留下的半连接"
        ),
    )
    .on(&["tcp_*", "__tcp_*"])
    .flags(RST, RST),
    row(Conditional, "tcp.receive", SILENT, text!("TCP refused it", "TCP 将其拒绝"))
        .on(&["tcp_*", "__tcp_*"]),
    row(Conditional, "udp.receive", SILENT, text!("UDP refused it", "UDP 将其拒绝")).on(&[
        "__udp4_lib_rcv",
        "__udp6_lib_rcv",
        "udp_*",
        "udpv6_*",
    ]),
    row(
        Conditional,
        "icmp.receive",
        SILENT,
        text!("ICMP or IGMP had no use for it", "ICMP 或 IGMP 不需要它"),
    )
    .on(&["icmp_*", "icmpv6_*", "igmp_*", "mld_*", "ping_*"]),
];
