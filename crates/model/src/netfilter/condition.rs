//! What a rule asks of a packet, and what it changes in passing.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// A number that a packet carries, or that the kernel keeps about it; in the machine's own byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// `NFPROTO_IPV4` (2) or `NFPROTO_IPV6` (10).
    NetworkProtocol,
    /// EtherType.
    EtherType,
    /// Flags of TCP: 1 FIN, 2 SYN, 4 RST, 8 PSH, 16 ACK, 32 URG, 64 ECE, 128 CWR.
    TcpFlags,
    /// Maximum segment size that a SYN offers.
    TcpMss,
    /// Type of ICMP or ICMPv6.
    IcmpType,
    /// Code of ICMP or ICMPv6.
    IcmpCode,
    /// Operation of ARP: 1 request, 2 reply.
    ArpOperation,
    /// Bytes from the network header on.
    Length,
    /// TTL or hop limit.
    Ttl,
    /// Byte of the type of service: DSCP and ECN.
    Tos,
    /// Offset of a fragment in units of 8 bytes; 0 for a whole packet and a first fragment.
    FragmentOffset,
    /// Mark of the packet (`skb->mark`).
    Mark,
    /// Mark of the connection.
    CtMark,
    /// Status of the connection, `IPS_*` bits.
    CtStatus,
    /// 0 for the direction of the first packet, 1 for that of the answers.
    CtDirection,
    /// User of the local socket.
    Uid,
    /// Group of the local socket.
    Gid,
    /// `PACKET_HOST` (0), broadcast (1), multicast (2), other host (3).
    PacketType,
    /// Type of the source address, `RTN_*`: 1 unicast, 2 local, 3 broadcast, 5 multicast …
    SourceType,
    /// Type of the destination address.
    DestinationType,
    /// Index of the input interface.
    InIndex,
    /// Index of the output interface.
    OutIndex,
}

/// A condition of a rule, as far as whydrop decodes it, or a change that it makes before the next condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// Random share 0..1 (xt statistic random, nft numgen random).
    Random(f64),
    /// Every n-th packet (xt statistic nth, nft numgen inc).
    Nth(u32),
    /// Matches while below a rate (`limit`), or above it (`limit rate over`, `hashlimit-above`).
    Limit {
        /// The rate as the tool prints it: `10/second`.
        rate: String,
        /// True: matches what exceeds the rate.
        over: bool,
    },
    /// Number of connections (xt connlimit, nft ct count).
    Connlimit {
        /// The number.
        count: u32,
        /// True: matches above the number.
        over: bool,
    },
    /// A byte quota.
    Quota {
        /// Bytes.
        bytes: u64,
        /// True: matches once the quota is used up.
        over: bool,
    },
    /// A quota or a rate that is an object of its table. Which side of it matches, the object says, which is not read.
    Named {
        /// Name of the object.
        name: String,
        /// True for a quota, false for a rate.
        quota: bool,
    },
    /// The address was seen before (xt recent, `--rcheck` and `--update`).
    Recent {
        /// Name of the list.
        name: String,
        /// Within so many seconds; 0 for ever.
        seconds: u32,
        /// At least so many times; 0 for once.
        hits: u32,
    },
    /// Connection tracking state: INVALID, NEW …
    CtState(Vec<String>),
    /// Layer-4 protocol by number.
    L4Proto(u8),
    /// Source network.
    Source(IpAddr, u8),
    /// Destination network.
    Destination(IpAddr, u8),
    /// Source addresses, inclusive.
    SourceRange(IpAddr, IpAddr),
    /// Destination addresses, inclusive.
    DestinationRange(IpAddr, IpAddr),
    /// Source ports, inclusive.
    SourcePorts(u16, u16),
    /// Destination ports, inclusive.
    DestinationPorts(u16, u16),
    /// Input interface (a trailing `+` or `*` matches a prefix).
    InInterface(String),
    /// Output interface.
    OutInterface(String),
    /// A field under a mask lies between two numbers, inclusive.
    Number {
        /// The field.
        field: Field,
        /// Bits that count.
        mask: u32,
        /// Least number.
        low: u32,
        /// Greatest number.
        high: u32,
    },
    /// At least one of these: the elements of a set.
    AnyOf(Vec<Match>),
    /// All of these: one element of a set over several fields.
    AllOf(Vec<Match>),
    /// The opposite of a condition.
    Not(Box<Match>),
    /// No condition: the packet is changed, and meets the next condition so.
    Change(Change),
    /// A condition that whydrop does not decode; the text of the tool.
    Other(String),
}

/// What a rule changes without a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The field becomes `(old & !clear) ^ value`.
    Set {
        /// The field.
        field: Field,
        /// Bits that are cleared first.
        clear: u32,
        /// Bits that are turned then.
        value: u32,
    },
    /// The field becomes `(old & !clear) ^ (from & mask)`.
    Copy {
        /// The field that is read.
        from: Field,
        /// Its bits that count.
        mask: u32,
        /// The field that is written.
        to: Field,
        /// Its bits that are cleared first.
        clear: u32,
    },
    /// The field becomes something that whydrop does not decode.
    Blur(Field),
    /// The packet is not tracked.
    Notrack,
}

impl Match {
    /// A field that equals a number.
    pub const fn equals(field: Field, number: u32) -> Self {
        Self::Number { field, mask: u32::MAX, low: number, high: number }
    }

    /// A field in which at least one of these bits is set.
    pub const fn any_bit(field: Field, bits: u32) -> Self {
        Self::Number { field, mask: bits, low: 1, high: u32::MAX }
    }

    /// The condition, or its opposite.
    pub fn unless(self, negated: bool) -> Self {
        if negated { Self::Not(Box::new(self)) } else { self }
    }

    /// True for a condition that only packets meet which connection tracking can make nothing of.
    pub fn is_only_invalid(&self) -> bool {
        let Self::CtState(states) = self else { return false };
        !states.is_empty() && states.iter().all(|state| state.eq_ignore_ascii_case("INVALID"))
    }

    /// True for a condition that depends on what came before the packet, or on chance: a rate, a number of connections,
    /// a quota, a list of recent addresses, a share.
    pub fn is_measured(&self) -> bool {
        match self {
            Self::Random(_)
            | Self::Nth(_)
            | Self::Limit { .. }
            | Self::Connlimit { .. }
            | Self::Quota { .. }
            | Self::Named { .. }
            | Self::Recent { .. } => true,
            Self::Not(inner) => inner.is_measured(),
            Self::AnyOf(list) | Self::AllOf(list) => list.iter().any(Self::is_measured),
            _ => false,
        }
    }
}

impl Field {
    /// How people call it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::NetworkProtocol => "nfproto",
            Self::EtherType => "ether type",
            Self::TcpFlags => "tcp flags",
            Self::TcpMss => "mss",
            Self::IcmpType => "icmp type",
            Self::IcmpCode => "icmp code",
            Self::ArpOperation => "arp operation",
            Self::Length => "length",
            Self::Ttl => "ttl",
            Self::Tos => "tos",
            Self::FragmentOffset => "fragment offset",
            Self::Mark => "mark",
            Self::CtMark => "ct mark",
            Self::CtStatus => "ct status",
            Self::CtDirection => "ct direction",
            Self::Uid => "uid",
            Self::Gid => "gid",
            Self::PacketType => "pkttype",
            Self::SourceType => "source type",
            Self::DestinationType => "destination type",
            Self::InIndex => "iif",
            Self::OutIndex => "oif",
        }
    }
}

/// Elements of a set that are written out; the rest is counted.
const SHOWN_MEMBERS: usize = 4;

impl fmt::Display for Match {
    /// In the words of the field, the same for all tools: `dport 80`, `not source 10.0.0.0/8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(share) => write!(f, "random {share:.3}"),
            Self::Nth(every) => write!(f, "every {every}"),
            Self::Limit { rate, over } => write!(f, "limit {}{rate}", if *over { "over " } else { "" }),
            Self::Connlimit { count, over } => {
                write!(f, "connections {}{count}", if *over { "over " } else { "up to " })
            }
            Self::Quota { bytes, over } => {
                write!(f, "quota {}{bytes} bytes", if *over { "over " } else { "" })
            }
            Self::Named { name, quota } => {
                write!(f, "{} name {name}", if *quota { "quota" } else { "limit" })
            }
            Self::Recent { name, seconds, hits } => {
                write!(f, "recent {name} seconds {seconds} hitcount {hits}")
            }
            Self::CtState(states) => write!(f, "ctstate {}", states.join(",")),
            Self::L4Proto(number) => write!(f, "protocol {number}"),
            Self::Source(ip, prefix) => write!(f, "source {ip}/{prefix}"),
            Self::Destination(ip, prefix) => write!(f, "destination {ip}/{prefix}"),
            Self::SourceRange(first, last) => write!(f, "source {first}-{last}"),
            Self::DestinationRange(first, last) => write!(f, "destination {first}-{last}"),
            Self::SourcePorts(first, last) => range(f, "sport", first, last),
            Self::DestinationPorts(first, last) => range(f, "dport", first, last),
            Self::InInterface(name) => write!(f, "in {name}"),
            Self::OutInterface(name) => write!(f, "out {name}"),
            Self::Number { field, mask, low, high } => {
                let mask = if *mask == u32::MAX { String::new() } else { format!(" & {mask:#x}") };
                range(f, &format!("{}{mask}", field.word()), low, high)
            }
            Self::AnyOf(list) => members(f, list, " or "),
            Self::AllOf(list) => members(f, list, " and "),
            Self::Not(inner) => write!(f, "not {inner}"),
            Self::Change(_) => f.write_str("change"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

fn range<T: fmt::Display + PartialEq>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    first: &T,
    last: &T,
) -> fmt::Result {
    if first == last { write!(f, "{name} {first}") } else { write!(f, "{name} {first}-{last}") }
}

fn members(f: &mut fmt::Formatter<'_>, list: &[Match], between: &str) -> fmt::Result {
    for (i, member) in list.iter().take(SHOWN_MEMBERS).enumerate() {
        write!(f, "{}{member}", if i > 0 { between } else { "" })?;
    }
    match list.len().checked_sub(SHOWN_MEMBERS) {
        Some(more) if more > 0 => write!(f, " (+{more})"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_written_in_the_words_of_their_field() {
        let port = |n| Match::DestinationPorts(n, n);
        let cases = [
            (port(80).unless(true), "not dport 80"),
            (Match::equals(Field::Mark, 5), "mark 5"),
            (Match::any_bit(Field::CtStatus, 32), "ct status & 0x20 1-4294967295"),
            (Match::AnyOf((1..=6).map(port).collect()), "dport 1 or dport 2 or dport 3 or dport 4 (+2)"),
            (Match::Connlimit { count: 3, over: true }, "connections over 3"),
        ];
        for (condition, text) in cases {
            assert_eq!(condition.to_string(), text);
        }
    }

    #[test]
    fn a_share_inside_a_set_is_measured() {
        let share = Match::AnyOf(vec![Match::L4Proto(6), Match::Random(0.5)]);
        assert!(share.is_measured() && share.unless(true).is_measured());
        assert!(!Match::L4Proto(6).is_measured());
    }
}
