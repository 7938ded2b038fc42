//! Netlink: one socket, dumps that are complete or fail, requests that end in an acknowledgement.
//!
//! Requests are built and replies decoded by `netlink_bindings`; the transport is our own, because a dump that the
//! kernel marks as inconsistent (NLM_F_DUMP_INTR) must be repeated, and because 32 KiB reads make long dumps fast.
#![allow(unsafe_code)] // setsockopt(NETLINK_EXT_ACK) has no safe wrapper in rustix

use crate::error::{Error, Result};
use crate::sys::attributes::Attributes;
use netlink_bindings::traits::{NetlinkRequest, Protocol};
use netlink_bindings::utils::{IterableChunks, parse_i32, parse_u16, parse_u32};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use whydrop_model::{Bounded, Text, text};

const READ: Text = text!("read {object}", "读取{object}");

const HEADER: usize = 16;
/// The kernel fills at most 32 KiB per read of a dump (net/netlink/af_netlink.c:netlink_dump); a single message
/// cannot be longer than 64 KiB.
const BUFFER: usize = 64 * 1024;
/// How often a dump is repeated that was interrupted by a change.
const ATTEMPTS: usize = 8;

const NLM_F_REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const NLM_F_ACK: u16 = libc::NLM_F_ACK as u16;
const NLM_F_DUMP: u16 = libc::NLM_F_DUMP as u16;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NFNL_MSG_BATCH_BEGIN: u16 = libc::NFNL_MSG_BATCH_BEGIN as u16;
const NFNL_MSG_BATCH_END: u16 = libc::NFNL_MSG_BATCH_END as u16;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Length of struct genlmsghdr.
const GENERIC_HEADER: usize = 4;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// A netlink socket. It belongs to the network namespace of the thread that opened it, wherever that thread goes.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    protocol: u16,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// NETLINK_ROUTE: links, addresses, routes, tc.
    pub fn route() -> Result<Self> {
        Self::open(libc::NETLINK_ROUTE, text!("the route netlink", "rtnetlink 套接字"))
    }

    /// NETLINK_NETFILTER: nftables, conntrack.
    pub fn netfilter() -> Result<Self> {
        Self::open(libc::NETLINK_NETFILTER, text!("the netfilter netlink", "nfnetlink 套接字"))
    }

    /// NETLINK_XFRM: IPsec. Opening it loads the module.
    pub fn xfrm() -> Result<Self> {
        Self::open(libc::NETLINK_XFRM, text!("the IPsec netlink", "xfrm netlink 套接字"))
    }

    /// NETLINK_SOCK_DIAG: sockets.
    pub fn sock_diag() -> Result<Self> {
        Self::open(libc::NETLINK_SOCK_DIAG, text!("the socket netlink", "sock_diag netlink 套接字"))
    }

    /// NETLINK_GENERIC: families that the kernel numbers at run time.
    pub fn generic() -> Result<Self> {
        Self::open(libc::NETLINK_GENERIC, text!("the generic netlink", "generic netlink 套接字"))
    }

    fn open(protocol: libc::c_int, name: Text) -> Result<Self> {
        let fail = |e: io::Error| Error::family(text!("open {object}", "打开 {object}"), name, &e);
        let number = u32::try_from(protocol).ok().and_then(std::num::NonZeroU32::new);
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            number.map(rustix::net::Protocol::from_raw),
        )
        .map_err(|e| fail(e.into()))?;
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open, and value and length describe one live c_int. A refusal only means that
        // errors come without the kernel's sentence (before Linux 4.12), so the result does not matter.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_NETLINK,
                libc::NETLINK_EXT_ACK,
                std::ptr::from_ref(&on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        Ok(Self { socket, protocol: protocol as u16, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Sends a dump request and gives each reply's payload (without netlink header) to `parse`; what it returns is
    /// collected, `None` leaves an entry out. A dump that a change interrupted is begun anew; one that never comes
    /// to rest fails, since half a table must not pass for a whole one.
    pub fn dump<R: NetlinkRequest, T>(
        &mut self,
        object: Text,
        request: &R,
        parse: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        let kind = self.kind_of(request).map_err(|e| Error::io(READ, object, &e))?;
        self.dump_raw(object, kind, request.payload(), parse)
    }

    /// As [`Netlink::dump`], for requests that the bindings lack: message type and payload by hand.
    pub fn dump_raw<T>(
        &mut self,
        object: Text,
        kind: u16,
        payload: &[u8],
        mut parse: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        for _ in 0..ATTEMPTS {
            let mut entries = Vec::new();
            let mut collect = |reply: &[u8]| {
                entries.extend(parse(reply));
                ControlFlow::Continue(())
            };
            let whole = self
                .transact(kind, NLM_F_REQUEST | NLM_F_DUMP, payload, &mut collect)
                .map_err(|e| Error::io(READ, object, &e))?;
            if whole {
                return Ok(entries);
            }
        }
        Err(unsteady(object))
    }

    /// As [`Netlink::dump_raw`], for tables that may be too long: of more than `limit` entries only the first ones
    /// are read, and the rest of the dump is left to end with the socket.
    pub fn dump_at_most<T>(
        mut self,
        limit: usize,
        object: Text,
        kind: u16,
        payload: &[u8],
        mut parse: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Bounded<T>> {
        for _ in 0..ATTEMPTS {
            let mut kept = Bounded { items: Vec::new(), more: false };
            let mut collect = |reply: &[u8]| match parse(reply) {
                Some(_) if kept.items.len() >= limit => {
                    kept.more = true;
                    ControlFlow::Break(())
                }
                entry => {
                    kept.items.extend(entry);
                    ControlFlow::Continue(())
                }
            };
            let whole = self
                .transact(kind, NLM_F_REQUEST | NLM_F_DUMP, payload, &mut collect)
                .map_err(|e| Error::io(READ, object, &e))?;
            if whole || kept.more {
                return Ok(kept);
            }
        }
        Err(unsteady(object))
    }

    /// Number of a family of generic netlink, which the kernel gives it when its module is loaded. `object` is what
    /// the family serves, for an error.
    pub fn family(&mut self, name: &str, object: Text) -> Result<u16> {
        const FIND: Text = text!("find {object}", "找到 {object}");
        // struct genlmsghdr: CTRL_CMD_GETFAMILY, version 1; CTRL_ATTR_FAMILY_NAME (include/uapi/linux/genetlink.h).
        let mut payload = vec![3, 1, 0, 0];
        let length = u16::try_from(name.len() + 5).unwrap_or(u16::MAX);
        payload.extend(length.to_ne_bytes());
        payload.extend(CTRL_ATTR_FAMILY_NAME.to_ne_bytes());
        payload.extend(name.bytes().chain([0]));
        payload.resize(payload.len().next_multiple_of(4), 0);
        let found = self.get_raw(libc::GENL_ID_CTRL as u16, &payload, |reply| {
            Attributes::after(reply, GENERIC_HEADER)?.u16(CTRL_ATTR_FAMILY_ID)
        });
        let found = found.map_err(|e| Error::io(FIND, object, &e))?;
        found.ok_or_else(|| Error::new(FIND, object, text!("no answer", "没有应答").phrase()))
    }

    /// Sends one request and waits for its acknowledgement. The error carries the kernel's own sentence, if it
    /// gave one.
    pub fn execute<R: NetlinkRequest>(&mut self, request: &R) -> io::Result<()> {
        let kind = self.kind_of(request)?;
        let flags = request.flags() | NLM_F_REQUEST | NLM_F_ACK;
        self.transact(kind, flags, request.payload(), &mut |_| ControlFlow::Continue(())).map(drop)
    }

    /// As [`Netlink::execute`], with message type, further flags and payload by hand.
    pub fn execute_raw(&mut self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<()> {
        self.transact(kind, flags | NLM_F_REQUEST | NLM_F_ACK, payload, &mut |_| ControlFlow::Continue(()))
            .map(drop)
    }

    /// Sends one request and returns what `parse` makes of its first reply; `None` if the kernel only acknowledged.
    pub fn get<R: NetlinkRequest, T>(
        &mut self,
        request: &R,
        parse: impl FnMut(&[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let kind = self.kind_of(request)?;
        self.get_raw(kind, request.payload(), parse)
    }

    /// As [`Netlink::get`], with message type and payload by hand.
    pub fn get_raw<T>(
        &mut self,
        kind: u16,
        payload: &[u8],
        mut parse: impl FnMut(&[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        let mut found = None;
        let mut keep = |reply: &[u8]| {
            if found.is_none() {
                found = parse(reply);
            }
            ControlFlow::Continue(())
        };
        self.transact(kind, NLM_F_REQUEST | NLM_F_ACK, payload, &mut keep)?;
        Ok(found)
    }

    /// Sends messages of nf_tables as one transaction: all of them take effect, or none. The error is the first one
    /// that the kernel gave.
    pub fn batch(&mut self, messages: &[BatchMessage]) -> io::Result<()> {
        self.transaction(messages, true)
    }

    /// As [`Netlink::batch`], but the transaction has no end, so that the kernel checks it and lets it go (as
    /// `nft --check` does; net/netfilter/nfnetlink.c:nfnetlink_rcv_batch).
    pub fn rehearse(&mut self, messages: &[BatchMessage]) -> io::Result<()> {
        self.transaction(messages, false)
    }

    fn transaction(&mut self, messages: &[BatchMessage], commit: bool) -> io::Result<()> {
        // struct nfgenmsg: family, version, be16 subsystem.
        let frame = [0, 0, 0, libc::NFNL_SUBSYS_NFTABLES as u8];
        let first = self.sequence.wrapping_add(1);
        let mut bytes = encode(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, first, &frame)?;
        let mut open = Vec::with_capacity(messages.len());
        let mut sequence = first;
        for message in messages {
            sequence = sequence.wrapping_add(1);
            open.push(sequence);
            let flags = message.flags | NLM_F_REQUEST | NLM_F_ACK;
            bytes.extend(encode(message.kind, flags, sequence, &message.payload)?);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        self.sequence = sequence.wrapping_add(1);
        if commit {
            bytes.extend(encode(NFNL_MSG_BATCH_END, NLM_F_REQUEST, self.sequence, &frame)?);
        }
        let sent = rustix::io::retry_on_intr(|| rustix::net::send(&self.socket, &bytes, SendFlags::empty()))?;
        if sent != bytes.len() {
            return Err(io::Error::other("the transaction was cut short"));
        }
        // The kernel works through the batch inside send, so every answer is already there.
        let mut refused = None;
        loop {
            let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
            let received = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.socket, self.buffer.as_mut_slice(), flags)
            });
            let length = match received {
                Ok((_, length)) => length,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(e) => return Err(e.into()),
            };
            let datagram =
                self.buffer.get(..length).ok_or_else(|| io::Error::other("a reply was too long"))?;
            for message in Messages(datagram) {
                let own = message.sequence.wrapping_sub(first) <= sequence.wrapping_sub(first);
                if own && i32::from(message.kind) == libc::NLMSG_ERROR {
                    open.retain(|sequence| *sequence != message.sequence);
                    refused = refused.or(message.status().err());
                }
            }
        }
        match refused {
            Some(error) => Err(error),
            None if open.is_empty() => Ok(()),
            None => Err(io::Error::other("the kernel did not acknowledge the transaction")),
        }
    }

    fn kind_of<R: NetlinkRequest>(&self, request: &R) -> io::Result<u16> {
        match request.protocol() {
            Protocol::Raw { protonum, request_type } if protonum == self.protocol => Ok(request_type),
            other => Err(io::Error::other(format!("{other:?} does not go over netlink {}", self.protocol))),
        }
    }

    /// Sends one message and reads until its end, or until `each` has enough; true if no change interrupted the dump.
    fn transact(
        &mut self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let message = encode(kind, flags, self.sequence, payload)?;
        let sent =
            rustix::io::retry_on_intr(|| rustix::net::send(&self.socket, &message, SendFlags::empty()))?;
        if sent != message.len() {
            return Err(io::Error::other("the request was cut short"));
        }
        let mut whole = true;
        loop {
            let (_, length) = rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::TRUNC)
            })?;
            let datagram =
                self.buffer.get(..length).ok_or_else(|| io::Error::other("a reply was too long"))?;
            for message in Messages(datagram) {
                // Of an earlier request whose reader gave up.
                if message.sequence != self.sequence {
                    continue;
                }
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match i32::from(message.kind) {
                    libc::NLMSG_DONE | libc::NLMSG_ERROR => return message.status().map(|()| whole),
                    libc::NLMSG_OVERRUN => return Err(io::Error::other("replies were lost")),
                    libc::NLMSG_NOOP => (),
                    _ if each(message.payload).is_break() => return Ok(whole),
                    _ => (),
                }
            }
        }
    }
}

/// A dump that never came to rest.
fn unsteady(object: Text) -> Error {
    let why = text!("it changed during each of {n} reads", "{n} 次读取期间内容每次都在变化");
    Error::new(READ, object, why.fill(&[("n", &ATTEMPTS)]))
}

/// A netlink socket that only listens to announcements. It belongs to the namespace in which it was opened.
#[derive(Debug)]
pub struct Subscription(Netlink);

impl Subscription {
    /// Announcements of rtnetlink to groups of these numbers, RTNLGRP_*, of the first 32. Needs no privilege.
    pub fn route(groups: &[u32]) -> Result<Self> {
        Self::open(Netlink::route()?, groups)
    }

    /// The same of nfnetlink, NFNLGRP_*. Needs CAP_NET_ADMIN.
    pub fn netfilter(groups: &[u32]) -> Result<Self> {
        Self::open(Netlink::netfilter()?, groups)
    }

    fn open(netlink: Netlink, groups: &[u32]) -> Result<Self> {
        let bits = groups.iter().filter_map(|group| 1u32.checked_shl(group.checked_sub(1)?));
        let address = SocketAddrNetlink::new(0, bits.fold(0, |all, bit| all | bit));
        rustix::net::bind(&netlink.socket, &address).map_err(|e| {
            let object = text!("announcements of the kernel", "内核通知");
            Error::io(text!("listen to {object}", "监听{object}"), object, &e.into())
        })?;
        Ok(Self(netlink))
    }

    /// Gives `each` what has been announced so far, without waiting. False if the socket was full and the kernel threw
    /// some away, or cannot be read.
    pub fn drain(&mut self, mut each: impl FnMut(Announced<'_>)) -> bool {
        let Netlink { socket, buffer, .. } = &mut self.0;
        let mut whole = true;
        loop {
            let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
            let received =
                rustix::io::retry_on_intr(|| rustix::net::recv(&*socket, buffer.as_mut_slice(), flags));
            match received {
                Ok((_, length)) => match buffer.get(..length) {
                    Some(datagram) => Messages(datagram).for_each(|m| each(m.announced())),
                    None => whole = false,
                },
                Err(rustix::io::Errno::AGAIN) => return whole,
                // The error is told once; the announcements that fitted are still there.
                Err(rustix::io::Errno::NOBUFS) => whole = false,
                Err(_) => return false,
            }
        }
    }
}

impl AsFd for Subscription {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket.as_fd()
    }
}

/// What the kernel announced.
#[derive(Clone, Copy, Debug)]
pub struct Announced<'a> {
    /// Message type.
    pub kind: u16,
    /// Port of the socket whose request it follows from; 0 if it follows from none, or the kernel does not tell.
    pub port: u32,
    /// Payload, without the netlink header.
    pub payload: &'a [u8],
}

/// One message of a transaction.
#[derive(Clone, Debug)]
pub struct BatchMessage {
    /// Subsystem and message number.
    pub kind: u16,
    /// `NLM_F_CREATE` and the like; request and acknowledgement are added.
    pub flags: u16,
    /// `struct nfgenmsg` and attributes.
    pub payload: Vec<u8>,
}

/// One netlink message: header of 16 bytes, payload, padding to 4.
fn encode(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(HEADER + payload.len()).map_err(io::Error::other)?;
    let mut message = Vec::with_capacity(HEADER + payload.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend(payload);
    Ok(message)
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    fn announced(&self) -> Announced<'a> {
        Announced { kind: self.kind, port: self.port, payload: self.payload }
    }

    /// What an NLMSG_ERROR or NLMSG_DONE says: an errno, 0 for success, with the kernel's sentence where it gave one.
    fn status(&self) -> io::Result<()> {
        // Some dumps end in an NLMSG_DONE without a code.
        let Some(code) = parse_i32(self.payload).filter(|code| *code != 0) else { return Ok(()) };
        let error = io::Error::from_raw_os_error(code.saturating_neg());
        Err(match self.sentence() {
            Some(text) => Refused { text: whydrop_model::shell::sanitize(&text, 200), error }.into(),
            None => error,
        })
    }

    /// NLMSGERR_ATTR_MSG, behind the echoed request.
    fn sentence(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let echoed = match i32::from(self.kind) {
            libc::NLMSG_DONE => 0,
            _ if self.flags & NLM_F_CAPPED != 0 => HEADER,
            _ => (parse_u32(self.payload.get(4..)?)? as usize).next_multiple_of(4),
        };
        let attributes = self.payload.get(4usize.checked_add(echoed)?..)?;
        let (_, text) = IterableChunks::new(attributes).find(|(h, _)| h.r#type == NLMSGERR_ATTR_MSG)?;
        Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
    }
}

/// An errno with the kernel's sentence; stands inside an `io::Error`.
#[derive(Debug, thiserror::Error)]
#[error("{text}: {error}")]
struct Refused {
    text: String,
    error: io::Error,
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        Self::new(refused.error.kind(), refused)
    }
}

/// errno of an error of this module: that of the kernel, also when it came with a sentence.
pub fn errno(error: &io::Error) -> Option<i32> {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<Refused>());
    inner.map_or(error, |refused| &refused.error).raw_os_error()
}

/// The messages of one datagram; ends at the first one that is not whole.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = parse_u32(self.0)? as usize;
        let message = Message {
            kind: parse_u16(self.0.get(4..)?)?,
            flags: parse_u16(self.0.get(6..)?)?,
            sequence: parse_u32(self.0.get(8..)?)?,
            port: parse_u32(self.0.get(12..)?)?,
            payload: self.0.get(HEADER..length)?,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_bindings::rt_link;

    #[test]
    fn messages_end_at_garbage() {
        let mut datagram = encode(20, 2, 7, &[1, 2, 3]).unwrap();
        datagram.push(0);
        datagram.extend(encode(3, 2, 7, &0i32.to_ne_bytes()).unwrap());
        datagram.extend([9, 9]);
        let read: Vec<_> = Messages(&datagram).map(|m| (m.kind, m.payload.len())).collect();
        assert_eq!(read, [(20, 3), (3, 4)]);
        for length in 0..64u8 {
            let bytes: Vec<u8> = (0..length).map(|i| i.wrapping_mul(length)).collect();
            for message in Messages(&bytes) {
                let _ = message.status();
            }
        }
    }

    #[test]
    fn an_error_carries_the_sentence_of_the_kernel() {
        let mut payload = (-libc::ENODEV).to_ne_bytes().to_vec();
        payload.extend([0; HEADER]);
        payload.extend([11, 0, 1, 0]);
        payload.extend(b"no dev\0");
        let message = Message {
            kind: 2,
            flags: NLM_F_CAPPED | NLM_F_ACK_TLVS,
            sequence: 1,
            port: 0,
            payload: &payload,
        };
        let error = message.status().unwrap_err();
        assert!(error.to_string().starts_with("no dev: "), "{error}");
        assert_eq!(errno(&error), Some(libc::ENODEV));
    }

    #[test]
    fn dumps_and_refusals_of_this_kernel() {
        let mut route = Netlink::route().unwrap();
        let request = rt_link::Request::new().op_getlink_dump(&rt_link::Ifinfomsg::default());
        let links = route.dump(text!("links", "接口"), &request, |reply| Some(reply.len())).unwrap();
        assert!(!links.is_empty());
        let header = rt_link::Ifinfomsg { ifi_index: i32::MAX, ..Default::default() };
        let request = rt_link::Request::new().op_getlink_do(&header);
        let error = route.get(&request, |_| Some(())).unwrap_err();
        assert_eq!(errno(&error), Some(libc::ENODEV));
        // The socket serves on after a refusal.
        let request = rt_link::Request::new().op_getlink_dump(&rt_link::Ifinfomsg::default());
        assert_eq!(route.dump(text!("links", "接口"), &request, |_| Some(())).unwrap().len(), links.len());
    }
}
