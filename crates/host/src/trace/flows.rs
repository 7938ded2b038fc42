//! What the kernel told of conversations: the maps of `bpf/flows.bpf.h`, read and put together.

use super::calls::Calls;
use super::flow_layout::{COUNTS, ERRORS, FLOW_BYTES, Flow, KEY_BYTES, Key, Kind, error_name, repeat};
use super::losses::Lost;
use super::maps;
use super::owner::{Owners, program};
use super::tracepoints::Attached;
use super::{clock_offset, monotonic_ns};
use crate::error::{Error, Result};
use aya::maps::{Array, HashMap as BpfHashMap, Map, MapData, MapError, RingBuf};
use std::collections::{BTreeMap, HashMap};
use whydrop_model::drops::SocketOwner;
use whydrop_model::flow::{Closed, Conversation, FlowDirection, IcmpSent, Repeat, Signal};
use whydrop_model::{FlowLog, Phrase, Reading, Text, text};

/// Repeated segments that are kept: about 1 MiB.
const MOST_REPEATS: usize = 8192;
/// Records taken from the ring in one poll, so that a storm cannot hold the caller.
const PER_POLL: usize = 4096;
const MAPS: Text = text!("the BPF maps of conversations", "会话的 BPF 映射");

/// The maps, and what was taken from the ring so far.
pub struct Flows {
    kept: BpfHashMap<MapData, [u8; KEY_BYTES], [u8; FLOW_BYTES]>,
    folded: BpfHashMap<MapData, [u8; KEY_BYTES], [u8; FLOW_BYTES]>,
    ring: RingBuf<MapData>,
    /// What conversations in trouble may still take of samples.
    troubled: Array<MapData, u8>,
    signals: BTreeMap<String, Reading<()>>,
    reset_reasons: HashMap<u32, String>,
    repeats: Vec<Repeat>,
    /// Of `repeats`, what was left out here.
    left_out: u64,
    /// CLOCK_MONOTONIC when counting began.
    began_ns: u64,
    held: Option<BTreeMap<[u8; KEY_BYTES], Flow>>,
    /// Failed system calls, if they are watched; else why not.
    pub calls: Reading<Calls>,
}

impl Flows {
    /// Takes the maps.
    pub fn new(
        [kept, folded, ring, troubled]: [Map; 4],
        attached: &Attached,
        reset_reasons: HashMap<u32, String>,
    ) -> Result<Self> {
        let fail = |e: MapError| map_error(text!("open {object}", "打开{object}"), &e);
        Ok(Self {
            kept: BpfHashMap::try_from(kept).map_err(fail)?,
            folded: BpfHashMap::try_from(folded).map_err(fail)?,
            ring: RingBuf::try_from(ring).map_err(fail)?,
            troubled: Array::try_from(troubled).map_err(fail)?,
            signals: Signal::ALL.iter().filter_map(|signal| state(attached, signal.tracepoint())).collect(),
            reset_reasons,
            repeats: vec![],
            left_out: 0,
            began_ns: monotonic_ns(),
            held: None,
            calls: Reading::Absent("not asked for (--syscalls)".to_owned()),
        })
    }

    /// Takes what the ring holds, until nothing more is counted; never blocks.
    pub fn poll(&mut self) {
        if self.held.is_some() {
            return;
        }
        let offset = clock_offset();
        for _ in 0..PER_POLL {
            let Some(bytes) = self.ring.next() else { break };
            match repeat(&bytes, offset) {
                Some(repeat) if self.repeats.len() < MOST_REPEATS => self.repeats.push(repeat),
                Some(_) | None => self.left_out += 1,
            }
        }
    }

    /// Counts from zero.
    pub fn restart(&mut self) -> Result<()> {
        self.empty().map_err(|e| map_error(text!("empty {object}", "清空{object}"), &e))?;
        self.held = None;
        self.began_ns = monotonic_ns();
        while self.ring.next().is_some() {}
        self.repeats.clear();
        self.left_out = 0;
        if let Reading::Present(calls) = &mut self.calls {
            calls.restart()?;
        }
        Ok(())
    }

    /// Forgets all conversations. Only those can have marked trouble, and there are many marks.
    fn empty(&mut self) -> std::result::Result<(), MapError> {
        let (kept, folded) = (maps::empty(&mut self.kept)?, maps::empty(&mut self.folded)?);
        if kept || folded {
            (0..self.troubled.len()).try_for_each(|mark| self.troubled.set(mark, 0, 0))?;
        }
        Ok(())
    }

    /// Counts nothing more.
    pub fn hold(&mut self) -> Result<()> {
        self.poll();
        self.held = Some(self.counted()?);
        if let Reading::Present(calls) = &mut self.calls {
            calls.hold()?;
        }
        Ok(())
    }

    fn counted(&self) -> Result<BTreeMap<[u8; KEY_BYTES], Flow>> {
        let fail = |e: MapError| map_error(text!("read {object}", "读取{object}"), &e);
        let entries = self.kept.iter().chain(self.folded.iter());
        entries.map(|entry| entry.map(|(key, flow)| (key, Flow::parse(&flow))).map_err(fail)).collect()
    }

    /// What was seen so far, without the failed calls and the repeated segments.
    pub fn so_far(&self) -> Result<FlowLog> {
        Ok(self.told(self.counted()?, &mut Owners::default()))
    }

    fn told(&self, now: BTreeMap<[u8; KEY_BYTES], Flow>, owners: &mut Owners) -> FlowLog {
        let mut log = FlowLog::new(self.signals.clone());
        let mut builder = Builder {
            owners,
            offset: clock_offset(),
            began_ns: self.began_ns,
            reset_reasons: &self.reset_reasons,
        };
        for (bytes, flow) in now {
            let Some(key) = Key::parse(&bytes).filter(|_| !flow.is_still()) else { continue };
            match key.kind {
                Kind::Flow(direction) => log.conversations.push(builder.conversation(&key, direction, &flow)),
                Kind::Icmp(kind, code) => log.icmp_sent.push(builder.icmp(&key, kind, code, &flow)),
            }
        }
        log
    }

    /// What was seen in the window.
    pub fn totals(&mut self, lost: &Lost) -> Result<FlowLog> {
        let now = match &mut self.held {
            Some(held) => std::mem::take(held),
            None => self.counted()?,
        };
        let mut owners = Owners::default();
        let mut log = self.told(now, &mut owners);
        log.calls = match &mut self.calls {
            Reading::Present(calls) => Reading::Present(calls.totals(&mut owners)?),
            Reading::Absent(why) => Reading::Absent(why.clone()),
            Reading::Denied(needs) => Reading::Denied(needs.clone()),
            Reading::Failed(error) => Reading::Failed(error.clone()),
        };
        log.repeats = std::mem::take(&mut self.repeats);
        log.not_kept = lost.folded();
        log.lost = lost.events() + lost.calls();
        log.repeats_not_sampled = lost.repeats() + self.left_out;
        log.calls_unseen = lost.calls_unseen();
        Ok(log)
    }
}

/// Puts the entries of the log together.
struct Builder<'a> {
    owners: &'a mut Owners,
    offset: u64,
    began_ns: u64,
    reset_reasons: &'a HashMap<u32, String>,
}

impl Builder<'_> {
    fn conversation(&mut self, key: &Key, direction: FlowDirection, flow: &Flow) -> Conversation {
        // In the order of `enum flow_count`.
        let [
            attempts,
            established,
            failed,
            abandoned,
            unsent,
            reset_received,
            reset_sent,
            syn_repeats,
            synack_repeats,
            data_repeats,
            tail_probes,
            connections,
            segments,
            data_segments,
            repeated,
            needless,
            unanswered,
            wordless,
            _icmp,
        ]: [u64; COUNTS] = flow.counts;
        let is_folded = key.local.ip().is_unspecified() && key.remote.ip().is_unspecified();
        let reason = || self.reset_reasons.get(&flow.reset_reason).cloned();
        let reset_reason = if reset_sent > 0 { reason() } else { None };
        let caller = flow.caller.as_ref().filter(|_| attempts > 0 && !is_folded);
        let owner = caller.map(|(cgroup, pid, comm)| SocketOwner {
            pid: Some(*pid),
            comm: Some(comm.clone()),
            cgroup: self.owners.find(None, Some(*cgroup)).and_then(|owner| owner.cgroup),
        });
        let program = caller.and_then(|(_, pid, comm)| program(*pid, comm));
        let nameless = error_name(flow.other_error);
        let names = ERRORS.into_iter().chain([nameless.as_str()]);
        let errors = names.zip(flow.errors).filter(|(_, n)| *n > 0);
        Conversation {
            netns_inode: key.netns,
            protocol: key.protocol,
            direction,
            local: key.local,
            remote: key.remote,
            uid: (direction == FlowDirection::Out && !is_folded).then_some(key.uid),
            owner,
            program,
            attempts,
            established,
            failed,
            abandoned,
            unsent,
            reset_received,
            reset_sent,
            reset_reason,
            syn_repeats,
            synack_repeats,
            data_repeats,
            tail_probes,
            closed: Closed { connections, segments, data_segments, repeated, needless, unanswered, wordless },
            errors: errors.map(|(name, n)| (name.to_owned(), n)).collect(),
            first_ns: flow.first_ns.max(self.began_ns).wrapping_add(self.offset),
            last_ns: flow.last_ns.max(self.began_ns).wrapping_add(self.offset),
        }
    }

    fn icmp(&self, key: &Key, kind: u8, code: u8, flow: &Flow) -> IcmpSent {
        let [.., count] = flow.counts;
        IcmpSent {
            netns_inode: key.netns,
            kind,
            code,
            protocol: key.protocol,
            source: key.local.ip(),
            destination: key.remote,
            count,
            last_ns: flow.last_ns.wrapping_add(self.offset),
        }
    }
}

fn state(attached: &Attached, tracepoint: &str) -> Option<(String, Reading<()>)> {
    attached.state.get_key_value(tracepoint).map(|(name, state)| (name.clone(), state.clone()))
}

fn map_error(operation: Text, error: &MapError) -> Error {
    Error::new(operation, MAPS, Phrase::same(error.to_string()))
}
