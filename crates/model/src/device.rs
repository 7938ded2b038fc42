//! Settings and events of devices beyond what every interface has.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// What ethtool shows of a device. Each part is none where the driver has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSettings {
    /// Driver name.
    pub driver: Option<String>,
    /// Receive ring in descriptors.
    pub rx_ring: Option<Ring>,
    /// Transmit ring in descriptors.
    pub tx_ring: Option<Ring>,
    /// Flow control as set: negotiated, receives and sends pause frames.
    pub pause: Option<(bool, bool, bool)>,
    /// Offloads by name, on or off: rx-checksum, tx-checksum, sg, tso, gso, gro.
    pub offloads: BTreeMap<String, bool>,
    /// What both ends of the wire agreed on.
    #[serde(default)]
    pub wire: Option<Wire>,
}

/// Speed and duplex of a wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wire {
    /// Megabits per second now; none if the driver does not know.
    pub speed: Option<u32>,
    /// Full duplex; none if the driver does not know.
    pub full_duplex: Option<bool>,
    /// Both ends tell each other what they can.
    pub negotiated: bool,
    /// Most that this end can with full duplex, in megabits per second.
    pub able: Option<u32>,
    /// Most that the other end says it can with full duplex, in megabits per second.
    pub peer_able: Option<u32>,
}

/// A ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// Size now.
    pub now: u32,
    /// Largest size.
    pub max: u32,
}

/// A change of an interface that the kernel announced in the window (RTM_NEWLINK, RTM_DELLINK).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkEvent {
    /// CLOCK_MONOTONIC in nanoseconds when it was read: at most 50 ms after it happened.
    pub monotonic_ns: u64,
    /// Interface index.
    pub link: u32,
    /// Name.
    pub name: String,
    /// IFF_UP.
    pub up: bool,
    /// IFF_LOWER_UP.
    pub lower_up: bool,
    /// IFLA_OPERSTATE in words.
    pub operstate: String,
    /// IFLA_CARRIER_CHANGES.
    pub carrier_changes: Option<u32>,
    /// Bridge or bond that it is a member of.
    pub master: Option<u32>,
    /// It was deleted.
    pub gone: bool,
}

/// A peer of a wireguard device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireguardPeer {
    /// The device.
    pub link: u32,
    /// UDP port on which the device listens.
    pub listen_port: u16,
    /// The device's mark for its outer packets, 0 if none.
    pub fwmark: u32,
    /// The device's own public key, base64.
    pub own_key: Option<String>,
    /// The peer's public key, base64.
    pub public_key: String,
    /// Where it is; none if it has not been heard of.
    pub endpoint: Option<SocketAddr>,
    /// Inner networks that belong to it.
    pub allowed: Vec<(IpAddr, u8)>,
    /// Seconds since the Epoch of the last handshake; none if there never was one.
    pub last_handshake_s: Option<u64>,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Seconds between keep-alives, 0 if none.
    pub keepalive_s: u16,
}
