//! Sockets of any kind.

pub mod filter_drop;
pub mod rcvbuf_overflow;

use crate::evidence::case::Space;
use crate::loss::Loss;
use whydrop_model::snapshot::{Attach, Cgroup};

/// True for a packet that a filter of the socket or of its cgroup refused: the kernel has one reason for both
/// (net/core/filter.c:sk_filter_trim_cap).
pub fn is_filtered(loss: &Loss<'_>) -> bool {
    loss.is_at_stage("socket.filter") && loss.reason() == Some("SOCKET_FILTER")
}

/// True if it was sent to a program to whose cgroup a BPF program for arriving packets is attached.
pub fn is_cgroups(space: Space<'_>, loss: &Loss<'_>) -> bool {
    holding(space, loss, Attach::Ingress).next().is_some()
}

/// The cgroups with such BPF programs that hold the program for which, or from which, the packet was.
pub fn holding<'a>(space: Space<'a>, loss: &Loss<'a>, attach: Attach) -> std::vec::IntoIter<&'a Cgroup> {
    let own = match attach {
        Attach::Ingress => loss.event.and_then(|event| event.destination),
        _ => loss.event.and_then(|event| event.source),
    };
    let all = space.after.sockets.iter().chain(space.before.sockets.iter());
    let sockets = all.filter(|s| own.is_none_or(|own| s.local.port() == own.port()));
    let pids: Vec<u32> = sockets.flat_map(|s| s.owners.iter().map(|owner| owner.pid)).collect();
    let Some(known) = space.after.processes.get() else { return vec![].into_iter() };
    let attached = |cgroup: &&Cgroup| {
        cgroup.programs.get().is_some_and(|all| all.iter().any(|program| program.attach == attach))
    };
    let holds = |cgroup: &&Cgroup| {
        known.list.iter().any(|process| pids.contains(&process.pid) && cgroup.holds(process))
    };
    known.cgroups.iter().filter(attached).filter(holds).collect::<Vec<_>>().into_iter()
}
