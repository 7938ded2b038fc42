//! `whydrop fix --apply`: what was not asked for does not happen, and what was made is proven or taken back.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use whydrop_tests::command;
use whydrop_tests::fixing::{Scene, said};

/// Long enough to be interrupted in.
const WINDOW: &str = "4s";

/// Cancelled means: nothing is applied.
#[test]
fn a_signal_in_the_first_measurement_changes_nothing() {
    for signal in ["INT", "TERM", "HUP"] {
        let scene = Scene::new(&format!("fix-{signal}"));
        let traffic = scene.traffic();
        let before = scene.rules();
        let child = scene.fix(WINDOW, &["--yes", "--only", "f1"]).spawn().expect("whydrop starts");
        scene.wait_for_measurement(&child);
        command(&format!("kill -{signal} {}", child.id()));
        let output = child.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(130), "{}", said(&output));
        assert!(said(&output).contains("nothing was changed"), "{}", said(&output));
        assert_eq!(scene.rules(), before);
        drop(traffic);
    }
}

#[test]
fn the_first_signal_at_the_question_ends_it() {
    let scene = Scene::new("fix-question");
    let _traffic = scene.traffic();
    let before = scene.rules();
    let line = scene.line(&scene.fix("500ms", &["--only", "f1"]));
    let mut terminal = Command::new("script")
        .args(["-qefc", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script is in the package bsdutils");
    let mut input = terminal.stdin.take().expect("a pipe");
    let mut shown = BufReader::new(terminal.stdout.take().expect("a pipe"));
    let mut text = vec![];
    // The question is no whole line.
    while !String::from_utf8_lossy(&text).contains("Apply?") {
        assert!(shown.read_until(b'?', &mut text).expect("text") > 0, "{}", String::from_utf8_lossy(&text));
    }
    // Ctrl-C, as a terminal sends it on.
    input.write_all(b"\x03").expect("written");
    let status = terminal.wait().expect("an end");
    assert_eq!(status.code(), Some(130));
    assert_eq!(scene.rules(), before);
}

/// What is measured is what is changed: another namespace under the same name is refused.
#[test]
fn a_name_that_leads_elsewhere_meanwhile_is_refused() {
    let scene = Scene::new("fix-renamed");
    let _traffic = scene.traffic();
    let child = scene.fix(WINDOW, &["--yes", "--only", "f1"]).spawn().expect("whydrop starts");
    scene.wait_for_measurement(&child);
    command(&format!("ip netns delete {}", scene.server.name()));
    command(&format!("ip netns add {}", scene.server.name()));
    scene.block();
    let other = scene.rules();
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("another namespace has taken its place"), "{}", said(&output));
    assert_eq!(scene.rules(), other);
}

/// Rule 2 becomes rule 1 when the first one goes; that is no reason to call the fix useless.
#[test]
fn one_of_two_rules_can_be_mended() {
    let scene = Scene::new("fix-two");
    scene.server.run("iptables-nft -A INPUT -p udp --dport 7778 -j DROP");
    let (_first, _second) = (scene.traffic(), scene.traffic_to(7778));
    let output = scene.fix("1s", &["--yes", "--only", "f1"]).output().expect("whydrop starts");
    let text = said(&output);
    assert!(text.contains("undo: whydrop undo"), "{text}");
    assert!(!text.contains("taken back"), "{text}");
    // The other one still drops.
    assert_eq!(output.status.code(), Some(1), "{text}");
}

/// A controller puts the rule back: the change does not stand, and nothing is clear.
#[test]
fn a_change_that_does_not_last_is_no_success() {
    let scene = Scene::new("fix-controller");
    let traffic = scene.traffic();
    let before = scene.rules();
    let mut child = scene.fix(WINDOW, &["--yes", "--only", "f1"]).spawn().expect("whydrop starts");
    wait_for_applied(&mut child);
    drop(traffic);
    scene.restore(&before);
    let output = child.wait_with_output().expect("an end");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("does not stand any more") && !text.contains("CLEAR"), "{text}");
    assert_eq!(scene.rules(), before);
}

/// Nobody sends any more: the rule is not seen, and that proves nothing.
#[test]
fn without_traffic_nothing_is_proven() {
    let scene = Scene::new("fix-silence");
    let traffic = scene.traffic();
    let mut child = scene.fix("3s", &["--yes", "--only", "f1"]).spawn().expect("whydrop starts");
    wait_for_applied(&mut child);
    drop(traffic);
    let output = child.wait_with_output().expect("an end");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("is not proven") && !text.contains("CLEAR"), "{text}");
}

/// The way in is open, the answers die as all packets did before: nobody was helped.
#[test]
fn a_probe_that_is_lost_as_before_is_no_success() {
    let scene = Scene::new("fix-unhelped");
    scene.server.run("iptables-nft -A INPUT -p tcp --dport 80 -j DROP");
    scene.server.run("iptables-nft -A OUTPUT -p tcp --sport 80 -j DROP");
    let before = scene.rules();
    let more = ["--yes", "--only", "f1"];
    let output = scene.fix_probed("tcp://10.61.0.2:80", "2s", &more).output().expect("whydrop starts");
    let text = said(&output);
    assert!(text.contains("fares no better") && text.contains("taken back"), "{text}");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(scene.rules(), before);
}

/// The way back is told before the second measurement, and a signal in that one takes the change back.
#[test]
fn a_signal_in_the_second_measurement_takes_the_change_back() {
    for signal in ["INT", "HUP"] {
        let scene = Scene::new(&format!("fix-second-{signal}"));
        let _traffic = scene.traffic();
        let before = scene.rules();
        let mut child = scene.fix("3s", &["--yes", "--only", "f1"]).spawn().expect("whydrop starts");
        wait_for_applied(&mut child);
        assert_ne!(scene.rules(), before);
        // However often: a change under way is not left to itself.
        for _ in 0..3 {
            command(&format!("kill -{signal} {}", child.id()));
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(130), "{}", said(&output));
        assert_eq!(scene.rules(), before, "{}", said(&output));
    }
}

/// Whoever listened is gone: the change must not stay behind unseen.
#[test]
fn a_closed_stdout_takes_the_change_back() {
    let scene = Scene::new("fix-pipe");
    let _traffic = scene.traffic();
    let before = scene.rules();
    let mut child = scene.fix("2s", &["--yes", "--only", "f1"]).spawn().expect("whydrop starts");
    wait_for_applied(&mut child);
    drop(child.stdout.take());
    let output: Output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(scene.rules(), before);
}

/// Reads until the line that tells the way back.
#[track_caller]
fn wait_for_applied(child: &mut std::process::Child) {
    let stdout = child.stdout.as_mut().expect("a pipe");
    let mut text = vec![];
    let mut byte = [0];
    while !text.ends_with(b"whydrop undo ") {
        let n = std::io::Read::read(stdout, &mut byte).expect("text");
        assert!(n == 1, "ended before it was applied: {}", String::from_utf8_lossy(&text));
        text.extend(byte);
    }
}
