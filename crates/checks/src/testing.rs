//! Hand-made observations for tests: a client and a server joined by a veth, 10.0.0.1 and 10.0.0.2, all well.

use crate::case::Case;
use crate::way::Way;
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_model::bundle::NamespaceEvidence;
use whydrop_model::drops::{DropCount, DropLog};
use whydrop_model::netfilter::{Chain, Family, Hook, Match, Rule, RuleVerdict, Tool};
use whydrop_model::snapshot::*;
use whydrop_model::{Entry, Observation, ProbeResult, Reading, Report, Role, Target, TargetKind};

/// Index of the client's namespace.
pub const CLIENT: usize = 0;
/// Index of the server's namespace.
pub const SERVER: usize = 1;

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
        let machine = MachineSnapshot { softnet: Reading::Present(vec![]) };
        let log = DropLog { step: "tp_btf".into(), seconds: 3.0, ..DropLog::default() };
        Self {
            observation: Observation {
                hostname: "test".into(),
                kernel: "6.18".into(),
                started_at: "2026-01-31T12:00:00Z".into(),
                window_ns: 3_000_000_000,
                machine: [machine.clone(), machine],
                namespaces,
                drops: Reading::Present(log),
                probes: vec![],
                probe_skips: vec![],
            },
        }
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
        let bare = Case { observation: &self.observation, ways: &[] };
        let probes = self.observation.probes.iter().enumerate();
        let ways: Vec<Way<'_>> = probes.map(|(i, p)| Way::of(bare, i, p)).collect();
        look(Case { observation: &self.observation, ways: &ways })
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
        },
        aliases: vec![],
        before: Reading::Present(snapshot.clone()),
        after: Reading::Present(snapshot),
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
        stats: BTreeMap::new(),
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
        policy_rules: Reading::Present(vec![]),
        neighbours: Reading::Present(vec![]),
        qdiscs: Reading::Present(vec![]),
        classes: Reading::Present(vec![]),
        filters: Reading::Present(vec![]),
        mib: Reading::Present(BTreeMap::new()),
        mib6: Reading::Present(BTreeMap::new()),
        sockstat: Reading::Present(BTreeMap::new()),
        nftables: Reading::Present(vec![]),
        iptables_legacy: Reading::Absent("no table".into()),
        ip6tables_legacy: Reading::Absent("no table".into()),
        conntrack: Reading::Absent("nf_conntrack is not loaded".into()),
        sockets: Reading::Present(vec![socket(Protocol::Tcp, "0.0.0.0:80")]),
        ethtool: Reading::Present(BTreeMap::new()),
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
        uid: 0,
        owners: vec![Owner { pid: 7, comm: "nginx".into() }],
    }
}

/// A probe from the client to the server.
pub fn probe(url: &str, transmitted: u64, lost: u64) -> ProbeResult {
    let host = url.split("://").nth(1).unwrap().split('/').next().unwrap();
    let host = host.rsplit_once(':').map_or(host, |(h, _)| h);
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
