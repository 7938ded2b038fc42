//! The step without BPF: the event skb:kfree_skb as text, from a private instance of tracefs.
//!
//! It shows reason, function and ethertype of every drop of the machine, but neither packet, interface nor namespace.
//! tracefs need not be mounted: it is then opened without a place in the file tree, so that nobody else sees a change.
//! Where it is mounted, the right to use its files is enough.

use super::names::Names;
use super::symbols::without_suffix;
use super::tally::Tally;
use super::{Source, Totals, clock_offset};
use crate::error::{Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use whydrop_model::shell::sanitize;
use whydrop_model::{DropCount, DropEvent, Reading, text};

/// Where it usually is mounted; the second since before 4.1.
const MOUNTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const EVENT: &str = "events/skb/kfree_skb";
/// Kernel memory per CPU: about 20,000 events between two polls.
const BUFFER_KB: &str = "2048";
/// Text read in one poll, so that a storm cannot hold the caller.
const PER_POLL: usize = 4 << 20;
/// A longer line is no event.
const LONGEST_LINE: usize = 4096;

/// A private instance of tracefs with one event switched on.
pub struct TracefsSource {
    instance: PathBuf,
    /// None only while it is being dropped: an instance that somebody reads cannot be removed.
    pipe: Option<File>,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
    tally: Tally,
    /// Events that had been lost when the count began.
    lost_before: Reading<u64>,
    /// Read when the kernel shows addresses instead of functions (before 5.17).
    names: Option<Names>,
    /// Keeps a file system open that is mounted nowhere.
    _mount: Option<OwnedFd>,
}

impl TracefsSource {
    /// Makes the instance and switches the event on.
    pub fn start() -> Result<Self> {
        let (root, mount) = match MOUNTS.iter().map(Path::new).find(|mount| mount.join(EVENT).exists()) {
            Some(mounted) => (mounted.to_owned(), None),
            None => {
                let mount = open_tracefs()?;
                (PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd())), Some(mount))
            }
        };
        let instances = root.join("instances");
        remove_abandoned(&instances);
        let instance = instances.join(format!("whydrop-{}", std::process::id()));
        fs::create_dir(&instance).map_err(|e| {
            Error::io(
                text!("make {object}", "创建 {object}"),
                text!("an instance of tracefs", "tracefs 实例"),
                &e,
            )
        })?;
        match Self::switch_on(&instance) {
            Ok(pipe) => Ok(Self {
                instance,
                pipe: Some(pipe),
                rest: vec![],
                tally: Tally::default(),
                lost_before: Reading::Present(0),
                names: None,
                _mount: mount,
            }),
            Err(error) => {
                remove(&instance);
                Err(error)
            }
        }
    }

    fn switch_on(instance: &Path) -> Result<File> {
        write(instance, "buffer_size_kb", BUFFER_KB)?;
        // Microseconds of CLOCK_MONOTONIC instead of one of each CPU.
        write(instance, "trace_clock", "mono")?;
        // From 5.12 on addresses are hashed unless asked for; before, there is nothing to ask.
        let _ = write(instance, "options/hash-ptr", "0");
        let pipe = instance.join("trace_pipe");
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let pipe = rustix::fs::open(&pipe, flags, Mode::empty()).map_err(|e| {
            Error::io(
                text!("open {object}", "打开 {object}"),
                text!("trace_pipe of tracefs", "tracefs 的 trace_pipe"),
                &e.into(),
            )
        })?;
        write(instance, &format!("{EVENT}/enable"), "1")?;
        Ok(File::from(pipe))
    }

    /// Reads what there is, up to [`PER_POLL`]; true if there may be more.
    fn read(&mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<bool> {
        let mut chunk = vec![0; 64 * 1024];
        let (mut total, offset) = (0, clock_offset());
        while total < PER_POLL {
            let Some(pipe) = &mut self.pipe else { return Ok(false) };
            let read = match pipe.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => {
                    return Err(Error::io(
                        text!("read {object}", "读取 {object}"),
                        text!("trace_pipe of tracefs", "tracefs 的 trace_pipe"),
                        &e,
                    ));
                }
            };
            total += read;
            self.rest.extend(chunk.iter().take(read));
            let Some(end) = self.rest.iter().rposition(|&b| b == b'\n') else {
                if self.rest.len() > LONGEST_LINE {
                    self.rest.clear();
                }
                continue;
            };
            let lines: Vec<u8> = self.rest.drain(..=end).collect();
            for mut event in String::from_utf8_lossy(&lines).lines().filter_map(|line| parse(line, offset)) {
                if let Some(address) = address(&event.function) {
                    let names = self.names.get_or_insert_with(|| Names::start(false));
                    (event.function, event.offset) = names.function(address);
                }
                self.tally.add(&event);
                sink(event);
            }
        }
        Ok(true)
    }

    /// Events that the buffers could not keep, over all CPUs.
    fn lost(&self) -> Reading<u64> {
        let directory = self.instance.join("per_cpu");
        let cpus = match fs::read_dir(&directory) {
            Ok(cpus) => cpus,
            Err(e) => return Reading::Failed(e.to_string()),
        };
        let mut lost = 0;
        for cpu in cpus.flatten() {
            match fs::read_to_string(cpu.path().join("stats")) {
                Ok(stats) => lost += lost_of(&stats),
                Err(e) => return Reading::Failed(e.to_string()),
            }
        }
        Reading::Present(lost)
    }
}

impl Source for TracefsSource {
    fn poll(&mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<()> {
        self.read(sink).map(drop)
    }

    fn counts(&mut self) -> Result<Vec<DropCount>> {
        Ok(self.tally.rows())
    }

    fn restart(&mut self) -> Result<()> {
        write(&self.instance, &format!("{EVENT}/enable"), "1")?;
        // In a storm there is always more: what comes later counts.
        self.read(&mut drop)?;
        self.tally = Tally::default();
        self.lost_before = self.lost();
        Ok(())
    }

    fn hold(&mut self) -> Result<()> {
        write(&self.instance, &format!("{EVENT}/enable"), "0")
    }

    fn totals(&mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<Totals> {
        while self.read(sink)? {}
        let mut nameless = self.names.as_mut().map(Names::failed).into_iter().flatten().collect::<Vec<_>>();
        let lost = match (&self.lost(), &self.lost_before) {
            (Reading::Present(lost), Reading::Present(before)) => lost.saturating_sub(*before),
            (Reading::Absent(why) | Reading::Denied(why) | Reading::Failed(why), _)
            | (_, Reading::Absent(why) | Reading::Denied(why) | Reading::Failed(why)) => {
                nameless.push(format!("cannot read how many events tracefs lost: {why}"));
                0
            }
        };
        Ok(Totals {
            counts: self.tally.rows(),
            counts_lost: lost + self.tally.nameless(),
            samples_lost: 0,
            missing: nameless,
            signals: vec![],
            flows: None,
        })
    }
}

impl Drop for TracefsSource {
    fn drop(&mut self) {
        self.pipe = None;
        remove(&self.instance);
    }
}

/// Opens tracefs without mounting it anywhere (Linux 5.2).
fn open_tracefs() -> Result<OwnedFd> {
    let fail = |e: rustix::io::Errno| {
        Error::io(
            text!("open {object}", "打开 {object}"),
            text!("tracefs (CAP_SYS_ADMIN)", "tracefs（CAP_SYS_ADMIN）"),
            &e.into(),
        )
    };
    let context = rustix::mount::fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(fail)?;
    rustix::mount::fsconfig_create(&context).map_err(fail)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(fail)
}

/// Instances of whydrops that were killed.
fn remove_abandoned(instances: &Path) {
    let Ok(entries) = fs::read_dir(instances) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid =
            name.to_str().and_then(|name| name.strip_prefix("whydrop-")).and_then(|p| p.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(&entry.path());
        }
    }
}

/// An instance that stays costs memory and is removed by the next whydrop; there is nobody to tell.
fn remove(instance: &Path) {
    let _ = write(instance, &format!("{EVENT}/enable"), "0");
    let _ = fs::remove_dir(instance);
}

fn write(instance: &Path, file: &str, value: &str) -> Result<()> {
    fs::write(instance.join(file), value).map_err(|e| {
        Error::io(
            text!("write {object}", "写入 {object}"),
            text!("{file} of tracefs", "tracefs 的 {file}").fill(&[("file", &file)]),
            &e,
        )
    })
}

/// `overrun: 12` and `dropped events: 0` in per_cpu/cpuN/stats.
fn lost_of(stats: &str) -> u64 {
    let value = |line: &str| {
        let rest = line.strip_prefix("overrun:").or_else(|| line.strip_prefix("dropped events:"))?;
        rest.trim().parse::<u64>().ok()
    };
    stats.lines().filter_map(value).sum()
}

/// The address that stands where newer kernels have the function.
fn address(function: &str) -> Option<u64> {
    let digits = function.strip_prefix("0x").unwrap_or(function);
    if digits.len() == 16 { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// `nc-77 [001] b.s2. 12.345678: kfree_skb: skbaddr=00 rx_sk=00 protocol=2048 location=f+0x1/0x2 reason: NO_SOCKET`.
/// Since 5.17 with reason; before 6.11 without rx_sk. None for any other line.
fn parse(line: &str, clock_offset: u64) -> Option<DropEvent> {
    let (head, fields) = line.split_once(": kfree_skb: ")?;
    let (seconds, micros) = head.rsplit(' ').next()?.split_once('.')?;
    let (seconds, micros) = (seconds.parse::<u64>().ok()?, micros.parse::<u64>().ok()?);
    let nanos = seconds.checked_mul(1_000_000_000)?.checked_add(micros.checked_mul(1000)?)?;
    let field = |name: &str| fields.split(' ').find_map(|word| word.strip_prefix(name));
    let location = field("location=")?;
    let (function, offset) = location.split_once('+').unwrap_or((location, ""));
    let offset = offset.split('/').next().and_then(|o| o.strip_prefix("0x"));
    let reason = fields.split_once("reason: ").map(|(_, reason)| reason.trim());
    let reason = match reason.map(|r| (r, r.parse::<u32>())) {
        Some((_, Ok(number))) => format!("REASON_{number}"),
        Some((name, Err(_))) => sanitize(name, 64),
        None => String::new(),
    };
    Some(DropEvent {
        realtime_ns: nanos.wrapping_add(clock_offset),
        reason,
        function: sanitize(without_suffix(function), 128),
        offset: offset.and_then(|o| u32::from_str_radix(o, 16).ok()),
        ethertype: field("protocol=")?.parse().ok().filter(|&e| e != 0),
        ..DropEvent::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_text_of_several_kernels() {
        let line = "          <idle>-0       [001] b.s2.  1234.567890: kfree_skb: skbaddr=00000000a rx_sk=0000 \
                    protocol=2048 location=ip_rcv_core.isra.0+0x1f/0x110 reason: NETFILTER_DROP";
        let event = parse(line, 1).expect("an event");
        assert_eq!(event.realtime_ns, 1_234_567_890_001);
        assert_eq!((event.reason.as_str(), event.function.as_str()), ("NETFILTER_DROP", "ip_rcv_core"));
        assert_eq!((event.offset, event.ethertype), (Some(0x1f), Some(0x800)));

        let line = " ping-7 [000] ..s1 5.000001: kfree_skb: skbaddr=00000000a protocol=34525 location=ffffffff9b7f2522";
        let event = parse(line, 0).expect("an event");
        assert_eq!((event.reason.as_str(), event.ethertype), ("", Some(0x86dd)));
        assert_eq!(address(&event.function), Some(0xffff_ffff_9b7f_2522));
        assert_eq!(address("ip_rcv_core"), None);
    }

    #[test]
    fn takes_nothing_else_for_an_event() {
        for line in [
            "CPU:1 [LOST 12 EVENTS]",
            "",
            ": kfree_skb: ",
            "x 1.2: kfree_skb: location=",
            "x y: kfree_skb: z",
        ] {
            assert_eq!(parse(line, 0), None, "{line}");
        }
    }

    #[test]
    fn sums_what_was_lost() {
        assert_eq!(lost_of("entries: 5\noverrun: 12\ncommit overrun: 0\nbytes: 1\ndropped events: 3\n"), 15);
    }
}
