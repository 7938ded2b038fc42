//! TCP and UDP sockets: sock_diag.

use super::owner::Owners;
use crate::error::Result;
use crate::sys::attributes::Attributes;
use crate::sys::netlink::Netlink;
use netlink_bindings::inet_diag;
use netlink_bindings::utils::{parse_u16, parse_u32};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use whydrop_model::snapshot::{Protocol, Socket};

/// Length of struct inet_diag_msg.
const HEADER: usize = 72;

// INET_DIAG_* (include/uapi/linux/inet_diag.h).
const INET_DIAG_SKMEMINFO: u16 = 7;
const INET_DIAG_SKV6ONLY: u16 = 11;

// SK_MEMINFO_* (include/uapi/linux/sock_diag.h): positions in an array of u32. SK_MEMINFO_DROPS came with 4.7.
const SK_MEMINFO_RCVBUF: usize = 1;
const SK_MEMINFO_DROPS: usize = 8;

/// TCP_ESTABLISHED (1) to TCP_NEW_SYN_RECV (12).
const ALL_STATES: u32 = 0x1ffe;

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

/// All TCP and UDP sockets of the namespace of `diag`. Needs no privilege; owners only as far as `owners` knows.
pub fn read(diag: &mut Netlink, owners: &Owners) -> Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let ext = 1 << (INET_DIAG_SKMEMINFO - 1);
        let header = inet_diag::ReqV2 { family, ext, states: ALL_STATES, ..Default::default() };
        let tcp = inet_diag::Request::new()
            .op_tcp_diag_dump(&inet_diag::ReqV2 { protocol: libc::IPPROTO_TCP as u8, ..header.clone() });
        sockets.extend(diag.dump("the TCP sockets", &tcp, |message| parse(message, Protocol::Tcp, owners))?);
        let udp = inet_diag::Request::new()
            .op_udp_diag_dump(&inet_diag::ReqV2 { protocol: libc::IPPROTO_UDP as u8, ..header });
        sockets.extend(diag.dump("the UDP sockets", &udp, |message| parse(message, Protocol::Udp, owners))?);
    }
    Ok(sockets)
}

fn parse(message: &[u8], protocol: Protocol, owners: &Owners) -> Option<Socket> {
    let [family, state, _timer, _retransmits] = *message.first_chunk()?;
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
    fn without_memory_there_are_no_drops_to_tell() {
        let mut bytes = message(10, 7);
        bytes.extend(attribute(INET_DIAG_SKV6ONLY, &[1]));
        let socket = parse(&bytes, Protocol::Udp, &Owners::none()).unwrap();
        assert_eq!((socket.drops, socket.receive_buffer, socket.v6only), (None, None, Some(true)));
    }
}
