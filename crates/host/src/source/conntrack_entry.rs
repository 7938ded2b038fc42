//! Entries of connection tracking: a ctnetlink dump.

use crate::error::Result;
use crate::sys::attributes::{Attributes, flags};
use crate::sys::netlink::Netlink;
use netlink_bindings::utils::parse_u64;
use whydrop_model::snapshot::{ConntrackEntry, Tuple};
use whydrop_model::{Bounded, text};

/// Entries beyond these are not read: a dump of so many takes the kernel some 50 ms.
const MAX_ENTRIES: usize = 65_536;

/// NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const GET: u16 = 0x0101;
/// Length of struct nfgenmsg.
const HEADER: usize = 4;

// CTA_*.
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOINFO: u16 = 4;
const TIMEOUT: u16 = 7;
const MARK: u16 = 8;
const COUNTERS_ORIG: u16 = 9;
const COUNTERS_REPLY: u16 = 10;
const ZONE: u16 = 18;

/// IPS_* (include/uapi/linux/netfilter/nf_conntrack_common.h).
const FLAGS: [(u32, &str); 16] = [
    (1, "expected"),
    (1 << 1, "seen_reply"),
    (1 << 2, "assured"),
    (1 << 3, "confirmed"),
    (1 << 4, "src_nat"),
    (1 << 5, "dst_nat"),
    (1 << 6, "seq_adjust"),
    (1 << 7, "src_nat_done"),
    (1 << 8, "dst_nat_done"),
    (1 << 9, "dying"),
    (1 << 10, "fixed_timeout"),
    (1 << 11, "template"),
    (1 << 12, "nat_clash"),
    (1 << 13, "helper"),
    (1 << 14, "offload"),
    (1 << 15, "hw_offload"),
];

/// enum tcp_conntrack.
const TCP: [&str; 10] = [
    "none",
    "syn_sent",
    "syn_recv",
    "established",
    "fin_wait",
    "close_wait",
    "last_ack",
    "time_wait",
    "close",
    "syn_sent2",
];
/// enum sctp_conntrack.
const SCTP: [&str; 10] = [
    "none",
    "closed",
    "cookie_wait",
    "cookie_echoed",
    "established",
    "shutdown_sent",
    "shutdown_recd",
    "shutdown_ack_sent",
    "heartbeat_sent",
    "heartbeat_acked",
];

/// The entries of the calling thread's namespace, all zones, both families. `count` is how many there are, so that an
/// empty table loads no module. Needs CAP_NET_ADMIN.
pub fn read(count: u64) -> Result<Bounded<ConntrackEntry>> {
    if count == 0 {
        return Ok(Bounded { items: Vec::new(), more: false });
    }
    let object = text!("the connection tracking entries", "连接跟踪条目");
    Netlink::netfilter()?.dump_at_most(MAX_ENTRIES, object, GET, &[0; HEADER], parse)
}

fn parse(message: &[u8]) -> Option<ConntrackEntry> {
    let attributes = Attributes::after(message, HEADER)?;
    let number = |kind| attributes.u32(kind).map(u32::from_be);
    Some(ConntrackEntry {
        original: tuple(attributes.nested(TUPLE_ORIG)?)?,
        reply: tuple(attributes.nested(TUPLE_REPLY)?)?,
        state: attributes.nested(PROTOINFO).and_then(state),
        status: flags(number(STATUS)?, &FLAGS),
        timeout_s: number(TIMEOUT),
        mark: number(MARK),
        zone: attributes.be16(ZONE),
        original_packets: attributes.nested(COUNTERS_ORIG).and_then(counters),
        reply_packets: attributes.nested(COUNTERS_REPLY).and_then(counters),
    })
}

fn tuple(tuple: Attributes<'_>) -> Option<Tuple> {
    let (ip, proto) = (tuple.nested(1)?, tuple.nested(2)?);
    let protocol = proto.u8(1)?;
    let icmp = |id: u16, kind: u16, code: u16| {
        Some((proto.be16(id)?, u16::from_be_bytes([proto.u8(kind)?, proto.u8(code)?])))
    };
    let ports = match i32::from(protocol) {
        libc::IPPROTO_ICMP => icmp(4, 5, 6),
        libc::IPPROTO_ICMPV6 => icmp(7, 8, 9),
        _ => None,
    };
    // GRE sends its keys as ports; what has neither is given zeros by the kernel, too.
    let (source_port, destination_port) =
        ports.or_else(|| Some((proto.be16(2)?, proto.be16(3)?))).unwrap_or((0, 0));
    Some(Tuple {
        source: ip.ip(1).or_else(|| ip.ip(3))?,
        destination: ip.ip(2).or_else(|| ip.ip(4))?,
        protocol,
        source_port,
        destination_port,
    })
}

/// CTA_PROTOINFO_TCP or CTA_PROTOINFO_SCTP, of which the first attribute is the state.
fn state(info: Attributes<'_>) -> Option<String> {
    [(1, TCP), (3, SCTP)].into_iter().find_map(|(kind, words)| {
        let state = info.nested(kind)?.u8(1)?;
        Some(words.get(usize::from(state)).map_or_else(|| state.to_string(), |word| (*word).to_owned()))
    })
}

/// Packets and bytes, 64 bits in network order.
fn counters(counters: Attributes<'_>) -> Option<(u64, u64)> {
    let value = |kind| counters.bytes(kind).and_then(parse_u64).map(u64::from_be);
    Some((value(1)?, value(2)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    fn tcp(source: [u8; 4], destination: [u8; 4], ports: [u16; 2]) -> Vec<u8> {
        let ip = [attribute(1, &source), attribute(2, &destination)].concat();
        let proto = [
            attribute(1, &[6]),
            attribute(2, &ports[0].to_be_bytes()),
            attribute(3, &ports[1].to_be_bytes()),
        ];
        [attribute(0x8001, &ip), attribute(0x8002, &proto.concat())].concat()
    }

    #[test]
    fn a_translated_connection_that_nobody_answered() {
        let mut message = vec![2, 0, 0, 0];
        message.extend(attribute(0x8001, &tcp([10, 0, 0, 1], [10, 0, 0, 2], [40_000, 80])));
        message.extend(attribute(0x8002, &tcp([10, 9, 0, 2], [10, 0, 0, 1], [8080, 40_000])));
        message.extend(attribute(STATUS, &0x1a8u32.to_be_bytes()));
        message.extend(attribute(PROTOINFO, &attribute(1, &attribute(1, &[1]))));
        message.extend(attribute(TIMEOUT, &117u32.to_be_bytes()));
        let packets = [attribute(1, &3u64.to_be_bytes()), attribute(2, &180u64.to_be_bytes())];
        message.extend(attribute(COUNTERS_ORIG, &packets.concat()));
        message.extend(attribute(ZONE, &7u16.to_be_bytes()));
        let entry = parse(&message).unwrap();
        assert_eq!(entry.original.reversed().destination_port, 40_000);
        assert_eq!((entry.reply.source.to_string().as_str(), entry.reply.source_port), ("10.9.0.2", 8080));
        assert_eq!((entry.state.as_deref(), entry.timeout_s), (Some("syn_sent"), Some(117)));
        assert_eq!(entry.status, ["confirmed", "dst_nat", "src_nat_done", "dst_nat_done"]);
        assert_eq!((entry.original_packets, entry.reply_packets), (Some((3, 180)), None));
        assert_eq!((entry.zone, entry.mark), (Some(7), None));
        torture(&message, parse);
    }

    #[test]
    fn an_echo_request() {
        let ip = [attribute(3, &[0; 16]), attribute(4, &[1; 16])].concat();
        let proto = [
            attribute(1, &[58]),
            attribute(7, &9u16.to_be_bytes()),
            attribute(8, &[128]),
            attribute(9, &[0]),
        ];
        let bytes = [attribute(1, &ip), attribute(2, &proto.concat())].concat();
        let read = tuple(Attributes(&bytes)).unwrap();
        assert_eq!((read.protocol, read.source_port, read.destination_port), (58, 9, 128 << 8));
    }
}
