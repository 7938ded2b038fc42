//! A kubelet in miniature: makes pods through the runtime interface of Kubernetes (CRI v1).
//!
//! Messages hold the fields that are needed, with the numbers of `k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`.

use prost::Message;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use whydrop_host::containers::grpc;

/// Making a pod unpacks images and calls CNI plug-ins.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct PortMapping {
    #[prost(int32, tag = "2")]
    container_port: i32,
    #[prost(int32, tag = "3")]
    host_port: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(string, tag = "2")]
    hostname: String,
    #[prost(message, repeated, tag = "5")]
    port_mappings: Vec<PortMapping>,
    #[prost(map = "string, string", tag = "6")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct RunRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<SandboxConfig>,
}

/// A message that is one id.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerName {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerName>,
    #[prost(message, optional, tag = "2")]
    image: Option<Image>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(map = "string, string", tag = "9")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateRequest {
    #[prost(string, tag = "1")]
    sandbox: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct Network {
    #[prost(string, tag = "1")]
    ip: String,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(message, optional, tag = "5")]
    network: Option<Network>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
}

#[track_caller]
fn call<A: Message, B: Message + Default>(socket: &Path, method: &str, ask: &A) -> B {
    let path = format!("/runtime.v1.RuntimeService/{method}");
    let answer = grpc::session(socket, PATIENCE, async |client| client.call(&path, &[], ask).await);
    answer.unwrap_or_else(|trouble| panic!("{method}: {trouble:?}"))
}

/// A pod, removed when this value is dropped.
#[derive(Debug)]
pub struct Pod {
    socket: PathBuf,
    config: SandboxConfig,
    /// Id of its sandbox.
    pub id: String,
}

impl Pod {
    /// Makes `namespace/name`; `ports` are (of the host, of the pod).
    #[track_caller]
    pub fn run(socket: &Path, namespace: &str, name: &str, ports: &[(i32, i32)]) -> Self {
        let uid = format!("6a2c0f0e-0000-4000-8000-{:012x}", std::process::id());
        let labels = [
            ("io.kubernetes.pod.name", name),
            ("io.kubernetes.pod.namespace", namespace),
            ("io.kubernetes.pod.uid", &uid),
        ];
        let config = SandboxConfig {
            metadata: Some(Metadata { name: name.into(), uid: uid.clone(), namespace: namespace.into() }),
            hostname: name.to_owned(),
            port_mappings: ports
                .iter()
                .map(|&(host_port, container_port)| PortMapping { container_port, host_port })
                .collect(),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        };
        let made: Id = call(socket, "RunPodSandbox", &RunRequest { config: Some(config.clone()) });
        Self { socket: socket.to_owned(), config, id: made.id }
    }

    /// Starts a container in it and returns its id.
    #[track_caller]
    pub fn start(&self, name: &str, image: &str, command: &[&str]) -> String {
        let labels = [("io.kubernetes.container.name".to_owned(), name.to_owned())];
        let config = ContainerConfig {
            metadata: Some(ContainerName { name: name.to_owned() }),
            image: Some(Image { image: image.to_owned() }),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            labels: labels.into(),
        };
        let request = CreateRequest {
            sandbox: self.id.clone(),
            config: Some(config),
            sandbox_config: Some(self.config.clone()),
        };
        let made: Id = call(&self.socket, "CreateContainer", &request);
        let Empty {} = call(&self.socket, "StartContainer", &made);
        made.id
    }

    /// Its address.
    #[track_caller]
    pub fn address(&self) -> String {
        let status: StatusResponse = call(&self.socket, "PodSandboxStatus", &Id { id: self.id.clone() });
        status.status.and_then(|status| status.network).expect("a pod has an address").ip
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let id = Id { id: self.id.clone() };
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            let path = format!("/runtime.v1.RuntimeService/{method}");
            // A runtime that is gone took its pods along.
            let work = async |client: grpc::Client| client.call::<_, Empty>(&path, &[], &id).await;
            grpc::session(&self.socket, PATIENCE, work).ok();
        }
    }
}
