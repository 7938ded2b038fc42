//! Servers and routers as they are: full queues, SYN cookies, unreachable hosts, limited ICMP, real services.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use whydrop_model::ProbeResult;
use whydrop_probe::ProbeSpec;
use whydrop_probe::stats::interval::clopper_pearson;
use whydrop_tests::Namespace;
use whydrop_tests::probe_net::{Net, V4, V6, netns};

fn spec(url: &str, count: u32, interval_ms: u64) -> ProbeSpec {
    let interval = Duration::from_millis(interval_ms);
    ProbeSpec { count: Some(count), interval, ..ProbeSpec::parse(url).expect("url") }
}

/// A listener on port 8002 of the server with a backlog of 5, as `python3 -m http.server` has. Nobody accepts.
fn small_backlog(net: &Net) -> TcpListener {
    let listener =
        netns(&net.server).run(|| TcpListener::bind("[::]:8002")).expect("entered").expect("bound");
    rustix::net::listen(&listener, 5).expect("a smaller backlog");
    listener
}

#[test]
fn a_full_accept_queue_is_loss_whose_direction_nobody_claims_to_know() {
    let net = Net::new("accept-queue");
    let listener = small_backlog(&net);
    let url = format!("tcp://{V4}:8002");
    assert_eq!(net.probe(&spec(&url, 10, 20)).received, 10);
    let address: SocketAddr = format!("{V4}:8002").parse().expect("an address");
    // The queue takes one more than the backlog says.
    let filled: Vec<TcpStream> = netns(&net.client)
        .run(|| (0..6).map(|_| TcpStream::connect(address).expect("connected")).collect())
        .expect("entered");
    let full = net.probe(&spec(&url, 10, 20));
    assert_eq!((full.transmitted, full.received, full.lost), (10, 0, 10), "{full:?}");
    assert_eq!((full.forward, full.reverse), (None, None), "{full:?}");
    for _ in &filled {
        listener.accept().expect("a connection that waits");
    }
    let drained = net.probe(&spec(&url, 10, 20));
    assert_eq!((drained.received, drained.lost), (10, 0), "{drained:?}");
}

#[test]
fn a_full_syn_queue_that_sends_cookies_does_not_turn_the_direction_round() {
    let net = Net::new("backlog");
    let _listener = small_backlog(&net);
    // Answers alone are lost: half-open connections fill the queue, then cookies are sent, which are never repeated.
    net.router
        .run("iptables -A FORWARD -d 10.77.1.2 -p tcp -m statistic --mode random --probability .3 -j DROP");
    net.server.run("sysctl -qw net.ipv4.tcp_syncookies=1 net.ipv4.tcp_synack_retries=5");
    let late = Duration::from_millis(3500);
    let result = net.probe(&ProbeSpec { late, ..spec(&format!("tcp://{V4}:8002"), 300, 10) });
    assert_eq!(result.transmitted, result.received + result.late + result.lost, "{result:?}");
    let [low, high] = clopper_pearson(result.lost + result.late, result.transmitted, 0.0001).expect("data");
    assert!(low < 0.3 && 0.3 < high, "{:?} {:?}", result.loss, result.extra.notes);
    if let Some(forward) = result.forward {
        assert!(
            forward.ci95[0] < 0.005,
            "nothing is lost on the way there: {forward:?} {:?}",
            result.extra.notes
        );
    }
}

#[test]
fn a_full_syn_queue_without_cookies_is_loss() {
    let net = Net::new("syn-queue");
    let _listener = small_backlog(&net);
    net.server.run("sysctl -qw net.ipv4.tcp_syncookies=0 net.ipv4.tcp_synack_retries=5");
    // No RST gets through, so every half-open connection stays.
    net.router.run("iptables -A FORWARD -d 10.77.2.2 -p tcp --tcp-flags RST RST -j DROP");
    let result = net.probe(&spec(&format!("tcp://{V4}:8002"), 40, 10));
    assert!((4..=12).contains(&result.received), "{result:?}");
    assert_eq!(result.transmitted, result.received + result.late + result.lost, "{result:?}");
}

#[test]
fn a_host_that_does_not_exist_is_named_by_its_router() {
    let net = Net::new("no-host");
    // Else the burst of six errors is used up by the second kind of probe.
    net.router.run("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0");
    net.router.run("sysctl -qw net.ipv4.neigh.eth2.mcast_solicit=1 net.ipv6.neigh.eth2.mcast_solicit=1");
    net.router
        .run("sysctl -qw net.ipv4.neigh.eth2.retrans_time_ms=50 net.ipv6.neigh.eth2.retrans_time_ms=50");
    for (host, router) in [("10.77.2.77", "10.77.1.1"), ("[fd77:2::77]", "fd77:1::1")] {
        for url in [format!("tcp://{host}:80"), format!("udp://{host}:7"), format!("icmp://{host}")] {
            let result = net.probe(&spec(&url, 4, 20));
            assert_eq!((result.lost, result.received, result.refused), (4, 0, 0), "{result:?}");
            let error = format!("host unreachable from {router}");
            assert!(result.icmp_errors.get(&error).is_some_and(|n| (1..=4).contains(n)), "{url} {result:?}");
        }
    }
}

#[test]
fn a_kernel_that_limits_its_icmp_is_no_loss() {
    let net = Net::new("ratelimit");
    // The default, said all the same: one error a second to each address, after a burst of six.
    net.router.run("sysctl -qw net.ipv4.icmp_ratelimit=1000 net.ipv4.icmp_ratemask=6168");
    let fast = spec(&format!("path://{V4}"), 40, 100);
    let never = std::sync::atomic::AtomicBool::new(false);
    let result = whydrop_host::probing::run(&netns(&net.client), "netns:c", &fast, &never, &|_| ());
    let result = result.expect("a result");
    let [first, last] = &result.extra.hops[..] else { panic!("{result:?}") };
    assert_eq!((first.transmitted, last.transmitted), (40, 40), "{result:?}");
    assert!(first.received < 20, "the kernel limits nothing: {result:?}");
    assert_eq!((first.verdict.as_str(), last.verdict.as_str()), ("limited", "ok"), "{result:?}");
    assert_eq!((result.received, result.loss), (40, Some(0.0)), "{result:?}");
}

/// Waits until somebody listens on `port` of both families, TCP and, if asked, UDP.
fn listening(namespace: &Namespace, port: u16, udp: bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let there = |kind: &str| !namespace.run(&format!("ss -Hln{kind} sport = {port}")).is_empty();
    while !(there("t") && (!udp || there("u"))) {
        assert!(Instant::now() < deadline, "nobody listens on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn real_services_answer_over_both_families() {
    let net = Net::new("services");
    let directory = std::env::temp_dir().join(format!("wd-probe-services-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let dir = directory.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {dir}/{name};"))
        .concat();
    let config = format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error; events {{}} http {{ access_log off; {temporary} \
         server {{ listen [::]:80 ipv6only=off; root {dir}; }} }}"
    );
    std::fs::write(directory.join("conf"), config).expect("a file");
    let _nginx = net.server.start(&format!("nginx -c {dir}/conf"));
    let _iperf = net.server.start("iperf3 --server --logfile /dev/null");
    let dnsmasq = "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root";
    let _dnsmasq = net.server.start(&format!("{dnsmasq} --pid-file={dir}/dnsmasq.pid"));
    for (port, udp) in [(80, false), (5201, false), (53, true)] {
        listening(&net.server, port, udp);
    }
    for host in [V4, V6] {
        for url in ["tcp://HOST:80", "tcp://HOST:5201", "tcp://HOST:53", "udp://HOST:53"] {
            let result: ProbeResult = net.probe(&spec(&url.replace("HOST", host), 30, 10));
            let counts =
                (result.transmitted, result.received, result.lost, result.refused, result.duplicates);
            assert_eq!(counts, (30, 30, 0, 0, 0), "{url} {result:?}");
        }
    }
    std::fs::remove_dir_all(&directory).ok();
}
