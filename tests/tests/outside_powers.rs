//! What every thread of the program may still do at the moments that count: while it reads, and while it judges and
//! writes.

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use std::fs::{self, File};
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use whydrop_tests::{Namespace, whydrop};

/// A report is longer: whoever writes one into such a pipe waits for its reader.
const PAGE: usize = 4096;
/// Nothing here takes longer.
const LONGEST: Duration = Duration::from_secs(60);

/// One field of the status of every thread.
fn field(child: &Child, name: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).expect("it runs");
    let read = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).expect("a thread");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
    };
    tasks.map(|task| read(task.expect("a thread"))).collect()
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let began = Instant::now();
    while !reached() {
        assert!(began.elapsed() < LONGEST, "{what} was not reached");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs the program until it waits for a reader of its answer, looks at it, and reads the answer.
fn while_it_writes(arguments: &[&str], look: impl FnOnce(&Child)) -> (Option<i32>, String) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    fcntl_setpipe_size(&read, PAGE).expect("a small pipe");
    let mut child = whydrop().args(arguments).stdout(Stdio::from(write)).spawn().expect("whydrop starts");
    until("a full pipe", || {
        assert!(child.try_wait().expect("a child").is_none(), "{arguments:?} ended early");
        rustix::io::ioctl_fionread(&read).expect("a pipe") >= PAGE as u64
    });
    look(&child);
    let mut answer = String::new();
    File::from(read).read_to_string(&mut answer).expect("text");
    (child.wait().expect("a child").code(), answer)
}

#[test]
fn nothing_is_left_while_an_answer_is_written() {
    let namespace = Namespace::new("powers");
    let target = namespace.target();
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/app.not_listening/basic/record.json");
    let commands: [(&[&str], i32); 3] = [
        (&["diagnose", &target, "--duration", "200ms", "--json"], 0),
        (&["diagnose", "--replay", recording, "--json"], 1),
        (&["explain"], 0),
    ];
    for (arguments, status) in commands {
        let (code, answer) = while_it_writes(arguments, |child| {
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                for value in field(child, set) {
                    assert_eq!(u64::from_str_radix(&value, 16), Ok(0), "{arguments:?}: {set}");
                }
            }
            assert!(field(child, "NoNewPrivs").iter().all(|value| value == "1"), "{arguments:?}");
            assert!(field(child, "Seccomp").iter().all(|value| value == "2"), "{arguments:?}: no filter");
        });
        assert_eq!(code, Some(status), "{arguments:?}");
        assert!(answer.len() > PAGE);
    }
}

#[test]
fn reading_keeps_only_what_it_needs() {
    // SETUID, SYS_MODULE, SYS_RAWIO, SYS_BOOT: powers over the machine that no reading needs.
    const NEVER: u64 = 1 << 7 | 1 << 16 | 1 << 17 | 1 << 22;
    let namespace = Namespace::new("reads");
    let file = std::env::temp_dir().join(format!("whydrop-reads-{}", std::process::id()));
    let record = ["record", "-o", file.to_str().expect("a plain name")];
    for command in [&["diagnose"][..], &["fix"], &record] {
        let mut child = whydrop()
            .args(command)
            .args([&namespace.target(), "--passive", "--duration", "60s"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("whydrop starts");
        let sets = |child: &Child| -> Vec<u64> {
            let all = ["CapPrm", "CapEff", "CapBnd"].map(|set| field(child, set));
            all.into_iter().flatten().map(|value| u64::from_str_radix(&value, 16).expect("hex")).collect()
        };
        until("the narrowing", || sets(&child).iter().all(|set| set & NEVER == 0 && *set != 0));
        child.kill().expect("it runs");
        child.wait().expect("a child");
    }
}

#[test]
fn self_check_shows_what_is_kept_when() {
    let output = whydrop().args(["self-check", "--color", "never"]).output().expect("whydrop starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    // As the lines are broken says nothing.
    let words: Vec<&str> = said.split_whitespace().collect();
    let words = words.join(" ");
    for part in [
        "kept while reading",
        "NET_ADMIN",
        "kept while judging",
        "no capability; no_new_privs",
        "kept by fix, undo",
        "kept for recordings",
    ] {
        assert!(words.contains(part), "no {part:?} in\n{said}");
    }
}
