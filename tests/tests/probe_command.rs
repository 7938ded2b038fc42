//! `whydrop probe` as its users know it: arguments, lines, JSON, exit status.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use whydrop_tests::probe_net::{Net, V4};
use whydrop_tests::whydrop;

/// Exit status, stdout and stderr of `whydrop probe ARGUMENTS` from the client.
fn probe(net: &Net, arguments: &[&str]) -> (i32, String, String) {
    let output = whydrop()
        .args(["probe", "--from", &net.client.target()])
        .args(arguments)
        .output()
        .expect("whydrop starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("no signal"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn lines_and_closing_block_are_those_of_hping() {
    let net = Net::new("lines");
    let url = format!("tcp://{V4}:8000");
    let (status, out, err) = probe(&net, &[&url, "-c", "5", "-i", "10ms"]);
    assert_eq!(status, 0, "{err}");
    let replies: Vec<&str> = out.lines().filter(|line| line.starts_with("len=")).collect();
    assert_eq!(replies.len(), 5, "{out}");
    for (seq, line) in replies.iter().enumerate() {
        assert!(line.starts_with("len=60 ip=10.77.2.2 ttl=63 DF id=0 sport=8000 flags=SA "), "{line}");
        assert!(line.contains(&format!(" seq={seq} win=")) && line.ends_with(" ms"), "{line}");
    }
    assert!(out.contains("\n--- 10.77.2.2 hping statistic ---\n5 packets transmitted, 5 packets received, 0% packet loss\nround-trip min/avg/max = "), "{out}");
    assert!(out.is_ascii());
    let (_, quiet, _) = probe(&net, &[&url, "-c", "5", "-i", "10ms", "-q"]);
    assert!(!quiet.contains("len=") && quiet.contains("5 packets transmitted"), "{quiet}");
    let (_, stamped, _) = probe(&net, &[&url, "-c", "1", "-D"]);
    assert!(stamped.lines().any(|line| line.starts_with('[') && line.contains("] len=")), "{stamped}");
}

#[test]
fn json_is_one_object_whose_columns_add_up() {
    let net = Net::new("json");
    net.router.run("iptables -A FORWARD -p tcp -m statistic --mode random --probability .3 -j DROP");
    let (status, out, err) = probe(&net, &[&format!("tcp://{V4}:8000"), "-c", "100", "-i", "10ms", "--json"]);
    assert_eq!(status, 0, "{err}");
    let object: Value = serde_json::from_str(&out).expect("one object");
    let number = |key: &str| object[key].as_u64().unwrap_or_else(|| panic!("{key}: {out}"));
    assert_eq!(number("transmitted"), 100);
    assert_eq!(number("transmitted"), number("received") + number("late") + number("lost"));
    assert!(object["return"].is_object() && object["forward"].is_object(), "{out}");
    let loss = object["loss"].as_f64().expect("a share");
    let ci = object["loss_ci95"].as_array().expect("an interval");
    assert!(ci[0].as_f64() <= Some(loss) && Some(loss) <= ci[1].as_f64(), "{out}");

    // The same network without the loss is better, and the difference is no chance.
    let before = std::env::temp_dir().join(format!("wd-probe-before-{}", std::process::id()));
    std::fs::write(&before, &out).expect("a file");
    net.router.run("iptables -F FORWARD");
    let file = before.display().to_string();
    let (_, out, _) =
        probe(&net, &[&format!("tcp://{V4}:8000"), "-c", "100", "-i", "10ms", "-q", "--compare", &file]);
    std::fs::remove_file(&before).ok();
    assert!(out.contains("better than before"), "{out}");
}

#[test]
fn exit_status_is_that_of_ping() {
    let net = Net::new("status");
    let status = |arguments: &[&str]| probe(&net, arguments).0;
    assert_eq!(status(&[&format!("tcp://{V4}:8000"), "-c", "1"]), 0);
    assert_eq!(status(&[&format!("tcp://{V4}:9"), "-c", "1"]), 0, "a refusal is an answer");
    net.router.run("iptables -A FORWARD -p tcp -j DROP");
    assert_eq!(status(&[&format!("tcp://{V4}:8000"), "-c", "2", "-i", "10ms"]), 1);
    net.client.run("iptables -A OUTPUT -p tcp -j DROP");
    let (none_sent, out, _) = probe(&net, &[&format!("tcp://{V4}:8000"), "-c", "2", "-i", "10ms"]);
    assert_eq!(none_sent, 1, "{out}");
    assert!(out.contains("not sent: EPERM") && out.contains("0 packets transmitted"), "{out}");
    for bad in ["ftp://h", "tcp://h", "tcp://255.255.255.255:80", "tcp://224.0.0.1:80", "tcp://fd00::1:80"] {
        let (status, out, err) = probe(&net, &[bad]);
        assert_eq!((status, out.as_str()), (2, ""), "{bad}");
        assert!(err.starts_with("error: "), "{err}");
    }
    assert_eq!(
        status(&[&format!("tcp://{V4}:80"), "-W", "2"]),
        2,
        "retransmissions must stay outside the limit"
    );
    assert_eq!(status(&[&format!("tcp://{V4}:80"), "-i", "u100"]), 2, "too fast for somebody else's machine");
}

#[test]
fn nothing_is_sent_by_a_dry_run_and_everything_is_in_the_capture() {
    let net = Net::new("capture");
    let url = format!("tcp://{V4}:8000");
    let segments = || {
        net.server
            .run("cat /proc/net/snmp")
            .lines()
            .filter(|l| l.starts_with("Tcp:"))
            .nth(1)
            .map(str::to_owned)
    };
    let before = segments();
    let (status, out, _) = probe(&net, &[&url, "-c", "7", "--dry-run"]);
    assert_eq!(status, 0);
    assert!(out.contains("7 probes") && out.contains("420 bytes"), "{out}");
    assert_eq!(segments(), before);

    let file = std::env::temp_dir().join(format!("wd-probe-{}.pcap", std::process::id()));
    let path = file.display().to_string();
    let (status, _, err) = probe(&net, &[&url, "-c", "7", "-i", "10ms", "-q", "--pcap", &path]);
    assert_eq!(status, 0, "{err}");
    let read = whydrop_tests::command(&format!("tcpdump -nr {path}"));
    std::fs::remove_file(&file).ok();
    assert_eq!(read.matches("Flags [S],").count(), 7, "{read}");
    assert_eq!(read.matches("Flags [S.],").count(), 7, "{read}");
}

#[test]
fn a_target_ends_the_run_by_itself() {
    let net = Net::new("target");
    let (status, out, _) = probe(&net, &[&format!("tcp://{V4}:8000"), "--target", "5%", "-i", "5ms", "-q"]);
    assert_eq!(status, 0);
    assert!(out.contains("the loss is not above 5 % (95 % certain after"), "{out}");
}

#[test]
fn sigquit_asks_for_the_numbers_up_to_now_and_the_run_goes_on() {
    let net = Net::new("quit");
    let mut child = whydrop()
        .args([
            "probe",
            "--from",
            &net.client.target(),
            &format!("tcp://{V4}:8000"),
            "-c",
            "30",
            "-i",
            "50ms",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("whydrop starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map(|l| l.expect("text"));
    // The handler stands once the run is under way.
    lines.find(|line| line.contains(" seq=2 ")).expect("an answer");
    whydrop_tests::command(&format!("kill -QUIT {}", child.id()));
    let mut said = String::new();
    BufReader::new(child.stderr.take().expect("piped")).read_line(&mut said).expect("a line");
    assert!(said.contains("/30 sent, ") && said.contains(" 0 lost, 0 late, min/avg/max = "), "{said}");
    let rest: Vec<String> = lines.collect();
    assert!(
        rest.iter().any(|line| line.starts_with("30 packets transmitted, 30 packets received")),
        "{rest:?}"
    );
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_prober_that_was_stopped_calls_that_its_own_delay() {
    let net = Net::new("stop");
    let mut child = whydrop()
        .args([
            "probe",
            "--from",
            &net.client.target(),
            &format!("tcp://{V4}:8000"),
            "-c",
            "20",
            "-i",
            "50ms",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("whydrop starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map(|l| l.expect("text"));
    lines.find(|line| line.contains(" seq=2 ")).expect("an answer");
    whydrop_tests::command(&format!("kill -STOP {}", child.id()));
    // Longer than the limit of an answer.
    whydrop_tests::command("sleep 1.2");
    whydrop_tests::command(&format!("kill -CONT {}", child.id()));
    let rest: Vec<String> = lines.collect();
    let has = |words: &str| rest.iter().any(|line| line.contains(words));
    assert!(has("20 packets transmitted, 20 packets received, 0% packet loss"), "{rest:?}");
    assert!(has("this machine held whydrop up for as long as 1"), "{rest:?}");
    assert!(!has("no reply") && !has(" late]"), "{rest:?}");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}
