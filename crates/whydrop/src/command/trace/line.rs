//! Lines for people: short fixed columns first, the packet last and never cut.

use super::{Line, class_word, packet};
use crate::settings::lang;
use anyhow::Result;
use std::io::Write;
use whydrop_facts::Class;
use whydrop_model::shell::sanitize;
use whydrop_model::text;

/// How lines look.
pub struct Style {
    /// ANSI colours.
    pub colour: bool,
    /// With the stack.
    pub stack: bool,
    /// With what it means.
    pub verbose: bool,
}

impl Style {
    /// Writes one drop.
    pub fn write(&self, line: &Line<'_>, out: &mut dyn Write) -> Result<()> {
        let event = line.event;
        let class = class_word(line.place.class);
        // CJK letters take two columns.
        let wide = class.chars().filter(|c| !c.is_ascii()).count();
        let class = format!("{class}{:1$}", "", 7usize.saturating_sub(class.chars().count() + wide));
        let (start, end) = match line.place.class {
            Class::Loss if self.colour => ("\x1b[1m", "\x1b[0m"),
            Class::Conditional | Class::Benign | Class::NotADrop if self.colour => ("\x1b[2m", "\x1b[0m"),
            _ => ("", ""),
        };
        let target = line.target.map_or_else(|| "?".into(), |target| sanitize(&target.name, 40));
        let interface = event.interface.as_deref().map_or_else(|| "-".into(), |name| sanitize(name, 16));
        let reason = if event.reason.is_empty() { event.function.as_str() } else { event.reason.as_str() };
        let (time, place) = (time(event.realtime_ns), format!("{target}/{interface}"));
        let (stage, packet) = (line.place.stage, packet::describe(event));
        writeln!(out, "{time} {start}{class}{end} {place:<14} {stage:<20} {reason:<17} {packet}")?;
        if self.verbose {
            let offset = event.offset.map(|offset| format!("+0x{offset:x}")).unwrap_or_default();
            writeln!(out, "  {}{offset}: {}", event.function, line.place.why.get(lang()))?;
        }
        if self.stack || self.verbose {
            writeln!(out, "  {}{}", text!("called by ", "调用者 ").get(lang()), event.stack.join(" < "))?;
        }
        if let Some(owner) = event.owner.as_ref().filter(|_| self.verbose) {
            let process = owner.pid.zip(owner.comm.as_ref()).map(|(pid, comm)| format!("{pid}/{comm}"));
            let words: Vec<String> = process.into_iter().chain(owner.cgroup.clone()).collect();
            if !words.is_empty() {
                writeln!(out, "  {}{}", text!("socket of ", "套接字属于 ").get(lang()), words.join(" "))?;
            }
        }
        Ok(())
    }
}

/// Local time of day with microseconds.
fn time(realtime_ns: u64) -> String {
    let zone = jiff::tz::TimeZone::system();
    match jiff::Timestamp::from_nanosecond(i128::from(realtime_ns)) {
        Ok(time) => time.to_zoned(zone).strftime("%H:%M:%S.%6f").to_string(),
        Err(_) => "?".into(),
    }
}
