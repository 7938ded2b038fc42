//! Random packets, as bytes for the wire and as the walk knows them.

use super::kernel::Net;
use super::known;
use super::random::Random;
use std::net::Ipv4Addr;
use whydrop_checks::evidence::packet::{Packet, State};
use whydrop_model::netfilter::Field;

/// Ports that rules ask for.
pub const PORTS: [u16; 6] = [22, 53, 80, 443, 8080, 9000];

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;

/// A packet that is sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub protocol: u8,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// Ports, or type and code of ICMP.
    pub ports: (u16, u16),
    pub flags: u8,
    pub ttl: u8,
    pub tos: u8,
    pub payload: usize,
    /// It answers another one, and comes from the other side.
    pub reply: bool,
    pub state: State,
}

impl Sent {
    /// One that opens a connection, or fits none.
    pub fn random(random: &mut Random, net: &Net) -> Self {
        let protocol = *random.pick(&[6, 6, 6, 17, 17, 1]);
        let (flags, state) = match (protocol, random.below(10)) {
            (6, 0) => (RST, State::Invalid),
            // Picked up in the middle (nf_conntrack_tcp_loose).
            (6, 1) => (ACK, State::New),
            (6, _) => (SYN, State::New),
            _ => (0, State::New),
        };
        let local = random.chance(20);
        let host = 1 + random.below(8) as u8;
        let destination = match local {
            true => *random.pick(&[Ipv4Addr::new(10, 9, 1, 254), Ipv4Addr::new(10, 9, 2, 254)]),
            false => Ipv4Addr::new(10, 9, 3, host),
        };
        let port = *random.pick(&PORTS);
        Self {
            protocol,
            source: Ipv4Addr::new(10, 9, 4, 1 + random.below(8) as u8),
            destination,
            // Each opens a connection of its own.
            ports: if protocol == 1 { (8, 0) } else { (net.next_port(), port) },
            flags,
            ttl: *random.pick(&[5, 32, 64, 128]),
            tos: *random.pick(&[0, 0, 0x10, 0xb8]),
            payload: *random.pick(&[0, 10, 100, 600]),
            reply: false,
            state,
        }
    }

    /// The datagram that answers this one.
    pub fn answer(&self, random: &mut Random, net: &Net) -> Option<Self> {
        let answers = self.protocol == 17 && !self.reply && net.is_routed(self.destination);
        answers.then(|| Self {
            source: self.destination,
            destination: self.source,
            ports: (self.ports.1, self.ports.0),
            ttl: *random.pick(&[32, 64]),
            reply: true,
            state: State::Established,
            ..self.clone()
        })
    }

    /// Interface by which the router sends it on.
    pub fn out_interface(&self) -> &'static str {
        if self.reply { "left" } else { "right" }
    }

    /// As the walk knows it where it comes in.
    pub fn packet(&self) -> Packet {
        let (source, destination) = (Some(self.source.into()), Some(self.destination.into()));
        let has_ports = self.protocol != 1;
        let packet = Packet {
            protocol: self.protocol,
            source,
            destination,
            source_port: has_ports.then_some(self.ports.0),
            destination_port: has_ports.then_some(self.ports.1),
            in_interface: Some(if self.reply { "right" } else { "left" }.to_owned()),
            reply: self.reply,
            ..Packet::default()
        };
        let packet = known(packet, self.state)
            .with(Field::Ttl, u32::from(self.ttl))
            .with(Field::Tos, u32::from(self.tos))
            .with(Field::Length, self.bytes(0).len() as u32);
        match self.protocol {
            1 => packet.with(Field::IcmpType, 8).with(Field::IcmpCode, 0),
            6 => packet.with(Field::TcpFlags, u32::from(self.flags)),
            _ => packet,
        }
    }

    /// From the IP header on; `id` makes an echo request a flow of its own.
    pub fn bytes(&self, id: u16) -> Vec<u8> {
        let mut inner = match self.protocol {
            1 => [&[8, 0, 0, 0][..], &id.to_be_bytes(), &[0, 1]].concat(),
            6 => {
                let ports = [self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes()].concat();
                [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]].concat()
            }
            _ => {
                let ports = [self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes()].concat();
                let length = (8 + self.payload) as u16;
                [&ports[..], &length.to_be_bytes(), &[0, 0]].concat()
            }
        };
        inner.resize(inner.len() + self.payload, b'x');
        let at = match self.protocol {
            1 => 2,
            6 => 16,
            _ => 6,
        };
        let pseudo = [
            &self.source.octets()[..],
            &self.destination.octets(),
            &[0, self.protocol],
            &(inner.len() as u16).to_be_bytes(),
        ]
        .concat();
        let summed = if self.protocol == 1 { inner.clone() } else { [&pseudo[..], &inner].concat() };
        inner[at..at + 2].copy_from_slice(&checksum(&summed).to_be_bytes());
        let total = (20 + inner.len()) as u16;
        let mut header = vec![0x45, self.tos];
        header.extend(total.to_be_bytes());
        header.extend([0, 1, 0, 0, self.ttl, self.protocol, 0, 0]);
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header.extend(inner);
        header
    }
}

/// The checksum of the Internet (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
