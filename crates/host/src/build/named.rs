//! Named network namespaces, as `ip netns add` makes them: a file below /run/netns with the namespace mounted on it.

use crate::error::{Error, Result};
use crate::sys::netns::Netns;
use crate::targets::NETNS_DIR;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive, mount_change, unmount,
};
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use whydrop_model::text;

/// A network namespace with a name, which goes when this value is dropped. Processes that are still inside keep
/// the namespace alive, but not its name.
#[derive(Debug)]
pub struct Named {
    name: String,
    netns: Netns,
}

impl Named {
    /// Makes a namespace and names it; `nsenter --net=/run/netns/NAME` and `ip netns exec NAME` enter it. Fails if
    /// the name is taken.
    pub fn create(name: &str) -> Result<Self> {
        let path = path_of(name)?;
        let netns = Netns::unshare()?;
        prepare_directory()?;
        let fail = |e: &std::io::Error| {
            Error::io(text!("create {object}", "创建 {object}"), path.display().to_string(), e)
        };
        // As iproute2 does: mode 0, since the file is only a place to mount on.
        OpenOptions::new().write(true).create_new(true).mode(0o000).open(&path).map_err(|e| fail(&e))?;
        // From here on the destructor cleans up.
        let named = Self { name: name.to_owned(), netns };
        let source = format!("/proc/thread-self/fd/{}", named.netns.as_fd().as_raw_fd());
        mount_bind(source, &path).map_err(|e| fail(&e.into()))?;
        Ok(named)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // In a destructor there is nobody to tell; the name that stays is seen in /run/netns.
        remove(&self.name).ok();
    }
}

/// Removes a name; the namespace goes with its last process. A name that does not exist is removed already.
pub fn remove(name: &str) -> Result<()> {
    let path = path_of(name)?;
    let fail = |e: &std::io::Error| {
        Error::io(text!("remove {object}", "删除 {object}"), path.display().to_string(), e)
    };
    match unmount(&path, UnmountFlags::DETACH) {
        // EINVAL: nothing is mounted there, as after a creation that failed half way.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(e) => return Err(fail(&e.into())),
    }
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(fail(&e)),
        _ => Ok(()),
    }
}

fn path_of(name: &str) -> Result<PathBuf> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) || name.len() > 64 {
        return Err(Error::new(
            text!("create {object}", "创建{object}"),
            text!("the namespace {name}", "命名空间 {name}").fill(&[("name", &format!("{name:?}"))]),
            text!("not a usable name", "名称不可用").phrase(),
        ));
    }
    Ok(Path::new(NETNS_DIR).join(name))
}

/// Makes /run/netns a shared mount, as iproute2 does, so that names made here are seen in other mount namespaces
/// and, more important, vanish there when they are removed here. The lock is the one that iproute2 takes: without
/// it two creators mount the directory on itself twice.
fn prepare_directory() -> Result<()> {
    let fail = |e: &std::io::Error| Error::io(text!("prepare {object}", "准备 {object}"), NETNS_DIR, e);
    match DirBuilder::new().mode(0o755).create(NETNS_DIR) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(fail(&e)),
        _ => {}
    }
    let directory = File::open(NETNS_DIR).map_err(|e| fail(&e))?;
    flock(&directory, FlockOperation::LockExclusive).map_err(|e| fail(&e.into()))?;
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    match mount_change(NETNS_DIR, shared) {
        Ok(()) => Ok(()),
        // Not a mount point yet.
        Err(Errno::INVAL) => mount_bind_recursive(NETNS_DIR, NETNS_DIR)
            .and_then(|()| mount_change(NETNS_DIR, shared))
            .map_err(|e| fail(&e.into())),
        Err(e) => Err(fail(&e.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", ".", "..", "a/b", "/etc/passwd", "a\0b"] {
            assert!(path_of(name).is_err(), "{name:?}");
        }
        assert_eq!(path_of("wd-x").unwrap(), Path::new("/run/netns/wd-x"));
    }
}
