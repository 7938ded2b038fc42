//! Packet formats, as far as probes need them. Everything read here is hostile.

pub mod checksum;
pub mod icmp;
pub mod ip;

use crate::Nanos;
use std::net::IpAddr;

/// One packet as a socket of the driver handed it over.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Source address.
    pub from: IpAddr,
    /// Destination address.
    pub to: IpAddr,
    /// IP protocol number of `payload`.
    pub protocol: u8,
    /// Time to live on arrival, if the socket told.
    pub ttl: Option<u8>,
    /// IPv4 don't-fragment flag.
    pub df: bool,
    /// IPv4 identification.
    pub id: u16,
    /// Length of the IP packet in bytes.
    pub length: usize,
    /// Everything above the IP header.
    pub payload: &'a [u8],
    /// When the kernel received it.
    pub at: Nanos,
}

/// IP protocol numbers.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}
