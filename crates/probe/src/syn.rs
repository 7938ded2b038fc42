//! tcp:// with raw sockets: SYNs from source ports of their own.
//!
//! The kernel's own RST answers each SYN-ACK, since no socket waits for it: that frees the server's half-open
//! entry, and its loss is what makes the server repeat the SYN-ACK (a duplicate here).

use crate::account::{Answer, Entry};
use crate::codec::{Codec, Detail, Heard, MOST_PROBES, Outgoing, Own, Source, What};
use crate::wire::{Incoming, icmp, protocol};
use crate::{Nanos, notes, split};
use etherparse::{TcpHeader, TcpHeaderSlice, TcpOptionElement};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use whydrop_model::ProbeResult;

/// SYN probes to one port.
#[derive(Debug)]
pub struct Syn {
    remote: IpAddr,
    port: u16,
    sports: Vec<u16>,
    /// Of a permutation of 32 bits, so that an answer names its probe however many went before: a Feistel network over
    /// keyed SipHash. Nobody off the path can forge an answer.
    key: RandomState,
}

/// Rounds of the permutation; four make it as good as random (Luby and Rackoff).
const ROUNDS: u8 = 4;

fn halves(word: u32) -> (u16, u16) {
    ((word >> 16) as u16, word as u16)
}

fn join(high: u16, low: u16) -> u32 {
    u32::from(high) << 16 | u32::from(low)
}

/// Window of the SYN, as Linux sends it.
const WINDOW: u16 = 64240;

impl Syn {
    /// Probes to `remote`:`port` that use `sports` in turn; none if there are no source ports.
    pub fn new(remote: IpAddr, port: u16, sports: Vec<u16>) -> Option<Self> {
        (!sports.is_empty()).then(|| Self { remote, port, sports, key: RandomState::new() })
    }

    fn sport(&self, seq: u32) -> Option<u16> {
        self.sports.get(seq as usize % self.sports.len()).copied()
    }

    /// Initial sequence number: identity of the probe.
    fn isn(&self, seq: u32) -> u32 {
        let (high, low) = (0..ROUNDS).fold(halves(seq), |(l, r), i| (r, l ^ self.mix(i, r)));
        join(high, low)
    }

    /// The probe that left `sport` with this initial sequence number.
    fn find(&self, sport: u16, isn: u32) -> Option<u32> {
        let (high, low) = (0..ROUNDS).rev().fold(halves(isn), |(l, r), i| (r ^ self.mix(i, l), l));
        let seq = join(high, low);
        (seq < MOST_PROBES && self.sport(seq)? == sport).then_some(seq)
    }

    fn mix(&self, round: u8, half: u16) -> u16 {
        self.key.hash_one((round, half)) as u16
    }

    /// The bytes of a header, with its checksum.
    fn finish(&self, mut header: TcpHeader, source: IpAddr) -> Vec<u8> {
        let sum = match (source, self.remote) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &[])
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &[])
            }
            _ => Ok(0),
        };
        header.checksum = sum.unwrap_or(0);
        header.to_bytes().to_vec()
    }

    fn quoted(&self, packet: &Incoming<'_>) -> Option<Heard> {
        let icmp::Quoting { error, quote } = icmp::error(packet)?;
        let [s0, s1, d0, d1, i0, i1, i2, i3, ..] = quote.payload else { return None };
        let right = quote.protocol == protocol::TCP
            && quote.to == self.remote
            && u16::from_be_bytes([*d0, *d1]) == self.port;
        let isn = u32::from_be_bytes([*i0, *i1, *i2, *i3]);
        let seq = self.find(u16::from_be_bytes([*s0, *s1]), isn).filter(|_| right)?;
        Some(Heard { seq, what: What::IcmpError(error) })
    }
}

impl Codec for Syn {
    fn build(&self, seq: u32, source: IpAddr) -> Outgoing {
        let sport = self.sport(seq).unwrap_or_default();
        let mut header = TcpHeader::new(sport, self.port, self.isn(seq), WINDOW);
        header.syn = true;
        let mss = if source.is_ipv4() { 1460 } else { 1440 };
        // The options of a Linux SYN: firewalls drop SYNs without any (nmap #1753).
        let options = [
            TcpOptionElement::MaximumSegmentSize(mss),
            TcpOptionElement::SelectiveAcknowledgementPermitted,
            TcpOptionElement::Timestamp(seq.wrapping_add(1), 0),
            TcpOptionElement::Noop,
            TcpOptionElement::WindowScale(7),
        ];
        let fits = header.set_options(&options);
        debug_assert!(fits.is_ok(), "20 of 40 bytes");
        Outgoing { payload: self.finish(header, source), sport }
    }

    /// A RST for the last probe from the same port. If its SYN-ACK or our kernel's RST was lost, the server still holds
    /// the connection half open, and answers another SYN with an ACK at most (net/ipv4/tcp_minisocks.c:tcp_check_req).
    fn clear(&self, seq: u32, source: IpAddr) -> Option<Vec<u8>> {
        let last = seq.checked_sub(u32::try_from(self.sports.len()).ok()?)?;
        let mut header = TcpHeader::new(self.sport(last)?, self.port, self.isn(last).wrapping_add(1), 0);
        header.rst = true;
        Some(self.finish(header, source))
    }

    fn read(&self, packet: &Incoming<'_>) -> Option<Heard> {
        if matches!(packet.protocol, protocol::ICMP | protocol::ICMPV6) {
            return self.quoted(packet);
        }
        let tcp =
            TcpHeaderSlice::from_slice(packet.payload).ok().filter(|_| packet.protocol == protocol::TCP)?;
        let answer = match (tcp.ack(), tcp.syn(), tcp.rst()) {
            (true, true, false) => Answer::Reply,
            (true, _, true) => Answer::Refused,
            _ => return None,
        };
        let seq = self.find(tcp.destination_port(), tcp.acknowledgment_number().wrapping_sub(1))?;
        let source = Source { address: packet.from, port: Some(tcp.source_port()) };
        if source != (Source { address: self.remote, port: Some(self.port) }) {
            return Some(Heard { seq, what: What::Elsewhere(source) });
        }
        let detail = Detail { flags: flags(&tcp), window: tcp.window_size(), isn: tcp.sequence_number() };
        Some(Heard { seq, what: What::Answer(answer, detail) })
    }

    fn read_own(&self, packet: &Incoming<'_>) -> Option<Own> {
        let tcp =
            TcpHeaderSlice::from_slice(packet.payload).ok().filter(|_| packet.protocol == protocol::TCP)?;
        let syn = tcp.syn() && !tcp.ack();
        let seq = syn.then(|| self.find(tcp.source_port(), tcp.sequence_number()))??;
        let as_asked = packet.to == self.remote && tcp.destination_port() == self.port;
        Some(Own { seq, translated: !as_asked })
    }

    fn interpret(&self, entries: &[Entry], now: Nanos, result: &mut ProbeResult) {
        let pattern = split::Pattern::of(entries, now, result.extra.never_left.is_some());
        let split = split::estimate(&pattern, split::DROP_95);
        result.forward = split.map(|s| s.forward);
        result.reverse = split.map(|s| s.reverse);
        result.extra.notes.extend(notes::syn(result, &pattern));
    }
}

/// Flags in hping's letters and order.
fn flags(tcp: &TcpHeaderSlice<'_>) -> String {
    [
        (tcp.rst(), 'R'),
        (tcp.syn(), 'S'),
        (tcp.ack(), 'A'),
        (tcp.fin(), 'F'),
        (tcp.psh(), 'P'),
        (tcp.urg(), 'U'),
    ]
    .into_iter()
    .filter_map(|(set, letter)| set.then_some(letter))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn incoming(from: IpAddr, to: IpAddr, payload: &[u8]) -> Incoming<'_> {
        let length = payload.len() + 20;
        Incoming { from, to, protocol: protocol::TCP, ttl: None, df: false, id: 0, length, payload, at: 0 }
    }

    fn answer(syn: &Outgoing, ack_add: u32, rst: bool) -> Vec<u8> {
        let sent = TcpHeaderSlice::from_slice(&syn.payload).expect("our SYN").to_header();
        let mut back = TcpHeader::new(sent.destination_port, sent.source_port, 7, 1);
        (back.syn, back.rst, back.ack) = (!rst, rst, true);
        back.acknowledgment_number = sent.sequence_number.wrapping_add(ack_add);
        back.to_bytes().to_vec()
    }

    #[test]
    fn knows_its_own_answers_and_no_others() {
        let codec = Syn::new(THERE, 80, vec![61000, 61001]).expect("ports");
        for seq in 0..7 {
            let syn = codec.build(seq, HERE);
            for (to, translated) in [(THERE, false), (HERE, true)] {
                let own = codec.read_own(&incoming(HERE, to, &syn.payload));
                assert_eq!(own, Some(Own { seq, translated }));
            }
            let heard = codec.read(&incoming(THERE, HERE, &answer(&syn, 1, false))).expect("a SYN-ACK");
            assert_eq!(heard.seq, seq);
            assert!(matches!(heard.what, What::Answer(Answer::Reply, d) if d.flags == "SA" && d.isn == 7));
            let heard = codec.read(&incoming(THERE, HERE, &answer(&syn, 1, true))).expect("a RST");
            assert!(matches!(heard.what, What::Answer(Answer::Refused, d) if d.flags == "RA"));
            assert_eq!(codec.read(&incoming(THERE, HERE, &answer(&syn, 2, false))), None, "wrong ack");
            let other = codec.read(&incoming(HERE, HERE, &answer(&syn, 1, false))).expect("another address");
            let source = Source { address: HERE, port: Some(80) };
            assert_eq!(other, Heard { seq, what: What::Elsewhere(source) });
            assert_eq!(source.to_string(), "10.0.0.1:80");
        }
    }

    #[test]
    fn an_answer_names_its_probe_after_any_number_of_others() {
        let codec = Syn::new(THERE, 80, vec![61000]).expect("ports");
        for seq in [0, 1, 4095, 4096, 199_999, MOST_PROBES - 1] {
            let syn = codec.build(seq, HERE);
            let heard = codec.read(&incoming(THERE, HERE, &answer(&syn, 1, false))).expect("a SYN-ACK");
            assert_eq!(heard.seq, seq);
        }
        let isns: std::collections::BTreeSet<u32> = (0..100_000).map(|seq| codec.isn(seq)).collect();
        assert_eq!(isns.len(), 100_000, "no two probes look alike");
    }

    #[test]
    fn the_checksum_is_right() {
        let codec = Syn::new(THERE, 80, vec![61000]).expect("ports");
        let syn = codec.build(0, HERE);
        let header = TcpHeaderSlice::from_slice(&syn.payload).expect("our SYN");
        assert_eq!(
            header.checksum(),
            header.calc_checksum_ipv4_raw([10, 0, 0, 1], [10, 0, 0, 2], &[]).expect("sum")
        );
        assert_eq!(syn.payload.len(), 40);
    }

    #[test]
    fn a_port_that_is_used_again_is_cleared_first() {
        let codec = Syn::new(THERE, 80, vec![61000, 61001]).expect("ports");
        assert_eq!([0, 1].map(|seq| codec.clear(seq, HERE)), [None, None]);
        let rst = codec.clear(3, HERE).expect("the second use of a port");
        let (rst, last) = (TcpHeaderSlice::from_slice(&rst).expect("a header"), codec.build(1, HERE).payload);
        let last = TcpHeaderSlice::from_slice(&last).expect("our SYN");
        assert_eq!((rst.rst(), rst.syn(), rst.source_port()), (true, false, last.source_port()));
        assert_eq!(rst.sequence_number(), last.sequence_number().wrapping_add(1));
        assert_eq!(
            rst.checksum(),
            rst.calc_checksum_ipv4_raw([10, 0, 0, 1], [10, 0, 0, 2], &[]).expect("sum")
        );
    }

    #[test]
    fn an_icmp_error_is_matched_by_its_quote() {
        let codec = Syn::new(THERE, 80, vec![61000]).expect("ports");
        let syn = codec.build(0, HERE);
        let mut bytes = vec![3, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend([0x45, 0, 0, 60, 0, 7, 0x40, 0, 63, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend(&syn.payload[..8]);
        let packet = Incoming { protocol: protocol::ICMP, ..incoming(THERE, HERE, &bytes) };
        let heard = codec.read(&packet).expect("ours");
        assert!(
            matches!(heard.what, What::IcmpError(error) if error.to_string() == "host unreachable from 10.0.0.2")
        );
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(codec.read(&Incoming { protocol: protocol::ICMP, ..incoming(THERE, HERE, &bytes) }), None);
    }
}
