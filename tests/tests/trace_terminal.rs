//! `whydrop trace` on a terminal: what a person can read, and numbers that add up all the same.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use unicode_width::UnicodeWidthStr;
use whydrop_host::Netns;
use whydrop_tests::{Namespace, whydrop};

/// More than a person reads in a second, and one line that tells the rest.
const MOST_LINES: usize = 40;

/// Starts `whydrop trace` on a terminal of its own; its output has both streams, as a person sees them.
fn on_terminal(columns: usize, arguments: &str) -> Child {
    let program = whydrop();
    let line = format!(
        "stty columns {columns}; exec {} trace {arguments}",
        program.get_program().to_str().expect("a path in ASCII")
    );
    Command::new("script")
        .args(["-qefc", &line, "/dev/null"])
        .env("WHYDROP_LANG", "en")
        .env("NO_COLOR", "1")
        .env_remove("COLUMNS")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script is in the package bsdutils")
}

fn shown(child: Child) -> String {
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").replace("\r\n", "\n")
}

/// Sends to many ports of a namespace, so many times each, one address after the other.
fn flood(namespace: &Namespace, times: u64) {
    let netns = Netns::open(&Path::new("/run/netns").join(namespace.name())).expect("open");
    let send = || {
        let socket = UdpSocket::bind("[::]:0").expect("a socket");
        for _ in 0..times {
            for port in 1000..1060 {
                // Refused by the port before: ICMP comes back to this socket.
                while socket.send_to(b"x", ("::1", port)).is_err() {}
                while socket.send_to(b"x", ("::ffff:127.0.0.1", port)).is_err() {}
            }
        }
    };
    netns.run(send).expect("entered");
}

/// Floods for as long as the trace runs: nothing depends on when it began.
fn flood_until_ended(namespace: &Namespace, child: &mut Child) {
    while child.try_wait().expect("a child").is_none() {
        flood(namespace, 5);
    }
}

fn is_drop(line: &str) -> bool {
    line.get(..2).is_some_and(|hour| hour.bytes().all(|b| b.is_ascii_digit())) && line.get(2..3) == Some(":")
}

/// `+412 NETFILTER_DROP web, +96 ...; 12 harmless hidden`: all that such a line tells.
fn held_back(line: &str) -> u64 {
    let words: Vec<&str> = line.split_whitespace().collect();
    let more = words.iter().filter_map(|word| word.strip_prefix('+')?.parse::<u64>().ok()).sum::<u64>();
    let harmless = words.windows(2).find(|pair| pair.get(1) == Some(&"harmless"));
    more + harmless.and_then(|pair| pair.first()?.parse::<u64>().ok()).unwrap_or(0)
}

#[test]
fn a_storm_is_readable_and_its_numbers_add_up() {
    let namespace = Namespace::new("tts");
    namespace.run("ip6tables -A INPUT -p udp --dport 1000:1029 -j DROP");
    let mut child = on_terminal(120, &format!("{} --duration 4s", namespace.target()));
    flood_until_ended(&namespace, &mut child);
    let shown = shown(child);
    let (lines, summary) = shown.split_once("\n\n").expect("a summary");
    let drops: u64 = summary.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
    assert!(drops > 1000, "no storm: {shown}");
    let (mut in_period, mut told, mut periods) = (0, 0, 0);
    for line in lines.lines() {
        if is_drop(line) {
            (in_period, told) = (in_period + 1, told + 1);
        } else if line.starts_with("  ") {
            (in_period, told, periods) = (0, told + held_back(line), periods + 1);
        }
        assert!(in_period < MOST_LINES, "too many lines in a second:\n{shown}");
    }
    assert!(periods >= 3, "{shown}");
    assert_eq!(told, drops, "{shown}");
    let both = |part: &str| lines.lines().any(|line| is_drop(line) && line.contains(part));
    // Which of the ports are shown depends on when the tracer began.
    assert!(both("> 127.0.0.1:1") && both("> [::1]:1"), "{shown}");
}

#[test]
fn columns_follow_the_terminal_and_stand_under_each_other_in_chinese() {
    let namespace = Namespace::new("ttw");
    let children: Vec<(usize, Child)> = [40, 60, 80, 100, 120, 200]
        .map(|columns| {
            (columns, on_terminal(columns, &format!("{} --duration 3s --lang zh", namespace.target())))
        })
        .into();
    for (columns, mut child) in children {
        flood_until_ended(&namespace, &mut child);
        let shown = shown(child);
        let drops: Vec<&str> = shown.lines().filter(|line| is_drop(line)).collect();
        assert!(!drops.is_empty(), "{shown}");
        let header = shown.lines().find(|line| line.starts_with("时间")).expect("names of columns");
        let column = |line: &str, what: &str| line.find(what).map(|at| line[..at].width());
        for line in &drops {
            assert_eq!(column(line, namespace.name()), column(header, "目标"), "{shown}");
            assert!(line.ends_with(" udp 29 B") || line.ends_with(" udp 49 B"), "{line}");
            assert_eq!(column(line, "NO_SOCKET").is_some(), columns >= 80, "{line}");
            assert_eq!(column(line, "socket.lookup").is_some(), columns >= 100, "{line}");
        }
    }
}

#[test]
fn silence_is_explained_on_a_terminal_only() {
    let namespace = Namespace::new("ttq");
    let child = on_terminal(80, &format!("{} --duration 6s", namespace.target()));
    let piped = thread::scope(|scope| {
        let run = || whydrop().args(["trace", &namespace.target(), "--duration", "6s"]).output();
        scope.spawn(run).join().expect("ran").expect("whydrop starts")
    });
    let told = "5 s, no drop; tp_btf cannot see: the ring of a NIC";
    let shown = shown(child);
    assert_eq!(shown.matches(told).count(), 1, "{shown}");
    assert!(!String::from_utf8_lossy(&piped.stderr).contains("no drop;"), "{piped:?}");
    assert!(!String::from_utf8_lossy(&piped.stdout).contains("packet"), "a header in a pipe: {piped:?}");
}
