//! Answers from another address than the probed one, and address translation that only looks like it.

use serde_json::Value;
use std::net::UdpSocket;
use std::time::Duration;
use whydrop_probe::ProbeSpec;
use whydrop_tests::probe_net::{Net, V4, V6, netns};
use whydrop_tests::whydrop;

fn spec(url: &str, count: u32) -> ProbeSpec {
    let interval = Duration::from_millis(10);
    ProbeSpec { count: Some(count), interval, ..ProbeSpec::parse(url).expect("url") }
}

/// Makes the server's answers leave with another source address, statelessly.
fn answer_from_elsewhere(net: &Net) {
    net.server.run("nft add table inet wrong");
    net.server.run("nft add chain inet wrong out { type filter hook postrouting priority 300; }");
    for protocol in ["tcp", "icmp"] {
        net.server.run(&format!(
            "nft add rule inet wrong out meta l4proto {protocol} ip saddr {V4} ip saddr set 10.77.2.3"
        ));
    }
    net.server
        .run("nft add rule inet wrong out meta l4proto tcp ip6 saddr fd77:2::2 ip6 saddr set fd77:2::3");
}

#[test]
fn an_answer_from_elsewhere_is_no_answer_and_is_named() {
    let net = Net::new("elsewhere");
    answer_from_elsewhere(&net);
    for (url, wrong, port) in [
        (format!("tcp://{V4}:8000"), "10.77.2.3", Some(8000)),
        (format!("tcp://{V6}:8000"), "fd77:2::3", Some(8000)),
        (format!("tcp://{V4}:9"), "10.77.2.3", Some(9)),
        (format!("icmp://{V4}"), "10.77.2.3", None),
    ] {
        let result = net.probe(&spec(&url, 10));
        assert_eq!((result.transmitted, result.received, result.lost), (10, 0, 10), "{result:?}");
        assert_eq!(result.extra.answered_elsewhere, 10, "{result:?}");
        let [source] = result.extra.elsewhere[..] else { panic!("{result:?}") };
        assert_eq!((source.address.to_string().as_str(), source.port, source.probes), (wrong, port, 10));
        assert_eq!((result.forward, result.reverse), (None, None), "the SYNs arrived: {result:?}");
    }
}

#[test]
fn it_is_seen_although_the_own_firewall_drops_it() {
    let net = Net::new("elsewhere-state");
    answer_from_elsewhere(&net);
    net.client.run("iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT");
    net.client.run("iptables -P INPUT DROP");
    let result = net.probe(&spec(&format!("tcp://{V4}:8000"), 10));
    assert_eq!((result.lost, result.extra.answered_elsewhere), (10, 10), "{result:?}");
    assert_eq!(result.extra.dropped_on_return, Some(0), "no right answer came: {result:?}");
}

#[test]
fn a_service_with_two_addresses_that_answers_from_the_wrong_one_is_named() {
    let net = Net::new("elsewhere-udp");
    net.server.run("ip addr add 10.77.2.3/24 dev eth0");
    let socket = netns(&net.server).run(|| UdpSocket::bind(("0.0.0.0", 7))).expect("entered").expect("bound");
    // Goes on until the test process ends.
    std::thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..n], from).ok();
        }
    });
    let right = net.probe(&spec(&format!("udp://{V4}:7"), 10));
    assert_eq!((right.received, right.extra.elsewhere.len()), (10, 0), "{right:?}");
    let probe = |arguments: &[&str]| {
        let mut command = whydrop();
        command.args(["probe", "--from", &net.client.target(), "udp://10.77.2.3:7", "-c", "3", "-i", "10ms"]);
        let output = command.args(arguments).output().expect("whydrop starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = probe(&[]);
    assert_eq!(said.matches("answered from 10.77.2.2:7, which is not what was probed").count(), 3, "{said}");
    assert!(said.contains("3 of the lost were answered, but from 10.77.2.2:7"), "{said}");
    assert!(said.contains("10.77.2.2:7 answered 3") && said.is_ascii(), "{said}");
    let json: Value = serde_json::from_str(&probe(&["--json"])).expect("one object");
    assert_eq!((&json["lost"], &json["answered_elsewhere"]), (&3.into(), &3.into()), "{json}");
    assert_eq!(json["elsewhere"][0]["address"], "10.77.2.2", "{json}");
    assert!(probe(&["--lang", "zh"]).contains("应答来自 10.77.2.2:7"));
}

#[test]
fn what_this_machine_translates_has_left_and_is_answered_by_the_right_one() {
    let net = Net::new("dnat");
    // As for a service address of a cluster, or a published port of a container.
    net.client.run("iptables -t nat -A OUTPUT -p tcp -d 10.77.9.9 -j DNAT --to-destination 10.77.2.2:8000");
    net.router.run("iptables -A FORWARD -p tcp -m statistic --mode nth --every 3 --packet 0 -j DROP");
    let result = net.probe(&spec("tcp://10.77.9.9:80", 30));
    assert!(result.received > 0 && result.lost > 0, "{result:?}");
    assert_eq!((result.extra.answered_elsewhere, result.extra.elsewhere.len()), (0, 0), "{result:?}");
    assert_eq!(result.extra.never_left, Some(0), "{result:?}");
}
