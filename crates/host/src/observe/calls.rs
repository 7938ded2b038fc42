//! When system calls are watched without being asked for.
//!
//! Whatever a blackhole, unreachable or prohibit route refuses to a program of the same namespace becomes no packet: the
//! look-up fails inside of connect() or sendto(), and no counter moves, no event is made (`fib_lookup` in
//! `ip_route_output_key_hash_rcu`; `ip6_dst_lookup_tail`). Only the call tells. The same goes for a datagram that may not be
//! cut and is too big for a narrow interface or path. To watch calls costs every call of the machine some 50 ns, so that it
//! is done only where something of that kind is in force, or a BPF program is loaded that may refuse calls by itself.

use crate::source::cgroup::Hierarchies;
use crate::sys::bpf;
use std::collections::BTreeSet;
use whydrop_model::flow::FlowLog;
use whydrop_model::snapshot::{Cgroup, Link, PolicyRule, Route};
use whydrop_model::{Reading, Snapshot};

/// RTPROT_KERNEL: the kernel refuses by itself what has no default route (`unreachable default dev lo`, IPv6).
const KERNEL: u8 = 2;
/// Route protocols from here on are those of routing daemons (RTPROT_STATIC is the last of people and scripts): theirs cover
/// what nobody is meant to reach.
const FIRST_OF_DAEMONS: u8 = 5;

/// What a BPF program of a cgroup answers.
const REFUSED: &str = "EPERM";
/// The cgroups of more callers are not looked at.
const MOST_CALLERS: usize = 64;

/// What Ethernet carries: programs that forbid to cut their datagrams rely on it.
const ETHERNET: u32 = 1500;
/// Kinds of interfaces that carry less by their nature, which programs expect.
const TUNNELS: [&str; 12] = [
    "vxlan",
    "geneve",
    "gre",
    "gretap",
    "ip6gre",
    "ipip",
    "sit",
    "ip6tnl",
    "vti",
    "xfrm",
    "wireguard",
    "tun",
];

/// True if something in one of these namespaces refuses what only a failing system call shows.
pub fn alone_tell(snapshots: &[Reading<Snapshot>]) -> bool {
    let here = |snapshot: &Snapshot| {
        snapshot.routes.iter().any(refuses) || snapshot.policy_rules.iter().any(refuses_by_rule)
    };
    let wanted = |route: &Route| {
        let all = snapshots.iter().filter_map(Reading::get);
        all.flat_map(|s| s.addresses.iter())
            .any(|a| whydrop_model::network::contains(route.destination, route.prefix, a.ip))
    };
    let by_daemon = |snapshot: &Snapshot| {
        let theirs = |route: &&Route| route.protocol >= FIRST_OF_DAEMONS && is_refusal(&route.kind);
        snapshot.routes.iter().filter(theirs).any(wanted)
    };
    let narrow = |snapshot: &Snapshot| snapshot.links.iter().any(is_narrow);
    let all = || snapshots.iter().filter_map(Reading::get);
    let tables = all().any(|snapshot| here(snapshot) || by_daemon(snapshot));
    tables || all().any(narrow) || bpf::may_refuse_calls()
}

/// Adds the cgroups of those whose calls were refused: who holds no socket in the end is among no namespace's processes.
pub fn add_cgroups(after: &mut [Reading<Snapshot>], inodes: &[u64], flows: &Reading<FlowLog>) {
    let calls = flows.get().and_then(|log| log.calls.get()).into_iter().flatten();
    let refused: BTreeSet<(u64, &str)> = calls
        .filter(|call| call.error == REFUSED)
        .filter_map(|call| Some((call.netns_inode, call.owner.cgroup.as_deref()?)))
        .take(MOST_CALLERS)
        .collect();
    let Some(hierarchies) = (!refused.is_empty()).then(|| Hierarchies::read().ok()).flatten() else { return };
    for (inode, path) in refused {
        let at = inodes.iter().position(|known| *known == inode);
        let snapshot = at.and_then(|at| after.get_mut(at)).and_then(Reading::get_mut);
        let Some(processes) = snapshot.and_then(|snapshot| snapshot.processes.get_mut()) else { continue };
        for cgroup in hierarchies.around(path) {
            let same = |known: &Cgroup| (&known.hierarchy, &known.path) == (&cgroup.hierarchy, &cgroup.path);
            if !processes.cgroups.iter().any(same) {
                processes.cgroups.push(cgroup);
            }
        }
    }
}

/// True for an interface that takes less than others: a datagram that may not be cut and is larger fails in the call.
fn is_narrow(link: &Link) -> bool {
    let is_tunnel = link.kind.as_deref().is_some_and(|kind| TUNNELS.contains(&kind));
    link.up && !link.loopback && link.mtu < ETHERNET && !is_tunnel
}

fn refuses(route: &Route) -> bool {
    is_refusal(&route.kind) && route.protocol != KERNEL && route.protocol < FIRST_OF_DAEMONS
}

fn refuses_by_rule(rule: &PolicyRule) -> bool {
    is_refusal(&rule.action)
}

fn is_refusal(word: &str) -> bool {
    matches!(word, "blackhole" | "unreachable" | "prohibit")
}
