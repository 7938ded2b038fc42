//! `whydrop demo` and `whydrop lab` as their users know them: what they say, and what they leave behind, which is
//! nothing, however they end. Need root, except for the refusal.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use whydrop_tests::{command, diagnose, is_root, whydrop, without_root};

/// For processes that clean up behind a killed one.
const PATIENCE: Duration = Duration::from_secs(10);

fn name(purpose: &str) -> String {
    format!("wd-test-{purpose}-{}", std::process::id())
}

/// All that a lab of this name could leave behind.
fn left_behind(name: &str) -> Vec<PathBuf> {
    let namespaces = ["client", "router", "server"].map(|place| format!("/run/netns/{name}-{place}"));
    let all = namespaces.into_iter().chain([format!("/run/whydrop/lab/{name}")]);
    all.map(PathBuf::from).filter(|path| path.exists()).collect()
}

#[track_caller]
fn assert_soon_gone(name: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !left_behind(name).is_empty() {
        assert!(Instant::now() < deadline, "left behind: {:?}", left_behind(name));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_demo_breaks_finds_repairs_and_leaves_nothing() {
    let name = name("demo");
    // Without any other program: what it needs is root and the kernel.
    let output = whydrop()
        .args(["demo", "--name", &name])
        .env("PATH", "/nonexistent")
        .output()
        .expect("whydrop starts");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(left_behind(&name), Vec::<PathBuf>::new());
    let (symptom, rest) = said.split_once("== 4").expect("a diagnosis");
    let (diagnosis, proof) = rest.split_once("== 6").expect("a proof");
    for part in ["flags=SA", "packet loss", "no page within 3 s"] {
        assert!(symptom.contains(part), "no {part}\n{said}");
    }
    for part in ["netfilter.drop_rule", "mtu.too_small", "before", "after"] {
        assert!(diagnosis.contains(part), "no {part}\n{said}");
    }
    assert!(diagnosis.contains("0 of 40 SYNs lost or late; page in"), "{said}");
    assert!(proof.contains("CLEAR"), "{said}");
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    for (signal, status) in [("INT", Some(130)), ("TERM", Some(130)), ("KILL", None)] {
        let name = name(&format!("demo-{signal}"));
        let mut child =
            whydrop().args(["demo", "--name", &name]).stdout(Stdio::piped()).spawn().expect("whydrop starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        // Broken and under way.
        lines
            .find(|line| line.as_ref().is_ok_and(|line| line.starts_with("== 3")))
            .expect("a third chapter")
            .ok();
        assert_eq!(left_behind(&name).len(), 3, "two namespaces and the claim");
        command(&format!("kill -{signal} {}", child.id()));
        // Reads what is left, so that the demo is not stopped by a full pipe.
        lines.for_each(drop);
        let ended = child.wait().expect("an end");
        assert_eq!(ended.code(), status, "{signal}: {ended} {:?}", ended.signal());
        assert_soon_gone(&name);
    }
}

#[test]
fn a_lab_stands_until_it_is_taken_down() {
    let name = name("lab");
    let lab = |words: &[&str]| whydrop().arg("lab").args(words).output().expect("whydrop starts");
    let up = lab(&["up", "app.bound_loopback", "--name", &name]);
    assert_eq!(up.status.code(), Some(0), "{}", said(&up));
    let advice = said(&up);
    let words = advice.split_once("whydrop diagnose ").and_then(|(_, rest)| rest.lines().next());
    let words: Vec<&str> = words.expect("what to try").split_whitespace().collect();
    diagnose(&[&["diagnose", "--duration", "1s"], words.as_slice()].concat())
        .assert_causes(&["app.bound_loopback"]);
    let again = lab(&["run", "healthy/idle", "--name", &name]);
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    assert!(said(&again).contains("stands already"), "{}", said(&again));
    let down = lab(&["down", "--name", &name]);
    assert_eq!(down.status.code(), Some(0), "{}", said(&down));
    assert_eq!(left_behind(&name), Vec::<PathBuf>::new());
}

#[test]
fn what_a_killed_holder_left_is_removed_by_down() {
    let name = name("orphan");
    let up = whydrop().args(["lab", "up", "healthy/idle", "--name", &name]).output().expect("whydrop starts");
    assert_eq!(up.status.code(), Some(0), "{}", said(&up));
    let state = std::fs::read_to_string(format!("/run/whydrop/lab/{name}")).expect("a state");
    let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
    command(&format!("kill -KILL {}", state["pid"]));
    // Either its sweeper or `down` is quicker; after both nothing is left.
    let down = whydrop().args(["lab", "down", "--name", &name]).output().expect("whydrop starts");
    assert_eq!(down.status.code(), Some(0), "{}", said(&down));
    assert_soon_gone(&name);
}

#[test]
fn without_root_nothing_is_built_and_the_reason_is_told() {
    for words in [["demo", "--name"].as_slice(), &["lab", "run", "healthy/idle", "--name"]] {
        let name = name("nobody");
        let mut program = if is_root() { without_root() } else { whydrop() };
        let output = program.args(words).arg(&name).output().expect("whydrop starts");
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("needs: root"), "{}", said(&output));
        assert_eq!(left_behind(&name), Vec::<PathBuf>::new());
    }
}
