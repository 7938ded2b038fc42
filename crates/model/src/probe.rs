//! Result of an active probe, with honest accounting.

use crate::text::Phrase;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What one probe URL gave. Identity: `transmitted = received + late + lost`, and `not_sent` counts probes that
/// never left (their send failed), which are not part of `transmitted`. Duplicates are further replies to a probe
/// that was already counted, and never counted as received.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The URL as given.
    pub url: String,
    /// Target id of the namespace where it started.
    pub from: String,
    /// Address that was probed, once resolved.
    pub address: Option<IpAddr>,
    /// How: `syn` (raw), `connect`, `icmp`, `udp`, `http`, `pmtu`, `path`.
    pub method: String,
    /// Probes that left.
    pub transmitted: u64,
    /// Probes answered in time (a RST is an answer).
    pub received: u64,
    /// Probes without any valid reply.
    pub lost: u64,
    /// Probes answered only after the deadline: the first reply was a retransmission or badly delayed.
    pub late: u64,
    /// Further replies.
    pub duplicates: u64,
    /// Probes whose send failed on this machine.
    pub not_sent: u64,
    /// Of the received: refused (RST, or ICMP port unreachable).
    pub refused: u64,
    /// (lost + late) / transmitted; none if nothing was transmitted.
    pub loss: Option<f64>,
    /// 95 % interval of `loss`, 0..1.
    pub loss_ci95: Option<[f64; 2]>,
    /// Round-trip times of answers in time.
    pub rtt_ms: Option<Rtt>,
    /// Estimated loss of the request.
    pub forward: Option<Share>,
    /// Estimated loss of the answer.
    pub reverse: Option<Share>,
    /// Where lost probes died.
    pub fate: Vec<Fate>,
    /// Errors of sends by errno name: EPERM, ENETUNREACH …
    pub send_errors: BTreeMap<String, u64>,
    /// ICMP errors that came back: `host unreachable from 10.0.0.1`.
    pub icmp_errors: BTreeMap<String, u64>,
    /// What http:// saw.
    pub http: Option<Http>,
    /// What pmtu:// saw.
    pub pmtu: Option<Pmtu>,
    /// Every packet of the probe, for the join with drop events.
    pub packets: Vec<Packet>,
    /// What else the run saw.
    #[serde(default)]
    pub extra: Extra,
}

/// What a run saw beyond the counts. Everything here may be missing: a recording of an older whydrop reads as empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extra {
    /// Of the lost: the send succeeded, but no device of the namespace ever saw the packet (a queue dropped it).
    /// None if nobody watched the devices.
    pub never_left: Option<u64>,
    /// Of the lost and late: the first answer reached a device of the namespace, but no socket (its own filter dropped it).
    pub dropped_on_return: Option<u64>,
    /// Of the lost: answered, but only from another address or port than the probed one; no client takes that.
    pub answered_elsewhere: u64,
    /// Who answered in place of what was probed.
    pub elsewhere: Vec<Elsewhere>,
    /// Probes that were still open when the run was ended early; in no other count, nor in `packets`.
    pub undecided: u64,
    /// RFC 3550 jitter of the answers in time, in milliseconds.
    pub jitter_ms: Option<f64>,
    /// Longest time that a reply waited on this machine until the prober read it, in milliseconds; not part of any RTT.
    pub host_delay_ms: Option<f64>,
    /// How losses cluster, where the data say so.
    pub bursts: Option<Bursts>,
    /// Loss per flow, if several were used.
    pub flows: Vec<Flow>,
    /// What a sweep of segment sizes over http:// saw.
    pub sizes: Option<Sizes>,
    /// What path:// saw, from the first hop on.
    pub hops: Vec<Hop>,
    /// What the pattern means, in words.
    pub notes: Vec<Phrase>,
}

/// Runs of lost probes. A Gilbert model: `p` = P(lost | answered before), `r` = P(answered | lost before).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Bursts {
    /// Longest run of lost probes.
    pub longest: u32,
    /// Mean length of the runs.
    pub mean: f64,
    /// P(lost | answered before).
    pub p: f64,
    /// P(answered | lost before).
    pub r: f64,
    /// True if losses cluster more than chance explains (Fisher's exact test, 1 %).
    pub clustered: bool,
}

/// A source of answers that is not what was probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Elsewhere {
    /// Its address.
    pub address: IpAddr,
    /// Its port; none for ICMP.
    pub port: Option<u16>,
    /// Probes that it answered, whether or not the right one answered them too.
    pub probes: u64,
}

/// One flow (source port) of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Flow {
    /// Source port.
    pub sport: u16,
    /// Probes that left.
    pub transmitted: u64,
    /// Lost or late.
    pub lost: u64,
}

/// Which segments of a connection pass; sizes are those of whole IP packets, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Sizes {
    /// From this side.
    pub there: SizeLimit,
    /// From the other side.
    pub back: SizeLimit,
}

/// Which segments pass in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SizeLimit {
    /// Largest that passed.
    pub passes: Option<u32>,
    /// Smallest that never did, though smaller ones do.
    pub stuck: Option<u32>,
    /// An ICMP error told this side to send smaller packets.
    pub told: bool,
    /// `passes` (as large as the two sides agreed), `stuck`, `untested` (no answer is long enough), `unclear`.
    pub verdict: String,
}

/// One hop of a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Hop {
    /// Time to live of the probes that died here.
    pub ttl: u8,
    /// Who answered; several if the path forks.
    pub addresses: Vec<IpAddr>,
    /// Probes sent.
    pub transmitted: u64,
    /// Answers.
    pub received: u64,
    /// Round-trip times.
    pub rtt_ms: Option<Rtt>,
    /// What the missing answers mean: `ok`, `loss` (persists to the end), `limited` (the hop limits its ICMP),
    /// `silent` (never answers, later hops do), `end` (nothing answers from here on).
    pub verdict: String,
}

/// Round-trip times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Rtt {
    /// Smallest.
    pub min: f64,
    /// Mean.
    pub avg: f64,
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
    /// Mean deviation as ping prints it.
    pub mdev: f64,
}

/// An estimated share with its 95 % interval, 0..1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Share {
    /// Point estimate.
    pub loss: f64,
    /// Interval.
    pub ci95: [f64; 2],
}

/// Where probes died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Fate {
    /// Cause id; `unknown` where the place is out of sight.
    pub cause: String,
    /// Target id; `unknown` as above.
    pub target: String,
    /// Stage of the packet's way, where the kernel saw them die.
    #[serde(default)]
    pub stage: Option<String>,
    /// Subjects of the findings that can have taken them; more than one where the place admits several.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// How many probes.
    pub probes: u64,
}

/// Phases of one HTTP request, in milliseconds; none for a phase that was not reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Http {
    /// Name resolution; none for an address.
    #[serde(default)]
    pub name_ms: Option<f64>,
    /// TCP connect.
    pub connect_ms: Option<f64>,
    /// What https:// saw of the encryption; none before the connection stood.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// From the request sent to the first byte of the answer.
    pub first_byte_ms: Option<f64>,
    /// Whole request.
    pub total_ms: Option<f64>,
    /// HTTP status code.
    pub status: Option<u16>,
    /// Bytes of the answer, header included.
    pub bytes: u64,
    /// Segments that this side sent again (TCP_INFO).
    pub retransmissions: Option<u32>,
    /// The same by phase.
    #[serde(default)]
    pub retransmissions_in: Option<Retransmissions>,
    /// Largest segment in each direction (TCP_INFO snd_mss, rcv_mss).
    pub mss: Option<(u32, u32)>,
    /// What ended it early: `timeout`, `refused`, `reset`, `closed early`, `not HTTP`, `header too long`,
    /// `malformed chunks`, `tls: ` and why, or an errno name.
    pub error: Option<String>,
}

impl Http {
    /// True if the other side's own packets ended the request: a reset, an answer that is none. Nothing was lost then.
    pub fn ended_by_peer(&self) -> bool {
        const ENDS: [&str; 5] = ["reset", "closed early", "header too long", "not HTTP", "malformed chunks"];
        self.error.as_deref().is_some_and(|error| ENDS.contains(&error) || error.starts_with("tls: "))
    }
}

/// The encryption of an HTTP request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tls {
    /// Handshake, from the TCP connection to the keys; none if it did not end.
    pub handshake_ms: Option<f64>,
    /// Version, as `TLSv1.3`.
    pub version: Option<String>,
    /// Why the certificate is not trusted; the request goes on all the same. None if it is trusted, or did not come.
    pub distrust: Option<String>,
}

/// Segments that this side sent again in each phase of an HTTP request. What the other side had to send again is not
/// in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Retransmissions {
    /// SYNs.
    pub connect: u32,
    /// During the TLS handshake.
    pub tls: u32,
    /// The request, until the first byte of the answer.
    pub first_byte: u32,
    /// During the rest of the answer.
    pub rest: u32,
}

/// Path MTU as found by sending.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Pmtu {
    /// Largest IP packet that passed, in bytes.
    pub largest_ok: Option<u32>,
    /// Smallest that did not.
    pub smallest_lost: Option<u32>,
    /// Next-hop MTU that an ICMP answer named, and who sent it.
    pub icmp: Option<(IpAddr, u32)>,
    /// True if too-big packets vanish without an ICMP answer.
    pub black_hole: bool,
}

/// One probe packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Packet {
    /// Number, from 0.
    pub seq: u32,
    /// Source port, or ICMP sequence number.
    pub sport: u16,
    /// CLOCK_REALTIME nanoseconds of the send.
    pub sent_ns: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Milliseconds to the first reply.
    pub rtt_ms: Option<f64>,
    /// Further replies.
    pub duplicates: u32,
}

/// What became of one probe packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered in time.
    Received,
    /// Refused in time (RST, port unreachable).
    Refused,
    /// First answer after the deadline.
    Late,
    /// No answer.
    Lost,
    /// An ICMP error came back instead; counted as lost.
    Unreachable,
    /// The send failed; the errno name.
    NotSent(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_no_loss_and_a_timeout_may_be() {
        let ended = |error: &str| Http { error: Some(error.to_owned()), ..Http::default() }.ended_by_peer();
        assert!(["reset", "closed early", "not HTTP", "tls: bad record"].into_iter().all(ended));
        assert!(!["timeout", "refused", "EHOSTUNREACH", "ETIMEDOUT"].into_iter().any(ended));
        assert!(!Http::default().ended_by_peer());
    }
}
