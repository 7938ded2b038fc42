//! What was dropped in all: every drop, sampled or not.

use super::{Targets, class_word};
use crate::settings::lang;
use anyhow::Result;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use whydrop_facts::Class;
use whydrop_facts::place::{self, Place};
use whydrop_host::trace::Step;
use whydrop_model::shell::{quote, sanitize};
use whydrop_model::{DropCount, DropEvent, DropLog, Text, text};
use whydrop_report::layout::{pad, width};

/// Rows that a person reads; the rest is one line. JSON has all.
const SHOWN: usize = 20;
/// Columns of numbers, classes and stages.
const DROPS: usize = 10;
const CLASS: usize = 6;
const STAGE: usize = 20;

/// The sum of a trace.
pub struct Summary<'a> {
    log: &'a DropLog,
    step: Step,
    sampled: u64,
    rows: Vec<Row<'a>>,
    targets: &'a Targets,
}

struct Row<'a> {
    target: Option<&'a str>,
    name: &'a str,
    reason: &'a str,
    function: &'a str,
    place: Place,
    drops: u64,
}

/// Target, reason, function, cause, class.
type Key<'a> = (Option<&'a str>, &'a str, &'a str, Option<&'a str>, &'a str);

/// What samples told of the places of a kind of drop. Counts have neither stack nor packet, hence no netfilter hook and
/// no rule; where all samples of a kind died in one hook, or of one cause, the count is taken to have done so, too.
#[derive(Default)]
pub struct Places(HashMap<(Option<u64>, String, String), Agreed>);

/// None where samples differ.
struct Agreed {
    stage: Option<&'static str>,
    cause: Option<Option<&'static str>>,
}

impl Places {
    /// Learns from a sampled drop.
    pub fn learn(&mut self, event: &DropEvent, place: &Place) {
        let key = (event.netns_inode, event.reason.clone(), event.function.clone());
        let known = Agreed { stage: Some(place.stage), cause: Some(place.cause) };
        let known = self.0.entry(key).or_insert(known);
        known.stage = known.stage.filter(|stage| *stage == place.stage);
        known.cause = known.cause.filter(|cause| *cause == place.cause);
    }

    /// The place of what was only counted.
    fn of(&self, count: &DropCount) -> Place {
        let place = place::of_count(count);
        let key = (count.netns_inode, count.reason.clone(), count.function.clone());
        let Some(known) = self.0.get(&key) else { return place };
        let cause = known.cause.unwrap_or(place.cause);
        Place { stage: known.stage.unwrap_or(place.stage), cause, ..place }
    }
}

impl<'a> Summary<'a> {
    /// Adds up what differs only in interface, protocol or direction; the largest first.
    pub fn new(log: &'a DropLog, step: Step, sampled: u64, targets: &'a Targets, places: &Places) -> Self {
        let mut rows: BTreeMap<Key<'_>, Row<'_>> = BTreeMap::new();
        for count in &log.counts {
            let target = targets.by_inode(count.netns_inode);
            let place = places.of(count);
            let id = target.map(|target| target.id.as_str());
            rows.entry((id, &count.reason, &count.function, place.cause, place.class.id()))
                .or_insert(Row {
                    target: id,
                    name: target.map_or("?", |target| target.name.as_str()),
                    reason: &count.reason,
                    function: &count.function,
                    place,
                    drops: 0,
                })
                .drops += count.drops;
        }
        let mut rows: Vec<_> = rows.into_values().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.drops));
        Self { log, step, sampled, rows, targets }
    }

    fn drops(&self) -> u64 {
        self.rows.iter().map(|row| row.drops).sum()
    }

    /// The last line of `trace --json`.
    pub fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        let by = self.rows.iter().map(|row| {
            json!({
                "target": row.target, "reason": row.reason, "function": row.function, "class": row.place.class.id(),
                "cause": row.place.cause, "stage": row.place.stage, "drops": row.drops,
            })
        });
        let signals = self.log.signals.iter().map(|signal| {
            let target = self.targets.by_inode(signal.netns_inode).map(|target| &target.id);
            json!({ "target": target, "name": signal.name, "count": signal.count })
        });
        let summary = json!({ "summary": {
            "seconds": self.log.seconds, "drops": self.drops(), "sampled": self.sampled,
            "tracer_lost": self.log.tracer_lost, "step": self.step.word(), "by": by.collect::<Vec<_>>(),
            "signals": signals.collect::<Vec<_>>(),
        }});
        serde_json::to_writer(&mut *out, &summary)?;
        Ok(writeln!(out)?)
    }

    /// A table for people as in a report, and what to do next.
    pub fn write_text(&self, out: &mut dyn Write) -> Result<()> {
        let innocent = |row: &&Row<'_>| matches!(row.place.class, Class::Benign | Class::NotADrop);
        let harmless: u64 = self.rows.iter().filter(innocent).map(|row| row.drops).sum();
        let head = text!(
            "\n{drops} drops in {seconds} s, {harmless} of them harmless; {sampled} sampled, {lost} lost by the tracer",
            "\n{seconds} 秒内 {drops} 次丢弃，其中 {harmless} 次无害；采样 {sampled} 个，追踪器自身丢失 {lost} 个"
        );
        let seconds = format!("{:.1}", self.log.seconds);
        let head = head.fill(&[
            ("drops", &self.drops()),
            ("seconds", &seconds),
            ("harmless", &harmless),
            ("sampled", &self.sampled),
            ("lost", &self.log.tracer_lost),
        ]);
        writeln!(out, "{}", head.get(lang()))?;
        let shown = self.rows.get(..SHOWN).unwrap_or(&self.rows);
        let name = |row: &Row<'_>| sanitize(row.name, 40);
        let names = shown.iter().map(|row| width(&name(row))).max().unwrap_or(0);
        for row in shown {
            let class = pad(class_word(row.place.class), CLASS);
            let what = if row.reason.is_empty() { row.function } else { row.reason };
            let (name, stage) = (pad(&name(row), names), pad(row.place.stage, STAGE));
            writeln!(out, "{:>DROPS$}  {class}  {name}  {stage}  {what}", row.drops)?;
            let why = row.place.why;
            let why = match row.function {
                "" => why.phrase(),
                function => text!("{function}: {why}", "{function}：{why}")
                    .with(&[("function", &function.into()), ("why", &why.phrase())]),
            };
            writeln!(out, "{:DROPS$}  {}", "", why.get(lang()))?;
        }
        if let Some(rest) = self.rows.get(SHOWN..).filter(|rest| !rest.is_empty()) {
            let drops: u64 = rest.iter().map(|row| row.drops).sum();
            let more = text!("in {kinds} more kinds (--json has them)", "属于另外 {kinds} 种（见 --json）");
            writeln!(out, "{drops:>DROPS$}  {}", more.fill(&[("kinds", &rest.len())]).get(lang()))?;
        }
        for signal in &self.log.signals {
            let target = self.targets.by_inode(signal.netns_inode);
            let name = target.map_or_else(|| "?".into(), |target| sanitize(&target.name, 40));
            let what = meaning(&signal.name).get(lang());
            writeln!(out, "{:>DROPS$}  {name}  {}: {what}", signal.count, signal.name)?;
        }
        let worst = self.rows.iter().find(|row| !innocent(row)).and_then(|row| row.target);
        if let Some(target) = worst {
            let next = text!("\nNext  whydrop diagnose {target}", "\n下一步  whydrop diagnose {target}");
            writeln!(out, "{}", next.fill(&[("target", &quote(&sanitize(target, 200)))]).get(lang()))?;
        }
        Ok(())
    }
}

/// What a tracepoint beside the drops tells.
fn meaning(signal: &str) -> Text {
    match signal {
        "tcp:tcp_retransmit_skb" => text!("segments that TCP sent again", "TCP 重传的报文段"),
        "sock:sock_rcvqueue_full" => {
            text!("packets that met a full receive buffer", "遇到接收缓冲区已满的包")
        }
        "sock:sock_exceed_buf_limit" => {
            text!("times that a protocol reached its memory limit", "协议达到内存上限的次数")
        }
        "xdp:xdp_exception" => text!("packets on which an XDP program failed", "XDP 程序处理失败的包"),
        "devlink:devlink_trap_report" => text!("packets that the hardware trapped", "硬件捕获（trap）的包"),
        _ => text!("events", "事件"),
    }
}
