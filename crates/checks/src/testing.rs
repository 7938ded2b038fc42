//! Hand-made observations for tests: a client and a server joined by a veth, 10.0.0.1 and 10.0.0.2, all well.

use crate::evidence::case::Case;
use crate::evidence::flow::Flow;
use crate::evidence::index::Index;
use crate::evidence::verdicts::Verdicts;
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_model::bundle::NamespaceEvidence;
use whydrop_model::drops::{DropCount, DropEvent, DropLog, SocketOwner};
use whydrop_model::flow::{Conversation, FlowDirection, FlowLog, Signal};
use whydrop_model::netfilter::{Chain, Family, Hook, Match, Rule, RuleVerdict, Tool};
use whydrop_model::snapshot::*;
use whydrop_model::{Bounded, Entry, Observation, ProbeResult, Reading, Report, Role, Target, TargetKind};

/// Index of the client's namespace.
pub const CLIENT: usize = 0;
/// Index of the server's namespace.
pub const SERVER: usize = 1;
/// Index of a third host's namespace, where there is one.
pub const OTHER: usize = 2;
/// Index of the namespace that joins them by a bridge, where there is one.
pub const HOST: usize = 3;

/// An observation under construction.
pub struct World {
    /// The observation.
    pub observation: Observation,
}

impl World {
    /// Client (vantage) and server (target), eth0 each, index 2, a web server on port 80.
    pub fn pair() -> Self {
        let namespaces = vec![
            evidence("client", 4001, Role::Vantage, snapshot("10.0.0.1", 4002)),
            evidence("server", 4002, Role::Target, snapshot("10.0.0.2", 4001)),
        ];
        let machine = machine();
        let log = DropLog { step: "tp_btf".into(), seconds: 3.0, ..DropLog::default() };
        let watched =
            Signal::ALL.map(|signal| (signal.tracepoint().to_owned(), Reading::Present(()))).into_iter();
        Self {
            observation: Observation {
                hostname: "test".into(),
                kernel: "6.18".into(),
                started_at: "2026-01-31T12:00:00Z".into(),
                window_ns: 3_000_000_000,
                machine: [machine.clone(), machine],
                namespaces,
                drops: Reading::Present(log),
                flows: Reading::Present(FlowLog::new(watched.collect())),
                probes: vec![],
                probe_skips: vec![],
                silent_engines: vec![],
                history: Reading::not_recorded(),
                unheard: vec![],
            },
        }
    }

    /// Client, server and a third host, 10.0.0.3, joined by the bridge br0 (index 10) of a host: its ports are p0, p1
    /// and p2 (indices 11, 12, 13). All but the client are targets.
    pub fn bridged() -> Self {
        let mut world = Self::pair();
        let mut host = snapshot("10.0.0.254", 0);
        let mut bridge = veth(10, "br0", 0);
        (bridge.kind, bridge.link, bridge.link_netnsid) = (Some("bridge".into()), None, None);
        bridge.link_netns_inode = None;
        let Reading::Present(links) = &mut host.links else { return world };
        links.retain(|link| link.loopback);
        links.push(bridge);
        for (number, inode) in [(0, 4001), (1, 4002), (2, 4003)] {
            let port = veth(11 + number, &format!("p{number}"), inode);
            let details = [("port_state".to_owned(), "forwarding".to_owned())].into();
            links.push(Link { link: Some(2), master: Some(10), details, ..port });
        }
        if let Reading::Present(addresses) = &mut host.addresses {
            addresses.iter_mut().for_each(|address| address.link = 10);
        }
        host.routes = Reading::Present(vec![route("10.0.0.0/24", "unicast", None, Some(10))]);
        world.observation.namespaces.extend([
            evidence("other", 4003, Role::Target, snapshot("10.0.0.3", 4000)),
            evidence("host", 4000, Role::Target, host),
        ]);
        for (index, port) in [(CLIENT, 11), (SERVER, 12), (OTHER, 13)] {
            world.both(index, |s| {
                let Reading::Present(links) = &mut s.links else { return };
                for link in links.iter_mut().filter(|link| link.index == 2) {
                    link.mac = veth(2, "eth0", 4001 + index as u64).mac;
                    (link.link, link.link_netns_inode) = (Some(port), Some(4000));
                }
            });
        }
        world
    }

    /// Changes both snapshots of a namespace.
    pub fn both(&mut self, index: usize, change: impl Fn(&mut Snapshot)) -> &mut Self {
        let evidence = &mut self.observation.namespaces[index];
        for reading in [&mut evidence.before, &mut evidence.after] {
            if let Reading::Present(snapshot) = reading {
                change(snapshot);
            }
        }
        self
    }

    /// Changes the second snapshot of a namespace.
    pub fn after(&mut self, index: usize, change: impl Fn(&mut Snapshot)) -> &mut Self {
        if let Reading::Present(snapshot) = &mut self.observation.namespaces[index].after {
            change(snapshot);
        }
        self
    }

    /// A counter of snmp or netstat rises by `n` in the window.
    pub fn rises(&mut self, index: usize, name: &str, n: u64) -> &mut Self {
        self.after(index, |s| {
            if let Reading::Present(mib) = &mut s.mib {
                *mib.entry(name.to_owned()).or_insert(0) += n;
            }
        });
        let before = &mut self.observation.namespaces[index].before;
        if let Reading::Present(Snapshot { mib: Reading::Present(mib), .. }) = before {
            mib.entry(name.to_owned()).or_insert(0);
        }
        self
    }

    /// Drop events.
    pub fn drops(&mut self, index: usize, reason: &str, function: &str, n: u64) -> &mut Self {
        let netns_inode = Some(self.observation.namespaces[index].target.netns_inode);
        if let Reading::Present(log) = &mut self.observation.drops {
            log.counts.push(DropCount {
                reason: reason.into(),
                function: function.into(),
                netns_inode,
                link: Some(2),
                interface: Some("eth0".into()),
                protocol: Some(6),
                drops: n,
                ..DropCount::default()
            });
        }
        self
    }

    /// A chain with rules whose counters rise; `(rule, rise)`.
    pub fn chain(&mut self, index: usize, chain: Chain, rises: &[u64]) -> &mut Self {
        self.both(index, |s| {
            if let Reading::Present(chains) = &mut s.nftables {
                chains.push(chain.clone());
            }
        });
        self.after(index, |s| {
            if let Reading::Present(chains) = &mut s.nftables {
                let last = chains.last_mut().unwrap();
                for (rule, rise) in last.rules.iter_mut().zip(rises) {
                    rule.packets = rule.packets.map(|n| n + rise);
                }
            }
        })
    }

    /// A probe from the client.
    pub fn probe(&mut self, url: &str, transmitted: u64, lost: u64) -> &mut ProbeResult {
        self.observation.probes.push(probe(url, transmitted, lost));
        self.observation.probes.last_mut().unwrap()
    }

    /// A conversation that a program of a namespace began, of which the kernel told nothing bad yet; TCP.
    pub fn talk(&mut self, index: usize, remote: &str) -> &mut Conversation {
        let target = &self.observation.namespaces[index];
        let own = target.after.get().unwrap().addresses.get().unwrap().first().unwrap().ip;
        let remote: std::net::SocketAddr = remote.parse().unwrap();
        let local = if remote.ip().is_loopback() { remote.ip() } else { own };
        let owner = SocketOwner { pid: Some(77), comm: Some("curl".into()), cgroup: None };
        let inode = target.target.netns_inode;
        let talk = Conversation {
            uid: Some(0),
            owner: Some(owner),
            last_ns: 3_000_000_000,
            ..Conversation::between(inode, 6, FlowDirection::Out, (local, 0).into(), remote)
        };
        let Reading::Present(log) = &mut self.observation.flows else { panic!("flows") };
        log.conversations.push(talk);
        log.conversations.last_mut().unwrap()
    }

    /// The program that talks with this address goes on after the window, under this number; none if it has ended.
    pub fn program(&mut self, index: usize, remote: &str, program: Option<u32>) -> &mut Self {
        let inode = self.observation.namespaces[index].target.netns_inode;
        let Reading::Present(log) = &mut self.observation.flows else { panic!("flows") };
        let mut talks = log.conversations.iter_mut();
        let talk = talks.find(|talk| talk.netns_inode == inode && Some(talk.remote) == remote.parse().ok());
        talk.expect("it talks").program = program;
        self
    }

    /// A program of a namespace is refused so many times, and each time the kernel there drops its request.
    pub fn refuses(&mut self, from: usize, at: usize, remote: &str, n: u64) -> &mut Self {
        let talk = self.talk(from, remote);
        (talk.attempts, talk.failed, talk.reset_received) = (n, n, n);
        talk.errors.insert("ECONNREFUSED".into(), n);
        let local = std::net::SocketAddr::new(talk.local.ip(), 40_000);
        let like = DropEvent {
            reason: "NO_SOCKET".into(),
            function: "tcp_v4_rcv".into(),
            protocol: Some(6),
            tcp_flags: Some(2),
            source: Some(local),
            destination: remote.parse().ok(),
            link: Some(2),
            netns_inode: Some(self.observation.namespaces[at].target.netns_inode),
            ..DropEvent::default()
        };
        self.drops(at, "NO_SOCKET", "tcp_v4_rcv", n);
        if let Reading::Present(log) = &mut self.observation.drops {
            log.counts.last_mut().unwrap().tcp_flags = Some(2);
            log.sampled.extend(std::iter::repeat_n(like, n as usize));
        }
        self
    }

    /// Adds a socket that listens on the server.
    pub fn listens(&mut self, index: usize, protocol: Protocol, address: &str) -> &mut Self {
        self.both(index, |s| {
            if let Reading::Present(sockets) = &mut s.sockets {
                sockets.push(socket(protocol, address));
            }
        })
    }

    /// Looks at the case.
    pub fn with<R>(&self, look: impl FnOnce(Case<'_>) -> R) -> R {
        let index = Index::of(&self.observation);
        let bare = Case::bare(&self.observation, &index);
        let (flows, seen) = Flow::gather(bare);
        let losses = crate::loss::gather(Case { seen: Some(&seen), ..bare }, &flows);
        let verdicts = Verdicts::of(Case { flows: &flows, losses: &losses, ..bare }, &losses, &flows);
        look(Case { flows: &flows, losses: &losses, seen: Some(&seen), verdicts: Some(&verdicts), ..bare })
    }

    /// The report.
    pub fn report(&self) -> Report {
        crate::judge(&self.observation)
    }

    /// Causes and subjects of the findings, in order of their names; `cause @ target: subject`.
    pub fn found(&self) -> Vec<String> {
        let report = self.report();
        let mut out: Vec<String> =
            report.findings.iter().map(|f| format!("{} @ {}: {}", f.cause, f.target, f.subject)).collect();
        out.sort();
        out
    }
}

fn evidence(name: &str, inode: u64, role: Role, snapshot: Snapshot) -> NamespaceEvidence {
    NamespaceEvidence {
        target: Target {
            id: format!("netns:{name}"),
            kind: TargetKind::Netns,
            name: name.into(),
            netns_inode: inode,
            pid: None,
            container: None,
            role,
            entry: Entry::Path(format!("/run/netns/{name}")),
            tenants: vec![],
        },
        aliases: vec![],
        before: Reading::Present(snapshot.clone()),
        after: Reading::Present(snapshot),
        link_events: Reading::Present(Bounded { items: vec![], more: false }),
    }
}

/// A machine at rest.
pub fn machine() -> MachineSnapshot {
    MachineSnapshot {
        softnet: Reading::Present(vec![]),
        softirqs: Reading::Present(BTreeMap::new()),
        cpu_times: Reading::Present(vec![]),
        load: Reading::Present((0.1, 0.1, 0.1)),
        pressure: Reading::Absent("no PSI".into()),
        oom_kills: Reading::Present(0),
        neighbour_tables: Reading::Present(BTreeMap::new()),
        sysctls: BTreeMap::new(),
    }
}

/// A veth end with this index, whose peer has the same index in the other namespace.
pub fn veth(index: u32, name: &str, peer_inode: u64) -> Link {
    Link {
        index,
        name: name.into(),
        kind: Some("veth".into()),
        mac: Some(format!("02:00:00:00:{:02x}:{index:02x}", peer_inode % 256)),
        mtu: 1500,
        up: true,
        lower_up: true,
        loopback: false,
        operstate: "up".into(),
        carrier_changes: Some(2),
        master: None,
        link: Some(index),
        link_netnsid: Some(0),
        link_netns_inode: Some(peer_inode),
        txqlen: Some(1000),
        xdp: None,
        stats: Counters::from([("rx_packets".to_owned(), 0), ("tx_packets".to_owned(), 0)]),
        details: BTreeMap::new(),
    }
}

fn snapshot(ip: &str, peer_inode: u64) -> Snapshot {
    let mut lo = veth(1, "lo", 0);
    (lo.kind, lo.loopback, lo.link, lo.link_netnsid, lo.link_netns_inode) = (None, true, None, None, None);
    let ip: IpAddr = ip.parse().unwrap();
    let address = Address { link: 2, ip, prefix: 24, flags: vec![] };
    Snapshot {
        monotonic_ns: 0,
        links: Reading::Present(vec![lo, veth(2, "eth0", peer_inode)]),
        addresses: Reading::Present(vec![address]),
        routes: Reading::Present(vec![route("10.0.0.0/24", "unicast", None, Some(2))]),
        route_exceptions: Reading::Present(vec![]),
        policy_rules: Reading::Present(vec![]),
        neighbours: Reading::Present(vec![]),
        qdiscs: Reading::Present(vec![]),
        classes: Reading::Present(vec![]),
        filters: Reading::Present(vec![]),
        mib: Reading::Present(Counters::from([("Ip.InReceives".to_owned(), 0)])),
        mib6: Reading::Present(BTreeMap::new()),
        sockstat: Reading::Present(BTreeMap::new()),
        nftables: Reading::Present(vec![]),
        iptables_legacy: Reading::Absent("no table".into()),
        ip6tables_legacy: Reading::Absent("no table".into()),
        conntrack: Reading::Absent("nf_conntrack is not loaded".into()),
        sockets: Reading::Present(vec![socket(Protocol::Tcp, "0.0.0.0:80")]),
        raw_sockets: Reading::Present(vec![]),
        processes: Reading::Present(Processes { list: vec![], more: false, cgroups: vec![] }),
        conntrack_entries: Reading::Absent("nf_conntrack is not loaded".into()),
        nf_queues: Reading::Absent("nfnetlink_queue is not loaded".into()),
        groups: Reading::Present(vec![]),
        group_sources: Reading::Present(vec![]),
        xfrm: Reading::Absent("xfrm_user is not loaded".into()),
        xfrm_stat: Reading::Present(BTreeMap::new()),
        fdb: Reading::Present(Bounded { items: vec![], more: false }),
        mdb: Reading::Present(Bounded { items: vec![], more: false }),
        router_ports: Reading::Present(vec![]),
        bridge_vlans: Reading::Present(vec![]),
        wireguard: Reading::Present(vec![]),
        ethtool: Reading::Present(BTreeMap::new()),
        device_settings: Reading::Present(BTreeMap::new()),
        sysctls: BTreeMap::new(),
    }
}

/// A route of the main table.
pub fn route(network: &str, kind: &str, gateway: Option<&str>, link: Option<u32>) -> Route {
    let (ip, prefix) = network.split_once('/').unwrap();
    let gateway = gateway.map(|g| g.parse().unwrap());
    let hop = NextHop { gateway, link, weight: 1, flags: vec![] };
    Route {
        destination: ip.parse().unwrap(),
        prefix: prefix.parse().unwrap(),
        kind: kind.into(),
        table: 254,
        metric: 0,
        next_hops: if kind == "unicast" { vec![hop] } else { vec![] },
        source: None,
        mtu: None,
        protocol: 3,
        scope: 0,
    }
}

/// A policy rule without any condition.
pub fn policy_rule(priority: u32, action: &str, table: Option<u32>) -> PolicyRule {
    PolicyRule {
        family: 4,
        priority,
        action: action.into(),
        table,
        from: None,
        to: None,
        iif: None,
        oif: None,
        fwmark: None,
        conditions: vec![],
    }
}

/// A fixed forwarding entry of a bridge's port; the bridge is number 10.
pub fn fdb_entry(port: u32, mac: &str) -> FdbEntry {
    FdbEntry {
        link: port,
        master: Some(10),
        mac: mac.into(),
        vlan: None,
        remote: None,
        port: None,
        vni: None,
        state: "static".into(),
        flags: vec![],
        used_ms: None,
        updated_ms: None,
    }
}

/// A neighbour on eth0.
pub fn neighbour(ip: &str, mac: Option<&str>, state: &str) -> Neighbour {
    Neighbour {
        link: 2,
        ip: ip.parse().unwrap(),
        mac: mac.map(Into::into),
        state: state.into(),
        flags: vec![],
        probes: None,
        confirmed_ms: None,
        used_ms: None,
        updated_ms: None,
    }
}

/// A listening socket.
pub fn socket(protocol: Protocol, address: &str) -> Socket {
    let local: std::net::SocketAddr = address.parse().unwrap();
    let any = if local.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    Socket {
        protocol,
        state: if protocol == Protocol::Tcp { "listen".into() } else { "close".into() },
        local,
        remote: any.parse().unwrap(),
        v6only: local.is_ipv6().then_some(false),
        link: 0,
        inode: 99,
        cookie: u64::from(local.port()),
        receive_queue: 0,
        send_queue: 511,
        drops: Some(0),
        receive_buffer: Some(212_992),
        send_buffer: Some(212_992),
        uid: 0,
        owners: vec![Owner { pid: 7, comm: "nginx".into() }],
        mark: None,
        tos: None,
        cgroup: None,
        tcp: None,
    }
}

/// The process that holds the sockets of these tests (pid 7, nginx), asleep as servers are; in the cgroup `/web`.
pub fn process(state: ProcessState) -> Process {
    Process {
        pid: 7,
        started: 1000,
        comm: "nginx".into(),
        state,
        threads: 1,
        thread_states: BTreeMap::from([(state, 1)]),
        wchan: Reading::Present(String::new()),
        waits: BTreeMap::new(),
        runs: None,
        works_on: None,
        resolvers: vec![],
        cpu_ticks: 50,
        descriptors: Reading::Present(Descriptors { open: 10, limit: Some(1024) }),
        cgroups: Reading::Present(BTreeMap::from([(String::new(), "/web".to_owned())])),
    }
}

/// A cgroup of the unified hierarchy.
pub fn cgroup(path: &str, frozen: bool) -> Cgroup {
    Cgroup {
        hierarchy: String::new(),
        path: path.to_owned(),
        id: None,
        frozen: Reading::Present(frozen),
        cpu: Reading::not_recorded(),
        memory: Reading::not_recorded(),
        tasks: Reading::not_recorded(),
        pressure: BTreeMap::new(),
        programs: Reading::not_recorded(),
    }
}

/// A probe from the client to the server.
pub fn probe(url: &str, transmitted: u64, lost: u64) -> ProbeResult {
    let host = url.split("://").nth(1).unwrap().split('/').next().unwrap();
    let host = host.rsplit_once(':').map_or(host, |(h, _)| h).trim_matches(['[', ']']);
    ProbeResult {
        url: url.into(),
        from: "netns:client".into(),
        address: Some(host.parse().unwrap()),
        method: if url.starts_with("tcp") { "syn".into() } else { url.split(':').next().unwrap().into() },
        transmitted,
        received: transmitted - lost,
        lost,
        loss: Some(lost as f64 / transmitted.max(1) as f64),
        ..ProbeResult::default()
    }
}

/// An iptables chain of the filter table.
pub fn chain(name: &str, hook: Hook, policy: RuleVerdict, rules: Vec<Rule>) -> Chain {
    let rules = rules.into_iter().zip(1..).map(|(r, position)| Rule {
        position,
        handle: Some(u64::from(position) + 3),
        ..r
    });
    Chain {
        tool: Tool::IptablesNft,
        family: Family::Ip,
        table: "filter".into(),
        name: name.into(),
        hook: Some(hook),
        device: None,
        priority: Some(0),
        policy: Some(policy),
        nat: false,
        policy_packets: Some(0),
        rules: rules.collect(),
    }
}

/// A rule with a counter that stands at `packets`.
pub fn rule(text: &str, verdict: RuleVerdict, packets: Option<u64>, matches: Vec<Match>) -> Rule {
    Rule {
        position: 0,
        handle: None,
        packets,
        bytes: packets,
        verdict,
        matches,
        comment: None,
        text: text.into(),
    }
}

/// A qdisc at the root of eth0 with so many drops.
pub fn qdisc(kind: &str, drops: u32, options: QdiscOptions) -> Qdisc {
    let stats = QueueStats { drops, ..QueueStats::default() };
    Qdisc { link: 2, kind: kind.into(), handle: 0x800d_0000, parent: 0xffff_ffff, stats, options }
}

/// An IPsec policy for what goes between these networks, without ports.
pub fn xfrm_policy(direction: &str, source: (&str, u8), destination: (&str, u8)) -> XfrmPolicy {
    let network = |(ip, prefix): (&str, u8)| (ip.parse().unwrap(), prefix);
    XfrmPolicy {
        direction: direction.into(),
        selector: XfrmSelector {
            source: network(source),
            destination: network(destination),
            protocol: 0,
            source_port: (0, 0),
            destination_port: (0, 0),
            link: 0,
        },
        block: false,
        priority: 0,
        index: 1,
        mark: None,
        if_id: None,
        templates: vec![],
    }
}
