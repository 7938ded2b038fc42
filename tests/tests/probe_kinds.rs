//! icmp://, udp://, pmtu:// and path:// on the wire, and what the kernel's own counters say to tcp://.

use std::net::UdpSocket;
use std::time::Duration;
use whydrop_model::ProbeResult;
use whydrop_probe::ProbeSpec;
use whydrop_probe::stats::interval::clopper_pearson;
use whydrop_tests::Namespace;
use whydrop_tests::probe_net::{Net, V4, V6, netns, run};

fn spec(url: &str, count: u32, interval_ms: u64) -> ProbeSpec {
    let interval = Duration::from_millis(interval_ms);
    ProbeSpec { count: Some(count), interval, ..ProbeSpec::parse(url).expect("url") }
}

/// Like [`Net::probe`], for kinds whose result holds no packets.
fn search(net: &Net, url: &str, count: u32) -> ProbeResult {
    let spec = ProbeSpec { count: Some(count), ..ProbeSpec::parse(url).expect("url") };
    let never = std::sync::atomic::AtomicBool::new(false);
    whydrop_host::probing::run(&netns(&net.client), "netns:c", &spec, &never, &|_| ()).expect("a result")
}

#[test]
fn echo_requests_are_counted_exactly() {
    let net = Net::new("echo");
    for host in [V4, V6] {
        let result = net.probe(&spec(&format!("icmp://{host}"), 50, 5));
        assert_eq!((result.transmitted, result.received, result.lost), (50, 50, 0), "{result:?}");
        assert_eq!(result.extra.never_left, Some(0));
    }
    net.router.run("iptables -A FORWARD -p icmp -m statistic --mode nth --every 4 --packet 0 -j DROP");
    let result = net.probe(&spec(&format!("icmp://{V4}"), 90, 5));
    // Each probe meets the rule once or twice; every fourth packet dies.
    assert_eq!(result.transmitted, result.received + result.lost);
    let [low, high] = clopper_pearson(result.lost, result.transmitted, 0.001).expect("data");
    assert!(low < 0.4 && high > 0.4, "{result:?}");
}

#[test]
fn datagrams_are_answered_by_an_echo_and_refused_by_a_closed_port() {
    let net = Net::new("udp");
    for port in [7, 53, 123] {
        let socket =
            netns(&net.server).run(|| UdpSocket::bind(("::", port))).expect("entered").expect("bound");
        // Goes on until the test process ends.
        std::thread::spawn(move || {
            let mut buffer = [0; 2000];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(&buffer[..n], from).ok();
            }
        });
        for host in [V4, V6] {
            let result = net.probe(&spec(&format!("udp://{host}:{port}"), 20, 5));
            assert_eq!((result.transmitted, result.received, result.refused), (20, 20, 0), "{result:?}");
        }
    }
    let slow = net.probe(&spec(&format!("udp://{V4}:9"), 2, 1100));
    assert_eq!((slow.refused, slow.loss), (2, Some(0.0)), "{slow:?}");
    let fast = net.probe(&spec(&format!("udp://{V4}:9"), 60, 10));
    assert!(fast.refused > 0 && fast.lost > 0, "{fast:?}");
    assert_eq!(fast.loss, None, "silence above the ICMP rate is no loss: {fast:?}");
}

#[test]
fn a_narrow_link_is_found_whether_or_not_a_router_speaks() {
    let net = Net::new("pmtu");
    let wide = search(&net, &format!("pmtu://{V4}"), 1).pmtu.expect("a size");
    assert_eq!((wide.largest_ok, wide.smallest_lost, wide.black_hole), (Some(1500), None, false));
    net.router.run("ip link set eth2 mtu 1400");
    for (host, router) in [(V4, "10.77.1.1"), (V6, "fd77:1::1")] {
        let found = search(&net, &format!("pmtu://{host}"), 1).pmtu.expect("a size");
        assert_eq!((found.largest_ok, found.black_hole), (Some(1400), false), "{found:?}");
        assert_eq!(found.icmp, Some((router.parse().expect("address"), 1400)));
    }
    net.router.run("iptables -A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP");
    let result = search(&net, &format!("pmtu://{V4}"), 1);
    let found = result.pmtu.clone().expect("a size");
    assert_eq!((found.largest_ok, found.smallest_lost, found.black_hole), (Some(1400), Some(1401), true));
    assert!(result.extra.notes.iter().any(|n| n.en.contains("as far as 10.77.1.1")), "{result:?}");
    // Ordinary loss must not look like a narrow link.
    net.router.run("ip link set eth2 mtu 1500");
    net.router.run("iptables -A FORWARD -p icmp -m statistic --mode random --probability .3 -j DROP");
    let lossy = search(&net, &format!("pmtu://{V4}"), 1).pmtu.expect("a size");
    assert_eq!((lossy.largest_ok, lossy.black_hole), (Some(1500), false), "{lossy:?}");
}

#[test]
fn hops_are_named_and_a_hop_that_limits_its_answers_is_no_loss() {
    let net = Net::new("path");
    for url in [format!("path://{V4}"), format!("path://{V4}:8000"), format!("path://{V6}")] {
        let result = search(&net, &url, 2);
        let hops: Vec<_> =
            result.extra.hops.iter().map(|h| (h.ttl, h.received, h.verdict.as_str())).collect();
        assert_eq!(hops, [(1, 2, "ok"), (2, 2, "ok")], "{result:?}");
        assert_eq!((result.transmitted, result.received), (2, 2));
    }
    net.router.run("iptables -A OUTPUT -p icmp --icmp-type time-exceeded -j DROP");
    let result = search(&net, &format!("path://{V4}"), 2);
    let verdicts: Vec<_> = result.extra.hops.iter().map(|h| h.verdict.as_str()).collect();
    assert_eq!((verdicts, result.loss), (vec!["silent", "ok"], Some(0.0)));
}

/// The values of one table of /proc/net/snmp or /proc/net/netstat.
fn counter(namespace: &Namespace, file: &str, table: &str, name: &str) -> u64 {
    let text = namespace.run(&format!("cat /proc/net/{file}"));
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("{table}:")));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let pair = names.split_whitespace().zip(values.split_whitespace()).find(|(n, _)| *n == name);
    pair.unwrap_or_else(|| panic!("{name} is not in {file}")).1.parse().expect("a number")
}

#[test]
fn the_kernels_own_counters_agree_with_the_account() {
    let net = Net::new("closure");
    net.router.run("iptables -A FORWARD -p tcp -m statistic --mode random --probability .3 -j DROP");
    let read = || {
        let server = |file, table, name| counter(&net.server, file, table, name);
        [
            counter(&net.client, "snmp", "Tcp", "OutRsts"),
            server("snmp", "Tcp", "InSegs"),
            server("snmp", "Tcp", "OutSegs"),
            server("netstat", "TcpExt", "EmbryonicRsts"),
            server("netstat", "TcpExt", "TCPSynRetrans"),
        ]
    };
    let before = read();
    // Until the server has given up every half-open connection: 3 s with one retry.
    let result = run(
        &net.client,
        &ProbeSpec { late: Duration::from_secs(4), ..spec(&format!("tcp://{V4}:8000"), 200, 10) },
    );
    let after = read();
    let [rsts, arrived, left, resets, repeated] = std::array::from_fn(|i| after[i] - before[i]);
    assert_eq!(
        rsts,
        result.received + result.late + result.duplicates,
        "one RST for each SYN-ACK: {result:?}"
    );
    let syns = arrived - resets;
    assert_eq!(left, syns + repeated, "one SYN-ACK for each SYN, and those sent again");
    assert!(syns >= result.received + result.late && syns <= result.transmitted, "{syns} {result:?}");
}

#[test]
fn one_bad_member_of_a_bundle_is_found_by_its_flow() {
    let net = Net::new("flows");
    // Source ports that are 1 modulo 4, as a bundle of four links would hash them.
    net.router.run("iptables -A FORWARD -p tcp --dport 8000 -m u32 --u32 0>>22&0x3C@0>>16&0x3=1 -j DROP");
    let result = net.probe(&ProbeSpec { flows: Some(4), ..spec(&format!("tcp://{V4}:8000"), 80, 10) });
    let bad: Vec<_> = result.extra.flows.iter().filter(|f| f.lost > 0).collect();
    assert_eq!(result.extra.flows.len(), 4, "{result:?}");
    assert_eq!((bad.len(), bad[0].lost, bad[0].sport % 4), (1, 20, 1), "{result:?}");
    assert!(result.extra.notes.iter().any(|n| n.en.contains("one path of several")), "{result:?}");
}
