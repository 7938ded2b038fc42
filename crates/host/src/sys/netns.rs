//! Network namespaces: make, open, enter on a thread of its own, compare.
#![allow(unsafe_code)] // unshare(2) is unsafe in rustix; SO_NETNS_COOKIE has no wrapper

use crate::error::{Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use whydrop_model::text;

/// `SO_NETNS_COOKIE` (include/uapi/asm-generic/socket.h).
const SO_NETNS_COOKIE: libc::c_int = 71;

/// An open network namespace. It stays usable after its name or its last process is gone.
#[derive(Debug)]
pub struct Netns {
    file: File,
    inode: u64,
}

impl Netns {
    /// The namespace of the calling thread.
    pub fn current() -> Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// A new namespace: a loopback interface that is down, and nothing else. Needs CAP_SYS_ADMIN.
    pub fn unshare() -> Result<Self> {
        let work = || {
            // SAFETY: only the network namespace of this thread changes, and the thread ends here; descriptors
            // stay shared.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(|e| {
                Error::io(
                    text!("create {object}", "创建{object}"),
                    text!("a network namespace", "网络命名空间"),
                    &e.into(),
                )
            })?;
            Self::current()
        };
        let thread = std::thread::Builder::new().spawn(work).map_err(|e| no_thread(&e))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A namespace by path (`/run/netns/web`, `/proc/PID/ns/net`).
    pub fn open(path: &Path) -> Result<Self> {
        let fail = |e: &std::io::Error| {
            Error::family(
                text!("open the network namespace {object}", "打开网络命名空间 {object}"),
                path.display().to_string(),
                e,
            )
        };
        // The path may name anything: a FIFO would wait for its other end.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| fail(&e.into()))?);
        let magic = rustix::fs::fstatfs(&file).map_err(|e| fail(&e.into()))?;
        if magic.f_type != libc::NSFS_MAGIC || kind(&file).map_err(|e| fail(&e))? != libc::CLONE_NEWNET {
            return Err(Error::new(
                text!("open the network namespace {object}", "打开网络命名空间 {object}"),
                path.display().to_string(),
                text!("it is not one", "它不是网络命名空间").phrase(),
            ));
        }
        let inode = file.metadata().map_err(|e| fail(&e))?.ino();
        Ok(Self { file, inode })
    }

    /// Inode: identity of the namespace, as `readlink /proc/PID/ns/net` shows it.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Number of the namespace that no other one gets before the next boot, unlike its inode; none before Linux 5.14.
    pub fn cookie(&self) -> Result<Option<u64>> {
        self.run(cookie_here)?
    }

    /// A second handle on the same namespace.
    pub fn try_clone(&self) -> Result<Self> {
        let file = self.file.try_clone().map_err(|e| {
            Error::io(
                text!("duplicate {object}", "复制{object}"),
                text!("a network namespace", "网络命名空间"),
                &e,
            )
        })?;
        Ok(Self { file, inode: self.inode })
    }

    /// Runs `work` on a new thread inside the namespace and waits for it. The caller's thread never moves, so no
    /// worker can be left in a foreign namespace. Fails if the namespace cannot be entered (CAP_SYS_ADMIN).
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R> {
        std::thread::scope(|scope| {
            let inside = || {
                self.enter()?;
                Ok(work())
            };
            // At a limit of threads that is an error like any other, and no panic.
            std::thread::Builder::new()
                .spawn_scoped(scope, inside)
                .map_err(|e| no_thread(&e))?
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into the namespace, for threads that live and die there. Does nothing if the
    /// thread is already inside, so that an unprivileged whydrop can look at its own namespace.
    pub fn enter(&self) -> Result<()> {
        if Self::current()?.inode == self.inode {
            return Ok(());
        }
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|e| {
            Error::family(
                text!("enter {object}", "进入{object}"),
                text!("the network namespace {inode}", "网络命名空间 {inode}")
                    .fill(&[("inode", &self.inode)]),
                &e.into(),
            )
        })
    }
}

/// The kind of a namespace's file: CLONE_NEWNET and the like (NS_GET_NSTYPE, since 4.11). No privilege is needed.
fn kind(file: &File) -> std::io::Result<libc::c_int> {
    // SAFETY: the request takes no argument and writes nothing; the descriptor is open.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) } {
        -1 => Err(std::io::Error::last_os_error()),
        kind => Ok(kind),
    }
}

fn no_thread(error: &std::io::Error) -> Error {
    Error::io(text!("start {object}", "启动{object}"), text!("a thread", "线程"), error)
}

/// `SO_NETNS_COOKIE` of a new socket; none before Linux 5.14.
fn cookie_here() -> Result<Option<u64>> {
    let fail = |e: std::io::Error| {
        Error::io(text!("read {object}", "读取{object}"), text!("a namespace's cookie", "命名空间的标识"), &e)
    };
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::DGRAM, None)
        .map_err(|e| fail(e.into()))?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and value and length describe one live u64 that the kernel may fill.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut length,
        )
    };
    match done {
        0 => Ok(Some(cookie)),
        _ => match std::io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
            e => Err(fail(e)),
        },
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
