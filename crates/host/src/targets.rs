//! From the words of a user to open network namespaces.

use crate::containers::{self, Container};
use crate::error::{Error, Result};
use crate::sys::netns::Netns;
use std::path::{Path, PathBuf};
use whydrop_model::shell::sanitize;
use whydrop_model::{Entry, Role, Target, TargetKind, Text, text};

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

/// Resolves what the user typed: `host`, `pid:1234`, `netns:web`, `netns:/path`, `docker:NAME-or-ID`, `podman:…`,
/// or a bare word (container name or id prefix, then namespace name). Errors name the word and list what is near.
pub fn resolve(word: &str) -> Result<Resolved> {
    if word == "host" {
        return host();
    }
    match word.split_once(':') {
        Some(("pid", pid)) => by_pid(word, pid),
        Some(("netns", name)) => by_netns(name),
        Some(("docker", name)) => by_container(TargetKind::Docker, name),
        Some(("podman", name)) => by_container(TargetKind::Podman, name),
        Some((kind @ ("containerd" | "pod"), _)) => Err(unknown(
            word,
            text!(
                "this build cannot ask containerd or Kubernetes",
                "此版本不能查询 containerd 或 Kubernetes"
            ),
        )
        .with_hint(
            text!("use pid:N with a process of it ({kind})", "改用 pid:N，N 为其中一个进程的编号（{kind}）")
                .fill(&[("kind", &kind)]),
        )),
        Some(_) | None => bare(word),
    }
}

/// Resolves several words; a namespace that was named twice is kept twice (the caller folds them).
pub fn resolve_all(words: &[String]) -> Result<Vec<Resolved>> {
    if words.is_empty() {
        return Ok(vec![host()?]);
    }
    words.iter().map(|word| resolve(word)).collect()
}

/// Every network namespace that has a name under /run/netns or a process, plus this one.
pub fn all() -> Result<Vec<Resolved>> {
    let mut found = vec![host()?];
    let known = |found: &[Resolved], inode: u64| found.iter().any(|r| r.netns.inode() == inode);
    for name in netns_names() {
        let resolved = by_netns(&name)?;
        if !known(&found, resolved.netns.inode()) {
            found.push(resolved);
        }
    }
    for pid in pids() {
        // A process that ended since the listing is no error, nor is one of another user.
        let Ok(netns) = Netns::open(&PathBuf::from(format!("/proc/{pid}/ns/net"))) else { continue };
        if !known(&found, netns.inode()) {
            found.push(of_pid(pid, netns));
        }
    }
    Ok(found)
}

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
        return Err(unknown(word, text!("no such process", "没有这个进程")));
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

fn of_pid(pid: u32, netns: Netns) -> Resolved {
    let target = Target {
        id: format!("pid:{pid}"),
        kind: TargetKind::Pid,
        name: format!("pid:{pid}"),
        netns_inode: netns.inode(),
        pid: Some(pid),
        container: None,
        role: Role::Target,
        entry: Entry::Pid(pid),
    };
    Resolved { target, netns }
}

fn by_netns(name: &str) -> Result<Resolved> {
    let is_path = name.contains('/');
    let path = if is_path { PathBuf::from(name) } else { Path::new(NETNS_DIR).join(name) };
    if name.is_empty() || name == "." || name == ".." || !path.exists() {
        return Err(no_such(&format!("netns:{name}"), name));
    }
    let netns = Netns::open(&path)?;
    // Any file opens; only a network namespace can be entered, and that needs no privilege to tell.
    let magic = rustix::fs::fstatfs(&netns).map_err(|e| {
        Error::io(text!("inspect {object}", "检查 {object}"), path.display().to_string(), &e.into())
    })?;
    if magic.f_type != libc::NSFS_MAGIC {
        return Err(unknown(
            &format!("netns:{name}"),
            text!("the file is not a network namespace", "该文件不是网络命名空间"),
        ));
    }
    let target = Target {
        id: format!("netns:{name}"),
        kind: TargetKind::Netns,
        name: name.to_owned(),
        netns_inode: netns.inode(),
        pid: None,
        container: None,
        role: Role::Target,
        entry: Entry::Path(path.display().to_string()),
    };
    Ok(Resolved { target, netns })
}

fn by_container(engine: TargetKind, word: &str) -> Result<Resolved> {
    let listed = containers::list(engine)?.ok_or_else(|| {
        unknown(word, text!("no container engine answers here", "本机没有应答的容器引擎")).with_hint(
            text!(
                "is the engine running, and does this user reach its socket? pid:N works without it",
                "引擎是否在运行、当前用户能否访问其套接字？不经引擎也可使用 pid:N"
            )
            .phrase(),
        )
    })?;
    match listed.iter().filter(|c| c.answers_to(word)).collect::<Vec<_>>().as_slice() {
        [one] => of_container(one),
        [] => Err(no_such(word, word)),
        many => match many.iter().find(|c| c.names.iter().any(|n| n == word) || c.id == word) {
            Some(exact) => of_container(exact),
            None => Err(ambiguous(word, many.iter().map(|c| c.name().to_owned()).collect())),
        },
    }
}

fn of_container(container: &Container) -> Result<Resolved> {
    let name = container.name().to_owned();
    let kind = if container.engine == TargetKind::Podman { "podman" } else { "docker" };
    if !container.running {
        return Err(unknown(
            &format!("{kind}:{name}"),
            text!("the container is not running", "该容器没有运行"),
        )
        .with_hint(text!("start it first", "请先启动该容器").phrase()));
    }
    let pid = containers::pid(container)?;
    let netns = Netns::open(Path::new(&format!("/proc/{pid}/ns/net"))).map_err(needs_ptrace)?;
    let target = Target {
        id: format!("{kind}:{name}"),
        kind: container.engine,
        name,
        netns_inode: netns.inode(),
        pid: Some(pid),
        container: Some(container.id.clone()),
        role: Role::Target,
        entry: Entry::Pid(pid),
    };
    Ok(Resolved { target, netns })
}

/// A bare word: containers first, then namespace names. An engine that does not answer is no reason to fail when a
/// namespace has that name.
fn bare(word: &str) -> Result<Resolved> {
    let engines = [TargetKind::Docker, TargetKind::Podman];
    let mut trouble = None;
    let mut found = vec![];
    for engine in engines {
        match containers::list(engine) {
            Ok(listed) => found.extend(listed.into_iter().flatten().filter(|c| c.answers_to(word))),
            Err(error) => trouble = Some(error),
        }
    }
    let exact: Vec<&Container> = found.iter().filter(|c| c.names.iter().any(|n| n == word)).collect();
    match (exact.as_slice(), found.as_slice()) {
        ([one], _) => of_container(one),
        ([], [one]) => of_container(one),
        ([], []) if netns_names().iter().any(|n| n == word) => by_netns(word),
        ([], []) => Err(trouble.unwrap_or_else(|| no_such(word, word))),
        _ => Err(ambiguous(
            word,
            found.iter().map(|c| format!("{} ({})", c.name(), c.id.get(..12).unwrap_or(&c.id))).collect(),
        )),
    }
}

fn ambiguous(word: &str, mut names: Vec<String>) -> Error {
    names.sort();
    names.truncate(12);
    unknown(word, text!("more than one match", "有多个匹配")).with_close(names)
}

fn no_such(word: &str, name: &str) -> Error {
    let mut near: Vec<String> = netns_names().into_iter().map(|n| format!("netns:{n}")).collect();
    for engine in [TargetKind::Docker, TargetKind::Podman] {
        let listed = containers::list(engine).ok().flatten();
        near.extend(listed.iter().flatten().filter(|c| c.running).map(|c| c.name().to_owned()));
    }
    near.sort_by_key(|candidate| distance(candidate.rsplit(':').next().unwrap_or(candidate), name));
    near.truncate(3);
    let error =
        unknown(word, text!("it is no container and no namespace here", "它不是本机的容器或命名空间"));
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

fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// Levenshtein distance, bounded by the length of names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("ngnix", "nginx"), 2);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn unknown_words_name_themselves() {
        for word in
            ["pid:x", "pid:4294967295", "netns:", "netns:/etc/passwd", "pod:a/b", "netns:no-such-name"]
        {
            let error = resolve(word).unwrap_err().to_string();
            assert!(error.starts_with("cannot "), "{error}");
        }
    }
}
