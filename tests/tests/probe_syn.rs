//! tcp:// probes on the wire: namespaces c - r - s, losses placed in the middle, as in a network.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use whydrop_host::probing;
use whydrop_probe::ProbeSpec;
use whydrop_probe::progress::Progress;
use whydrop_probe::stats::interval::clopper_pearson;
use whydrop_tests::probe_net::{Net, V4, V6, netns, run};

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

#[test]
fn with_both_ends_in_sight_each_direction_is_counted() {
    let net = Net::new("ends");
    lose(&net, "10.77.2.2", 0.2);
    lose(&net, "10.77.1.2", 0.3);
    net.server
        .run("iptables -A INPUT -p tcp --dport 8000 -m statistic --mode nth --every 10 --packet 0 -j DROP");
    let (client, server) = (netns(&net.client), netns(&net.server));
    let late = Duration::from_millis(1500);
    let spec = ProbeSpec { late, ..spec(&format!("tcp://{V4}:8000"), 200, 10) };
    let never = AtomicBool::new(false);
    let result =
        probing::run_between(&client, Some(&server), "netns:c", &spec, &never, &|_| ()).expect("a result");
    // The router's own counters are the truth.
    let dropped = |to: &str| -> u64 {
        let rules = net.router.run("iptables -nvxL FORWARD");
        let rule = rules.lines().find(|line| line.contains(&format!(" {to} "))).expect("a rule");
        rule.split_whitespace().next().expect("packets").parse().expect("a number")
    };
    let forward = result.forward.expect("counted").loss * 200.0;
    // The rule also drops RSTs of this side: those are not probes.
    assert!(forward as u64 <= dropped("10.77.2.2"), "{result:?}");
    let note = result.extra.notes.iter().find(|n| n.en.starts_with("seen at both ends")).expect("a note");
    let inside: u64 =
        note.en.split(", ").nth(1).and_then(|w| w.split(' ').next()?.parse().ok()).expect("a number");
    assert!((5..=25).contains(&inside), "one of ten packets dies in the server: {}", note.en);
    let wrong = probing::run_between(&client, Some(&client), "netns:c", &spec, &never, &|_| ());
    assert!(wrong.expect_err("the address is elsewhere").to_string().contains("is not there"));
}

#[test]
fn a_server_that_never_repeats_itself_leaves_the_direction_open() {
    let net = Net::new("cookies");
    // Every SYN-ACK is a cookie, which is never sent again.
    net.server.run("sysctl -qw net.ipv4.tcp_syncookies=2");
    lose(&net, "10.77.1.2", 0.3);
    let late = Duration::from_millis(1500);
    let result = net.probe(&ProbeSpec { late, ..spec(&format!("tcp://{V4}:8000"), 100, 10) });
    assert_eq!((result.forward, result.reverse, result.late), (None, None, 0), "{result:?}");
    assert!(result.extra.notes.iter().any(|n| n.en.contains("SYN cookies")), "{result:?}");
}
