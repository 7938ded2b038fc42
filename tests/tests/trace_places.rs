//! A known number of packets dropped at each of twelve places: the kernel's drop events give exactly these numbers,
//! names and causes, and nothing else; and the ledger of a diagnosis adds up to the packet.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use whydrop_host::Netns;
use whydrop_model::Report;
use whydrop_tests::{Namespace, Observing, Row, Trace, Traced};

const CLIENT: &str = "10.99.0.1";
const SERVER: &str = "10.99.0.2";
const DROP_ALL: &[u8] = include_bytes!("../bpf/drop_all.bpf.o");

/// Two namespaces joined by a veth, without anything that talks by itself (IPv6, ARP).
struct Pair {
    client: Namespace,
    server: Namespace,
}

/// What is expected of one place.
struct Place {
    reason: &'static str,
    stage: &'static str,
    cause: Option<&'static str>,
    drops: u64,
    books: Books,
}

/// Where the packets stand in the ledger.
enum Books {
    /// Charged to the only finding, which has this cause.
    Charged(&'static str),
    /// No loss: a packet to a closed port is refused, with an answer.
    Refused,
    /// No loss either, but somebody in view is refused again and again: the only finding has this cause and no packets.
    Missed(&'static str),
}

/// The trace and the diagnosis of what happens meanwhile.
struct Watch {
    trace: Trace,
    observing: Observing,
}

impl Watch {
    fn stop(self) -> (Traced, Report) {
        (self.trace.stop(), self.observing.stop())
    }
}

impl Pair {
    fn new(purpose: &str) -> Self {
        let client = Namespace::new(&format!("tp-{purpose}-c"));
        let server = Namespace::new(&format!("tp-{purpose}-s"));
        for namespace in [&client, &server] {
            namespace.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
        }
        client.join(&format!("{CLIENT}/24"), &server, &format!("{SERVER}/24"));
        for (here, there, address) in [(&client, &server, SERVER), (&server, &client, CLIENT)] {
            let mac = there.run("cat /sys/class/net/eth0/address");
            here.run(&format!("ip neigh replace {address} lladdr {} dev eth0 nud permanent", mac.trim()));
        }
        Self { client, server }
    }

    fn trace(&self) -> Watch {
        let trace = Trace::start(&[&self.client.target(), &self.server.target()]);
        Watch { trace, observing: Observing::start(&[&self.client, &self.server]) }
    }

    /// Sends datagrams from the client.
    fn send(&self, count: u64, to: &str, bytes: usize) {
        self.client_socket(|socket| {
            for _ in 0..count {
                socket.send_to(&vec![0; bytes], to).expect("sent");
            }
        });
    }

    fn client_socket(&self, work: impl FnOnce(UdpSocket) + Send) {
        let bind = || work(UdpSocket::bind("0.0.0.0:0").expect("a socket"));
        netns(&self.client).run(bind).expect("entered");
    }

    /// Asserts exactly one kind of harmful drop, in the server or, if it cannot get there, the client.
    #[track_caller]
    fn assert(&self, (traced, report): &(Traced, Report), at: &Namespace, place: &Place) {
        place.books.assert(report, place.drops);
        let rows = traced.harmful();
        let [row] = rows.as_slice() else { panic!("not one kind of drop: {rows:#?}\n{}", traced.summary) };
        assert_eq!(row.drops, place.drops, "{row:?}");
        assert_eq!(row.target, at.target());
        assert_eq!(traced.summary["tracer_lost"], 0);
        // Kernels before 5.17 have no reasons; what the function alone cannot tell is left open there.
        if !row.reason.is_empty() {
            let expected = Row {
                target: at.target(),
                reason: place.reason.into(),
                function: row.function.clone(),
                stage: place.stage.into(),
                cause: place.cause.map(str::to_owned),
                drops: place.drops,
            };
            assert_eq!(*row, expected);
        }
        assert!(!row.function.is_empty(), "{row:?}");
        let shown = traced.lines.iter().filter(|line| line["class"] != "benign");
        assert_eq!(shown.count() as u64, place.drops, "every one of so few drops is sampled");
    }
}

impl Books {
    #[track_caller]
    fn assert(&self, report: &Report, packets: u64) {
        let ledger = &report.ledger;
        let causes: Vec<_> = report.findings.iter().map(|f| (f.cause.as_str(), f.packets_lost)).collect();
        let (explained, expected) = match self {
            Self::Charged(cause) => (packets, vec![(*cause, Some(packets))]),
            Self::Refused => (0, vec![]),
            Self::Missed(cause) => (0, vec![(*cause, None)]),
        };
        assert_eq!(causes, expected, "{ledger:#?}");
        assert_eq!((ledger.explained, ledger.unexplained), (explained, 0), "{ledger:#?}");
        assert_eq!(ledger.lost, explained);
    }
}

/// The program that drops everything, as a file for ip and tc; removed when the value is dropped.
struct DropAll(PathBuf);

impl DropAll {
    fn new(purpose: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wd-test-{purpose}-{}.o", std::process::id()));
        std::fs::write(&path, DROP_ALL).expect("written");
        Self(path)
    }
}

impl Drop for DropAll {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn netns(namespace: &Namespace) -> Netns {
    Netns::open(&Path::new("/run/netns").join(namespace.name())).expect("open")
}

/// Waits until the condition holds; panics after five seconds.
#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}: not within five seconds");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const RULE: Place = Place {
    reason: "NETFILTER_DROP",
    stage: "netfilter.input",
    cause: Some("netfilter.drop_rule"),
    drops: 7,
    books: Books::Charged("netfilter.drop_rule"),
};

#[test]
fn iptables_legacy() {
    let pair = Pair::new("ipl");
    pair.server.run("iptables-legacy -A INPUT -p udp --dport 1001 -j DROP");
    let trace = pair.trace();
    pair.send(7, "10.99.0.2:1001", 20);
    pair.assert(&trace.stop(), &pair.server, &RULE);
}

#[test]
fn iptables_nft() {
    let pair = Pair::new("ipn");
    pair.server.run("iptables-nft -A INPUT -p udp --dport 1002 -j DROP");
    let trace = pair.trace();
    pair.send(7, "10.99.0.2:1002", 20);
    pair.assert(&trace.stop(), &pair.server, &RULE);
}

#[test]
fn nft_output() {
    let pair = Pair::new("nft");
    pair.client.run("nft add table inet t");
    pair.client.run("nft add chain inet t out { type filter hook postrouting priority 0 ; }");
    pair.client.run("nft add rule inet t out udp dport 1003 counter drop");
    let trace = pair.trace();
    // A drop before the device is an error of the send; the packet is counted all the same.
    pair.client_socket(|socket| {
        for _ in 0..9 {
            let sent = socket.send_to(b"x", "10.99.0.2:1003");
            assert_eq!(sent.map_err(|e| e.kind()), Err(std::io::ErrorKind::PermissionDenied));
        }
    });
    pair.assert(&trace.stop(), &pair.client, &Place { stage: "netfilter.postrouting", drops: 9, ..RULE });
}

#[test]
fn closed_udp_port() {
    let pair = Pair::new("udp");
    let trace = pair.trace();
    // Three of one program would be trouble, and a finding.
    pair.send(2, "10.99.0.2:1004", 20);
    let place = Place {
        reason: "NO_SOCKET",
        stage: "socket.lookup",
        cause: Some("app.not_listening"),
        drops: 2,
        books: Books::Refused,
    };
    pair.assert(&trace.stop(), &pair.server, &place);
}

#[test]
fn closed_tcp_port() {
    let pair = Pair::new("tcp");
    let trace = pair.trace();
    let address: SocketAddr = "10.99.0.2:1005".parse().expect("valid");
    let connect = || (0..6).all(|_| TcpStream::connect(address).is_err());
    assert!(netns(&pair.client).run(connect).expect("entered"));
    let place = Place {
        reason: "NO_SOCKET",
        stage: "socket.lookup",
        cause: Some("app.not_listening"),
        drops: 6,
        books: Books::Missed("app.not_listening"),
    };
    pair.assert(&trace.stop(), &pair.server, &place);
}

#[test]
fn unresolved_neighbour() {
    let pair = Pair::new("nei");
    for name in ["retrans_time_ms=10", "mcast_solicit=1", "app_solicit=0"] {
        pair.client.run(&format!("sysctl -qw net.ipv4.neigh.eth0.{name}"));
    }
    let trace = pair.trace();
    pair.send(3, "10.99.0.77:1006", 20);
    wait_until("the neighbour fails", || pair.client.run("ip neigh show 10.99.0.77").contains("FAILED"));
    let place = Place {
        reason: "NEIGH_FAILED",
        stage: "neighbour.transmit",
        cause: Some("neigh.unresolved"),
        drops: 3,
        books: Books::Charged("neigh.unresolved"),
    };
    pair.assert(&trace.stop(), &pair.client, &place);
}

#[test]
fn reverse_path_filter() {
    let pair = Pair::new("rpf");
    pair.server.run("sysctl -qw net.ipv4.conf.all.rp_filter=1");
    pair.client.run("ip address add 10.77.0.1/32 dev lo");
    // The way back leads elsewhere.
    pair.server.run("ip route add 10.77.0.1/32 dev lo");
    let trace = pair.trace();
    let send = || {
        let socket = UdpSocket::bind("10.77.0.1:0").expect("a socket");
        (0..4).all(|_| socket.send_to(b"x", "10.99.0.2:1007").is_ok())
    };
    assert!(netns(&pair.client).run(send).expect("entered"));
    let place = Place {
        reason: "IP_RPFILTER",
        stage: "route.input",
        cause: Some("route.rp_filter"),
        drops: 4,
        books: Books::Charged("route.rp_filter"),
    };
    pair.assert(&trace.stop(), &pair.server, &place);
}

#[test]
fn udp_receive_buffer() {
    let pair = Pair::new("buf");
    pair.server.run("sysctl -qw net.ipv4.udp_rmem_min=4096");
    let bind = || UdpSocket::bind("10.99.0.2:1008").expect("a socket");
    let receiver = netns(&pair.server).run(bind).expect("entered");
    let trace = pair.trace();
    pair.send(600, "10.99.0.2:1008", 1000);
    let (traced, report) = trace.stop();
    receiver.set_nonblocking(true).expect("a socket");
    let mut kept = 0;
    while receiver.recv(&mut [0; 1500]).is_ok() {
        kept += 1;
    }
    assert!(kept > 0 && kept < 600, "the buffer holds {kept}");
    let rows = traced.harmful();
    let [row] = rows.as_slice() else { panic!("not one kind of drop: {rows:#?}") };
    Books::Charged("udp.rcvbuf_overflow").assert(&report, 600 - kept);
    assert_eq!((row.drops, row.target.as_str()), (600 - kept, pair.server.target().as_str()));
    if !row.reason.is_empty() {
        assert_eq!(row.reason, "SOCKET_RCVBUFF");
        assert_eq!(row.cause.as_deref(), Some("udp.rcvbuf_overflow"));
    }
}

#[test]
fn xdp_program() {
    let pair = Pair::new("xdp");
    let program = DropAll::new("xdp");
    pair.server.run(&format!("ip link set dev eth0 xdpgeneric obj {} sec xdp", program.0.display()));
    let trace = pair.trace();
    pair.send(8, "10.99.0.2:1009", 20);
    let place = Place {
        reason: "NOT_SPECIFIED",
        stage: "xdp.receive",
        cause: Some("xdp.drop"),
        drops: 8,
        books: Books::Charged("xdp.drop"),
    };
    pair.assert(&trace.stop(), &pair.server, &place);
}

#[test]
fn tc_ingress_program() {
    let pair = Pair::new("tc");
    pair.server.run("tc qdisc add dev eth0 clsact");
    let program = DropAll::new("tc");
    pair.server.run(&format!("tc filter add dev eth0 ingress bpf da obj {} sec tc", program.0.display()));
    let trace = pair.trace();
    pair.send(5, "10.99.0.2:1010", 20);
    // A filter's action, a BPF program and a policer all look the same from there: what is attached decides.
    let place = Place {
        reason: "TC_INGRESS",
        stage: "tc.ingress",
        cause: Some("tc.bpf_drop"),
        drops: 5,
        books: Books::Charged("tc.bpf_drop"),
    };
    pair.assert(&trace.stop(), &pair.server, &place);
}

#[test]
fn mtu_of_the_other_end() {
    let pair = Pair::new("mtu");
    pair.server.run("ip link set eth0 mtu 600");
    let trace = pair.trace();
    pair.send(4, "10.99.0.2:1011", 1000);
    let place = Place {
        reason: "NOT_SPECIFIED",
        stage: "link.transmit",
        cause: Some("mtu.peer_mismatch"),
        drops: 4,
        books: Books::Charged("mtu.peer_mismatch"),
    };
    pair.assert(&trace.stop(), &pair.client, &place);
}

#[test]
fn ttl_that_ends() {
    let pair = Pair::new("ttl");
    pair.server.run("sysctl -qw net.ipv4.ip_forward=1");
    pair.server.run("ip route add 10.88.0.0/16 dev lo");
    pair.client.run("ip route add 10.88.0.0/16 via 10.99.0.2");
    let trace = pair.trace();
    pair.client_socket(|socket| {
        socket.set_ttl(1).expect("set");
        for _ in 0..3 {
            socket.send_to(b"x", "10.88.0.9:1012").expect("sent");
        }
    });
    let place = Place {
        reason: "IP_INHDR",
        stage: "ip.forward",
        cause: Some("route.loop"),
        drops: 3,
        books: Books::Charged("ip.ttl_too_low"),
    };
    pair.assert(&trace.stop(), &pair.server, &place);
}

/// A retransmission is no drop, but it says that one happened somewhere; it is counted beside them.
#[test]
fn retransmissions_are_counted_beside_the_drops() {
    let pair = Pair::new("rtx");
    pair.server.run("iptables -A INPUT -p tcp --dport 1013 -j DROP");
    let trace = pair.trace();
    let address: SocketAddr = "10.99.0.2:1013".parse().expect("valid");
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(1500)).is_err();
    assert!(netns(&pair.client).run(connect).expect("entered"));
    let traced = trace.stop();
    pair.assert(&traced, &pair.server, &Place { drops: 2, ..RULE });
    let signals = traced.0.summary["signals"].as_array().expect("a list");
    let [signal] = signals.as_slice() else { panic!("not one signal: {signals:?}") };
    assert_eq!(signal["name"], "tcp:tcp_retransmit_skb");
    assert_eq!(signal["target"], pair.client.target());
    assert_eq!(signal["count"], 1);
}
