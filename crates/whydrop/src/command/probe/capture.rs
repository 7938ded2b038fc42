//! `--pcap`: the probes and their answers as a capture file that everything reads.

use crate::failure::Refusal;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use whydrop_host::output;
use whydrop_model::text;
use whydrop_probe::progress::Event;

/// A pcap file with nanosecond stamps (magic 0xa1b23c4d) and link type RAW: packets start at their IP header.
#[derive(Debug)]
pub struct Capture {
    out: BufWriter<File>,
    failed: Option<std::io::Error>,
    path: String,
}

const LINKTYPE_RAW: u32 = 101;
/// Longest packet that is kept.
const SNAP: usize = 65535;

impl Capture {
    /// Begins the file.
    pub fn create(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let mut out = BufWriter::new(output::create(path)?);
        for word in [0xa1b2_3c4d, 2 | 4 << 16, 0, 0, SNAP as u32, LINKTYPE_RAW] {
            out.write_all(&u32::to_ne_bytes(word)).with_context(|| failed(&shown))?;
        }
        Ok(Self { out, failed: None, path: shown })
    }

    /// Adds a packet; other events are passed over. An error is told at the end.
    pub fn add(&mut self, event: &Event) {
        if let (Event::Packet { wall_ns, bytes }, None) = (event, &self.failed) {
            self.failed = self.packet(*wall_ns, bytes).err();
        }
    }

    fn packet(&mut self, wall_ns: u64, bytes: &[u8]) -> std::io::Result<()> {
        let kept = bytes.get(..SNAP).unwrap_or(bytes);
        let (seconds, nanos) = (wall_ns / 1_000_000_000, wall_ns % 1_000_000_000);
        for word in [seconds, nanos, kept.len() as u64, bytes.len() as u64] {
            self.out.write_all(&(word as u32).to_ne_bytes())?;
        }
        self.out.write_all(kept)
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<()> {
        let result = match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        };
        result.with_context(|| failed(&self.path))
    }
}

fn failed(path: &str) -> Refusal {
    Refusal::new(text!("cannot write {path}", "无法写入 {path}").fill(&[("path", &path)]))
}
