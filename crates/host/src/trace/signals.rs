//! Events beside the drops: retransmissions, full queues, exceptions of XDP programs, traps of switch hardware.
//! Each one is optional: a kernel without the tracepoint only loses that signal.

use crate::error::{Error, Result};
use aya::Ebpf;
use aya::maps::{Map, MapData, PerCpuHashMap};
use aya::programs::{ProgramError, RawTracePoint};
use whydrop_model::{Phrase, Text, drops::Signal, text};

/// Tracepoints in the order of `enum signal` in bpf/drops.h; the programs are called as their tracepoints.
const TRACEPOINTS: [&str; 5] = [
    "tcp:tcp_retransmit_skb",
    "sock:sock_rcvqueue_full",
    "sock:sock_exceed_buf_limit",
    "xdp:xdp_exception",
    "devlink:devlink_trap_report",
];
/// Bytes of `struct signal_key`.
const KEY_BYTES: usize = 12;
const MAP: Text = text!("the BPF map signals", "BPF 映射 signals");

/// Counts of signals.
pub struct Signals {
    map: PerCpuHashMap<MapData, [u8; KEY_BYTES], u64>,
    /// Signals that are not watched, each with the reason.
    pub unwatched: Vec<String>,
}

/// Attaches every signal that the kernel has, and says which of them cannot be watched. A tracepoint that the kernel
/// does not have hides nothing: what it would tell of is not there either.
pub fn attach(ebpf: &mut Ebpf) -> Vec<String> {
    let failure = |tracepoint: &str| match attach_one(ebpf, tracepoint).err()? {
        ProgramError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::ENOENT) => None,
        ProgramError::SyscallError(error) => Some(format!("cannot watch {tracepoint}: {}", error.io_error)),
        error => Some(format!("cannot watch {tracepoint}: {error}")),
    };
    TRACEPOINTS.into_iter().filter_map(failure).collect()
}

fn attach_one(ebpf: &mut Ebpf, tracepoint: &str) -> std::result::Result<(), ProgramError> {
    let (_, name) = tracepoint.split_once(':').unwrap_or(("", tracepoint));
    let program = ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType)?;
    let program: &mut RawTracePoint = program.try_into()?;
    program.load()?;
    program.attach(name).map(drop)
}

/// What was counted since `before` was taken.
pub fn since(mut now: Vec<Signal>, before: &[Signal]) -> Vec<Signal> {
    for signal in &mut now {
        let same = |old: &&Signal| Signal { count: signal.count, ..(*old).clone() } == *signal;
        signal.count = signal.count.saturating_sub(before.iter().find(same).map_or(0, |old| old.count));
    }
    now.retain(|signal| signal.count > 0);
    now
}

impl Signals {
    /// Takes the map.
    pub fn new(map: Map, unwatched: Vec<String>) -> Result<Self> {
        let map = PerCpuHashMap::try_from(map);
        let map = map.map_err(|e| {
            Error::new(text!("open {object}", "打开 {object}"), MAP, Phrase::same(e.to_string()))
        })?;
        Ok(Self { map, unwatched })
    }

    /// What was counted so far.
    pub fn counts(&self) -> Result<Vec<Signal>> {
        let fail = |e: aya::maps::MapError| {
            Error::new(text!("read {object}", "读取 {object}"), MAP, Phrase::same(e.to_string()))
        };
        let entries = self.map.iter().map(|entry| entry.map_err(fail));
        let signal = |entry: Result<([u8; KEY_BYTES], _)>| {
            let (key, per_cpu): (_, aya::maps::PerCpuValues<u64>) = match entry {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            let mut words = key.chunks_exact(4).filter_map(|w| Some(u32::from_ne_bytes(*w.first_chunk()?)));
            let (signal, netns, link) = (words.next()?, words.next()?, words.next()?);
            Some(Ok(Signal {
                name: (*TRACEPOINTS.get(signal as usize)?).to_owned(),
                netns_inode: Some(u64::from(netns)).filter(|&n| n != 0),
                link: Some(link).filter(|&n| n != 0),
                count: per_cpu.iter().sum(),
            }))
        };
        entries.filter_map(signal).collect()
    }
}
