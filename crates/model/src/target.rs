//! What is diagnosed: a network namespace, named as its user names it.

use crate::text::Phrase;
use serde::{Deserialize, Serialize};

/// Digits of an id below which it may be part of any name.
const SHORT_ID: usize = 12;

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
    /// A containerd container, nerdctl's included.
    Containerd,
    /// A container of a runtime that only speaks Kubernetes' runtime interface (CRI).
    Cri,
    /// A CRI-O container.
    Crio,
    /// A pod: Kubernetes', or Podman's.
    Pod,
    /// An LXC, LXD or Incus container.
    Lxc,
    /// A machine of systemd-nspawn.
    Machine,
    /// A container of runc or crun without an engine.
    Oci,
}

impl TargetKind {
    /// The word before the colon of a target.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Pid => "pid",
            Self::Netns => "netns",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Cri => "cri",
            Self::Crio => "crio",
            Self::Pod => "pod",
            Self::Lxc => "lxc",
            Self::Machine => "machine",
            Self::Oci => "oci",
        }
    }
}

/// The pod that a container belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Pod {
    /// Kubernetes namespace; empty for a pod of Podman.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Kubernetes' UID, if known.
    pub uid: Option<String>,
}

impl Pod {
    /// `namespace/name`, or the name alone where there is no namespace.
    pub fn word(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }
}

/// A container that lives in a namespace, by the names that its engine gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tenant {
    /// Who runs it.
    pub engine: TargetKind,
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Image, if known.
    pub image: Option<String>,
    /// Its pod, if it has one.
    pub pod: Option<Pod>,
}

/// Why a namespace is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The user asked about it: everything lost in it counts.
    Target,
    /// Probes start here (`--from`): only what costs the probes counts.
    Vantage,
    /// It is joined to a target and nobody named it: only what costs a flow through a target counts.
    Surrounding,
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
    /// The containers that live in it: those of a pod share one namespace.
    #[serde(default)]
    pub tenants: Vec<Tenant>,
}

impl Target {
    /// The pod whose namespace it is.
    pub fn pod(&self) -> Option<&Pod> {
        self.tenants.iter().find_map(|tenant| tenant.pod.as_ref())
    }

    /// The container whose processes are in this cgroup (a path as in /proc/PID/cgroup): its id is part of the name.
    pub fn tenant_of(&self, cgroup: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.id.len() >= SHORT_ID && cgroup.contains(&tenant.id))
    }

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
    ///
    /// # Errors
    /// The reason why the command is not fit to be pasted, see [`crate::command::check`].
    pub fn command_line(&self, argv: &[&str]) -> Result<String, Phrase> {
        crate::command::check(argv)?;
        Ok(crate::shell::join(&self.command(argv)))
    }
}
