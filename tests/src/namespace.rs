//! Network namespaces set up with the tools that people use: the program must understand what those leave behind.

use std::process::{Child, Command, Stdio};

/// A named network namespace, removed with all that is in it when this value is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes it; its loopback interface is up. The name is unique on the machine: `wd-test-PURPOSE-PID`.
    pub fn new(purpose: &str) -> Self {
        let name = format!("wd-test-{purpose}-{}", std::process::id());
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
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // In a destructor there is nobody to tell; a namespace that stays is seen by its name.
        Command::new("ip").args(["netns", "delete", &self.name]).status().ok();
    }
}

/// A program in the background, ended and reaped when this value is dropped.
#[derive(Debug)]
pub struct Background(Child);

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
