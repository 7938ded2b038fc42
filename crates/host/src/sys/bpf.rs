//! bpf(2): which programs there are, and which are attached to a cgroup. Nothing is loaded here.
#![allow(unsafe_code)] // a system call with structures that the kernel fills

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

// enum bpf_cmd (include/uapi/linux/bpf.h).
const BPF_PROG_GET_NEXT_ID: libc::c_long = 11;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;

/// A cgroup takes no more of one kind (BPF_CGROUP_MAX_PROGS).
const MOST_PROGRAMS: usize = 64;
/// More programs than this are not looked through.
const MOST_LOADED: usize = 4096;
/// Programs that are asked about connect(), bind() and datagrams with an address (enum bpf_prog_type).
const CGROUP_SOCK_ADDR: u32 = 18;
/// Length of `type`, the first field of struct bpf_prog_info.
const TYPE: usize = 4;
/// Offset and length of `name` in struct bpf_prog_info.
const NAME: std::ops::Range<usize> = 64..80;

/// The attribute of BPF_PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    pad: u32,
    more: [u64; 3],
}

/// The attribute of BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct Info {
    descriptor: u32,
    length: u32,
    info: u64,
}

/// Ids of the programs of one attach type that are attached to this cgroup itself. Needs CAP_NET_ADMIN, on older kernels
/// CAP_SYS_ADMIN.
pub fn attached(cgroup: &impl AsRawFd, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0u32; MOST_PROGRAMS];
    let target = u32::try_from(cgroup.as_raw_fd()).map_err(io::Error::other)?;
    let (pointer, count) = (ids.as_mut_ptr() as u64, MOST_PROGRAMS as u32);
    let mut query = Query { target, attach_type, ids: pointer, count, ..Query::default() };
    // SAFETY: the kernel writes at most `count` ids to `ids`, which has room for them, and the counts into `query`.
    unsafe { call(BPF_PROG_QUERY, &mut query) }?;
    Ok(ids.into_iter().take(query.count as usize).collect())
}

/// True if the machine has a program that may refuse connect() or a datagram, as far as one may look (CAP_SYS_ADMIN).
pub fn may_refuse_calls() -> bool {
    let mut id = 0u32;
    for _ in 0..MOST_LOADED {
        let mut ask = [id, 0, 0];
        // SAFETY: struct of start id, next id and open flags; the kernel writes the second.
        if unsafe { call(BPF_PROG_GET_NEXT_ID, &mut ask) }.is_err() {
            return false;
        }
        [_, id, _] = ask;
        if info::<TYPE>(id).map(u32::from_ne_bytes) == Some(CGROUP_SOCK_ADDR) {
            return true;
        }
    }
    false
}

/// Name of a program; empty if it has none or may not be looked at.
pub fn name(id: u32) -> String {
    let info = info::<{ NAME.end }>(id);
    let name = info.as_ref().and_then(|info| info.get(NAME)).unwrap_or(&[]);
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(name.get(..end).unwrap_or(&[])).into_owned()
}

/// The first bytes of struct bpf_prog_info; none of a program that is gone or may not be looked at.
fn info<const BYTES: usize>(id: u32) -> Option<[u8; BYTES]> {
    let mut ask = [u64::from(id), 0];
    // SAFETY: struct of program id, next id and open flags; the kernel only reads it.
    let descriptor = unsafe { call(BPF_PROG_GET_FD_BY_ID, &mut ask) }.ok()?;
    // SAFETY: the descriptor is new, and nobody else has it.
    let program = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let mut info = [0u8; BYTES];
    let descriptor = u32::try_from(program.as_raw_fd()).ok()?;
    let mut ask = Info { descriptor, length: info.len() as u32, info: info.as_mut_ptr() as u64 };
    // SAFETY: the kernel writes at most `length` bytes to `info`.
    unsafe { call(BPF_OBJ_GET_INFO_BY_FD, &mut ask) }.ok()?;
    Some(info)
}

/// # Safety
///
/// `attribute` is the one of this command, and what it points to may be written.
unsafe fn call<T>(command: libc::c_long, attribute: &mut T) -> io::Result<i32> {
    // SAFETY: as the caller promises; the size is that of the structure.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>()) };
    i32::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(io::Error::last_os_error)
}
