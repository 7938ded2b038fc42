//! Containers by name, from the engines on this machine, and from what runtimes leave in files where no engine
//! answers. Nothing is entered and nothing is started.
//!
//! Every source tells what it knows of a container; what several say of one id is folded. A source that does not
//! answer in time costs its names, and is named.

mod bundles;
mod containerd;
mod cri;
mod docker;
mod files;
pub mod grpc;
mod http;
mod labels;
mod lxc;
mod machines;
mod oci;
mod processes;
mod storage;

use crate::error::{Error, Result};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use whydrop_model::{Pod, Reading, TargetKind, Tenant, Text, text};

/// Time for the whole answer of an engine: a busy one lists a thousand containers in less.
const PATIENCE: Duration = Duration::from_secs(1);

/// More containers than this are not kept: an answer is bounded, as everything that is read.
const MOST: usize = 200_000;

/// What it takes to see the processes of containers.
const MACHINE: Text = text!(
    "run whydrop as root, in the pid namespace of the machine (--pid=host)",
    "以 root 身份、在宿主机的 pid 命名空间中运行 whydrop（--pid=host）"
);

/// Digits of an id that an engine made.
const ID_DIGITS: usize = 64;
/// Digits of an id that people are shown.
const SHORT: usize = 12;

/// A container that something on this machine knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Who runs it.
    pub engine: TargetKind,
    /// Full id.
    pub id: String,
    /// Names, the one that people use first.
    pub names: Vec<String>,
    /// containerd's namespace.
    pub scope: Option<String>,
    /// Image.
    pub image: Option<String>,
    /// Its pod.
    pub pod: Option<Pod>,
    /// compose's `project/service`.
    pub service: Option<String>,
    /// Id of the sandbox that holds its namespaces.
    sandbox: Option<String>,
    /// It holds a pod's namespaces, and runs nothing of the user's.
    pub infra: bool,
    /// True if it runs, or is paused.
    pub running: bool,
    /// Who speaks knows that; a store lists what it has, whatever its state.
    sure: bool,
    /// Its first process, in whydrop's pid namespace.
    pub pid: Option<u32>,
    /// Inode of its network namespace, if it can be seen.
    pub netns: Option<u64>,
    /// The user whose it is.
    pub uid: u32,
    /// Where its process can be asked for.
    asked: Asked,
}

/// Owner; engine and its namespace for an id that is not unique; id.
type Key = (u32, Option<(&'static str, Option<String>)>, String);

/// Who tells the process of a container, on request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    Nobody,
    /// Docker's API at a socket.
    Docker(std::path::PathBuf),
    /// A runtime interface of Kubernetes at a socket.
    Cri(std::path::PathBuf),
}

impl Container {
    fn new(engine: TargetKind, id: &str) -> Self {
        Self {
            engine,
            id: id.to_owned(),
            names: vec![],
            scope: None,
            image: None,
            pod: None,
            service: None,
            sandbox: None,
            infra: false,
            running: false,
            sure: true,
            pid: None,
            netns: None,
            uid: 0,
            asked: Asked::Nobody,
        }
    }

    /// True if `word` is one of its names, its compose service, or a prefix of its id (at least 2 digits).
    pub fn answers_to(&self, word: &str) -> bool {
        self.is_called(word) || (word.len() >= 2 && self.id.starts_with(word))
    }

    /// True if `word` is its whole name or id, or `namespace/name` with that of containerd.
    pub fn is_called(&self, word: &str) -> bool {
        let scoped = |scope: &String| {
            let rest = word.strip_prefix(scope.as_str()).and_then(|rest| rest.strip_prefix('/'));
            rest.is_some_and(|rest| self.id == rest || self.names.iter().any(|name| name == rest))
        };
        self.names.iter().any(|name| name == word)
            || self.id == word
            || self.service.as_deref() == Some(word)
            || self.scope.as_ref().is_some_and(scoped)
    }

    /// True if `word` is its pod, with or without the Kubernetes namespace.
    pub fn is_in_pod(&self, word: &str) -> bool {
        self.pod.as_ref().is_some_and(|pod| pod.name == word || pod.word() == word)
    }

    /// The name that people use, else the short id.
    pub fn name(&self) -> &str {
        self.names.first().map_or_else(|| self.id.get(..SHORT).unwrap_or(&self.id), String::as_str)
    }

    /// The word that leads to it and to nothing else: of those in a pod, whose names repeat, the id.
    pub fn word(&self) -> String {
        let name = if self.pod.is_some() { self.id.get(..SHORT).unwrap_or(&self.id) } else { self.name() };
        format!("{}:{name}", self.engine.word())
    }

    /// As it is shown.
    pub fn tenant(&self) -> Tenant {
        Tenant {
            engine: self.engine,
            id: self.id.clone(),
            name: self.name().to_owned(),
            image: self.image.clone(),
            pod: self.pod.clone(),
        }
    }

    /// Process id of its first process, in whydrop's pid namespace.
    ///
    /// # Errors
    /// If its engine does not tell, or what it tells is not a process of this container here.
    pub fn process(&self) -> Result<u32> {
        let pid = match (self.pid, &self.asked) {
            (Some(pid), _) => pid,
            (None, Asked::Docker(socket)) => docker::pid(self, socket, PATIENCE)?,
            (None, Asked::Cri(socket)) => cri::pid(self, socket, PATIENCE)?,
            (None, Asked::Nobody) => {
                let why = text!("no process of it is seen from here", "从这里看不到它的任何进程");
                return Err(self.processless(why.phrase()).with_hint(MACHINE.phrase()));
            }
        };
        if self.owns(pid) {
            return Ok(pid);
        }
        let why = text!(
            "process {pid} is not one of it here: it has ended, or its engine counts in another pid namespace",
            "这里的进程 {pid} 不属于它：它已结束，或其引擎使用另一个 pid 命名空间"
        );
        Err(self.processless(why.fill(&[("pid", &pid)])).with_hint(MACHINE.phrase()))
    }

    fn processless(&self, why: whydrop_model::Phrase) -> Error {
        Error::new(text!("find the process of {object}", "找到 {object} 的进程"), self.word(), why)
    }

    /// False if there is no such process, or it says to be somebody else's: another container's, or not one of the user
    /// who claims it.
    fn owns(&self, pid: u32) -> bool {
        if !Path::new(&format!("/proc/{pid}")).exists() {
            return false;
        }
        let other = |id: String| self.id.len() == id.len() && id != self.id;
        !processes::id_of(pid).is_some_and(other) && (self.uid == 0 || processes::is_child_of(pid, self.uid))
    }

    /// What is the same for all that speak of this container. An id that a person chose is one only to its engine.
    fn key(&self) -> Key {
        let unique = self.id.len() == ID_DIGITS && self.id.bytes().all(|b| b.is_ascii_hexdigit());
        let chosen = (!unique).then(|| (self.engine.word(), self.scope.clone()));
        (self.uid, chosen, self.id.clone())
    }

    /// Takes from what another source says of the same container what is not known yet.
    fn fold(&mut self, other: Self) {
        for name in other.names {
            if !self.names.contains(&name) && name != self.id {
                self.names.push(name);
            }
        }
        self.scope = self.scope.take().or(other.scope);
        self.image = self.image.take().or(other.image);
        self.pod = self.pod.take().or(other.pod);
        self.service = self.service.take().or(other.service);
        self.sandbox = self.sandbox.take().or(other.sandbox);
        self.pid = self.pid.or(other.pid);
        self.infra |= other.infra;
        if !self.sure {
            (self.running, self.sure) = (other.running, other.sure);
        }
        if self.asked == Asked::Nobody {
            self.asked = other.asked;
        }
    }
}

/// What one source says.
#[derive(Debug)]
struct Told {
    /// Its name in the report: `docker engine`.
    source: String,
    containers: Result<Vec<Container>>,
}

impl Told {
    /// What state files below a directory say: those that they name, and what hides others.
    fn by_files(
        source: &str,
        containers: Vec<Container>,
        directories: &[&Path],
        unread: Option<Error>,
    ) -> Vec<Self> {
        let source = || source.to_owned();
        let known = Self { source: source(), containers: Ok(containers) };
        let unread = unread.map(|error| Self { source: source(), containers: Err(error) });
        let hidden = directories.iter().filter_map(|directory| hidden(&source(), directory));
        std::iter::once(known).chain(unread).chain(hidden).collect()
    }
}

/// All containers of this machine.
#[derive(Debug, Default)]
pub struct Listing {
    /// Running or not.
    pub containers: Vec<Container>,
    /// Sources that did not answer, with the reason.
    pub silent: Vec<(String, Error)>,
}

/// Asks everything that may know of containers, all at once; an answer that takes longer than a second is an error.
pub fn list() -> Listing {
    list_within(PATIENCE)
}

/// The same for somebody who waits less, or more, than a second.
pub fn list_within(limit: Duration) -> Listing {
    let monitors = processes::monitors();
    // In the order of who is believed: engines before files, and the nearest to people first.
    let sources: [&(dyn Fn() -> Vec<Told> + Sync); 9] = [
        &|| docker::told(limit),
        &|| storage::told_by_podman(limit),
        &|| cri::told(limit),
        &|| containerd::told(limit),
        &docker::told_by_files,
        &|| bundles::told(&monitors),
        &|| storage::told(&monitors),
        &|| lxc::told(&monitors),
        &|| [machines::told(&monitors), oci::told()].into_iter().flatten().collect(),
    ];
    let told: Vec<Vec<Told>> = std::thread::scope(|scope| {
        let asked: Vec<_> = sources.iter().map(|ask| scope.spawn(ask)).collect();
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut out = fold(told.into_iter().flatten());
    place(&mut out.containers);
    out
}

/// One entry for each container. What a user says of a container of root's is not heard.
fn fold(told: impl Iterator<Item = Told>) -> Listing {
    let mut out = Listing::default();
    let mut known: HashMap<Key, usize> = HashMap::new();
    for Told { source, containers } in told {
        let containers = match containers {
            Ok(containers) => containers,
            Err(error) => {
                out.silent.push((source, error));
                continue;
            }
        };
        for container in containers {
            let key = container.key();
            if let Some(first) = known.get(&key).and_then(|index| out.containers.get_mut(*index)) {
                first.fold(container);
            } else if out.containers.len() < MOST {
                known.insert(key, out.containers.len());
                out.containers.push(container);
            } else {
                let said = text!("there are more than {n} containers", "容器数量超过 {n}");
                let list = text!("list {object}", "列出 {object}");
                let error = Error::new(list, source, said.fill(&[("n", &MOST)]));
                out.silent.push(("containers".to_owned(), error));
                return out;
            }
        }
    }
    // A container says whose sandbox it is in; the sandbox, whose pod that is.
    let pods: HashMap<String, Pod> =
        out.containers.iter().filter_map(|c| Some((c.id.clone(), c.pod.clone()?))).collect();
    for container in out.containers.iter_mut().filter(|container| container.pod.is_none()) {
        container.pod = container.sandbox.as_ref().and_then(|id| pods.get(id)).cloned();
    }
    out
}

/// Finds the namespaces of those that run.
fn place(containers: &mut [Container]) {
    // Reading the cgroups of all processes is worth it only if somebody's is not known.
    if containers.iter().any(|container| container.running && container.pid.is_none()) {
        let processes = processes::by_cgroup();
        for container in containers.iter_mut().filter(|container| container.pid.is_none()) {
            container.pid = processes.get(&container.id).copied();
        }
    }
    for container in containers.iter_mut().filter(|container| container.running) {
        container.pid = container.pid.filter(|pid| container.owns(*pid));
        container.netns = container.pid.and_then(processes::netns);
    }
}

/// The containers of this machine, asked for once and only when somebody wants to know.
#[derive(Debug, Default)]
pub struct Engines(std::sync::OnceLock<Listing>);

impl Engines {
    /// All containers.
    pub fn listing(&self) -> &Listing {
        self.0.get_or_init(list)
    }

    /// Those that run in the namespace with this inode.
    pub fn at(&self, inode: u64) -> Vec<&Container> {
        let here = |container: &&Container| container.running && container.netns == Some(inode);
        self.listing().containers.iter().filter(here).collect()
    }

    /// Sources that were asked and did not answer; empty if nobody asked.
    pub fn silent(&self) -> Vec<(String, Reading<()>)> {
        let silent = self.0.get().into_iter().flat_map(|listing| &listing.silent);
        silent.map(|(source, error)| (source.clone(), error.reading("root"))).collect()
    }
}

/// A directory of state that cannot be listed hides who is in it.
fn hidden(source: &str, directory: &Path) -> Option<Told> {
    let error = std::fs::read_dir(directory).err()?;
    let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
    let operation = text!("list {object}", "列出 {object}");
    denied.then(|| Told {
        source: source.to_owned(),
        containers: Err(Error::io(operation, directory.display().to_string(), &error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digits: &str) -> String {
        digits.repeat(ID_DIGITS / digits.len())
    }

    fn container(engine: TargetKind, id: &str, name: &str) -> Container {
        Container { names: vec![name.to_owned()], ..Container::new(engine, id) }
    }

    fn told(containers: Vec<Container>) -> Told {
        Told { source: "a source".to_owned(), containers: Ok(containers) }
    }

    #[test]
    fn what_several_say_of_one_container_is_folded_and_the_first_decides() {
        let docker = Container { sure: false, ..container(TargetKind::Docker, &id("ab12"), "web") };
        let bundle =
            Container { pid: Some(7), running: true, ..Container::new(TargetKind::Containerd, &id("ab12")) };
        let listing = fold([told(vec![docker]), told(vec![bundle])].into_iter());
        let [web] = listing.containers.as_slice() else { panic!("{listing:?}") };
        assert_eq!(
            (web.engine, web.name(), web.pid, web.running),
            (TargetKind::Docker, "web", Some(7), true)
        );
        let named =
            [TargetKind::Lxc, TargetKind::Machine].map(|engine| told(vec![container(engine, "web", "web")]));
        assert_eq!(fold(named.into_iter()).containers.len(), 2);
    }

    #[test]
    fn a_user_cannot_rename_a_container_of_roots() {
        let root = container(TargetKind::Docker, &id("ab12"), "database");
        let user = Container { uid: 1000, ..container(TargetKind::Podman, &id("ab12"), "web") };
        let listing = fold([told(vec![root]), told(vec![user])].into_iter());
        assert_eq!(listing.containers.len(), 2);
        assert!(!listing.containers[0].answers_to("web"));
        // Nor claim a process that is not a child of his.
        assert!(
            !listing.containers[1].owns(std::process::id())
                || processes::is_child_of(std::process::id(), 1000)
        );
    }

    #[test]
    fn a_process_of_another_pid_namespace_is_none_of_it() {
        let docker = container(TargetKind::Docker, &id("ab12"), "web");
        assert!(docker.owns(std::process::id()) && !docker.owns(u32::MAX));
        let error = Container { pid: Some(u32::MAX), ..docker }.process().unwrap_err().to_string();
        assert!(error.contains("another pid namespace"), "{error}");
    }

    #[test]
    fn the_pod_of_a_sandbox_is_that_of_its_containers() {
        let pod = Pod { namespace: "shop".into(), name: "web".into(), uid: None };
        let sandbox =
            Container { pod: Some(pod.clone()), infra: true, ..Container::new(TargetKind::Containerd, "aa") };
        let nginx =
            Container { sandbox: Some("aa".into()), ..container(TargetKind::Containerd, "bb", "nginx") };
        let listing = fold([told(vec![nginx, sandbox])].into_iter());
        assert_eq!(listing.containers[0].pod.as_ref(), Some(&pod));
        assert!(listing.containers[0].is_in_pod("shop/web") && listing.containers[0].is_in_pod("web"));
    }

    #[test]
    fn words_that_a_container_answers_to() {
        let mut web = container(TargetKind::Containerd, "ab12cd", "web");
        web.scope = Some("shop.io".into());
        web.service = Some("shop/api".into());
        for word in ["web", "ab", "ab12cd", "shop.io/web", "shop.io/ab12cd", "shop/api"] {
            assert!(web.answers_to(word), "{word}");
        }
        for word in ["a", "we", "shop.io/", "io/web", "api"] {
            assert!(!web.answers_to(word), "{word}");
        }
    }
}
