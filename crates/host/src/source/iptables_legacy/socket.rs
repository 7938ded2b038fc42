//! The two `getsockopt` calls of x_tables.
#![allow(unsafe_code)] // getsockopt with these option names has no safe wrapper

use crate::source::xt::Blob;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// `IPT_SO_GET_INFO`, `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;
/// `IPT_SO_GET_ENTRIES`, `IP6T_SO_GET_ENTRIES`.
const GET_ENTRIES: libc::c_int = 65;
/// `XT_TABLE_MAXNAMELEN`.
const NAME: usize = 32;
/// `sizeof(struct ipt_getinfo)`.
const INFO: usize = 84;
/// Offset of `entrytable` in `struct ipt_get_entries`.
const ENTRIES: usize = 40;
/// Largest table that is read: a million simple rules.
const MAX: u32 = 256 << 20;
/// How often a table is read again that changed between the two calls.
const ATTEMPTS: usize = 8;

/// `NF_INET_NUMHOOKS`.
pub(super) const HOOKS: usize = 5;

/// `struct ipt_getinfo`: where the built-in chains begin and where their policies stand, in bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Info {
    /// Bit per hook.
    pub valid_hooks: u32,
    pub hook_entry: [u32; HOOKS],
    pub underflow: [u32; HOOKS],
}

/// Info and entries of one table, of one moment.
pub(super) fn table(name: &str, v6: bool) -> io::Result<(Info, Vec<u8>)> {
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let raw = Some(ipproto::RAW);
    let socket =
        rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, raw as Option<Protocol>)?;
    let mut title = [0_u8; NAME];
    match title.get_mut(..name.len()) {
        Some(start) if name.len() < NAME => start.copy_from_slice(name.as_bytes()),
        _ => return Err(io::Error::other("the table's name is too long")),
    }
    let level = if v6 { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
    for _ in 0..ATTEMPTS {
        let mut info = [0_u8; INFO];
        info[..NAME].copy_from_slice(&title);
        get(&socket, level, GET_INFO, &mut info)?;
        let (info, size) = parse(Blob(&info)).ok_or_else(|| io::Error::other("the reply was cut short"))?;
        if size > MAX {
            return Err(io::Error::other(format!("it has {size} bytes")));
        }
        let mut entries = vec![0_u8; ENTRIES + size as usize];
        entries[..NAME].copy_from_slice(&title);
        entries[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
        match get(&socket, level, GET_ENTRIES, &mut entries) {
            Ok(()) => return Ok((info, entries.split_off(ENTRIES))),
            // The size is another one by now.
            Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => (),
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other(format!("it changed during each of {ATTEMPTS} reads")))
}

fn parse(blob: Blob<'_>) -> Option<(Info, u32)> {
    let mut info = Info { valid_hooks: blob.u32(32)?, ..Info::default() };
    for (at, offset) in info.hook_entry.iter_mut().enumerate() {
        *offset = blob.u32(36 + 4 * at)?;
    }
    for (at, offset) in info.underflow.iter_mut().enumerate() {
        *offset = blob.u32(56 + 4 * at)?;
    }
    Some((info, blob.u32(80)?))
}

/// One option whose whole length is known.
fn get(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let wanted = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    let mut length = wanted;
    // SAFETY: the descriptor is open, the pointer and `length` describe one live buffer of bytes, and the kernel
    // writes at most `length` bytes to it.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &raw mut length)
    };
    match result {
        0 if length == wanted => Ok(()),
        0 => Err(io::Error::other("the reply was cut short")),
        _ => Err(io::Error::last_os_error()),
    }
}
