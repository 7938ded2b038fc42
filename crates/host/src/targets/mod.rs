//! From the words of a user to open network namespaces.

pub(crate) mod named;

use crate::containers::{Container, Engines};
use crate::error::{Error, Result};
use crate::sys::netns::Netns;
use std::path::{Path, PathBuf};
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::Snapshot;
use whydrop_model::{Entry, NamespaceEvidence, Reading, Role, Target, TargetKind, Text, text};

/// Where `ip netns add` puts names.
pub const NETNS_DIR: &str = "/run/netns";

/// A target whose namespace is open.
#[derive(Debug)]
pub struct Resolved {
    /// Its name and identity.
    pub target: Target,
    /// Its namespace.
    pub netns: Netns,
}

/// What became of several names.
#[derive(Debug, Default)]
pub struct Found {
    /// Those that are open.
    pub resolved: Vec<Resolved>,
    /// Those that lead to no namespace that can be looked at, each with the reason in place of its readings.
    pub missing: Vec<NamespaceEvidence>,
    /// The containers that were asked for on the way.
    pub engines: Engines,
}

impl Found {
    fn add(&mut self, resolved: Resolved) {
        if !self.resolved.iter().any(|r| r.netns.inode() == resolved.netns.inode()) {
            self.resolved.push(resolved);
        }
    }

    fn miss(&mut self, (id, kind, name): (String, TargetKind, String), why: Reading<Snapshot>) {
        let target = Target {
            id,
            kind,
            name,
            netns_inode: 0,
            pid: None,
            container: None,
            role: Role::Target,
            entry: Entry::Here,
            tenants: vec![],
        };
        self.missing.push(NamespaceEvidence {
            target,
            aliases: vec![],
            before: why.clone(),
            after: why,
            link_events: Reading::not_recorded(),
        });
    }
}

/// Resolves what the user typed: `host`, `pid:1234`, `netns:web`, `netns:/path`, a container as `ENGINE:NAME-or-ID`,
/// `pod:namespace/name`, or a bare word (container, pod or compose service, then namespace name). Errors name the word
/// and list what is near.
pub fn resolve(word: &str) -> Result<Resolved> {
    resolve_with(word, &Engines::default())
}

/// The same with containers that may have been asked for already.
pub fn resolve_with(word: &str, engines: &Engines) -> Result<Resolved> {
    if word == "host" {
        return host();
    }
    match word.split_once(':') {
        Some(("pid", pid)) => by_pid(word, pid),
        Some(("netns", name)) => by_netns(name),
        Some((prefix, name)) => match named::Kind::of(prefix) {
            Some(kind) => named::resolve(word, &kind, name, engines),
            None => named::bare(word, engines),
        },
        None => named::bare(word, engines),
    }
}

/// Resolves several words; a namespace that was named twice is kept twice (the caller folds them). A word that leads
/// nowhere is kept with its reason, unless all do: then the first error is returned.
pub fn resolve_all(words: &[String]) -> Result<Found> {
    if words.is_empty() {
        return Ok(Found { resolved: vec![host()?], ..Found::default() });
    }
    let (mut found, mut trouble) = (Found::default(), None);
    for word in words {
        match resolve_with(word, &found.engines) {
            Ok(resolved) => found.resolved.push(resolved),
            Err(error) => {
                let name = sanitize(word, LONGEST);
                // What the user named counts, whatever became of it: it is never merely absent.
                found.miss((name.clone(), kind_of(word), name), Reading::Failed(error.to_string()));
                trouble = trouble.or(Some(error));
            }
        }
    }
    match trouble {
        Some(error) if found.resolved.is_empty() => Err(error),
        _ => Ok(found),
    }
}

/// The namespace of every container that runs, each once, without those that share the one whydrop runs in. One that
/// cannot be entered is kept with its reason; none at all is an error.
pub fn all_containers() -> Result<Found> {
    let mut found = Found::default();
    let here = Netns::current()?.inode();
    let engines = std::mem::take(&mut found.engines);
    let listing = engines.listing();
    for container in listing.containers.iter().filter(|container| container.running) {
        let seen = found.resolved.iter().any(|known| container.netns == Some(known.netns.inode()));
        if seen || container.netns == Some(here) {
            continue;
        }
        match named::enter(container, None, &engines) {
            Ok(resolved) if resolved.netns.inode() != here => found.add(resolved),
            Ok(_) => (),
            Err(error) => {
                let word = sanitize(&container.word(), LONGEST);
                let why = Reading::Failed(error.to_string());
                found.miss((word, container.engine, sanitize(container.name(), LONGEST)), why);
            }
        }
    }
    if found.resolved.is_empty() && found.missing.is_empty() {
        let error = unknown(
            "--all-containers",
            text!("no container with a network of its own runs here", "本机没有拥有独立网络且在运行的容器"),
        );
        let error = error.with_try(LIST);
        return Err(match listing.silent.first() {
            Some((_, silent)) => error.with_detail(&silent.to_string()),
            None => error,
        });
    }
    found.engines = engines;
    Ok(found)
}

fn kind_of(word: &str) -> TargetKind {
    match word.split_once(':').map(|(prefix, _)| prefix) {
        Some("pid") => TargetKind::Pid,
        Some(prefix) => named::Kind::of(prefix).map_or(TargetKind::Netns, |kind| kind.target()),
        None => TargetKind::Netns,
    }
}

/// Every network namespace that has a name under /run/netns or a process, plus this one. A name that is no namespace
/// (one that `ip netns` left behind) hides nothing and is kept as absent; namespaces that may not be opened are kept
/// as denied.
pub fn all() -> Result<Found> {
    let mut found = Found { resolved: vec![host()?], ..Found::default() };
    for name in netns_names() {
        match by_netns(&name) {
            Ok(resolved) => found.add(resolved),
            Err(error) => {
                let shown = sanitize(&name, LONGEST);
                let why = match error.reading(PTRACE) {
                    Reading::Failed(why) if !error.is_kernels() => Reading::Absent(why),
                    other => other,
                };
                found.miss((format!("netns:{shown}"), TargetKind::Netns, shown), why);
            }
        }
    }
    let mut denied = 0u32;
    for pid in pids() {
        match Netns::open(&PathBuf::from(format!("/proc/{pid}/ns/net"))) {
            Ok(netns) => found.add(of_pid(pid, netns)),
            Err(error) if error.is_denied() => denied += 1,
            // A process that ended since the listing.
            Err(_) => (),
        }
    }
    if denied > 0 {
        let why = format!("{PTRACE}: the namespaces of {denied} processes may not be opened");
        found.miss(("pid:*".to_owned(), TargetKind::Pid, "pid:*".to_owned()), Reading::Denied(why));
    }
    Ok(found)
}

/// What opening the namespaces of others needs.
const PTRACE: &str = "CAP_SYS_PTRACE and CAP_SYS_ADMIN";

/// The command that lists what there is.
const LIST: &str = "whydrop targets";

/// Characters of a name that leads nowhere.
const LONGEST: usize = 80;

/// The namespace that whydrop was started in.
pub fn host() -> Result<Resolved> {
    let netns = Netns::current()?;
    let target = Target {
        id: "host".into(),
        kind: TargetKind::Host,
        name: "host".into(),
        netns_inode: netns.inode(),
        pid: None,
        container: None,
        role: Role::Target,
        entry: Entry::Here,
        tenants: vec![],
    };
    Ok(Resolved { target, netns })
}

fn unknown(word: &str, reason: Text) -> Error {
    Error::new(
        text!("find {object}", "找到 {object}"),
        format!("\"{}\"", sanitize(word, 80)),
        reason.phrase(),
    )
}

fn by_pid(word: &str, pid: &str) -> Result<Resolved> {
    let number: u32 = pid.parse().map_err(|_| {
        unknown(word, text!("a pid is a number, as in pid:1234", "pid 须为数字，例如 pid:1234"))
    })?;
    let path = format!("/proc/{number}/ns/net");
    if !Path::new(&format!("/proc/{number}")).exists() {
        return Err(unknown(word, text!("no such process", "没有这个进程")).with_try(LIST));
    }
    Ok(of_pid(number, Netns::open(Path::new(&path)).map_err(needs_ptrace)?))
}

fn needs_ptrace(error: Error) -> Error {
    if !error.is_denied() {
        return error;
    }
    error.with_hint(
        text!(
            "needs CAP_SYS_PTRACE and CAP_SYS_ADMIN: run whydrop with sudo",
            "需要 CAP_SYS_PTRACE 与 CAP_SYS_ADMIN：请用 sudo 运行 whydrop"
        )
        .phrase(),
    )
}

/// Opens the namespace to which the entry of a target leads now; another may have taken its place.
pub(crate) fn open(target: &Target) -> Result<Netns> {
    match &target.entry {
        Entry::Here => Netns::current(),
        Entry::Path(path) => Netns::open(Path::new(path)),
        Entry::Pid(pid) => Netns::open(Path::new(&format!("/proc/{pid}/ns/net"))),
    }
}

pub(crate) fn of_pid(pid: u32, netns: Netns) -> Resolved {
    let target = Target {
        id: format!("pid:{pid}"),
        kind: TargetKind::Pid,
        name: format!("pid:{pid}"),
        netns_inode: netns.inode(),
        pid: Some(pid),
        container: None,
        role: Role::Target,
        entry: Entry::Pid(pid),
        tenants: vec![],
    };
    Resolved { target, netns }
}

pub(crate) fn by_netns(name: &str) -> Result<Resolved> {
    let is_path = name.contains('/');
    let path = if is_path { PathBuf::from(name) } else { Path::new(NETNS_DIR).join(name) };
    if name.is_empty() || name == "." || name == ".." || !path.exists() {
        return Err(no_such(&format!("netns:{name}"), name, &[]));
    }
    let netns = Netns::open(&path)?;
    let target = Target {
        id: format!("netns:{name}"),
        kind: TargetKind::Netns,
        name: name.to_owned(),
        netns_inode: netns.inode(),
        pid: None,
        container: None,
        role: Role::Target,
        entry: Entry::Path(path.display().to_string()),
        tenants: vec![],
    };
    Ok(Resolved { target, netns })
}

/// The error for a name that nothing has; `listed` are the containers that were asked for.
fn no_such(word: &str, name: &str, listed: &[Container]) -> Error {
    let mut near: Vec<String> = netns_names().into_iter().map(|n| format!("netns:{n}")).collect();
    let running = || listed.iter().filter(|container| container.running && !container.infra);
    near.extend(running().map(|container| container.name().to_owned()));
    near.extend(running().filter_map(|container| Some(format!("pod:{}", container.pod.as_ref()?.word()))));
    near.sort_by_cached_key(|near| strsim::levenshtein(near.rsplit([':', '/']).next().unwrap_or(near), name));
    near.dedup();
    near.truncate(3);
    let error =
        unknown(word, text!("it is no container and no namespace here", "它不是本机的容器或命名空间"))
            .with_try(LIST);
    if near.is_empty() {
        return error.with_hint(
            text!(
                "host, pid:N, netns:NAME and netns:/path/to/ns always work",
                "host、pid:N、netns:NAME 与 netns:/path/to/ns 总是可用"
            )
            .phrase(),
        );
    }
    error.with_close(near)
}

/// Names under /run/netns, sorted. Empty if there is none.
pub fn netns_names() -> Vec<String> {
    let entries = std::fs::read_dir(NETNS_DIR).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Every process that this pid namespace shows, sorted.
pub(crate) fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_words_name_themselves() {
        for word in [
            "pid:x",
            "pid:4294967295",
            "netns:",
            "netns:/etc/passwd",
            "pod:a/b",
            "netns:no-such-name",
            "lxc:no",
        ] {
            let error = resolve(word).unwrap_err().to_string();
            assert!(error.starts_with("cannot "), "{error}");
        }
    }
}
