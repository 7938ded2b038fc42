//! Raw sockets and the packet socket, read with kernel time stamps.
#![allow(unsafe_code)] // recvmsg with control messages, sockaddr_ll and PACKET_STATISTICS have no safe wrapper.

use super::clock;
use rustix::time::Timespec;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use whydrop_probe::Nanos;
use whydrop_probe::wire::{Incoming, ip, protocol};

/// What a socket shows of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// Starts at the IP header.
    Network,
    /// IPv6 raw and ping sockets: starts above the IP header; addresses and hop limit come beside it.
    Transport(u8),
    /// UDP socket: the data alone; a header with this local port is put before it again.
    Datagram(u16),
}

/// Bytes of a UDP header.
const UDP_HEADER: usize = 8;

/// A socket from which packets are read. Never blocks.
#[derive(Debug)]
pub struct Tap {
    socket: Socket,
    view: View,
    buffer: Vec<u8>,
    /// Longest time that a packet has waited here, in nanoseconds.
    pub longest_wait: Nanos,
}

/// A packet with its direction.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The packet.
    pub packet: Incoming<'a>,
    /// As the socket gave it: from the IP header on, except for IPv6 raw sockets.
    pub bytes: &'a [u8],
    /// Seen on its way out of this machine.
    pub outgoing: bool,
}

impl Tap {
    /// What is delivered to this machine's sockets of `protocol`, after its packet filter. Can send too.
    pub fn raw(v4: bool, protocol: u8) -> io::Result<Self> {
        let domain = if v4 { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
        if !v4 {
            socket.set_recv_hoplimit_v6(true)?;
        }
        let view = if v4 { View::Network } else { View::Transport(protocol) };
        Self::ready(socket, view)
    }

    /// The kernel's ping socket, for users without CAP_NET_RAW (net.ipv4.ping_group_range). Can send.
    pub fn ping(v4: bool, protocol: u8) -> io::Result<Self> {
        let domain = if v4 { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::from(i32::from(protocol))))?;
        Self::ready(socket, View::Transport(protocol))
    }

    /// A UDP socket with a port of its own, and that port. Can send.
    pub fn udp(v4: bool) -> io::Result<(Self, u16)> {
        let domain = if v4 { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        let any: SocketAddr = if v4 { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
        socket.bind(&any.into())?;
        let port = socket.local_addr()?.as_socket().map_or(0, |a| a.port());
        Ok((Self::ready(socket, View::Datagram(port))?, port))
    }

    /// What the devices of the namespace send and receive, before its packet filter sees what comes in.
    pub fn devices(filter: &[SockFilter]) -> io::Result<Self> {
        // Protocol 0 receives nothing until the filter is in place and bind() names the protocol.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
        socket.attach_filter(filter)?;
        let all = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            // SAFETY: sockaddr_ll is plain integers; zero means every interface.
            ..unsafe { zeroed() }
        };
        // SAFETY: the pointer and the length describe `all`, which lives through the call.
        let bound = unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const all).cast(), size_of::<libc::sockaddr_ll>() as u32)
        };
        if bound != 0 {
            return Err(io::Error::last_os_error());
        }
        Self::ready(socket, View::Network)
    }

    fn ready(socket: Socket, view: View) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // A burst must not overflow the queue; less than asked for is no error.
        socket.set_recv_buffer_size(1 << 20)?;
        let on: libc::c_int = 1;
        // SAFETY: the pointer and the length describe `on`, which lives through the call.
        let set = unsafe {
            let length = size_of::<libc::c_int>() as u32;
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_TIMESTAMPNS,
                (&raw const on).cast(),
                length,
            )
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket, view, buffer: vec![0; 1 << 16], longest_wait: 0 })
    }

    /// The socket, to send and to set options.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// From now on packets leave with the don't-fragment flag whatever path MTU the kernel remembers, and only the
    /// interface's own MTU is refused with EMSGSIZE (IP_PMTUDISC_PROBE, ip(7)).
    pub fn never_fragment(&self, v4: bool) -> io::Result<()> {
        let (level, name) = if v4 {
            (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
        };
        let probe: libc::c_int = libc::IP_PMTUDISC_PROBE;
        let length = size_of::<libc::c_int>() as u32;
        // SAFETY: the pointer and the length describe `probe`, which lives through the call.
        let set = unsafe {
            libc::setsockopt(self.socket.as_raw_fd(), level, name, (&raw const probe).cast(), length)
        };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The next packet, if one waits; packets that make no sense are skipped. `local` is the address that an IPv6
    /// raw socket receives on, which it does not tell.
    pub fn next(&mut self, local: IpAddr) -> Option<Seen<'_>> {
        let (length, about) = loop {
            let room = if matches!(self.view, View::Datagram(_)) { UDP_HEADER } else { 0 };
            let (length, about) = receive(&self.socket, self.buffer.get_mut(room..)?)?;
            let length = length + room;
            let sane = match self.view {
                View::Network => ip::parse(self.buffer.get(..length)?, 0).is_some(),
                View::Transport(_) | View::Datagram(_) => about.from.is_some(),
            };
            if sane {
                break (length, about);
            }
        };
        let read = clock::now();
        let at = clock::received(about.stamp, read);
        self.longest_wait = self.longest_wait.max(read - at);
        let protocol = match self.view {
            View::Network => {
                let bytes = self.buffer.get(..length)?;
                return Some(Seen { packet: ip::parse(bytes, at)?, bytes, outgoing: about.outgoing });
            }
            View::Transport(protocol) => protocol,
            View::Datagram(port) => {
                let header = [about.port.to_be_bytes(), port.to_be_bytes(), [0; 2], [0; 2]].concat();
                self.buffer.iter_mut().zip(header).for_each(|(to, from)| *to = from);
                protocol::UDP
            }
        };
        let bytes = self.buffer.get(..length)?;
        let from = about.from?;
        let packet = Incoming {
            from,
            to: local,
            protocol,
            ttl: about.hops,
            df: true,
            id: 0,
            length: length + if from.is_ipv4() { 20 } else { 40 },
            payload: bytes,
            at,
        };
        Some(Seen { packet, bytes, outgoing: about.outgoing })
    }

    /// Packets that the kernel could not queue on a packet socket since the last call; none if it does not tell.
    pub fn overflowed(&self) -> Option<u32> {
        // SAFETY: tpacket_stats is two integers; the kernel fills at most `length` bytes of it.
        let (result, stats) = unsafe {
            let mut stats: libc::tpacket_stats = zeroed();
            let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
            let fd = self.socket.as_raw_fd();
            let out = (&raw mut stats).cast();
            (libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, out, &raw mut length), stats)
        };
        (result == 0).then_some(stats.tp_drops)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What the kernel tells beside a packet.
#[derive(Debug, Default)]
struct About {
    from: Option<IpAddr>,
    port: u16,
    stamp: Option<Timespec>,
    hops: Option<u8>,
    outgoing: bool,
}

/// One recvmsg: length and what came beside the bytes; none if nothing waits or the socket has an error, which is
/// thereby cleared.
fn receive(socket: &Socket, buffer: &mut [u8]) -> Option<(usize, About)> {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut control = [0u64; 32];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is plain data for which zero is a valid value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // The lengths' type differs between C libraries.
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: every pointer in `message` describes memory above that lives through the call.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(received).ok()?.min(buffer.len());
    let mut about = About::default();
    // SAFETY: zeroed above, and the kernel wrote a socket address over it.
    let name = unsafe { name.assume_init() };
    match i32::from(name.ss_family) {
        libc::AF_INET6 => {
            // SAFETY: the family says which type it is; sockaddr_storage is large and aligned enough for all.
            let v6 = unsafe { &*(&raw const name).cast::<libc::sockaddr_in6>() };
            about.from = Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into());
            about.port = u16::from_be(v6.sin6_port);
        }
        libc::AF_INET => {
            // SAFETY: as above.
            let v4 = unsafe { &*(&raw const name).cast::<libc::sockaddr_in>() };
            about.from = Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into());
            about.port = u16::from_be(v4.sin_port);
        }
        libc::AF_PACKET => {
            // SAFETY: as above.
            let link = unsafe { &*(&raw const name).cast::<libc::sockaddr_ll>() };
            about.outgoing = link.sll_pkttype == libc::PACKET_OUTGOING;
        }
        _ => {}
    }
    // SAFETY: `message` was filled by recvmsg; the CMSG macros stay inside msg_control, and each payload is read
    // unaligned with the size of its type, which cmsg_len was checked to hold.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(header) = at.as_ref() {
            let holds = |size: usize| header.cmsg_len >= libc::CMSG_LEN(size as u32) as _;
            let data = libc::CMSG_DATA(at);
            match (header.cmsg_level, header.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) if holds(size_of::<libc::timespec>()) => {
                    let t = data.cast::<libc::timespec>().read_unaligned();
                    about.stamp = Some(Timespec { tv_sec: t.tv_sec, tv_nsec: t.tv_nsec });
                }
                (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) if holds(size_of::<libc::c_int>()) => {
                    about.hops = u8::try_from(data.cast::<libc::c_int>().read_unaligned()).ok();
                }
                _ => {}
            }
            at = libc::CMSG_NXTHDR(&raw const message, at);
        }
    }
    Some((length, about))
}
