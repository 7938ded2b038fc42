//! TCP and UDP sockets: sock_diag.

use super::owner::Owners;
use super::tcp_info;
use crate::error::Result;
use crate::sys::attributes::Attributes;
use crate::sys::netlink::Netlink;
use netlink_bindings::inet_diag;
use netlink_bindings::utils::{parse_u16, parse_u32};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use whydrop_model::snapshot::{Counters, Protocol, Socket};
use whydrop_model::text;

/// Length of struct inet_diag_msg.
const HEADER: usize = 72;

// INET_DIAG_* (include/uapi/linux/inet_diag.h).
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_TOS: u16 = 5;
const INET_DIAG_TCLASS: u16 = 6;
const INET_DIAG_SKMEMINFO: u16 = 7;
const INET_DIAG_SKV6ONLY: u16 = 11;
const INET_DIAG_MARK: u16 = 15;
const INET_DIAG_CGROUP_ID: u16 = 21;

// SK_MEMINFO_* (include/uapi/linux/sock_diag.h): positions in an array of u32. SK_MEMINFO_DROPS came with 4.7.
const SK_MEMINFO_RCVBUF: usize = 1;
const SK_MEMINFO_SNDBUF: usize = 3;
const SK_MEMINFO_DROPS: usize = 8;

/// TCP_ESTABLISHED (1) to TCP_NEW_SYN_RECV (12).
const ALL_STATES: u32 = 0x1ffe;

/// TCP_LISTEN.
const LISTEN: u8 = 10;

/// TCP_* (include/net/tcp_states.h). A request that waits for its last ACK (12) is what `ss` calls SYN-RECV too.
const STATES: [&str; 13] = [
    "",
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
    "syn_recv",
];

/// All TCP and UDP sockets of the namespace of `diag`. `sockstat` are the namespace's own totals. Needs no privilege;
/// owners only as far as `owners` knows.
pub fn read(diag: &mut Netlink, sockstat: Option<&Counters>, owners: &Owners) -> Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for (number, family, group) in [
        (libc::IPPROTO_TCP, libc::AF_INET, "TCP"),
        (libc::IPPROTO_TCP, libc::AF_INET6, "TCP6"),
        (libc::IPPROTO_UDP, libc::AF_INET, "UDP"),
        (libc::IPPROTO_UDP, libc::AF_INET6, "UDP6"),
    ] {
        if sockstat.is_some_and(|totals| has_none(totals, group)) {
            continue;
        }
        let protocol = if number == libc::IPPROTO_TCP { Protocol::Tcp } else { Protocol::Udp };
        let header = inet_diag::ReqV2 {
            family: family as u8,
            protocol: number as u8,
            // Mark and cgroup come unasked.
            ext: [INET_DIAG_INFO, INET_DIAG_TOS, INET_DIAG_TCLASS, INET_DIAG_SKMEMINFO]
                .into_iter()
                .fold(0, |asked, attribute| asked | 1 << (attribute - 1)),
            states: ALL_STATES,
            ..Default::default()
        };
        // The operation is the same for every protocol; the header names the one that is meant.
        let request = inet_diag::Request::new().op_tcp_diag_dump(&header);
        sockets.extend(
            diag.dump(text!("the sockets", "套接字"), &request, |message| {
                parse(message, protocol, owners)
            })?,
        );
    }
    Ok(sockets)
}

/// True if the namespace certainly has no socket of this group of sockstat. Asked first because a dump walks the hash
/// table of the whole machine (net/ipv4/inet_diag.c:inet_diag_dump_icsk), up to half a million buckets, for each
/// namespace. `tw` counts the TIME-WAIT sockets of both families.
fn has_none(totals: &Counters, group: &str) -> bool {
    let none = |name: &str| totals.get(name) == Some(&0);
    none(&format!("{group}.inuse")) && (group.starts_with("UDP") || none("TCP.tw"))
}

fn parse(message: &[u8], protocol: Protocol, owners: &Owners) -> Option<Socket> {
    let [family, state, timer, _retransmits] = *message.first_chunk()?;
    let word = |offset: usize| parse_u32(message.get(offset..)?);
    let attributes = Attributes::after(message, HEADER)?;
    let memory = attributes.bytes(INET_DIAG_SKMEMINFO);
    let memory = |index: usize| parse_u32(memory?.get(index * 4..)?);
    let inode = u64::from(word(68)?);
    Some(Socket {
        protocol,
        state: (*STATES.get(usize::from(state))?).to_owned(),
        local: address(family, message.get(8..24)?, message.get(4..)?)?,
        remote: address(family, message.get(24..40)?, message.get(6..)?)?,
        link: word(40)?,
        cookie: u64::from(word(44)?) | u64::from(word(48)?) << 32,
        receive_queue: word(56)?,
        send_queue: word(60)?,
        uid: word(64)?,
        inode,
        v6only: attributes.u8(INET_DIAG_SKV6ONLY).map(|only| only != 0),
        drops: memory(SK_MEMINFO_DROPS),
        receive_buffer: memory(SK_MEMINFO_RCVBUF),
        owners: owners.of(inode),
        send_buffer: memory(SK_MEMINFO_SNDBUF),
        mark: attributes.u32(INET_DIAG_MARK),
        tos: attributes.u8(if i32::from(family) == libc::AF_INET { INET_DIAG_TOS } else { INET_DIAG_TCLASS }),
        cgroup: attributes.u64(INET_DIAG_CGROUP_ID),
        // A listener has one, too, in which the fields mean other things.
        tcp: match state {
            LISTEN => None,
            _ => attributes.bytes(INET_DIAG_INFO).and_then(|info| tcp_info::parse(info, timer, word(52)?)),
        },
    })
}

/// Address in network order (16 bytes of which IPv4 uses 4) and port.
fn address(family: u8, bytes: &[u8], port: &[u8]) -> Option<SocketAddr> {
    let ip: IpAddr = match i32::from(family) {
        libc::AF_INET => Ipv4Addr::from(*bytes.first_chunk::<4>()?).into(),
        libc::AF_INET6 => Ipv6Addr::from(*bytes.first_chunk::<16>()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be(parse_u16(port)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    fn message(family: u8, state: u8) -> Vec<u8> {
        let mut out = vec![family, state, 0, 0];
        out.extend(80u16.to_be_bytes());
        out.extend(0u16.to_be_bytes());
        out.extend([10, 0, 0, 1]);
        out.extend([0; 12 + 16]);
        for word in [0, 0xaaaa_bbbb_u32, 1, 0, 129, 128, 33, 777] {
            out.extend(word.to_ne_bytes());
        }
        out
    }

    #[test]
    fn a_listener_with_a_full_accept_queue() {
        let mut bytes = message(2, 10);
        let memory: Vec<u8> =
            [0u32, 131_072, 0, 16384, 0, 0, 0, 0, 5].into_iter().flat_map(u32::to_ne_bytes).collect();
        bytes.extend(attribute(INET_DIAG_SKMEMINFO, &memory));
        let socket = parse(&bytes, Protocol::Tcp, &Owners::none()).unwrap();
        assert_eq!((socket.state.as_str(), socket.local.to_string().as_str()), ("listen", "10.0.0.1:80"));
        assert_eq!((socket.receive_queue, socket.send_queue), (129, 128));
        assert_eq!((socket.drops, socket.receive_buffer), (Some(5), Some(131_072)));
        assert_eq!((socket.uid, socket.inode, socket.cookie), (33, 777, 0x1_aaaa_bbbb));
        assert_eq!(socket.v6only, None);
        torture(&bytes, |b| parse(b, Protocol::Tcp, &Owners::none()));
    }

    #[test]
    fn a_connection_that_waits_for_its_peer() {
        let mut bytes = message(2, 1);
        bytes[2] = 1;
        bytes.extend(attribute(INET_DIAG_INFO, &[7; 232]));
        bytes.extend(attribute(INET_DIAG_MARK, &5u32.to_ne_bytes()));
        bytes.extend(attribute(INET_DIAG_TOS, &[0x10]));
        bytes.extend(attribute(INET_DIAG_TCLASS, &[0x20]));
        bytes.extend(attribute(INET_DIAG_CGROUP_ID, &4242u64.to_ne_bytes()));
        let socket = parse(&bytes, Protocol::Tcp, &Owners::none()).unwrap();
        assert_eq!((socket.mark, socket.tos, socket.cgroup), (Some(5), Some(0x10), Some(4242)));
        let info = socket.tcp.unwrap();
        assert_eq!((info.timer, info.backoff), (whydrop_model::snapshot::Timer::Retransmit, 7));
        bytes[1] = LISTEN;
        assert_eq!(parse(&bytes, Protocol::Tcp, &Owners::none()).unwrap().tcp, None);
    }

    #[test]
    fn only_a_certain_zero_spares_the_dump() {
        let totals = |pairs: &[(&str, u64)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        assert!(has_none(&totals(&[("TCP6.inuse", 0), ("TCP.tw", 0)]), "TCP6"));
        assert!(!has_none(&totals(&[("TCP6.inuse", 0), ("TCP.tw", 1)]), "TCP6"));
        assert!(!has_none(&totals(&[("TCP.tw", 0)]), "TCP6"), "unknown is not none");
        assert!(has_none(&totals(&[("UDP.inuse", 0)]), "UDP"));
        assert!(!has_none(&totals(&[("UDP.inuse", 2)]), "UDP"));
    }

    #[test]
    fn without_memory_there_are_no_drops_to_tell() {
        let mut bytes = message(10, 7);
        bytes.extend(attribute(INET_DIAG_SKV6ONLY, &[1]));
        let socket = parse(&bytes, Protocol::Udp, &Owners::none()).unwrap();
        assert_eq!((socket.drops, socket.receive_buffer, socket.v6only), (None, None, Some(true)));
    }
}
