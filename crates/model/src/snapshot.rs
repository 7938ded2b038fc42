//! Raw readings of one network namespace at one moment. No interpretation: rates and verdicts are computed later.

use crate::netfilter::Chain;
use crate::reading::Reading;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Counters by name: `Ip.InReceives`, `TcpExt.ListenDrops`.
pub type Counters = BTreeMap<String, u64>;

/// Everything read in one namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// CLOCK_MONOTONIC in nanoseconds when the reading began.
    pub monotonic_ns: u64,
    /// Interfaces (RTM_GETLINK).
    pub links: Reading<Vec<Link>>,
    /// Addresses (RTM_GETADDR).
    pub addresses: Reading<Vec<Address>>,
    /// Routes of all tables, IPv4 and IPv6 (RTM_GETROUTE).
    pub routes: Reading<Vec<Route>>,
    /// Policy rules (RTM_GETRULE).
    pub policy_rules: Reading<Vec<PolicyRule>>,
    /// Neighbour entries (RTM_GETNEIGH).
    pub neighbours: Reading<Vec<Neighbour>>,
    /// Queueing disciplines (RTM_GETQDISC), children included.
    pub qdiscs: Reading<Vec<Qdisc>>,
    /// Classes of classful qdiscs (RTM_GETTCLASS).
    pub classes: Reading<Vec<Class>>,
    /// tc filters of every qdisc and of clsact ingress/egress (RTM_GETTFILTER).
    pub filters: Reading<Vec<TcFilter>>,
    /// /proc/thread-self/net/{snmp,netstat}.
    pub mib: Reading<Counters>,
    /// /proc/thread-self/net/snmp6.
    pub mib6: Reading<Counters>,
    /// /proc/thread-self/net/sockstat and sockstat6, `TCP.inuse` and so on.
    pub sockstat: Reading<Counters>,
    /// nftables, the nft back end of iptables included (netlink, nf_tables).
    pub nftables: Reading<Vec<Chain>>,
    /// Legacy iptables (getsockopt IPT_SO_GET_ENTRIES).
    pub iptables_legacy: Reading<Vec<Chain>>,
    /// Legacy ip6tables.
    pub ip6tables_legacy: Reading<Vec<Chain>>,
    /// Connection tracking.
    pub conntrack: Reading<Conntrack>,
    /// TCP and UDP sockets, v4 and v6 (sock_diag).
    pub sockets: Reading<Vec<Socket>>,
    /// ethtool -S by device.
    pub ethtool: Reading<BTreeMap<String, Counters>>,
    /// sysctls that rules need, by dotted name (`net.ipv4.conf.eth0.rp_filter`).
    pub sysctls: BTreeMap<String, Reading<String>>,
}

/// Counters that belong to the whole machine, not to a namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineSnapshot {
    /// /proc/net/softnet_stat, a row per CPU.
    pub softnet: Reading<Vec<SoftnetCpu>>,
}

/// A row of softnet_stat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftnetCpu {
    /// CPU number.
    pub cpu: u32,
    /// Packets taken from the backlog or by NAPI.
    pub processed: u64,
    /// Packets dropped because the backlog was full.
    pub dropped: u64,
    /// Times that the budget ended before the work did: not a loss.
    pub time_squeeze: u64,
    /// Packets dropped by the flow limit.
    pub flow_limit: u64,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Index in this namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind from IFLA_INFO_KIND: veth, bridge, macvlan, …; none for a plain device and lo.
    pub kind: Option<String>,
    /// Link-layer address, `aa:bb:…`.
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
    pub master: Option<u32>,
    /// IFLA_LINK: the lower device, or the peer of a veth.
    pub link: Option<u32>,
    /// IFLA_LINK_NETNSID: namespace id of `link`, if elsewhere; meaning in this namespace only.
    pub link_netnsid: Option<i32>,
    /// Inode of the namespace that `link_netnsid` stands for, if it could be resolved.
    pub link_netns_inode: Option<u64>,
    /// Transmit queue length.
    pub txqlen: Option<u32>,
    /// Attached XDP: mode (`native`, `generic`, `offload`, `multi`) and program id.
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
}

/// Connection tracking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conntrack {
    /// net.netfilter.nf_conntrack_count.
    pub count: u64,
    /// net.netfilter.nf_conntrack_max.
    pub max: u64,
    /// Per-CPU statistics summed: insert_failed, drop, early_drop, invalid …
    pub stats: Counters,
}

/// A TCP or UDP socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Socket {
    /// tcp or udp.
    pub protocol: Protocol,
    /// TCP state in words: listen, established, syn_sent, close_wait …; for UDP `close` or `established`.
    pub state: String,
    /// Local address and port.
    pub local: SocketAddr,
    /// Remote address and port; unspecified if not connected.
    pub remote: SocketAddr,
    /// IPV6_V6ONLY; only for v6 sockets.
    pub v6only: Option<bool>,
    /// SO_BINDTODEVICE index, 0 if none.
    pub link: u32,
    /// Inode, for the owner.
    pub inode: u64,
    /// Cookie: identity of the socket across two snapshots.
    pub cookie: u64,
    /// Bytes not yet read; for a listener connections not yet accepted.
    pub receive_queue: u32,
    /// Bytes not yet acknowledged; for a listener the length of its accept queue.
    pub send_queue: u32,
    /// sk_drops.
    pub drops: Option<u32>,
    /// Receive buffer limit in bytes.
    pub receive_buffer: Option<u32>,
    /// Owner uid.
    pub uid: u32,
    /// Processes that hold it, at most 8; empty if unknown.
    pub owners: Vec<Owner>,
}

/// tcp or udp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process id in whydrop's pid namespace.
    pub pid: u32,
    /// Name.
    pub comm: String,
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

    /// True if the address belongs to this namespace.
    pub fn owns(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|a| a.ip == ip)
    }
}
