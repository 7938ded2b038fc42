//! `targets` and `stat`: what there is, and what every counter says, before anybody judges.

use serde_json::Value;
use std::process::Stdio;
use std::time::{Duration, Instant};
use whydrop_tests::{Namespace, is_root, whydrop};

fn json(arguments: &[&str]) -> Value {
    let output = whydrop().args(arguments).arg("--json").output().expect("whydrop starts");
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {output:?}"))
}

fn listed<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().unwrap_or_else(|| panic!("no list {field} in {value:#}"))
}

#[test]
fn targets_lists_a_namespace_with_its_program_and_addresses() {
    if !is_root() {
        return;
    }
    let (client, server) = (Namespace::new("tgt-c"), Namespace::new("tgt-s"));
    client.join("10.44.0.1/24", &server, "10.44.0.2/24");
    let _sleep = client.start("sleep 60");
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let census = json(&["targets"]);
        assert_eq!(census["schema"], "whydrop.targets.v1");
        let found = listed(&census, "namespaces").iter().find(|n| n["id"] == client.target().as_str());
        let found = found.unwrap_or_else(|| panic!("{census:#}"));
        assert!(listed(found, "addresses").contains(&Value::from("10.44.0.1/24")), "{found:#}");
        assert!(found["lost"].is_array(), "{found:#}");
        if listed(found, "programs").contains(&Value::from("sleep")) {
            break;
        }
        assert!(Instant::now() < until, "{found:#}");
    }
    for lang in ["en", "zh"] {
        let output = whydrop().args(["--lang", lang, "targets"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&server.target()) && text.contains("10.44.0.2/24"), "{text}");
    }
}

#[test]
fn completions_offer_the_targets_of_this_machine() {
    if !is_root() {
        return;
    }
    let namespace = Namespace::new("complete");
    let output = whydrop().args(["completions", "--names"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().any(|line| line == namespace.target()), "{text}");
    assert!(output.stderr.is_empty());
    for shell in ["bash", "zsh", "fish"] {
        let script = whydrop().args(["completions", shell]).output().unwrap().stdout;
        assert!(String::from_utf8(script).unwrap().contains("completions --names"), "{shell}");
    }
}

#[test]
fn stat_shows_a_rule_that_takes_packets_rising_and_names_its_place() {
    if !is_root() {
        return;
    }
    let (client, server) = (Namespace::new("stat-c"), Namespace::new("stat-s"));
    client.join("10.45.0.1/24", &server, "10.45.0.2/24");
    server.run("iptables-nft -A INPUT -p udp -j DROP");
    let table = std::thread::scope(|scope| {
        let table = scope.spawn(|| json(&["stat", &server.target(), "--duration", "2s"]));
        while !table.is_finished() {
            client.run("python3 -c __import__('socket').socket(2,2).sendto(b'x',('10.45.0.2',9))");
        }
        table.join().expect("no panic")
    });
    assert_eq!(table["schema"], "whydrop.stat.v1");
    let first = listed(&table, "counters").first().unwrap_or_else(|| panic!("{table:#}"));
    assert_eq!(first["counter"], "iptables.rule_policy_packets", "{first:#}");
    assert_eq!(first["place"], "iptables-nft filter INPUT, rule 1");
    assert!(first["rise"].as_u64() > Some(0) && first["meaning"].is_string(), "{first:#}");
    assert_eq!(first["target"], server.target().as_str());
}

#[test]
fn stat_watch_says_that_nothing_rises_and_ends_with_its_reader() {
    if !is_root() {
        return;
    }
    let namespace = Namespace::new("stat-w");
    let mut child = whydrop()
        .args(["stat", &namespace.target(), "--watch", "--json", "--duration", "200ms"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    for _ in 0..2 {
        let line = lines.next().expect("a line").expect("readable");
        let round: Value = serde_json::from_str(&line).expect("JSON");
        assert!(round["window_seconds"].as_f64() > Some(0.15), "{round:#}");
        assert_eq!(listed(&round, "coverage").len(), 0, "{round:#}");
    }
    drop(lines);
    let until = Instant::now() + Duration::from_secs(10);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it goes on without a reader");
        std::thread::sleep(Duration::from_millis(20));
    }
}
