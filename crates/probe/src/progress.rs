//! What a run tells while it goes on.

use crate::account::{Answer, Counts, Credit};
use crate::codec::{Detail, IcmpError, Source};
use std::net::IpAddr;
use whydrop_model::Phrase;

/// One moment of a run.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Counts up to now.
    pub counts: Counts,
    /// Probes of the whole run; none if it has no end.
    pub total: Option<u32>,
    /// What just happened.
    pub event: Event,
}

/// What just happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The run begins.
    Started {
        /// Address that is probed.
        address: IpAddr,
        /// `syn`, `connect`, ...
        method: &'static str,
        /// Why it is this one, where another was to be expected.
        because: Option<Phrase>,
    },
    /// A probe left.
    Sent(u32),
    /// The send of this probe failed with this errno.
    NotSent(u32, &'static str),
    /// A reply came.
    Reply(Box<Reply>),
    /// An ICMP error came that quotes this probe.
    IcmpError(u32, IcmpError),
    /// This source answered the probe, but it is not what was probed.
    Elsewhere(u32, Source),
    /// The probe passed its limit without an answer.
    Lost(u32),
    /// A GET ended without its whole answer.
    Failed {
        /// Number of the probe.
        seq: u32,
        /// Milliseconds since its connect().
        ms: f64,
        /// What ended it, as in [`whydrop_model::probe::Http::error`].
        why: String,
    },
    /// A device sent or received this packet of the run; only if [`crate::ProbeSpec::capture`] asks for it.
    Packet {
        /// CLOCK_REALTIME in nanoseconds.
        wall_ns: u64,
        /// The packet from its IP header on.
        bytes: Vec<u8>,
    },
}

/// A reply as people want to see it.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Number of the probe.
    pub seq: u32,
    /// First in time, first but late, or a further one.
    pub credit: Credit,
    /// What it says.
    pub answer: Answer,
    /// Milliseconds since the probe's send.
    pub rtt_ms: f64,
    /// Which transmission of the SYN-ACK this is by its time; 0 is the first, none if the time fits none.
    pub attempt: Option<usize>,
    /// Who replied.
    pub from: IpAddr,
    /// Length of the IP packet, if it was seen.
    pub length: Option<usize>,
    /// Time to live on arrival.
    pub ttl: Option<u8>,
    /// Don't-fragment flag and identification (IPv4).
    pub ip: Option<(bool, u16)>,
    /// TCP fields.
    pub detail: Detail,
}
