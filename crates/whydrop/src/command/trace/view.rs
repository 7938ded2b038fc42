//! Where drops go: lines on stdout, a capture file, and what a person should know beside them.

use super::filter::{Filter, Verdict};
use super::pace::{Pace, Withheld};
use super::summary::{Places, Summary};
use super::{Line, Targets, TraceArgs, json, line, pcapng};
use crate::settings::lang;
use anyhow::Result;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::time::{Duration, Instant};
use whydrop_checks::settings::Settings;
use whydrop_facts::place;
use whydrop_host::output;
use whydrop_host::trace::Step;
use whydrop_model::shell::sanitize;
use whydrop_model::{DropCount, DropEvent, text};

/// After so long without a drop a person wants to know what cannot be seen from here.
const SILENCE: Duration = Duration::from_secs(5);
/// Kinds that are named where drops are held back.
const NAMED: usize = 3;

/// Where lines go.
pub struct View<'a> {
    targets: &'a Targets,
    filter: &'a Filter,
    out: BufWriter<std::io::Stdout>,
    json: bool,
    style: line::Style,
    capture: Option<pcapng::Writer<BufWriter<File>>>,
    /// Drops that passed the filter or not, but were sampled.
    pub sampled: u64,
    /// What samples told of their places.
    pub places: Places,
    /// What is set in the targets.
    settings: Settings,
    /// On a terminal only: pipes get every sampled drop.
    pace: Option<Pace>,
    last_drop: Instant,
    silence_told: bool,
}

impl<'a> View<'a> {
    /// Opens the capture file and, on a terminal, writes the names of the columns.
    pub fn new(
        args: &TraceArgs,
        filter: &'a Filter,
        targets: &'a Targets,
        settings: Settings,
    ) -> Result<Self> {
        let capture = match &args.pcapng {
            Some(path) => Some(pcapng::Writer::new(BufWriter::new(output::create(path)?))?),
            None => None,
        };
        let style = line::Style {
            colour: args.color.stdout(),
            stack: args.stack,
            verbose: args.verbose,
            room: line::Room::of(line::columns()),
        };
        let mut out = BufWriter::new(std::io::stdout());
        let paced = !args.json && std::io::stdout().is_terminal();
        if paced {
            style.header(&mut out)?;
        }
        Ok(Self {
            targets,
            filter,
            out,
            json: args.json,
            capture,
            sampled: 0,
            places: Places::default(),
            settings,
            pace: paced.then(|| Pace::new(Instant::now(), style.lines())),
            style,
            last_drop: Instant::now(),
            silence_told: false,
        })
    }

    /// Takes one sampled drop.
    pub fn show(&mut self, event: &DropEvent) -> Result<()> {
        self.sampled += 1;
        let mut place = place::of_event(event);
        place.cause = self.settings.cause(event, &place);
        self.places.learn(event, &place);
        let line = Line { event, place, target: self.targets.by_inode(event.netns_inode) };
        match self.filter.judge(&line) {
            Verdict::Show => {}
            Verdict::Harmless => {
                self.pace.iter_mut().for_each(Pace::hide);
                return Ok(());
            }
            Verdict::Other => return Ok(()),
        }
        self.last_drop = Instant::now();
        if let Some(capture) = &mut self.capture {
            capture.write(&line)?;
        }
        if self.pace.as_mut().is_some_and(|pace| !pace.admits(event)) {
            return Ok(());
        }
        if self.json { json::write(&line, &mut self.out) } else { self.style.write(&line, &mut self.out) }
    }

    /// Where lines go.
    pub fn out(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// True if [`Self::tick`] will tell what was held back, and wants the counts for it. They are read before the
    /// samples are: a drop that is in them then has had its line.
    pub fn is_due(&self) -> bool {
        self.pace.as_ref().is_some_and(|pace| pace.is_due(Instant::now()))
    }

    /// After each poll: what was written becomes visible, and long silence is explained once.
    pub fn tick(&mut self, step: Step, counts: Option<&[DropCount]>) -> Result<()> {
        if let Some(counts) = counts {
            self.tell_withheld(counts)?;
        }
        self.out.flush()?;
        if self.silence_told || self.last_drop.elapsed() < SILENCE || !std::io::stderr().is_terminal() {
            return Ok(());
        }
        self.silence_told = true;
        let quiet = text!(
            "5 s, no drop; {step} cannot see: the ring of a NIC, accept queues, what is lost beyond this machine",
            "5 秒内没有丢包；{step} 看不到：网卡环形缓冲区、全连接队列、本机之外的丢失"
        );
        writeln!(std::io::stderr().lock(), "{}", quiet.fill(&[("step", &step.word())]).get(lang()))?;
        Ok(())
    }

    fn tell_withheld(&mut self, counts: &[DropCount]) -> Result<()> {
        let Some(pace) = &mut self.pace else { return Ok(()) };
        let exact = !self.filter.looks_inside();
        let withheld = pace.end(Instant::now(), exact.then_some(counts), self.filter.shows_all());
        if withheld != Withheld::default() {
            writeln!(self.out, "  {}", self.told(&withheld, exact))?;
        }
        Ok(())
    }

    /// `+412 NETFILTER_DROP web, +96 QDISC_DROP web; 12 harmless hidden (-a shows them)`.
    fn told(&self, withheld: &Withheld, exact: bool) -> String {
        let named = withheld.kinds.iter().take(NAMED).map(|((netns, reason, function), drops)| {
            let target = self.targets.by_inode(*netns).map_or_else(|| "?".into(), |t| sanitize(&t.name, 40));
            format!("+{drops} {} {target}", if reason.is_empty() { function } else { reason })
        });
        let mut parts: Vec<String> = named.collect();
        let others: u64 = withheld.kinds.iter().skip(NAMED).map(|(_, drops)| drops).sum();
        if others > 0 {
            let others = text!("+{n} others", "其他 +{n}").fill(&[("n", &others)]);
            parts.push(others.get(lang()).to_owned());
        }
        let mut told = parts.join(text!(", ", "，").get(lang()));
        if !exact && !parts.is_empty() {
            told += text!(" (of those sampled)", "（仅计采样）").get(lang());
        }
        if withheld.harmless > 0 {
            let between = if parts.is_empty() { "" } else { text!("; ", "；").get(lang()) };
            let hidden = text!("{n} harmless hidden (-a shows them)", "隐藏无害的 {n} 个（-a 显示）");
            told += between;
            told += hidden.fill(&[("n", &withheld.harmless)]).get(lang());
        }
        told
    }

    /// Tells what is still held back of `counts`, all drops of this trace, and what they were.
    pub fn finish(&mut self, counts: &[DropCount], summary: &Summary<'_>) -> Result<()> {
        self.tell_withheld(counts)?;
        if let Some(capture) = &mut self.capture {
            capture.flush()?;
        }
        if self.json {
            summary.write_json(&mut self.out)?
        } else {
            summary.write_text(&mut self.out)?
        }
        Ok(self.out.flush()?)
    }
}
