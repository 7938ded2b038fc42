//! `whydrop trace` for other programs and for those who look for one thing: filters, captures, ends and errors.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use whydrop_host::Netns;
use whydrop_tests::{Namespace, Trace, command, whydrop};

/// A namespace that drops UDP at port 1001 by a rule and refuses it at 2001, over IPv4 and IPv6.
fn target(purpose: &str) -> Namespace {
    let namespace = Namespace::new(purpose);
    for program in ["iptables", "ip6tables"] {
        namespace.run(&format!("{program} -A INPUT -p udp --dport 1001 -j DROP"));
    }
    namespace
}

/// Three datagrams to each of the two ports over both protocols: twelve drops.
fn send(namespace: &Namespace) {
    let netns = Netns::open(&Path::new("/run/netns").join(namespace.name())).expect("open");
    let send = || {
        for address in ["127.0.0.1:1001", "127.0.0.1:2001", "[::1]:1001", "[::1]:2001"] {
            for _ in 0..3 {
                // A socket each: what was refused before would be an error of the next send.
                let any = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
                UdpSocket::bind(any).and_then(|socket| socket.send_to(b"x", address)).expect("sent");
            }
        }
    };
    netns.run(send).expect("entered");
}

#[test]
fn filters_hold_together_and_the_summary_has_everything() {
    let namespace = target("tof");
    for (filters, expected) in [
        ("--port 1001", 6),
        ("--port 1001 --port 2001", 12),
        ("--flow ::1", 6),
        ("--flow [::1]:1001,[::1]", 3),
        ("--flow 127.0.0.1:2001 --flow [::1]:1001", 6),
        ("--reason netfilter_drop --flow 127.0.0.1", 3),
        ("--reason SKB_DROP_REASON_NO_SOCKET --interface lo --port 2001", 6),
        ("--interface eth0", 0),
    ] {
        let target = namespace.target();
        let arguments: Vec<&str> = [target.as_str()].into_iter().chain(filters.split(' ')).collect();
        let trace = Trace::start(&arguments);
        send(&namespace);
        let traced = trace.stop();
        let udp = |line: &&Value| line["protocol"] == "udp";
        assert_eq!(traced.lines.iter().filter(udp).count(), expected, "{filters}: {:#?}", traced.lines);
        let counted: u64 = traced.harmful().iter().map(|row| row.drops).sum();
        assert_eq!(counted, 12, "{filters}: {}", traced.summary);
    }
}

#[test]
fn wrong_values_are_errors_that_help() {
    for (arguments, words) in [
        ("--port 65536", "65536"),
        ("--flow web:80", "such as 10.0.0.2:80 or [fd00::2]:80"),
        ("--flow 1.1.1.1,2.2.2.2,3.3.3.3", "more than two ends"),
        ("--reason NETFILTER_DRP", "close: NETFILTER_DROP"),
        ("--duration soon", "--duration"),
        ("--all host", "--all"),
    ] {
        let output = whydrop().arg("trace").args(arguments.split(' ')).output().expect("whydrop starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {said}");
        assert!(said.starts_with("error: ") && said.contains(words), "{arguments}: {said}");
        assert!(output.stdout.is_empty(), "{arguments}: {output:?}");
    }
}

#[test]
fn a_capture_has_each_packet_and_its_reason() {
    let namespace = target("toc");
    let file = std::env::temp_dir().join(format!("wd-test-toc-{}.pcapng", std::process::id()));
    let path = file.to_str().expect("a path in ASCII");
    let trace = Trace::start(&[&namespace.target(), "--pcapng", path, "--port", "1001"]);
    send(&namespace);
    trace.stop();
    let fields = "-e frame.interface_name -e ip.dst -e ipv6.dst -e udp.dstport -e frame.comment";
    let read = command(&format!("tshark -r {path} -T fields {fields}"));
    std::fs::remove_file(&file).expect("written");
    let packets: Vec<Vec<&str>> = read.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(packets.len(), 6, "{read}");
    for packet in &packets {
        let [interface, v4, v6, port, comment] = packet.as_slice() else { panic!("not five fields: {read}") };
        assert_eq!(*interface, format!("{}/lo", namespace.target()));
        assert!((*v4 == "127.0.0.1" && v6.is_empty()) || (*v6 == "::1" && v4.is_empty()), "{read}");
        assert_eq!(*port, "1001");
        let expected = "NETFILTER_DROP at nft_do_chain (netfilter.input, netfilter.drop_rule)";
        assert_eq!(*comment, expected);
    }
}

/// The summary comes at SIGINT and at SIGTERM; whoever closed the pipe wants no more, and that is no error.
#[test]
fn every_end_is_a_good_end() {
    let namespace = target("toe");
    for signal in ["INT", "TERM", "PIPE"] {
        let mut child = whydrop()
            .args(["trace", &namespace.target()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("whydrop starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        while !said.contains("tracing drops") {
            assert!(stderr.read_line(&mut said).expect("text") > 0, "trace ended at once: {said}");
        }
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        send(&namespace);
        let mut first = String::new();
        stdout.read_line(&mut first).expect("text");
        assert!(first.contains("NETFILTER_DROP"), "{first}");
        let mut rest = String::new();
        if signal == "PIPE" {
            drop(stdout);
            while child.try_wait().expect("a child").is_none() {
                send(&namespace);
            }
        } else {
            command(&format!("kill -{signal} {}", child.id()));
            std::io::Read::read_to_string(&mut stdout, &mut rest).expect("text");
            let next = format!("Next  whydrop diagnose {}\n", namespace.target());
            assert!(rest.contains("12 drops in") && rest.ends_with(&next), "{signal}: {rest}");
            // A pipe gets every sampled drop, and no header.
            let lines = rest.lines().filter(|line| line.contains(" > ")).count();
            assert_eq!(lines + 1, 12, "{first}{rest}");
        }
        std::io::Read::read_to_string(&mut stderr, &mut said).expect("text");
        assert_eq!(child.wait().expect("ends").code(), Some(0), "{signal}: {said}");
        assert_eq!(said.lines().count(), 1, "{signal}: {said}");
    }
}

/// Names come from whoever made them: nothing of them reaches a terminal as a control character.
#[test]
fn hostile_names_are_escaped() {
    let namespace = Namespace::new("toh");
    // Packets that leave have their socket still.
    namespace.run("iptables -A OUTPUT -p udp --dport 1001 -j DROP");
    let python = "import socket,sys\n\
                  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                  open('/proc/self/comm', 'wb').write(b'e\\x1b[31m\\rvil')\n\
                  s.connect_ex(('127.0.0.1', 1001))\n\
                  try: s.send(b'x')\n\
                  except PermissionError: pass\n\
                  sys.stdin.read()\n";
    // Without such a line it ends by itself, and the test fails.
    let mut child = whydrop()
        .args(["trace", &namespace.target(), "-v", "--duration", "20s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("whydrop starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    stderr.read_line(&mut String::new()).expect("text");
    let mut evil = Command::new("ip")
        .args(["netns", "exec", namespace.name(), "python3", "-c", python])
        .stdin(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut seen = String::new();
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let line = line.expect("text");
        seen += &line;
        seen.push('\n');
        if line.contains("socket of") {
            command(&format!("kill -INT {}", child.id()));
        }
    }
    drop(evil.stdin.take());
    evil.wait().expect("ends");
    child.wait().expect("ends");
    assert!(seen.contains("vil"), "{seen:?}");
    assert!(seen.chars().all(|c| c == '\n' || !c.is_control()), "{seen:?}");
}
