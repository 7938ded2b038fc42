//! A known number of attempts, refusals, resets and repeats: the kernel's signals give exactly these numbers, by
//! conversation, and the kernel's own counters agree.

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use whydrop_host::Netns;
use whydrop_model::flow::{Conversation, FlowDirection, RepeatKind, Signal};
use whydrop_model::{Bundle, DropEvent, FlowLog, Observation};
use whydrop_tests::{Namespace, Observing, whydrop};

const CLIENT: &str = "10.98.0.1";
const SERVER: &str = "10.98.0.2";
const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 98, 0, 2)), 80);

/// A client and a server joined by a veth.
struct Pair {
    client: Namespace,
    server: Namespace,
}

impl Pair {
    fn new(purpose: &str) -> Self {
        let client = Namespace::new(&format!("fl-{purpose}-c"));
        let server = Namespace::new(&format!("fl-{purpose}-s"));
        client.join(&format!("{CLIENT}/24"), &server, &format!("{SERVER}/24"));
        Self { client, server }
    }

    fn observe(&self) -> Observing {
        Observing::start(&[&self.client, &self.server])
    }
}

fn inside<R: Send>(namespace: &Namespace, work: impl FnOnce() -> R + Send) -> R {
    netns(namespace).run(work).expect("entered")
}

fn netns(namespace: &Namespace) -> Netns {
    Netns::open(&Path::new("/run/netns").join(namespace.name())).expect("a namespace")
}

fn log(observation: &Observation) -> &FlowLog {
    let log = observation.flows.get().unwrap_or_else(|| panic!("no flows: {:?}", observation.flows));
    assert_eq!((log.not_kept, log.lost, log.repeats_not_sampled), (0, 0, 0));
    log
}

/// The conversations of a namespace at a port.
fn conversations<'a>(
    log: &'a FlowLog,
    namespace: &Namespace,
    direction: FlowDirection,
    port: u16,
) -> Vec<&'a Conversation> {
    let inode = netns(namespace).inode();
    let is_it = |c: &&Conversation| c.netns_inode == inode && c.direction == direction && c.port() == port;
    log.conversations.iter().filter(is_it).collect()
}

/// The only one.
#[track_caller]
fn conversation<'a>(
    log: &'a FlowLog,
    namespace: &Namespace,
    direction: FlowDirection,
    port: u16,
) -> &'a Conversation {
    match *conversations(log, namespace, direction, port) {
        [one] => one,
        ref others => panic!("not one conversation at port {port}: {others:#?} of {log:#?}"),
    }
}

fn error(conversation: &Conversation, name: &str) -> u64 {
    conversation.errors.get(name).copied().unwrap_or(0)
}

#[test]
fn refused_connections_are_counted_with_their_owner() {
    let pair = Pair::new("refused");
    let observing = pair.observe();
    inside(&pair.client, || {
        for _ in 0..20 {
            TcpStream::connect((SERVER, 82)).expect_err("refused");
        }
        for _ in 0..5 {
            TcpStream::connect((Ipv6Addr::LOCALHOST, 83)).expect_err("refused");
        }
    });
    let observation = observing.observation();
    let log = log(&observation);
    let out = conversation(log, &pair.client, FlowDirection::Out, 82);
    assert_eq!((out.attempts, out.established, out.failed), (20, 0, 20));
    assert_eq!((out.abandoned, out.unsent, out.reset_received), (0, 0, 20));
    assert_eq!(error(out, "ECONNREFUSED"), 20);
    assert_eq!(out.local.to_string(), format!("{CLIENT}:0"));
    assert_eq!(out.uid, Some(0));
    assert_eq!(out.owner.as_ref().and_then(|owner| owner.pid), Some(std::process::id()));
    let six = conversation(log, &pair.client, FlowDirection::Out, 83);
    assert_eq!((six.attempts, error(six, "ECONNREFUSED")), (5, 5));
    // Before 6.10 the kernel does not tell of resets that no socket sends.
    for knock in conversations(log, &pair.server, FlowDirection::In, 82) {
        assert_eq!((knock.reset_sent, knock.reset_reason.as_deref()), (20, Some("NO_SOCKET")));
        assert_eq!(knock.remote.to_string(), format!("{CLIENT}:0"));
    }
}

#[test]
fn an_unanswered_attempt_repeats_the_segment_that_was_dropped() {
    let pair = Pair::new("unanswered");
    pair.server.run("iptables -A INPUT -p tcp --dport 81 -j DROP");
    let observing = pair.observe();
    let address: SocketAddr = format!("{SERVER}:81").parse().expect("valid");
    inside(&pair.client, || {
        TcpStream::connect_timeout(&address, Duration::from_millis(1500)).expect_err("not answered");
    });
    let observation = observing.observation();
    let log = log(&observation);
    let out = conversation(log, &pair.client, FlowDirection::Out, 81);
    assert_eq!((out.attempts, out.failed, out.abandoned, out.syn_repeats), (1, 1, 1, 1));
    let [repeat] = log.repeats.as_slice() else { panic!("not one repeat: {:?}", log.repeats) };
    assert_eq!((repeat.kind, repeat.remote, repeat.end_seq), (RepeatKind::Syn, address, repeat.seq + 1));
    let dropped = observation.drops.get().expect("traced").sampled.iter();
    let same = dropped.filter(|d| d.source == Some(repeat.local) && d.tcp_seq == Some(repeat.seq));
    assert_eq!(same.count(), 2, "the first SYN and its repeat");
}

/// Thousands of packets of one shape are only counted; those of a conversation in trouble are seen nevertheless.
#[test]
fn packets_of_a_conversation_in_trouble_are_sampled_in_a_storm() {
    let pair = Pair::new("storm");
    pair.server.run("iptables -A INPUT -p tcp --syn -j DROP");
    // Strangers whose packets take the same way; nobody asks about them.
    let strangers = Namespace::new("fl-storm-x");
    strangers.run(&format!("ip link add eth0 type veth peer name eth1 netns {}", pair.client.name()));
    strangers.run("ip address add 10.98.1.1/24 dev eth0");
    strangers.run("ip link set eth0 up");
    strangers.run("ip route add default via 10.98.1.2");
    pair.client.run("ip address add 10.98.1.2/24 dev eth1");
    pair.client.run("ip link set eth1 up");
    pair.client.run("sysctl -qw net.ipv4.ip_forward=1");
    let observing = pair.observe();
    let address: SocketAddr = format!("{SERVER}:81").parse().expect("valid");
    let over = &AtomicBool::new(false);
    inside(&pair.client, || {
        std::thread::scope(|scope| {
            let netns = netns(&strangers);
            scope.spawn(move || netns.run(|| storm(over)));
            // Repeated after one and after three seconds: the second repeat belongs to known trouble.
            TcpStream::connect_timeout(&address, Duration::from_millis(3600)).expect_err("not answered");
            over.store(true, Ordering::Relaxed);
        });
    });
    let observation = observing.observation();
    let drops = observation.drops.get().expect("traced");
    let counted: u64 = drops.counts.iter().map(|count| count.drops).sum();
    assert!(counted > 10_000, "no storm: {counted}");
    let flows = observation.flows.get().expect("seen");
    let repeat = flows.repeats.iter().rfind(|repeat| repeat.remote == address).expect("sent again");
    let near = |at: u64| at.abs_diff(repeat.realtime_ns) < 500_000_000;
    let same = |d: &&DropEvent| d.source == Some(repeat.local) && d.tcp_seq == Some(repeat.seq);
    assert!(
        drops.sampled.iter().filter(same).any(|d| near(d.realtime_ns)),
        "the last repeat was not sampled"
    );
}

/// SYNs to many ports, as fast as they go.
fn storm(over: &AtomicBool) {
    for port in (2000..5000).cycle() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let kind = SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, kind, None).expect("a socket");
        let to = SocketAddr::new(HTTP.ip(), port);
        connect(&socket, &to).expect_err("in progress");
    }
}

#[test]
fn connections_that_go_well_and_such_that_are_cut() {
    let pair = Pair::new("cut");
    // A listener of both families: its connections are IPv4 nevertheless.
    let listener = inside(&pair.server, || TcpListener::bind((Ipv6Addr::UNSPECIFIED, 80)).expect("free"));
    let observing = pair.observe();
    let exchange = |cut: bool| {
        let mut client = inside(&pair.client, || TcpStream::connect(HTTP).expect("connected"));
        let (mut server, _) = listener.accept().expect("a connection");
        client.write_all(b"?").expect("sent");
        server.read_exact(&mut [0]).expect("received");
        if cut {
            set_socket_linger(&server, Some(Duration::ZERO)).expect("set");
        }
        drop(server);
        let ended = client.read(&mut [0]);
        assert_eq!(ended.is_err(), cut, "{ended:?}");
    };
    (0..10).for_each(|_| exchange(false));
    (0..5).for_each(|_| exchange(true));
    let observation = observing.observation();
    let log = log(&observation);
    let out = conversation(log, &pair.client, FlowDirection::Out, 80);
    assert_eq!((out.attempts, out.established, out.failed), (15, 15, 0));
    assert_eq!((out.reset_received, error(out, "ECONNRESET")), (5, 5));
    assert_eq!((out.closed.data_segments, out.closed.repeated), (15, 0));
    // What goes well is counted by the port alone; what does not, by its sender.
    let arrivals = conversations(log, &pair.server, FlowDirection::In, 80);
    let sum = |number: fn(&Conversation) -> u64| arrivals.iter().map(|c| number(c)).sum::<u64>();
    assert_eq!((sum(|c| c.established), sum(|c| c.reset_sent)), (15, 5));
    assert!(arrivals.iter().all(|c| c.local == HTTP), "{arrivals:#?}");
    let connections = out.closed.connections + sum(|c| c.closed.connections);
    assert!((25..=30).contains(&connections), "of 30, the last may still wait for its end: {connections}");
}

#[test]
fn repeats_agree_with_the_kernels_counter() {
    let pair = Pair::new("repeats");
    let listener = inside(&pair.server, || TcpListener::bind(HTTP).expect("free"));
    let mut client = inside(&pair.client, || TcpStream::connect(HTTP).expect("connected"));
    let (mut server, _) = listener.accept().expect("a connection");
    let observing = pair.observe();
    pair.server.run("iptables -A INPUT -p tcp --dport 80 -j DROP");
    client.write_all(b"lost").expect("sent");
    let retransmitted = || {
        let tcp = pair.client.run("cat /proc/net/snmp");
        let line = tcp.lines().filter(|line| line.starts_with("Tcp:")).nth(1).expect("numbers");
        line.split(' ').nth(12).and_then(|n| n.parse::<u64>().ok()).expect("RetransSegs")
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while retransmitted() < 2 {
        assert!(Instant::now() < deadline, "nothing is sent again");
        std::thread::sleep(Duration::from_millis(20));
    }
    pair.server.run("iptables -D INPUT 1");
    server.read_exact(&mut [0; 4]).expect("received at last");
    let counted = retransmitted();
    let observation = observing.observation();
    let log = log(&observation);
    let out = conversation(log, &pair.client, FlowDirection::Out, 80);
    assert_eq!(out.data_repeats + out.tail_probes, counted);
    assert_eq!((out.attempts, out.owner.as_ref()), (0, None), "it began before the window");
    assert_eq!(log.repeats.len() as u64, counted);
    let is_ours =
        |end: u32| log.repeats.iter().all(|r| r.remote == HTTP && r.seq + 4 == r.end_seq && r.end_seq == end);
    assert!(is_ours(log.repeats.first().expect("some").end_seq), "{:?}", log.repeats);
}

#[test]
fn a_datagram_that_is_refused_is_an_error_of_its_socket() {
    let pair = Pair::new("datagram");
    let observing = pair.observe();
    inside(&pair.client, || {
        let socket = UdpSocket::bind((CLIENT, 0)).expect("free");
        socket.connect((SERVER, 99)).expect("a peer");
        socket.send(b"?").expect("sent");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        socket.recv(&mut [0]).expect_err("refused");
    });
    let observation = observing.observation();
    let log = log(&observation);
    if log.watched(Signal::ErrorReport).is_present() {
        let out = conversation(log, &pair.client, FlowDirection::Out, 99);
        assert_eq!((out.protocol, error(out, "ECONNREFUSED")), (17, 1));
    }
    if log.watched(Signal::IcmpSend).is_present() {
        let [sent] = log.icmp_sent.as_slice() else { panic!("not one: {:?}", log.icmp_sent) };
        assert_eq!((sent.kind, sent.code, sent.count, sent.destination.port()), (3, 3, 1, 99));
        assert_eq!(
            (sent.netns_inode, sent.source.to_string()),
            (netns(&pair.server).inode(), CLIENT.to_owned())
        );
    }
}

/// Asked for by a flag: what fails before a packet exists.
#[test]
fn calls_that_fail_are_counted_if_asked_for() {
    let client = Namespace::new("fl-calls");
    let file = std::env::temp_dir().join(format!("whydrop-calls-{}", std::process::id()));
    let mut program = whydrop();
    program
        .args(["record", &client.target(), "--passive", "--syscalls", "--duration", "4s", "-o"])
        .arg(&file);
    let mut recording = program.stderr(Stdio::null()).spawn().expect("started");
    // No address to wait for: as long as it records, calls fail.
    while recording.try_wait().expect("a child").is_none() {
        inside(&client, || TcpStream::connect(HTTP).expect_err("no route"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let bundle = std::fs::read_to_string(&file).expect("recorded");
    std::fs::remove_file(&file).expect("removed");
    let bundle: Bundle = serde_json::from_str(&bundle).expect("a recording");
    let calls = log(&bundle.observation).calls.get().expect("watched");
    let [call] = calls.as_slice() else { panic!("not one: {calls:?}") };
    assert_eq!((call.call.as_str(), call.error.as_str()), ("connect", "ENETUNREACH"));
    assert_eq!((call.owner.pid, call.netns_inode), (Some(std::process::id()), netns(&client).inode()));
    assert_eq!((call.protocol, call.remote), (Some(6), Some(HTTP)));
    assert!(call.count > 10, "{call:?}");
}
