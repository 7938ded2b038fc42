//! The process behind an announcement.

use std::os::unix::fs::MetadataExt;
use whydrop_model::Doer;
use whydrop_model::shell::sanitize;

use crate::sys::file;

/// Threads of one process that are looked at.
const MOST_THREADS: usize = 256;

/// Who holds a netlink port. The kernel gives a process's first socket its process id as port, counted in the pid
/// namespace of that process: only one that is in the network namespace of the announcement is believed. None if it
/// has ended meanwhile.
pub(super) fn of_port(port: u32, netns: u64) -> Option<Doer> {
    if port == 0 || i32::try_from(port).is_err() {
        return None;
    }
    let threads = std::fs::read_dir(format!("/proc/{port}/task")).ok()?.flatten().take(MOST_THREADS);
    let inside = |thread: std::fs::DirEntry| {
        std::fs::metadata(thread.path().join("ns/net")).is_ok_and(|seen| seen.ino() == netns)
    };
    threads.into_iter().any(inside).then_some(())?;
    let comm = file::read(&format!("/proc/{port}/comm")).ok()?;
    Some(Doer { pid: port, comm: sanitize(comm.trim_end(), 32) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns::Netns;

    #[test]
    fn only_a_process_in_the_namespace_is_believed() {
        let here = Netns::current().unwrap().inode();
        let me = std::process::id();
        assert_eq!(of_port(me, here).map(|doer| doer.pid), Some(me));
        assert_eq!(of_port(me, here + 1), None);
        assert_eq!(of_port(0, here), None);
        assert_eq!(of_port(u32::MAX - 5, here), None);
    }
}
