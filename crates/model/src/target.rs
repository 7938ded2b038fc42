//! What is diagnosed: a network namespace, named as its user names it.

use serde::{Deserialize, Serialize};

/// How a target was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// The namespace that whydrop was started in.
    Host,
    /// The namespace of a process.
    Pid,
    /// A namespace by name or path.
    Netns,
    /// A Docker container.
    Docker,
    /// A Podman container.
    Podman,
    /// A containerd container.
    Containerd,
    /// A Kubernetes pod.
    Pod,
}

/// Why a namespace is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The user asked about it: everything lost in it counts.
    Target,
    /// Probes start here (`--from`): only what costs the probes counts.
    Vantage,
}

/// How a person's shell gets into the namespace from where whydrop was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// Already there: commands run as they are.
    Here,
    /// `nsenter --net=PATH`.
    Path(String),
    /// `nsenter -t PID -n`.
    Pid(u32),
}

/// A namespace under observation. Several names can lead to one namespace; it is then observed once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Canonical id, for example `netns:web`; appears in every finding.
    pub id: String,
    /// How it was named.
    pub kind: TargetKind,
    /// Short name for sentences, for example `web`.
    pub name: String,
    /// Inode of the network namespace (`readlink /proc/PID/ns/net`).
    pub netns_inode: u64,
    /// A process inside, if known.
    pub pid: Option<u32>,
    /// Container id, if it is one.
    pub container: Option<String>,
    /// Why it is observed.
    pub role: Role,
    /// How a shell enters it.
    pub entry: Entry,
}

impl Target {
    /// An argv as it has to be typed from the shell that started whydrop.
    pub fn command(&self, argv: &[&str]) -> Vec<String> {
        let mut out: Vec<String> = match &self.entry {
            Entry::Here => vec![],
            Entry::Path(path) => vec!["nsenter".into(), format!("--net={path}")],
            Entry::Pid(pid) => vec!["nsenter".into(), "-t".into(), pid.to_string(), "-n".into()],
        };
        out.extend(argv.iter().map(|s| (*s).to_owned()));
        out
    }

    /// [`Target::command`] as one line, quoted for a POSIX shell.
    pub fn command_line(&self, argv: &[&str]) -> String {
        crate::shell::join(&self.command(argv))
    }
}
