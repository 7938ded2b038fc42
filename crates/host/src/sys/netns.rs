//! Network namespaces: make, open, enter on a thread of its own, compare.
#![allow(unsafe_code)] // unshare(2) is unsafe in rustix

use crate::error::{Error, Result};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use whydrop_model::text;

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
        let thread = std::thread::spawn(|| {
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
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A namespace by path (`/run/netns/web`, `/proc/PID/ns/net`).
    pub fn open(path: &Path) -> Result<Self> {
        let fail = |e: &std::io::Error| {
            Error::io(
                text!("open the network namespace {object}", "打开网络命名空间 {object}"),
                path.display().to_string(),
                e,
            )
        };
        let file = File::open(path).map_err(|e| fail(&e))?;
        let inode = file.metadata().map_err(|e| fail(&e))?.ino();
        Ok(Self { file, inode })
    }

    /// Inode: identity of the namespace, as `readlink /proc/PID/ns/net` shows it.
    pub fn inode(&self) -> u64 {
        self.inode
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
            scope
                .spawn(|| {
                    self.enter()?;
                    Ok(work())
                })
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
            Error::io(
                text!("enter {object}", "进入{object}"),
                text!("the network namespace {inode}", "网络命名空间 {inode}")
                    .fill(&[("inode", &self.inode)]),
                &e.into(),
            )
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
