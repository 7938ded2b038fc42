//! Connection tracking and the queues of netfilter to user space.

use crate::snapshot::Counters;
use crate::socket::Owner;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Connection tracking: its size and counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conntrack {
    /// net.netfilter.nf_conntrack_count.
    pub count: u64,
    /// net.netfilter.nf_conntrack_max.
    pub max: u64,
    /// Per-CPU statistics summed: insert_failed, drop, early_drop, invalid …
    pub stats: Counters,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackEntry {
    /// Of the first packet, before any translation.
    pub original: Tuple,
    /// What an answer looks like: differs from `original` turned round where there is NAT.
    pub reply: Tuple,
    /// State of TCP, SCTP or DCCP in words (`syn_sent`, `established` …), if it is one of them and has one.
    pub state: Option<String>,
    /// IPS_* in words: seen_reply, assured, confirmed, src_nat, dst_nat, dying, offload …
    pub status: Vec<String>,
    /// Seconds until it is forgotten.
    pub timeout_s: Option<u32>,
    /// Mark.
    pub mark: Option<u32>,
    /// Zone.
    pub zone: Option<u16>,
    /// Packets and bytes in the original direction, if accounting is on (net.netfilter.nf_conntrack_acct).
    pub original_packets: Option<(u64, u64)>,
    /// Packets and bytes of the answers.
    pub reply_packets: Option<(u64, u64)>,
}

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tuple {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port; the identifier of ICMP.
    pub source_port: u16,
    /// Destination port; for ICMP type × 256 + code.
    pub destination_port: u16,
}

impl Tuple {
    /// The same conversation seen from the other end (ports only; ICMP types stay).
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            protocol: self.protocol,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

impl ConntrackEntry {
    /// True if one of these IPS_* words stands in `status`.
    pub fn is(&self, word: &str) -> bool {
        self.status.iter().any(|s| s == word)
    }
}

/// An NFQUEUE queue that a program has open (net/netfilter/nfnetlink_queue.c:seq_show).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NfQueue {
    /// Queue number.
    pub number: u16,
    /// Netlink port id of the program: mostly its process id.
    pub port_id: u32,
    /// Packets that wait for a verdict.
    pub waiting: u32,
    /// 0 nothing, 1 metadata only, 2 packets are copied to the program.
    pub copy_mode: u8,
    /// Packets dropped because the queue was full (wraps at 32 bits).
    pub queue_dropped: u32,
    /// Packets dropped because the netlink socket of the program was full (wraps at 32 bits).
    pub user_dropped: u32,
    /// Number of the last packet: packets queued so far (wraps at 32 bits).
    pub last_id: u32,
    /// Processes that hold the netlink socket; empty if unknown.
    pub owners: Vec<Owner>,
}
