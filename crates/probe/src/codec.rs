//! How a kind of probe is written, and how its answer is recognised.

use crate::Nanos;
use crate::account::{Answer, Entry};
use crate::wire::Incoming;
use crate::wire::icmp::ErrorKind;
use std::net::IpAddr;
use whydrop_model::ProbeResult;

/// Numbers of probes stay below this: more than any run sends. Those above it are noise, packets of others and our
/// kernel's RSTs.
pub const MOST_PROBES: u32 = 1 << 20;

/// One packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Everything above the IP header.
    pub payload: Vec<u8>,
    /// Source port, or ICMP sequence number.
    pub sport: u16,
}

/// A packet that belongs to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Number of the probe.
    pub seq: u32,
    /// What it says.
    pub what: What,
}

/// What a packet says about its probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A reply.
    Answer(Answer, Detail),
    /// An ICMP error that quotes the probe.
    IcmpError(IcmpError),
    /// An answer to the probe whose source is not what was probed: no client takes it.
    Elsewhere(Source),
}

/// Where a packet claims to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Address.
    pub address: IpAddr,
    /// Port; none for ICMP.
    pub port: Option<u16>,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => std::net::SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// An ICMP error, without the packet it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Which.
    pub kind: ErrorKind,
    /// Who sent it; none if only the errno of a socket told of it.
    pub from: Option<IpAddr>,
}

impl IcmpError {
    /// True if the probed address itself says that nobody serves (or a firewall says so in its name).
    pub fn refuses(&self, remote: IpAddr) -> bool {
        self.kind == ErrorKind::PortUnreachable && self.from == Some(remote)
    }
}

impl std::fmt::Display for IcmpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.from {
            Some(from) => write!(f, "{} from {from}", self.kind),
            None => self.kind.fmt(f),
        }
    }
}

/// A probe of this run, seen on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Number of the probe.
    pub seq: u32,
    /// It goes to another address or port than was asked for: address translation.
    pub translated: bool,
}

/// What a person wants to see of a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// TCP flags in hping's letters: `SA`, `RA`; empty for other protocols.
    pub flags: String,
    /// TCP window.
    pub window: u16,
    /// Sequence number of the other side: equal on every retransmission of one SYN-ACK.
    pub isn: u32,
}

/// A kind of probe that sends one packet each and recognises its answers by what they hold.
pub trait Codec {
    /// Writes probe `seq`, which leaves from `source`.
    fn build(&self, seq: u32, source: IpAddr) -> Outgoing;
    /// A packet that goes before probe `seq`, so that what the other side keeps of an earlier probe does not swallow
    /// this one. Nothing answers it.
    fn clear(&self, _seq: u32, _source: IpAddr) -> Option<Vec<u8>> {
        None
    }
    /// Recognises a packet that came in, by what it holds; none if it belongs to no probe of this run. Where it comes
    /// from decides only whether it counts.
    fn read(&self, packet: &Incoming<'_>) -> Option<Heard>;
    /// Recognises a probe of this run on its way out, also if this machine has translated its address on the way.
    fn read_own(&self, packet: &Incoming<'_>) -> Option<Own>;
    /// Adds to the result what the pattern of the probes, as seen until `now`, means for this kind of probe.
    fn interpret(&self, entries: &[Entry], now: Nanos, result: &mut ProbeResult);
}
