//! `whydrop targets`: every network namespace of this machine, with a first look into each.

use crate::collect;
use crate::containers::{self, Engines};
use crate::places::{self, Place};
use crate::source::{address, link, procnet};
use crate::sys::file;
use crate::sys::netlink::Netlink;
use crate::sys::netns::Netns;
use crate::targets;
use std::collections::HashMap;
use std::time::Duration;
use whydrop_model::census::{Census, Glance, Resident};
use whydrop_model::{Entry, Reading, Role, Target, TargetKind};

/// What looking at the processes of others needs.
const PTRACE: &str = "CAP_SYS_PTRACE";
/// Names of programs that are kept for one namespace.
const PROGRAMS: usize = 8;
/// Processes of one namespace that are asked for their name: enough to know what it is for.
const ASKED: usize = 64;
/// What engines may take when a person waits at the Tab key: asked all at once, they stay below 150 ms.
const AT_TAB: Duration = Duration::from_millis(80);

/// Looks at all of them, several at a time.
pub fn census() -> Census {
    let places = places::find();
    let engines = Engines::default();
    let mut out = Census::default();
    let mut open: Vec<(Option<Netns>, Resident)> = vec![];
    for (inode, place) in &places.found {
        // It may have ended, or its name may lead elsewhere by now.
        let resolved = place.resolve(&engines).filter(|found| found.netns.inode() == *inode);
        let (netns, target) = match resolved {
            Some(resolved) => (Some(resolved.netns), resolved.target),
            None => match unopened(*inode, place) {
                Some(target) => (None, target),
                None => continue,
            },
        };
        open.push((netns, resident(target, place, places.hidden > 0)));
    }
    open.sort_by_key(|(_, resident)| (rank(resident.target.kind), resident.target.pid.unwrap_or(0)));
    let netns: Vec<&Netns> = open.iter().filter_map(|(netns, _)| netns.as_ref()).collect();
    let mut looks = collect::in_each(&netns, || Reading::Present(glance())).into_iter();
    let looks: Vec<Reading<Glance>> = open
        .iter()
        .map(|(netns, _)| match netns {
            Some(_) => looks.next().unwrap_or_else(|| Reading::Failed("not read".to_owned())),
            None => Reading::Denied("CAP_SYS_PTRACE and CAP_SYS_ADMIN".to_owned()),
        })
        .collect();
    for ((_, resident), look) in open.into_iter().zip(looks) {
        out.namespaces.push(Resident { glance: look, ..resident });
    }
    out.unseen = unseen(&places, &engines);
    out
}

/// Words that lead to a namespace, for completions: what costs more than a moment is left out, and so is what fails.
pub fn names() -> Vec<String> {
    let mut out = vec!["host".to_owned()];
    out.extend(targets::netns_names().into_iter().map(|name| format!("netns:{name}")));
    let listing = containers::list_within(AT_TAB);
    let mut words: Vec<String> = vec![];
    for container in listing.containers.iter().filter(|container| container.running) {
        words.extend(container.pod.as_ref().map(|pod| format!("pod:{}", pod.word())));
        words.extend(container.service.as_ref().map(|service| format!("compose:{service}")));
        if container.pod.is_none() {
            words.push(container.word());
        }
    }
    words.sort();
    words.dedup();
    out.extend(words);
    out
}

/// The own namespace, then containers, names, processes.
fn rank(kind: TargetKind) -> u8 {
    match kind {
        TargetKind::Host => 0,
        TargetKind::Netns => 2,
        TargetKind::Pid => 3,
        _ => 1,
    }
}

/// The name of a namespace that may not be opened.
fn unopened(inode: u64, place: &Place) -> Option<Target> {
    let (id, kind, entry) = match (place.names.first(), place.pids.first()) {
        (Some(name), _) => (format!("netns:{name}"), TargetKind::Netns, Entry::Here),
        (None, Some(pid)) => (format!("pid:{pid}"), TargetKind::Pid, Entry::Pid(*pid)),
        (None, None) => return None,
    };
    let name = place.names.first().cloned().unwrap_or_else(|| id.clone());
    let pid = place.pids.first().copied();
    Some(Target {
        id,
        kind,
        name,
        netns_inode: inode,
        pid,
        container: None,
        role: Role::Target,
        entry,
        tenants: vec![],
    })
}

fn resident(target: Target, place: &Place, others_hidden: bool) -> Resident {
    let names = place.names.iter().map(|name| format!("netns:{name}"));
    let aliases = names.filter(|alias| *alias != target.id).collect();
    let mut counted: HashMap<String, usize> = HashMap::new();
    for pid in place.pids.iter().take(ASKED) {
        // It may have ended.
        let Ok(comm) = file::read(&format!("/proc/{pid}/comm")) else { continue };
        *counted.entry(comm.trim_end().to_owned()).or_default() += 1;
    }
    let mut programs: Vec<(String, usize)> = counted.into_iter().collect();
    programs.sort_by(|(a, n), (b, m)| m.cmp(n).then(a.cmp(b)));
    Resident {
        target,
        aliases,
        processes: Some(place.pids.len()).filter(|seen| *seen > 0 || !others_hidden),
        programs: programs.into_iter().take(PROGRAMS).map(|(name, _)| name).collect(),
        glance: Reading::Absent(String::new()),
    }
}

/// Reads the calling thread's namespace.
fn glance() -> Glance {
    let mut route = Netlink::route();
    let links = collect::over(&mut route, link::read);
    Glance {
        links: collect::reading(links.map(|read| read.into_iter().map(|entry| entry.link).collect())),
        addresses: collect::reading(collect::over(&mut route, address::read)),
        mib: collect::reading(procnet::mib()),
        mib6: collect::reading(procnet::mib6()),
    }
}

fn unseen(places: &places::Places, engines: &Engines) -> Vec<(String, Reading<()>)> {
    let mut out = vec![];
    if places.hidden > 0 {
        let why = format!("{PTRACE}: the namespaces of {} processes are not known", places.hidden);
        out.push(("processes".to_owned(), Reading::Denied(why)));
    }
    for name in &places.stale {
        let why = "the name leads to no network namespace".to_owned();
        out.push((format!("netns:{name}"), Reading::Absent(why)));
    }
    out.extend(engines.silent());
    out
}
