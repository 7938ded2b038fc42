//! containerd's own interface: containers of every one of its namespaces, nerdctl's and ctr's included.
//!
//! Messages hold the fields that are read here, with the numbers of `containerd/api/services/…/*.proto`.

use super::docker::{refused, socket};
use super::grpc::{self, Client};
use super::http::Trouble;
use super::labels::Labels;
use super::{Container, Told};
use std::collections::HashMap;
use std::time::Duration;
use whydrop_model::TargetKind;

/// ctr's and nerdctl's variable, and where containerd listens.
const VARIABLE: &str = "CONTAINERD_ADDRESS";
const SOCKETS: [&str; 3] = [
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
];
const NAMESPACES: &str = "/containerd.services.namespaces.v1.Namespaces/List";
const CONTAINERS: &str = "/containerd.services.containers.v1.Containers/List";
const TASKS: &str = "/containerd.services.tasks.v1.Tasks/List";
/// The header field that says of which namespace a call is.
const NAMESPACE: &str = "containerd-namespace";
/// Docker's own namespace: it tells more of its containers.
const MOBY: &str = "moby";
/// `containerd.v1.types.Status`: created, running, paused and pausing have a process.
const ALIVE: [i32; 4] = [1, 2, 4, 5];

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct Namespaces {
    #[prost(message, repeated, tag = "1")]
    namespaces: Vec<Namespace>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Namespace {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Containers {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Listed>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Listed {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(map = "string, string", tag = "2")]
    labels: Labels,
    #[prost(string, tag = "3")]
    image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Tasks {
    #[prost(message, repeated, tag = "1")]
    tasks: Vec<Task>,
}

/// `containerd.v1.types.Process`.
#[derive(Clone, PartialEq, prost::Message)]
struct Task {
    #[prost(string, tag = "2")]
    id: String,
    #[prost(uint32, tag = "3")]
    pid: u32,
    #[prost(int32, tag = "4")]
    status: i32,
}

/// What containerd says.
pub(super) fn told(limit: Duration) -> Vec<Told> {
    let Some(socket) = named().or_else(|| socket(VARIABLE, &SOCKETS)) else { return vec![] };
    let containers = grpc::session(&socket, limit, list);
    let containers = containers.map_err(|trouble| refused("containerd", &socket, limit, trouble));
    vec![Told { source: "containerd engine".to_owned(), containers }]
}

/// The variable holds a path, with or without `unix://`.
fn named() -> Option<std::path::PathBuf> {
    std::env::var(VARIABLE).ok().filter(|path| path.starts_with('/')).map(Into::into)
}

async fn list(client: Client) -> Result<Vec<Container>, Trouble> {
    let spaces: Namespaces = client.call(NAMESPACES, &[], &Empty {}).await?;
    let mut out = vec![];
    for Namespace { name } in spaces.namespaces.iter().filter(|space| space.name != MOBY) {
        let of = [(NAMESPACE, name.as_str())];
        // The longer answer comes last: taking it apart is not waiting for the engine.
        let tasks: Tasks = client.call(TASKS, &of, &Empty {}).await?;
        let containers: Containers = client.call(CONTAINERS, &of, &Empty {}).await?;
        let alive = tasks.tasks.into_iter().filter(|task| ALIVE.contains(&task.status) && task.pid > 0);
        let pids: HashMap<String, u32> = alive.map(|task| (task.id, task.pid)).collect();
        out.extend(containers.containers.into_iter().map(|listed| listed.container(name, &pids)));
    }
    Ok(out)
}

impl Listed {
    fn container(self, scope: &str, pids: &HashMap<String, u32>) -> Container {
        let mut out = Container::new(TargetKind::Containerd, &self.id);
        out.scope = Some(scope.to_owned());
        out.image = Some(self.image).filter(|image| !image.is_empty());
        out.pid = pids.get(&self.id).copied();
        out.running = out.pid.is_some();
        out.read_labels(&self.labels);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_of_nerdctls() {
        let labels = [("nerdctl/name", "web"), ("nerdctl/namespace", "default")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let listed = Listed { id: "ab12".into(), labels, image: "docker.io/library/nginx:1".into() };
        let web = listed.container("default", &[("ab12".to_owned(), 7)].into());
        assert_eq!((web.name(), web.pid, web.running), ("web", Some(7), true));
        assert!(web.answers_to("default/web"));
    }
}
