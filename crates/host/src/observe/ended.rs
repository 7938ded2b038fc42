//! Targets that ended in the window: what was read of their namespaces stands, but it is not all.

use crate::sys::netns::Netns;
use crate::targets::{self, Resolved};
use std::path::Path;
use whydrop_model::{Entry, NamespaceEvidence, Reading, Target, TargetKind};

/// For each target whose process or name no longer leads to its namespace, what ended, with that as its reading: a
/// container that was killed is not one in which nothing is lost. A process that was no container's counts only if
/// nobody is left in its namespace.
pub fn ended(targets: &[Resolved]) -> Vec<NamespaceEvidence> {
    targets.iter().filter_map(of).collect()
}

fn of(resolved: &Resolved) -> Option<NamespaceEvidence> {
    let target = &resolved.target;
    let inode = resolved.netns.inode();
    let leads_there = |path: &str| Netns::open(Path::new(path)).is_ok_and(|now| now.inode() == inode);
    let (id, kind, gone) = match &target.entry {
        Entry::Here => return None,
        Entry::Pid(pid) => {
            (format!("pid:{pid}"), TargetKind::Pid, !leads_there(&format!("/proc/{pid}/ns/net")))
        }
        Entry::Path(path) => (format!("netns:{path}"), TargetKind::Netns, !leads_there(path)),
    };
    let inhabited = || targets::pids().iter().any(|pid| leads_there(&format!("/proc/{pid}/ns/net")));
    if !gone || (kind == TargetKind::Pid && target.container.is_none() && inhabited()) {
        return None;
    }
    let why =
        Reading::Failed(format!("{}: it ended in the window, or another has its name by now", target.id));
    Some(NamespaceEvidence {
        target: Target { name: id.clone(), id, kind, netns_inode: 0, ..target.clone() },
        aliases: vec![],
        before: why.clone(),
        after: why,
        link_events: Reading::not_recorded(),
    })
}
