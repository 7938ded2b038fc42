//! What was changed on a machine while one looked, and by whom.

use crate::text::Phrase;
use crate::{Reading, text};
use serde::{Deserialize, Serialize};

/// Nanoseconds of a day and of a second.
const DAY: u64 = 86_400 * SECOND;
const SECOND: u64 = 1_000_000_000;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// CLOCK_REALTIME in nanoseconds.
    pub realtime_ns: u64,
    /// The kernel announced it at this time. Else it was found by a look that ended then, and is older than that.
    pub announced: bool,
    /// Of what was found: when the look before it began, which did not find it (CLOCK_REALTIME in nanoseconds).
    #[serde(default)]
    pub not_before_ns: Option<u64>,
    /// Target id of the namespace; the word of the container.
    pub target: String,
    /// What.
    pub what: Phrase,
    /// Who, if the kernel tells.
    #[serde(default)]
    pub by: Option<Doer>,
}

/// A source of changes that was not heard or looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unheard {
    /// Target id of the namespace; none if it belongs to the machine.
    pub target: Option<String>,
    /// `changes_route`, `changes_nftables`, `changes_containers`.
    pub source: String,
    /// Why.
    pub why: Reading<()>,
}

/// A process that changed something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doer {
    /// Process id in the pid namespace of the machine.
    pub pid: u32,
    /// Its name.
    pub comm: String,
}

impl Change {
    /// RFC 3339, UTC: `2026-01-31T12:00:41.023Z`.
    pub fn time(&self) -> String {
        time(self.realtime_ns)
    }

    /// The earliest time at which it may have been made, as [`Change::time`]; none where the kernel announced it, or
    /// nobody looked before.
    pub fn not_before(&self) -> Option<String> {
        self.not_before_ns.map(time)
    }

    /// Time of the day, UTC: `12:00:41.023Z`.
    pub fn clock(&self) -> String {
        clock(self.realtime_ns)
    }

    /// What, and who did it.
    pub fn sentence(&self) -> Phrase {
        let by = match &self.by {
            Some(Doer { pid, comm }) => {
                text!("{comm}, process {pid}", "{comm}，进程 {pid}").fill(&[("comm", &comm), ("pid", &pid)])
            }
            None => text!("by whom is unknown", "执行者未知").phrase(),
        };
        text!("{what} ({by})", "{what}（{by}）").with(&[("what", &self.what), ("by", &by)])
    }
}

fn time(realtime_ns: u64) -> String {
    let (year, month, day) = civil(realtime_ns / DAY);
    format!("{year:04}-{month:02}-{day:02}T{}", clock(realtime_ns))
}

fn clock(realtime_ns: u64) -> String {
    let of_day = realtime_ns % DAY;
    let (seconds, millis) = (of_day / SECOND, of_day % SECOND / 1_000_000);
    format!("{:02}:{:02}:{:02}.{millis:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Year, month and day of so many days after 1970-01-01, in the Gregorian calendar: years that begin in March have
/// their leap day at the end, and 400 of them have 146,097 days.
const fn civil(days: u64) -> (u64, u64, u64) {
    // Days between 0000-03-01 and 1970-01-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (of_month, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + (month <= 2) as u64, month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_when_what_and_who() {
        let mut change = Change {
            realtime_ns: 3 * DAY + 43_241 * SECOND + 23_000_000,
            announced: true,
            not_before_ns: None,
            target: "netns:web".into(),
            what: Phrase::same("rule x appeared"),
            by: Some(Doer { pid: 7, comm: "nft".into() }),
        };
        assert_eq!(change.clock(), "12:00:41.023Z");
        assert_eq!(change.time(), "1970-01-04T12:00:41.023Z");
        assert_eq!(
            [0, 59, 11_016, 20_454].map(civil),
            [(1970, 1, 1), (1970, 3, 1), (2000, 2, 29), (2026, 1, 1)]
        );
        assert_eq!(change.sentence().en, "rule x appeared (nft, process 7)");
        change.by = None;
        assert_eq!(change.sentence().en, "rule x appeared (by whom is unknown)");
    }
}
