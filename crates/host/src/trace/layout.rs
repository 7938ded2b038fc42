//! The bytes that the BPF program hands over: `bpf/drops.h`, read without trusting a single length.

use whydrop_model::Direction;

/// Bytes of `struct shape`.
pub const SHAPE_BYTES: usize = 24;
/// Bytes kept of a packet.
pub const PACKET_BYTES: usize = 128;
/// IPPROTO_TCP.
const TCP: u8 = 6;
/// `enum shape_flag`.
const SHAPE_PROTOCOL: u8 = 1;
const SHAPE_MULTICAST: u8 = 2;
/// Frames kept of a stack.
const STACK_FRAMES: usize = 20;
/// Bytes of `struct sample`.
pub const SAMPLE_BYTES: usize = SHAPE_BYTES + 8 * 3 + 4 + 2 + 2 + 16 + PACKET_BYTES + 8 * STACK_FRAMES;

/// `struct shape`: drops that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Return address into the function that dropped.
    pub location: u64,
    /// Number of the reason; 0 where the kernel has none.
    pub reason: u32,
    /// Namespace inode, if known.
    pub netns: Option<u64>,
    /// Interface index, if known.
    pub link: Option<u32>,
    /// IP protocol, if known.
    pub protocol: Option<u8>,
    /// Which way.
    pub direction: Option<Direction>,
    /// FIN, SYN, RST and ACK, if TCP.
    pub tcp_flags: Option<u8>,
    /// To many: multicast or broadcast.
    pub multicast: bool,
}

/// `struct sample`: one dropped packet.
#[derive(Debug)]
pub struct Sample {
    /// What it is counted as.
    pub shape: Shape,
    /// CLOCK_MONOTONIC.
    pub monotonic_ns: u64,
    /// Inode of the socket in sockfs, if it has one.
    pub socket_inode: Option<u64>,
    /// cgroup v2 id of the socket, if it has one.
    pub cgroup_id: Option<u64>,
    /// skb->len: counts from wherever the packet had been pulled to.
    pub length: u32,
    /// Ethertype, host order; 0 if the packet has none yet.
    pub ethertype: u16,
    /// Name of the interface, if known.
    pub interface: Option<String>,
    /// The packet from its network header on.
    pub packet: Vec<u8>,
    /// Return addresses, innermost first.
    pub stack: Vec<u64>,
}

impl Shape {
    /// Reads `struct shape`.
    pub fn parse(bytes: &[u8; SHAPE_BYTES]) -> Self {
        let mut reader = Reader(bytes);
        let location = reader.u64();
        let reason = reader.u32();
        let netns = Some(u64::from(reader.u32())).filter(|&n| n != 0);
        let link = Some(reader.u32()).filter(|&n| n != 0);
        let [protocol, flags, direction, tcp_flags] = reader.take();
        let has_protocol = flags & SHAPE_PROTOCOL != 0;
        Self {
            multicast: flags & SHAPE_MULTICAST != 0,
            location,
            reason,
            netns,
            link,
            tcp_flags: (has_protocol && protocol == TCP).then_some(tcp_flags),
            protocol: has_protocol.then_some(protocol),
            direction: match direction {
                1 => Some(Direction::Receive),
                2 => Some(Direction::Transmit),
                3 => Some(Direction::Forward),
                _ => None,
            },
        }
    }
}

impl Sample {
    /// Reads `struct sample`; none if the size is not the expected one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        // The struct ends on a multiple of eight; nothing else may differ.
        if bytes.len() < SAMPLE_BYTES {
            return None;
        }
        let mut reader = Reader(bytes);
        let shape = Shape::parse(&reader.take());
        let monotonic_ns = reader.u64();
        let socket_inode = Some(reader.u64()).filter(|&n| n != 0);
        let cgroup_id = Some(reader.u64()).filter(|&n| n != 0);
        let length = reader.u32();
        let ethertype = u16::from_ne_bytes(reader.take());
        let captured = usize::from(u16::from_ne_bytes(reader.take()));
        let name: [u8; 16] = reader.take();
        let name: Vec<u8> = name.into_iter().take_while(|&b| b != 0).collect();
        let interface = (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned());
        let packet: [u8; PACKET_BYTES] = reader.take();
        let packet = packet.into_iter().take(captured).collect();
        let stack = (0..STACK_FRAMES).map(|_| reader.u64()).take_while(|&address| address != 0).collect();
        Some(Self {
            shape,
            monotonic_ns,
            socket_inode,
            cgroup_id,
            length,
            ethertype,
            interface,
            packet,
            stack,
        })
    }
}

/// Reads native-endian numbers; zeros behind the end, which whoever reads has ruled out.
pub struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    /// Next bytes.
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.0 = rest;
                *head
            }
            None => [0; N],
        }
    }

    /// Next number.
    pub fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.take())
    }

    /// Next number.
    pub fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(captured: u16) -> Vec<u8> {
        let mut bytes = vec![];
        bytes.extend(0xffff_ffff_8204_90cc_u64.to_ne_bytes());
        bytes.extend(3u32.to_ne_bytes());
        bytes.extend(0xf000_0001_u32.to_ne_bytes());
        bytes.extend(1u32.to_ne_bytes());
        bytes.extend([17, 1, 1, 0]);
        bytes.extend(5u64.to_ne_bytes());
        bytes.extend(0u64.to_ne_bytes());
        bytes.extend(7u64.to_ne_bytes());
        bytes.extend(8u32.to_ne_bytes());
        bytes.extend(0x0800u16.to_ne_bytes());
        bytes.extend(captured.to_ne_bytes());
        bytes.extend(*b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes.extend([0x45; PACKET_BYTES]);
        bytes.extend(9u64.to_ne_bytes());
        bytes.extend([0; 8 * (STACK_FRAMES - 1)]);
        bytes
    }

    #[test]
    fn reads_a_sample() {
        let bytes = sample(28);
        assert_eq!(bytes.len(), SAMPLE_BYTES);
        let sample = Sample::parse(&bytes).expect("whole");
        assert_eq!(sample.shape.netns, Some(0xf000_0001));
        assert_eq!(sample.shape.direction, Some(Direction::Receive));
        assert_eq!((sample.socket_inode, sample.cgroup_id), (None, Some(7)));
        assert_eq!(sample.interface.as_deref(), Some("lo"));
        assert_eq!(sample.packet.len(), 28);
        assert_eq!(sample.stack, [9]);
    }

    #[test]
    fn refuses_a_short_sample_and_bounds_a_lying_length() {
        assert!(Sample::parse(&sample(28)[..100]).is_none());
        assert_eq!(Sample::parse(&sample(u16::MAX)).expect("whole").packet.len(), PACKET_BYTES);
    }
}
