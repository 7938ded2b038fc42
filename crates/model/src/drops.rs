//! What the kernel's own drop events said.

use crate::finding::Direction;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Everything that the tracer saw in the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DropLog {
    /// Step of the ladder: tp_btf, raw_tp, tracefs, drop_monitor.
    pub step: String,
    /// Every drop, counted in the kernel.
    pub counts: Vec<DropCount>,
    /// Some of them, with their packet.
    pub sampled: Vec<DropEvent>,
    /// What the tracer itself lost: [`DropLog::counts_lost`], and samples that found the ring full.
    pub tracer_lost: u64,
    /// Drops that no row of `counts` names: those under `OTHER`, whose shape found no room, and those that are not
    /// counted at all. Above zero, what was dropped is not known, and nothing is clear.
    #[serde(default)]
    pub counts_lost: u64,
    /// Seconds traced.
    pub seconds: f64,
    /// What could not be done, each with the reason: steps of the ladder above this one, names not to be read.
    #[serde(default)]
    pub refused: Vec<String>,
    /// Other events of the kernel that tell of loss; a signal that is not listed was not seen or not watched.
    #[serde(default)]
    pub signals: Vec<Signal>,
}

/// Events of a tracepoint that are no drops of a packet buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Tracepoint: `tcp:tcp_retransmit_skb`, `sock:sock_rcvqueue_full`, `sock:sock_exceed_buf_limit`,
    /// `xdp:xdp_exception`, `devlink:devlink_trap_report`.
    pub name: String,
    /// Inode of the network namespace, if known.
    pub netns_inode: Option<u64>,
    /// Interface index, if the event has one.
    pub link: Option<u32>,
    /// How many.
    pub count: u64,
}

impl DropLog {
    /// True if drops carry their namespace; tracefs and drop-monitor show those of the whole machine, mixed.
    pub fn knows_namespaces(&self) -> bool {
        matches!(self.step.as_str(), "tp_btf" | "raw_tp")
    }
}

/// Drops of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCount {
    /// Reason name of the running kernel (`NETFILTER_DROP`), `NOT_SPECIFIED` included; `REASON_n` if nameless;
    /// empty where the kernel has no reasons.
    pub reason: String,
    /// Kernel function that dropped, without offset.
    pub function: String,
    /// Inode of the network namespace, if known.
    pub netns_inode: Option<u64>,
    /// Interface index in that namespace, if known.
    pub link: Option<u32>,
    /// Name of the interface, if known.
    pub interface: Option<String>,
    /// IP protocol number, if known.
    pub protocol: Option<u8>,
    /// Which way it went, if known.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// FIN (1), SYN (2), RST (4) and ACK (16) as in the header, if TCP.
    #[serde(default)]
    pub tcp_flags: Option<u8>,
    /// Sent to many: multicast, or the limited broadcast.
    #[serde(default)]
    pub multicast: bool,
    /// How many.
    pub drops: u64,
}

/// One dropped packet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DropEvent {
    /// CLOCK_REALTIME in nanoseconds.
    pub realtime_ns: u64,
    /// As in [`DropCount`].
    pub reason: String,
    /// As in [`DropCount`].
    pub function: String,
    /// Inode of the network namespace, if known.
    pub netns_inode: Option<u64>,
    /// Interface index, if known.
    pub link: Option<u32>,
    /// Interface name, if known.
    pub interface: Option<String>,
    /// IP protocol number, if known.
    pub protocol: Option<u8>,
    /// Which way it went, if known.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// Ethertype (0x0800 …), if known.
    pub ethertype: Option<u16>,
    /// Source; port 0 if the protocol has none.
    pub source: Option<SocketAddr>,
    /// Destination.
    pub destination: Option<SocketAddr>,
    /// TCP flags as in the header, if TCP.
    pub tcp_flags: Option<u8>,
    /// TCP sequence number, if TCP.
    pub tcp_seq: Option<u32>,
    /// Identifier and sequence number, if it is an ICMP echo or its reply.
    #[serde(default)]
    pub echo: Option<(u16, u16)>,
    /// Length of the packet in bytes, from its IP header on.
    pub length: u32,
    /// First bytes of the packet, from its IP (or ARP) header on; at most 128.
    #[serde(default)]
    pub packet: Vec<u8>,
    /// Offset of the drop in `function`, in bytes; differs between builds of a kernel.
    #[serde(default)]
    pub offset: Option<u32>,
    /// Callers of `function`, innermost first, if asked for.
    pub stack: Vec<String>,
    /// Owner of the packet's socket, never the interrupted task.
    pub owner: Option<SocketOwner>,
}

/// Who owns the socket of a dropped packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketOwner {
    /// Process id, if it could be found.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: Option<String>,
    /// cgroup v2 path.
    pub cgroup: Option<String>,
}
