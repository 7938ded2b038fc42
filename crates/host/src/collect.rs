//! One namespace's whole state in one go, and many namespaces in parallel.

use crate::error::Result;
use crate::source::cgroup::Hierarchies;
use crate::source::link_events::LinkWatch;
use crate::source::owner::Owners;
use crate::source::{
    address, bridge_vlan, class, conntrack, conntrack_entry, device_settings, ethtool, fdb, filter,
    iptables_legacy, link, machine, mdb, multicast, neighbour, netnsid, nf_queue, nftables, policy_rule,
    process, procnet, qdisc, raw_socket, route, socket, softnet, sysctl, wireguard, xfrm,
};
use crate::sys::netlink::Netlink;
use crate::sys::netns::Netns;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use whydrop_model::Reading;
use whydrop_model::snapshot::{Link, MachineSnapshot, Process, Snapshot};

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
    /// Where the cgroups of processes are.
    pub hierarchies: Result<Hierarchies>,
    /// The kernel speaks NETLINK_XFRM.
    pub ipsec: bool,
    /// Read the entries of connection tracking, too: there may be many, and those at the end of the window suffice.
    pub entries: bool,
    /// Processes that have ended in the window.
    pub gone: Vec<Process>,
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
        Self {
            owners: Owners::scan(),
            namespaces: own.into_iter().chain(others).collect(),
            hierarchies: Hierarchies::read(),
            ipsec: xfrm::is_spoken(),
            entries: false,
            gone: vec![],
        }
    }

    /// The same, for the end of the window that began with these readings.
    #[must_use]
    pub fn at_end(self, before: &[Reading<Snapshot>]) -> Self {
        let known = before.iter().filter_map(|snapshot| snapshot.get()?.processes.get());
        let gone = process::gone(known.flat_map(|all| &all.list));
        Self { entries: true, gone, ..self }
    }
}

/// Reads one namespace on a thread inside it. The reading is denied without the privilege to enter (CAP_SYS_ADMIN;
/// none is needed for the caller's own); each part of the snapshot has its own status.
pub fn snapshot(namespace: &Netns, context: &Context) -> Reading<Snapshot> {
    namespace.run(|| here(context)).unwrap_or_else(|error| error.reading(SYS_ADMIN))
}

/// Reads each namespace, several at a time; the results stand in the order of `namespaces`.
pub fn snapshots(namespaces: &[&Netns], context: &Context) -> Vec<Reading<Snapshot>> {
    in_each(namespaces, || here(context))
}

/// Opens an ear for changes of interfaces in each namespace.
pub fn link_watches(namespaces: &[&Netns]) -> Vec<Reading<LinkWatch>> {
    in_each(namespaces, || reading(LinkWatch::open()))
}

/// Does `work` inside each namespace, several at a time; the results stand in the order of `namespaces`.
pub(crate) fn in_each<T: Send>(
    namespaces: &[&Netns],
    work: impl Fn() -> Reading<T> + Sync,
) -> Vec<Reading<T>> {
    // Reading waits for the kernel's locks, not for its processors, when there are many namespaces.
    let workers = std::thread::available_parallelism().map_or(1, usize::from).saturating_mul(2);
    let next = AtomicUsize::new(0);
    // A worker moves from namespace to namespace and ends in one; nothing else ever runs on its thread.
    let worker = || {
        let mut mine = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(namespace) = namespaces.get(index) else { break mine };
            let reading = match namespace.enter() {
                Ok(()) => work(),
                Err(error) => error.reading(SYS_ADMIN),
            };
            mine.push((index, reading));
        }
    };
    let mut readings: Vec<_> = std::thread::scope(|scope| {
        // At a limit of threads fewer do the work.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, worker).ok();
        let handles: Vec<_> = (0..workers.min(namespaces.len())).filter_map(start).collect();
        handles
            .into_iter()
            .flat_map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    if readings.is_empty() {
        let failed = || Reading::Failed("no thread could be started".to_owned());
        return namespaces.iter().map(|_| failed()).collect();
    }
    readings.sort_unstable_by_key(|(index, _)| *index);
    readings.into_iter().map(|(_, reading)| reading).collect()
}

/// Reads what belongs to the whole machine.
pub fn machine() -> MachineSnapshot {
    MachineSnapshot {
        softnet: reading(softnet::read()),
        softirqs: reading(machine::softirqs()),
        cpu_times: reading(machine::cpu_times()),
        load: reading(machine::load()),
        pressure: reading(machine::pressure()),
        oom_kills: reading(machine::oom_kills()),
        neighbour_tables: reading(machine::neighbour_tables()),
        sysctls: machine::sysctls(),
    }
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
    let mut diag = Netlink::sock_diag();
    let sockets = over(&mut diag, |diag| socket::read(diag, totals, &context.owners));
    let raw_sockets = over(&mut diag, |diag| raw_socket::read(diag, totals, &context.owners));
    let holders = || sockets.iter().chain(&raw_sockets).flatten().flat_map(|socket| &socket.owners);
    // Without all sockets some processes are missing: then it is not said that these are all.
    let processes = known(&sockets).and(known(&raw_sockets)).map(|_| {
        let pids: BTreeSet<u32> = holders().map(|owner| owner.pid).collect();
        process::read(&pids, &context.gone, &context.owners, &context.hierarchies)
    });
    let conntrack = conntrack::read();
    let conntrack_entries = match (context.entries, &conntrack) {
        (true, Ok(table)) => reading(conntrack_entry::read(table.count)),
        (true, Err(error)) => error.reading(NET_ADMIN),
        (false, _) => Reading::Absent("read at the end of the window".to_owned()),
    };
    let (mdb, router_ports) = split(over(&mut netlink, |netlink| mdb::read(netlink, known(&links)?)));
    let bridge_vlans = over(&mut netlink, |netlink| bridge_vlan::read(netlink, known(&links)?));
    let fdb = known(&links).and_then(fdb::read);
    let device_settings = known(&links).and_then(device_settings::read);
    let wireguard = known(&links).and_then(wireguard::read);
    let (routes, route_exceptions) = split(over(&mut netlink, route::read));
    Reading::Present(Snapshot {
        monotonic_ns,
        addresses: reading(over(&mut netlink, address::read)),
        routes: reading(routes),
        route_exceptions: reading(route_exceptions),
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
        conntrack: reading(conntrack),
        sockets: reading(sockets),
        sockstat: reading(sockstat),
        ethtool: reading(ethtool),
        raw_sockets: reading(raw_sockets),
        processes: reading(processes),
        conntrack_entries,
        nf_queues: reading(nf_queue::read(&context.owners)),
        groups: reading(multicast::groups()),
        group_sources: reading(multicast::sources()),
        xfrm: reading(xfrm::read(context.ipsec)),
        xfrm_stat: reading(xfrm::statistics()),
        fdb: reading(fdb),
        mdb: reading(mdb),
        router_ports: reading(router_ports),
        bridge_vlans: reading(bridge_vlans),
        wireguard: reading(wireguard),
        device_settings: reading(device_settings),
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
pub(crate) fn over<T>(
    netlink: &mut Result<Netlink>,
    read: impl FnOnce(&mut Netlink) -> Result<T>,
) -> Result<T> {
    match netlink {
        Ok(netlink) => read(netlink),
        Err(error) => Err(error.clone()),
    }
}

/// What an earlier part read, or why it could not be read: then the part that needs it cannot be read either.
fn known<T>(part: &Result<Vec<T>>) -> Result<&[T]> {
    part.as_deref().map_err(Clone::clone)
}

/// Two parts that were read as one.
fn split<A, B>(both: Result<(A, B)>) -> (Result<A>, Result<B>) {
    match both {
        Ok((a, b)) => (Ok(a), Ok(b)),
        Err(error) => (Err(error.clone()), Err(error)),
    }
}

/// A part of a namespace as a reading.
pub(crate) fn reading<T>(part: Result<T>) -> Reading<T> {
    part.map_or_else(|error| error.reading(NET_ADMIN), Reading::Present)
}
