//! Network namespaces set up with the tools that people use: the program must understand what those leave behind.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How the names of all test namespaces begin; the number of the process that made them ends them.
const PREFIX: &str = "wd-test-";

/// A named network namespace, removed with all that is in it when this value is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes it; its loopback interface is up. The name is unique on the machine: `wd-test-PURPOSE-NUMBER-PID`, for `cargo
    /// test` runs the tests of a file in one process.
    pub fn new(purpose: &str) -> Self {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{purpose}-{number}-{}", std::process::id());
        command(&format!("ip netns add {name}"));
        let namespace = Self { name };
        namespace.run("ip link set lo up");
        namespace
    }

    /// Its name below /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As `whydrop` names it.
    pub fn target(&self) -> String {
        format!("netns:{}", self.name)
    }

    /// Runs a command in it, which must succeed, and returns its stdout.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        command(&format!("ip netns exec {} {line}", self.name))
    }

    /// Starts a program in it that goes on until the returned value is dropped.
    #[track_caller]
    pub fn start(&self, line: &str) -> Background {
        let mut words = line.split_whitespace();
        let program = words.next().expect("a program");
        let child = Command::new("ip")
            .args(["netns", "exec", &self.name, program])
            .args(words)
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        Background(child)
    }

    /// Joins two namespaces by a veth pair; both ends are called eth0 and are up.
    pub fn join(&self, address: &str, other: &Self, other_address: &str) {
        self.run(&format!("ip link add eth0 type veth peer name eth0 netns {}", other.name));
        for (namespace, address) in [(self, address), (other, other_address)] {
            namespace.run(&format!("ip address add {address} dev eth0"));
            namespace.run("ip link set eth0 up");
        }
        // Each end is announced as up by a work item of the kernel, up to a second later.
        let deadline = Instant::now() + Duration::from_secs(10);
        while [self, other].iter().any(|end| !end.run("ip -o link show eth0").contains("state UP")) {
            assert!(Instant::now() < deadline, "the ends of a veth do not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // In a destructor there is nobody to tell; a namespace that stays is seen by its name.
        Command::new("ip").args(["netns", "delete", &self.name]).status().ok();
    }
}

/// Removes what tests left that were killed: the process that made it is gone.
fn sweep() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let of = name.strip_prefix(PREFIX).and_then(|rest| rest.rsplit('-').next());
        let Some(pid) = of.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            Command::new("ip").args(["netns", "delete", &name]).status().ok();
        }
    }
}

/// A program in the background, ended and reaped when this value is dropped.
#[derive(Debug)]
pub struct Background(Child);

impl Background {
    /// Its process.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Runs a command line (words separated by blanks, no shell), which must succeed, and returns its stdout.
#[track_caller]
pub fn command(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().expect("a program"))
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(
        output.status.success(),
        "{line}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
