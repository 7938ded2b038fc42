//! Events beside the drops: retransmissions, full queues, exceptions of XDP programs, traps of switch hardware.

use super::maps;
use super::tracepoints::{self, SIGNALS};
use crate::error::{Error, Result};
use aya::maps::{Map, MapData, PerCpuHashMap};
use whydrop_model::{Phrase, Text, drops::Signal, text};

/// Tracepoints in the order of `enum signal` in bpf/drops.h.
const TRACEPOINTS: [&str; 5] =
    [tracepoints::RETRANSMIT.0, SIGNALS[0].0, SIGNALS[1].0, SIGNALS[2].0, SIGNALS[3].0];
/// Bytes of `struct signal_key`.
const KEY_BYTES: usize = 12;
const MAP: Text = text!("the BPF map signals", "BPF 映射 signals");

/// Counts of signals.
pub struct Signals {
    map: PerCpuHashMap<MapData, [u8; KEY_BYTES], u64>,
    /// Signals that are not watched, each with the reason.
    pub unwatched: Vec<String>,
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

    /// Counts from zero.
    pub fn restart(&mut self) -> Result<()> {
        let fail = |e: aya::maps::MapError| {
            Error::new(text!("empty {object}", "清空 {object}"), MAP, Phrase::same(e.to_string()))
        };
        maps::empty_per_cpu(&mut self.map).map(drop).map_err(fail)
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
