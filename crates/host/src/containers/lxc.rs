//! LXC, and what is built on it (LXD, Incus): no engine is asked.
//!
//! Each container that runs has a monitor, whose command line is `[lxc monitor] DIRECTORY NAME`, and the container's
//! first process is its child. Those that do not run have a directory with a configuration.

use super::processes::Monitor;
use super::{Container, Told, files};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use whydrop_model::TargetKind;

/// Root's containers.
const DIRECTORY: &str = "/var/lib/lxc";
/// What the monitor calls itself (LXC, `src/lxc/lxccontainer.c`, `do_lxcapi_start`).
const TITLE: &str = "[lxc monitor]";

pub(super) fn told(monitors: &[Monitor]) -> Vec<Told> {
    let mut directories: BTreeSet<PathBuf> = [files::on_machine(DIRECTORY)].into();
    let mut containers: Vec<Container> = vec![];
    for monitor in monitors {
        let Some((directory, container)) = running(monitor) else { continue };
        directories.insert(directory);
        containers.push(container);
    }
    for directory in directories {
        for name in files::names(&directory) {
            let known = containers.iter().any(|container| container.id == name);
            if !known && directory.join(&name).join("config").exists() {
                containers
                    .push(Container { names: vec![name.clone()], ..Container::new(TargetKind::Lxc, &name) });
            }
        }
    }
    vec![Told { source: "lxc".to_owned(), containers: Ok(containers) }]
}

/// The container of a monitor and the directory of its kind.
fn running(monitor: &Monitor) -> Option<(PathBuf, Container)> {
    // The title is one word with blanks, as LXC writes it, or several.
    let line = monitor.words.join(" ");
    let (directory, name) = line.strip_prefix(TITLE)?.trim().rsplit_once(' ')?;
    let mut out = Container { names: vec![name.to_owned()], ..Container::new(TargetKind::Lxc, name) };
    out.uid = monitor.uid;
    out.pid = monitor.children().first().copied();
    out.running = out.pid.is_some();
    Some((Path::new(directory.trim()).to_owned(), out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitors_title() {
        let of = |line: &str| {
            running(&Monitor {
                pid: u32::MAX,
                uid: 0,
                comm: "lxc-start".into(),
                words: vec![line.to_owned()],
            })
            .map(|(directory, container)| (directory.display().to_string(), container.id))
        };
        assert_eq!(of("[lxc monitor] /var/lib/lxc web"), Some(("/var/lib/lxc".into(), "web".into())));
        assert_eq!(
            of("[lxc monitor] /var/snap/lxd/common/lxd/containers web"),
            Some(("/var/snap/lxd/common/lxd/containers".into(), "web".into()))
        );
        assert_eq!(of("lxc-start -n web"), None);
    }
}
