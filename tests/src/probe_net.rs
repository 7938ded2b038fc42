//! Namespaces c - r - s for the live tests of the prober.

use crate::Namespace;
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;
use whydrop_host::{Netns, probing};
use whydrop_model::ProbeResult;
use whydrop_probe::ProbeSpec;

/// Client, router and server, with somebody listening on port 8000 of both families.
#[derive(Debug)]
pub struct Net {
    /// 10.77.1.2, fd77:1::2
    pub client: Namespace,
    /// 10.77.1.1 on eth1, 10.77.2.1 on eth2
    pub router: Namespace,
    /// 10.77.2.2, fd77:2::2
    pub server: Namespace,
}

/// The server.
pub const V4: &str = "10.77.2.2";
/// The server over IPv6, as URLs write it.
pub const V6: &str = "[fd77:2::2]";

/// The namespace as the prober takes it.
pub fn netns(namespace: &Namespace) -> Netns {
    Netns::open(format!("/run/netns/{}", namespace.name()).as_ref()).expect("a namespace")
}

/// Probes from `namespace`. The result comes without its packets, so that a failed test can be read.
pub fn run(namespace: &Namespace, spec: &ProbeSpec) -> ProbeResult {
    let result = probing::run(&netns(namespace), "netns:c", spec, &AtomicBool::new(false), &|_| ());
    let mut result = result.expect("a result");
    assert_eq!(result.packets.len() as u64, result.transmitted + result.not_sent);
    result.packets.clear();
    result
}

impl Net {
    /// Makes the three; `purpose` keeps the names of tests apart.
    pub fn new(purpose: &str) -> Self {
        let [client, router, server] =
            ["c", "r", "s"].map(|end| Namespace::new(&format!("probe-{purpose}-{end}")));
        for end in [&client, &router, &server] {
            // Else IPv6 is silent for its first two seconds: duplicate address detection.
            end.run("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0");
        }
        for (end, subnet) in [(&client, 1), (&server, 2)] {
            let (near, far) = (format!("eth{subnet}"), end.name());
            router.run(&format!("ip link add {near} type veth peer name eth0 netns {far}"));
            router.run(&format!("ip addr add 10.77.{subnet}.1/24 dev {near}"));
            router.run(&format!("ip addr add fd77:{subnet}::1/64 dev {near} nodad"));
            router.run(&format!("ip link set {near} up"));
            end.run(&format!("ip addr add 10.77.{subnet}.2/24 dev eth0"));
            end.run(&format!("ip addr add fd77:{subnet}::2/64 dev eth0 nodad"));
            end.run("ip link set eth0 up");
            end.run(&format!("ip route add default via 10.77.{subnet}.1"));
            end.run(&format!("ip -6 route add default via fd77:{subnet}::1"));
        }
        router.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        // Late SYN-ACKs then come after 1 s only, and a test need not wait for 3, 7, 15 and 31 s.
        server.run("sysctl -qw net.ipv4.tcp_synack_retries=1");
        let listener =
            netns(&server).run(|| TcpListener::bind("[::]:8000")).expect("entered").expect("bound");
        // Goes on until the test process ends, and closes each connection at once.
        std::thread::spawn(move || listener.incoming().for_each(drop));
        Self { client, router, server }
    }

    /// Probes from the client.
    pub fn probe(&self, spec: &ProbeSpec) -> ProbeResult {
        probing::run(&netns(&self.client), "netns:c", spec, &AtomicBool::new(false), &|_| ())
            .expect("a result")
    }
}
