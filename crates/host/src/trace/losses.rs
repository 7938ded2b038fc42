//! What the BPF programs themselves could not keep.

use crate::error::{Error, Result};
use aya::maps::{Map, MapData, MapError, PerCpuArray};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use whydrop_model::{Phrase, Text, text};

/// Values of `enum loss` in bpf/drops.h.
const KINDS: usize = 8;
const WHAT: Text = text!("the tracer's losses", "追踪器自身的遗漏数");

/// Where the losses stand.
pub struct Losses {
    map: PerCpuArray<MapData, u64>,
    drops: OwnedFd,
    others: Vec<OwnedFd>,
    calls: Vec<OwnedFd>,
}

/// Losses since the programs were attached, or between two moments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lost {
    /// Drops whose shape found the count map full, samples that found the ring full, signals, conversations that were
    /// counted without addresses, events of conversations that were not counted, repeats that were not sampled, failed calls;
    /// then what the second program of drops counted.
    kinds: [u64; KINDS],
    /// Runs that the kernel skipped: of the program of drops, of those of flows, and of that of system calls.
    skipped: [u64; 3],
}

impl Losses {
    /// Takes the map; `drops` is the program of drops.
    pub fn new(map: Map, drops: OwnedFd, others: Vec<OwnedFd>) -> Result<Self> {
        let map = PerCpuArray::try_from(map).map_err(|e| fail(text!("open {object}", "打开{object}"), &e))?;
        Ok(Self { map, drops, others, calls: vec![] })
    }

    /// Counts what the kernel skips of the programs of system calls, too.
    pub fn also_calls(&mut self, programs: Vec<OwnedFd>) {
        self.calls.extend(programs);
    }

    /// Until now.
    pub fn now(&self) -> Result<Lost> {
        let mut kinds = [0; KINDS];
        for (index, kind) in (0..).zip(&mut kinds) {
            let per_cpu = self.map.get(&index, 0);
            let per_cpu = per_cpu.map_err(|e| fail(text!("read {object}", "读取{object}"), &e))?;
            *kind = per_cpu.iter().sum();
        }
        let skipped_of = |programs: &[OwnedFd]| programs.iter().map(skipped).sum();
        let skipped = [skipped(&self.drops), skipped_of(&self.others), skipped_of(&self.calls)];
        Ok(Lost { kinds, skipped })
    }
}

impl Lost {
    /// What was lost in between.
    pub fn since(self, before: &Self) -> Self {
        let less = |now: u64, before: u64| now.saturating_sub(before);
        let mut lost = self;
        lost.kinds.iter_mut().zip(before.kinds).for_each(|(now, before)| *now = less(*now, before));
        lost.skipped.iter_mut().zip(before.skipped).for_each(|(now, before)| *now = less(*now, before));
        lost
    }

    /// Drops that are counted, but not where they happened.
    pub fn nameless_drops(&self) -> u64 {
        self.kinds[0]
    }

    /// Drops that are not counted at all.
    pub fn skipped_drops(&self) -> u64 {
        self.skipped[0].saturating_sub(self.kinds[7])
    }

    /// Drops that are counted without their packet, though it was wanted.
    pub fn samples(&self) -> u64 {
        self.kinds[1]
    }

    /// Signals that are not counted.
    pub fn signals(&self) -> u64 {
        self.kinds[2]
    }

    /// Events of conversations that are counted without addresses.
    pub fn folded(&self) -> u64 {
        self.kinds[3]
    }

    /// Events of conversations that are not counted.
    pub fn events(&self) -> u64 {
        self.kinds[4] + self.skipped[1]
    }

    /// Failed system calls that are not counted.
    pub fn calls(&self) -> u64 {
        self.kinds[6]
    }

    /// Ends of system calls that were not seen: since 6.13 a program of theirs can be interrupted by another task's.
    pub fn calls_unseen(&self) -> u64 {
        self.skipped[2]
    }

    /// Repeated segments that were not sampled.
    pub fn repeats(&self) -> u64 {
        self.kinds[5]
    }
}

/// Runs that the kernel skipped because the program was running already on that CPU (an interrupt dropped a packet
/// while a drop was being counted). Kernels before 5.12 do not tell.
fn skipped(program: &OwnedFd) -> u64 {
    let info = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", program.as_raw_fd()));
    let line = |info: String| {
        info.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse::<u64>().ok())
    };
    info.ok().and_then(line).into_iter().sum()
}

fn fail(operation: Text, error: &MapError) -> Error {
    Error::new(operation, WHAT, Phrase::same(error.to_string()))
}
