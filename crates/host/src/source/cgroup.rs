//! Cgroups of processes, both versions: frozen, processor quota, memory, tasks, pressure.

use crate::error::Result;
use crate::sys::{bpf, file};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use whydrop_model::Reading;
use whydrop_model::snapshot::{
    Attach, AttachedProgram, Cgroup, Counters, CpuUse, MemoryUse, Pressure, Process,
};

/// More cgroups than this are not looked at.
const MAX_CGROUPS: usize = 512;
/// Version 1 has no "max": a memory limit from here on (LONG_MAX in pages, as bytes) is none.
const NO_LIMIT: u64 = i64::MAX as u64 / 65536 * 65536;

const MOUNTS: &str = "/proc/self/mountinfo";
const NEEDS: &str = "read access to /sys/fs/cgroup";

/// The mounted cgroup file systems. It is a picture of its moment.
#[derive(Debug)]
pub struct Hierarchies(Vec<Mount>);

#[derive(Debug, PartialEq)]
struct Mount {
    /// Directory of the hierarchy that is mounted here, mostly `/`.
    root: String,
    point: String,
    /// Controllers of version 1; empty for version 2.
    controllers: Vec<String>,
}

impl Hierarchies {
    /// Reads the mount table.
    pub fn read() -> Result<Self> {
        Ok(Self(parse_mounts(&file::read(MOUNTS)?)))
    }

    /// The cgroups of these processes and those around them, by hierarchy and path. The roots limit nothing; only that
    /// of version 2 can have BPF programs.
    pub fn of<'a>(&self, processes: impl Iterator<Item = &'a Process>) -> Vec<Cgroup> {
        let mut wanted = BTreeSet::new();
        for (hierarchy, path) in processes.filter_map(|p| p.cgroups.get()).flatten() {
            let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
            wanted.extend(
                ends.filter_map(|end| Some((hierarchy, path.get(..end)?))).filter(|(_, p)| *p != "/"),
            );
            if hierarchy.is_empty() {
                wanted.insert((hierarchy, "/"));
            }
        }
        wanted.into_iter().filter_map(|(kind, path)| self.look(kind, path)).take(MAX_CGROUPS).collect()
    }

    /// A cgroup of version 2 and those around it, the root included.
    pub fn around<'a>(&'a self, path: &'a str) -> impl Iterator<Item = Cgroup> + 'a {
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
        let paths: BTreeSet<&str> = ends.filter_map(|end| path.get(..end)).chain(["/"]).collect();
        paths.into_iter().filter_map(|path| self.look("", path))
    }

    fn look(&self, hierarchy: &str, path: &str) -> Option<Cgroup> {
        Some(read_one(hierarchy, path, &self.directory(hierarchy, path)?))
    }

    /// Where the files of a cgroup are; none if its hierarchy is not mounted, or not this part of it.
    fn directory(&self, hierarchy: &str, path: &str) -> Option<String> {
        let fits = |mount: &&Mount| match hierarchy {
            "" => mount.controllers.is_empty(),
            names => {
                !mount.controllers.is_empty()
                    && names.split(',').all(|name| mount.controllers.iter().any(|c| c == name))
            }
        };
        // Outside of the own cgroup namespace.
        if path.split('/').any(|part| part == "..") {
            return None;
        }
        self.0.iter().filter(fits).find_map(|mount| {
            let rest = path.strip_prefix(mount.root.trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{}{rest}", mount.point))
        })
    }
}

/// Mounts of type cgroup2 and cgroup; proc_pid_mountinfo(5): `id parent device root point options … - type source
/// super-options`.
fn parse_mounts(text: &str) -> Vec<Mount> {
    let line = |line: &str| {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (unescape(place.next()?), unescape(place.next()?));
        let mut kind = kind.split(' ');
        let controllers = match kind.next()? {
            "cgroup2" => Vec::new(),
            "cgroup" => kind.nth(1)?.split(',').map(str::to_owned).collect(),
            _ => return None,
        };
        Some(Mount { root, point, controllers })
    };
    text.lines().filter_map(line).collect()
}

/// The kernel writes blanks as `\040`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
}

fn read_one(hierarchy: &str, path: &str, directory: &str) -> Cgroup {
    let unified = hierarchy.is_empty();
    let of = Files { directory };
    let pressure =
        |name: &str| (name.to_owned(), of.read([&format!("{name}.pressure")], |[text]| parse_pressure(text)));
    Cgroup {
        hierarchy: hierarchy.to_owned(),
        path: path.to_owned(),
        id: std::fs::metadata(directory).ok().map(|m| m.ino()),
        frozen: match unified {
            true => of.read(["cgroup.events"], |[text]| Some(*pairs(text)?.get("frozen")? == 1)),
            false => of.read(["freezer.state"], |[text]| Some(text.trim_end() != "THAWED")),
        },
        cpu: match unified {
            true => of.read(["cpu.max", "cpu.stat"], |[max, stat]| parse_cpu(max, stat)),
            false => of.read(["cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.stat"], parse_cpu_v1),
        },
        memory: match unified {
            true => of.read(["memory.current", "memory.max", "memory.events"], parse_memory),
            false => of.read(
                ["memory.usage_in_bytes", "memory.limit_in_bytes", "memory.failcnt", "memory.oom_control"],
                parse_memory_v1,
            ),
        },
        tasks: of.read(["pids.current", "pids.max"], |[now, max]| Some((number(now)?, limit(max)?))),
        pressure: if unified { ["cpu", "memory", "io"].map(pressure).into() } else { BTreeMap::new() },
        programs: match unified {
            true => programs(directory),
            false => Reading::Absent("version 1 has none".to_owned()),
        },
    }
}

/// The BPF programs that are attached to a cgroup.
fn programs(directory: &str) -> Reading<Vec<AttachedProgram>> {
    let Ok(cgroup) = std::fs::File::open(directory) else {
        return Reading::Absent("the cgroup went away".to_owned());
    };
    let mut out = Vec::new();
    for (attach, number, _) in Attach::ALL {
        match bpf::attached(&cgroup, number) {
            Ok(ids) => {
                out.extend(ids.into_iter().map(|id| AttachedProgram { attach, id, name: bpf::name(id) }))
            }
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::EPERM) => Reading::Denied("CAP_NET_ADMIN and CAP_BPF".to_owned()),
                    Some(libc::EINVAL | libc::ENOSYS) => {
                        Reading::Absent("no BPF programs of cgroups".to_owned())
                    }
                    _ => Reading::Failed(format!("query the BPF programs of {directory}: {error}")),
                };
            }
        }
    }
    Reading::Present(out)
}

/// The files of one cgroup.
struct Files<'a> {
    directory: &'a str,
}

impl Files<'_> {
    /// What `parse` makes of these files; the first one that cannot be read decides.
    fn read<const N: usize, T>(
        &self,
        names: [&str; N],
        parse: impl FnOnce([&str; N]) -> Option<T>,
    ) -> Reading<T> {
        let mut texts = [const { String::new() }; N];
        for (text, name) in texts.iter_mut().zip(names) {
            *text = match file::read(&format!("{}/{name}", self.directory)) {
                Ok(text) => text,
                // The cgroup went away meanwhile.
                Err(error) if error.errno == Some(libc::ENODEV) => return Reading::Absent(error.to_string()),
                Err(error) => return error.reading(NEEDS),
            };
        }
        let last = names.last().copied().unwrap_or("");
        let malformed = || file::malformed(&format!("{}/{last}", self.directory)).reading(NEEDS);
        parse(texts.each_ref().map(String::as_str)).map_or_else(malformed, Reading::Present)
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim_end().parse().ok()
}

/// `max` is none.
fn limit(text: &str) -> Option<Option<u64>> {
    if text.trim_end() == "max" { Some(None) } else { number(text).map(Some) }
}

/// Lines `name number`.
fn pairs(text: &str) -> Option<Counters> {
    let line = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().map(line).collect()
}

/// cpu.max: `max 100000` or `20000 100000`.
fn parse_cpu(max: &str, stat: &str) -> Option<CpuUse> {
    let (quota, period) = max.trim_end().split_once(' ')?;
    let stat = pairs(stat)?;
    let count = |name: &str| stat.get(name).copied();
    Some(CpuUse {
        quota_us: limit(quota)?,
        period_us: number(period)?,
        periods: count("nr_periods")?,
        throttled: count("nr_throttled")?,
        throttled_us: count("throttled_usec")?,
    })
}

fn parse_cpu_v1([quota, period, stat]: [&str; 3]) -> Option<CpuUse> {
    let stat = pairs(stat)?;
    let count = |name: &str| stat.get(name).copied();
    Some(CpuUse {
        quota_us: if quota.trim_end() == "-1" { None } else { Some(number(quota)?) },
        period_us: number(period)?,
        periods: count("nr_periods")?,
        throttled: count("nr_throttled")?,
        throttled_us: count("throttled_time")? / 1000,
    })
}

fn parse_memory([current, max, events]: [&str; 3]) -> Option<MemoryUse> {
    Some(MemoryUse { current: number(current)?, max: limit(max)?, events: pairs(events)? })
}

fn parse_memory_v1([current, max, failures, oom]: [&str; 4]) -> Option<MemoryUse> {
    let mut events = Counters::from([("max".to_owned(), number(failures)?)]);
    // Since 4.13; the other lines are settings.
    events.extend(pairs(oom)?.into_iter().filter(|(name, _)| name == "oom_kill"));
    let max = number(max).map(|bytes| (bytes < NO_LIMIT).then_some(bytes))?;
    Some(MemoryUse { current: number(current)?, max, events })
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and `full …` (Documentation/accounting/psi.rst).
pub(super) fn parse_pressure(text: &str) -> Option<Pressure> {
    let line = |kind: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let value = |name: &str| rest.split_ascii_whitespace().find_map(|word| word.strip_prefix(name));
        Some((value("avg10=")?.parse::<f64>().ok()?, value("total=")?.parse::<u64>().ok()?))
    };
    let (some_avg10, some_us) = line("some ")?;
    let full = line("full ");
    Some(Pressure { some_avg10, some_us, full_avg10: full.map(|f| f.0), full_us: full.map(|f| f.1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTED: &str =
        "30 25 0:26 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
31 25 0:27 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 25 0:28 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw
33 25 0:29 / /tmp rw - tmpfs tmpfs rw
rubbish
";

    #[test]
    fn a_path_in_each_hierarchy() {
        let mounted = Hierarchies(parse_mounts(MOUNTED));
        assert_eq!(mounted.0.len(), 3);
        let directory = |hierarchy: &str, path: &str| mounted.directory(hierarchy, path);
        assert_eq!(directory("", "/a/b").as_deref(), Some("/sys/fs/cgroup/uni fied/a/b"));
        assert_eq!(directory("cpu,cpuacct", "/x").as_deref(), Some("/sys/fs/cgroup/cpu/x"));
        assert_eq!(directory("memory", "/docker/abc/d").as_deref(), Some("/sys/fs/cgroup/memory/d"));
        assert_eq!(directory("memory", "/docker/abcd"), None, "another one's");
        assert_eq!(directory("pids", "/x"), None, "not mounted");
        assert_eq!(directory("", "/../../etc"), None, "outside");
    }

    #[test]
    fn quotas_of_both_versions() {
        let stat = "usage_usec 5\nnr_periods 10\nnr_throttled 7\nthrottled_usec 900\n";
        let read = parse_cpu("20000 100000\n", stat).unwrap();
        assert_eq!(
            (read.quota_us, read.period_us, read.throttled, read.throttled_us),
            (Some(20_000), 100_000, 7, 900)
        );
        assert_eq!(parse_cpu("max 100000\n", stat).unwrap().quota_us, None);
        assert_eq!(parse_cpu("max 100000\n", "usage_usec 5\n"), None, "no quota is counted here");
        let stat = "nr_periods 10\nnr_throttled 7\nthrottled_time 900000\n";
        let read = parse_cpu_v1(["-1\n", "100000\n", stat]).unwrap();
        assert_eq!((read.quota_us, read.throttled_us), (None, 900));
    }

    #[test]
    fn memory_of_both_versions() {
        let read = parse_memory(["100\n", "max\n", "low 0\nhigh 0\nmax 4\noom 1\noom_kill 1\n"]).unwrap();
        assert_eq!((read.current, read.max, read.events.get("oom_kill")), (100, None, Some(&1)));
        let oom = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        let read = parse_memory_v1(["5\n", "9223372036854771712\n", "6\n", oom]).unwrap();
        assert_eq!((read.max, read.events.len(), read.events.get("oom_kill")), (None, 2, Some(&3)));
        assert_eq!(parse_memory_v1(["5", "4096", "6", "x"]), None);
    }

    #[test]
    fn pressure_with_and_without_full() {
        let some = "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\n";
        let read = parse_pressure(some).unwrap();
        assert_eq!((read.some_avg10, read.some_us, read.full_us), (1.5, 77, None));
        let both = format!("{some}full avg10=0.10 avg60=0.00 avg300=0.00 total=7\n");
        assert_eq!(parse_pressure(&both).unwrap().full_us, Some(7));
        assert_eq!(parse_pressure("full avg10=x"), None);
    }
}
