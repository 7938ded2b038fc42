//! Processes that hold sockets: /proc/PID/{stat,wchan,limits,cgroup,task}.
//!
//! A process that stands still (stopped, frozen, held back, out of descriptors) loses what is sent to it without any
//! drop, so what holds it is looked at on both ends of the window.

use super::cgroup::Hierarchies;
use super::owner::Owners;
use crate::error::Result;
use crate::sys::file;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use whydrop_model::Reading;
use whydrop_model::snapshot::{Descriptors, Process, ProcessState, Processes};

/// More processes than this are not looked at.
const MAX_PROCESSES: usize = 512;
/// The resolver asks no more (MAXNS).
const MAX_RESOLVERS: usize = 3;
/// Of more processes that have ended nothing is read.
const MAX_GONE: usize = 64;
/// More threads of one process than this are not looked at.
const MAX_THREADS: usize = 64;

/// What whydrop needs to look into the processes of others.
const PTRACE: &str = "CAP_SYS_PTRACE";

/// Looks at these processes and at their cgroups. One that has ended meanwhile is left out. Needs no privilege but for
/// `wchan` and the descriptors of others (CAP_SYS_PTRACE).
///
/// The cgroups of those that have `gone` since are read, too: what killed them is told there.
pub fn read(
    pids: &BTreeSet<u32>,
    gone: &[Process],
    owners: &Owners,
    hierarchies: &Result<Hierarchies>,
) -> Processes {
    let list: Vec<Process> =
        pids.iter().take(MAX_PROCESSES).filter_map(|pid| process(*pid, owners.descriptors(*pid))).collect();
    let cgroups =
        hierarchies.as_ref().map(|known| known.of(list.iter().chain(gone))).unwrap_or_else(|_| Vec::new());
    Processes { list, more: pids.len() > MAX_PROCESSES, cgroups }
}

/// Those of these processes that have ended.
pub fn gone<'a>(known: impl Iterator<Item = &'a Process>) -> Vec<Process> {
    let lives = |process: &Process| {
        let stat = file::read(&format!("/proc/{}/stat", process.pid)).ok();
        stat.and_then(|text| parse_stat(&text)).is_some_and(|stat| stat.started == process.started)
    };
    known.filter(|process| !lives(process)).take(MAX_GONE).cloned().collect()
}

fn process(pid: u32, open: Option<u64>) -> Option<Process> {
    let stat = parse_stat(&file::read(&format!("/proc/{pid}/stat")).ok()?)?;
    let Threads { states, waits, runs, works_on } = threads(pid, &stat);
    Some(Process {
        pid,
        started: stat.started,
        comm: stat.comm,
        state: stat.state,
        threads: stat.threads,
        thread_states: states,
        waits,
        runs,
        works_on,
        resolvers: resolvers(pid),
        wchan: match file::read(&format!("/proc/{pid}/wchan")) {
            // The kernel writes 0 for a task that runs, and to those who may not know.
            Ok(text) => Reading::Present(if text == "0" { String::new() } else { text }),
            Err(error) => error.reading(PTRACE),
        },
        cpu_ticks: stat.ticks,
        descriptors: match (file::read(&format!("/proc/{pid}/limits")), open) {
            (Ok(text), Some(open)) => match parse_limit(&text) {
                Some(limit) => Reading::Present(Descriptors { open, limit }),
                None => file::malformed("/proc/PID/limits").reading(PTRACE),
            },
            (Ok(_), None) => Reading::Denied(PTRACE.to_owned()),
            (Err(error), _) => error.reading(PTRACE),
        },
        cgroups: match file::read(&format!("/proc/{pid}/cgroup")) {
            Ok(text) => Reading::Present(parse_cgroups(&text)),
            Err(error) => error.reading(PTRACE),
        },
    })
}

/// The name servers of a process's /etc/resolv.conf; none that could be read are none known.
fn resolvers(pid: u32) -> Vec<IpAddr> {
    let text = file::read(&format!("/proc/{pid}/root/etc/resolv.conf")).unwrap_or_else(|_| String::new());
    parse_resolvers(&text)
}

/// resolv.conf(5): lines `nameserver ADDRESS`; the address may name an interface.
fn parse_resolvers(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| line.trim_start().strip_prefix("nameserver"));
    let address = |rest: &str| rest.split_ascii_whitespace().next()?.split('%').next()?.parse().ok();
    servers.filter_map(address).take(MAX_RESOLVERS).collect()
}

/// What the first threads of a process do.
#[derive(Default)]
struct Threads {
    states: BTreeMap<ProcessState, u32>,
    waits: BTreeMap<String, u32>,
    runs: Option<u64>,
    works_on: Option<String>,
}

/// Looks at the first threads. If the directory cannot be read, only the state of a single one is known.
fn threads(pid: u32, first: &Stat) -> Threads {
    let mut all = Threads::default();
    if first.threads == 1 {
        all.states.insert(first.state, 1);
    }
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return all };
    for entry in entries.flatten().take(MAX_THREADS) {
        let path = entry.path();
        let Some(path) = path.to_str() else { continue };
        let state = match first.threads {
            1 => Some(first.state),
            _ => file::read(&format!("{path}/stat")).ok().and_then(|text| parse_stat(&text)).map(|s| s.state),
        };
        if let Some(state) = state.filter(|_| first.threads > 1) {
            *all.states.entry(state).or_insert(0) += 1;
        }
        let wait = file::read(&format!("{path}/wchan")).ok().filter(|text| text != "0" && !text.is_empty());
        if let Some(wait) = wait {
            *all.waits.entry(wait).or_insert(0) += 1;
        }
        let runs = file::read(&format!("{path}/schedstat")).ok().and_then(|text| parse_runs(&text));
        all.runs = runs.map(|n| all.runs.unwrap_or(0).saturating_add(n)).or(all.runs);
        if state == Some(ProcessState::DiskSleep) && all.works_on.is_none() {
            all.works_on = works_on(path);
        }
    }
    all
}

/// /proc/PID/schedstat: nanoseconds that it ran, nanoseconds that it waited for a processor, how often it ran
/// (Documentation/scheduler/sched-stats.rst).
fn parse_runs(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// The file whose descriptor is the first argument of the system call that a thread is in. The calls that wait for a
/// storage (read, write, fsync and their kin) have it there; of others the number names no file with a path.
fn works_on(thread: &str) -> Option<String> {
    let call = file::read(&format!("{thread}/syscall")).ok()?;
    let descriptor = call.split_ascii_whitespace().nth(1)?.strip_prefix("0x")?;
    let descriptor = u32::from_str_radix(descriptor, 16).ok()?;
    let path = std::fs::read_link(format!("{thread}/fd/{descriptor}")).ok()?;
    Some(path.to_str()?.to_owned()).filter(|path| path.starts_with('/'))
}

struct Stat {
    comm: String,
    state: ProcessState,
    threads: u32,
    ticks: u64,
    started: u64,
}

/// proc_pid_stat(5). The name stands in parentheses and may hold any character, these too: the last one ends it.
fn parse_stat(text: &str) -> Option<Stat> {
    let (before, after) = text.rsplit_once(')')?;
    let (_, comm) = before.split_once('(')?;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    // Field 3 (state) is the first behind the name.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        comm: comm.to_owned(),
        state: match *fields.first()? {
            "R" => ProcessState::Running,
            "S" => ProcessState::Sleeping,
            "D" => ProcessState::DiskSleep,
            "T" => ProcessState::Stopped,
            "t" => ProcessState::Traced,
            "Z" => ProcessState::Zombie,
            "X" | "x" => ProcessState::Dead,
            "I" => ProcessState::Idle,
            "P" => ProcessState::Parked,
            _ => ProcessState::Unknown,
        },
        ticks: number(14)?.saturating_add(number(15)?),
        threads: u32::try_from(number(20)?).ok()?,
        started: number(22)?,
    })
}

/// The soft limit of open files; the outer one is none if there is no such line.
fn parse_limit(text: &str) -> Option<Option<u64>> {
    let rest = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match rest.split_ascii_whitespace().next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

/// Lines `number:controllers:path`.
fn parse_cgroups(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_and_how_often_a_thread_ran() {
        let text =
            "# by hand\nnameserver 10.0.0.53\nnameserver fe80::1%eth0\noptions ndots:5\nnameserver x\n";
        assert_eq!(parse_resolvers(text).len(), 2);
        assert_eq!(parse_runs("1200 30 17\n"), Some(17));
        assert_eq!(parse_runs("1200 30"), None);
    }

    #[test]
    fn a_name_with_parentheses_and_blanks() {
        let text = "812 (a) R (b) T 1 812 812 0 -1 4194560 1 2 3 4 50 7 0 0 20 0 3 0 9876 1 2 3\n";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.comm.as_str(), stat.state), ("a) R (b", ProcessState::Stopped));
        assert_eq!((stat.ticks, stat.threads, stat.started), (57, 3, 9876));
        for length in 0..text.len() {
            parse_stat(&text[..length]);
        }
        assert!(parse_stat("1 (x) S 1").is_none());
    }

    #[test]
    fn limits_and_cgroups() {
        let text = "Limit                     Soft Limit           Hard Limit           Units
Max processes             100                  100                  processes
Max open files            1024                 524288               files
";
        assert_eq!(parse_limit(text), Some(Some(1024)));
        assert_eq!(parse_limit("Max open files   unlimited unlimited files\n"), Some(None));
        assert_eq!(parse_limit("Max open files   many\n"), None);
        let cgroups = parse_cgroups("4:cpu,cpuacct:/docker/a:b\n0::/user.slice\nrubbish\n");
        assert_eq!(cgroups.get("cpu,cpuacct").map(String::as_str), Some("/docker/a:b"));
        assert_eq!(cgroups.get("").map(String::as_str), Some("/user.slice"));
    }

    #[test]
    fn this_process_runs_and_has_descriptors() {
        let owners = Owners::none();
        let pids = BTreeSet::from([std::process::id(), u32::MAX]);
        let read = read(&pids, &[], &owners, &Hierarchies::read());
        let process = read.list.first().unwrap();
        assert_eq!((read.list.len(), read.more), (1, false));
        assert!(process.started > 0 && process.cgroups.is_present());
        assert!(process.descriptors.is_hidden(), "nobody counted them");
        assert!(process.thread_states.values().sum::<u32>() > 0);
    }
}
