//! `whydrop watch` on a terminal: it shows what `diagnose` says, and gives the terminal back however it ends.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use whydrop_host::Netns;
use whydrop_tests::{Namespace, Screen, is_root, whydrop};

/// A program that sends datagrams to another one, which reads them, until it is dropped.
struct Sender {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Sender {
    fn start(from: &Namespace, to: &Namespace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let within = |namespace: &Namespace, work: fn(&AtomicBool)| {
            let netns = Netns::open(&Path::new("/run/netns").join(namespace.name())).expect("open");
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || netns.run(|| work(&stop)).expect("entered"))
        };
        let read = within(to, |stop| {
            let socket = UdpSocket::bind("0.0.0.0:9").expect("a socket");
            socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a limit");
            while !stop.load(Ordering::Relaxed) {
                // Nothing came in time.
                socket.recv(&mut [0; 8]).ok();
            }
        });
        let send = within(from, |stop| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            while !stop.load(Ordering::Relaxed) {
                // Refused as long as the other one is not there yet.
                socket.send_to(b"x", "10.46.0.2:9").ok();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { stop, threads: vec![read, send] }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

fn dropping() -> (Namespace, Namespace, Sender) {
    let (client, server) = (Namespace::new("wc"), Namespace::new("ws"));
    client.join("10.46.0.1/24", &server, "10.46.0.2/24");
    server.run("iptables-nft -A INPUT -p udp -j DROP");
    let sender = Sender::start(&client, &server);
    (client, server, sender)
}

#[test]
fn shows_the_cause_follows_keys_and_leaves_the_sum_behind() {
    if !is_root() {
        return;
    }
    let (_client, server, _sender) = dropping();
    let mut screen = Screen::start(&format!("{} --duration 500ms", server.target()), 80, 24);
    screen.wait_for("drop_rule");
    screen.wait_for("A rule drops");
    screen.press("4");
    screen.wait_for("iptables.rule_policy_packets");
    screen.press("3");
    screen.wait_for("NETFILTER_DROP");
    screen.press("?");
    screen.wait_for("No key changes the machine");
    screen.press("1 ");
    screen.wait_for("HELD");
    screen.press("q");
    let after = screen.end();
    assert!(after.contains("LOSS") && after.contains("filter INPUT, rule 1"), "{after}");
    assert!(after.contains("ended with 0"), "{after}");
}

#[test]
fn a_change_is_named_when_the_loss_begins_and_sigterm_gives_the_terminal_back() {
    if !is_root() {
        return;
    }
    let (_client, server, _sender) = dropping();
    server.run("iptables-nft -F INPUT");
    server.run("iptables-nft -A INPUT -p tcp --dport 1 -j DROP");
    let mut screen = Screen::start(&format!("{} --duration 500ms", server.target()), 80, 24);
    screen.wait_for("LIVE");
    server.run("iptables-nft -A INPUT -p udp -j DROP");
    screen.wait_for("changed shortly before");
    let name = format!("watch {}", server.target());
    let listed = Command::new("pgrep").args(["-f", &format!("whydrop.* {name}")]).output().expect("pgrep");
    for pid in String::from_utf8_lossy(&listed.stdout).lines() {
        // The shell around it has the same words and ends with it.
        let Ok(comm) = std::fs::read_to_string(format!("/proc/{pid}/comm")) else { continue };
        if comm.trim_end().ends_with("whydrop") {
            Command::new("kill").args(["-TERM", pid]).status().expect("kill");
        }
    }
    let after = screen.end();
    assert!(after.contains("ended with 0"), "{after}");
}

#[test]
fn without_a_terminal_it_names_what_works_there() {
    let output = whydrop().args(["watch"]).stdin(Stdio::null()).output().expect("starts");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("whydrop stat --watch"), "{said}");
}
