//! Who owns the socket of a dropped packet: by the socket's inode and cgroup, never by the task on the CPU; and to which
//! program a process belongs.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use whydrop_model::drops::SocketOwner;
use whydrop_model::shell::sanitize;

/// All of /proc is walked to find an owner; not more often than this.
const PAUSE: Duration = Duration::from_secs(2);
/// cgroups and processes are nested; deeper than this is not looked.
const DEEPEST: usize = 12;

/// Finds owners and remembers them.
#[derive(Debug, Default)]
pub struct Owners {
    sockets: HashMap<u64, (u32, String)>,
    cgroups: HashMap<u64, String>,
    looked_for_sockets: Option<Instant>,
    looked_for_cgroups: Option<Instant>,
}

impl Owners {
    /// The owner of a socket; none if the packet has no socket. A process that came and went within the pause is
    /// not found: pid and name then stay unknown.
    pub fn find(&mut self, socket_inode: Option<u64>, cgroup_id: Option<u64>) -> Option<SocketOwner> {
        if socket_inode.is_none() && cgroup_id.is_none() {
            return None;
        }
        if socket_inode.is_some_and(|inode| !self.sockets.contains_key(&inode))
            && due(&mut self.looked_for_sockets)
        {
            self.sockets = sockets();
        }
        if cgroup_id.is_some_and(|id| !self.cgroups.contains_key(&id)) && due(&mut self.looked_for_cgroups) {
            self.cgroups = cgroups();
        }
        let process = socket_inode.and_then(|inode| self.sockets.get(&inode));
        Some(SocketOwner {
            pid: process.map(|(pid, _)| *pid),
            comm: process.map(|(_, comm)| comm.clone()),
            cgroup: cgroup_id.and_then(|id| self.cgroups.get(&id).cloned()),
        })
    }
}

/// The oldest forebear of a process that has its name in its network namespace, itself if there is none; none if it has
/// ended. What names itself otherwise meanwhile (a thread that called connect()) is a program of its own.
pub fn program(pid: u32, comm: &str) -> Option<u32> {
    let netns = |pid: u32| Some(fs::metadata(format!("/proc/{pid}/ns/net")).ok()?.ino());
    let home = netns(pid)?;
    let mut eldest = pid;
    for _ in 0..DEEPEST {
        let Some(parent) = parent(eldest) else { break };
        // One that has ended meanwhile is no forebear any more.
        let named = fs::read_to_string(format!("/proc/{parent}/comm"));
        if !named.is_ok_and(|name| name.trim_end_matches('\n') == comm) || netns(parent) != Some(home) {
            break;
        }
        eldest = parent;
    }
    Some(eldest)
}

/// The parent, by proc(5): the second field after the name, which may contain anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok().filter(|parent| *parent > 0)
}

fn due(last: &mut Option<Instant>) -> bool {
    let due = last.is_none_or(|at| at.elapsed() >= PAUSE);
    if due {
        *last = Some(Instant::now());
    }
    due
}

/// Inode of every socket that some process holds, with the first such process.
fn sockets() -> HashMap<u64, (u32, String)> {
    let mut found = HashMap::new();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Processes end while they are looked at, and others may not be looked at.
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut comm = None;
        for file in files.flatten() {
            let Some(inode) = fs::read_link(file.path()).ok().and_then(|target| socket_inode(&target)) else {
                continue;
            };
            let comm = comm.get_or_insert_with(|| {
                let name = fs::read_to_string(process.path().join("comm"));
                name.map(|n| sanitize(n.trim_end(), 16)).ok()
            });
            if let Some(comm) = comm {
                found.entry(inode).or_insert_with(|| (pid, comm.clone()));
            }
        }
    }
    found
}

fn socket_inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Every cgroup v2: its id is the inode of its directory.
fn cgroups() -> HashMap<u64, String> {
    let mut found = HashMap::new();
    let Some(root) = cgroup_root() else { return found };
    let mut waiting = vec![(root.clone(), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        let Ok(metadata) = fs::metadata(&directory) else { continue };
        let path = directory.strip_prefix(&root).unwrap_or(&directory).to_string_lossy();
        found.insert(metadata.ino(), format!("/{}", sanitize(&path, 256)));
        if depth == DEEPEST {
            continue;
        }
        let Ok(children) = fs::read_dir(&directory) else { continue };
        let directories = children.flatten().filter(|c| c.file_type().is_ok_and(|t| t.is_dir()));
        waiting.extend(directories.map(|child| (child.path(), depth + 1)));
    }
    found
}

fn cgroup_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    fields.find_map(|mut words| {
        let path = words.nth(1)?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_this_process_by_its_socket() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        let link = fs::read_link(format!("/proc/self/fd/{fd}")).expect("open");
        let owner = Owners::default().find(socket_inode(&link), None).expect("has a socket");
        assert_eq!(owner.pid, Some(std::process::id()));
    }

    #[test]
    fn a_worker_is_of_its_program_and_what_ended_of_none() {
        let own = std::process::id();
        let name = fs::read_to_string("/proc/self/comm").expect("a name");
        let started_by_another = program(own, name.trim_end()).expect("it runs");
        assert_eq!(started_by_another, own, "cargo and nextest have other names");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep starts");
        let pid = child.id();
        child.kill().expect("it runs");
        child.wait().expect("a child");
        assert_eq!(program(pid, "sleep"), None);
    }

    #[test]
    fn a_packet_without_socket_has_no_owner() {
        assert_eq!(Owners::default().find(None, None), None);
    }
}
