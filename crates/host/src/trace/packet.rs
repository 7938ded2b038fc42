//! Headers of a sampled packet. Packets are hostile and cut: what cannot be read stays unknown.

use etherparse::{Icmpv4Type, Icmpv6Type, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use std::net::{IpAddr, SocketAddr};
use whydrop_model::DropEvent;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Fills the flow of an event from its packet bytes.
pub fn describe(event: &mut DropEvent) {
    if !matches!(event.ethertype, Some(ETHERTYPE_IPV4 | ETHERTYPE_IPV6)) {
        return;
    }
    let Ok(packet) = LaxSlicedPacket::from_ip(&event.packet) else { return };
    let (source, destination, length): (IpAddr, IpAddr, Option<u32>) = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            event.protocol = Some(ip.payload_ip_number().0);
            let length = (header.total_len() >= 20).then(|| header.total_len().into());
            (header.source_addr().into(), header.destination_addr().into(), length)
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            event.protocol = Some(ip.payload().ip_number.0);
            let length = (header.payload_length() > 0).then(|| 40 + u32::from(header.payload_length()));
            (header.source_addr().into(), header.destination_addr().into(), length)
        }
        _ => return,
    };
    // 0 in the length field: a GRO or TSO buffer of more than 64 KiB (BIG TCP); skb->len knows better.
    if let Some(length) = length {
        event.length = length;
    }
    let (mut source_port, mut destination_port) = (0, 0);
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            (source_port, destination_port) = (tcp.source_port(), tcp.destination_port());
            event.tcp_seq = Some(tcp.sequence_number());
            event.tcp_flags = tcp.slice().get(13).copied();
        }
        Some(TransportSlice::Udp(udp)) => {
            (source_port, destination_port) = (udp.source_port(), udp.destination_port());
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            if let Icmpv4Type::EchoRequest(echo) | Icmpv4Type::EchoReply(echo) = icmp.icmp_type() {
                event.echo = Some((echo.id, echo.seq));
            }
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            if let Icmpv6Type::EchoRequest(echo) | Icmpv6Type::EchoReply(echo) = icmp.icmp_type() {
                event.echo = Some((echo.id, echo.seq));
            }
        }
        Some(TransportSlice::Igmp(_)) | None => {}
    }
    event.source = Some(SocketAddr::new(source, source_port));
    event.destination = Some(SocketAddr::new(destination, destination_port));
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    fn event(ethertype: u16, packet: Vec<u8>) -> DropEvent {
        let mut event = DropEvent { ethertype: Some(ethertype), length: 7, packet, ..DropEvent::default() };
        describe(&mut event);
        event
    }

    #[test]
    fn reads_a_syn() {
        let mut bytes = vec![];
        let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(40000, 80, 77, 1000).syn();
        builder.write(&mut bytes, &[]).expect("valid");
        let event = event(ETHERTYPE_IPV4, bytes);
        assert_eq!(event.source.map(|s| s.to_string()).as_deref(), Some("10.0.0.1:40000"));
        assert_eq!(event.destination.map(|s| s.to_string()).as_deref(), Some("10.0.0.2:80"));
        assert_eq!((event.tcp_flags, event.tcp_seq, event.protocol), (Some(2), Some(77), Some(6)));
    }

    #[test]
    fn reads_a_cut_datagram_and_its_whole_length() {
        let mut bytes = vec![];
        let builder = PacketBuilder::ipv6([1; 16], [2; 16], 64).udp(5, 6);
        builder.write(&mut bytes, &[0; 500]).expect("valid");
        bytes.truncate(64);
        let event = event(ETHERTYPE_IPV6, bytes);
        assert_eq!(event.length, 548);
        assert_eq!(event.source.map(|s| s.port()), Some(5));
    }

    #[test]
    fn reads_an_echo() {
        let mut bytes = vec![];
        let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).icmpv4_echo_request(3, 4);
        builder.write(&mut bytes, &[0; 20]).expect("valid");
        assert_eq!(event(ETHERTYPE_IPV4, bytes).echo, Some((3, 4)));
    }

    #[test]
    fn leaves_unknown_what_it_cannot_read() {
        for (ethertype, packet) in
            [(ETHERTYPE_IPV4, vec![]), (ETHERTYPE_IPV4, vec![0x4f; 3]), (0x0806, vec![1; 28])]
        {
            let event = event(ethertype, packet);
            assert_eq!((event.source, event.length), (None, 7));
        }
    }
}
