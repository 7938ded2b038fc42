//! What the processes of this machine tell of containers: who watches over them, and which cgroup they are in.

use super::{ID_DIGITS, files};
use crate::targets::pids;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes of a command line that are read; conmon's has some 2,000.
const COMMAND: usize = 64 << 10;
/// Bytes of /proc/PID/cgroup, /proc/PID/task/N/children and the like.
const SMALL: usize = 64 << 10;

/// A process that watches over containers.
#[derive(Debug)]
pub(super) struct Monitor {
    /// Its pid.
    pub pid: u32,
    /// Whose it is; what it says is believed only of processes that are its children if it is not root's.
    pub uid: u32,
    /// Its name.
    pub comm: String,
    /// Its command line, program first.
    pub words: Vec<String>,
}

/// How the names of the programs that watch over containers begin; the kernel cuts `comm` to 15 bytes.
const PROGRAMS: [&str; 7] = [SHIM, CONMON, NSPAWN, "lxc-", "[lxc monitor]", "lxd", "incusd"];
/// containerd's shims.
pub(super) const SHIM: &str = "containerd-shim";
/// Podman's and CRI-O's.
pub(super) const CONMON: &str = "conmon";
/// systemd's.
pub(super) const NSPAWN: &str = "systemd-nspawn";

/// All processes that watch over containers.
pub(super) fn monitors() -> Vec<Monitor> {
    pids().into_iter().filter_map(monitor).collect()
}

fn monitor(pid: u32) -> Option<Monitor> {
    let comm = files::text(Path::new(&format!("/proc/{pid}/comm")), SMALL)?;
    PROGRAMS.iter().find(|name| comm.starts_with(**name))?;
    let uid = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let line = files::bytes(Path::new(&format!("/proc/{pid}/cmdline")), COMMAND)?;
    let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    Some(Monitor { pid, uid, comm, words: words.filter(|word| !word.is_empty()).collect() })
}

impl Monitor {
    /// The word after one of these options, or behind its `=`.
    pub fn option(&self, names: &[&str]) -> Option<&str> {
        let mut words = self.words.iter();
        while let Some(word) = words.next() {
            for name in names {
                if word == name {
                    return words.next().map(String::as_str);
                }
                let value = word.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
                if value.is_some() {
                    return value;
                }
            }
        }
        None
    }

    /// Its children, oldest first.
    pub fn children(&self) -> Vec<u32> {
        children(self.pid)
    }

    /// A path as this process sees it, which may live in a mount namespace of its own; as everybody does without the
    /// privilege to look there.
    pub fn path(&self, path: &str) -> PathBuf {
        let inside = PathBuf::from(format!("/proc/{}/root/{}", self.pid, path.trim_start_matches('/')));
        if inside.exists() { inside } else { path.into() }
    }
}

fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let listed = tasks.filter_map(|task| files::text(&task.path().join("children"), SMALL));
    let mut out: Vec<u32> = listed
        .flat_map(|list| list.split_whitespace().filter_map(|w| w.parse().ok()).collect::<Vec<_>>())
        .collect();
    out.sort_unstable();
    out
}

/// True if a process of `uid` is the parent of `pid`: nobody else can make it say so.
pub(super) fn is_child_of(pid: u32, uid: u32) -> bool {
    let parent = || {
        let stat = files::text(Path::new(&format!("/proc/{pid}/stat")), SMALL)?;
        // The name in brackets may hold anything.
        let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?;
        Some(std::fs::metadata(format!("/proc/{parent}")).ok()?.uid())
    };
    parent() == Some(uid)
}

/// The innermost container id among the names of a process's cgroups, and whether there is any name at all: inside a
/// cgroup namespace there is none.
pub(super) fn container_id(cgroup: &str) -> Option<&str> {
    let words = cgroup.rsplit(|c: char| !c.is_ascii_hexdigit());
    words.into_iter().find(|word| word.len() == ID_DIGITS)
}

/// The container that a process says to be in, if its cgroup tells.
pub(super) fn id_of(pid: u32) -> Option<String> {
    container_id(&files::text(Path::new(&format!("/proc/{pid}/cgroup")), SMALL)?).map(str::to_owned)
}

/// The first process of each container whose id is in the name of a cgroup.
pub(super) fn by_cgroup() -> HashMap<String, u32> {
    let mut out = HashMap::new();
    for pid in pids() {
        if let Some(id) = id_of(pid) {
            out.entry(id).or_insert(pid);
        }
    }
    out
}

/// The inode of a process's network namespace.
pub(super) fn netns(pid: u32) -> Option<u64> {
    Some(std::fs::metadata(format!("/proc/{pid}/ns/net")).ok()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_id_is_found_in_any_kind_of_cgroup() {
        let id = "0123456789abcdef".repeat(4);
        let uid = "6a2c0f0e_0000_4000_8000_000000000001";
        for (cgroup, told) in [
            (format!("0::/system.slice/docker-{id}.scope\n"), true),
            (format!("12:cpu:/docker/{id}\n0::/\n"), true),
            (format!("0::/kubepods/burstable/pod6a2c0f0e-0000-4000-8000-000000000001/{id}"), true),
            (format!("0::/kubepods/besteffort/pod6a2c/crio-{id}"), true),
            (format!("0::/kubepods.slice/kubepods-pod{uid}.slice/cri-containerd-{id}.scope"), true),
            (format!("0::/kubepods.slice/kubepods-pod{uid}.slice/crio-{id}.scope/container"), true),
            (format!("0::/kubelet.slice/kubelet-kubepods-pod{uid}.slice:cri-containerd:{id}"), true),
            (format!("0::/machine.slice/libpod-{id}.scope/container"), true),
            ("0::/user.slice/user-1000.slice/session-1.scope\n".to_owned(), false),
            (format!("0::/docker/{id}0\n"), false),
        ] {
            assert_eq!(container_id(&cgroup), told.then_some(id.as_str()), "{cgroup}");
        }
    }

    #[test]
    fn options_of_a_command_line() {
        let words = ["conmon", "-c", "abc", "--name=web", "-b", "/x"].map(str::to_owned).to_vec();
        let monitor = Monitor { pid: 1, uid: 0, comm: String::new(), words };
        assert_eq!(monitor.option(&["-c", "--cid"]), Some("abc"));
        assert_eq!(monitor.option(&["-n", "--name"]), Some("web"));
        assert_eq!(monitor.option(&["-p"]), None);
    }

    #[test]
    fn the_parent_of_a_process_vouches_for_it() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let uid = std::fs::metadata("/proc/self").unwrap().uid();
        let told = (is_child_of(child.id(), uid), is_child_of(child.id(), uid + 1));
        assert!(children(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(told, (true, false));
    }
}
