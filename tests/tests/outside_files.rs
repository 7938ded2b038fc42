//! What whydrop reads and writes may be anything: a device stays a device, a FIFO costs no more than a deadline, and a
//! reader that goes away changes no exit status.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use whydrop_tests::{Namespace, command, whydrop, without_calls_errno};

fn run(arguments: &[&str]) -> Output {
    whydrop().args(arguments).output().expect("whydrop starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A name in the temporary directory, free at the beginning and at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("whydrop-outside-{}-{name}", std::process::id())))
    }

    fn fifo(name: &str) -> Self {
        let path = Self::new(name);
        command(&format!("mkfifo {}", path.path()));
        path
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a plain name")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have been made.
        fs::remove_file(&self.0).ok();
    }
}

#[test]
fn a_recording_replaces_no_device_and_is_for_its_owner_only() {
    let namespace = Namespace::new("outfile");
    let observe = ["record", &namespace.target(), "--passive", "--no-trace", "--duration", "100ms", "-o"];
    // A device of its own: a failure must not cost the machine its /dev/null.
    let device = Scratch::new("null");
    command(&format!("mknod {} c 1 3", device.path()));
    let file = Scratch::new("plain.json");
    fs::write(file.path(), "old").unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let link = Scratch::new("link.json");
    std::os::unix::fs::symlink(file.path(), link.path()).unwrap();
    for path in [&device, &link, &file] {
        let output = run(&[&observe[..], &[path.path()]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    assert!(fs::symlink_metadata(device.path()).unwrap().file_type().is_char_device());
    assert!(fs::symlink_metadata(link.path()).unwrap().is_symlink());
    assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(file.path()).unwrap().contains("whydrop.record.v1"));
}

#[test]
fn a_fifo_a_socket_and_a_directory_are_errors_in_time() {
    let fifo = Scratch::fifo("fifo");
    let socket = Scratch::new("socket");
    let _listener = std::os::unix::net::UnixListener::bind(socket.path()).unwrap();
    for path in [fifo.path(), socket.path(), "/tmp"] {
        let target = format!("netns:{path}");
        for arguments in [&["diagnose", "--replay", path][..], &["diagnose", &target]] {
            let mut program = whydrop();
            let began = Instant::now();
            let output = program.args(arguments).output().expect("whydrop starts");
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
            assert!(stderr(&output).contains(path), "{arguments:?}: {}", stderr(&output));
            assert!(began.elapsed() < Duration::from_secs(20), "{arguments:?}: {:?}", began.elapsed());
        }
    }
}

#[test]
fn a_reader_that_goes_away_changes_no_exit_status() {
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/app.not_listening/basic/record.json");
    let mut child = whydrop()
        .args(["diagnose", "--replay", recording, "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(1), ""));
}

#[test]
fn a_socket_family_that_does_not_open_is_never_absence() {
    for errno in [libc::EAFNOSUPPORT, libc::ENOSYS, libc::ENOENT] {
        let output = without_calls_errno(&[libc::SYS_socket], errno, || {
            let mut program: Command = whydrop();
            program.args(["diagnose", "host", "--passive", "--duration", "100ms", "--json"]).output().unwrap()
        });
        let report: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stderr(&output)));
        for source in ["links", "routes", "nftables", "sockets", "ethtool"] {
            let rows = report["coverage"].as_array().unwrap();
            let row = rows.iter().find(|row| row["source"] == source).unwrap();
            assert!(row["status"] == "failed" || row["status"] == "denied", "errno {errno}: {row}");
        }
        assert_eq!(report["verdict"], "inconclusive", "errno {errno}");
        assert_eq!(output.status.code(), Some(3));
    }
}
