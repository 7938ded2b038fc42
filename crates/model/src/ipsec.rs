//! IPsec: policies and states, without keys.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Policies and states of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xfrm {
    /// Which traffic must be protected, how.
    pub policies: Vec<XfrmPolicy>,
    /// What protects it.
    pub states: Vec<XfrmState>,
}

/// A traffic selector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XfrmSelector {
    /// Source network.
    pub source: (IpAddr, u8),
    /// Destination network.
    pub destination: (IpAddr, u8),
    /// IP protocol number, 0 for any.
    pub protocol: u8,
    /// Source port and mask, mask 0 for any.
    pub source_port: (u16, u16),
    /// Destination port and mask.
    pub destination_port: (u16, u16),
    /// Interface index, 0 for any.
    pub link: u32,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XfrmPolicy {
    /// in, out or fwd; `socket` for one of a single socket.
    pub direction: String,
    /// What it is for.
    pub selector: XfrmSelector,
    /// True if it blocks.
    pub block: bool,
    /// Lower goes first.
    pub priority: u32,
    /// Index.
    pub index: u32,
    /// Mark and mask.
    pub mark: Option<(u32, u32)>,
    /// Interface id (xfrm interfaces), if any.
    pub if_id: Option<u32>,
    /// The protection that it wants, outermost last.
    pub templates: Vec<XfrmTemplate>,
}

/// The protection that a policy wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XfrmTemplate {
    /// Outer source; unspecified in transport mode.
    pub source: IpAddr,
    /// Outer destination.
    pub destination: IpAddr,
    /// esp, ah, comp or a number.
    pub protocol: String,
    /// transport, tunnel, ro, in_trigger, beet.
    pub mode: String,
    /// SPI, 0 for any.
    pub spi: u32,
    /// Request id, 0 for any.
    pub reqid: u32,
    /// Traffic passes without it, too.
    pub optional: bool,
}

/// A state (security association).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XfrmState {
    /// Source.
    pub source: IpAddr,
    /// Destination: the state is for sending if that is elsewhere.
    pub destination: IpAddr,
    /// SPI.
    pub spi: u32,
    /// esp, ah, comp or a number.
    pub protocol: String,
    /// transport, tunnel, ro, in_trigger, beet.
    pub mode: String,
    /// Request id.
    pub reqid: u32,
    /// Mark and mask.
    pub mark: Option<(u32, u32)>,
    /// Interface id (xfrm interfaces), if any.
    pub if_id: Option<u32>,
    /// UDP encapsulation: source and destination port.
    pub encapsulation: Option<(u16, u16)>,
    /// Name of the encryption or AEAD algorithm.
    pub encryption: Option<String>,
    /// Name of the authentication algorithm.
    pub authentication: Option<String>,
    /// Replay window in packets.
    pub replay_window: u32,
    /// Bytes protected so far.
    pub bytes: u64,
    /// Packets protected so far.
    pub packets: u64,
    /// Packets refused as repeated.
    pub replayed: u32,
    /// Packets too old for the replay window.
    pub outside_window: u32,
    /// Packets whose check failed.
    pub integrity_failed: u32,
}
