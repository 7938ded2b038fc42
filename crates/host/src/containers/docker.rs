//! Docker's API over its socket, and what it keeps in files.

use super::http::{self, Trouble};
use super::labels::Labels;
use super::{Asked, Container, Told, files};
use crate::error::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;
use whydrop_model::{TargetKind, Text, text};

/// Where it listens, unless DOCKER_HOST says otherwise.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];
/// Where it keeps what it knows of its containers, a directory each, named by the id.
const DIRECTORY: &str = "/var/lib/docker/containers";

/// What is needed of `GET /containers/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    id: String,
    names: Option<Vec<String>>,
    image: Option<String>,
    state: Option<String>,
    labels: Option<Labels>,
}

/// What is needed of `GET /containers/ID/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Details {
    state: State,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    pid: u32,
}

/// What is needed of `config.v2.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(rename = "ID")]
    id: String,
    name: Option<String>,
    state: KeptState,
    config: Option<KeptConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeptState {
    running: bool,
    pid: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeptConfig {
    image: Option<String>,
    labels: Option<Labels>,
}

/// The socket that a variable names, or the usual one, if there is one.
pub(super) fn socket(variable: &str, usual: &[&str]) -> Option<PathBuf> {
    let named = std::env::var(variable).ok();
    match named.as_deref().and_then(|host| host.strip_prefix("unix://")) {
        Some(path) => Some(path.into()),
        None => usual.iter().map(files::on_machine).find(|path| path.exists()),
    }
}

/// Asks an engine that speaks HTTP for JSON. Paths go without a version: the engine then speaks its newest, and no
/// field that is read here ever changed.
pub(super) fn ask<T: DeserializeOwned>(
    engine: &str,
    socket: &Path,
    path: &str,
    limit: Duration,
) -> Result<T> {
    let bytes = http::get(socket, path, limit).map_err(|trouble| refused(engine, socket, limit, trouble))?;
    serde_json::from_slice(&bytes).map_err(|e| {
        let reason =
            text!("its answer is not what an engine says: {error}", "它的应答不合引擎的格式：{error}");
        refused(engine, socket, limit, Trouble::Answer(reason.fill(&[("error", &e)])))
    })
}

/// Why an engine could not be asked.
pub(super) fn refused(engine: &str, socket: &Path, limit: Duration, trouble: Trouble) -> Error {
    const ASK: Text = text!("ask {object}", "询问{object}");
    let object = text!("the {engine} engine at {path}", "位于 {path} 的 {engine} 引擎")
        .fill(&[("engine", &engine), ("path", &socket.display())]);
    match trouble {
        Trouble::Late => {
            let said = text!("no whole answer within {n} ms", "{n} 毫秒内没有完整的应答");
            Error::new(ASK, object, said.fill(&[("n", &limit.as_millis())]))
        }
        Trouble::Answer(reason) => Error::new(ASK, object, reason),
        Trouble::Io(e) => {
            let error = Error::io(ASK, object, &e);
            if !error.is_denied() {
                return error;
            }
            error.with_hint(
                text!(
                    "run it as root, or as a member of the engine's group",
                    "以 root 身份运行，或加入该引擎的用户组"
                )
                .phrase(),
            )
        }
    }
}

/// What the engine says of its containers.
pub(super) fn told(limit: Duration) -> Vec<Told> {
    let Some(socket) = socket("DOCKER_HOST", &SOCKETS) else { return vec![] };
    let summaries: Result<Vec<Summary>> = ask("docker", &socket, "/containers/json?all=true", limit);
    let containers = summaries.map(|list| list.into_iter().map(|s| s.container(&socket)).collect());
    vec![Told { source: "docker engine".to_owned(), containers }]
}

impl Summary {
    fn container(self, socket: &Path) -> Container {
        let mut out = Container::new(TargetKind::Docker, &self.id);
        let names = self.names.into_iter().flatten();
        out.names = names.map(|name| name.trim_start_matches('/').to_owned()).collect();
        out.image = self.image;
        out.running = matches!(self.state.as_deref(), Some("running" | "paused"));
        out.asked = Asked::Docker(socket.to_owned());
        out.read_labels(&self.labels.unwrap_or_default());
        out.read_kubelet_name();
        out
    }
}

/// What it wrote down of them.
pub(super) fn told_by_files() -> Vec<Told> {
    let directory = files::on_machine(DIRECTORY);
    let mut unread = None;
    let kept = files::names(&directory).into_iter().filter_map(|id| {
        let kept: Kept = files::json(&directory.join(id).join("config.v2.json"), &mut unread)?;
        let mut out = Container::new(TargetKind::Docker, &kept.id);
        out.names = kept.name.iter().map(|name| name.trim_start_matches('/').to_owned()).collect();
        // A file that outlived its engine may say so of a process that is gone.
        out.pid = Some(kept.state.pid).filter(|pid| *pid > 0 && Path::new(&format!("/proc/{pid}")).exists());
        out.running = kept.state.running && out.pid.is_some();
        let config = kept.config.unwrap_or(KeptConfig { image: None, labels: None });
        out.image = config.image;
        out.read_labels(&config.labels.unwrap_or_default());
        out.read_kubelet_name();
        Some(out)
    });
    let kept = kept.collect();
    Told::by_files("docker files", kept, &[&directory], unread)
}

/// Asks for the first process of a container.
pub(super) fn pid(container: &Container, socket: &Path, limit: Duration) -> Result<u32> {
    // It becomes part of a path.
    if container.id.is_empty() || !container.id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        let why = text!("the engine gave an id that is none", "引擎给出的 ID 无效").phrase();
        return Err(container.processless(why));
    }
    let details: Details = ask("docker", socket, &format!("/containers/{}/json", container.id), limit)?;
    match details.state.pid {
        0 => Err(container.processless(text!("the container is not running", "该容器没有运行").phrase())),
        pid => Ok(pid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_says_and_writes() {
        let docker = r#"[{"Id":"ab12","Names":["/web","/other/web"],"State":"running","Status":"Up","Ports":[],
            "Image":"nginx:1","Labels":{"com.docker.compose.project":"shop","com.docker.compose.service":"web"}}]"#;
        let mut listed: Vec<Summary> = serde_json::from_str(docker).unwrap();
        let web = listed.pop().unwrap().container(Path::new("/run/docker.sock"));
        assert_eq!((web.id.as_str(), web.names.len(), web.running), ("ab12", 2, true));
        assert_eq!((web.image.as_deref(), web.service.as_deref()), (Some("nginx:1"), Some("shop/web")));
        let details: Details =
            serde_json::from_str(r#"{"Id":"ab12","State":{"Pid":77,"Running":true}}"#).unwrap();
        assert_eq!(details.state.pid, 77);
        assert!(serde_json::from_str::<Details>(r#"{"State":{"Pid":-1}}"#).is_err());
        let kept =
            r#"{"ID":"ab12","Name":"/web","State":{"Running":true,"Pid":77},"Config":{"Image":"nginx:1"}}"#;
        assert_eq!(serde_json::from_str::<Kept>(kept).unwrap().name.as_deref(), Some("/web"));
    }
}
