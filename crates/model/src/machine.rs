//! Readings of the whole machine, whatever the namespace.

use crate::process::Pressure;
use crate::reading::Reading;
use crate::snapshot::Counters;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What belongs to the whole machine, not to a namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineSnapshot {
    /// /proc/net/softnet_stat, a row per CPU.
    #[serde(default = "Reading::taken_out")]
    pub softnet: Reading<Vec<SoftnetCpu>>,
    /// /proc/softirqs: by name (NET_RX, NET_TX …) a count per CPU.
    #[serde(default = "Reading::not_recorded")]
    pub softirqs: Reading<BTreeMap<String, Vec<u64>>>,
    /// /proc/stat: where the time of each CPU went.
    #[serde(default = "Reading::not_recorded")]
    pub cpu_times: Reading<Vec<CpuTimes>>,
    /// /proc/loadavg: mean number of tasks that ran or waited for a disk, over 1, 5 and 15 minutes.
    #[serde(default = "Reading::not_recorded")]
    pub load: Reading<(f64, f64, f64)>,
    /// /proc/pressure: cpu, memory, io (CONFIG_PSI).
    #[serde(default = "Reading::not_recorded")]
    pub pressure: Reading<BTreeMap<String, Pressure>>,
    /// /proc/vmstat, `oom_kill`: processes that were killed since boot because the machine or a cgroup had no memory
    /// left (since 4.13).
    #[serde(default = "Reading::not_recorded")]
    pub oom_kills: Reading<u64>,
    /// Statistics of the neighbour tables, summed over CPUs: `arp_cache.table_fulls`, `ndisc_cache.lookups` …
    /// (/proc/net/stat; entries counts all namespaces). Absent outside the initial namespace.
    #[serde(default = "Reading::not_recorded")]
    pub neighbour_tables: Reading<Counters>,
    /// Settings of the whole machine by dotted name: net.core.netdev_max_backlog, netdev_budget,
    /// net.ipv4.neigh.default.gc_thresh3 …
    #[serde(default)]
    pub sysctls: BTreeMap<String, Reading<String>>,
}

impl MachineSnapshot {
    /// Nothing is known of the machine.
    pub fn not_recorded() -> Self {
        Self {
            softnet: Reading::not_recorded(),
            softirqs: Reading::not_recorded(),
            cpu_times: Reading::not_recorded(),
            load: Reading::not_recorded(),
            pressure: Reading::not_recorded(),
            oom_kills: Reading::not_recorded(),
            neighbour_tables: Reading::not_recorded(),
            sysctls: BTreeMap::new(),
        }
    }
}

/// A row of softnet_stat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftnetCpu {
    /// CPU number.
    pub cpu: u32,
    /// Packets taken from the backlog or by NAPI.
    pub processed: u64,
    /// Packets dropped because the backlog was full.
    pub dropped: u64,
    /// Times that the budget ended before the work did: not a loss.
    pub time_squeeze: u64,
    /// Packets dropped by the flow limit.
    pub flow_limit: u64,
    /// Times that another CPU woke this one by RPS; none before 2.6.35.
    #[serde(default)]
    pub received_rps: Option<u64>,
    /// Packets in the backlog now (5.10).
    #[serde(default)]
    pub backlog: Option<u64>,
}

/// Where the time of a CPU went since boot, in clock ticks (100 a second).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTimes {
    /// CPU number.
    pub cpu: u32,
    /// User programs, also those of low priority.
    pub user: u64,
    /// The kernel for programs.
    pub system: u64,
    /// Nothing to do.
    pub idle: u64,
    /// Nothing to do, and a disk is waited for.
    pub iowait: u64,
    /// Hardware interrupts.
    pub irq: u64,
    /// Soft interrupts: most of the network's work.
    pub softirq: u64,
    /// Taken by the hypervisor.
    pub steal: u64,
}
