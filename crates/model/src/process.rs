//! Processes that hold sockets, and the cgroups that limit them.

use crate::reading::Reading;
use crate::snapshot::Counters;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Processes that hold sockets of one namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Processes {
    /// At most 512, by process id.
    pub list: Vec<Process>,
    /// There are more than these.
    pub more: bool,
    /// Their cgroups and those around them, at most 512, by hierarchy and path.
    pub cgroups: Vec<Cgroup>,
}

/// A process at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Process id in whydrop's pid namespace.
    pub pid: u32,
    /// Start in clock ticks after boot: with the id the identity across two snapshots.
    pub started: u64,
    /// Name.
    pub comm: String,
    /// State of its first thread.
    pub state: ProcessState,
    /// Number of threads.
    pub threads: u32,
    /// States of its first 64 threads.
    pub thread_states: BTreeMap<ProcessState, u32>,
    /// Kernel function in which its first thread waits; empty if it runs.
    pub wchan: Reading<String>,
    /// Kernel functions in which its first 64 threads wait, with how many in each; those that run are not among them.
    #[serde(default)]
    pub waits: BTreeMap<String, u32>,
    /// How often its first 64 threads were put on a processor so far; none where the kernel does not count it
    /// (CONFIG_SCHED_INFO).
    #[serde(default)]
    pub runs: Option<u64>,
    /// Name servers of its /etc/resolv.conf.
    #[serde(default)]
    pub resolvers: Vec<IpAddr>,
    /// The file on which a thread in uninterruptible sleep works, if it can be told.
    #[serde(default)]
    pub works_on: Option<String>,
    /// Clock ticks (100 a second) that it has run so far, user and system.
    pub cpu_ticks: u64,
    /// Open descriptors and their limit.
    pub descriptors: Reading<Descriptors>,
    /// Path in each hierarchy: by the controllers of it as the kernel writes them (`memory`, `cpu,cpuacct`), the
    /// unified hierarchy (version 2) under the empty name. Relative to whydrop's own cgroup namespace.
    pub cgroups: Reading<BTreeMap<String, String>>,
}

/// State letter of /proc/PID/stat (fs/proc/array.c:task_state_array).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    /// R.
    Running,
    /// S: waits and can be woken by a signal.
    Sleeping,
    /// D: waits for a disk or a lock and cannot be interrupted.
    DiskSleep,
    /// T: stopped by a signal.
    Stopped,
    /// t: stopped by a debugger.
    Traced,
    /// Z: has ended; its parent has not taken notice.
    Zombie,
    /// X: is just ending.
    Dead,
    /// I: an idle kernel thread.
    Idle,
    /// P: parked.
    Parked,
    /// A letter that this version does not know.
    Unknown,
}

/// Open descriptors of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptors {
    /// How many are open.
    pub open: u64,
    /// RLIMIT_NOFILE, soft; none if unlimited.
    pub limit: Option<u64>,
}

/// A cgroup. Each part is absent where its hierarchy lacks the controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Hierarchy, named as in [`Process::cgroups`].
    pub hierarchy: String,
    /// Path in it, `/` for the root.
    pub path: String,
    /// Inode of its directory: in the unified hierarchy the id that [`crate::snapshot::Socket::cgroup`] names.
    pub id: Option<u64>,
    /// Frozen (cgroup.events; version 1: freezer.state).
    pub frozen: Reading<bool>,
    /// Processor quota and what it withheld (cpu.max, cpu.stat).
    pub cpu: Reading<CpuUse>,
    /// Memory (memory.current, memory.max, memory.events).
    pub memory: Reading<MemoryUse>,
    /// Tasks now and the most allowed (pids.current, pids.max); none if unlimited.
    pub tasks: Reading<(u64, Option<u64>)>,
    /// Pressure stall information by resource: cpu, memory, io (version 2, 4.20).
    pub pressure: BTreeMap<String, Reading<Pressure>>,
    /// BPF programs for packets and sockets that are attached to it itself (version 2; needs CAP_NET_ADMIN and
    /// CAP_BPF).
    #[serde(default = "Reading::not_recorded")]
    pub programs: Reading<Vec<AttachedProgram>>,
}

/// A BPF program that is attached to a cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedProgram {
    /// Where.
    pub attach: Attach,
    /// Its id.
    pub id: u32,
    /// Its name, at most 15 characters; empty if it has none.
    pub name: String,
}

/// Where a BPF program of a cgroup acts (enum bpf_attach_type).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attach {
    /// On packets that arrive at a socket.
    Ingress,
    /// On packets that a socket sends.
    Egress,
    /// On connect() to an IPv4 address.
    Connect4,
    /// On connect() to an IPv6 address.
    Connect6,
    /// On datagrams that are sent to an IPv4 address.
    Sendmsg4,
    /// On datagrams that are sent to an IPv6 address.
    Sendmsg6,
}

impl Attach {
    /// All, with their number and the word of bpftool.
    pub const ALL: [(Self, u32, &'static str); 6] = [
        (Self::Ingress, 0, "cgroup_inet_ingress"),
        (Self::Egress, 1, "cgroup_inet_egress"),
        (Self::Connect4, 10, "cgroup_inet4_connect"),
        (Self::Connect6, 11, "cgroup_inet6_connect"),
        (Self::Sendmsg4, 14, "cgroup_udp4_sendmsg"),
        (Self::Sendmsg6, 15, "cgroup_udp6_sendmsg"),
    ];

    /// As bpftool calls it.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(attach, ..)| *attach == self).map_or("", |(.., word)| word)
    }
}

impl Cgroup {
    /// True if the process is in this cgroup or in one below it.
    pub fn holds(&self, process: &Process) -> bool {
        let own = process.cgroups.get().and_then(|paths| paths.get(&self.hierarchy));
        own.and_then(|path| path.strip_prefix(self.path.trim_end_matches('/')))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// What a processor quota did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuUse {
    /// Microseconds allowed in each period; none if there is no quota.
    pub quota_us: Option<u64>,
    /// Length of a period in microseconds.
    pub period_us: u64,
    /// Periods so far in which it had something to do.
    pub periods: u64,
    /// Of them, those at whose end it was held back.
    pub throttled: u64,
    /// Microseconds for which it was held back, summed over processors.
    pub throttled_us: u64,
}

/// Memory of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// Bytes in use.
    pub current: u64,
    /// Most bytes allowed; none if unlimited.
    pub max: Option<u64>,
    /// memory.events: low, high, max, oom, oom_kill …; version 1: `max` (memory.failcnt) and `oom_kill`.
    pub events: Counters,
}

/// Pressure stall information.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// Percent of the last ten seconds in which some task waited.
    pub some_avg10: f64,
    /// Microseconds so far in which some task waited.
    pub some_us: u64,
    /// Percent of the last ten seconds in which all tasks waited; none where the kernel has none.
    pub full_avg10: Option<f64>,
    /// Microseconds so far in which all tasks waited.
    pub full_us: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_holds_its_own_and_what_is_below() {
        let paths = BTreeMap::from([(String::new(), "/docker/abc".to_owned())]);
        let process = Process {
            pid: 1,
            started: 1,
            comm: String::new(),
            state: ProcessState::Running,
            threads: 1,
            thread_states: BTreeMap::new(),
            wchan: Reading::Present(String::new()),
            waits: BTreeMap::new(),
            runs: None,
            works_on: None,
            resolvers: vec![],
            cpu_ticks: 0,
            descriptors: Reading::not_recorded(),
            cgroups: Reading::Present(paths),
        };
        let holds = |hierarchy: &str, path: &str| {
            let cgroup = Cgroup {
                hierarchy: hierarchy.to_owned(),
                path: path.to_owned(),
                id: None,
                frozen: Reading::Present(false),
                cpu: Reading::not_recorded(),
                memory: Reading::not_recorded(),
                tasks: Reading::not_recorded(),
                pressure: BTreeMap::new(),
                programs: Reading::not_recorded(),
            };
            cgroup.holds(&process)
        };
        assert!(holds("", "/") && holds("", "/docker") && holds("", "/docker/abc"));
        assert!(!holds("", "/doc") && !holds("", "/docker/abc/d") && !holds("memory", "/"));
    }
}
