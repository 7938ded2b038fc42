//! The recorder of `whydrop watch`: faults that are set at moments nobody chose, each named with the time at which its
//! loss began; and nothing where nothing happens.

use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use whydrop_host::Netns;
use whydrop_tests::{Namespace, Screen, is_root};

/// A fault: where, by what commands, and back; and what must be named of it.
struct Fault {
    on_server: bool,
    set: &'static [&'static str],
    unset: &'static [&'static str],
    named: &'static str,
    /// The kernel names the process that did it.
    by: Option<&'static str>,
}

const fn fault(
    on_server: bool,
    set: &'static [&'static str],
    unset: &'static [&'static str],
    named: &'static str,
    by: Option<&'static str>,
) -> Fault {
    Fault { on_server, set, unset, named, by }
}

const IPTABLES: Option<&str> = Some("iptables-nft");
const NFT: Option<&str> = Some("nft");

/// Of every kind that is listened to, and of those that only looks find.
const FAULTS: [Fault; 20] = [
    fault(
        true,
        &["iptables-nft -A INPUT -p udp -j DROP"],
        &["iptables-nft -F INPUT"],
        "iptables-nft filter INPUT: -p udp -j DROP appeared",
        IPTABLES,
    ),
    fault(
        true,
        &["iptables-nft -P INPUT DROP"],
        &["iptables-nft -P INPUT ACCEPT"],
        "filter INPUT: policy drop appeared",
        IPTABLES,
    ),
    fault(
        true,
        &["iptables-nft -t raw -A PREROUTING -p udp --dport 9 -j DROP"],
        &["iptables-nft -t raw -F PREROUTING"],
        "raw PREROUTING: -p udp -m udp --dport 9 -j DROP appeared",
        IPTABLES,
    ),
    fault(
        true,
        &["iptables-nft -t mangle -A INPUT -p udp -j DROP"],
        &["iptables-nft -t mangle -F INPUT"],
        "mangle INPUT: -p udp -j DROP appeared",
        IPTABLES,
    ),
    fault(
        true,
        &["iptables-nft -A INPUT -p udp -j REJECT"],
        &["iptables-nft -F INPUT"],
        "-j REJECT --reject-with icmp-port-unreachable appeared",
        IPTABLES,
    ),
    fault(
        true,
        &["iptables-nft -A INPUT -m statistic --mode random --probability 0.5 -j DROP"],
        &["iptables-nft -F INPUT"],
        "--probability 0.50000000000 -j DROP appeared",
        IPTABLES,
    ),
    fault(
        true,
        &["iptables-nft -A INPUT -m limit --limit 5/sec -j ACCEPT", "iptables-nft -A INPUT -p udp -j DROP"],
        &["iptables-nft -F INPUT"],
        "filter INPUT: -p udp -j DROP appeared",
        None,
    ),
    fault(
        true,
        &["iptables-nft -A OUTPUT -p udp --sport 9 -j DROP"],
        &["iptables-nft -F OUTPUT"],
        "filter OUTPUT: -p udp -m udp --sport 9 -j DROP appeared",
        IPTABLES,
    ),
    fault(
        false,
        &["iptables-nft -A OUTPUT -p udp -j DROP"],
        &["iptables-nft -F OUTPUT"],
        "filter OUTPUT: -p udp -j DROP appeared",
        IPTABLES,
    ),
    fault(
        false,
        &["iptables-nft -A INPUT -p udp --sport 9 -j DROP"],
        &["iptables-nft -F INPUT"],
        "filter INPUT: -p udp -m udp --sport 9 -j DROP appeared",
        IPTABLES,
    ),
    fault(
        true,
        &[
            "nft add table inet f ; add chain inet f in { type filter hook input priority 5 ; } ; add rule inet f in udp dport 9 drop",
        ],
        &["nft delete table inet f"],
        "inet f in: udp dport 9 drop appeared",
        NFT,
    ),
    fault(
        true,
        &["iptables-legacy -A INPUT -p udp -j DROP"],
        &["iptables-legacy -F INPUT"],
        "iptables-legacy filter INPUT: -p udp -j DROP appeared",
        None,
    ),
    fault(
        false,
        &["ip route add blackhole 10.46.0.2"],
        &["ip route del blackhole 10.46.0.2"],
        "route 10.46.0.2/32 table 254 metric 0 appeared: blackhole",
        None,
    ),
    fault(
        true,
        &["ip route add blackhole 10.46.0.1"],
        &["ip route del blackhole 10.46.0.1"],
        "route 10.46.0.1/32 table 254 metric 0 appeared: blackhole",
        None,
    ),
    fault(
        false,
        &["ip rule add to 10.46.0.2 prohibit"],
        &["ip rule del to 10.46.0.2 prohibit"],
        "to 10.46.0.2/32 appeared: prohibit",
        None,
    ),
    fault(
        false,
        &["ip rule add to 10.46.0.2 blackhole"],
        &["ip rule del to 10.46.0.2 blackhole"],
        "to 10.46.0.2/32 appeared: blackhole",
        None,
    ),
    fault(
        false,
        &["tc qdisc add dev eth0 root tbf rate 8kbit burst 200 limit 400"],
        &["tc qdisc del dev eth0 root"],
        "queue eth0 root: noqueue is now tbf",
        None,
    ),
    fault(
        true,
        &["ip link set eth0 down"],
        &["ip link set eth0 up"],
        "interface eth0: state=up is now state=down",
        None,
    ),
    fault(
        true,
        &["ip address del 10.46.0.2/24 dev eth0"],
        &["ip address add 10.46.0.2/24 dev eth0"],
        "address 10.46.0.2/24 dev eth0 is gone",
        None,
    ),
    fault(
        false,
        &["ip address del 10.46.0.1/24 dev eth0"],
        &["ip address add 10.46.0.1/24 dev eth0"],
        "address 10.46.0.1/24 dev eth0 is gone",
        None,
    ),
];

/// UDP back and forth between two namespaces until it is dropped.
struct Talk {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Talk {
    fn start(client: &Namespace, server: &Namespace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let within = |namespace: &Namespace, work: fn(&AtomicBool)| {
            let netns = Netns::open(&Path::new("/run/netns").join(namespace.name())).expect("open");
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || netns.run(|| work(&stop)).expect("entered"))
        };
        let answer = within(server, |stop| {
            let socket = UdpSocket::bind("0.0.0.0:9").expect("a socket");
            socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a limit");
            while !stop.load(Ordering::Relaxed) {
                if let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                    // What cannot be answered is the fault that is looked for.
                    socket.send_to(b"answer", from).ok();
                }
            }
        });
        let ask = within(client, |stop| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a limit");
            while !stop.load(Ordering::Relaxed) {
                socket.send_to(&[0; 40], "10.46.0.2:9").ok();
                socket.recv(&mut [0; 64]).ok();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { stop, threads: vec![answer, ask] }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// Seconds since midnight, UTC.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    since.as_secs_f64() % 86_400.0
}

/// The first `12:00:41.023` after a word, in seconds.
fn clock_after(text: &str, word: &str) -> Option<f64> {
    let (_, rest) = text.rsplit_once(word)?;
    let mut parts = rest.get(..12)?.split(':').map(str::parse::<f64>);
    Some(parts.next()?.ok()? * 3600.0 + parts.next()?.ok()? * 60.0 + parts.next()?.ok()?)
}

/// The last line that names what was set before the loss. Each line is drawn whole, and what was taken back for the fault
/// before is named, too.
fn told<'t>(text: &'t str, named: &str) -> Option<&'t str> {
    let set = |line: &&str| line.contains("changed shortly before") && line.contains(named);
    text.rsplit("\u{1b}[K").skip(1).find(set)
}

/// A moment that the test's author did not choose.
fn pause() {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").subsec_nanos();
    std::thread::sleep(Duration::from_millis(1500 + u64::from(nanos / 1000 % 1000)));
}

#[test]
fn twenty_faults_are_named_with_their_time_and_nothing_where_nothing_happens() {
    if !is_root() {
        return;
    }
    let (client, server) = (Namespace::new("rc"), Namespace::new("rs"));
    for namespace in [&client, &server] {
        // Its own addresses come and go with the interface, seconds later.
        namespace.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
    }
    client.join("10.46.0.1/24", &server, "10.46.0.2/24");
    let _talk = Talk::start(&client, &server);
    let mut screen = Screen::start(&format!("{} {}", server.target(), client.target()), 240, 40);
    screen.wait_for("LIVE");
    pause();
    screen.press("6");
    screen.wait_for("nothing so far");
    screen.press("1");
    for Fault { on_server, set, unset, named, by } in FAULTS {
        let place = if on_server { &server } else { &client };
        pause();
        screen.press("z");
        screen.forget();
        let before = now();
        set.iter().for_each(|line| drop(place.run(line)));
        let after = now();
        let said = screen.wait_until(named, |text| told(text, named).is_some()).to_owned();
        let line = told(&said, named).expect("a line");
        let changed = clock_after(line, "changed shortly before, ").or(clock_after(line, "up to "));
        let began = clock_after(&said, "since ").expect("a time");
        let changed = changed.unwrap_or_else(|| panic!("no time in {line}"));
        assert!(
            changed >= before - 0.1 && changed <= after + 5.0,
            "{named}: {changed} for {before}..{after}"
        );
        assert!((before - 4.0..after + 4.0).contains(&began), "{named}: began {began} for {before}..{after}");
        if let Some(by) = by {
            assert!(changed <= after + 1.0, "{named}: announced {changed} for {after}");
            assert!(line.contains(&format!("({by}, process ")), "{line}");
        }
        unset.iter().for_each(|line| drop(place.run(line)));
    }
    screen.press("q");
    screen.end();
}
