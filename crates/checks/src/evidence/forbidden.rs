//! Calls that a BPF program of the caller's cgroup refuses: connect() and datagrams to an address. Nothing becomes a packet,
//! so that only the failed call tells of them (`__cgroup_bpf_run_filter_sock_addr` in kernel/bpf/cgroup.c).

use super::case::Space;
use std::net::SocketAddr;
use whydrop_model::flow::FailedCall;
use whydrop_model::snapshot::{Attach, Cgroup};

/// What the caller is told, unless the program sets another error.
const FORBIDDEN: &str = "EPERM";

/// Where the program is attached that such a call asks.
pub fn asked(call: &str, remote: SocketAddr) -> Option<Attach> {
    match (call, remote.is_ipv4()) {
        ("connect", true) => Some(Attach::Connect4),
        ("connect", false) => Some(Attach::Connect6),
        ("sendto" | "sendmsg" | "sendmmsg", true) => Some(Attach::Sendmsg4),
        ("sendto" | "sendmsg" | "sendmmsg", false) => Some(Attach::Sendmsg6),
        _ => None,
    }
}

/// The cgroup of the caller, or the nearest one above it, whose program may have refused this call; none if the call
/// failed otherwise, or no such program is attached there.
pub fn by<'a>(space: Space<'a>, call: &FailedCall) -> Option<&'a Cgroup> {
    let attach = asked(&call.call, call.remote?).filter(|_| call.error == FORBIDDEN)?;
    let path = call.owner.cgroup.as_deref()?;
    let holds = |cgroup: &&Cgroup| {
        let rest = path.strip_prefix(cgroup.path.trim_end_matches('/'));
        cgroup.hierarchy.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let has = |cgroup: &&Cgroup| {
        cgroup.programs.get().is_some_and(|all| all.iter().any(|program| program.attach == attach))
    };
    let known = &space.after.processes.get()?.cgroups;
    known.iter().filter(holds).filter(has).max_by_key(|cgroup| cgroup.path.len())
}

/// The calls of a namespace's programs that were refused so.
pub fn calls<'a>(space: Space<'a>) -> impl Iterator<Item = (&'a FailedCall, &'a Cgroup)> {
    let log = space.case.observation.flows.get();
    let calls = log.and_then(|log| log.calls.get()).into_iter().flatten();
    let mine = calls.filter(move |call| call.netns_inode == space.inode());
    mine.filter_map(move |call| Some((call, by(space, call)?)))
}
