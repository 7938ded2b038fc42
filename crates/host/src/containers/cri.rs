//! Kubernetes' runtime interface (CRI v1) of containerd, CRI-O and cri-dockerd.
//!
//! Messages hold the fields that are read here, with the numbers of `k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`;
//! prost passes over all others.

use super::docker::refused;
use super::grpc::{self, Client};
use super::http::Trouble;
use super::labels::Labels;
use super::{Asked, Container, Told, files};
use crate::error::Result;
use std::path::{Path, PathBuf};
use std::time::Duration;
use whydrop_model::{Pod, TargetKind, text};

/// Where runtimes listen; the first two in the order of `crictl`, then those that k3s and microk8s bring.
const SOCKETS: [&str; 5] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
];
/// crictl's variable.
const VARIABLE: &str = "CONTAINER_RUNTIME_ENDPOINT";
const SERVICE: &str = "/runtime.v1.RuntimeService";
/// `PodSandboxState`, `ContainerState`.
const READY: i32 = 0;
const RUNNING: i32 = 1;
/// gRPC's status for a service that is not there: a containerd without its CRI plugin.
const UNIMPLEMENTED: &str = "gRPC status 12";

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct Version {
    #[prost(string, tag = "2")]
    runtime_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sandboxes {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Sandbox>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<Metadata>,
    #[prost(int32, tag = "3")]
    state: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Containers {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Listed>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerName {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Image {
    #[prost(string, tag = "1")]
    image: String,
    #[prost(string, tag = "18")]
    user_specified_image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Listed {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    metadata: Option<ContainerName>,
    #[prost(message, optional, tag = "4")]
    image: Option<Image>,
    #[prost(int32, tag = "6")]
    state: i32,
    #[prost(map = "string, string", tag = "8")]
    labels: Labels,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bool, tag = "2")]
    verbose: bool,
}

/// `PodSandboxStatusResponse` and `ContainerStatusResponse`: the same as far as it is read.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(map = "string, string", tag = "2")]
    info: Labels,
}

/// What containerd and CRI-O write as `info`.
#[derive(serde::Deserialize)]
struct Info {
    pid: u32,
}

/// What the runtimes say.
pub(super) fn told(limit: Duration) -> Vec<Told> {
    let sockets = sockets();
    std::thread::scope(|scope| {
        let asked: Vec<_> = sockets.iter().map(|socket| scope.spawn(move || one(socket, limit))).collect();
        asked.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    })
}

fn sockets() -> Vec<PathBuf> {
    let named = std::env::var(VARIABLE).ok();
    match named.as_deref().map(|socket| socket.strip_prefix("unix://").unwrap_or(socket)) {
        Some(path) if path.starts_with('/') => vec![path.into()],
        _ => SOCKETS.iter().map(files::on_machine).filter(|path| path.exists()).collect(),
    }
}

fn one(socket: &Path, limit: Duration) -> Option<Told> {
    let containers = match grpc::session(socket, limit, list) {
        // It is no runtime of Kubernetes, and does not claim to be.
        Err(Trouble::Answer(words)) if words.en.contains(UNIMPLEMENTED) => return None,
        Err(trouble) => Err(refused("CRI", socket, limit, trouble)),
        Ok((runtime, sandboxes, listed)) => Ok(containers(socket, &runtime, sandboxes, listed)),
    };
    Some(Told { source: format!("CRI at {}", socket.display()), containers })
}

async fn list(client: Client) -> std::result::Result<(String, Vec<Sandbox>, Vec<Listed>), Trouble> {
    let version: Version = client.call(&format!("{SERVICE}/Version"), &[], &Empty {}).await?;
    let sandboxes: Sandboxes = client.call(&format!("{SERVICE}/ListPodSandbox"), &[], &Empty {}).await?;
    let listed: Containers = client.call(&format!("{SERVICE}/ListContainers"), &[], &Empty {}).await?;
    Ok((version.runtime_name, sandboxes.items, listed.containers))
}

fn containers(socket: &Path, runtime: &str, sandboxes: Vec<Sandbox>, listed: Vec<Listed>) -> Vec<Container> {
    let engine = match runtime {
        "containerd" => TargetKind::Containerd,
        "cri-o" => TargetKind::Crio,
        "docker" => TargetKind::Docker,
        _ => TargetKind::Cri,
    };
    let new = |id: &str| Container { asked: Asked::Cri(socket.to_owned()), ..Container::new(engine, id) };
    let sandboxes = sandboxes.into_iter().map(|sandbox| {
        let mut out = new(&sandbox.id);
        out.infra = true;
        out.running = sandbox.state == READY;
        out.pod = sandbox.metadata.map(|m| Pod {
            namespace: m.namespace,
            name: m.name,
            uid: Some(m.uid).filter(|uid| !uid.is_empty()),
        });
        out
    });
    let listed = listed.into_iter().map(|container| {
        let mut out = new(&container.id);
        out.names = container.metadata.into_iter().map(|metadata| metadata.name).collect();
        out.sandbox = Some(container.pod_sandbox_id);
        out.running = container.state == RUNNING;
        out.image = container.image.map(|image| {
            if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image }
        });
        out.read_labels(&container.labels);
        out
    });
    sandboxes.chain(listed).collect()
}

/// Asks for the first process of a container or sandbox.
pub(super) fn pid(container: &Container, socket: &Path, limit: Duration) -> Result<u32> {
    let method = if container.infra { "PodSandboxStatus" } else { "ContainerStatus" };
    let request = StatusRequest { id: container.id.clone(), verbose: true };
    let status = grpc::session(socket, limit, async |client| {
        client.call::<_, Status>(&format!("{SERVICE}/{method}"), &[], &request).await
    });
    let status = status.map_err(|trouble| refused("CRI", socket, limit, trouble))?;
    let info = status.info.get("info").and_then(|info| serde_json::from_str::<Info>(info).ok());
    info.map(|info| info.pid)
        .filter(|pid| *pid > 0)
        .ok_or_else(|| container.processless(text!("its runtime does not tell", "运行时没有给出").phrase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_and_its_container_are_one_pod() {
        let sandbox = Sandbox {
            id: "aa".into(),
            metadata: Some(Metadata { name: "web".into(), uid: "6a".into(), namespace: "shop".into() }),
            state: READY,
        };
        let listed = Listed {
            id: "bb".into(),
            pod_sandbox_id: "aa".into(),
            metadata: Some(ContainerName { name: "nginx".into() }),
            image: Some(Image { image: "sha256:1".into(), user_specified_image: "nginx:1".into() }),
            state: RUNNING,
            labels: Labels::new(),
        };
        let all = containers(Path::new("/s"), "cri-o", vec![sandbox], vec![listed]);
        let [pause, nginx] = all.as_slice() else { panic!("{all:?}") };
        assert!(pause.infra && pause.running && pause.is_in_pod("shop/web"));
        assert_eq!((nginx.engine, nginx.name(), nginx.running), (TargetKind::Crio, "nginx", true));
        assert_eq!((nginx.sandbox.as_deref(), nginx.image.as_deref()), (Some("aa"), Some("nginx:1")));
    }
}
