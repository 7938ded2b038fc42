//! The way leads through namespaces that nobody named: whoever suffers there, and whatever takes packets there, is found.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use whydrop_host::Netns;
use whydrop_tests::{Diagnosis, Namespace, diagnose, whydrop};

const SERVER: &str = "10.97.2.2";
const WINDOW: &str = "3s";
/// How long a program may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client, a router and a server in a row.
struct Row {
    client: Namespace,
    router: Namespace,
    server: Namespace,
}

impl Row {
    fn new(purpose: &str) -> Self {
        let name = |end: &str| Namespace::new(&format!("way-{purpose}-{end}"));
        let row = Self { client: name("c"), router: name("r"), server: name("s") };
        row.client.join("10.97.1.1/24", &row.router, "10.97.1.2/24");
        row.router.run(&format!("ip link add eth1 type veth peer name eth0 netns {}", row.server.name()));
        for (namespace, device, address) in
            [(&row.router, "eth1", "10.97.2.1/24"), (&row.server, "eth0", "10.97.2.2/24")]
        {
            namespace.run(&format!("ip address add {address} dev {device}"));
            namespace.run(&format!("ip link set {device} up"));
        }
        row.router.run("sysctl -qw net.ipv4.ip_forward=1");
        row.client.run("ip route add default via 10.97.1.2");
        row.server.run("ip route add default via 10.97.2.1");
        row
    }
}

/// A program that connects to port 80 of an address again and again, ended when this value is dropped.
struct Client(Child);

impl Client {
    fn start(namespace: &Namespace) -> Self {
        Self::to(namespace, SERVER)
    }

    fn to(namespace: &Namespace, address: &str) -> Self {
        let script =
            format!("while :; do timeout 0.4 bash -c 'echo >/dev/tcp/{address}/80'; sleep 0.1; done");
        let child = Command::new("ip")
            .args(["netns", "exec", namespace.name(), "bash", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a client");
        let client = Self(child);
        let namespace = std::fs::read_link(Path::new("/proc/self/ns/net")).expect("a link");
        let begun = Instant::now();
        while std::fs::read_link(client.process()).ok().as_ref().is_none_or(|now| *now == namespace) {
            assert!(begun.elapsed() < PATIENCE, "the client does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        client
    }

    fn process(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[track_caller]
fn assert_finding(found: &Diagnosis, cause: &str, target: &str) {
    found.assert_causes(&[cause]);
    assert_eq!(found.report["findings"][0]["target"], target, "{}", found.said);
}

/// Role of a namespace in the report, if it stands there.
fn role(found: &Diagnosis, target: &str) -> Option<String> {
    let targets = found.report["targets"].as_array().expect("targets is a list");
    let target = targets.iter().find(|row| row["id"] == target)?;
    Some(target["role"].as_str().expect("a role").to_owned())
}

#[test]
fn a_fault_on_the_way_is_found_when_only_an_end_is_named() {
    let row = Row::new("mid");
    row.router.run("iptables -A FORWARD -p tcp --dport 80 -j DROP");
    let _client = Client::start(&row.client);
    for end in [&row.client, &row.server] {
        let found = diagnose(&["diagnose", &end.target(), "--passive", "--duration", WINDOW]);
        assert_finding(&found, "netfilter.drop_rule", &row.router.target());
        assert_eq!(role(&found, &end.target()).as_deref(), Some("target"), "{}", found.said);
        assert_eq!(role(&found, &row.router.target()).as_deref(), Some("surrounding"), "{}", found.said);
    }
}

#[test]
fn a_fault_at_the_server_is_found_when_only_the_client_is_named() {
    let row = Row::new("far");
    row.server.run("iptables -A INPUT -p tcp --dport 80 -j DROP");
    let _client = Client::start(&row.client);
    let found = diagnose(&["diagnose", &row.client.target(), "--passive", "--duration", WINDOW]);
    assert_finding(&found, "netfilter.drop_rule", &row.server.target());
}

#[test]
fn who_suffers_is_found_in_a_namespace_without_name() {
    let row = Row::new("nameless");
    row.server.run("iptables -A INPUT -p tcp --dport 80 -j DROP");
    // A rule in front of a port that is not offered would do its duty to whoever was not asked about.
    let server = Netns::open(&Path::new("/run/netns").join(row.server.name())).expect("open");
    let _offered = server.run(|| std::net::TcpListener::bind("0.0.0.0:80")).expect("entered").expect("bound");
    let client = Client::start(&row.client);
    let Row { client: named, router: _router, server } = row;
    // Its process keeps it.
    drop(named);
    let found = diagnose(&["diagnose", &server.target(), "--passive", "--duration", WINDOW]);
    assert_finding(&found, "netfilter.drop_rule", &server.target());
    let flows = found.report["flows"].as_array().expect("flows is a list");
    let target = flows.first().and_then(|flow| flow["target"].as_str()).expect(&found.said);
    assert!(target.starts_with("pid:"), "{}", found.said);
    assert_eq!(role(&found, target).as_deref(), Some("surrounding"), "{}", found.said);
    drop(client);
}

#[test]
fn what_is_lost_around_and_concerns_no_target_is_no_finding() {
    let row = Row::new("aside");
    // The router's own talk with the server does not pass the client.
    row.server.run("iptables -A INPUT -p tcp --dport 80 -j DROP");
    let _talk = Client::start(&row.router);
    let found = diagnose(&["diagnose", &row.client.target(), "--passive", "--duration", "1s"]);
    assert_eq!(found.status, 0, "{}", found.said);
}

#[test]
fn behind_a_translator_the_cause_stands_at_the_backend() {
    let row = Row::new("dnat");
    row.router.run(&format!(
        "iptables -t nat -A PREROUTING -p tcp -d 10.97.1.2 --dport 80 -j DNAT --to-destination {SERVER}:8080"
    ));
    row.server.run("iptables -A INPUT -p tcp --dport 8080 -j DROP");
    let _client = Client::to(&row.client, "10.97.1.2");
    let found = diagnose(&["diagnose", &row.client.target(), "--passive", "--duration", WINDOW]);
    assert_finding(&found, "netfilter.drop_rule", &row.server.target());
}

/// What `whydrop way` says from the client to the server, and its status.
fn way(row: &Row, arguments: &[&str]) -> (Option<i32>, String) {
    let url = format!("tcp://{SERVER}:80");
    let ends = ["way", &url, "--from", &row.client.target(), "--to", &row.server.target()];
    let output = whydrop().args(ends).args(arguments).output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_way_says_what_stands_on_it_beside_rules_and_routes() {
    let row = Row::new("gates");
    let server = Netns::open(&Path::new("/run/netns").join(row.server.name())).expect("open");
    let _offered = server.run(|| std::net::TcpListener::bind("0.0.0.0:80")).expect("entered").expect("bound");
    let shows = |word: &str, status: i32, what: &str| {
        let (code, said) = way(&row, &["--json", "--lang", "en"]);
        let told: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!((code, told["end"].as_str()), (Some(status), Some(word)), "{said}");
        let steps = ["request", "answer"].map(|way| told[way].as_array().cloned().unwrap_or_default());
        let texts: Vec<String> = steps.concat().iter().map(|step| step["text"].to_string()).collect();
        assert!(texts.iter().any(|text| text.contains(what)), "{what}: {texts:?}");
    };
    shows("arrives", 0, "eth0 carries packets of up to 1500 bytes");

    let policy = "dir in src 10.97.1.0/24 dst 10.97.2.0/24";
    row.server.run(&format!("ip xfrm policy add {policy} action block"));
    shows("dropped", 1, "dir in: blocks");
    row.server.run(&format!("ip xfrm policy delete {policy}"));

    row.router.run("ip link set eth1 mtu 1400");
    shows("unclear", 3, "and its other end takes 1400: larger ones vanish there");
    row.router.run("ip link set eth1 mtu 1500");

    row.router.run("sysctl -qw net.ipv4.conf.eth0.rp_filter=1");
    shows("arrives", 0, "rp_filter of eth0: 10.97.1.1 may come by it");
    row.router.run("ip route add 10.97.1.1/32 dev eth1");
    shows("dropped", 1, "rp_filter of eth0 discards");
    let (_, said) = way(&row, &["--lang", "zh"]);
    assert!(said.contains("eth0 的 rp_filter 丢弃"), "{said}");
}
