//! Classic BPF filters, so that a busy machine does not copy its traffic to the prober. They only save work: what
//! belongs to a probe is decided by the engine.

use socket2::SockFilter;
use std::ops::RangeInclusive;

const LD_B_ABS: u16 = 0x30;
const LD_H_ABS: u16 = 0x28;
const LD_H_IND: u16 = 0x48;
const LDX_B_MSH: u16 = 0xb1;
const AND: u16 = 0x54;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RET: u16 = 0x06;
/// Bytes of a packet that are handed over.
const ALL: u32 = 0xffff;

/// One instruction with absolute targets for its two branches; both 0 if it does not branch.
type Line = (u16, u32, u8, u8);

/// Accepts packets that start at their IP header and are ICMP, or of `protocol` with one of `ports` at either end.
pub fn network(protocol: u8, ports: &RangeInclusive<u16>) -> Vec<SockFilter> {
    const REJECT: u8 = 22;
    const ACCEPT: u8 = 23;
    let (low, high, protocol) = (u32::from(*ports.start()), u32::from(*ports.end()), u32::from(protocol));
    assemble(&[
        /*  0 */ (LD_B_ABS, 0, 0, 0),
        /*  1 */ (AND, 0xf0, 0, 0),
        /*  2 */ (JEQ, 0x40, 3, 12),
        /*  3 */ (LD_B_ABS, 9, 0, 0),
        /*  4 */ (JEQ, 1, ACCEPT, 5),
        /*  5 */ (JEQ, protocol, 6, REJECT),
        /*  6 */ (LDX_B_MSH, 0, 0, 0),
        /*  7 */ (LD_H_IND, 2, 0, 0),
        /*  8 */ (JGE, low, 9, 10),
        /*  9 */ (JGT, high, 10, ACCEPT),
        /* 10 */ (LD_H_IND, 0, 0, 0),
        /* 11 */ (JGE, 0, 20, 20),
        /* 12 */ (JEQ, 0x60, 13, REJECT),
        /* 13 */ (LD_B_ABS, 6, 0, 0),
        /* 14 */ (JEQ, 58, ACCEPT, 15),
        /* 15 */ (JEQ, protocol, 16, REJECT),
        /* 16 */ (LD_H_ABS, 42, 0, 0),
        /* 17 */ (JGE, low, 18, 19),
        /* 18 */ (JGT, high, 19, ACCEPT),
        /* 19 */ (LD_H_ABS, 40, 0, 0),
        /* 20 */ (JGE, low, 21, REJECT),
        /* 21 */ (JGT, high, REJECT, ACCEPT),
        /* 22 */ (RET, 0, 0, 0),
        /* 23 */ (RET, ALL, 0, 0),
    ])
}

/// Accepts what starts at a TCP or UDP header and goes to one of `ports`: IPv6 raw sockets see no IP header.
pub fn transport(ports: &RangeInclusive<u16>) -> Vec<SockFilter> {
    let (low, high) = (u32::from(*ports.start()), u32::from(*ports.end()));
    assemble(&[(LD_H_ABS, 2, 0, 0), (JGE, low, 2, 3), (JGT, high, 3, 4), (RET, 0, 0, 0), (RET, ALL, 0, 0)])
}

fn assemble(lines: &[Line]) -> Vec<SockFilter> {
    let relative = |at: u8, to: u8| if to == 0 { 0 } else { to - at - 1 };
    (0u8..)
        .zip(lines)
        .map(|(at, (code, k, yes, no))| SockFilter::new(*code, relative(at, *yes), relative(at, *no), *k))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use socket2::Socket;
    use std::io::{Read, Write};

    /// Asks the kernel itself: a datagram that the filter rejects does not arrive.
    fn passes(filter: &[SockFilter], packet: &[u8]) -> bool {
        let (a, b) =
            socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::NONBLOCK, None).expect("a pair");
        let (mut a, mut b) = (Socket::from(a), Socket::from(b));
        b.attach_filter(filter).expect("a valid filter");
        a.write_all(packet).ok();
        b.read(&mut [0; 200]).is_ok_and(|n| n == packet.len())
    }

    fn v4(protocol: u8, sport: u16, dport: u16) -> Vec<u8> {
        // Eight words of header: options must not confuse the filter.
        let mut packet = vec![0u8; 32];
        (packet[0], packet[9]) = (0x48, protocol);
        packet.extend([sport.to_be_bytes(), dport.to_be_bytes()].concat());
        packet.extend([0; 16]);
        packet
    }

    fn v6(protocol: u8, sport: u16, dport: u16) -> Vec<u8> {
        let mut packet = vec![0u8; 40];
        (packet[0], packet[6]) = (0x60, protocol);
        packet.extend([sport.to_be_bytes(), dport.to_be_bytes()].concat());
        packet.extend([0; 16]);
        packet
    }

    #[test]
    fn lets_probes_pass_and_nothing_else() {
        let filter = network(6, &(61_000..=61_009));
        for packet in [v4, v6] {
            assert!(passes(&filter, &packet(6, 61_000, 80)));
            assert!(passes(&filter, &packet(6, 80, 61_009)));
            assert!(!passes(&filter, &packet(6, 80, 61_010)));
            assert!(!passes(&filter, &packet(6, 60_999, 80)));
            assert!(!passes(&filter, &packet(17, 61_000, 80)));
        }
        assert!(passes(&filter, &v4(1, 0, 0)));
        assert!(passes(&filter, &v6(58, 0, 0)));
        assert!(!passes(&filter, &[0x10; 60]));
        let filter = transport(&(61_000..=61_009));
        assert!(passes(&filter, &v6(6, 80, 61_005)[40..]));
        assert!(!passes(&filter, &v6(6, 61_005, 80)[40..]));
    }
}
