//! tcp:// probes on the wire: namespaces c - r - s, losses placed in the middle, as in a network.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use whydrop_host::{Netns, probing};
use whydrop_model::ProbeResult;
use whydrop_probe::ProbeSpec;
use whydrop_probe::progress::Progress;
use whydrop_probe::stats::interval::clopper_pearson;
use whydrop_tests::Namespace;

/// Client, router and server, with somebody listening on port 8000 of both families.
struct Net {
    client: Namespace,
    router: Namespace,
    server: Namespace,
    /// SYN probes never finish a handshake: nobody needs to accept.
    _listener: TcpListener,
}

const V4: &str = "10.77.2.2";
const V6: &str = "[fd77:2::2]";

fn netns(namespace: &Namespace) -> Netns {
    Netns::open(format!("/run/netns/{}", namespace.name()).as_ref()).expect("a namespace")
}

/// Probes from `namespace`. The result comes without its packets, so that a failed test can be read.
fn run(namespace: &Namespace, spec: &ProbeSpec) -> ProbeResult {
    let result = probing::run(&netns(namespace), "netns:c", spec, &AtomicBool::new(false), &|_| ());
    let mut result = result.expect("a result");
    assert_eq!(result.packets.len() as u64, result.transmitted + result.not_sent);
    result.packets.clear();
    result
}

impl Net {
    fn new(purpose: &str) -> Self {
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
        Self { client, router, server, _listener: listener }
    }

    fn probe(&self, spec: &ProbeSpec) -> ProbeResult {
        probing::run(&netns(&self.client), "netns:c", spec, &AtomicBool::new(false), &|_| ())
            .expect("a result")
    }
}

fn spec(url: &str, count: u32, interval_ms: u64) -> ProbeSpec {
    let interval = Duration::from_millis(interval_ms);
    ProbeSpec { count: Some(count), interval, ..ProbeSpec::parse(url).expect("url") }
}

#[test]
fn answers_of_both_families_are_counted_exactly() {
    let net = Net::new("clean");
    for host in [V4, V6] {
        let result = net.probe(&spec(&format!("tcp://{host}:8000"), 100, 5));
        assert_eq!(
            (result.transmitted, result.received, result.lost, result.duplicates),
            (100, 100, 0, 0),
            "{result:?}"
        );
        assert_eq!(result.method, "syn");
        assert_eq!((result.extra.never_left, result.extra.dropped_on_return), (Some(0), Some(0)));
        let rtt = result.rtt_ms.expect("round trips");
        assert!(rtt.min > 0.0 && rtt.p50 < 5.0, "{rtt:?}");
        let [forward, reverse] =
            [result.forward, result.reverse].map(|s| s.expect("both directions are clean"));
        assert_eq!((forward.loss, reverse.loss), (0.0, 0.0));
    }
}

/// A rule in the router that loses packets of one direction like a network does: silently, on the way.
fn lose(net: &Net, to: &str, probability: f64) {
    let tool = if to.contains(':') { "ip6tables" } else { "iptables" };
    net.router.run(&format!(
        "{tool} -A FORWARD -d {to} -p tcp -m statistic --mode random --probability {probability} -j DROP"
    ));
}

#[test]
fn loss_and_its_direction_are_told_with_true_rates_inside_the_intervals() {
    let net = Net::new("split");
    for (forward, reverse) in [(0.3, 0.0), (0.0, 0.3), (0.05, 0.2), (0.3, 0.3)] {
        net.router.run("iptables -F FORWARD");
        lose(&net, "10.77.2.2", forward);
        lose(&net, "10.77.1.2", reverse);
        let late = Duration::from_millis(1500);
        let result = net.probe(&ProbeSpec { late, ..spec(&format!("tcp://{V4}:8000"), 300, 10) });
        assert_eq!(result.transmitted, result.received + result.late + result.lost, "{result:?}");
        assert_eq!(result.transmitted, 300);
        let inside = |lost: u64, total: u64, truth: f64| {
            let [low, high] = clopper_pearson(lost, total, 0.001).expect("data");
            assert!((low..=high).contains(&truth), "{lost} of {total} is not {truth}: {result:?}");
        };
        inside(result.lost + result.late, result.transmitted, 1.0 - (1.0 - forward) * (1.0 - reverse));
        let [f, r] = [result.forward, result.reverse].map(|s| s.unwrap_or_else(|| panic!("{result:?}")));
        for (share, truth) in [(f, forward), (r, reverse)] {
            // The printed interval is one of 95 %; at 99.9 % it is 1.7 times as wide.
            let [low, high] = share.ci95.map(|edge| share.loss + 1.7 * (edge - share.loss));
            assert!(low <= truth && truth <= high + 0.005, "{truth} is outside {share:?}");
        }
        if (forward - reverse).abs() > 0.25 {
            assert_eq!(f.loss > r.loss, forward > reverse);
        }
    }
}

#[test]
fn a_closed_port_answers_and_says_so() {
    let net = Net::new("closed");
    for host in [V4, V6] {
        let result = net.probe(&spec(&format!("tcp://{host}:9"), 10, 5));
        assert_eq!((result.received, result.refused, result.lost), (10, 10, 0), "{result:?}");
    }
}

#[test]
fn what_this_machine_drops_itself_is_told_apart() {
    let net = Net::new("local");
    let url = format!("tcp://{V4}:8000");
    net.client.run("iptables -A OUTPUT -p tcp --dport 8000 -j DROP");
    let result = net.probe(&spec(&url, 10, 5));
    assert_eq!((result.transmitted, result.not_sent, result.loss), (0, 10, None), "{result:?}");
    assert_eq!(result.send_errors.get("EPERM"), Some(&10));

    net.client.run("iptables -F OUTPUT");
    net.client.run("iptables -A INPUT -p tcp --sport 8000 -j DROP");
    let result = net.probe(&spec(&url, 10, 5));
    assert_eq!(
        (result.lost, result.extra.dropped_on_return, result.extra.never_left),
        (10, Some(10), Some(0)),
        "{result:?}"
    );

    net.client.run("iptables -F INPUT");
    net.client.run("ip route add unreachable 10.77.3.0/24");
    let result = net.probe(&spec("tcp://10.77.3.1:80", 3, 5));
    assert_eq!(result.send_errors.get("EHOSTUNREACH"), Some(&3), "{result:?}");
    net.client.run("ip route del default");
    let result = net.probe(&spec(&url, 3, 5));
    assert_eq!(result.send_errors.get("ENETUNREACH"), Some(&3), "{result:?}");
}

#[test]
fn an_icmp_error_is_matched_to_its_probe() {
    let net = Net::new("icmp");
    net.router.run("iptables -A FORWARD -p tcp -j REJECT --reject-with icmp-host-prohibited");
    net.router.run("ip6tables -A FORWARD -p tcp -j REJECT --reject-with icmp6-adm-prohibited");
    for (host, router) in [(V4, "10.77.1.1"), (V6, "fd77:1::1")] {
        let result = net.probe(&spec(&format!("tcp://{host}:8000"), 3, 5));
        assert_eq!(result.lost, 3, "{result:?}");
        let error = format!("administratively prohibited from {router}");
        assert!(result.icmp_errors.get(&error).is_some_and(|n| *n >= 1), "{result:?}");
    }
}

#[test]
fn a_peer_in_the_same_namespace_is_probed_over_loopback() {
    let net = Net::new("lo");
    for host in ["127.0.0.1", "[::1]", V4] {
        let result = run(&net.server, &spec(&format!("tcp://{host}:8000"), 20, 5));
        assert_eq!((result.received, result.duplicates, result.lost), (20, 0, 0), "{result:?}");
    }
}

#[test]
fn a_cancelled_run_ends_early_with_what_it_has() {
    let net = Net::new("cancel");
    let cancel = AtomicBool::new(false);
    let spec = spec(&format!("tcp://{V4}:8000"), 1000, 20);
    let stop = |p: &Progress| cancel.store(p.counts.received >= 5, Ordering::Relaxed);
    let result = probing::run(&netns(&net.client), "netns:c", &spec, &cancel, &stop).expect("a result");
    assert!((5..=7).contains(&result.transmitted), "{result:?}");
    assert_eq!(result.transmitted, result.received);
}
