//! containerd without containerd: the bundle of each container that runs, in the state directory of its shims.
//!
//! `STATE/io.containerd.runtime.v2.task/NAMESPACE/ID/` holds `config.json` (the OCI specification, whose annotations
//! name pod and container) and `init.pid`. A shim's working directory is such a bundle, whatever directory its
//! containerd was told to use: k3s, microk8s and Docker have their own.

use super::labels::Labels;
use super::processes::{Monitor, SHIM};
use super::{Container, Told, files};
use crate::error::Error;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use whydrop_model::TargetKind;

/// Below the usual state directory.
const TASKS: &str = "/run/containerd/io.containerd.runtime.v2.task";
/// The namespace of Docker's containers.
const MOBY: &str = "moby";
/// Bytes of a file with a number in it.
const NUMBER: usize = 64;

/// What is needed of `config.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Spec {
    annotations: Option<Labels>,
}

/// The annotations of a bundle; none if it has none, or could not be read, which is kept in `unread`.
pub(super) fn annotations(bundle: &Path, unread: &mut Option<Error>) -> Labels {
    let spec: Option<Spec> = files::json(&bundle.join("config.json"), unread);
    spec.and_then(|spec| spec.annotations).unwrap_or_default()
}

/// The process whose number is in a file.
pub(super) fn pid_in(path: &Path) -> Option<u32> {
    let pid = files::text(path, NUMBER)?.trim().parse().ok()?;
    Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
}

/// What the bundles say.
pub(super) fn told(monitors: &[Monitor]) -> Vec<Told> {
    let tasks = files::on_machine(TASKS);
    let mut directories: BTreeSet<(u32, PathBuf)> =
        files::names(&tasks).into_iter().map(|ns| (0, tasks.join(ns))).collect();
    let shims = monitors.iter().filter(|monitor| monitor.comm.starts_with(SHIM));
    directories.extend(shims.filter_map(|shim| Some((shim.uid, namespace_of(shim)?))));
    let mut unread = None;
    let containers = directories.iter().flat_map(|(uid, ns)| in_namespace(*uid, ns, &mut unread)).collect();
    Told::by_files("containerd files", containers, &[&tasks], unread)
}

/// The directory of a shim's namespace. All containers of a pod have one shim, which works in the first one's bundle.
fn namespace_of(shim: &Monitor) -> Option<PathBuf> {
    let bundle = std::fs::read_link(format!("/proc/{}/cwd", shim.pid)).ok()?;
    Some(shim.path(bundle.parent()?.to_str()?))
}

fn in_namespace(uid: u32, directory: &Path, unread: &mut Option<Error>) -> Vec<Container> {
    let scope = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let container = |id: String| {
        let bundle = directory.join(&id);
        let engine = if scope == MOBY { TargetKind::Docker } else { TargetKind::Containerd };
        let mut out = Container::new(engine, &id);
        out.scope = Some(scope.to_owned()).filter(|scope| scope != MOBY);
        out.uid = uid;
        out.pid = pid_in(&bundle.join("init.pid"));
        out.running = out.pid.is_some();
        out.read_labels(&annotations(&bundle, unread));
        out
    };
    let ids = files::names(directory).into_iter();
    ids.filter(|id| directory.join(id).join("config.json").exists()).map(container).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_names_its_pod_and_its_process() {
        let directory = std::env::temp_dir().join(format!("whydrop-bundles-{}", std::process::id()));
        let namespace = directory.join("k8s.io");
        let own = std::process::id().to_string();
        for (id, pid, config) in [
            (
                "ab",
                own.as_str(),
                r#"{"annotations":{"io.kubernetes.cri.container-name":"nginx",
                "io.kubernetes.cri.sandbox-name":"web","io.kubernetes.cri.sandbox-namespace":"shop"}}"#,
            ),
            ("cd", "4194304999", "{}"),
            ("ef", "no number", "no JSON"),
        ] {
            std::fs::create_dir_all(namespace.join(id)).unwrap();
            std::fs::write(namespace.join(id).join("init.pid"), pid).unwrap();
            std::fs::write(namespace.join(id).join("config.json"), config).unwrap();
        }
        let mut unread = None;
        let mut told = in_namespace(0, &namespace, &mut unread);
        std::fs::remove_dir_all(&directory).unwrap();
        told.sort_by(|a, b| a.id.cmp(&b.id));
        let [web, gone, odd] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((web.name(), web.pid, web.running), ("nginx", Some(std::process::id()), true));
        assert!(web.is_in_pod("shop/web") && web.scope.as_deref() == Some("k8s.io"));
        assert!(!gone.running && !odd.running && odd.pid.is_none());
        assert!(unread.is_some_and(|error| error.to_string().contains("ef/config.json")));
    }
}
