//! Raw readings of one network namespace at one moment. No interpretation: rates and verdicts are computed later.

pub use crate::conntrack::{Conntrack, ConntrackEntry, NfQueue, Tuple};
pub use crate::device::{DeviceSettings, LinkEvent, Ring, Wire, WireguardPeer};
pub use crate::ipsec::{Xfrm, XfrmPolicy, XfrmSelector, XfrmState, XfrmTemplate};
pub use crate::layer2::{BridgeVlan, FdbEntry, Group, GroupSource, MdbEntry, RouterPort};
pub use crate::machine::{CpuTimes, MachineSnapshot, SoftnetCpu};
use crate::netfilter::Chain;
pub use crate::process::{
    Attach, AttachedProgram, Cgroup, CpuUse, Descriptors, MemoryUse, Pressure, Process, ProcessState,
    Processes,
};
use crate::reading::{Bounded, Reading};
pub use crate::socket::{Owner, Protocol, Socket, TcpInfo, Timer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Counters by name: `Ip.InReceives`, `TcpExt.ListenDrops`.
pub type Counters = BTreeMap<String, u64>;

/// Everything read in one namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// CLOCK_MONOTONIC in nanoseconds when the reading began.
    pub monotonic_ns: u64,
    /// Interfaces (RTM_GETLINK).
    #[serde(default = "Reading::taken_out")]
    pub links: Reading<Vec<Link>>,
    /// Addresses (RTM_GETADDR).
    #[serde(default = "Reading::taken_out")]
    pub addresses: Reading<Vec<Address>>,
    /// Routes of all tables, IPv4 and IPv6 (RTM_GETROUTE).
    #[serde(default = "Reading::taken_out")]
    pub routes: Reading<Vec<Route>>,
    /// Exceptions from routes that were learned: redirects and path MTUs (RTM_GETROUTE, RTM_F_CLONED; from 5.3 on).
    #[serde(default = "Reading::not_recorded")]
    pub route_exceptions: Reading<Vec<Route>>,
    /// Policy rules (RTM_GETRULE).
    #[serde(default = "Reading::taken_out")]
    pub policy_rules: Reading<Vec<PolicyRule>>,
    /// Neighbour entries (RTM_GETNEIGH).
    #[serde(default = "Reading::taken_out")]
    pub neighbours: Reading<Vec<Neighbour>>,
    /// Queueing disciplines (RTM_GETQDISC), children included.
    #[serde(default = "Reading::taken_out")]
    pub qdiscs: Reading<Vec<Qdisc>>,
    /// Classes of classful qdiscs (RTM_GETTCLASS).
    #[serde(default = "Reading::taken_out")]
    pub classes: Reading<Vec<Class>>,
    /// tc filters of every qdisc and of clsact ingress/egress (RTM_GETTFILTER).
    #[serde(default = "Reading::taken_out")]
    pub filters: Reading<Vec<TcFilter>>,
    /// /proc/thread-self/net/{snmp,netstat}.
    #[serde(default = "Reading::taken_out")]
    pub mib: Reading<Counters>,
    /// /proc/thread-self/net/snmp6.
    #[serde(default = "Reading::taken_out")]
    pub mib6: Reading<Counters>,
    /// /proc/thread-self/net/sockstat and sockstat6, `TCP.inuse` and so on.
    #[serde(default = "Reading::taken_out")]
    pub sockstat: Reading<Counters>,
    /// nftables, the nft back end of iptables included (netlink, nf_tables).
    #[serde(default = "Reading::taken_out")]
    pub nftables: Reading<Vec<Chain>>,
    /// Legacy iptables (getsockopt IPT_SO_GET_ENTRIES).
    #[serde(default = "Reading::taken_out")]
    pub iptables_legacy: Reading<Vec<Chain>>,
    /// Legacy ip6tables.
    #[serde(default = "Reading::taken_out")]
    pub ip6tables_legacy: Reading<Vec<Chain>>,
    /// Connection tracking.
    #[serde(default = "Reading::taken_out")]
    pub conntrack: Reading<Conntrack>,
    /// TCP and UDP sockets, v4 and v6 (sock_diag).
    #[serde(default = "Reading::taken_out")]
    pub sockets: Reading<Vec<Socket>>,
    /// Raw, packet and ping sockets (/proc/thread-self/net/{raw,raw6,icmp,icmp6,packet}, packet_diag).
    #[serde(default = "Reading::not_recorded")]
    pub raw_sockets: Reading<Vec<Socket>>,
    /// Processes that hold sockets of this namespace, with their cgroups; empty if nobody here holds any that
    /// whydrop may look into.
    #[serde(default = "Reading::not_recorded")]
    pub processes: Reading<Processes>,
    /// Entries of connection tracking (ctnetlink dump), at the end of the window only.
    #[serde(default = "Reading::not_recorded")]
    pub conntrack_entries: Reading<Bounded<ConntrackEntry>>,
    /// Open NFQUEUE queues (/proc/thread-self/net/netfilter/nfnetlink_queue).
    #[serde(default = "Reading::not_recorded")]
    pub nf_queues: Reading<Vec<NfQueue>>,
    /// Multicast groups by interface (/proc/thread-self/net/{igmp,igmp6}).
    #[serde(default = "Reading::not_recorded")]
    pub groups: Reading<Vec<Group>>,
    /// Source filters of multicast groups (/proc/thread-self/net/{mcfilter,mcfilter6}).
    #[serde(default = "Reading::not_recorded")]
    pub group_sources: Reading<Vec<GroupSource>>,
    /// IPsec policies and states (NETLINK_XFRM), without keys.
    #[serde(default = "Reading::not_recorded")]
    pub xfrm: Reading<Xfrm>,
    /// /proc/thread-self/net/xfrm_stat.
    #[serde(default = "Reading::not_recorded")]
    pub xfrm_stat: Reading<Counters>,
    /// Forwarding entries of bridges, vxlan and the like (RTM_GETNEIGH, AF_BRIDGE); none without such devices.
    #[serde(default = "Reading::not_recorded")]
    pub fdb: Reading<Bounded<FdbEntry>>,
    /// Multicast forwarding entries of bridges (RTM_GETMDB).
    #[serde(default = "Reading::not_recorded")]
    pub mdb: Reading<Bounded<MdbEntry>>,
    /// Bridge ports behind which a multicast router is (RTM_GETMDB).
    #[serde(default = "Reading::not_recorded")]
    pub router_ports: Reading<Vec<RouterPort>>,
    /// VLANs of bridges and of their ports (RTM_GETLINK, AF_BRIDGE).
    #[serde(default = "Reading::not_recorded")]
    pub bridge_vlans: Reading<Vec<BridgeVlan>>,
    /// Peers of wireguard devices (generic netlink), without private and pre-shared keys.
    #[serde(default = "Reading::not_recorded")]
    pub wireguard: Reading<Vec<WireguardPeer>>,
    /// ethtool -S by device.
    #[serde(default = "Reading::taken_out")]
    pub ethtool: Reading<BTreeMap<String, Counters>>,
    /// ethtool -g, -a and -k by device.
    #[serde(default = "Reading::not_recorded")]
    pub device_settings: Reading<BTreeMap<String, DeviceSettings>>,
    /// sysctls that rules need, by dotted name (`net.ipv4.conf.eth0.rp_filter`).
    #[serde(default)]
    pub sysctls: BTreeMap<String, Reading<String>>,
}

/// An interface. What it is not (`None`) is written down, too: a recording that does not say is damaged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Index in this namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind from IFLA_INFO_KIND: veth, bridge, macvlan, …; none for a plain device and lo.
    #[serde(deserialize_with = "Option::deserialize")]
    pub kind: Option<String>,
    /// Link-layer address, `aa:bb:…`.
    #[serde(deserialize_with = "Option::deserialize")]
    pub mac: Option<String>,
    /// MTU in bytes.
    pub mtu: u32,
    /// IFF_UP.
    pub up: bool,
    /// IFF_LOWER_UP.
    pub lower_up: bool,
    /// IFF_LOOPBACK.
    pub loopback: bool,
    /// IFLA_OPERSTATE in words: up, down, lowerlayerdown, dormant, unknown …
    pub operstate: String,
    /// IFLA_CARRIER_CHANGES.
    pub carrier_changes: Option<u32>,
    /// Index of the bridge or bond that this is a member of.
    #[serde(deserialize_with = "Option::deserialize")]
    pub master: Option<u32>,
    /// IFLA_LINK: the lower device, or the peer of a veth.
    #[serde(deserialize_with = "Option::deserialize")]
    pub link: Option<u32>,
    /// IFLA_LINK_NETNSID: namespace id of `link`, if elsewhere; meaning in this namespace only.
    #[serde(deserialize_with = "Option::deserialize")]
    pub link_netnsid: Option<i32>,
    /// Inode of the namespace that `link_netnsid` stands for, if it could be resolved.
    #[serde(deserialize_with = "Option::deserialize")]
    pub link_netns_inode: Option<u64>,
    /// Transmit queue length.
    pub txqlen: Option<u32>,
    /// Attached XDP: mode (`native`, `generic`, `offload`, `multi`) and program id.
    #[serde(deserialize_with = "Option::deserialize")]
    pub xdp: Option<Xdp>,
    /// IFLA_STATS64 by field name without prefix: rx_packets, tx_dropped …
    pub stats: Counters,
    /// Kind-specific settings as text: vni, vlan id, macvlan mode, bridge port state …
    pub details: BTreeMap<String, String>,
}

/// An attached XDP program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xdp {
    /// native, generic, offload or multi.
    pub mode: String,
    /// Program id.
    pub program: Option<u32>,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Interface index.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// Prefix length.
    pub prefix: u8,
    /// IFA_F_* in words: tentative, dadfailed, deprecated, secondary …
    pub flags: Vec<String>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination network; 0.0.0.0/0 or ::/0 is the default route.
    pub destination: IpAddr,
    /// Prefix length of the destination.
    pub prefix: u8,
    /// unicast, local, broadcast, blackhole, unreachable, prohibit, throw, multicast …
    pub kind: String,
    /// Table number: 254 main, 255 local.
    pub table: u32,
    /// Metric.
    pub metric: u32,
    /// Next hops; none for blackhole routes.
    pub next_hops: Vec<NextHop>,
    /// Preferred source.
    pub source: Option<IpAddr>,
    /// RTAX_MTU.
    pub mtu: Option<u32>,
    /// RTPROT number: 2 kernel, 3 boot, 4 static …
    pub protocol: u8,
    /// RT_SCOPE number: 0 universe, 253 link, 254 host.
    pub scope: u8,
}

/// One next hop of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHop {
    /// Gateway; none if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Output interface.
    pub link: Option<u32>,
    /// Weight (1-based).
    pub weight: u32,
    /// RTNH_F_* in words: dead, linkdown, onlink …
    pub flags: Vec<String>,
}

/// A policy rule (`ip rule`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// 4 or 6.
    pub family: u8,
    /// Priority.
    pub priority: u32,
    /// lookup, blackhole, unreachable, prohibit, goto, nop.
    pub action: String,
    /// Table of a lookup.
    pub table: Option<u32>,
    /// Source network.
    pub from: Option<(IpAddr, u8)>,
    /// Destination network.
    pub to: Option<(IpAddr, u8)>,
    /// Input interface.
    pub iif: Option<String>,
    /// Output interface.
    pub oif: Option<String>,
    /// Firewall mark and mask.
    pub fwmark: Option<(u32, u32)>,
    /// Further conditions as `ip rule` writes them: `not`, `tos 0x10`, `ipproto 6`, `dport 80`, `uidrange 0-99`,
    /// `l3mdev` … A rule that has any matches less (or with `not` other) traffic than the fields above say.
    #[serde(default)]
    pub conditions: Vec<String>,
}

/// A neighbour entry (ARP, ND).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Interface index.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// Link-layer address.
    pub mac: Option<String>,
    /// incomplete, reachable, stale, delay, probe, failed, noarp, permanent.
    pub state: String,
    /// NTF_* in words: router, extern_learn, proxy, managed …
    #[serde(default)]
    pub flags: Vec<String>,
    /// Unanswered questions so far (NDA_PROBES).
    #[serde(default)]
    pub probes: Option<u32>,
    /// Milliseconds since the neighbour was last known to be reachable (NDA_CACHEINFO).
    #[serde(default)]
    pub confirmed_ms: Option<u64>,
    /// Milliseconds since the entry was last used to send.
    #[serde(default)]
    pub used_ms: Option<u64>,
    /// Milliseconds since the entry last changed.
    #[serde(default)]
    pub updated_ms: Option<u64>,
}

/// A queueing discipline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Qdisc {
    /// Interface index.
    pub link: u32,
    /// netem, tbf, htb, pfifo, noqueue, clsact …
    pub kind: String,
    /// Handle, `800d:`.
    pub handle: u32,
    /// Parent: TC_H_ROOT 0xffff_ffff, TC_H_INGRESS 0xffff_fff1, else a class.
    pub parent: u32,
    /// Statistics.
    pub stats: QueueStats,
    /// Decoded options.
    pub options: QdiscOptions,
}

/// Statistics of a qdisc or class (TCA_STATS2).
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueStats {
    /// Bytes let through.
    pub bytes: u64,
    /// Packets let through.
    pub packets: u64,
    /// Packets dropped (32 bits in the kernel: wraps).
    pub drops: u32,
    /// Times that the limit was met: not a loss by itself.
    pub overlimits: u32,
    /// Requeues: not a loss.
    pub requeues: u32,
    /// Packets waiting.
    pub qlen: u32,
    /// Bytes waiting.
    pub backlog: u32,
}

/// Options of the qdiscs that whydrop knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QdiscOptions {
    /// netem.
    Netem {
        /// Loss 0..1; for a loss model (state, gemodel) the model's name stands in `model`.
        loss: f64,
        /// Loss model, if not plain random loss.
        model: Option<String>,
        /// Queue limit in packets.
        limit: u32,
        /// Delay in microseconds.
        delay_us: u64,
        /// Jitter in microseconds.
        jitter_us: u64,
        /// Corruption 0..1.
        corrupt: f64,
        /// Duplication 0..1.
        duplicate: f64,
        /// Reordering 0..1.
        reorder: f64,
        /// Rate in bytes per second, 0 if none.
        rate: u64,
    },
    /// tbf.
    Tbf {
        /// Rate in bytes per second.
        rate: u64,
        /// Burst in bytes.
        burst: u64,
        /// Limit in bytes.
        limit: u32,
    },
    /// htb; the rates stand in its classes.
    Htb {
        /// Default class minor number.
        default: u32,
        /// Packets that went past all classes.
        direct_packets: u32,
    },
    /// pfifo, bfifo, pfifo_fast, pfifo_head_drop.
    Fifo {
        /// Limit in packets (pfifo) or bytes (bfifo).
        limit: u32,
    },
    /// fq_codel.
    FqCodel {
        /// Limit in packets.
        limit: u32,
        /// Target in microseconds.
        target_us: u32,
        /// Drops because the limit was reached.
        drop_overlimit: u32,
    },
    /// No options, or none that whydrop decodes.
    Other,
}

/// A class of htb and the like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// Interface index.
    pub link: u32,
    /// Kind of its qdisc.
    pub kind: String,
    /// Class id, `1:10` as 0x0001_0010.
    pub handle: u32,
    /// Parent.
    pub parent: u32,
    /// Rate and ceiling in bytes per second, if known.
    pub rate: Option<u64>,
    /// Ceiling in bytes per second, if known.
    pub ceil: Option<u64>,
    /// Statistics.
    pub stats: QueueStats,
}

/// A tc filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcFilter {
    /// Interface index.
    pub link: u32,
    /// Parent qdisc or hook.
    pub parent: u32,
    /// bpf, u32, matchall, flower …
    pub kind: String,
    /// Preference.
    pub preference: u32,
    /// Handle.
    pub handle: u32,
    /// Ethernet protocol that it looks at; 3 for all of them (ETH_P_ALL).
    #[serde(default)]
    pub protocol: Option<u16>,
    /// BPF program name, if it is one.
    pub program: Option<String>,
    /// Actions: kind and, where decoded, verdict (`gact drop`, `mirred`, `police`).
    pub actions: Vec<TcAction>,
}

/// An action of a tc filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcAction {
    /// gact, police, mirred …
    pub kind: String,
    /// drop, ok, pipe, redirect … where known.
    pub verdict: Option<String>,
    /// Packets and drops, where known.
    pub stats: Option<QueueStats>,
    /// Interface to which mirred sends.
    #[serde(default)]
    pub target: Option<u32>,
}

impl Snapshot {
    /// The interface with this index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|l| l.index == index)
    }

    /// The interface with this name.
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|l| l.name == name)
    }

    /// Name of an interface, `if7` when it is unknown.
    pub fn link_name(&self, index: u32) -> String {
        self.link(index).map_or_else(|| format!("if{index}"), |l| l.name.clone())
    }

    /// A sysctl that was read as a number.
    pub fn sysctl(&self, name: &str) -> Option<i64> {
        self.sysctls.get(name)?.get()?.trim().parse().ok()
    }

    /// All chains of all back ends that could be read.
    pub fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.nftables.iter().chain(self.iptables_legacy.iter()).chain(self.ip6tables_legacy.iter())
    }

    /// The cgroups of a process that were read, its own before those around it, hierarchy by hierarchy.
    pub fn cgroups_of(&self, process: &Process) -> Vec<&Cgroup> {
        let all = self.processes.get().map(|p| p.cgroups.as_slice()).unwrap_or(&[]);
        let mut own: Vec<&Cgroup> = all.iter().filter(|cgroup| cgroup.holds(process)).collect();
        own.sort_by(|a, b| a.hierarchy.cmp(&b.hierarchy).then(b.path.len().cmp(&a.path.len())));
        own
    }

    /// True if the address belongs to this namespace.
    pub fn owns(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|a| a.ip == ip)
    }
}
