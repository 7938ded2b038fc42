//! Containers, pods, machines and compose services by the names that people use.
//!
//! All engines are asked at once. Several containers that answer to one word are one match if they share a namespace,
//! as those of a pod do.

use super::{LIST, Resolved, by_netns, host, needs_ptrace, netns_names, no_such, unknown};
use crate::containers::{Container, Engines};
use crate::error::{Error, Result};
use crate::sys::netns::Netns;
use std::path::Path;
use whydrop_model::{Entry, Pod, Role, Target, TargetKind, Tenant, text};

/// Matches that an error lists.
const SHOWN: usize = 12;

/// What the word before the colon asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A container of one engine.
    Engine(TargetKind),
    /// A container that runs for Kubernetes, whatever runs it.
    Cri,
    /// A pod.
    Pod,
    /// compose's `project/service`.
    Compose,
}

impl Kind {
    /// The kind that a prefix stands for.
    pub fn of(prefix: &str) -> Option<Self> {
        Some(match prefix {
            "docker" => Self::Engine(TargetKind::Docker),
            "podman" => Self::Engine(TargetKind::Podman),
            "containerd" | "nerdctl" => Self::Engine(TargetKind::Containerd),
            "crio" => Self::Engine(TargetKind::Crio),
            "lxc" | "lxd" | "incus" => Self::Engine(TargetKind::Lxc),
            "machine" | "nspawn" => Self::Engine(TargetKind::Machine),
            "oci" => Self::Engine(TargetKind::Oci),
            "cri" => Self::Cri,
            "pod" => Self::Pod,
            "compose" => Self::Compose,
            _ => return None,
        })
    }

    /// The kind of target that it gives; a compose service is a container of some engine.
    pub const fn target(self) -> TargetKind {
        match self {
            Self::Engine(engine) => engine,
            Self::Cri => TargetKind::Cri,
            Self::Pod => TargetKind::Pod,
            Self::Compose => TargetKind::Docker,
        }
    }

    fn takes(self, container: &Container, name: &str) -> bool {
        match self {
            Self::Engine(engine) => container.engine == engine && container.answers_to(name),
            Self::Cri => {
                let kubernetes = container.pod.as_ref().is_some_and(|pod| !pod.namespace.is_empty());
                kubernetes && container.answers_to(name)
            }
            Self::Pod => container.is_in_pod(name),
            Self::Compose => container.service.as_deref() == Some(name),
        }
    }

    /// True if this is the whole name, not the beginning of an id.
    fn is_exact(self, container: &Container, name: &str) -> bool {
        self == Self::Pod || container.is_called(name)
    }
}

/// The container, pod or service with this name; `word` is what the user typed.
pub(super) fn resolve(word: &str, kind: &Kind, name: &str, engines: &Engines) -> Result<Resolved> {
    let all = &engines.listing().containers;
    let found: Vec<&Container> = all.iter().filter(|container| kind.takes(container, name)).collect();
    match choose(word, &found, |container| kind.is_exact(container, name))? {
        Some(one) => enter(one, Some(*kind), engines),
        None => Err(silent(Some(*kind), engines).unwrap_or_else(|| no_such(word, name, all))),
    }
}

/// A bare word: containers, pods and services first, then namespace names. An engine that does not answer is no
/// reason to fail when something else has that name.
pub(super) fn bare(word: &str, engines: &Engines) -> Result<Resolved> {
    let all = &engines.listing().containers;
    let takes = |container: &&Container| container.answers_to(word) || container.is_in_pod(word);
    let found: Vec<&Container> = all.iter().filter(takes).collect();
    let exact = |container: &Container| container.is_called(word) || container.is_in_pod(word);
    let stopped = found.iter().all(|container| !container.running);
    // The beginning of an id, or a container that does not run, does not hide a namespace of that name.
    let named = || netns_names().iter().any(|name| name == word);
    if (stopped || !found.iter().any(|container| exact(container))) && named() {
        return by_netns(word);
    }
    match choose(word, &found, exact)? {
        Some(one) => enter(one, None, engines),
        None => Err(silent(None, engines).unwrap_or_else(|| no_such(word, word, all))),
    }
}

/// The one that is meant. Those that run come before those that do not, whole names before the beginning of an id,
/// and root's before those of a user.
fn choose<'a>(
    word: &str,
    found: &[&'a Container],
    exact: impl Fn(&Container) -> bool,
) -> Result<Option<&'a Container>> {
    let mut left: Vec<&Container> = found.to_vec();
    let preferences: [&dyn Fn(&Container) -> bool; 3] =
        [&exact, &|container| container.running, &|container| container.uid == 0];
    for preferred in preferences {
        if left.iter().any(|container| preferred(container)) {
            left.retain(|container| preferred(container));
        }
    }
    // A pod is named by what holds its namespaces: that lives as long as the pod.
    left.sort_by_key(|container| !container.infra);
    let Some(first) = left.first() else { return Ok(None) };
    let same = |other: &&Container| match first.netns.or(other.netns) {
        Some(_) => first.netns == other.netns,
        None => first.pod.is_some() && first.pod == other.pod,
    };
    if left.len() == 1 || left.iter().skip(1).all(same) {
        return Ok(Some(first));
    }
    let mut names: Vec<String> = left.iter().map(|container| listed(container)).collect();
    names.sort();
    names.dedup();
    names.truncate(SHOWN);
    Err(unknown(word, text!("more than one match", "有多个匹配")).with_close(names).with_try(LIST))
}

/// The word for one of several, and what tells it from the others.
fn listed(container: &Container) -> String {
    let short = container.id.get(..12).unwrap_or(&container.id);
    match &container.pod {
        Some(pod) => format!("pod:{} ({} {short})", pod.word(), container.name()),
        None => format!("{}:{} ({short})", container.engine.word(), container.name()),
    }
}

/// The reason why a name may be unknown: the engine that should know it did not answer.
fn silent(kind: Option<Kind>, engines: &Engines) -> Option<Error> {
    let wanted = match kind {
        Some(Kind::Engine(engine)) => Some(engine.word()),
        _ => None,
    };
    let silent = &engines.listing().silent;
    let (_, error) = silent.iter().find(|(source, _)| wanted.is_none_or(|engine| source.contains(engine)))?;
    let error = error.clone();
    Some(if error.hint.is_some() {
        error
    } else {
        error.with_hint(
            text!("an engine that answers; pid:N works without one", "能应答的引擎；pid:N 不需要引擎")
                .phrase(),
        )
    })
}

/// Opens the namespace of a container. `kind` is how it was named; without one, a container of a pod is that pod.
pub(super) fn enter(container: &Container, kind: Option<Kind>, engines: &Engines) -> Result<Resolved> {
    if !container.running {
        let word = match (&container.pod, kind) {
            (Some(pod), None | Some(Kind::Pod)) => format!("pod:{}", pod.word()),
            _ => container.word(),
        };
        return Err(unknown(
            &word,
            text!("it is stopped: it has no process and no network", "它已停止：没有进程，也没有网络"),
        )
        .with_hint(text!("start it first", "请先启动").phrase()));
    }
    let pid = container.process()?;
    let netns = Netns::open(Path::new(&format!("/proc/{pid}/ns/net"))).map_err(needs_ptrace)?;
    let host = host()?;
    if netns.inode() == host.netns.inode() {
        // What the host loses is not the container's: it is not called by its name.
        let target = Target { tenants: vec![container.tenant()], ..host.target };
        return Ok(Resolved { target, netns: host.netns });
    }
    let tenants = tenants(&netns, container.pod.as_ref(), engines);
    Ok(of_container(container, kind, pid, netns, tenants))
}

/// Who lives in a namespace, without what only holds it. Of a pod all are named, though the processes of some may not
/// be known.
pub(crate) fn tenants(netns: &Netns, pod: Option<&Pod>, engines: &Engines) -> Vec<Tenant> {
    let mut all = engines.at(netns.inode());
    let listed = engines.listing().containers.iter();
    let unplaced = listed.filter(|container| container.running && container.netns.is_none());
    all.extend(unplaced.filter(|container| pod.is_some() && container.pod.as_ref() == pod));
    let users = all.iter().filter(|container| !container.infra);
    let mut out: Vec<Tenant> = users.map(|container| container.tenant()).collect();
    if out.is_empty() {
        out = all.iter().map(|container| container.tenant()).collect();
    }
    out.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
    out
}

/// A container's namespace by the name that people use for it.
pub(crate) fn of_container(
    container: &Container,
    kind: Option<Kind>,
    pid: u32,
    netns: Netns,
    mut tenants: Vec<Tenant>,
) -> Resolved {
    if tenants.is_empty() {
        tenants.push(container.tenant());
    }
    let (kind, name) = match (&container.pod, kind) {
        (Some(pod), None | Some(Kind::Pod)) => (TargetKind::Pod, pod.word()),
        (Some(_), Some(Kind::Cri)) => (TargetKind::Cri, container.name().to_owned()),
        _ => (container.engine, container.name().to_owned()),
    };
    // Names of containers repeat from pod to pod.
    let id = match (kind, &container.pod) {
        (TargetKind::Pod, _) | (_, None) => format!("{}:{name}", kind.word()),
        _ => format!("{}:{}", kind.word(), container.id.get(..12).unwrap_or(&container.id)),
    };
    let target = Target {
        id,
        kind,
        name,
        netns_inode: netns.inode(),
        pid: Some(pid),
        container: Some(container.id.clone()),
        role: Role::Target,
        entry: Entry::Pid(pid),
        tenants,
    };
    Resolved { target, netns }
}
