//! `--sizes`: segments that are too large for the path, found over a web server's connections.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use whydrop_tests::probe_net::{Net, V4, V6, netns};
use whydrop_tests::whydrop;

/// A web server on port 8001 of the server that answers every request with 64 kB.
fn serve(net: &Net) {
    let listener =
        netns(&net.server).run(|| TcpListener::bind("[::]:8001")).expect("entered").expect("bound");
    // Goes on until the test process ends. A client that has seen enough closes early: no error of the test.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut request, mut buffer) = (vec![], [0; 4096]);
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(n) if n > 0 => request.extend(&buffer[..n]),
                        _ => return,
                    }
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n").ok();
                stream.write_all(&[b'x'; 65536]).ok();
            });
        }
    });
}

/// The sweep's JSON.
fn sweep(net: &Net, host: &str) -> Value {
    let url = format!("http://{host}:8001/");
    let output = whydrop()
        .args(["probe", "--from", &net.client.target(), &url, "--sizes", "--json"])
        .output()
        .expect("whydrop starts");
    let out = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&out)
        .unwrap_or_else(|e| panic!("{e}: {out} {}", String::from_utf8_lossy(&output.stderr)))
}

/// Asserts verdict, largest size that passes and smallest that is stuck, of one direction.
#[track_caller]
fn assert_limit(json: &Value, way: &str, verdict: &str, passes: u64, stuck: Option<u64>) {
    let limit = &json["sizes"][way];
    assert_eq!(limit["verdict"], verdict, "{json}");
    assert_eq!((limit["passes"].as_u64(), limit["stuck"].as_u64()), (Some(passes), stuck), "{json}");
}

/// A filter that keeps the router silent.
fn silence(net: &Net) {
    net.router.run("iptables -A OUTPUT -p icmp -j DROP");
    net.router.run("ip6tables -A OUTPUT -p icmpv6 --icmpv6-type packet-too-big -j DROP");
}

#[test]
fn a_wide_path_passes_and_a_router_that_speaks_is_heard() {
    let net = Net::new("sizes-wide");
    serve(&net);
    for host in [V4, V6] {
        let json = sweep(&net, host);
        assert_limit(&json, "there", "passes", 1500, None);
        assert_limit(&json, "back", "passes", 1500, None);
        assert_eq!(json["notes"], Value::Array(vec![]), "{json}");
    }
    net.router.run("ip link set eth2 mtu 1400");
    let json = sweep(&net, V4);
    assert_limit(&json, "there", "passes", 1400, None);
    assert_eq!(json["sizes"]["there"]["told"], true, "{json}");
}

#[test]
fn large_requests_that_vanish_are_found_with_their_size() {
    let net = Net::new("sizes-there");
    serve(&net);
    silence(&net);
    net.router.run("ip link set eth2 mtu 1400");
    for host in [V4, V6] {
        let json = sweep(&net, host);
        assert_limit(&json, "there", "stuck", 1400, Some(1401));
        assert_limit(&json, "back", "passes", 1500, None);
        let note = json["notes"][0].as_str().expect("a note");
        assert!(
            note.contains("vanish on the way there") && note.contains("of 1401 bytes never do"),
            "{json}"
        );
    }
}

#[test]
fn large_answers_that_vanish_are_found_with_their_size() {
    let net = Net::new("sizes-back");
    serve(&net);
    silence(&net);
    net.router.run("ip link set eth1 mtu 1400");
    let json = sweep(&net, V4);
    assert_limit(&json, "there", "passes", 1500, None);
    assert_limit(&json, "back", "stuck", 1400, Some(1401));
    assert!(json["notes"][0].as_str().is_some_and(|n| n.contains("vanish on the way back")), "{json}");
}

#[test]
fn ordinary_loss_accuses_no_link() {
    let net = Net::new("sizes-loss");
    serve(&net);
    net.router.run("iptables -A FORWARD -p tcp -m statistic --mode random --probability .1 -j DROP");
    for _ in 0..5 {
        let json = sweep(&net, V4);
        for way in ["there", "back"] {
            assert_limit(&json, way, "passes", 1500, None);
        }
    }
}
