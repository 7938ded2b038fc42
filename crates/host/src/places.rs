//! The network namespaces of this machine that have a name or a process, without opening any of them.

use crate::containers::Engines;
use crate::sys::netns::Netns;
use crate::targets::{self, NETNS_DIR, Resolved, named};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where Docker keeps the namespaces of its containers.
const DOCKER_DIR: &str = "/run/docker/netns";

/// A namespace of this machine and how it can be entered.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// It is the one that whydrop runs in.
    pub here: bool,
    /// Names below [`NETNS_DIR`], and paths.
    pub names: Vec<String>,
    /// Its processes, sorted.
    pub pids: Vec<u32>,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// By the inode of the namespace.
    pub found: BTreeMap<u64, Place>,
    /// Processes whose namespace may not be known.
    pub hidden: usize,
    /// Names that lead to no network namespace.
    pub stale: Vec<String>,
}

/// Looks at every name and every process.
pub(crate) fn find() -> Places {
    let mut out = Places::default();
    let Ok(here) = std::fs::metadata("/proc/thread-self/ns/net") else { return out };
    out.found.entry(here.ino()).or_default().here = true;
    let docker = std::fs::read_dir(DOCKER_DIR).into_iter().flatten().flatten();
    let docker = docker.filter_map(|entry| entry.path().into_os_string().into_string().ok());
    for name in targets::netns_names().into_iter().chain(docker) {
        // A file of another file system may have any number.
        match std::fs::metadata(path_of(&name)) {
            Ok(seen) if seen.dev() == here.dev() => {
                out.found.entry(seen.ino()).or_default().names.push(name);
            }
            _ => out.stale.push(name),
        }
    }
    for pid in targets::pids() {
        match std::fs::metadata(process(pid)) {
            Ok(seen) => out.found.entry(seen.ino()).or_default().pids.push(pid),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => out.hidden += 1,
            // It ended since the listing.
            Err(_) => (),
        }
    }
    out
}

fn path_of(name: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(name)
}

fn process(pid: u32) -> PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

impl Place {
    /// A handle on it, by whatever way there is.
    pub fn open(&self) -> Option<Netns> {
        let by_name = self.names.first().and_then(|name| Netns::open(&path_of(name)).ok());
        match (self.here, by_name) {
            // The thread that asks may have moved into another namespace; the process has not.
            (true, _) => Netns::open(&process(std::process::id())).ok(),
            (false, Some(netns)) => Some(netns),
            (false, None) => Netns::open(&process(*self.pids.first()?)).ok(),
        }
    }

    /// With the name that people use: a pod's or a container's, that of the namespace, else a process. Engines are
    /// asked only if somebody lives there.
    pub fn resolve(&self, engines: &Engines) -> Option<Resolved> {
        if self.here {
            return targets::host().ok();
        }
        let pid = self.pids.first().copied();
        let netns = self.open()?;
        let mut here = if pid.is_some() { engines.at(netns.inode()) } else { vec![] };
        // A pod is named by what holds its namespaces.
        here.sort_by_key(|container| !container.infra);
        let first = here.first().and_then(|container| Some((container, container.pid?)));
        match (first, self.names.first()) {
            (Some((container, pid)), _) => {
                let tenants = named::tenants(&netns, container.pod.as_ref(), engines);
                Some(named::of_container(container, None, pid, netns, tenants))
            }
            (None, Some(name)) => targets::by_netns(name).ok(),
            (None, None) => Some(targets::of_pid(pid?, netns)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_the_namespace_that_is_here() {
        let places = find();
        let here = places.found.values().find(|place| place.here).unwrap();
        assert!(here.pids.contains(&std::process::id()));
    }
}
