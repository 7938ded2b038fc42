//! The words for where to look, the same for every command that looks.

use crate::settings::say;
use anyhow::Result;
use whydrop_host::targets::{self, Found};
use whydrop_model::{Text, text};

/// What a target may be.
pub const TARGET: Text = text!(
    "host, pid:N, netns:NAME or /path, pod:NAMESPACE/NAME, ENGINE:NAME or ID (docker, podman, containerd, cri, crio, lxc, machine), compose:PROJECT/SERVICE, or a bare name",
    "host、pid:N、netns:名称或路径、pod:命名空间/名称、引擎:名称或 ID（docker、podman、containerd、cri、crio、lxc、machine）、compose:项目/服务，或直接写名称"
);

/// What `--all-containers` stands for.
pub const ALL_CONTAINERS: Text = text!(
    "Every running container of every engine that has a network of its own",
    "所有引擎中正在运行且拥有独立网络的全部容器"
);

/// Where to look.
#[derive(Clone, Debug, clap::Args)]
pub struct TargetArgs {
    /// By name.
    #[arg(value_name = "TARGET", help = say(TARGET))]
    pub targets: Vec<String>,
    /// Every namespace.
    #[arg(long, conflicts_with = "targets",
          help = say(text!("Every network namespace of this machine", "本机的全部网络命名空间")))]
    pub all: bool,
    /// Every container.
    #[arg(long, conflicts_with_all = ["targets", "all"], help = say(ALL_CONTAINERS))]
    pub all_containers: bool,
}

impl TargetArgs {
    /// Opens the namespaces; without a word the own one.
    ///
    /// # Errors
    /// For a word that leads nowhere, with those that are near.
    pub fn open(&self) -> Result<Found> {
        Ok(match (self.all, self.all_containers) {
            (true, _) => targets::all()?,
            (false, true) => targets::all_containers()?,
            (false, false) => targets::resolve_all(&self.targets)?,
        })
    }
}
