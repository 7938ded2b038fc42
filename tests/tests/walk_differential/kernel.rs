//! The namespaces, and what the kernel made of a packet: counters of all rules, and arrival.

use super::packets::Sent;
use super::rulesets::Backend;
use rustix::net::{AddressFamily, SendFlags, SocketAddrV4, SocketType, ipproto, sendto, socket};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;
use whydrop_checks::evidence::walk::RuleAt;
use whydrop_host::Netns;
use whydrop_host::collect::{Context, snapshot};
use whydrop_host::source::{conntrack_entry, iptables_legacy, nftables};
use whydrop_model::conntrack::Tuple;
use whydrop_model::netfilter::{Chain, Tool};
use whydrop_model::{Reading, Snapshot};
use whydrop_tests::Namespace;

/// The table of the test itself: it sees every packet first, catches what comes in, and holds answers back.
pub const CATCH: &str = "wd_catch";

/// First of the ports from which packets are sent.
const FIRST_PORT: u16 = 20_000;

/// Where a rule stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(Tool, String, String, u32);

impl Count {
    pub fn of(at: &RuleAt<'_>) -> Self {
        Self(at.chain.tool, at.chain.table.clone(), at.chain.name.clone(), at.rule.position)
    }
}

/// What became of a packet.
#[derive(Debug)]
pub struct Seen {
    /// Rules whose counter rose.
    pub rose: BTreeSet<Count>,
    /// The router got it.
    pub came: bool,
    /// It came to the far side, or to the router itself.
    pub arrived: bool,
}

/// A client, a router and a server.
pub struct Net {
    router: Namespace,
    _ends: [Namespace; 2],
    netns: [Netns; 3],
    sockets: [OwnedFd; 2],
    port: Cell<u16>,
    id: Cell<u16>,
    legacy: Cell<bool>,
}

/// What was counted before a packet was sent.
pub struct Before {
    counts: Counts,
    arrived: u64,
}

type Counts = BTreeMap<Count, u64>;

impl Net {
    pub fn build(word: &str) -> Self {
        let [client, router, server] =
            ["c", "r", "s"].map(|end| Namespace::new(&format!("walk-{word}-{end}")));
        let link = "type veth peer name eth0 netns";
        for place in [&client, &router, &server] {
            // Neighbour discovery would be counted, too.
            place.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
        }
        router.run(&format!("ip link add left {link} {}", client.name()));
        router.run(&format!("ip link add right {link} {}", server.name()));
        for (end, side, net, far) in [(&client, "left", 1, 4), (&server, "right", 2, 3)] {
            for (place, dev, host) in [(end, "eth0", 1), (&router, side, 254)] {
                place.run(&format!("ip address add 10.9.{net}.{host}/24 dev {dev}"));
                place.run(&format!("ip link set {dev} up"));
            }
            end.run(&format!("ip route add default via 10.9.{net}.254"));
            router.run(&format!("ip route add 10.9.{far}.0/24 via 10.9.{net}.1"));
        }
        // On a busy machine minutes may lie between a request and its answer.
        let patient = "net.netfilter.nf_conntrack_udp_timeout=600";
        for sysctl in [
            "net.ipv4.ip_forward=1",
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.left.rp_filter=0",
            patient,
        ] {
            router.run(&format!("sysctl -qw {sysctl}"));
        }
        let pass = "type filter hook prerouting priority -500 ; counter";
        apply(&server, "nft -f", &format!("table inet {CATCH} {{ chain entry {{ {pass} drop ; }} ; }}"));
        apply(&client, "nft -f", &format!("table inet {CATCH} {{ chain entry {{ {pass} drop ; }} ; }}"));
        let open = |place: &Namespace| {
            Netns::open(&Path::new("/run/netns").join(place.name())).expect("a namespace that was just made")
        };
        let netns = [open(&client), open(&router), open(&server)];
        let raw = |netns: &Netns| {
            let socket = || socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW));
            netns.run(socket).expect("a thread").expect("a raw socket")
        };
        let sockets = [raw(&netns[0]), raw(&netns[2])];
        // Neighbours, before anything catches their answers.
        for (end, net) in [(&client, 1), (&server, 2)] {
            let mac = |place: &Namespace, dev: &str| {
                place.run(&format!("cat /sys/class/net/{dev}/address")).trim().to_owned()
            };
            let side = if net == 1 { "left" } else { "right" };
            let (own, there) = (mac(end, "eth0"), mac(&router, side));
            end.run(&format!("ip neigh replace 10.9.{net}.254 lladdr {there} dev eth0 nud permanent"));
            router.run(&format!("ip neigh replace 10.9.{net}.1 lladdr {own} dev {side} nud permanent"));
        }
        Self {
            router,
            _ends: [client, server],
            netns,
            sockets,
            port: Cell::new(FIRST_PORT),
            id: Cell::new(1),
            legacy: Cell::new(false),
        }
    }

    /// A port that no packet came from yet.
    pub fn next_port(&self) -> u16 {
        let port = self.port.get();
        self.port.set(port.checked_add(1).unwrap_or(FIRST_PORT));
        port
    }

    /// True if it is not the router's own.
    pub fn is_routed(&self, ip: Ipv4Addr) -> bool {
        ip.octets()[2] == 3
    }

    /// Replaces the router's rules.
    pub fn load(&self, backend: Backend, script: &str) {
        let catch = format!(
            "flush ruleset
            table inet {CATCH} {{
                chain entry {{ type filter hook prerouting priority -500 ; counter ; }}
                chain own {{ type filter hook output priority -500 ; drop ; }}
                chain caught {{ type filter hook input priority 10000 ; counter drop ; }}
            }}"
        );
        apply(&self.router, "nft -f", &catch);
        apply(&self.router, backend.restore(), script);
        self.legacy.set(backend == Backend::IptablesLegacy);
    }

    pub fn snapshot(&self) -> Snapshot {
        match snapshot(&self.netns[1], &Context::read(&[])) {
            Reading::Present(snapshot) => snapshot,
            other => panic!("{other:?}"),
        }
    }

    /// True if the router knows the connection of a packet: it passed all hooks, and was tracked.
    pub fn tracks(&self, sent: &Sent) -> bool {
        let entries = self.netns[1].run(|| conntrack_entry::read(u64::MAX)).expect("a thread");
        let mine = |tuple: &Tuple| {
            (tuple.source, tuple.source_port) == (sent.source.into(), sent.ports.0)
                && (tuple.destination, tuple.destination_port) == (sent.destination.into(), sent.ports.1)
        };
        entries.expect("entries").items.iter().any(|entry| mine(&entry.original))
    }

    /// Sends a packet; what was counted before.
    pub fn send(&self, sent: &Sent) -> Before {
        let before = Before { counts: self.counts(), arrived: entry(self.far(sent)) };
        self.id.set(self.id.get().wrapping_add(1));
        let socket = &self.sockets[usize::from(sent.reply)];
        let to = SocketAddrV4::new(sent.destination, 0);
        sendto(socket, &sent.bytes(self.id.get()), SendFlags::empty(), &to).expect("a packet is sent");
        before
    }

    /// What became of it so far. Arrival is read first: what arrived has been counted everywhere.
    pub fn look(&self, sent: &Sent, before: &Before) -> Seen {
        let arrived = entry(self.far(sent)) > before.arrived;
        let counts = self.counts();
        let rose = counts.iter().filter(|(at, n)| before.counts.get(at).is_some_and(|old| old < n));
        let rose: BTreeSet<Count> = rose.map(|(at, _)| at.clone()).collect();
        let own = |chain: &str| rose.contains(&Count(Tool::Nft, CATCH.to_owned(), chain.to_owned(), 1));
        Seen { came: own("entry"), arrived: arrived || own("caught"), rose }
    }

    fn far(&self, sent: &Sent) -> &Netns {
        &self.netns[if sent.reply { 0 } else { 2 }]
    }

    fn counts(&self) -> Counts {
        let legacy = self.legacy.get();
        let read = || {
            let mut chains = present(nftables::read());
            if legacy {
                chains.extend(present(iptables_legacy::read(false)));
            }
            chains
        };
        let chains = self.netns[1].run(read).expect("a thread");
        chains
            .iter()
            .flat_map(|chain| chain.rules.iter().map(move |rule| RuleAt { chain, rule }))
            .filter_map(|at| Some((Count::of(&at), at.rule.packets?)))
            .collect()
    }
}

fn present(reading: Reading<Vec<Chain>>) -> Vec<Chain> {
    match reading {
        Reading::Present(chains) => chains,
        other => panic!("{other:?}"),
    }
}

/// Packets that came into an end.
fn entry(netns: &Netns) -> u64 {
    let chains = present(netns.run(nftables::read).expect("a thread"));
    chains.iter().flat_map(|chain| &chain.rules).filter_map(|rule| rule.packets).sum()
}

/// Runs a tool that takes a file.
fn apply(namespace: &Namespace, tool: &str, script: &str) {
    let path = std::env::temp_dir().join(format!("{}.rules", namespace.name()));
    std::fs::write(&path, script).expect("a temporary file");
    namespace.run(&format!("{tool} {}", path.display()));
    std::fs::remove_file(&path).expect("the temporary file");
}
