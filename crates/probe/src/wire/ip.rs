//! IPv4 and IPv6 headers.

use super::Incoming;
use crate::Nanos;
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
use std::net::IpAddr;

/// Reads an IP packet that starts at its IP header. None for fragments other than the first, IPv6 extension
/// headers and anything malformed: no probe looks like that.
pub fn parse(bytes: &[u8], at: Nanos) -> Option<Incoming<'_>> {
    match bytes.first()? >> 4 {
        4 => {
            let header = Ipv4HeaderSlice::from_slice(bytes).ok()?;
            if header.fragments_offset().value() != 0 {
                return None;
            }
            let length = usize::from(header.total_len());
            let header_length = header.slice().len();
            Some(Incoming {
                from: IpAddr::V4(header.source_addr()),
                to: IpAddr::V4(header.destination_addr()),
                protocol: header.protocol().0,
                ttl: Some(header.ttl()),
                df: header.dont_fragment(),
                id: header.identification(),
                length,
                // A quote inside an ICMP error is shorter than its length field says.
                payload: bytes.get(header_length..length.min(bytes.len()))?,
                at,
            })
        }
        6 => {
            let header = Ipv6HeaderSlice::from_slice(bytes).ok()?;
            let length = 40 + usize::from(header.payload_length());
            Some(Incoming {
                from: IpAddr::V6(header.source_addr()),
                to: IpAddr::V6(header.destination_addr()),
                protocol: header.next_header().0,
                ttl: Some(header.hop_limit()),
                df: true,
                id: 0,
                length,
                payload: bytes.get(40..length.min(bytes.len()))?,
                at,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse(&bytes, 0);
        }
    }

    #[test]
    fn reads_a_truncated_quote() {
        let mut packet = vec![0x45, 0, 0x05, 0xdc, 0, 7, 0x40, 0, 63, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        let read = parse(&packet, 9).expect("quote");
        assert_eq!(
            (read.length, read.payload.len(), read.df, read.id, read.ttl),
            (1500, 8, true, 7, Some(63))
        );
    }
}
