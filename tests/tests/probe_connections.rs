//! http:// probes, and tcp:// probes without raw sockets, against real servers.

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::time::{Duration, Instant};
use whydrop_model::ProbeResult;
use whydrop_probe::ProbeSpec;
use whydrop_tests::probe_net::{Net, V4, V6, run};
use whydrop_tests::{Background, Namespace};

/// Waits until somebody listens on `port` in the namespace.
fn listening(namespace: &Namespace, port: u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while namespace.run(&format!("ss -Hltn sport = {port}")).is_empty() {
        assert!(Instant::now() < deadline, "nobody listens on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A directory of its own with a file of one megabyte, served by nginx on port 80 and by python on port 8080.
struct Servers {
    directory: std::path::PathBuf,
    _nginx: Background,
    _python: Background,
}

impl Servers {
    fn start(net: &Net, purpose: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("wd-probe-{purpose}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join("big"), vec![b'x'; 1 << 20]).expect("a file");
        let dir = directory.display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {dir}/{name};"))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error; events {{}} http {{ access_log off; {temporary} \
             server {{ listen [::]:80 ipv6only=off; root {dir}; }} }}"
        );
        std::fs::write(directory.join("conf"), config).expect("a file");
        // nginx's workers run as another user.
        std::fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("mode");
        let nginx = net.server.start(&format!("nginx -c {dir}/conf"));
        let python = net.server.start(&format!("python3 -m http.server 8080 --bind :: --directory {dir}"));
        listening(&net.server, 80);
        listening(&net.server, 8080);
        Self { directory, _nginx: nginx, _python: python }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

fn get(net: &Net, url: &str) -> ProbeResult {
    let timeout = Duration::from_secs(3);
    net.probe(&ProbeSpec { timeout, ..ProbeSpec::parse(url).expect("url") })
}

#[test]
fn a_get_is_told_in_phases() {
    let net = Net::new("http");
    let _servers = Servers::start(&net, "http");
    for host in [V4, V6] {
        for port in [80, 8080] {
            let result = get(&net, &format!("http://{host}:{port}/big"));
            assert_eq!((result.transmitted, result.received, result.lost), (1, 1, 0), "{result:?}");
            let http = result.http.clone().expect("phases");
            assert_eq!((http.status, http.error.as_deref()), (Some(200), None), "{result:?}");
            assert!(http.bytes > 1 << 20, "{result:?}");
            assert!(http.connect_ms < http.total_ms && http.first_byte_ms.is_some(), "{result:?}");
            assert_eq!(http.retransmissions, Some(0));
            assert!(http.mss.is_some_and(|(send, receive)| send > 1000 && receive > 1000), "{result:?}");
        }
        let result = get(&net, &format!("http://{host}/absent"));
        assert_eq!((result.received, result.http.and_then(|h| h.status)), (1, Some(404)));
        let result = get(&net, &format!("http://{host}:9/"));
        assert_eq!((result.received, result.refused), (1, 1), "{:?}", result.http);
    }
}

#[test]
fn large_segments_that_vanish_end_in_a_timeout_after_the_connection() {
    let net = Net::new("hole");
    let _servers = Servers::start(&net, "hole");
    // A narrow link behind the router, and nobody may say so.
    net.router.run("ip link set eth1 mtu 1000");
    net.router.run("iptables -A OUTPUT -p icmp -j DROP");
    let result = get(&net, &format!("http://{V4}/big"));
    let http = result.http.clone().expect("phases");
    assert_eq!((result.transmitted, result.lost), (1, 1), "{result:?}");
    assert_eq!(http.error.as_deref(), Some("timeout"), "{result:?}");
    assert!(http.connect_ms.is_some() && http.total_ms.is_none(), "{result:?}");
}

#[test]
fn without_raw_sockets_a_handshake_tells_the_direction() {
    let net = Net::new("connect");
    for (forward, reverse) in [(0.0, 0.0), (0.3, 0.0), (0.0, 0.3)] {
        net.router.run("iptables -F FORWARD");
        for (to, probability) in [("10.77.2.2", forward), ("10.77.1.2", reverse)] {
            net.router.run(&format!(
                "iptables -A FORWARD -d {to} -p tcp -m statistic --mode random --probability {probability} -j DROP"
            ));
        }
        let spec = ProbeSpec {
            count: Some(100),
            interval: Duration::from_millis(10),
            late: Duration::from_secs(5),
            ..ProbeSpec::parse(&format!("tcp://{V4}:8000")).expect("url")
        };
        let result = unprivileged(|| run(&net.client, &spec));
        assert_eq!(result.method, "connect");
        assert_eq!(result.transmitted, result.received + result.late + result.lost, "{result:?}");
        let truth = 1.0 - (1.0 - forward) * (1.0 - reverse);
        let [low, high] = result.loss_ci95.expect("data");
        assert!(low - 0.1 <= truth && truth <= high + 0.1, "{result:?}");
        let [f, r] = [result.forward, result.reverse].map(|s| s.unwrap_or_else(|| panic!("{result:?}")));
        for (share, truth) in [(f, forward), (r, reverse)] {
            let [low, high] = share.ci95.map(|edge| share.loss + 1.7 * (edge - share.loss));
            assert!(low <= truth && truth <= high + 0.005, "{truth} is outside {share:?}");
        }
    }
}

/// Runs `work` on a thread that may enter a namespace, but not open a raw socket.
fn unprivileged<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut sets = capabilities(None).expect("capabilities");
            sets.effective.remove(CapabilitySet::NET_RAW);
            set_capabilities(None, sets).expect("fewer capabilities");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
