//! https:// probes against OpenSSL, with a certificate that nobody trusts and one that this machine does.

use std::path::PathBuf;
use std::time::{Duration, Instant};
use whydrop_model::ProbeResult;
use whydrop_probe::ProbeSpec;
use whydrop_tests::probe_net::{Net, V4, V6};
use whydrop_tests::{Background, command};

/// A directory with a key, a certificate made with it, and `openssl s_server` on port 443 that shows it.
struct Server {
    directory: PathBuf,
    _server: Background,
}

impl Server {
    fn start(net: &Net, purpose: &str, options: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("wd-probe-{purpose}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let dir = directory.display();
        command(&format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=web.example \
             -keyout {dir}/key.pem -out {dir}/cert.pem"
        ));
        let server = net.server.start(&format!(
            "openssl s_server -accept 443 -www -quiet -key {dir}/key.pem -cert {dir}/cert.pem {options}"
        ));
        let deadline = Instant::now() + Duration::from_secs(20);
        while net.server.run("ss -Hltn sport = 443").is_empty() {
            assert!(Instant::now() < deadline, "nobody listens on port 443");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { directory, _server: server }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

fn get(net: &Net, url: &str) -> ProbeResult {
    net.probe(&ProbeSpec::parse(url).expect("url"))
}

#[test]
fn a_handshake_is_told_whatever_the_certificate_is_worth() {
    let net = Net::new("https");
    for (options, version) in [("", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        let _server = Server::start(&net, "https", options);
        for host in [V4, V6] {
            let result = get(&net, &format!("https://{host}/"));
            let http = result.http.clone().expect("phases");
            assert_eq!(
                (result.received, http.status, http.error.as_deref()),
                (1, Some(200), None),
                "{result:?}"
            );
            let tls = http.tls.expect("encrypted");
            assert_eq!(tls.version.as_deref(), Some(version));
            assert!(tls.handshake_ms.is_some_and(|ms| ms > 0.0) && tls.distrust.is_some(), "{tls:?}");
            let parts = http.connect_ms.expect("connected") + tls.handshake_ms.expect("secured");
            assert!(
                // Rounding of the sum is not time.
                parts + http.first_byte_ms.expect("answered") <= http.total_ms.expect("ended") + 1e-6,
                "{result:?}"
            );
            assert_eq!(http.retransmissions, Some(0));
        }
    }
    // Somebody listens who does not speak TLS.
    let plain = get(&net, &format!("https://{V4}:8000/"));
    assert_eq!((plain.received, plain.lost), (0, 1), "{plain:?}");
}

#[test]
fn what_is_sent_again_is_told_by_its_phase() {
    let net = Net::new("https-phase");
    let _server = Server::start(&net, "https-phase", "");
    // The first SYN dies, and the first segment with the ClientHello.
    let lose = |what: &str| {
        net.router.run(&format!(
            "iptables -A FORWARD -p tcp --dport 443 {what} -m statistic --mode nth --every 1000 --packet 0 -j DROP"
        ));
    };
    lose("--tcp-flags SYN SYN");
    let http = get(&net, &format!("https://{V4}/")).http.expect("phases");
    let again = http.retransmissions_in.expect("TCP_INFO");
    assert_eq!((again.connect, again.tls, again.first_byte), (1, 0, 0), "{http:?}");
    assert!(http.connect_ms.is_some_and(|ms| ms > 900.0), "{http:?}");
    net.router.run("iptables -F FORWARD");
    lose("--tcp-flags PSH PSH");
    let http = get(&net, &format!("https://{V4}/")).http.expect("phases");
    let again = http.retransmissions_in.expect("TCP_INFO");
    assert_eq!((again.connect, again.first_byte), (0, 0), "{http:?}");
    assert!(again.tls >= 1 && http.tls.is_some_and(|t| t.handshake_ms > Some(100.0)), "{again:?}");
}
