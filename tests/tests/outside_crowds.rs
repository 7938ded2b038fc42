//! More namespaces and more kinds of drops than anybody planned for: nothing is left out in silence.

use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use whydrop_host::Netns;
use whydrop_tests::{Namespace, diagnose, whydrop};

/// More than the tracer's table of namespaces held when its size was fixed.
const NAMESPACES: usize = 1100;
/// With every protocol over each: more kinds than the table of one namespace holds (4096).
const LINKS: u8 = 20;

fn opened(namespace: &Namespace) -> Netns {
    Netns::open(&Path::new("/run/netns").join(namespace.name())).expect("open")
}

/// Namespaces in which nothing happens, removed with this value.
struct Crowd(Vec<String>);

impl Crowd {
    fn of(n: usize) -> Self {
        let crowd = Self((0..n).map(|i| format!("wd-test-crowd{i}-{}", std::process::id())).collect());
        crowd.each("add");
        crowd
    }

    /// One `ip` for all of them.
    fn each(&self, verb: &str) {
        let lines = self.0.iter().fold(String::new(), |mut lines, name| {
            writeln!(lines, "netns {verb} {name}").expect("memory");
            lines
        });
        let mut ip =
            Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("ip starts");
        std::io::Write::write_all(&mut ip.stdin.take().expect("piped"), lines.as_bytes()).expect("ip reads");
        assert!(ip.wait().expect("waited").success(), "ip netns {verb}");
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.each("delete");
    }
}

/// How the drop events were read: there is one reader for all namespaces.
fn step(report: &serde_json::Value) -> String {
    let rows = report["coverage"].as_array().expect("a list");
    let row = rows.iter().find(|row| row["source"] == "drop_events");
    row.map_or_else(|| "no row".to_owned(), |row| format!("{}: {}", row["status"], row["detail"]))
}

#[test]
fn more_than_a_thousand_namespaces_are_all_traced() {
    let guilty = Namespace::new("crowd");
    guilty.run("iptables -A INPUT -p tcp --dport 8080 -j DROP");
    let netns = opened(&guilty);
    let alone = diagnose(&["diagnose", &guilty.target(), "--passive", "--duration", "100ms"]);
    let crowd = Crowd::of(NAMESPACES);
    let ended = AtomicBool::new(false);
    let knock = || {
        while !ended.load(Ordering::Relaxed) {
            let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080).into();
            TcpStream::connect_timeout(&to, Duration::from_millis(1500)).ok();
        }
    };
    let found = std::thread::scope(|scope| {
        let client = scope.spawn(|| netns.run(knock).expect("entered"));
        let found = diagnose(&["diagnose", "--all", "--passive", "--duration", "5s"]);
        ended.store(true, Ordering::Relaxed);
        client.join().expect("knocked");
        found
    });
    let targets = found.report["targets"].as_array().expect("a list").len();
    assert!(targets > NAMESPACES, "{targets} targets");
    assert_eq!(step(&found.report), step(&alone.report), "the tracer stepped down");
    let findings = found.report["findings"].as_array().expect("a list");
    let named = |finding: &&serde_json::Value| {
        finding["cause"] == "netfilter.drop_rule" && finding["target"] == guilty.target().as_str()
    };
    assert!(findings.iter().any(|finding| named(&finding)), "{findings:#?}");
    drop(crowd);
}

/// Sends a packet of each protocol to each network of the guest; how many.
fn every_protocol() -> usize {
    let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)).expect("root");
    let mut sent = 0;
    for link in 0..LINKS {
        for protocol in 1..=254_u8 {
            let (from, to) = (Ipv4Addr::new(10, 99, link, 1), Ipv4Addr::new(10, 99, link, 2));
            // Version, length and check sum are filled in where they are zero; a payload that no protocol would take.
            let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0];
            packet.extend(from.octets());
            packet.extend(to.octets());
            packet.resize(40, 0);
            sendto(&raw, &packet, SendFlags::empty(), &SocketAddrV4::new(to, 0)).expect("sent");
            sent += 1;
        }
    }
    sent
}

#[test]
fn kinds_of_drops_that_find_no_room_are_told_in_the_first_line() {
    let (hostile, guest) = (Namespace::new("kinds"), Namespace::new("kindsguest"));
    for link in 0..LINKS {
        hostile.run(&format!("ip link add v{link} type veth peer name v{link} netns {}", guest.name()));
        for (namespace, own, other) in [(&hostile, 1, 2), (&guest, 2, 1)] {
            namespace.run(&format!("ip link set v{link} address 02:00:00:00:{own:02x}:{link:02x} up"));
            namespace.run(&format!("ip address add 10.99.{link}.{own}/24 dev v{link}"));
            let station = format!("lladdr 02:00:00:00:{other:02x}:{link:02x}");
            namespace.run(&format!("ip neigh replace 10.99.{link}.{other} {station} dev v{link}"));
        }
    }
    guest.run("iptables -t raw -A PREROUTING -j DROP");
    let netns = opened(&hostile);
    let recording = std::env::temp_dir().join(format!("whydrop-kinds-{}.json", std::process::id()));
    let record = recording.to_str().expect("a name");
    let ended = AtomicBool::new(false);
    let storm = || {
        while !ended.load(Ordering::Relaxed) {
            assert!(every_protocol() > 4096);
        }
    };
    let found = std::thread::scope(|scope| {
        let sender = scope.spawn(|| netns.run(storm).expect("entered"));
        let found =
            diagnose(&["diagnose", &guest.target(), "--passive", "--duration", "3s", "--record", record]);
        ended.store(true, Ordering::Relaxed);
        sender.join().expect("sent");
        found
    });
    let text = whydrop().args(["diagnose", "--replay", record]).output().expect("started");
    std::fs::remove_file(&recording).ok();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    let first = text.lines().next().unwrap_or_default();
    assert_ne!(found.report["verdict"], "clear", "{}", found.said);
    assert!(found.report["ledger"]["uncounted"].as_u64() > Some(0), "{}", found.report["ledger"]);
    assert!(first.contains("found no room") || first.contains("without a place"), "{text}");
}
