//! When system calls are watched without being asked for.
//!
//! Whatever a blackhole, unreachable or prohibit route refuses to a program of the same namespace becomes no packet: the
//! look-up fails inside of connect() or sendto(), and no counter moves, no event is made (`fib_lookup` in
//! `ip_route_output_key_hash_rcu`; `ip6_dst_lookup_tail`). Only the call tells. The same goes for a datagram that may not be
//! cut and is too big for a narrow interface or path. To watch calls costs every call of the machine some 50 ns, so that it
//! is done only where something of that kind is in force.

use whydrop_model::snapshot::{Link, PolicyRule, Protocol, Route};
use whydrop_model::{Reading, Snapshot};

/// RTPROT_KERNEL: the kernel refuses by itself what has no default route (`unreachable default dev lo`, IPv6).
const KERNEL: u8 = 2;
/// Route protocols from here on are those of routing daemons (RTPROT_STATIC is the last of people and scripts): theirs cover
/// what nobody is meant to reach.
const FIRST_OF_DAEMONS: u8 = 5;

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
    let sends = |snapshot: &Snapshot| snapshot.sockets.iter().any(|s| s.protocol == Protocol::Udp);
    let all = || snapshots.iter().filter_map(Reading::get);
    all().any(|snapshot| here(snapshot) || by_daemon(snapshot)) || (all().any(narrow) && all().any(sends))
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
