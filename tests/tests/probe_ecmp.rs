//! Several next hops of which one is dead, in the middle and on the probing machine itself.

use std::time::Duration;
use whydrop_model::ProbeResult;
use whydrop_probe::ProbeSpec;
use whydrop_probe::stats::interval::clopper_pearson;
use whydrop_tests::Namespace;
use whydrop_tests::probe_net::Net;

/// An address on the server's loopback interface, behind all of its links.
const SERVICE: [&str; 2] = ["10.77.9.9", "fd77:9::9"];

/// A second link between `near` and `far`, whose addresses end in 1 and 2.
fn second_link(near: &Namespace, far: &Namespace, subnet: u8) {
    near.run(&format!("ip link add second type veth peer name second netns {}", far.name()));
    for (end, host) in [(near, 1), (far, 2)] {
        end.run(&format!("ip addr add 10.77.{subnet}.{host}/24 dev second"));
        end.run(&format!("ip addr add fd77:{subnet}::{host}/64 dev second nodad"));
        end.run("ip link set second up");
    }
}

/// Routes to the service over two next hops, hashed by ports.
fn fork(namespace: &Namespace, first: &str, second: &str, first6: &str, second6: &str) {
    namespace.run("sysctl -qw net.ipv4.fib_multipath_hash_policy=1 net.ipv6.fib_multipath_hash_policy=1");
    let hops = |a: &str, b: &str| format!("nexthop via {a} nexthop via {b}");
    namespace.run(&format!("ip route add {} {}", SERVICE[0], hops(first, second)));
    namespace.run(&format!("ip -6 route add {} {}", SERVICE[1], hops(first6, second6)));
}

fn service(net: &Net) {
    net.server.run(&format!("ip addr add {}/32 dev lo", SERVICE[0]));
    net.server.run(&format!("ip addr add {}/128 dev lo nodad", SERVICE[1]));
}

fn spec(host: &str, count: u32, interval_ms: u64) -> ProbeSpec {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let interval = Duration::from_millis(interval_ms);
    ProbeSpec {
        count: Some(count),
        interval,
        ..ProbeSpec::parse(&format!("tcp://{host}:8000")).expect("url")
    }
}

/// About half of the probes are lost.
fn assert_half(result: &ProbeResult) {
    let [low, high] = clopper_pearson(result.lost, result.transmitted, 0.0001).expect("data");
    assert!(low < 0.5 && 0.5 < high, "{result:?}");
}

/// Each flow is whole or dead, the dead ones are named, and both kinds are there.
fn assert_flows(result: &ProbeResult) {
    let flows = &result.extra.flows;
    assert!(flows.iter().all(|f| f.lost == 0 || f.lost == f.transmitted), "{result:?}");
    let dead: Vec<_> = flows.iter().filter(|f| f.lost > 0).map(|f| f.sport.to_string()).collect();
    assert!((1..flows.len()).contains(&dead.len()), "{result:?}");
    let note = result.extra.notes.iter().find(|n| n.en.contains("one path of several"));
    let note = note.unwrap_or_else(|| panic!("{result:?}"));
    assert!(note.en.contains(&dead.join(", ")), "{result:?}");
}

#[test]
fn a_dead_next_hop_in_the_middle_loses_half_of_the_flows() {
    let net = Net::new("ecmp-middle");
    second_link(&net.router, &net.server, 4);
    service(&net);
    fork(&net.router, "10.77.2.2", "10.77.4.2", "fd77:2::2", "fd77:4::2");
    for (tool, host) in ["iptables", "ip6tables"].into_iter().zip(SERVICE) {
        assert_eq!(net.probe(&spec(host, 40, 5)).received, 40);
        net.router.run(&format!("{tool} -A FORWARD -o second -j DROP"));
        let result = net.probe(&spec(host, 100, 5));
        assert_eq!(result.method, "syn");
        assert_half(&result);
        assert_flows(&net.probe(&ProbeSpec { flows: Some(16), ..spec(host, 160, 5) }));
    }
}

#[test]
fn a_dead_next_hop_of_the_prober_itself_loses_half_of_the_flows() {
    let net = Net::new("ecmp-source");
    second_link(&net.router, &net.client, 3);
    service(&net);
    net.router.run(&format!("ip route add {} via 10.77.2.2", SERVICE[0]));
    net.router.run(&format!("ip -6 route add {} via fd77:2::2", SERVICE[1]));
    fork(&net.client, "10.77.1.1", "10.77.3.1", "fd77:1::1", "fd77:3::1");
    for (tool, host) in ["iptables", "ip6tables"].into_iter().zip(SERVICE) {
        let clean = net.probe(&spec(host, 40, 5));
        assert_eq!((clean.method.as_str(), clean.received), ("connect", 40), "{clean:?}");
        net.router.run(&format!("{tool} -A FORWARD -i second -j DROP"));
        let result = net.probe(&spec(host, 100, 5));
        assert_half(&result);
        assert!(result.extra.notes.iter().any(|n| n.en.contains("routes every connection")), "{result:?}");
        assert_flows(&net.probe(&ProbeSpec { flows: Some(16), ..spec(host, 64, 5) }));
    }
}

#[test]
fn a_path_with_several_flows_names_the_bad_ones() {
    let net = Net::new("ecmp-path");
    second_link(&net.router, &net.server, 4);
    service(&net);
    fork(&net.router, "10.77.2.2", "10.77.4.2", "fd77:2::2", "fd77:4::2");
    net.router.run("iptables -A FORWARD -o second -j DROP");
    let url = format!("path://{}:8000", SERVICE[0]);
    let spec = ProbeSpec { count: Some(24), flows: Some(4), ..ProbeSpec::parse(&url).expect("url") };
    // Which flows a router sends where is its own affair: now and then it sends all of four one way.
    let mixed = |r: &ProbeResult| r.lost > 0 && r.received > 0;
    let result = (0..5).map(|_| net.probe(&spec)).find(mixed).expect("flows over both next hops");
    assert_flows(&result);
    assert_eq!(result.extra.flows.iter().map(|f| f.transmitted).sum::<u64>(), result.transmitted);
    assert_eq!(result.extra.hops.len(), 2, "{result:?}");
}

#[test]
fn a_routing_rule_for_the_port_is_followed() {
    let net = Net::new("rule");
    second_link(&net.router, &net.client, 3);
    net.client.run("ip route add 10.77.2.0/24 via 10.77.3.1 table 100");
    net.client.run("ip rule add ipproto tcp dport 8000 table 100");
    net.router.run("iptables -A FORWARD -i second -p tcp --dport 8000 -j DROP");
    let result = net.probe(&spec("10.77.2.2", 10, 5));
    assert_eq!((result.method.as_str(), result.lost), ("connect", 10), "{result:?}");
}

#[test]
fn a_flow_loses_no_more_than_the_network_does() {
    let net = Net::new("flow-reuse");
    // The answers alone: what the server then holds half open must not swallow the next SYN of the flow.
    net.router
        .run("iptables -A FORWARD -d 10.77.1.2 -p tcp -m statistic --mode random --probability .3 -j DROP");
    let result = net.probe(&ProbeSpec { flows: Some(4), ..spec("10.77.2.2", 400, 5) });
    let [low, high] = clopper_pearson(result.lost + result.late, result.transmitted, 0.0001).expect("data");
    assert!(low < 0.3 && 0.3 < high, "{:?} {:?}", result.loss, result.extra);
}
