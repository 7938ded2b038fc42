//! Lines for people: short fixed columns first, the packet last and never cut.

use super::{Line, class_word, packet};
use crate::settings::lang;
use anyhow::Result;
use std::io::Write;
use whydrop_facts::Class;
use whydrop_model::shell::sanitize;
use whydrop_model::text;
use whydrop_report::layout::pad;

/// From here on there is room for everything, and below it for no stage.
const WIDE: usize = 100;
/// Below it there is no room for the reason either.
const NARROW: usize = 80;
/// Columns of the longest common values; a longer one moves its line, for nothing is cut.
const CLASS: usize = 7;
const PLACE: usize = 14;
const STAGE: usize = 21;
const REASON: usize = 17;

/// Which columns there is room for. Class, target and packet are always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// A narrow terminal.
    Packet,
    /// One of eighty columns.
    Reason,
    /// A wide one, or no terminal.
    All,
}

impl Room {
    /// On a terminal of so many columns; without one there is room for all.
    pub fn of(columns: Option<usize>) -> Self {
        match columns {
            Some(columns) if columns < NARROW => Self::Packet,
            Some(columns) if columns < WIDE => Self::Reason,
            _ => Self::All,
        }
    }
}

/// Columns of the terminal: those that COLUMNS says, else those that the terminal of stdout says.
pub fn columns() -> Option<usize> {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let asked = || rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col));
    told.or_else(asked).filter(|&columns| columns > 0)
}

/// How lines look.
pub struct Style {
    /// ANSI colours.
    pub colour: bool,
    /// With the stack.
    pub stack: bool,
    /// With what it means.
    pub verbose: bool,
    /// How wide.
    pub room: Room,
}

impl Style {
    /// Lines that one drop takes at most.
    pub fn lines(&self) -> usize {
        if self.verbose { 4 } else { 1 + usize::from(self.stack) }
    }

    /// Writes the names of the columns.
    pub fn header(&self, out: &mut dyn Write) -> Result<()> {
        let time = pad(text!("time", "时间").get(lang()), if self.room == Room::All { 15 } else { 12 });
        let class = pad(text!("class", "类别").get(lang()), CLASS);
        let place = text!("target/iface", "目标/接口").get(lang());
        let (stage, reason) = (text!("stage", "阶段").get(lang()), text!("reason", "原因").get(lang()));
        self.row(out, [&time, &class, place, stage, reason, text!("packet", "数据包").get(lang())])
    }

    /// Writes one drop.
    pub fn write(&self, line: &Line<'_>, out: &mut dyn Write) -> Result<()> {
        let event = line.event;
        let (start, end) = match line.place.class {
            Class::Loss if self.colour => ("\x1b[1m", "\x1b[0m"),
            Class::Benign | Class::NotADrop if self.colour => ("\x1b[2m", "\x1b[0m"),
            _ => ("", ""),
        };
        let class = format!("{start}{}{end}", pad(class_word(line.place.class), CLASS));
        let target = line.target.map_or_else(|| "?".into(), |target| sanitize(&target.name, 40));
        let interface = event.interface.as_deref().map_or_else(|| "-".into(), |name| sanitize(name, 16));
        let place = format!("{target}/{interface}");
        let reason = if event.reason.is_empty() { &event.function } else { &event.reason };
        let (time, packet) = (self.time(event.realtime_ns), packet::describe(event));
        self.row(out, [&time, &class, &place, line.place.stage, reason, &packet])?;
        if self.verbose {
            let offset = event.offset.map(|offset| format!("+0x{offset:x}")).unwrap_or_default();
            let told = text!("  {function}{offset}: {why}", "  {function}{offset}：{why}");
            let why = line.place.why.get(lang());
            let told = told.fill(&[("function", &event.function), ("offset", &offset), ("why", &why)]);
            writeln!(out, "{}", told.get(lang()))?;
        }
        if (self.stack || self.verbose) && !event.stack.is_empty() {
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

    /// Time and class come at their width: one is always ASCII, the other may be coloured.
    fn row(&self, out: &mut dyn Write, [time, class, place, stage, reason, packet]: [&str; 6]) -> Result<()> {
        write!(out, "{time} {class} {} ", pad(place, PLACE))?;
        if self.room == Room::All {
            write!(out, "{} ", pad(stage, STAGE))?;
        }
        if self.room >= Room::Reason {
            write!(out, "{} ", pad(reason, REASON))?;
        }
        Ok(writeln!(out, "{packet}")?)
    }

    /// Local time of day, with microseconds where there is room.
    fn time(&self, realtime_ns: u64) -> String {
        let format = if self.room == Room::All { "%H:%M:%S.%6f" } else { "%H:%M:%S.%3f" };
        let zone = jiff::tz::TimeZone::system();
        match jiff::Timestamp::from_nanosecond(i128::from(realtime_ns)) {
            Ok(time) => time.to_zoned(zone).strftime(format).to_string(),
            Err(_) => "?".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whydrop_facts::place;
    use whydrop_model::{DropEvent, Entry, Role, Target, TargetKind};

    /// What a terminal of so many columns gets of a drop of an IPv6 segment.
    fn shown(columns: Option<usize>) -> String {
        let event = DropEvent {
            reason: "NETFILTER_DROP".into(),
            function: "nft_do_chain".into(),
            interface: Some("eth0\x1b[31m".into()),
            source: "[2001:db8:1234:5678:9abc:def0:1234:5678]:40000".parse().ok(),
            destination: "[2001:db8:1234:5678:9abc:def0:1234:5679]:80".parse().ok(),
            protocol: Some(6),
            tcp_flags: Some(2),
            length: 80,
            stack: vec!["nf_hook_slow".into(), "ip6_input".into()],
            ..DropEvent::default()
        };
        let target = Target {
            id: "netns:web".into(),
            kind: TargetKind::Netns,
            name: "web\r\u{202e}".into(),
            netns_inode: 1,
            pid: None,
            container: None,
            role: Role::Target,
            entry: Entry::Here,
            tenants: vec![],
        };
        let line = Line { event: &event, place: place::of_event(&event), target: Some(&target) };
        let style = Style { colour: false, stack: false, verbose: false, room: Room::of(columns) };
        let mut out = vec![];
        style.write(&line, &mut out).expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn class_target_and_packet_stay_at_every_width() {
        for columns in [40, 60, 80, 100, 120, 200].map(Some).into_iter().chain([None]) {
            let line = shown(columns);
            assert!(line.contains("policy"), "{line}");
            assert!(line.contains("web") && line.contains("/eth0"), "{line}");
            let packet = "2001:db8:1234:5678:9abc:def0:1234:5678]:40000 > [2001:db8:1234:5678:9abc:def0:1234:5679]:80 tcp S 80 B\n";
            assert!(line.ends_with(packet), "{line}");
            assert_eq!(line.lines().count(), 1);
        }
    }

    #[test]
    fn stage_and_reason_go_where_there_is_no_room() {
        let has = |columns, word: &str| shown(columns).contains(word);
        assert!(has(None, "netfilter") && has(Some(100), "netfilter") && !has(Some(99), "netfilter"));
        assert!(has(Some(80), "NETFILTER_DROP") && !has(Some(79), "NETFILTER_DROP"));
    }

    #[test]
    fn hostile_names_are_escaped() {
        let line = shown(None);
        assert!(line.trim_end().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{line:?}");
    }
}
