//! How many lines a person can read: on a terminal each shape of drop is shown once a second, the rest as a number.
//!
//! The numbers add up: lines, what was held back and what is harmless are together every drop that was counted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use whydrop_facts::{Class, place};
use whydrop_model::{DropCount, DropEvent};

const PERIOD: Duration = Duration::from_secs(1);
/// Lines in one period, whatever their shape, beside the one that tells the rest.
const MOST_LINES: usize = 39;

/// What counts tell apart: namespace, reason, function.
pub type Kind = (Option<u64>, String, String);

/// What lines tell apart: a kind, an interface, and a flow without its source port.
type Shape = (Kind, Option<String>, Option<u8>, Option<(IpAddr, SocketAddr)>);

/// What was held back in a period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withheld {
    /// Drops that got no line, the most frequent kind first.
    pub kinds: Vec<(Kind, u64)>,
    /// Harmless ones, which were not asked for.
    pub harmless: u64,
}

/// Decides line by line.
pub struct Pace {
    began: Instant,
    /// Lines that one drop takes.
    lines: usize,
    shapes: HashSet<Shape>,
    /// Drops that a number or a line has told, by kind, since the start.
    told: HashMap<Kind, u64>,
    harmless_told: u64,
    /// Sampled drops of this period without a line: all that is known when a filter looks into packets.
    repeated: HashMap<Kind, u64>,
    hidden: u64,
}

impl Pace {
    /// Begins a period.
    pub fn new(now: Instant, lines: usize) -> Self {
        Self {
            began: now,
            lines,
            shapes: HashSet::new(),
            told: HashMap::new(),
            harmless_told: 0,
            repeated: HashMap::new(),
            hidden: 0,
        }
    }

    /// True if the drop is to be shown.
    pub fn admits(&mut self, event: &DropEvent) -> bool {
        let kind: Kind = (event.netns_inode, event.reason.clone(), event.function.clone());
        let flow =
            event.source.zip(event.destination).map(|(source, destination)| (source.ip(), destination));
        let shape = (kind.clone(), event.interface.clone(), event.protocol, flow);
        let room = (self.shapes.len() + 1) * self.lines <= MOST_LINES;
        let admitted = room && self.shapes.insert(shape);
        *if admitted { &mut self.told } else { &mut self.repeated }.entry(kind).or_default() += 1;
        admitted
    }

    /// Counts a drop that the filters hold back for being harmless.
    pub fn hide(&mut self) {
        self.hidden += 1;
    }

    /// True if a period is over.
    pub fn is_due(&self, now: Instant) -> bool {
        now.duration_since(self.began) >= PERIOD
    }

    /// Ends a period and begins the next one. `counts` are all drops since the start, where lines are not filtered;
    /// `all` says that harmless drops have lines, too.
    pub fn end(&mut self, now: Instant, counts: Option<&[DropCount]>, all: bool) -> Withheld {
        (self.began, self.shapes) = (now, HashSet::new());
        let (repeated, hidden) = (std::mem::take(&mut self.repeated), std::mem::take(&mut self.hidden));
        let mut withheld = match counts {
            Some(counts) => self.settle(counts, all),
            None => Withheld { kinds: repeated.into_iter().collect(), harmless: hidden },
        };
        withheld.kinds.sort_by(|(a, more), (b, less)| (less, a).cmp(&(more, b)));
        withheld
    }

    fn settle(&mut self, counts: &[DropCount], all: bool) -> Withheld {
        let mut kinds: BTreeMap<Kind, [u64; 2]> = BTreeMap::new();
        for count in counts {
            let harmless = !all && matches!(place::of_count(count).class, Class::Benign | Class::NotADrop);
            let kind = (count.netns_inode, count.reason.clone(), count.function.clone());
            let [open, hidden] = kinds.entry(kind).or_default();
            *if harmless { hidden } else { open } += count.drops;
        }
        let mut withheld = Withheld::default();
        let mut harmless = 0;
        for (kind, [open, hidden]) in kinds {
            let told = self.told.entry(kind.clone()).or_default();
            let more = open.saturating_sub(*told);
            // The stack of a sample may show harm where the count alone does not: it has had its line.
            harmless += hidden.saturating_sub(told.saturating_sub(open));
            *told += more;
            if more > 0 {
                withheld.kinds.push((kind, more));
            }
        }
        withheld.harmless = harmless.saturating_sub(self.harmless_told);
        self.harmless_told += withheld.harmless;
        withheld
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(reason: &str, port: u16) -> DropEvent {
        let end = |port| Some(SocketAddr::from(([10, 0, 0, 1], port)));
        DropEvent { reason: reason.into(), source: end(1), destination: end(port), ..DropEvent::default() }
    }

    fn count(reason: &str, drops: u64) -> DropCount {
        DropCount { reason: reason.into(), drops, ..DropCount::default() }
    }

    fn kind(reason: &str) -> Kind {
        (None, reason.into(), String::new())
    }

    #[test]
    fn shows_each_shape_once_a_period_and_never_too_many() {
        let start = Instant::now();
        let mut pace = Pace::new(start, 1);
        assert!(
            pace.admits(&event("A", 80)) && pace.admits(&event("A", 81)) && !pace.admits(&event("A", 80))
        );
        pace.hide();
        assert!(!pace.is_due(start) && pace.is_due(start + PERIOD));
        let withheld = pace.end(start + PERIOD, None, false);
        assert_eq!(withheld, Withheld { kinds: vec![(kind("A"), 1)], harmless: 1 });
        assert_eq!((0..100).filter(|&port| pace.admits(&event("A", port))).count(), MOST_LINES);
        let mut long = Pace::new(start, 4);
        assert_eq!((0..100).filter(|&port| long.admits(&event("A", port))).count(), 9);
    }

    #[test]
    fn lines_and_numbers_add_up_to_every_drop_that_was_counted() {
        let start = Instant::now();
        let mut pace = Pace::new(start, 1);
        assert!(pace.admits(&event("NETFILTER_DROP", 80)) && !pace.admits(&event("NETFILTER_DROP", 80)));
        let counts = [count("NETFILTER_DROP", 1000), count("QDISC_DROP", 5), count("OTHERHOST", 7)];
        let withheld = pace.end(start + PERIOD, Some(&counts), false);
        let more = vec![(kind("NETFILTER_DROP"), 999), (kind("QDISC_DROP"), 5)];
        assert_eq!(withheld, Withheld { kinds: more, harmless: 7 });
        // A sample whose drop was in a number already, and nothing new.
        assert_eq!(pace.end(start + PERIOD * 2, Some(&counts), false), Withheld::default());
        assert!(pace.admits(&event("QDISC_DROP", 80)));
        let counts = [count("NETFILTER_DROP", 1000), count("QDISC_DROP", 6), count("OTHERHOST", 7)];
        assert_eq!(pace.end(start + PERIOD * 3, Some(&counts), false), Withheld::default());
    }

    #[test]
    fn a_line_whose_stack_shows_harm_is_not_counted_as_harmless_too() {
        let start = Instant::now();
        let mut pace = Pace::new(start, 1);
        assert!(pace.admits(&event("OTHERHOST", 80)));
        let withheld = pace.end(start + PERIOD, Some(&[count("OTHERHOST", 7)]), false);
        assert_eq!(withheld, Withheld { kinds: vec![], harmless: 6 });
    }
}
