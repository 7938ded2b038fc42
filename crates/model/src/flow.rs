//! What the kernel told of conversations: who tried to reach whom, and what became of it.
//!
//! The numbers are those of the window. They come from tracepoints that are each optional: a field whose signal was
//! not watched ([`FlowLog::watched`]) is zero because nobody looked, which is not "none".

use crate::drops::SocketOwner;
use crate::reading::Reading;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Everything that the signals of flows told in the window, of the namespaces that were traced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowLog {
    /// Each signal, by tracepoint (`sock:inet_sock_set_state`): present if it was watched, absent if this kernel has no
    /// such tracepoint, denied or failed if it could not be attached. [`Signal`] lists them.
    pub signals: BTreeMap<String, Reading<()>>,
    /// Conversations that moved in the window, healthy ones included, in the order of their keys.
    pub conversations: Vec<Conversation>,
    /// Some of the repeated segments. Each is also counted in its conversation.
    pub repeats: Vec<Repeat>,
    /// ICMP errors that this machine sent (IPv4 only: the kernel has no tracepoint for ICMPv6), by packet refused.
    pub icmp_sent: Vec<IcmpSent>,
    /// Calls that failed, if system calls were traced; else why they were not.
    pub calls: Reading<Vec<FailedCall>>,
    /// Events of conversations for which there was no room: they are counted in a conversation whose addresses are
    /// unspecified ([`Conversation::is_folded`]), by namespace, direction, protocol and well-known port.
    pub not_kept: u64,
    /// Events of which not even that could be kept. Above zero, no number here is complete.
    pub lost: u64,
    /// Repeated segments that are counted in their conversation and missing in `repeats`.
    pub repeats_not_sampled: u64,
    /// Ends of system calls, of any process, that the kernel did not show: each may have failed, most will not have.
    #[serde(default)]
    pub calls_unseen: u64,
}

/// A tracepoint that tells of flows, and the fields that it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// `attempts`, `established`, `failed`, `abandoned`, `unsent`, `closed`, TCP's `errors`, `owner`.
    SetState,
    /// `syn_repeats`, `data_repeats`, `tail_probes`.
    Retransmit,
    /// `synack_repeats`.
    RetransmitSynAck,
    /// `reset_received`.
    ReceiveReset,
    /// `reset_sent`. Resets to packets without a socket (a closed port) are seen from Linux 6.10 on.
    SendReset,
    /// `errors` of UDP and raw sockets.
    ErrorReport,
    /// [`FlowLog::icmp_sent`].
    IcmpSend,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::SetState,
        Self::Retransmit,
        Self::RetransmitSynAck,
        Self::ReceiveReset,
        Self::SendReset,
        Self::ErrorReport,
        Self::IcmpSend,
    ];

    /// Its tracepoint, with the subsystem.
    pub const fn tracepoint(self) -> &'static str {
        match self {
            Self::SetState => "sock:inet_sock_set_state",
            Self::Retransmit => "tcp:tcp_retransmit_skb",
            Self::RetransmitSynAck => "tcp:tcp_retransmit_synack",
            Self::ReceiveReset => "tcp:tcp_receive_reset",
            Self::SendReset => "tcp:tcp_send_reset",
            Self::ErrorReport => "sock:inet_sk_error_report",
            Self::IcmpSend => "icmp:icmp_send",
        }
    }
}

impl FlowLog {
    /// Nothing seen yet, with these signals watched or not.
    pub fn new(signals: BTreeMap<String, Reading<()>>) -> Self {
        Self {
            signals,
            conversations: vec![],
            repeats: vec![],
            icmp_sent: vec![],
            calls: Reading::Absent("system calls are not traced".to_owned()),
            not_kept: 0,
            lost: 0,
            repeats_not_sampled: 0,
            calls_unseen: 0,
        }
    }

    /// Whether a signal was watched; absent, too, in a recording of a version that did not know it.
    pub fn watched(&self, signal: Signal) -> Reading<()> {
        let known = self.signals.get(signal.tracepoint());
        known.cloned().unwrap_or_else(Reading::not_recorded)
    }
}

/// Who began a conversation.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum FlowDirection {
    /// A socket of the namespace: the well-known port is the remote one.
    Out,
    /// Somebody else, at a port of the namespace: the well-known port is the local one.
    In,
}

/// What happened between one namespace and one service in the window: all connections of one key, which is
/// namespace, protocol, direction, user (outgoing only), both addresses and the well-known port.
///
/// A service with two names is two conversations, and a socket that is repeated under another address, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// Inode of the network namespace.
    pub netns_inode: u64,
    /// IP protocol: TCP (6), UDP (17) …
    pub protocol: u8,
    /// Who began. For an established connection the kernel does not keep that; it is then told by the backlog that a
    /// listener leaves to its connections. UDP sockets that got an error are `Out`.
    pub direction: FlowDirection,
    /// The address here. Port 0 if `Out` (ephemeral ports are folded), else the port that is listened on.
    pub local: SocketAddr,
    /// The address there. Port 0 if `In`; address and port unspecified for arrivals that went well: those of one
    /// local port are counted together, except those of a remote with an entry of its own.
    pub remote: SocketAddr,
    /// User id of the socket's owner (user namespace of the machine); none if `In` or folded.
    pub uid: Option<u32>,
    /// Who called connect() last; none if no attempt was made in the window. The cgroup is a path of v2.
    pub owner: Option<SocketOwner>,
    /// The oldest forebear of the owner that has its name in its network namespace, itself if there is none: workers are
    /// of one program. None if the owner had ended with the window, as who is started for each attempt.
    #[serde(default)]
    pub program: Option<u32>,
    /// connect() calls that got as far as choosing a route and an address (CLOSE to SYN_SENT). `Out` only. A call
    /// that fails before (ENETUNREACH: no route) is not among them; see [`FlowLog::calls`].
    pub attempts: u64,
    /// Handshakes completed: of own attempts, or of arrivals if `In`.
    pub established: u64,
    /// Attempts that ended without a connection (SYN_SENT to CLOSE), those of the next two fields included. Why stands
    /// in `errors`, too. May exceed `attempts` by what was under way when the window began.
    pub failed: u64,
    /// Of `failed`: the program closed the socket before an answer came (a time-out of its own): no errno.
    pub abandoned: u64,
    /// Of `failed`: no SYN ever left, for connect() failed inside (EADDRNOTAVAIL: no free local port …): no errno.
    pub unsent: u64,
    /// RST received, in any state. In SYN_SENT it is a refusal and `errors` has ECONNREFUSED.
    pub reset_received: u64,
    /// RST sent: by a socket of this conversation, or to a packet that found none (`In`, from Linux 6.10 on).
    pub reset_sent: u64,
    /// Why the last of them was sent: a name of `enum sk_rst_reason` without its prefix (`NO_SOCKET`,
    /// `TCP_ABORT_ON_CLOSE`), if the kernel tells (6.10).
    pub reset_reason: Option<String>,
    /// SYNs sent again. A repeat that this machine itself refused to send (a DROP in OUTPUT: EPERM) is none, here and
    /// below: no packet went out.
    pub syn_repeats: u64,
    /// SYN-ACKs sent again; `In` only.
    pub synack_repeats: u64,
    /// Segments of established connections sent again after a time-out or by fast retransmission, connections that
    /// are older than the window and still open included.
    pub data_repeats: u64,
    /// Segments sent again as a probe for a lost tail (TLP, RFC 8985): they are sent before anything is known to be
    /// lost, and most of them are needless. Not in `data_repeats`.
    pub tail_probes: u64,
    /// Connections that ended in the window.
    pub closed: Closed,
    /// sk_err by name (`ECONNREFUSED`, `ETIMEDOUT`, `EHOSTUNREACH`; rare ones share `errno N` with the last N): for TCP one per
    /// connection or attempt that ended with it, for UDP one per ICMP error that a connected socket got.
    pub errors: BTreeMap<String, u64>,
    /// CLOCK_REALTIME of the first event in nanoseconds; not before the window.
    pub first_ns: u64,
    /// CLOCK_REALTIME in nanoseconds of the last attempt or of the last event that may be trouble (repeats, resets,
    /// errors, failures); `first_ns` or earlier if there was none.
    pub last_ns: u64,
}

impl Conversation {
    /// One of which nothing was told yet; addresses and ports as in the fields.
    pub fn between(
        netns_inode: u64,
        protocol: u8,
        direction: FlowDirection,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Self {
        Self {
            netns_inode,
            protocol,
            direction,
            local,
            remote,
            uid: None,
            owner: None,
            program: None,
            attempts: 0,
            established: 0,
            failed: 0,
            abandoned: 0,
            unsent: 0,
            reset_received: 0,
            reset_sent: 0,
            reset_reason: None,
            syn_repeats: 0,
            synack_repeats: 0,
            data_repeats: 0,
            tail_probes: 0,
            closed: Closed::default(),
            errors: BTreeMap::new(),
            first_ns: 0,
            last_ns: 0,
        }
    }

    /// True if it stands for several for which there was no room.
    pub fn is_folded(&self) -> bool {
        self.local.ip().is_unspecified() && self.remote.ip().is_unspecified()
    }

    /// The port by which the service is known.
    pub fn port(&self) -> u16 {
        match self.direction {
            FlowDirection::Out => self.remote.port(),
            FlowDirection::In => self.local.port(),
        }
    }

    /// Attempts of the window without an answer at its end, at least: what ended may have begun before.
    pub fn waiting(&self) -> u64 {
        self.attempts.saturating_sub(self.established.saturating_add(self.failed))
    }
}

/// Sums of the kernel's own counters (struct tcp_sock) over the connections that ended in the window. They cover the
/// whole life of each, which may have begun before the window: good for shares, not for sums of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// How many had been established.
    pub connections: u64,
    /// Segments sent, the pure ACKs and the repeats included (segs_out).
    pub segments: u64,
    /// Segments sent with data, the repeats included (data_segs_out).
    pub data_segments: u64,
    /// Segments sent again (total_retrans): SYN, data, tail probes.
    pub repeated: u64,
    /// Duplicates that the other side reported (dsack_dups): repeats that were not needed.
    pub needless: u64,
    /// Of `connections`, those that the asked side ended without having sent a byte, although it had been sent some: a
    /// request without an answer. Whoever asked had not closed before.
    #[serde(default)]
    pub unanswered: u64,
    /// Of `connections`, those that the asked side ended before either side had sent a byte.
    #[serde(default)]
    pub wordless: u64,
}

/// Which segment was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RepeatKind {
    /// The first of a handshake.
    Syn,
    /// Its answer.
    SynAck,
    /// Data or FIN.
    Data,
    /// As [`Conversation::tail_probes`].
    Tail,
}

/// One segment that was sent again. What it repeats was sent before and died somewhere, or was only late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeat {
    /// CLOCK_REALTIME in nanoseconds, when it was sent again.
    pub realtime_ns: u64,
    /// Inode of the network namespace that sent it.
    pub netns_inode: u64,
    /// Direction of its conversation: the segment itself always goes from `local` to `remote`.
    pub direction: FlowDirection,
    /// Which.
    pub kind: RepeatKind,
    /// Sender, with its real port.
    pub local: SocketAddr,
    /// Receiver.
    pub remote: SocketAddr,
    /// First sequence number, as on the wire: compare with [`crate::DropEvent::tcp_seq`].
    pub seq: u32,
    /// One behind the last sequence number; SYN and FIN count as one.
    pub end_seq: u32,
}

/// ICMP errors of one kind that this machine sent back for packets of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IcmpSent {
    /// Inode of the network namespace that sent them.
    pub netns_inode: u64,
    /// ICMP type: 3 unreachable, 11 time exceeded …
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// IP protocol of the packets refused.
    pub protocol: u8,
    /// Who had sent them, and thus got the error.
    pub source: IpAddr,
    /// Where they went; port 0 if their protocol has none.
    pub destination: SocketAddr,
    /// How many.
    pub count: u64,
    /// CLOCK_REALTIME of the last in nanoseconds.
    pub last_ns: u64,
}

/// System calls of one kind that failed with one error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedCall {
    /// Inode of the caller's network namespace.
    pub netns_inode: u64,
    /// Who called.
    pub owner: SocketOwner,
    /// `connect`, `sendto`, `sendmsg`, `accept4` …
    pub call: String,
    /// `EADDRNOTAVAIL`, `EMFILE` …
    pub error: String,
    /// IP protocol of the socket, where it is known.
    #[serde(default)]
    pub protocol: Option<u8>,
    /// The address that the call named, or the socket's peer.
    #[serde(default)]
    pub remote: Option<SocketAddr>,
    /// How many.
    pub count: u64,
    /// CLOCK_REALTIME of the last in nanoseconds.
    pub last_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_an_older_version_did_not_know_was_not_watched() {
        let log = FlowLog::new(BTreeMap::new());
        assert!(Signal::ALL.iter().all(|&signal| !log.watched(signal).is_present()));
    }
}
