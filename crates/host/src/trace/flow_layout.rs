//! The bytes that the BPF programs of conversations hand over: `bpf/flows.h`.

use super::layout::Reader;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use whydrop_model::flow::{FlowDirection, Repeat, RepeatKind};
use whydrop_model::shell::sanitize;

/// Bytes of `struct flow_key`.
pub const KEY_BYTES: usize = 48;
/// Values of `enum flow_count`.
pub const COUNTS: usize = 19;
/// Names of the errors that have a place of their own, in its order; one more place is for the others.
pub const ERRORS: [&str; 11] = [
    "ECONNREFUSED",
    "ETIMEDOUT",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "ECONNRESET",
    "EPIPE",
    "EMSGSIZE",
    "EACCES",
    "ENOPROTOOPT",
    "ECONNABORTED",
    "EHOSTDOWN",
];
/// Further errors of sockets by number, the same on all architectures that BPF and whydrop share
/// (include/uapi/asm-generic/errno.h).
const NUMBERS: [(u32, &str); 27] = [
    (1, "EPERM"),
    (2, "ENOENT"),
    (5, "EIO"),
    (9, "EBADF"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (14, "EFAULT"),
    (22, "EINVAL"),
    (23, "ENFILE"),
    (24, "EMFILE"),
    (32, "EPIPE"),
    (71, "EPROTO"),
    (89, "EDESTADDRREQ"),
    (90, "EMSGSIZE"),
    (92, "ENOPROTOOPT"),
    (93, "EPROTONOSUPPORT"),
    (97, "EAFNOSUPPORT"),
    (98, "EADDRINUSE"),
    (99, "EADDRNOTAVAIL"),
    (100, "ENETDOWN"),
    (101, "ENETUNREACH"),
    (104, "ECONNRESET"),
    (105, "ENOBUFS"),
    (107, "ENOTCONN"),
    (110, "ETIMEDOUT"),
    (111, "ECONNREFUSED"),
    (113, "EHOSTUNREACH"),
];
/// Bytes of `struct flow`.
pub const FLOW_BYTES: usize = 8 * (COUNTS + ERRORS.len() + 1 + 3) + 4 * 2 + 16 + 4 * 2;
/// Bytes of `struct repeat`.
const REPEAT_BYTES: usize = 64;

/// What a conversation is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Namespace inode.
    pub netns: u64,
    /// User id.
    pub uid: u32,
    /// IP protocol.
    pub protocol: u8,
    /// Which kind of entry.
    pub kind: Kind,
    /// Address here; for ICMP the one that is told.
    pub local: SocketAddr,
    /// Address there; for ICMP where the refused packet went.
    pub remote: SocketAddr,
}

/// `enum flow_kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A conversation.
    Flow(FlowDirection),
    /// ICMP errors of this type and code.
    Icmp(u8, u8),
}

/// `struct flow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// By `enum flow_count`.
    pub counts: [u64; COUNTS],
    /// By [`ERRORS`], then all others.
    pub errors: [u64; ERRORS.len() + 1],
    /// CLOCK_MONOTONIC of the first event.
    pub first_ns: u64,
    /// CLOCK_MONOTONIC of the last event.
    pub last_ns: u64,
    /// Of who called connect() last: cgroup v2 id, process, name.
    pub caller: Option<(u64, u32, String)>,
    /// Number of the last reset's reason.
    pub reset_reason: u32,
    /// The last error that has no place of its own.
    pub other_error: u32,
}

impl Key {
    /// Reads `struct flow_key`; none for a kind or an IP version that is not known.
    pub fn parse(bytes: &[u8; KEY_BYTES]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let netns = u64::from(reader.u32());
        let uid = reader.u32();
        let (local, remote): ([u8; 16], [u8; 16]) = (reader.take(), reader.take());
        let port = u16::from_ne_bytes(reader.take());
        let [version, protocol, kind, icmp_type, icmp_code, local_port_kept] = reader.take();
        let (local, remote) = (address(version, local)?, address(version, remote)?);
        let kind = match kind {
            0 => Kind::Flow(FlowDirection::Out),
            1 => Kind::Flow(FlowDirection::In),
            2 => Kind::Icmp(icmp_type, icmp_code),
            _ => return None,
        };
        let is_local = kind == Kind::Flow(FlowDirection::In) || local_port_kept != 0;
        let (here, there) = if is_local { (port, 0) } else { (0, port) };
        let (local, remote) = (SocketAddr::new(local, here), SocketAddr::new(remote, there));
        Some(Self { netns, uid, protocol, kind, local, remote })
    }
}

impl Flow {
    /// Reads `struct flow`.
    pub fn parse(bytes: &[u8; FLOW_BYTES]) -> Self {
        let mut reader = Reader(bytes);
        let counts = std::array::from_fn(|_| reader.u64());
        let errors = std::array::from_fn(|_| reader.u64());
        let (first_ns, last_ns, cgroup) = (reader.u64(), reader.u64(), reader.u64());
        let (pid, reset_reason) = (reader.u32(), reader.u32());
        let name: [u8; 16] = reader.take();
        let name: Vec<u8> = name.into_iter().take_while(|&b| b != 0).collect();
        let caller = (pid != 0).then(|| (cgroup, pid, sanitize(&String::from_utf8_lossy(&name), 16)));
        Self { counts, errors, first_ns, last_ns, caller, reset_reason, other_error: reader.u32() }
    }

    /// True if nothing was counted.
    pub fn is_still(&self) -> bool {
        self.counts.iter().chain(&self.errors).all(|&n| n == 0)
    }
}

/// Reads `struct repeat`; none if it is cut or of an unknown kind. `clock_offset` leads to CLOCK_REALTIME.
pub fn repeat(bytes: &[u8], clock_offset: u64) -> Option<Repeat> {
    if bytes.len() < REPEAT_BYTES {
        return None;
    }
    let mut reader = Reader(bytes);
    let (monotonic_ns, netns) = (reader.u64(), reader.u32());
    let [version, kind, direction, _] = reader.take();
    let (local, remote): ([u8; 16], [u8; 16]) = (reader.take(), reader.take());
    let (local_port, remote_port) = (u16::from_ne_bytes(reader.take()), u16::from_ne_bytes(reader.take()));
    Some(Repeat {
        realtime_ns: monotonic_ns.wrapping_add(clock_offset),
        netns_inode: u64::from(netns),
        direction: if direction == 0 { FlowDirection::Out } else { FlowDirection::In },
        kind: match kind {
            0 => RepeatKind::Syn,
            1 => RepeatKind::SynAck,
            2 => RepeatKind::Data,
            3 => RepeatKind::Tail,
            _ => return None,
        },
        local: SocketAddr::new(address(version, local)?, local_port),
        remote: SocketAddr::new(address(version, remote)?, remote_port),
        seq: reader.u32(),
        end_seq: reader.u32(),
    })
}

/// Name of an error; `errno N` if it has none here.
pub fn error_name(number: u32) -> String {
    let known = NUMBERS.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("errno {number}"), |(_, name)| (*name).to_owned())
}

/// The address of a key; none without a version.
pub fn address(version: u8, bytes: [u8; 16]) -> Option<IpAddr> {
    let [a, b, c, d, ..] = bytes;
    match version {
        4 => Some(Ipv4Addr::new(a, b, c, d).into()),
        6 => Some(Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: u8, version: u8, local_port_kept: u8) -> [u8; KEY_BYTES] {
        let mut bytes = vec![];
        bytes.extend(0xf000_0001_u32.to_ne_bytes());
        bytes.extend(33u32.to_ne_bytes());
        bytes.extend([10; 16]);
        bytes.extend([11; 16]);
        bytes.extend(80u16.to_ne_bytes());
        bytes.extend([version, 6, kind, 3, 1, local_port_kept]);
        bytes.try_into().expect("the size of the struct")
    }

    #[test]
    fn the_well_known_port_stands_where_it_belongs() {
        let ports = |bytes| Key::parse(&bytes).map(|key| (key.local.port(), key.remote.port()));
        assert_eq!(ports(key(0, 4, 0)), Some((0, 80)));
        assert_eq!(ports(key(0, 4, 1)), Some((80, 0)));
        assert_eq!(ports(key(1, 4, 0)), Some((80, 0)));
        let icmp = Key::parse(&key(2, 6, 0)).expect("known");
        assert_eq!((icmp.kind, icmp.remote.port()), (Kind::Icmp(3, 1), 80));
        assert_eq!(icmp.local.ip(), IpAddr::from([10; 16]));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        assert_eq!(Key::parse(&key(9, 4, 0)), None);
        assert_eq!(Key::parse(&key(0, 5, 0)), None);
        assert_eq!(repeat(&[0; 10], 0), None);
    }

    #[test]
    fn a_flow_in_which_nothing_was_counted_is_still() {
        let mut bytes = [0; FLOW_BYTES];
        assert!(Flow::parse(&bytes).is_still());
        bytes[..8].copy_from_slice(&5u64.to_ne_bytes());
        let flow = Flow::parse(&bytes);
        assert!(!flow.is_still());
        assert_eq!((flow.counts[0], flow.caller), (5, None));
    }
}
