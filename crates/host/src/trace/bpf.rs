//! The first two steps of the ladder: the BPF program of `bpf/drops.bpf.c`, attached as tp_btf or as raw_tp.

use super::btf::Blob;
use super::calls::{self, Calls};
use super::flows::Flows;
use super::layout::{SHAPE_BYTES, Sample, Shape};
use super::loader;
use super::losses::{Losses, Lost};
use super::maps;
use super::names::Names;
use super::reasons::{self, Reasons};
use super::signals::Signals;
use super::tracepoints::{self, Attached};
use super::{Source, Step, Totals, TraceOptions, clock_offset, monotonic_ns, packet};
use crate::error::{Error, Result};
use crate::sys::memory;
use aya::maps::{HashMap as BpfHashMap, Map, MapData, MapError, PerCpuHashMap, PerCpuValues, RingBuf};
use aya::programs::{BtfTracePoint, ProgramError, RawTracePoint};
use aya::{Btf, Ebpf, EbpfError, Endianness, include_bytes_aligned};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use whydrop_model::drops::Signal;
use whydrop_model::{DropCount, DropEvent, FlowLog, Phrase, Reading, Text, text};

/// Compiled from `bpf/` by `cargo xtask bpf`; CI compares the hash of its sources.
pub(super) static OBJECT: &[u8] = include_bytes_aligned!("../../bpf/drops.bpf.o");
/// What is loaded, with what it needs, for errors.
const NEEDS: Text = text!(
    "the BPF program (CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN)",
    "BPF 程序（需要 CAP_BPF 与 CAP_PERFMON，或 CAP_SYS_ADMIN）"
);
const TRACEPOINT: &str = "kfree_skb";
/// Samples taken from the ring in one poll, so that a storm cannot hold the caller.
const PER_POLL: usize = 16_384;
/// Shapes of drops that are counted apart; each takes some 100 bytes and 8 more per CPU.
const FEWEST_SHAPES: usize = 4096;
const SHAPES_PER_NETNS: usize = 16;
const MOST_SHAPES: usize = 65_536;
/// Signals that are counted apart, by namespace and interface.
const FEWEST_SIGNALS: usize = 1024;
const SIGNALS_PER_NETNS: usize = 8;
/// Conversations that are counted apart, of some 400 bytes each.
const FEWEST_FLOWS: usize = 4096;
const FLOWS_PER_NETNS: usize = 64;
const MOST_FLOWS: usize = 16_384;

/// A loaded and attached program with its maps.
pub struct BpfSource {
    /// Detaches when dropped.
    attached: Ebpf,
    ring: RingBuf<MapData>,
    counts: PerCpuHashMap<MapData, [u8; SHAPE_BYTES], u64>,
    losses: Losses,
    names: Names,
    signals: Signals,
    flows: Option<Flows>,
    /// What the programs had lost when the count began.
    lost_before: Lost,
    /// What had been counted when it ended, if it has, and when that was (CLOCK_MONOTONIC).
    held: Option<(u64, Counted)>,
    /// Names of interfaces as samples showed them: by namespace and index.
    interfaces: HashMap<(Option<u64>, u32), String>,
}

/// The kernel's counts, which rise from the begin of a window on, at one moment.
#[derive(Default)]
struct Counted {
    counts: HashMap<[u8; SHAPE_BYTES], u64>,
    signals: Vec<Signal>,
    lost: Lost,
}

impl BpfSource {
    /// Loads and attaches; `step` says how.
    pub fn start(step: Step, options: &TraceOptions) -> Result<Self> {
        raise_memlock();
        let mut names = Names::start(options.owners);
        let only_targets = u8::from(!options.netns.is_empty());
        let with_stack = u8::from(options.stacks);
        let Types { btf, reasons, reset_reasons } = kernel_types()?;
        names.reasons = reasons;
        let mut ebpf = loader::without_types()
            .btf(Some(&btf))
            .override_global("only_targets", &only_targets, true)
            .override_global("with_stack", &with_stack, true)
            .override_global("watched_calls", &calls::numbers(), true)
            .map_max_entries("targets", sized(options, 1, 1, usize::MAX))
            .map_max_entries("counts", sized(options, FEWEST_SHAPES, SHAPES_PER_NETNS, MOST_SHAPES))
            .map_max_entries("signals", sized(options, FEWEST_SIGNALS, SIGNALS_PER_NETNS, usize::MAX))
            .map_max_entries("flows", flows_kept(options))
            .load(OBJECT)
            .map_err(|e| load_error(&e))?;
        fill_targets(&mut ebpf, &options.netns)?;
        let program = attach(&mut ebpf, step, &btf).map_err(|e| program_error(&e))?;
        let mut attached = Attached::default();
        attached.raw(&mut ebpf, tracepoints::RETRANSMIT);
        tracepoints::SIGNALS.into_iter().for_each(|signal| attached.raw(&mut ebpf, signal));
        let unwatched = attached.unwatched();
        if options.flows {
            attached.states(&mut ebpf, step, &btf);
            tracepoints::FLOWS.into_iter().for_each(|signal| attached.raw(&mut ebpf, signal));
        }
        let mut take = |name: &str| take(&mut ebpf, name);
        let map_error = |e: aya::maps::MapError| {
            Error::new(
                text!("open {object}", "打开 {object}"),
                text!("a BPF map", "BPF 映射"),
                Phrase::same(e.to_string()),
            )
        };
        // The kernel's types were some MiB in small pieces.
        drop(btf);
        memory::give_back();
        Ok(Self {
            ring: RingBuf::try_from(take("samples")?).map_err(map_error)?,
            counts: PerCpuHashMap::try_from(take("counts")?).map_err(map_error)?,
            signals: Signals::new(take("signals")?, unwatched)?,
            flows: if options.flows {
                let maps = [take("flows")?, take("folded_flows")?, take("repeats")?, take("troubled")?];
                Some(Flows::new(maps, &attached, reset_reasons)?)
            } else {
                None
            },
            losses: Losses::new(take("losses")?, program, attached.programs)?,
            attached: ebpf,
            names,
            lost_before: Lost::default(),
            held: None,
            interfaces: HashMap::new(),
        })
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
            row.drops += total;
        }
        let drops = now.lost.since(&self.lost_before).nameless_drops();
        let other = DropCount { reason: super::OTHER.to_owned(), drops, ..DropCount::default() };
        rows.into_values().chain([other]).filter(|row| row.drops > 0).collect()
    }

    /// What was counted since the maps were emptied, and lost since the programs were attached.
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
        Ok(Counted { counts, signals: self.signals.counts()?, lost: self.losses.now()? })
    }
}

impl Source for BpfSource {
    fn poll(&mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<()> {
        let offset = clock_offset();
        for _ in 0..PER_POLL {
            let Some(sample) = self.ring.next().and_then(|bytes| Sample::parse(&bytes)) else { break };
            // The counts of its end are read already: a later sample would be a drop beyond them.
            if self.held.as_ref().is_some_and(|(ended_ns, _)| sample.monotonic_ns > *ended_ns) {
                continue;
            }
            let event = self.event(sample, offset);
            sink(event);
        }
        if let Some(flows) = &mut self.flows {
            flows.poll();
        }
        Ok(())
    }

    fn counts(&mut self) -> Result<Vec<DropCount>> {
        let now = self.counted()?;
        Ok(self.rows(&now))
    }

    fn flows(&mut self) -> Result<Option<FlowLog>> {
        self.flows.as_ref().map(Flows::so_far).transpose()
    }

    fn restart(&mut self) -> Result<()> {
        maps::empty_per_cpu(&mut self.counts).map_err(|e| {
            Error::new(
                text!("empty {object}", "清空{object}"),
                text!("the drop counts", "丢包计数"),
                Phrase::same(e.to_string()),
            )
        })?;
        self.signals.restart()?;
        self.flows.as_mut().map_or(Ok(()), Flows::restart)?;
        while self.ring.next().is_some() {}
        // An index may be another interface's by now.
        self.interfaces.clear();
        self.lost_before = self.losses.now()?;
        self.held = None;
        Ok(())
    }

    fn watch_calls(&mut self) -> Result<()> {
        let Some(flows) = &mut self.flows else { return Ok(()) };
        let ebpf = &mut self.attached;
        let mut attached = Attached::default();
        attached.raw(ebpf, tracepoints::CALLS);
        flows.calls = match attached.state.get(tracepoints::CALLS.0) {
            Some(Reading::Present(())) => Reading::Present(Calls::new(take(ebpf, "calls")?)?),
            Some(Reading::Absent(why) | Reading::Failed(why)) => Reading::Failed(why.clone()),
            Some(Reading::Denied(needs)) => Reading::Denied(needs.clone()),
            None => return Ok(()),
        };
        self.losses.also_calls(attached.programs);
        Ok(())
    }

    fn hold(&mut self) -> Result<()> {
        let ended_ns = monotonic_ns();
        self.held = Some((ended_ns, self.counted()?));
        self.flows.as_mut().map_or(Ok(()), Flows::hold)
    }

    fn totals(&mut self, sink: &mut dyn FnMut(DropEvent)) -> Result<Totals> {
        self.poll(sink)?;
        let now = match &mut self.held {
            Some((_, held)) => std::mem::take(held),
            None => self.counted()?,
        };
        let lost = now.lost.since(&self.lost_before);
        let mut missing = [self.names.failed(), self.signals.unwatched.clone()].concat();
        if lost.signals() > 0 {
            missing.push(format!("{} signals found no room to be counted", lost.signals()));
        }
        Ok(Totals {
            counts: self.rows(&now),
            counts_lost: lost.nameless_drops() + lost.skipped_drops(),
            samples_lost: lost.samples(),
            missing,
            signals: now.signals,
            flows: self.flows.as_mut().map(|flows| flows.totals(&lost)).transpose()?,
        })
    }
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).ok_or_else(|| {
        Error::new(
            text!("find {object}", "找到 {object}"),
            text!("the BPF map {name}", "BPF 映射 {name}").fill(&[("name", &name)]),
            text!("not in the object", "目标文件中没有它").phrase(),
        )
    })
}

/// Entries of a map: so many for each namespace, within limits.
fn sized(options: &TraceOptions, fewest: usize, per_netns: usize, most: usize) -> u32 {
    let wanted = options.netns.len().saturating_mul(per_netns).clamp(fewest, most);
    u32::try_from(wanted).unwrap_or(u32::MAX)
}

/// A map cannot be without entries, but where nobody asks for conversations one is enough.
fn flows_kept(options: &TraceOptions) -> u32 {
    if options.flows { sized(options, FEWEST_FLOWS, FLOWS_PER_NETNS, MOST_FLOWS) } else { 1 }
}

/// What is known of the running kernel's types.
struct Types {
    btf: Btf,
    reasons: Reasons,
    reset_reasons: HashMap<u32, String>,
}

/// The types that the program mentions, and the reasons. What they are found in is gone before anything is loaded.
fn kernel_types() -> Result<Types> {
    let fail = |reason: Phrase| {
        Error::new(
            text!("read {object}", "读取{object}"),
            text!("the types of the kernel (BTF)", "内核类型信息（BTF）"),
            reason,
        )
    };
    let kernel = Blob::read("vmlinux")?;
    let cut = kernel
        .for_program(
            OBJECT,
            &[TRACEPOINT, tracepoints::name(tracepoints::STATES)]
                .map(trace_type)
                .each_ref()
                .map(String::as_str),
        )
        .ok_or_else(|| fail(text!("it contradicts itself", "其内容自相矛盾").phrase()))?;
    let (reasons, reset_reasons) = (Reasons::of(&kernel), reasons::of_resets(&kernel));
    drop(kernel);
    let btf = Btf::parse(&cut, Endianness::default()).map_err(|e| fail(Phrase::same(e.to_string())))?;
    Ok(Types { btf, reasons, reset_reasons })
}

/// The type by which the kernel knows the arguments of a tracepoint.
fn trace_type(tracepoint: &str) -> String {
    format!("btf_trace_{tracepoint}")
}

/// Attaches both programs of drops and gives the second, of which the kernel tells what it skipped.
fn attach(ebpf: &mut Ebpf, step: Step, btf: &Btf) -> std::result::Result<OwnedFd, ProgramError> {
    let [inner, outer] =
        if step == Step::TpBtf { ["inner_tp_btf", "drop_tp_btf"] } else { ["inner_raw_tp", "drop_raw_tp"] };
    attach_drops(ebpf, step, btf, inner)?;
    attach_drops(ebpf, step, btf, outer)
}

fn attach_drops(
    ebpf: &mut Ebpf,
    step: Step,
    btf: &Btf,
    name: &str,
) -> std::result::Result<OwnedFd, ProgramError> {
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

/// Kernels before 5.11 charge maps to RLIMIT_MEMLOCK. If it cannot be raised the load itself will say so.
pub(super) fn raise_memlock() {
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
