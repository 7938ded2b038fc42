//! udp://: an echo, a DNS or an NTP server answers; a closed port says so by ICMP, at a rate that routers and hosts
//! limit (Linux: one error a second and target), so silence of a closed port is no loss.

use crate::Nanos;
use crate::account::{Answer, Entry};
use crate::codec::{Codec, Detail, Heard, Outgoing, Own, Source, What};
use crate::token::Tokens;
use crate::wire::{Incoming, icmp, protocol};
use std::net::IpAddr;
use whydrop_model::{ProbeResult, text};

/// Bytes of a UDP header.
const HEADER: usize = 8;
/// Above this rate (probes a second) missing ICMP errors mean nothing.
const ICMP_RATE: f64 = 1.0;

/// Datagrams to one port, all from one source port.
#[derive(Debug)]
pub struct Udp {
    remote: IpAddr,
    port: u16,
    sport: u16,
    rate: f64,
    sees_icmp: bool,
    tokens: Tokens,
}

impl Udp {
    /// Datagrams from `sport`, `rate` a second; `sees_icmp` if ICMP errors will be read.
    pub fn new(remote: IpAddr, port: u16, sport: u16, rate: f64, sees_icmp: bool) -> Self {
        Self { remote, port, sport, rate, sees_icmp, tokens: Tokens::default() }
    }

    /// A payload that the usual service of the port answers with the token in it.
    fn payload(&self, seq: u32) -> Vec<u8> {
        let token = self.tokens.make(seq);
        match self.port {
            53 => dns_query(seq as u16, &token),
            123 => ntp_request(&token),
            _ => [b"whydrop ".as_slice(), &token].concat(),
        }
    }
}

/// A query for `TOKEN.invalid A`: no resolver has to ask anybody for it (RFC 6761).
fn dns_query(id: u16, token: &[u8; 16]) -> Vec<u8> {
    let header = [0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    let question = b"\x07invalid\x00\x00\x01\x00\x01";
    [&id.to_be_bytes(), header.as_slice(), &[16], token, question].concat()
}

/// A client request (RFC 5905). Its transmit timestamp, which the answer repeats, is the token as a number.
fn ntp_request(token: &[u8; 16]) -> Vec<u8> {
    let digits = token
        .iter()
        .fold(0u64, |sum, digit| sum << 4 | u64::from(char::from(*digit).to_digit(16).unwrap_or_default()));
    const VERSION_4_CLIENT: u8 = 0x23;
    [[VERSION_4_CLIENT].as_slice(), &[0; 39], &digits.to_be_bytes()].concat()
}

impl Udp {
    /// The probe that a payload names.
    fn named(&self, payload: &[u8]) -> Option<u32> {
        let raw = |bytes: &[u8]| {
            let digits = u64::from_be_bytes(bytes.try_into().ok()?);
            self.tokens.read(format!("{digits:016x}").as_bytes())
        };
        if self.port == 123 {
            return raw(payload.get(24..32)?).or_else(|| raw(payload.get(40..48)?));
        }
        self.tokens.find(payload)
    }

    fn own(&self, packet: &Incoming<'_>) -> Option<Own> {
        let ours = packet.protocol == protocol::UDP && port_of(packet.payload, 0) == Some(self.sport);
        let seq = ours.then(|| self.named(packet.payload.get(HEADER..)?))??;
        let as_asked = packet.to == self.remote && port_of(packet.payload, 2) == Some(self.port);
        Some(Own { seq, translated: !as_asked })
    }
}

/// The port at this byte of a UDP header.
fn port_of(datagram: &[u8], at: usize) -> Option<u16> {
    datagram.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

impl Codec for Udp {
    fn build(&self, seq: u32, _source: IpAddr) -> Outgoing {
        Outgoing { payload: self.payload(seq), sport: self.sport }
    }

    fn read(&self, packet: &Incoming<'_>) -> Option<Heard> {
        if packet.protocol != protocol::UDP {
            let icmp::Quoting { error, quote } = icmp::error(packet)?;
            let own = self.own(&quote).filter(|own| !own.translated)?;
            return Some(Heard { seq: own.seq, what: What::IcmpError(error) });
        }
        let ours = port_of(packet.payload, 2) == Some(self.sport);
        let seq = ours.then(|| self.named(packet.payload.get(HEADER..)?))??;
        let source = Source { address: packet.from, port: port_of(packet.payload, 0) };
        let what = match source == (Source { address: self.remote, port: Some(self.port) }) {
            true => What::Answer(Answer::Reply, Detail::default()),
            false => What::Elsewhere(source),
        };
        Some(Heard { seq, what })
    }

    fn read_own(&self, packet: &Incoming<'_>) -> Option<Own> {
        self.own(packet)
    }

    fn interpret(&self, _entries: &[Entry], _now: Nanos, result: &mut ProbeResult) {
        let notes = &mut result.extra.notes;
        if result.refused > 0 {
            notes.push(
                text!("the port is closed: its host says so by ICMP", "端口关闭：对端用 ICMP 告知").phrase(),
            );
            if result.lost + result.late > 0 && self.rate > ICMP_RATE {
                // An unknown is no number.
                (result.loss, result.loss_ci95) = (None, None);
                notes.push(
                    text!(
                        "hosts send about one such ICMP error a second: the silent probes are no loss; probe with -i 1",
                        "主机每秒大约只发一个此类 ICMP 错误：未应答的探测不是丢包；请用 -i 1 探测"
                    )
                    .phrase(),
                );
            }
        } else if result.received == 0 && result.transmitted > 0 && result.extra.elsewhere.is_empty() {
            notes.push(
                text!(
                    "no answer proves nothing with UDP: lost, filtered, or a service that does not answer such a datagram",
                    "UDP 无应答不能说明问题：可能丢包、被过滤，或服务不应答此类数据报"
                )
                .phrase(),
            );
            if !self.sees_icmp {
                notes.push(
                    text!(
                        "without CAP_NET_RAW the ICMP error of a closed port is not seen",
                        "缺少 CAP_NET_RAW，看不到关闭端口的 ICMP 错误"
                    )
                    .phrase(),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn datagram(sport: u16, dport: u16, data: &[u8]) -> Vec<u8> {
        [&sport.to_be_bytes(), dport.to_be_bytes().as_slice(), &[0; 4], data].concat()
    }

    fn incoming(from: IpAddr, to: IpAddr, payload: &[u8]) -> Incoming<'_> {
        let length = payload.len() + 20;
        Incoming { from, to, protocol: protocol::UDP, ttl: None, df: false, id: 0, length, payload, at: 0 }
    }

    #[test]
    fn echo_dns_and_ntp_answers_name_their_probe() {
        for port in [7, 53, 123] {
            let codec = Udp::new(THERE, port, 40_000, 10.0, true);
            let mut data = codec.build(9, HERE).payload;
            let sent = datagram(40_000, port, &data);
            let own = codec.read_own(&incoming(HERE, THERE, &sent));
            assert_eq!(own, Some(Own { seq: 9, translated: false }));
            if port == 123 {
                // A server moves the transmit timestamp of the request to the origin timestamp.
                data.copy_within(40..48, 24);
                data[40..].fill(1);
            }
            let back = datagram(port, 40_000, &data);
            assert_eq!(codec.read(&incoming(THERE, HERE, &back)).map(|h| h.seq), Some(9), "{port}");
            let source = Source { address: HERE, port: Some(port) };
            let other = codec.read(&incoming(HERE, HERE, &back)).map(|h| h.what);
            assert_eq!(other, Some(What::Elsewhere(source)));
        }
    }

    #[test]
    fn silence_of_a_closed_port_is_no_loss() {
        let codec = Udp::new(THERE, 9, 40_000, 10.0, true);
        let mut result = ProbeResult {
            transmitted: 10,
            received: 2,
            refused: 2,
            lost: 8,
            loss: Some(0.8),
            ..Default::default()
        };
        codec.interpret(&[], 0, &mut result);
        assert_eq!((result.loss, result.extra.notes.len()), (None, 2));
    }
}
