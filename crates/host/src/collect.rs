//! One namespace's whole state in one go, and many namespaces in parallel.

use crate::error::Result;
use crate::source::owner::Owners;
use crate::source::{
    address, class, conntrack, ethtool, filter, iptables_legacy, link, neighbour, netnsid, nftables,
    policy_rule, procnet, qdisc, route, socket, softnet, sysctl,
};
use crate::sys::netlink::Netlink;
use crate::sys::netns::Netns;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use whydrop_model::Reading;
use whydrop_model::snapshot::{Link, MachineSnapshot, Snapshot};

/// What reading needs beyond being inside the namespace, where the kernel refuses.
const NET_ADMIN: &str = "CAP_NET_ADMIN";
const SYS_ADMIN: &str = "CAP_SYS_ADMIN";

/// What all namespaces of one run share. It is a picture of its moment: build a new one for each round.
#[derive(Debug)]
pub struct Context {
    /// Who holds which socket.
    pub owners: Owners,
    /// The namespaces that the ids of veth peers are resolved against. The likeliest peers come first.
    pub namespaces: Vec<Netns>,
}

impl Context {
    /// Scans the processes of the machine once, and keeps a handle on each of `namespaces` and on the caller's own.
    /// What cannot be kept is only missing: links into it stay unresolved.
    pub fn read(namespaces: &[&Netns]) -> Self {
        // Most containers have their peer where whydrop runs.
        let own = Netns::current().ok();
        let inode = own.as_ref().map(Netns::inode);
        let others = namespaces.iter().filter(|n| Some(n.inode()) != inode);
        let others = others.filter_map(|n| n.try_clone().ok());
        Self { owners: Owners::scan(), namespaces: own.into_iter().chain(others).collect() }
    }
}

/// Reads one namespace on a thread inside it. The reading is denied without the privilege to enter (CAP_SYS_ADMIN;
/// none is needed for the caller's own); each part of the snapshot has its own status.
pub fn snapshot(namespace: &Netns, context: &Context) -> Reading<Snapshot> {
    namespace.run(|| here(context)).unwrap_or_else(|error| error.reading(SYS_ADMIN))
}

/// Reads each namespace, several at a time; the results stand in the order of `namespaces`.
pub fn snapshots(namespaces: &[&Netns], context: &Context) -> Vec<Reading<Snapshot>> {
    // Reading waits for the kernel's locks, not for its processors, when there are many namespaces.
    let workers = std::thread::available_parallelism().map_or(1, usize::from).saturating_mul(2);
    let next = AtomicUsize::new(0);
    // A worker moves from namespace to namespace and ends in one; nothing else ever runs on its thread.
    let work = || {
        let mut mine = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(namespace) = namespaces.get(index) else { break mine };
            let reading = match namespace.enter() {
                Ok(()) => here(context),
                Err(error) => error.reading(SYS_ADMIN),
            };
            mine.push((index, reading));
        }
    };
    let mut readings: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers.min(namespaces.len())).map(|_| scope.spawn(work)).collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    readings.sort_unstable_by_key(|(index, _)| *index);
    readings.into_iter().map(|(_, reading)| reading).collect()
}

/// Reads what belongs to the whole machine.
pub fn machine() -> MachineSnapshot {
    MachineSnapshot { softnet: reading(softnet::read()) }
}

/// Reads the calling thread's namespace.
fn here(context: &Context) -> Reading<Snapshot> {
    let now = clock_gettime(ClockId::Monotonic);
    // CLOCK_MONOTONIC begins at 0.
    let monotonic_ns = now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs();
    let mut netlink = Netlink::route();
    let mut sysctls = sysctl::read();
    let mut links = over(&mut netlink, |netlink| {
        let read = link::read(netlink)?;
        let mut links = Vec::with_capacity(read.len());
        for entry in read {
            sysctls.extend(entry.settings);
            links.push(entry.link);
        }
        Ok(links)
    });
    if let (Ok(netlink), Ok(links)) = (&mut netlink, &mut links) {
        resolve_peers(netlink, links, context);
    }
    let qdiscs = over(&mut netlink, |netlink| qdisc::read(netlink, known(&links)?));
    let classes = over(&mut netlink, |netlink| class::read(netlink, known(&qdiscs)?));
    let filters = over(&mut netlink, |netlink| filter::read(netlink, known(&qdiscs)?, known(&classes)?));
    let ethtool = known(&links).and_then(|links| ethtool::read(links.iter().map(|l| l.name.as_str())));
    let sockstat = procnet::sockstat();
    let totals = sockstat.as_ref().ok();
    let sockets = Netlink::sock_diag().and_then(|mut diag| socket::read(&mut diag, totals, &context.owners));
    Reading::Present(Snapshot {
        monotonic_ns,
        addresses: reading(over(&mut netlink, address::read)),
        routes: reading(over(&mut netlink, route::read)),
        policy_rules: reading(over(&mut netlink, policy_rule::read)),
        neighbours: reading(over(&mut netlink, neighbour::read)),
        links: reading(links),
        qdiscs: reading(qdiscs),
        classes: reading(classes),
        filters: reading(filters),
        mib: reading(procnet::mib()),
        mib6: reading(procnet::mib6()),
        nftables: nftables::read(),
        iptables_legacy: iptables_legacy::read(false),
        ip6tables_legacy: iptables_legacy::read(true),
        conntrack: reading(conntrack::read()),
        sockets: reading(sockets),
        sockstat: reading(sockstat),
        ethtool: reading(ethtool),
        sysctls,
    })
}

/// Fills in where the other end of each link is that has it in another namespace. A namespace that could not be
/// asked about stays unresolved, like one that nobody knows.
fn resolve_peers(netlink: &mut Netlink, links: &mut [Link], context: &Context) {
    let wanted: BTreeSet<i32> = links.iter().filter_map(|link| link.link_netnsid).collect();
    let inodes = netnsid::resolve(netlink, wanted, &context.namespaces);
    for link in links {
        link.link_netns_inode = link.link_netnsid.and_then(|id| inodes.get(&id).copied());
    }
}

/// Uses a netlink socket, or passes on why there is none.
fn over<T>(netlink: &mut Result<Netlink>, read: impl FnOnce(&mut Netlink) -> Result<T>) -> Result<T> {
    match netlink {
        Ok(netlink) => read(netlink),
        Err(error) => Err(error.clone()),
    }
}

/// What an earlier part read, or why it could not be read: then the part that needs it cannot be read either.
fn known<T>(part: &Result<Vec<T>>) -> Result<&[T]> {
    part.as_deref().map_err(Clone::clone)
}

fn reading<T>(part: Result<T>) -> Reading<T> {
    part.map_or_else(|error| error.reading(NET_ADMIN), Reading::Present)
}
