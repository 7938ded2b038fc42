//! Docker's API over its socket; Podman serves the same one.

use super::Container;
use crate::error::Error;
use bollard::Docker;
use bollard::query_parameters::ListContainersOptionsBuilder;
use std::path::Path;
use whydrop_model::{Phrase, TargetKind, text};

/// Seconds that an engine may take for one answer. A hung daemon must not hang a diagnosis.
const TIMEOUT_S: u64 = 3;

/// More containers than this are not listed: the answer is bounded, as everything that is read.
const MOST: usize = 20_000;

fn sockets(engine: TargetKind) -> &'static [&'static str] {
    match engine {
        TargetKind::Podman => &["/run/podman/podman.sock"],
        _ => &["/var/run/docker.sock", "/run/docker.sock"],
    }
}

fn word(engine: TargetKind) -> &'static str {
    if engine == TargetKind::Podman { "podman" } else { "docker" }
}

fn connect(engine: TargetKind) -> Result<Option<(Docker, tokio::runtime::Runtime)>, Error> {
    let from_env =
        std::env::var("DOCKER_HOST").ok().and_then(|h| h.strip_prefix("unix://").map(str::to_owned));
    let from_env = from_env.filter(|_| engine == TargetKind::Docker);
    let path =
        from_env.or_else(|| sockets(engine).iter().find(|p| Path::new(p).exists()).map(|p| (*p).to_owned()));
    let Some(path) = path else { return Ok(None) };
    let fail = |reason: Phrase| {
        Error::new(
            text!("ask {object}", "询问{object}"),
            text!("the {engine} engine at {path}", "位于 {path} 的 {engine} 引擎")
                .fill(&[("engine", &word(engine)), ("path", &path)]),
            reason,
        )
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| {
        Error::io(
            text!("start {object}", "启动{object}"),
            text!("a runtime for the container engine's socket", "访问容器引擎套接字所需的运行时"),
            &e,
        )
    })?;
    let docker = Docker::connect_with_unix(&path, TIMEOUT_S, bollard::API_DEFAULT_VERSION)
        .map_err(|e| fail(Phrase::same(e.to_string())))?;
    let docker = runtime.block_on(docker.negotiate_version()).map_err(|e| {
        fail(Phrase::same(innermost(&e))).with_hint(
            text!(
                "run it as root, or as a member of the engine's group",
                "以 root 身份运行，或加入该引擎的用户组"
            )
            .phrase(),
        )
    })?;
    Ok(Some((docker, runtime)))
}

/// The innermost cause of an error: bollard's own words hide the kernel's.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

pub(super) fn list(engine: TargetKind) -> Result<Option<Vec<Container>>, Error> {
    let Some((docker, runtime)) = connect(engine)? else { return Ok(None) };
    let options = ListContainersOptionsBuilder::new().all(true).build();
    let summaries = runtime.block_on(docker.list_containers(Some(options))).map_err(|e| {
        Error::new(
            text!("list {object}", "列出 {object}"),
            text!("the containers of {engine}", "{engine} 的容器").fill(&[("engine", &word(engine))]),
            Phrase::same(innermost(&e)),
        )
    })?;
    let container = |s: bollard::models::ContainerSummary| {
        let names = s.names.into_iter().flatten().map(|n| n.trim_start_matches('/').to_owned()).collect();
        let running = s.state.is_some_and(|state| state.to_string() == "running");
        Some(Container { engine, id: s.id?, names, running })
    };
    Ok(Some(summaries.into_iter().take(MOST).filter_map(container).collect()))
}

pub(super) fn pid(container: &Container) -> Result<u32, Error> {
    let fail = |reason: Phrase| {
        Error::new(
            text!("find the process of {object}", "找到 {object} 的进程"),
            format!("{}:{}", word(container.engine), container.name()),
            reason,
        )
    };
    let Some((docker, runtime)) = connect(container.engine)? else {
        return Err(fail(text!("the engine's socket is gone", "引擎的套接字已不存在").phrase()));
    };
    let answer = runtime
        .block_on(docker.inspect_container(&container.id, None))
        .map_err(|e| fail(Phrase::same(innermost(&e))))?;
    match answer.state.and_then(|s| s.pid) {
        Some(pid) if pid > 0 => u32::try_from(pid).map_err(|e| fail(Phrase::same(e.to_string()))),
        _ => Err(fail(text!("the container is not running", "该容器没有运行").phrase())),
    }
}
