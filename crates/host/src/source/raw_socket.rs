//! Raw, ping and packet sockets: /proc/thread-self/net/{raw,raw6,icmp,icmp6,packet}, and packet_diag for what the last
//! one lacks.
//!
//! No drop event exists for a full receive buffer of these: the counter of the socket is all that there is.

use super::owner::Owners;
use crate::error::Result;
use crate::sys::attributes::Attributes;
use crate::sys::file;
use crate::sys::netlink::Netlink;
use netlink_bindings::utils::parse_u32;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use whydrop_model::snapshot::{Counters, Protocol, Socket};
use whydrop_model::text;

/// A file of sockets, its address family, whether its sockets are ping sockets, and the group of sockstat that counts
/// them (ping sockets are counted by none).
const FILES: [(&str, bool, Option<&str>); 4] = [
    ("/proc/thread-self/net/raw", false, Some("RAW.inuse")),
    ("/proc/thread-self/net/raw6", false, Some("RAW6.inuse")),
    ("/proc/thread-self/net/icmp", true, None),
    ("/proc/thread-self/net/icmp6", true, None),
];
const PACKET: &str = "/proc/thread-self/net/packet";

/// SOCK_DIAG_BY_FAMILY (include/uapi/linux/sock_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Length of struct packet_diag_msg.
const HEADER: usize = 16;
// PACKET_SHOW_* and PACKET_DIAG_* (include/uapi/linux/packet_diag.h).
const PACKET_SHOW_INFO: u32 = 1;
const PACKET_SHOW_MEMINFO: u32 = 0x10;
const PACKET_DIAG_MEMINFO: u16 = 5;

/// All of them in the calling thread's namespace. `sockstat` are the namespace's own totals. Needs no privilege.
pub fn read(diag: &mut Netlink, sockstat: Option<&Counters>, owners: &Owners) -> Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for (path, ping, group) in FILES {
        let none = |name| sockstat.is_some_and(|totals: &Counters| totals.get(name) == Some(&0));
        if group.is_some_and(none) {
            continue;
        }
        match file::read(path) {
            Ok(text) => sockets.extend(parse(&text, ping, owners).ok_or_else(|| file::malformed(path))?),
            // No IPv6, or a kernel without ping sockets.
            Err(error) if error.is_absent() => (),
            Err(error) => return Err(error),
        }
    }
    match file::read(PACKET) {
        Ok(text) if text.lines().nth(1).is_none() => (),
        Ok(text) => {
            let listed = parse_packet(&text, owners).ok_or_else(|| file::malformed(PACKET))?;
            sockets.extend(with_memory(listed, diag));
        }
        Err(error) if error.is_absent() => (),
        Err(error) => return Err(error),
    }
    Ok(sockets)
}

/// Lines of net/ipv4/raw.c:raw_sock_seq_show, net/ipv4/ping.c and net/ipv6/datagram.c: the local port is the protocol
/// number of a raw socket, the identifier of a ping socket.
fn parse(text: &str, ping: bool, owners: &Owners) -> Option<Vec<Socket>> {
    text.lines().skip(1).map(|line| parse_line(line, ping, owners)).collect()
}

fn parse_line(line: &str, ping: bool, owners: &Owners) -> Option<Socket> {
    // sl local remote st tx:rx tr:when retransmits uid timeout inode ref pointer drops
    let mut words = line.split_ascii_whitespace().skip(1);
    let local = address(words.next()?)?;
    let remote = address(words.next()?)?;
    let state = words.next()?;
    let (send, receive) = words.next()?.split_once(':')?;
    let uid = words.nth(2)?.parse().ok()?;
    let inode = words.nth(1)?.parse().ok()?;
    let drops = words.nth(2)?.parse().ok()?;
    Some(Socket {
        protocol: match ping {
            true => Protocol::Ping,
            false => Protocol::Raw(u8::try_from(local.port()).ok()?),
        },
        state: if state == "01" { "established" } else { "close" }.to_owned(),
        local: SocketAddr::new(local.ip(), if ping { local.port() } else { 0 }),
        remote,
        v6only: None,
        link: 0,
        inode,
        cookie: inode,
        receive_queue: u32::from_str_radix(receive, 16).ok()?,
        send_queue: u32::from_str_radix(send, 16).ok()?,
        drops: Some(drops),
        receive_buffer: None,
        send_buffer: None,
        uid,
        owners: owners.of(inode),
        mark: None,
        tos: None,
        cgroup: None,
        tcp: None,
    })
}

/// `0100007F:0001`: 32-bit words in host order, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words: Option<Vec<[u8; 4]>> = (0..ip.len())
        .step_by(8)
        .map(|at| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect();
    let ip: IpAddr = match words?.as_slice() {
        [word] => Ipv4Addr::from(*word).into(),
        [a, b, c, d] => Ipv6Addr::from(<[u8; 16]>::try_from([*a, *b, *c, *d].concat()).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Lines of net/packet/af_packet.c:packet_seq_show: `sk RefCnt Type Proto Iface R Rmem User Inode`.
fn parse_packet(text: &str, owners: &Owners) -> Option<Vec<Socket>> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(3);
        let protocol = u16::from_str_radix(words.next()?, 16).ok()?;
        let link = words.next()?.parse().ok()?;
        let receive_queue = words.nth(1)?.parse().ok()?;
        let uid = words.next()?.parse().ok()?;
        let inode = words.next()?.parse().ok()?;
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        Some(Socket {
            protocol: Protocol::Packet(protocol),
            state: "close".to_owned(),
            local: any,
            remote: any,
            v6only: None,
            link,
            inode,
            cookie: inode,
            receive_queue,
            send_queue: 0,
            drops: None,
            receive_buffer: None,
            send_buffer: None,
            uid,
            owners: owners.of(inode),
            mark: None,
            tos: None,
            cgroup: None,
            tcp: None,
        })
    };
    text.lines().skip(1).map(line).collect()
}

/// Adds what only packet_diag knows: drops and buffer. A kernel without it (CONFIG_PACKET_DIAG) leaves them out.
fn with_memory(mut sockets: Vec<Socket>, diag: &mut Netlink) -> Vec<Socket> {
    // struct packet_diag_req: family, protocol, padding, inode, what to show, cookie.
    let mut request = vec![libc::AF_PACKET as u8, 0, 0, 0];
    for word in [0, PACKET_SHOW_INFO | PACKET_SHOW_MEMINFO, u32::MAX, u32::MAX] {
        request.extend(word.to_ne_bytes());
    }
    let object = text!("the packet sockets", "packet 套接字");
    let Ok(known) = diag.dump_raw(object, SOCK_DIAG_BY_FAMILY, &request, parse_memory) else {
        return sockets;
    };
    let known: BTreeMap<u64, Memory> = known.into_iter().collect();
    for socket in &mut sockets {
        if let Some(memory) = known.get(&socket.inode) {
            socket.drops = memory.drops;
            socket.receive_buffer = memory.receive_buffer;
            socket.send_buffer = memory.send_buffer;
        }
    }
    sockets
}

struct Memory {
    receive_buffer: Option<u32>,
    send_buffer: Option<u32>,
    drops: Option<u32>,
}

fn parse_memory(message: &[u8]) -> Option<(u64, Memory)> {
    let inode = u64::from(parse_u32(message.get(4..)?)?);
    let attributes = Attributes::after(message, HEADER)?;
    let memory = attributes.bytes(PACKET_DIAG_MEMINFO)?;
    // SK_MEMINFO_* (include/uapi/linux/sock_diag.h).
    let memory = |index: usize| parse_u32(memory.get(index * 4..)?);
    Some((inode, Memory { receive_buffer: memory(1), send_buffer: memory(3), drops: memory(8) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    const RAW: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
    1: 00000000:0001 00000000:0000 07 00000000:00034080 00:00000000 00000000     0        0 24061 2 00000000b2a5e1cd 617
";

    #[test]
    fn a_raw_socket_that_is_read_late() {
        let sockets = parse(RAW, false, &Owners::none()).unwrap();
        let socket = sockets.first().unwrap();
        assert_eq!((socket.protocol, socket.local.port()), (Protocol::Raw(1), 0));
        assert_eq!((socket.receive_queue, socket.drops), (0x34080, Some(617)));
        assert_eq!((socket.inode, socket.uid, socket.state.as_str()), (24061, 0, "close"));
    }

    #[test]
    fn a_ping_socket_of_ipv6() {
        let text = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  291: 00000000000000000000000000000000:0123 000080FE00000000000000000100000A:0000 01 00000000:00000000 00:00000000 00000000  1000        0 5 2 0000000000000000 0
";
        let sockets = parse(text, true, &Owners::none()).unwrap();
        let socket = sockets.first().unwrap();
        assert_eq!((socket.protocol, socket.local.to_string().as_str()), (Protocol::Ping, "[::]:291"));
        assert_eq!((socket.remote.ip().to_string().as_str(), socket.uid), ("fe80::a00:1", 1000));
        assert_eq!(socket.state, "established");
    }

    #[test]
    fn garbage_is_refused() {
        let header = RAW.lines().next().unwrap();
        for line in [
            "x",
            "1: 00:0001",
            &RAW.lines().nth(1).unwrap()[..100],
            "1: ☃☃☃☃☃☃☃☃:0001 a:b c d:e f g h i j k l m n",
        ] {
            assert!(parse(&format!("{header}\n{line}\n"), false, &Owners::none()).is_none(), "{line}");
        }
        assert!(parse_packet("sk\n1 2 3\n", &Owners::none()).is_none());
        assert!(parse(header, false, &Owners::none()).unwrap().is_empty());
    }

    #[test]
    fn packet_sockets_get_their_drops_from_the_other_source() {
        let text = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode
00000000c1d2a3b4 3      3    0003   2     1 8192   0      777
";
        let sockets = parse_packet(text, &Owners::none()).unwrap();
        let socket = sockets.first().unwrap();
        assert_eq!((socket.protocol, socket.link, socket.inode), (Protocol::Packet(3), 2, 777));
        assert_eq!((socket.receive_queue, socket.drops), (8192, None));
        let mut message = vec![17, 3, 0, 3];
        for word in [777u32, 0xaa, 1] {
            message.extend(word.to_ne_bytes());
        }
        let memory: Vec<u8> =
            [1u32, 212_992, 0, 16384, 0, 0, 0, 0, 9].into_iter().flat_map(u32::to_ne_bytes).collect();
        message.extend(attribute(PACKET_DIAG_MEMINFO, &memory));
        let (inode, memory) = parse_memory(&message).unwrap();
        assert_eq!((inode, memory.receive_buffer, memory.drops), (777, Some(212_992), Some(9)));
        torture(&message, parse_memory);
    }
}
