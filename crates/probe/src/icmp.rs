//! icmp://: echo requests, raw or through the kernel's ping socket.

use crate::Nanos;
use crate::account::{Answer, Entry};
use crate::codec::{Codec, Detail, Heard, Outgoing, Own, Source, What};
use crate::token::{LENGTH, Tokens};
use crate::wire::{Incoming, checksum, icmp, protocol};
use std::net::IpAddr;
use whydrop_model::ProbeResult;

/// Bytes of an echo header.
const HEADER: usize = 8;
/// Header, token and the word that balances the checksum.
const LEAST: usize = HEADER + LENGTH + 2;
/// Checksum of every IPv4 echo request. The kernel computes that of ICMPv6, which covers the addresses too.
const CHECKSUM: [u8; 2] = *b"wd";
/// Data of an echo request as ping sends it, in bytes.
const DATA: usize = 56;

/// Echo requests to one address. The token in the data is the identity; identifier and sequence number are there
/// for people and for NAT.
#[derive(Debug)]
pub struct Icmp {
    remote: IpAddr,
    identifier: u16,
    tokens: Tokens,
}

impl Icmp {
    /// Echo requests with this identifier; a ping socket puts its own in its place.
    pub fn new(remote: IpAddr, identifier: u16) -> Self {
        Self { remote, identifier, tokens: Tokens::default() }
    }

    /// Echo request `seq` as an ICMP message of `size` bytes, or of as many as a token needs.
    pub fn build_sized(&self, seq: u32, size: usize) -> Outgoing {
        let kind = if self.remote.is_ipv4() { 8 } else { 128 };
        let (id, number) = (self.identifier.to_be_bytes(), seq as u16);
        let head = [&[kind, 0], CHECKSUM.as_slice(), &id, &number.to_be_bytes()].concat();
        let bytes = head.into_iter().chain(self.tokens.make(seq)).chain([0, 0]).chain((0u8..=255).cycle());
        let mut payload: Vec<u8> = bytes.take(size.max(LEAST)).collect();
        // Routers spread flows by the bytes where the checksum stands: what varies is balanced by the word behind the
        // token, so that all probes take one path (as paris-traceroute does).
        let balance = checksum::internet(&payload).to_be_bytes();
        payload.iter_mut().skip(HEADER + LENGTH).zip(balance).for_each(|(to, from)| *to = from);
        Outgoing { payload, sport: number }
    }

    /// The probe whose echo message (request or answer, by type) this is.
    fn echo(&self, payload: &[u8], kinds: [u8; 2]) -> Option<u32> {
        let kind = if self.remote.is_ipv4() { kinds[0] } else { kinds[1] };
        (*payload.first()? == kind).then(|| self.tokens.read(payload.get(HEADER..)?))?
    }
}

impl Codec for Icmp {
    fn build(&self, seq: u32, _source: IpAddr) -> Outgoing {
        self.build_sized(seq, HEADER + DATA)
    }

    fn read(&self, packet: &Incoming<'_>) -> Option<Heard> {
        if !matches!(packet.protocol, protocol::ICMP | protocol::ICMPV6) {
            return None;
        }
        if let Some(seq) = self.echo(packet.payload, [0, 129]) {
            let what = match packet.from == self.remote {
                true => What::Answer(Answer::Reply, Detail::default()),
                false => What::Elsewhere(Source { address: packet.from, port: None }),
            };
            return Some(Heard { seq, what });
        }
        let icmp::Quoting { error, quote } = icmp::error(packet)?;
        let seq = self.echo(quote.payload, [8, 128]).filter(|_| quote.to == self.remote)?;
        Some(Heard { seq, what: What::IcmpError(error) })
    }

    fn read_own(&self, packet: &Incoming<'_>) -> Option<Own> {
        let seq = self.echo(packet.payload, [8, 128])?;
        Some(Own { seq, translated: packet.to != self.remote })
    }

    fn interpret(&self, _entries: &[Entry], _now: Nanos, _result: &mut ProbeResult) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn knows_its_echo_and_its_quote() {
        let codec = Icmp::new(THERE, 7);
        let out = codec.build(70_000, HERE);
        assert_eq!(out.payload.len(), 64);
        for size in [0, 64, 65, 1472] {
            let sized = codec.build_sized(70_001, size).payload;
            assert_eq!(checksum::internet(&sized), 0, "a right checksum sums to nothing");
            assert_eq!(sized[2..4], out.payload[2..4], "one flow");
        }
        let packet = |from, to, payload| Incoming {
            from,
            to,
            protocol: protocol::ICMP,
            ttl: None,
            df: false,
            id: 0,
            length: 84,
            payload,
            at: 0,
        };
        let own = codec.read_own(&packet(HERE, THERE, &out.payload));
        assert_eq!(own, Some(Own { seq: 70_000, translated: false }));
        assert_eq!(codec.read(&packet(HERE, THERE, &out.payload)), None, "a request is no answer");
        let mut back = out.payload.clone();
        back[0] = 0;
        assert_eq!(codec.read(&packet(THERE, HERE, &back)).map(|h| h.seq), Some(70_000));
        let source = Source { address: HERE, port: None };
        let heard = codec.read(&packet(HERE, HERE, &back)).map(|h| h.what);
        assert_eq!(heard, Some(What::Elsewhere(source)));
        let mut error = vec![11, 0, 0, 0, 0, 0, 0, 0];
        error.extend([0x45, 0, 0, 84, 0, 7, 0x40, 0, 1, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        error.extend(&out.payload);
        let router = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
        let heard = codec.read(&packet(router, HERE, &error)).expect("our quote");
        assert!(
            matches!(heard.what, What::IcmpError(e) if e.to_string() == "time to live exceeded from 10.0.0.9")
        );
    }
}
