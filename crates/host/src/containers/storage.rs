//! Podman and CRI-O: Podman's API where it answers, and what both leave in their common store.
//!
//! A store (`overlay-containers` or `vfs-containers`) lists its containers in `containers.json`; while one runs,
//! conmon watches over it, and its command line says id, name and bundle. That holds for a store of any user at any
//! place.

use super::docker::{ask, socket};
use super::labels::Labels;
use super::processes::{CONMON, Monitor};
use super::{Container, Told, bundles, files};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use whydrop_model::TargetKind;

/// Where root's Podman listens, unless CONTAINER_HOST says otherwise.
const SOCKET: &str = "/run/podman/podman.sock";
/// Where each user's Podman listens: below the directory with that user's number.
const USERS: &str = "/run/user";
/// The oldest version of the API that has every field.
const LIST: &str = "/v4.0.0/libpod/containers/json?all=true&pod=true";
/// Root's store.
const STORE: &str = "/var/lib/containers/storage";
/// A user's store, below the home.
const USER_STORE: &str = ".local/share/containers/storage";
/// Drivers of a store have a list each.
const DRIVERS: [&str; 3] = ["overlay-containers", "vfs-containers", "btrfs-containers"];
/// Bytes of /etc/passwd.
const PASSWD: usize = 1 << 20;

/// What is needed of an entry of Podman's list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    id: String,
    names: Option<Vec<String>>,
    image: Option<String>,
    state: Option<String>,
    labels: Option<Labels>,
    pid: Option<u32>,
    pod_name: Option<String>,
    is_infra: Option<bool>,
}

/// What is needed of an entry of `containers.json`.
#[derive(Debug, Deserialize)]
struct Stored {
    id: String,
    names: Option<Vec<String>>,
    /// JSON once more.
    metadata: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    #[serde(rename = "image-name")]
    image: Option<String>,
    #[serde(rename = "metadata-name")]
    container: Option<String>,
    #[serde(rename = "pod-name")]
    pod: Option<String>,
    namespace: Option<String>,
}

/// What Podman says, root's and that of each user who has one running.
pub(super) fn told_by_podman(limit: Duration) -> Vec<Told> {
    let mut sockets: Vec<(u32, PathBuf)> =
        socket("CONTAINER_HOST", &[SOCKET]).into_iter().map(|path| (owner(&path), path)).collect();
    for name in files::names(Path::new(USERS)) {
        let path = Path::new(USERS).join(&name).join("podman/podman.sock");
        if path.exists() && sockets.iter().all(|(_, known)| *known != path) {
            sockets.push((owner(&path), path));
        }
    }
    let ask = |uid: u32, path: &Path| {
        let listed: Result<Vec<Summary>> = ask("podman", path, LIST, limit);
        let source =
            if uid == 0 { "podman engine".to_owned() } else { format!("podman engine of uid {uid}") };
        let containers = listed.map(|list| list.into_iter().map(|s| s.container(uid)).collect());
        Told { source, containers }
    };
    // Each user may have one that is silent.
    std::thread::scope(|scope| {
        let asked: Vec<_> = sockets.iter().map(|(uid, path)| scope.spawn(move || ask(*uid, path))).collect();
        asked.into_iter().filter_map(|thread| thread.join().ok()).collect()
    })
}

/// Whose a file is; nobody's is not root's.
fn owner(path: &Path) -> u32 {
    std::fs::metadata(path).map_or(u32::MAX, |seen| seen.uid())
}

impl Summary {
    fn container(self, uid: u32) -> Container {
        let mut out = Container::new(TargetKind::Podman, &self.id);
        out.uid = uid;
        out.names = self.names.unwrap_or_default();
        out.image = self.image.filter(|image| !image.is_empty());
        out.running = matches!(self.state.as_deref(), Some("running" | "paused"));
        out.pid = self.pid.filter(|pid| *pid > 0);
        out.infra = self.is_infra == Some(true);
        out.read_labels(&self.labels.unwrap_or_default());
        if let Some(name) = self.pod_name.filter(|name| !name.is_empty() && out.pod.is_none()) {
            out.pod = Some(whydrop_model::Pod { namespace: String::new(), name, uid: None });
        }
        out
    }
}

/// What stores and conmon's command lines say.
pub(super) fn told(monitors: &[Monitor]) -> Vec<Told> {
    let watched = || monitors.iter().filter(|monitor| monitor.comm.starts_with(CONMON));
    let store = files::on_machine(STORE);
    let mut stores: BTreeSet<(u32, PathBuf)> = DRIVERS.map(|driver| (0, store.join(driver))).into();
    for (uid, home) in homes() {
        stores.extend(DRIVERS.map(|driver| (uid, home.join(USER_STORE).join(driver))));
    }
    stores.extend(watched().filter_map(|conmon| {
        // STORE/DRIVER-containers/ID/userdata
        let bundle = conmon.path(conmon.option(&["-b", "--bundle"])?);
        Some((conmon.uid, bundle.parent()?.parent()?.to_owned()))
    }));
    let mut unread = None;
    let stored = stores.iter().flat_map(|(uid, store)| in_store(*uid, store, &mut unread));
    let mut containers: HashMap<(u32, String), Container> =
        stored.map(|container| ((container.uid, container.id.clone()), container)).collect();
    for conmon in watched() {
        let Some(container) = running(conmon, &mut unread) else { continue };
        match containers.get_mut(&(container.uid, container.id.clone())) {
            Some(known) => {
                if container.engine == TargetKind::Crio {
                    known.engine = TargetKind::Crio;
                }
                known.fold(container);
            }
            None => drop(containers.insert((container.uid, container.id.clone()), container)),
        }
    }
    let containers = containers.into_values().collect();
    Told::by_files("podman files", containers, &[&store], unread)
}

/// The homes of people.
fn homes() -> Vec<(u32, PathBuf)> {
    let passwd = files::text(Path::new("/etc/passwd"), PASSWD).unwrap_or_default();
    let home = |line: &str| {
        let mut fields = line.split(':');
        let uid = fields.nth(2)?.parse().ok()?;
        Some((uid, PathBuf::from(fields.nth(2)?)))
    };
    passwd.lines().filter_map(home).filter(|(uid, home)| *uid > 0 && home.join(USER_STORE).is_dir()).collect()
}

fn in_store(uid: u32, store: &Path, unread: &mut Option<Error>) -> Vec<Container> {
    let listed: Option<Vec<Stored>> = files::json(&store.join("containers.json"), unread);
    listed.into_iter().flatten().map(|stored| stored.container(uid)).collect()
}

impl Stored {
    fn container(self, uid: u32) -> Container {
        let mut out = Container::new(TargetKind::Podman, &self.id);
        out.uid = uid;
        out.sure = false;
        out.names = self.names.unwrap_or_default();
        out.read_kubelet_name();
        let metadata: Option<Metadata> = self.metadata.and_then(|text| serde_json::from_str(&text).ok());
        if let Some(metadata) = metadata {
            out.image = metadata.image.filter(|image| !image.is_empty());
            // Only CRI-O names a pod there, and the namespace only for its sandbox.
            if let Some(name) = metadata.pod {
                out.engine = TargetKind::Crio;
                let namespace = metadata.namespace.unwrap_or_default();
                out.pod.get_or_insert(whydrop_model::Pod { namespace, name, uid: None });
                out.names.extend(metadata.container.filter(|name| !out.infra && !out.names.contains(name)));
            }
        }
        out
    }
}

/// The container that a conmon watches over. What it says of itself is believed only of its children.
fn running(conmon: &Monitor, unread: &mut Option<Error>) -> Option<Container> {
    let mut out = Container::new(TargetKind::Podman, conmon.option(&["-c", "--cid"])?);
    out.uid = conmon.uid;
    // When the container ends, conmon has another child, which cleans up, and is not in its namespaces.
    let children = conmon.children();
    let written = conmon.option(&["-p", "--container-pidfile"]).map(|file| conmon.path(file));
    out.pid = written.and_then(|file| bundles::pid_in(&file)).filter(|pid| children.contains(pid));
    out.running = out.pid.is_some();
    out.names.extend(conmon.option(&["-n", "--name"]).map(str::to_owned));
    if let Some(bundle) = conmon.option(&["-b", "--bundle"]) {
        out.read_labels(&bundles::annotations(&conmon.path(bundle), unread));
    }
    out.read_kubelet_name();
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podmans_list() {
        let list = r#"[{"Id":"ab12","Names":["web"],"Image":"localhost/nginx:1","State":"running","Pid":77,
            "PodName":"shop","IsInfra":false,"Labels":null}]"#;
        let mut listed: Vec<Summary> = serde_json::from_str(list).unwrap();
        let web = listed.pop().unwrap().container(1000);
        assert_eq!((web.name(), web.pid, web.running, web.uid), ("web", Some(77), true, 1000));
        assert!(web.is_in_pod("shop") && web.image.as_deref() == Some("localhost/nginx:1"));
    }

    #[test]
    fn what_podman_and_crio_store() {
        let stored = |json: &str| serde_json::from_str::<Stored>(json).unwrap().container(0);
        let podman = stored(
            r#"{"id":"ab","names":["web"],"metadata":"{\"image-name\":\"localhost/nginx:1\",\"name\":\"web\"}"}"#,
        );
        assert_eq!((podman.engine, podman.name()), (TargetKind::Podman, "web"));
        assert_eq!(podman.image.as_deref(), Some("localhost/nginx:1"));
        let crio = stored(concat!(
            r#"{"id":"cd","names":["k8s_nginx_web-0_shop_6a2c_0"],"metadata":"{\"pod-name\":\"web-0\","#,
            r#"\"image-name\":\"nginx:1\",\"metadata-name\":\"nginx\"}"}"#
        ));
        assert_eq!((crio.engine, crio.name()), (TargetKind::Crio, "nginx"));
        assert!(crio.is_in_pod("shop/web-0"), "{crio:?}");
        assert_eq!(stored(r#"{"id":"ef","metadata":"no JSON"}"#).names, Vec::<String>::new());
    }

    #[test]
    fn conmon_says_what_it_watches_over() {
        let words =
            "conmon --api-version 1 -c ab12 -u ab12 -r /usr/bin/crun -b /nowhere/ab12/userdata -n web";
        let words = words.split(' ').map(str::to_owned).collect();
        let web =
            running(&Monitor { pid: u32::MAX, uid: 1000, comm: CONMON.into(), words }, &mut None).unwrap();
        assert_eq!((web.id.as_str(), web.name(), web.running, web.uid), ("ab12", "web", false, 1000));
    }
}
