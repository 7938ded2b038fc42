//! Sockets: TCP, UDP, raw, packet and ping.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Socket {
    /// Its kind.
    pub protocol: Protocol,
    /// TCP state in words: listen, established, syn_sent, close_wait …; for the others `close` or `established`.
    pub state: String,
    /// Local address and port; unspecified for a packet socket.
    pub local: SocketAddr,
    /// Remote address and port; unspecified if not connected.
    pub remote: SocketAddr,
    /// IPV6_V6ONLY; only for v6 sockets.
    pub v6only: Option<bool>,
    /// SO_BINDTODEVICE index, or the interface of a packet socket; 0 if none.
    pub link: u32,
    /// Inode, for the owner.
    pub inode: u64,
    /// Cookie: identity of the socket across two snapshots. For a raw or ping socket its inode, which serves for that.
    pub cookie: u64,
    /// Bytes not yet read; for a listener connections not yet accepted.
    pub receive_queue: u32,
    /// Bytes not yet acknowledged; for a listener the length of its accept queue.
    pub send_queue: u32,
    /// sk_drops.
    pub drops: Option<u32>,
    /// Receive buffer limit in bytes.
    pub receive_buffer: Option<u32>,
    /// Send buffer limit in bytes.
    #[serde(default)]
    pub send_buffer: Option<u32>,
    /// Owner uid.
    pub uid: u32,
    /// Processes that hold it, at most 8; empty if unknown.
    pub owners: Vec<Owner>,
    /// SO_MARK (INET_DIAG_MARK); told only to CAP_NET_ADMIN.
    #[serde(default)]
    pub mark: Option<u32>,
    /// Type of service of what it sends (INET_DIAG_TOS, INET_DIAG_TCLASS).
    #[serde(default)]
    pub tos: Option<u8>,
    /// Id (inode) of its cgroup in the unified hierarchy (INET_DIAG_CGROUP_ID, 5.9).
    #[serde(default)]
    pub cgroup: Option<u64>,
    /// The kernel's view of a connection; none for a listener, TIME-WAIT, a half-open request, and what is not TCP.
    #[serde(default)]
    pub tcp: Option<TcpInfo>,
}

/// Kind of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// A raw IP socket: it gets a copy of each packet of this IP protocol number; 255 for one that only sends.
    Raw(u8),
    /// A packet socket: it gets a copy of each frame of this Ethertype, 3 for all (ETH_P_ALL).
    Packet(u16),
    /// An ICMP datagram socket (`ping` without privilege); the local port is the identifier of its echo requests.
    Ping,
}

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process id in whydrop's pid namespace.
    pub pid: u32,
    /// Name.
    pub comm: String,
}

/// What a connection waits for with a timer (net/ipv4/inet_diag.c:inet_sk_diag_fill).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timer {
    /// None runs.
    #[default]
    None,
    /// An acknowledgement: retransmission, loss probe or reordering timeout.
    Retransmit,
    /// Keep-alive (a connection at rest).
    KeepAlive,
    /// The end of TIME-WAIT.
    TimeWait,
    /// The peer's window is zero and is asked about.
    ZeroWindowProbe,
    /// A number that this version has no word for.
    Unknown,
}

/// struct tcp_info (include/uapi/linux/tcp.h) and the timer of the same message. It has grown: what a kernel does not
/// send is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpInfo {
    /// The timer that runs.
    pub timer: Timer,
    /// Milliseconds until it expires.
    pub timer_ms: u32,
    /// Retransmissions in a row of what is outstanding now (icsk_retransmits); SYNs in SYN-SENT.
    pub retransmits: u8,
    /// Unanswered window or keep-alive probes in a row.
    pub probes: u8,
    /// Doublings of the timeout.
    pub backoff: u8,
    /// Congestion state: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss.
    pub ca_state: u8,
    /// Retransmission timeout in microseconds.
    pub rto_us: u32,
    /// Smoothed round trip time in microseconds; 0 if never measured.
    pub rtt_us: u32,
    /// Shortest round trip time in microseconds (4.6).
    pub min_rtt_us: Option<u32>,
    /// Segment size for sending, bytes.
    pub snd_mss: u32,
    /// Estimate of the peer's segment size, bytes.
    pub rcv_mss: u32,
    /// Path MTU in bytes as the route and learned exceptions say.
    pub pmtu: u32,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Of them, those that SACK says have arrived.
    pub sacked: u32,
    /// Of them, those taken for lost.
    pub lost: u32,
    /// Of them, those retransmitted and not yet acknowledged.
    pub retrans: u32,
    /// Segments retransmitted in the connection's life.
    pub total_retrans: u32,
    /// Congestion window in segments.
    pub snd_cwnd: u32,
    /// Milliseconds since data was last sent.
    pub last_data_sent_ms: u32,
    /// Milliseconds since data was last received.
    pub last_data_recv_ms: u32,
    /// Milliseconds since an acknowledgement was last received.
    pub last_ack_recv_ms: u32,
    /// Bytes acknowledged (4.1).
    pub bytes_acked: Option<u64>,
    /// Bytes received in order (4.1).
    pub bytes_received: Option<u64>,
    /// Bytes sent, repeats included (4.19).
    pub bytes_sent: Option<u64>,
    /// Bytes repeated (4.19).
    pub bytes_retrans: Option<u64>,
    /// Segments sent, pure acknowledgements included (4.2).
    pub segs_out: Option<u32>,
    /// Segments received (4.2).
    pub segs_in: Option<u32>,
    /// Segments sent with data, repeats included (4.6).
    pub data_segs_out: Option<u32>,
    /// Segments received with data (4.6).
    pub data_segs_in: Option<u32>,
    /// Bytes written by the program and not yet sent (4.6).
    pub notsent_bytes: Option<u32>,
    /// Microseconds with something to send (4.10).
    pub busy_us: Option<u64>,
    /// Of them, held back by the peer's window (4.10).
    pub rwnd_limited_us: Option<u64>,
    /// Of them, held back by the own send buffer (4.10).
    pub sndbuf_limited_us: Option<u64>,
    /// Repeats that a DSACK showed to be needless (4.19).
    pub dsack_dups: Option<u32>,
    /// Segments that arrived out of order (5.5).
    pub rcv_ooopack: Option<u32>,
    /// The peer's window in bytes, scaled (5.4).
    pub snd_wnd: Option<u32>,
    /// The own window in bytes (6.2).
    pub rcv_wnd: Option<u32>,
}
