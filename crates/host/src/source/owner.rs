//! Which processes hold a socket: one scan of /proc/PID/fd for the whole machine.

use rustix::fs::{Dir, Mode, OFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use whydrop_model::snapshot::Owner;

/// A socket that more processes share than this keeps the first ones (by process id).
const MAX_OWNERS: usize = 8;
/// TASK_COMM_LEN without the NUL is 15; the kernel prints escaped names of up to four times that.
const MAX_COMM: u64 = 64;

/// Socket inode to processes.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    holders: HashMap<u64, Vec<u32>>,
    names: HashMap<u32, String>,
    descriptors: HashMap<u32, u64>,
}

impl Owners {
    /// Nobody is known.
    pub fn none() -> Self {
        Self::default()
    }

    /// Looks into every process that the caller may look into (its own, or all with CAP_SYS_PTRACE). A process that
    /// ends meanwhile, or may not be looked into, is left out: a socket without owner is "unknown", not "nobody's".
    pub fn scan() -> Self {
        let mut pids = pids();
        pids.sort_unstable();
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        let next = std::sync::atomic::AtomicUsize::new(0);
        let mut found: Vec<Holder> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..workers)
                .map(|_| {
                    scope.spawn(|| {
                        let mut mine = Vec::new();
                        loop {
                            let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            let Some(&pid) = pids.get(index) else { break mine };
                            mine.extend(process(pid));
                        }
                    })
                })
                .collect();
            let join = |handle: std::thread::ScopedJoinHandle<'_, _>| {
                handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            handles.into_iter().flat_map(join).collect()
        });
        found.sort_unstable_by_key(|holder| holder.pid);
        let mut owners = Self::none();
        owners.holders.reserve(found.iter().map(|holder| holder.inodes.len()).sum());
        for Holder { pid, name, inodes, descriptors } in found {
            for inode in inodes {
                let holders = owners.holders.entry(inode).or_default();
                if holders.len() < MAX_OWNERS && holders.last() != Some(&pid) {
                    holders.push(pid);
                }
            }
            owners.names.insert(pid, name);
            owners.descriptors.insert(pid, descriptors);
        }
        owners
    }

    /// Processes that hold the socket with this inode, at most 8; empty if unknown, and for inode 0 (a socket that
    /// no process holds any more, such as one in TIME-WAIT).
    pub fn of(&self, inode: u64) -> Vec<Owner> {
        let Some(pids) = self.holders.get(&inode) else { return Vec::new() };
        pids.iter().filter_map(|pid| Some(Owner { pid: *pid, comm: self.names.get(pid)?.clone() })).collect()
    }

    /// How many descriptors a process that holds sockets had open.
    pub fn descriptors(&self, pid: u32) -> Option<u64> {
        self.descriptors.get(&pid).copied()
    }
}

/// A process that holds sockets.
struct Holder {
    pid: u32,
    name: String,
    inodes: Vec<u64>,
    descriptors: u64,
}

fn pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Name, socket inodes and number of descriptors of a process; none if it holds no socket or may not be looked into.
fn process(pid: u32) -> Option<Holder> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(format!("/proc/{pid}/fd"), flags, Mode::empty()).ok()?;
    let entries = Dir::read_from(&directory).ok()?;
    // "socket:[4294967295]" is 19 bytes; what is longer is no socket.
    let mut target = [std::mem::MaybeUninit::uninit(); 32];
    let mut inodes = Vec::new();
    let mut descriptors = 0;
    for entry in entries.flatten() {
        if let Ok((link, _)) = rustix::fs::readlinkat_raw(directory.as_fd(), entry.file_name(), &mut target) {
            // Not `.` and `..`, which are no links.
            descriptors += 1;
            inodes.extend(socket_inode(link));
        }
    }
    if inodes.is_empty() {
        return None;
    }
    inodes.sort_unstable();
    inodes.dedup();
    let mut name = Vec::new();
    File::open(format!("/proc/{pid}/comm")).ok()?.take(MAX_COMM).read_to_end(&mut name).ok()?;
    let name = String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(&name)).into_owned();
    Some(Holder { pid, name, inodes, descriptors })
}

/// `socket:[123]`.
fn socket_inode(link: &[u8]) -> Option<u64> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn only_sockets_count() {
        assert_eq!(socket_inode(b"socket:[4026]"), Some(4026));
        for link in [&b"pipe:[1]"[..], b"socket:[x]", b"socket:[1", b"/dev/null", b""] {
            assert_eq!(socket_inode(link), None);
        }
    }

    #[test]
    fn finds_this_process() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = std::fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino();
        let owners = Owners::scan().of(inode);
        assert_eq!(owners.iter().map(|o| o.pid).collect::<Vec<_>>(), [std::process::id()]);
        assert!(!owners.first().unwrap().comm.is_empty());
        assert!(Owners::scan().of(0).is_empty());
    }
}
