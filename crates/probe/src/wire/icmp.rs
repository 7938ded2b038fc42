//! ICMP and ICMPv6 errors, and the packet they quote.

use super::{Incoming, ip, protocol};
use crate::codec::IcmpError;

/// An ICMP error with the packet it quotes.
#[derive(Clone, Copy, Debug)]
pub struct Quoting<'a> {
    /// The error.
    pub error: IcmpError,
    /// The offending packet, cut after at least eight bytes of its payload.
    pub quote: Incoming<'a>,
}

/// Kinds of ICMP errors, of both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No route (v4 code 0, v6 code 0).
    NetUnreachable,
    /// No answer from the host's neighbour (v4 code 1, v6 code 3).
    HostUnreachable,
    /// Protocol unreachable.
    ProtocolUnreachable,
    /// Nobody listens (v4 code 3, v6 code 4), or a firewall's REJECT.
    PortUnreachable,
    /// Too big; the next hop's MTU, 0 if the router did not say.
    TooBig(u32),
    /// A firewall's answer (v4 codes 9, 10, 13; v6 codes 1, 5).
    Prohibited,
    /// Time to live exceeded in transit.
    TimeExceeded,
    /// Anything else: type and code.
    Other(u8, u8),
}

impl std::fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NetUnreachable => f.write_str("network unreachable"),
            Self::HostUnreachable => f.write_str("host unreachable"),
            Self::ProtocolUnreachable => f.write_str("protocol unreachable"),
            Self::PortUnreachable => f.write_str("port unreachable"),
            Self::TooBig(mtu) => write!(f, "packet too big (mtu {mtu})"),
            Self::Prohibited => f.write_str("administratively prohibited"),
            Self::TimeExceeded => f.write_str("time to live exceeded"),
            Self::Other(kind, code) => write!(f, "icmp type {kind} code {code}"),
        }
    }
}

/// Reads an ICMP or ICMPv6 error; none for other messages and for anything malformed.
pub fn error<'a>(packet: &Incoming<'a>) -> Option<Quoting<'a>> {
    let [kind, code, _, _, r0, r1, r2, r3, quote @ ..] = packet.payload else { return None };
    let kind = match packet.protocol {
        protocol::ICMP => match (kind, code) {
            (3, 0 | 6 | 11) => ErrorKind::NetUnreachable,
            (3, 1 | 7 | 12) => ErrorKind::HostUnreachable,
            (3, 2) => ErrorKind::ProtocolUnreachable,
            (3, 3) => ErrorKind::PortUnreachable,
            (3, 4) => ErrorKind::TooBig(u32::from(u16::from_be_bytes([*r2, *r3]))),
            (3, 9 | 10 | 13) => ErrorKind::Prohibited,
            (11, 0) => ErrorKind::TimeExceeded,
            (3 | 4 | 11 | 12, _) => ErrorKind::Other(*kind, *code),
            _ => return None,
        },
        protocol::ICMPV6 => match (kind, code) {
            (1, 0) => ErrorKind::NetUnreachable,
            (1, 3) => ErrorKind::HostUnreachable,
            (1, 4) => ErrorKind::PortUnreachable,
            (1, 1 | 5 | 6) => ErrorKind::Prohibited,
            (2, _) => ErrorKind::TooBig(u32::from_be_bytes([*r0, *r1, *r2, *r3])),
            (3, 0) => ErrorKind::TimeExceeded,
            (1..=127, _) => ErrorKind::Other(*kind, *code),
            _ => return None,
        },
        _ => return None,
    };
    let error = IcmpError { kind, from: Some(packet.from) };
    Some(Quoting { error, quote: ip::parse(quote, packet.at)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn incoming(payload: &[u8]) -> Incoming<'_> {
        Incoming {
            from: Ipv4Addr::new(10, 0, 0, 9).into(),
            to: Ipv4Addr::new(10, 0, 0, 1).into(),
            protocol: protocol::ICMP,
            ttl: None,
            df: false,
            id: 0,
            length: payload.len() + 20,
            payload,
            at: 0,
        }
    }

    #[test]
    fn reads_fragmentation_needed_with_its_quote() {
        let mut bytes = vec![3, 4, 0, 0, 0, 0, 0x05, 0x78];
        bytes.extend([0x45, 0, 0x05, 0xdc, 0, 7, 0x40, 0, 63, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend([0xee, 0x48, 0, 80, 0, 0, 0, 1]);
        let read = error(&incoming(&bytes)).expect("an error");
        assert_eq!(read.error.kind, ErrorKind::TooBig(1400));
        assert_eq!(read.quote.payload.len(), 8);
        assert_eq!(read.error.to_string(), "packet too big (mtu 1400) from 10.0.0.9");
    }

    #[test]
    fn an_echo_reply_is_no_error() {
        assert!(error(&incoming(&[0; 64])).is_none());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = error(&incoming(&bytes));
        }
    }
}
