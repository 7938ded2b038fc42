//! A packet in few words, as tcpdump has them.

use std::net::SocketAddr;
use whydrop_model::DropEvent;

/// `tcp`, `udp`, `arp`; none if it is not known what it was.
pub fn protocol(event: &DropEvent) -> Option<String> {
    if let Some(protocol) = event.protocol {
        return Some(match protocol {
            1 => "icmp".into(),
            2 => "igmp".into(),
            6 => "tcp".into(),
            17 => "udp".into(),
            47 => "gre".into(),
            50 => "esp".into(),
            58 => "icmp6".into(),
            132 => "sctp".into(),
            other => format!("ip-proto-{other}"),
        });
    }
    Some(match event.ethertype? {
        0x0800 => "ip".into(),
        0x0806 => "arp".into(),
        0x86dd => "ip6".into(),
        0x88cc => "lldp".into(),
        other => format!("ethertype-0x{other:04x}"),
    })
}

/// `SA`: SYN and ACK.
pub fn tcp_flags(flags: u8) -> String {
    let letters = [(2, 'S'), (1, 'F'), (4, 'R'), (8, 'P'), (16, 'A'), (32, 'U'), (64, 'E'), (128, 'W')];
    letters.into_iter().filter(|(bit, _)| flags & bit != 0).map(|(_, letter)| letter).collect()
}

/// `10.0.0.1:80`; without port where there is none.
pub fn address(address: SocketAddr) -> String {
    if address.port() == 0 { address.ip().to_string() } else { address.to_string() }
}

/// `10.0.0.1:40000 > 10.0.0.2:80 tcp S 60 B`.
pub fn describe(event: &DropEvent) -> String {
    let mut words = vec![];
    if let (Some(source), Some(destination)) = (event.source, event.destination) {
        words.push(format!("{} > {}", address(source), address(destination)));
    }
    words.extend(protocol(event));
    words.extend(event.tcp_flags.map(tcp_flags));
    words.extend(event.echo.map(|(id, sequence)| format!("echo id {id} seq {sequence}")));
    words.push(format!("{} B", event.length));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_a_segment_and_what_is_not_ip() {
        let mut event = DropEvent {
            source: Some(([10, 0, 0, 1], 40000).into()),
            destination: Some(([10, 0, 0, 2], 80).into()),
            protocol: Some(6),
            tcp_flags: Some(0x12),
            length: 60,
            ..DropEvent::default()
        };
        assert_eq!(describe(&event), "10.0.0.1:40000 > 10.0.0.2:80 tcp SA 60 B");
        event = DropEvent { ethertype: Some(0x88cc), length: 46, ..DropEvent::default() };
        assert_eq!(describe(&event), "lldp 46 B");
        assert_eq!(describe(&DropEvent::default()), "0 B");
    }
}
