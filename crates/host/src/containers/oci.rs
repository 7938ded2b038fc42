//! Containers that runc and crun run without any engine, from the state that the runtime keeps.

use super::{Container, Told, files};
use crate::error::Error;
use serde::Deserialize;
use std::path::Path;
use whydrop_model::TargetKind;

/// A directory for each container of root's.
const RUNC: &str = "/run/runc";
const CRUN: &str = "/run/crun";

/// What is needed of runc's `state.json`.
#[derive(Debug, Deserialize)]
struct Runc {
    id: String,
    init_process_pid: u32,
}

/// What is needed of crun's `status`.
#[derive(Debug, Deserialize)]
struct Crun {
    pid: u32,
}

pub(super) fn told() -> Vec<Told> {
    let (of_runc, of_crun, mut unread) = (files::on_machine(RUNC), files::on_machine(CRUN), None);
    let mut containers = runc(&of_runc, &mut unread);
    containers.extend(crun(&of_crun, &mut unread));
    Told::by_files("runtimes", containers, &[&of_runc, &of_crun], unread)
}

fn container(id: &str, pid: u32) -> Container {
    let mut out = Container::new(TargetKind::Oci, id);
    out.names.push(id.to_owned());
    out.pid = Some(pid).filter(|pid| Path::new(&format!("/proc/{pid}")).exists());
    out.running = out.pid.is_some();
    out
}

fn runc(directory: &Path, unread: &mut Option<Error>) -> Vec<Container> {
    let states = files::names(directory).into_iter();
    let states = states.filter_map(|id| files::json::<Runc>(&directory.join(id).join("state.json"), unread));
    states.map(|state| container(&state.id, state.init_process_pid)).collect()
}

fn crun(directory: &Path, unread: &mut Option<Error>) -> Vec<Container> {
    let states = files::names(directory).into_iter();
    states
        .filter_map(|id| {
            let state: Crun = files::json(&directory.join(&id).join("status"), unread)?;
            Some(container(&id, state.pid))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runtimes_keep() {
        let directory = std::env::temp_dir().join(format!("whydrop-oci-{}", std::process::id()));
        let own = std::process::id();
        for (file, text) in [
            ("a/state.json", format!(r#"{{"id":"a","init_process_pid":{own},"config":{{}}}}"#)),
            ("b/status", format!(r#"{{"pid":{own},"cgroup-path":"/b"}}"#)),
            ("c/status", "nonsense".to_owned()),
        ] {
            let path = directory.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut unread = None;
        let a = runc(&directory, &mut unread);
        assert!(unread.is_none(), "no state is no odd state");
        let b = crun(&directory, &mut unread);
        assert!(unread.is_some_and(|error| error.to_string().contains("c/status")));
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(a.first().map(|c| (c.name(), c.pid)), Some(("a", Some(own))));
        assert_eq!((b.len(), b.first().and_then(|c| c.pid)), (1, Some(own)));
    }
}
