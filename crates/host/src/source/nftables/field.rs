//! What an expression loads, and how nft writes it: names and values of header fields and metadata.

use super::expr::Expr;
use std::net::{Ipv4Addr, Ipv6Addr};
use whydrop_model::netfilter::{Family, Field as Number};

/// Something in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load<'a> {
    Meta(u32),
    Payload { base: u32, offset: u32, len: u32 },
    Ct(u32),
    Fib { result: u32, flags: u32 },
    Numgen { modulus: u32, random: bool, offset: u32 },
    Value(&'a [u8]),
}

impl<'a> Load<'a> {
    /// The load that an expression makes, and its register.
    pub fn of(expr: &Expr<'a>) -> Option<(u32, Self)> {
        Some(match *expr {
            Expr::MetaLoad { key, to } => (to, Self::Meta(key)),
            Expr::Payload { base, offset, len, to } => (to, Self::Payload { base, offset, len }),
            Expr::CtLoad { key, to, direction: None } => (to, Self::Ct(key)),
            Expr::Fib { result, flags, to } => (to, Self::Fib { result, flags }),
            Expr::Numgen { modulus, random, offset, to } => (to, Self::Numgen { modulus, random, offset }),
            Expr::Value { to, value } => (to, Self::Value(value)),
            _ => return None,
        })
    }
}

/// How the bytes of a field are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ip4,
    Ip6,
    /// Number in network byte order.
    Number,
    /// The same with bits that have meanings of their own: hexadecimal, which nft before 1.1 does not list, but takes.
    Bits,
    /// Number in host byte order.
    HostNumber,
    /// Mark: eight hexadecimal digits, host byte order.
    Mark,
    Protocol,
    InterfaceName,
    InterfaceIndex,
    CtState,
    CtStatus,
    CtDirection,
    PacketType,
    TcpFlags,
    Mac,
    NfProto,
    EtherType,
    AddressType,
    Icmp4Type,
    Icmp6Type,
    ArpOperation,
}

/// Sides of the packet that the model has words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Source,
    Destination,
    SourcePort,
    DestinationPort,
    InInterface,
    OutInterface,
    L4Proto,
    CtState,
    Number(Number),
    Other,
}

/// A field: its name, how its value is written, what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub role: Role,
    /// Length in bytes.
    pub len: u32,
    /// Offset in its header; 0 for metadata.
    pub offset: u32,
}

const fn field(name: &'static str, offset: u32, len: u32, kind: Kind, role: Role) -> Field {
    Field { name, kind, role, len, offset }
}

const IP: [Field; 7] = [
    field("ip dscp", 1, 1, Kind::Number, Role::Number(Number::Tos)),
    field("ip length", 2, 2, Kind::Number, Role::Number(Number::Length)),
    field("ip frag-off", 6, 2, Kind::Bits, Role::Number(Number::FragmentOffset)),
    field("ip ttl", 8, 1, Kind::Number, Role::Number(Number::Ttl)),
    field("ip protocol", 9, 1, Kind::Protocol, Role::L4Proto),
    field("ip saddr", 12, 4, Kind::Ip4, Role::Source),
    field("ip daddr", 16, 4, Kind::Ip4, Role::Destination),
];
const IP6: [Field; 5] = [
    field("ip6 length", 4, 2, Kind::Number, Role::Other),
    field("ip6 nexthdr", 6, 1, Kind::Protocol, Role::L4Proto),
    field("ip6 hoplimit", 7, 1, Kind::Number, Role::Number(Number::Ttl)),
    field("ip6 saddr", 8, 16, Kind::Ip6, Role::Source),
    field("ip6 daddr", 24, 16, Kind::Ip6, Role::Destination),
];
const TCP: [Field; 5] = [
    field("tcp sport", 0, 2, Kind::Number, Role::SourcePort),
    field("tcp dport", 2, 2, Kind::Number, Role::DestinationPort),
    field("tcp sequence", 4, 4, Kind::Number, Role::Other),
    field("tcp flags", 13, 1, Kind::TcpFlags, Role::Number(Number::TcpFlags)),
    field("tcp window", 14, 2, Kind::Number, Role::Other),
];
const UDP: [Field; 3] = [
    field("udp sport", 0, 2, Kind::Number, Role::SourcePort),
    field("udp dport", 2, 2, Kind::Number, Role::DestinationPort),
    field("udp length", 4, 2, Kind::Number, Role::Other),
];
const SCTP: [Field; 2] = [
    field("sctp sport", 0, 2, Kind::Number, Role::SourcePort),
    field("sctp dport", 2, 2, Kind::Number, Role::DestinationPort),
];
const TH: [Field; 2] = [
    field("th sport", 0, 2, Kind::Number, Role::SourcePort),
    field("th dport", 2, 2, Kind::Number, Role::DestinationPort),
];
const ICMP: [Field; 2] = [
    field("icmp type", 0, 1, Kind::Icmp4Type, Role::Number(Number::IcmpType)),
    field("icmp code", 1, 1, Kind::Number, Role::Number(Number::IcmpCode)),
];
const ICMP6: [Field; 2] = [
    field("icmpv6 type", 0, 1, Kind::Icmp6Type, Role::Number(Number::IcmpType)),
    field("icmpv6 code", 1, 1, Kind::Number, Role::Number(Number::IcmpCode)),
];
const ARP: [Field; 3] = [
    field("arp operation", 6, 2, Kind::ArpOperation, Role::Number(Number::ArpOperation)),
    field("arp saddr ip", 14, 4, Kind::Ip4, Role::Source),
    field("arp daddr ip", 24, 4, Kind::Ip4, Role::Destination),
];
const ETHER: [Field; 3] = [
    field("ether daddr", 0, 6, Kind::Mac, Role::Other),
    field("ether saddr", 6, 6, Kind::Mac, Role::Other),
    field("ether type", 12, 2, Kind::EtherType, Role::Number(Number::EtherType)),
];

/// `enum nft_meta_keys`.
pub(super) const META_PROTOCOL: u32 = 1;
pub(super) const META_MARK: u32 = 3;
pub(super) const META_IIFTYPE: u32 = 8;
pub(super) const META_NFPROTO: u32 = 15;
pub(super) const META_L4PROTO: u32 = 16;
/// `enum nft_ct_keys`.
pub(super) const CT_MARK: u32 = 3;

/// Network protocol of the packet as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum L3 {
    V4,
    V6,
    Arp,
}

/// What the family of the table and the conditions so far say about the packet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Context {
    pub l3: Option<L3>,
    pub l4: Option<u8>,
}

impl Context {
    pub fn of(family: Family) -> Self {
        let l3 = match family {
            Family::Ip => Some(L3::V4),
            Family::Ip6 => Some(L3::V6),
            Family::Arp => Some(L3::Arp),
            Family::Inet | Family::Bridge | Family::Netdev => None,
        };
        Self { l3, l4: None }
    }

    /// Fields of a header.
    fn header(self, base: u32) -> &'static [Field] {
        match (base, self.l3, self.l4) {
            (0, ..) => &ETHER,
            (1, Some(L3::V4), _) => &IP,
            (1, Some(L3::V6), _) => &IP6,
            (1, Some(L3::Arp), _) => &ARP,
            (2, _, Some(1)) => &ICMP,
            (2, _, Some(6)) => &TCP,
            (2, _, Some(17)) => &UDP,
            (2, _, Some(58)) => &ICMP6,
            (2, _, Some(132)) => &SCTP,
            (2, _, None) => &TH,
            _ => &[],
        }
    }

    /// The fields that a load covers, in order: nft joins neighbours into one load, and loads only the first
    /// bytes of an address if the network ends there. None if a byte belongs to no known field.
    pub fn fields(self, load: Load<'_>) -> Option<Vec<Field>> {
        let Load::Payload { base, offset, len } = load else { return self.single(load).map(|f| vec![f]) };
        let header = self.header(base);
        let (mut at, end) = (offset, offset.checked_add(len)?);
        let mut found = vec![];
        while at < end {
            let field = header.iter().find(|field| field.offset == at)?;
            at = at.checked_add(field.len)?;
            found.push(*field);
        }
        let whole = at == end;
        let address = matches!(found.as_slice(), [Field { kind: Kind::Ip4 | Kind::Ip6, .. }]);
        (whole || address).then_some(found)
    }

    fn single(self, load: Load<'_>) -> Option<Field> {
        let (name, len, kind, role) = match load {
            Load::Meta(key) => match key {
                0 => ("meta length", 4, Kind::HostNumber, Role::Number(Number::Length)),
                META_PROTOCOL => ("meta protocol", 2, Kind::EtherType, Role::Number(Number::EtherType)),
                META_MARK => ("meta mark", 4, Kind::Mark, Role::Number(Number::Mark)),
                4 => ("iif", 4, Kind::InterfaceIndex, Role::Number(Number::InIndex)),
                5 => ("oif", 4, Kind::InterfaceIndex, Role::Number(Number::OutIndex)),
                6 => ("iifname", 16, Kind::InterfaceName, Role::InInterface),
                7 => ("oifname", 16, Kind::InterfaceName, Role::OutInterface),
                META_IIFTYPE => ("iiftype", 2, Kind::HostNumber, Role::Other),
                10 => ("meta skuid", 4, Kind::HostNumber, Role::Number(Number::Uid)),
                11 => ("meta skgid", 4, Kind::HostNumber, Role::Number(Number::Gid)),
                META_NFPROTO => ("meta nfproto", 1, Kind::NfProto, Role::Number(Number::NetworkProtocol)),
                META_L4PROTO => ("meta l4proto", 1, Kind::Protocol, Role::L4Proto),
                19 => ("meta pkttype", 1, Kind::PacketType, Role::Number(Number::PacketType)),
                20 => ("meta cpu", 4, Kind::HostNumber, Role::Other),
                _ => return None,
            },
            Load::Ct(key) => match key {
                0 => ("ct state", 4, Kind::CtState, Role::CtState),
                1 => ("ct direction", 1, Kind::CtDirection, Role::Number(Number::CtDirection)),
                2 => ("ct status", 4, Kind::CtStatus, Role::Number(Number::CtStatus)),
                CT_MARK => ("ct mark", 4, Kind::Mark, Role::Number(Number::CtMark)),
                _ => return None,
            },
            // daddr or saddr, address type.
            Load::Fib { result: 3, flags: 1 } => {
                ("fib saddr type", 4, Kind::AddressType, Role::Number(Number::SourceType))
            }
            Load::Fib { result: 3, flags: 2 } => {
                ("fib daddr type", 4, Kind::AddressType, Role::Number(Number::DestinationType))
            }
            _ => return None,
        };
        Some(field(name, 0, len, kind, role))
    }
}

const PROTOCOLS: [(u8, &str); 9] = [
    (1, "icmp"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (50, "esp"),
    (51, "ah"),
    (58, "ipv6-icmp"),
    (132, "sctp"),
    (136, "udplite"),
];
const CT_STATES: [(u32, &str); 5] =
    [(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
const CT_STATUS: [(u32, &str); 7] = [
    (1, "expected"),
    (2, "seen-reply"),
    (4, "assured"),
    (8, "confirmed"),
    (16, "snat"),
    (32, "dnat"),
    (512, "dying"),
];
const TCP_FLAGS: [(u32, &str); 8] =
    [(1, "fin"), (2, "syn"), (4, "rst"), (8, "psh"), (16, "ack"), (32, "urg"), (64, "ecn"), (128, "cwr")];
const ICMP4: [(u8, &str); 8] = [
    (0, "echo-reply"),
    (3, "destination-unreachable"),
    (4, "source-quench"),
    (5, "redirect"),
    (8, "echo-request"),
    (11, "time-exceeded"),
    (12, "parameter-problem"),
    (13, "timestamp-request"),
];
const ICMP6_TYPES: [(u8, &str); 11] = [
    (1, "destination-unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (4, "parameter-problem"),
    (128, "echo-request"),
    (129, "echo-reply"),
    (133, "nd-router-solicit"),
    (134, "nd-router-advert"),
    (135, "nd-neighbor-solicit"),
    (136, "nd-neighbor-advert"),
    (137, "nd-redirect"),
];
const ADDRESS_TYPES: [&str; 9] = [
    "unspec",
    "unicast",
    "local",
    "broadcast",
    "anycast",
    "multicast",
    "blackhole",
    "unreachable",
    "prohibit",
];

fn number(bytes: &[u8]) -> Option<u64> {
    (!bytes.is_empty() && bytes.len() <= 8).then(|| bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
}

/// A number of the machine's own byte order.
pub(super) fn host_number(bytes: &[u8]) -> Option<u64> {
    match *bytes {
        [a] => Some(u64::from(a)),
        [a, b] => Some(u64::from(u16::from_ne_bytes([a, b]))),
        [a, b, c, d] => Some(u64::from(u32::from_ne_bytes([a, b, c, d]))),
        _ => None,
    }
}

fn named(table: &[(u8, &str)], byte: u8) -> String {
    table.iter().find(|(n, _)| *n == byte).map_or_else(|| byte.to_string(), |(_, name)| (*name).to_owned())
}

/// Names of the bits of a set of flags.
pub(super) fn flag_names(kind: Kind, bits: u64) -> Option<Vec<&'static str>> {
    let table: &[(u32, &'static str)] = match kind {
        Kind::CtState => &CT_STATES,
        Kind::CtStatus => &CT_STATUS,
        Kind::TcpFlags => &TCP_FLAGS,
        _ => return None,
    };
    let mut left = bits;
    let mut names = vec![];
    for (bit, name) in table {
        if left & u64::from(*bit) != 0 {
            left &= !u64::from(*bit);
            names.push(*name);
        }
    }
    (left == 0 && !names.is_empty()).then_some(names)
}

/// The bits of flags, in the byte order of their field.
pub(super) fn flag_bits(kind: Kind, bytes: &[u8]) -> Option<u64> {
    matches!(kind, Kind::CtState | Kind::CtStatus | Kind::TcpFlags).then(|| host_number(bytes)).flatten()
}

impl Kind {
    /// True for numbers of the machine's own byte order; intervals of them are kept in another one.
    pub fn is_host_order(self) -> bool {
        matches!(
            self,
            Self::HostNumber
                | Self::Mark
                | Self::InterfaceIndex
                | Self::CtState
                | Self::CtStatus
                | Self::AddressType
        )
    }

    /// A value as a number; none if it is none of at most 32 bits.
    pub fn number(self, bytes: &[u8]) -> Option<u32> {
        let found = match self {
            Self::Ip4 | Self::Ip6 | Self::InterfaceName | Self::Mac => return None,
            kind if kind.is_host_order() => host_number(bytes),
            _ => number(bytes),
        };
        found.and_then(|n| u32::try_from(n).ok())
    }

    /// A value as nft writes it; none if it has no word.
    pub fn show(self, bytes: &[u8]) -> Option<String> {
        Some(match self {
            Self::Ip4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string(),
            Self::Ip6 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string(),
            Self::Number => number(bytes)?.to_string(),
            Self::Bits => format!("{:#x}", number(bytes)?),
            Self::HostNumber => host_number(bytes)?.to_string(),
            Self::Mark => format!("0x{:08x}", host_number(bytes)?),
            Self::Protocol => named(&PROTOCOLS, *bytes.first()?),
            Self::InterfaceName => format!("\"{}\"", interface(bytes)?),
            // A number here is an index: the name may be another one by the time that it is read.
            Self::InterfaceIndex => host_number(bytes)?.to_string(),
            // All of them together; with commas, some places would take each as a value of its own.
            Self::CtState | Self::CtStatus | Self::TcpFlags => match flag_bits(self, bytes)? {
                0 => "0x0".to_owned(),
                bits => flag_names(self, bits)?.join(" | "),
            },
            Self::CtDirection => (*["original", "reply"].get(usize::from(*bytes.first()?))?).to_owned(),
            Self::PacketType => {
                (*["host", "broadcast", "multicast", "other"].get(usize::from(*bytes.first()?))?).to_owned()
            }
            Self::Mac => {
                let parts: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
                parts.join(":")
            }
            Self::NfProto => match bytes.first()? {
                2 => "ipv4".to_owned(),
                10 => "ipv6".to_owned(),
                _ => return None,
            },
            Self::EtherType => match number(bytes)? {
                0x0800 => "ip".to_owned(),
                0x86dd => "ip6".to_owned(),
                0x0806 => "arp".to_owned(),
                0x8100 => "vlan".to_owned(),
                other => format!("{other:#06x}"),
            },
            Self::AddressType => (*ADDRESS_TYPES.get(usize::try_from(host_number(bytes)?).ok()?)?).to_owned(),
            Self::Icmp4Type => named(&ICMP4, *bytes.first()?),
            Self::Icmp6Type => named(&ICMP6_TYPES, *bytes.first()?),
            Self::ArpOperation => match number(bytes)? {
                1 => "request".to_owned(),
                2 => "reply".to_owned(),
                other => other.to_string(),
            },
        })
    }
}

/// An interface name: with its terminating zero it is whole, without it a prefix.
pub(super) fn interface(bytes: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(bytes.split(|b| *b == 0).next()?).ok()?;
    let whole = bytes.contains(&0);
    Some(if whole { name.to_owned() } else { format!("{name}*") })
}
