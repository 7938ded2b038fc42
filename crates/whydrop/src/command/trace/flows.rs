//! Who suffers, live: a line for each conversation in trouble when more goes wrong with it.

use super::Targets;
use crate::settings::lang;
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};
use whydrop_checks::live;
use whydrop_model::report::SufferingFlow;
use whydrop_model::shell::sanitize;
use whydrop_model::{FlowLog, text};
use whydrop_report::text::flows;

/// How often the kernel's account is read: its table may be long.
const EVERY: Duration = Duration::from_secs(1);

/// Who, and to whom.
type Key = (String, String, String, String);

/// What was told so far.
pub struct Flows<'a> {
    targets: &'a Targets,
    json: bool,
    due: Instant,
    told: BTreeMap<Key, u64>,
}

impl<'a> Flows<'a> {
    /// Nothing was told yet.
    pub fn new(targets: &'a Targets, json: bool) -> Self {
        Self { targets, json, due: Instant::now() + EVERY, told: BTreeMap::new() }
    }

    /// True if it is time to look again.
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// Writes those with which more went wrong than was told.
    pub fn show(&mut self, log: &FlowLog, out: &mut dyn Write) -> Result<()> {
        self.due = Instant::now() + EVERY;
        for flow in live::flows(log, |inode| self.targets.by_inode(Some(inode))) {
            let key = (flow.target.clone(), flow.protocol.clone(), flow.local.clone(), flow.remote.clone());
            let harm = harm(&flow);
            if self.told.insert(key, harm).is_none_or(|told| told < harm) {
                self.write(&flow, out)?;
            }
        }
        Ok(())
    }

    fn write(&self, flow: &SufferingFlow, out: &mut dyn Write) -> Result<()> {
        let time = jiff::Timestamp::now();
        if self.json {
            serde_json::to_writer(&mut *out, &json!({ "time": time.to_string(), "flow": flow }))?;
            return Ok(writeln!(out)?);
        }
        let name = self.targets.0.values().find(|target| target.id == flow.target);
        let name = name.map_or_else(|| "?".to_owned(), |target| sanitize(&target.name, 40));
        let clock = time.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S");
        let label = text!("flow", "会话").get(lang());
        Ok(writeln!(out, "{clock}  {label}  {}", flows::line(&name, flow, lang()))?)
    }
}

fn harm(flow: &SufferingFlow) -> u64 {
    let trouble = &flow.trouble;
    let errors: u64 = trouble.errors.values().sum();
    trouble.refused + trouble.unanswered + trouble.reset + trouble.retransmitted + errors
}
