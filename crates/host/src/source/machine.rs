//! Load of the whole machine: /proc/{softirqs,stat,loadavg,pressure,vmstat}, the neighbour tables, settings that have no
//! namespace.

use super::cgroup::parse_pressure;
use super::{cpu_table, sysctl};
use crate::error::Result;
use crate::sys::file;
use std::collections::BTreeMap;
use whydrop_model::Reading;
use whydrop_model::snapshot::{Counters, CpuTimes, Pressure};

const SOFTIRQS: &str = "/proc/softirqs";
const STAT: &str = "/proc/stat";
const LOAD: &str = "/proc/loadavg";
const VMSTAT: &str = "/proc/vmstat";
/// Only the initial namespace has these two files, with the entries of all.
const NEIGHBOURS: [&str; 2] = ["arp_cache", "ndisc_cache"];

/// Settings of the whole machine, or that only the initial namespace has.
const SETTINGS: [&str; 20] = [
    "net.core.netdev_max_backlog",
    "net.core.netdev_budget",
    "net.core.netdev_budget_usecs",
    "net.core.dev_weight",
    "net.core.flow_limit_cpu_bitmap",
    "net.core.flow_limit_table_len",
    "net.core.rps_sock_flow_entries",
    "net.core.optmem_max",
    "net.ipv4.neigh.default.gc_thresh1",
    "net.ipv4.neigh.default.gc_thresh2",
    "net.ipv4.neigh.default.gc_thresh3",
    "net.ipv6.neigh.default.gc_thresh1",
    "net.ipv6.neigh.default.gc_thresh2",
    "net.ipv6.neigh.default.gc_thresh3",
    "net.ipv4.igmp_max_memberships",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_mem",
    "net.ipv4.udp_mem",
    "fs.nr_open",
    "kernel.sched_rt_runtime_us",
];

/// Soft interrupts by name, a count per online CPU. Needs no privilege.
pub fn softirqs() -> Result<BTreeMap<String, Vec<u64>>> {
    let text = file::read(SOFTIRQS)?;
    parse_softirqs(&text).ok_or_else(|| file::malformed(SOFTIRQS))
}

/// Where the time of each CPU went. Needs no privilege.
pub fn cpu_times() -> Result<Vec<CpuTimes>> {
    let text = file::read(STAT)?;
    parse_stat(&text).ok_or_else(|| file::malformed(STAT))
}

/// Load over 1, 5 and 15 minutes. Needs no privilege.
pub fn load() -> Result<(f64, f64, f64)> {
    let text = file::read(LOAD)?;
    parse_load(&text).ok_or_else(|| file::malformed(LOAD))
}

/// Pressure by resource; absent without CONFIG_PSI (or with psi=0). Needs no privilege.
pub fn pressure() -> Result<BTreeMap<String, Pressure>> {
    let mut all = BTreeMap::new();
    for name in ["cpu", "memory", "io"] {
        let path = format!("/proc/pressure/{name}");
        let text = file::read(&path)?;
        all.insert(name.to_owned(), parse_pressure(&text).ok_or_else(|| file::malformed(&path))?);
    }
    Ok(all)
}

/// Processes that were killed for want of memory. Needs no privilege.
pub fn oom_kills() -> Result<u64> {
    let text = file::read(VMSTAT)?;
    parse_oom_kills(&text).ok_or_else(|| file::malformed(VMSTAT))
}

/// `arp_cache.table_fulls` and so on; absent outside the initial namespace. Needs no privilege.
pub fn neighbour_tables() -> Result<Counters> {
    let mut all = Counters::new();
    for table in NEIGHBOURS {
        let path = format!("/proc/thread-self/net/stat/{table}");
        let sums = match file::read(&path) {
            Ok(text) => cpu_table::sum(&text).ok_or_else(|| file::malformed(&path))?,
            // No IPv6.
            Err(error) if error.is_absent() && !all.is_empty() => continue,
            Err(error) => return Err(error),
        };
        all.extend(sums.into_iter().map(|(name, value)| (format!("{table}.{name}"), value)));
    }
    Ok(all)
}

/// The settings. Needs no privilege.
pub fn sysctls() -> BTreeMap<String, Reading<String>> {
    SETTINGS.iter().map(|name| ((*name).to_owned(), sysctl::read_one(name))).collect()
}

fn parse_softirqs(text: &str) -> Option<BTreeMap<String, Vec<u64>>> {
    let line = |line: &str| {
        let (name, counts) = line.split_once(':')?;
        let counts: Option<Vec<u64>> = counts.split_ascii_whitespace().map(|n| n.parse().ok()).collect();
        Some((name.trim().to_owned(), counts?))
    };
    text.lines().skip(1).map(line).collect()
}

fn parse_stat(text: &str) -> Option<Vec<CpuTimes>> {
    let line = |line: &str| {
        let mut words = line.strip_prefix("cpu")?.split(' ');
        let cpu = words.next()?.parse().ok()?;
        let mut ticks = words.map(|word| word.parse::<u64>().ok());
        let mut next = || ticks.next().flatten();
        let user = next()?.saturating_add(next()?);
        let (system, idle, iowait) = (next()?, next()?, next()?);
        Some(CpuTimes { cpu, user, system, idle, iowait, irq: next()?, softirq: next()?, steal: next()? })
    };
    let rows: Vec<_> = text.lines().filter_map(line).collect();
    (!rows.is_empty()).then_some(rows)
}

fn parse_oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

fn parse_load(text: &str) -> Option<(f64, f64, f64)> {
    let mut words = text.split(' ').map(|word| word.parse::<f64>().ok());
    let mut next = || words.next().flatten();
    Some((next()?, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_interrupts_by_name_and_cpu() {
        let text = "                    CPU0       CPU1\n      NET_TX:         10          2\n      NET_RX:      12345          0\n";
        let read = parse_softirqs(text).unwrap();
        assert_eq!(read.get("NET_RX"), Some(&vec![12_345, 0]));
        assert_eq!(parse_softirqs("CPU0\nNET_RX: x\n"), None);
    }

    #[test]
    fn times_of_each_cpu_without_the_sum() {
        let text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\nintr 5\n";
        let rows = parse_stat(text).unwrap();
        let row = rows.first().unwrap();
        assert_eq!((rows.len(), row.cpu, row.user, row.softirq, row.steal), (1, 0, 3, 7, 8));
        assert_eq!(parse_stat("intr 5\n"), None);
        assert_eq!(parse_load("0.50 0.25 0.10 1/200 999\n"), Some((0.5, 0.25, 0.1)));
        assert_eq!(parse_load("0.50 x\n"), None);
        assert_eq!(parse_oom_kills("pgfault 7\noom_kill 3\noom_killer 9\n"), Some(3));
        assert_eq!((parse_oom_kills("pgfault 7\n"), parse_oom_kills("oom_kill x\n")), (None, None));
    }

    #[test]
    fn this_machine() {
        assert!(softirqs().unwrap().contains_key("NET_RX"));
        assert!(!cpu_times().unwrap().is_empty());
        assert!(load().is_ok() && sysctls().values().any(Reading::is_present));
    }
}
