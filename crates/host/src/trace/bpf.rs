//! The first two steps of the ladder: the BPF program of `bpf/drops.bpf.c`, attached as tp_btf or as raw_tp.
#![allow(unsafe_code)] // malloc_trim has no safe wrapper

use super::btf::Blob;
use super::layout::{SHAPE_BYTES, Sample, Shape};
use super::loader;
use super::names::Names;
use super::reasons::Reasons;
use super::signals::{self, Signals};
use super::{Source, Step, Totals, TraceOptions, clock_offset, packet};
use crate::error::{Error, Result};
use aya::maps::{
    HashMap as BpfHashMap, MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues, RingBuf,
};
use aya::programs::{BtfTracePoint, ProgramError, RawTracePoint};
use aya::{Btf, Ebpf, EbpfError, Endianness, include_bytes_aligned};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use whydrop_model::drops::Signal;
use whydrop_model::{DropCount, DropEvent, Phrase, Text, text};

/// Compiled from `bpf/` by `cargo xtask bpf`; CI compares the hash of its sources.
static OBJECT: &[u8] = include_bytes_aligned!("../../bpf/drops.bpf.o");
/// What is loaded, with what it needs, for errors.
const NEEDS: Text = text!(
    "the BPF program (CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN)",
    "BPF 程序（需要 CAP_BPF 与 CAP_PERFMON，或 CAP_SYS_ADMIN）"
);
const TRACEPOINT: &str = "kfree_skb";
/// Samples taken from the ring in one poll, so that a storm cannot hold the caller.
const PER_POLL: usize = 16_384;
/// Indices of the map `losses`.
const LOSS_SHAPE: u32 = 0;
const LOSS_RING: u32 = 1;

/// A loaded and attached program with its maps.
pub struct BpfSource {
    /// Detaches when dropped; the maps and `program` live on.
    attached: Option<Ebpf>,
    program: OwnedFd,
    ring: RingBuf<MapData>,
    counts: PerCpuHashMap<MapData, [u8; SHAPE_BYTES], u64>,
    losses: PerCpuArray<MapData, u64>,
    names: Names,
    signals: Signals,
    /// What had been counted when the count began, and when it ended, if it has.
    baseline: Counted,
    held: Option<Counted>,
    /// Names of interfaces as samples showed them: by namespace and index.
    interfaces: HashMap<(Option<u64>, u32), String>,
}

/// The kernel's counts, which only rise, at one moment.
#[derive(Default)]
struct Counted {
    counts: HashMap<[u8; SHAPE_BYTES], u64>,
    signals: Vec<Signal>,
    /// Shapes without room, samples without room, runs that the kernel skipped.
    lost: [u64; 3],
}

impl Counted {
    /// What the tracer itself lost in between.
    fn lost_since(&self, before: &Self) -> [u64; 3] {
        let mut lost = self.lost;
        lost.iter_mut().zip(before.lost).for_each(|(now, before)| *now = now.saturating_sub(before));
        lost
    }
}

impl BpfSource {
    /// Loads and attaches; `step` says how.
    pub fn start(step: Step, options: &TraceOptions) -> Result<Self> {
        raise_memlock();
        let mut names = Names::start(options.owners);
        let only_targets = u8::from(!options.netns.is_empty());
        let with_stack = u8::from(options.stacks);
        let (btf, reasons) = kernel_types()?;
        names.reasons = reasons;
        let mut ebpf = loader::without_types()
            .btf(Some(&btf))
            .override_global("only_targets", &only_targets, true)
            .override_global("with_stack", &with_stack, true)
            .load(OBJECT)
            .map_err(|e| load_error(&e))?;
        fill_targets(&mut ebpf, &options.netns)?;
        let program = attach(&mut ebpf, step, &btf).map_err(|e| program_error(&e))?;
        let unwatched = signals::attach(&mut ebpf);
        let mut take = |name: &str| {
            ebpf.take_map(name).ok_or_else(|| {
                Error::new(
                    text!("find {object}", "找到 {object}"),
                    text!("the BPF map {name}", "BPF 映射 {name}").fill(&[("name", &name)]),
                    text!("not in the object", "目标文件中没有它").phrase(),
                )
            })
        };
        let map_error = |e: aya::maps::MapError| {
            Error::new(
                text!("open {object}", "打开 {object}"),
                text!("a BPF map", "BPF 映射"),
                Phrase::same(e.to_string()),
            )
        };
        drop(btf);
        give_memory_back();
        Ok(Self {
            ring: RingBuf::try_from(take("samples")?).map_err(map_error)?,
            counts: PerCpuHashMap::try_from(take("counts")?).map_err(map_error)?,
            losses: PerCpuArray::try_from(take("losses")?).map_err(map_error)?,
            signals: Signals::new(take("signals")?, unwatched)?,
            attached: Some(ebpf),
            program,
            names,
            baseline: Counted::default(),
            held: None,
            interfaces: HashMap::new(),
        })
    }

    /// Runs of the program that the kernel skipped because it was running already on that CPU (an interrupt
    /// dropped a packet while a drop was being counted). Kernels before 5.12 do not tell.
    fn skipped(&self) -> Option<u64> {
        let fdinfo =
            fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", self.program.as_raw_fd())).ok()?;
        let line = fdinfo.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
        line.trim().parse().ok()
    }

    fn event(&mut self, sample: Sample, clock_offset: u64) -> DropEvent {
        let (function, offset) = self.names.function(sample.shape.location);
        let stack = self.names.callers(&sample.stack, sample.shape.location);
        if let (Some(link), Some(name)) = (sample.shape.link, &sample.interface) {
            self.interfaces.entry((sample.shape.netns, link)).or_insert_with(|| name.clone());
        }
        let mut event = DropEvent {
            realtime_ns: sample.monotonic_ns.wrapping_add(clock_offset),
            reason: self.names.reason(sample.shape.reason),
            function,
            offset,
            netns_inode: sample.shape.netns,
            link: sample.shape.link,
            interface: sample.interface,
            protocol: sample.shape.protocol,
            direction: sample.shape.direction,
            ethertype: Some(sample.ethertype).filter(|&e| e != 0),
            length: sample.length,
            packet: sample.packet,
            stack,
            owner: self.names.owner(sample.socket_inode, sample.cgroup_id),
            ..DropEvent::default()
        };
        packet::describe(&mut event);
        event
    }

    /// Shapes become rows; shapes that differ only in the offset inside a function become one. A drop whose shape
    /// found no room is a row of its own: its number is known, its place is not.
    fn rows(&mut self, now: &Counted) -> Vec<DropCount> {
        type Row = (String, String, Option<u64>, Option<u32>, Option<u8>, Option<u8>, Option<u8>, bool);
        let mut rows: BTreeMap<Row, DropCount> = BTreeMap::new();
        for (bytes, total) in &now.counts {
            let shape = Shape::parse(bytes);
            let drops = total.saturating_sub(self.baseline.counts.get(bytes).copied().unwrap_or(0));
            let reason = self.names.reason(shape.reason);
            let (function, _) = self.names.function(shape.location);
            let way = shape.direction.map(|d| d as u8);
            let key = (
                reason.clone(),
                function.clone(),
                shape.netns,
                shape.link,
                shape.protocol,
                way,
                shape.tcp_flags,
                shape.multicast,
            );
            let row = rows.entry(key).or_insert_with(|| DropCount {
                reason,
                function,
                netns_inode: shape.netns,
                link: shape.link,
                interface: shape.link.and_then(|link| self.interfaces.get(&(shape.netns, link)).cloned()),
                protocol: shape.protocol,
                direction: shape.direction,
                tcp_flags: shape.tcp_flags,
                multicast: shape.multicast,
                drops: 0,
            });
            row.drops += drops;
        }
        let [without_room, ..] = now.lost_since(&self.baseline);
        let other =
            DropCount { reason: super::OTHER.to_owned(), drops: without_room, ..DropCount::default() };
        rows.into_values().chain([other]).filter(|row| row.drops > 0).collect()
    }

    /// What was counted since the program was attached.
    fn counted(&self) -> Result<Counted> {
        let entry = |entry: std::result::Result<([u8; SHAPE_BYTES], PerCpuValues<u64>), MapError>| {
            let (bytes, per_cpu) = entry.map_err(|e| {
                Error::new(
                    text!("read {object}", "读取{object}"),
                    text!("the drop counts", "丢包计数"),
                    Phrase::same(e.to_string()),
                )
            })?;
            Ok((bytes, per_cpu.iter().sum()))
        };
        let counts = self.counts.iter().map(entry).collect::<Result<_>>()?;
        Ok(Counted { counts, signals: self.signals.counts()?, lost: self.losses()? })
    }

    /// What the tracer itself lost since it was attached, in the order of [`Counted::lost`].
    fn losses(&self) -> Result<[u64; 3]> {
        Ok([self.lost(LOSS_SHAPE)?, self.lost(LOSS_RING)?, self.skipped().into_iter().sum()])
    }

    fn lost(&self, index: u32) -> Result<u64> {
        let per_cpu = self.losses.get(&index, 0);
        per_cpu.map(|values| values.iter().sum()).map_err(|e| {
            Error::new(
                text!("read {object}", "读取{object}"),
                text!("the tracer's losses", "追踪器自身的遗漏数"),
                Phrase::same(e.to_string()),
            )
        })
    }
}

impl Source for BpfSource {
    fn poll(&mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<()> {
        let offset = clock_offset();
        for _ in 0..PER_POLL {
            let Some(sample) = self.ring.next().and_then(|bytes| Sample::parse(&bytes)) else { break };
            let event = self.event(sample, offset);
            sink(event);
        }
        Ok(())
    }

    fn counts(&mut self) -> Result<Vec<DropCount>> {
        let now = self.counted()?;
        Ok(self.rows(&now))
    }

    fn restart(&mut self) -> Result<()> {
        self.baseline = self.counted()?;
        while self.ring.next().is_some() {}
        Ok(())
    }

    fn hold(&mut self) -> Result<()> {
        self.held = Some(self.counted()?);
        Ok(())
    }

    fn finish(&mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<Totals> {
        self.attached = None;
        self.poll(sink)?;
        let now = match self.held.take() {
            Some(held) => held,
            None => self.counted()?,
        };
        let [_, unsampled, skipped] = now.lost_since(&self.baseline);
        Ok(Totals {
            counts: self.rows(&now),
            lost: skipped + unsampled,
            missing: [self.names.failed(), self.signals.unwatched.clone()].concat(),
            signals: signals::since(now.signals, &self.baseline.signals),
        })
    }
}

/// The types that the program mentions, and the reasons. What they are found in is gone before anything is loaded.
fn kernel_types() -> Result<(Btf, Reasons)> {
    let fail = |reason: Phrase| {
        Error::new(
            text!("read {object}", "读取{object}"),
            text!("the types of the kernel (BTF)", "内核类型信息（BTF）"),
            reason,
        )
    };
    let kernel = Blob::read("vmlinux")?;
    let cut = kernel
        .for_program(OBJECT, &[&format!("btf_trace_{TRACEPOINT}")])
        .ok_or_else(|| fail(text!("it contradicts itself", "其内容自相矛盾").phrase()))?;
    let reasons = Reasons::of(&kernel);
    drop(kernel);
    let btf = Btf::parse(&cut, Endianness::default()).map_err(|e| fail(Phrase::same(e.to_string())))?;
    Ok((btf, reasons))
}

fn attach(ebpf: &mut Ebpf, step: Step, btf: &Btf) -> std::result::Result<OwnedFd, ProgramError> {
    let name = if step == Step::TpBtf { "drop_tp_btf" } else { "drop_raw_tp" };
    let program = ebpf.program_mut(name).ok_or(ProgramError::UnexpectedProgramType)?;
    if step == Step::TpBtf {
        let program: &mut BtfTracePoint = program.try_into()?;
        program.load(TRACEPOINT, btf)?;
        program.attach()?;
    } else {
        let program: &mut RawTracePoint = program.try_into()?;
        program.load()?;
        program.attach(TRACEPOINT)?;
    }
    let fd = program.fd()?.as_fd().try_clone_to_owned();
    fd.map_err(ProgramError::IOError)
}

/// Inodes of network namespaces fit into 32 bits in the kernel (struct ns_common).
fn fill_targets(ebpf: &mut Ebpf, netns: &[u64]) -> Result<()> {
    let fail = |reason: Phrase| {
        Error::new(
            text!("fill {object}", "填写 {object}"),
            text!("the BPF map targets", "BPF 映射 targets"),
            reason,
        )
    };
    let map = ebpf
        .map_mut("targets")
        .ok_or_else(|| fail(text!("not in the object", "目标文件中没有它").phrase()))?;
    let mut targets =
        BpfHashMap::<_, u32, u8>::try_from(map).map_err(|e| fail(Phrase::same(e.to_string())))?;
    for &inode in netns {
        let inode = u32::try_from(inode).map_err(|e| fail(Phrase::same(e.to_string())))?;
        targets.insert(inode, 1, 0).map_err(|e| fail(Phrase::same(e.to_string())))?;
    }
    Ok(())
}

/// The kernel's types were some MiB in small pieces, which glibc would keep for the rest of the run.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and only releases memory that nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Kernels before 5.11 charge maps to RLIMIT_MEMLOCK. If it cannot be raised the load itself will say so.
fn raise_memlock() {
    let hard = getrlimit(Resource::Memlock).maximum;
    if setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_err() {
        let _ = setrlimit(Resource::Memlock, Rlimit { current: hard, maximum: hard });
    }
}

fn load_error(error: &EbpfError) -> Error {
    match error {
        EbpfError::ProgramError(error) => program_error(error),
        _ => refused(error),
    }
}

fn program_error(error: &ProgramError) -> Error {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let mut refused = Error::io(text!("load {object}", "加载 {object}"), NEEDS, io_error);
        // The verifier's verdict stands last; before it come thousands of lines of its way there.
        let log = verifier_log.to_string();
        if let Some(verdict) = log.lines().rev().find(|l| !l.is_empty() && !l.starts_with("processed ")) {
            refused = refused.with_detail(verdict);
        }
        return refused;
    }
    refused(error)
}

/// The first system call that failed somewhere below, else the error's own words.
fn refused(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return Error::io(text!("load {object}", "加载 {object}"), NEEDS, io);
        }
        cause = inner.source();
    }
    Error::new(text!("load {object}", "加载 {object}"), NEEDS, Phrase::same(error.to_string()))
}
