//! The command line as its users meet it: help, errors with a remedy, exit statuses, output that pipes, and a
//! machine that gives little.

use std::fs;
use std::process::{Command, Output, Stdio};
use whydrop_tests::{Namespace, diagnose, whydrop, without_root};

fn run(arguments: &[&str]) -> Output {
    whydrop().args(arguments).output().expect("whydrop starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file that no other test uses, gone at the end.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("whydrop-test-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("the temporary directory has a plain name")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have been made.
        fs::remove_file(&self.0).ok();
    }
}

#[test]
fn bad_input_is_status_2_and_names_the_object_and_the_remedy() {
    let cases: [(&[&str], &str); 9] = [
        (&["diagnose", "netns:no-such-namespace"], "netns:no-such-namespace"),
        (&["diagnose", "pid:abc"], "pid:1234"),
        (&["diagnose", "pid:4194303"], "no such process"),
        (&["diagnose", "--duration", "5 parsecs"], "--duration"),
        (&["diagnose", "--probe", "ftp://x"], "tcp://"),
        (&["diagnose", "--probe", "tcp://10.0.0.1"], "port"),
        (&["diagnose", "--replay", "/no/such/file"], "/no/such/file"),
        (&["explain", "netfilter.drop_rul"], "netfilter.drop_rule"),
        (&["no-such-command"], "no-such-command"),
    ];
    for (arguments, word) in cases {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(word), "{arguments:?} does not say {word}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{arguments:?} wrote to stdout");
    }
}

#[test]
fn help_and_the_generated_files_exist_in_both_languages() {
    for lang in ["en", "zh"] {
        let help = run(&["--lang", lang, "--help"]);
        assert!(help.status.success());
        assert_eq!(stdout(&help).contains('丢'), lang == "zh", "{}", stdout(&help));
    }
    let pages = stdout(&run(&["man", "--list"]));
    assert!(pages.lines().count() > 10, "{pages}");
    for page in pages.lines() {
        let command = page.strip_prefix("whydrop-");
        let page = stdout(&run(&["man"].into_iter().chain(command).collect::<Vec<_>>()));
        assert!(page.contains(".TH") && page.contains(command.unwrap_or("whydrop")), "{page}");
    }
    assert_eq!(run(&["man", "dignose"]).status.code(), Some(2));
    let licences = stdout(&run(&["licences"]));
    assert!(licences.contains("  aya ") && licences.contains("Rich Felker"), "{licences}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&run(&["completions", shell])).contains("diagnose"));
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child =
        whydrop().args(["explain"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

#[test]
fn explain_knows_causes_counters_reasons_and_sentences_of_netstat() {
    for name in [
        "netfilter.drop_rule",
        "TcpExt.TCPTimeouts",
        "rx_missed_errors",
        "NETFILTER_DROP",
        "resets received for embryonic SYN_RECV sockets",
        "11 failed connection attempts",
    ] {
        for lang in ["en", "zh"] {
            let output = run(&["--lang", lang, "explain", name]);
            assert!(output.status.success(), "{name}: {}", stderr(&output));
            let lines = stdout(&output).lines().count();
            assert!((3..=60).contains(&lines), "{name}: {lines} lines");
        }
    }
}

#[test]
fn a_replay_gives_the_same_report_without_root() {
    let record = Scratch::new("record.json");
    let namespace = Namespace::new("replay");
    let live = diagnose(&[
        "diagnose",
        &namespace.target(),
        "--passive",
        "--duration",
        "500ms",
        "--record",
        record.path(),
    ]);
    live.assert_causes(&[]);
    fs::set_permissions(record.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let output = without_root()
        .args(["diagnose", "--json", "--replay", record.path()])
        .output()
        .expect("whydrop starts as nobody");
    let replayed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(replayed, live.report);
    assert_eq!(output.status.code(), Some(live.status));
}

#[test]
fn a_damaged_recording_is_refused_with_a_reason() {
    let file = Scratch::new("damaged.json");
    for text in [
        "",
        "{}",
        "[]",
        "{\"schema\":\"whydrop.record.v9\"}",
        "{\"schema\":\"whydrop.record.v1\"}",
        "\u{0}\u{1}",
    ] {
        fs::write(file.path(), text).unwrap();
        let output = run(&["diagnose", "--replay", file.path()]);
        assert_eq!(output.status.code(), Some(2), "{text:?}");
        assert!(stderr(&output).starts_with("error: "), "{}", stderr(&output));
    }
}

#[test]
fn without_root_the_report_says_what_is_missing_and_changes_nothing() {
    let passive = ["diagnose", "host", "--passive", "--duration", "300ms", "--json"];
    let output = without_root().args(passive).output().expect("whydrop starts as nobody");
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
    let denied = report["coverage"].as_array().unwrap().iter().filter(|c| c["status"] == "denied").count();
    assert!(denied > 0, "{report:#}");
    assert_ne!(report["verdict"], "clear", "what could not be looked at is never fine: {report:#}");
}

#[test]
fn quiet_prints_nothing_and_a_file_takes_the_report() {
    let namespace = Namespace::new("quiet");
    let observe = ["diagnose", &namespace.target(), "--passive", "--duration", "300ms"];
    let output = run(&[&observe[..], &["--quiet"]].concat());
    assert_eq!(
        (output.status.code(), stdout(&output), stderr(&output)),
        (Some(0), String::new(), String::new())
    );
    let file = Scratch::new("report.txt");
    let output = run(&[&observe[..], &["-o", file.path()]].concat());
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), String::new()));
    assert!(fs::read_to_string(file.path()).unwrap().starts_with("CLEAR"));
}

#[test]
fn sigint_ends_the_window_early_with_the_report() {
    let namespace = Namespace::new("sigint");
    let started = std::time::Instant::now();
    let child = whydrop()
        .args(["diagnose", &namespace.target(), "--passive", "--duration", "60s", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The handler is installed before anything is read; half a second is many times what a start takes.
    std::thread::sleep(std::time::Duration::from_millis(500));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(report["verdict"], "clear", "{report:#}");
    assert!(started.elapsed().as_secs() < 30);
}

#[test]
fn a_namespace_that_vanishes_is_no_panic() {
    let namespace = Namespace::new("vanish");
    let child = whydrop()
        .args(["diagnose", &namespace.target(), "--passive", "--duration", "2s", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(700));
    drop(namespace);
    let output = child.wait_with_output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}
