//! Who is behind which port: forwarding entries, VLANs and multicast groups.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A forwarding entry of a bridge, a vxlan device or a device with address filters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbEntry {
    /// Interface behind which the address is: a bridge port, the vxlan device, or the bridge itself.
    pub link: u32,
    /// Bridge to which the entry belongs; none if it is the device's own (`self`).
    pub master: Option<u32>,
    /// Link-layer address.
    pub mac: String,
    /// VLAN id, if the entry is for one.
    pub vlan: Option<u16>,
    /// Outer address to which a tunnel sends it.
    pub remote: Option<IpAddr>,
    /// Outer UDP port, if it differs from the device's.
    pub port: Option<u16>,
    /// Tunnel id, if it differs from the device's.
    pub vni: Option<u32>,
    /// permanent (an own address), static, or `learned`.
    pub state: String,
    /// NTF_* in words: self, master, offloaded, extern_learn, sticky …
    pub flags: Vec<String>,
    /// Milliseconds since a frame from that address was last seen (or, for `self`, it was used).
    pub used_ms: Option<u64>,
    /// Milliseconds since the entry last changed: moved to another port, say.
    pub updated_ms: Option<u64>,
}

/// A multicast forwarding entry of a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MdbEntry {
    /// The bridge.
    pub bridge: u32,
    /// Port that wants the group; the bridge itself for its own.
    pub port: u32,
    /// The group; none for one that is given by its link-layer address.
    pub group: Option<IpAddr>,
    /// VLAN id, if there is one.
    pub vlan: Option<u16>,
    /// True if it was set by hand or by the own host and does not expire.
    pub permanent: bool,
}

/// A port behind which a multicast router is: it gets every group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterPort {
    /// The bridge.
    pub bridge: u32,
    /// The port.
    pub port: u32,
}

/// A VLAN of a bridge or of one of its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeVlan {
    /// The port, or the bridge itself.
    pub link: u32,
    /// First VLAN id.
    pub first: u16,
    /// Last VLAN id; the same as `first` for one.
    pub last: u16,
    /// Untagged frames that come in belong to it.
    pub pvid: bool,
    /// Frames go out without a tag.
    pub untagged: bool,
}

/// Membership of a multicast group on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Interface index.
    pub link: u32,
    /// The group.
    pub group: IpAddr,
    /// How many sockets (or the kernel itself) are members.
    pub users: u32,
}

/// A source filter of a membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSource {
    /// Interface index.
    pub link: u32,
    /// The group.
    pub group: IpAddr,
    /// The source.
    pub source: IpAddr,
    /// How many members want it.
    pub included: u32,
    /// How many members refuse it.
    pub excluded: u32,
}
