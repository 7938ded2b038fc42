//! How many lines a person can read: on a terminal each kind of drop is shown once a second, the rest as a number.

use std::collections::HashSet;
use std::time::{Duration, Instant};
use whydrop_model::DropEvent;

const PERIOD: Duration = Duration::from_secs(1);
/// Lines in one period, whatever their kind.
const MOST_LINES: usize = 40;

/// What was held back in a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Withheld {
    /// Like one that was shown.
    pub repeated: u64,
    /// Harmless, and not asked for.
    pub harmless: u64,
}

/// Decides line by line.
pub struct Pace {
    began: Instant,
    shown: HashSet<(Option<u64>, Option<String>, String, String)>,
    withheld: Withheld,
}

impl Pace {
    /// Begins a period.
    pub fn new(now: Instant) -> Self {
        Self { began: now, shown: HashSet::new(), withheld: Withheld::default() }
    }

    /// True if the drop is to be shown; else it is counted.
    pub fn admits(&mut self, event: &DropEvent) -> bool {
        let kind = (event.netns_inode, event.interface.clone(), event.reason.clone(), event.function.clone());
        let admitted = self.shown.len() < MOST_LINES && self.shown.insert(kind);
        self.withheld.repeated += u64::from(!admitted);
        admitted
    }

    /// Counts a drop that the filters hold back for being harmless.
    pub fn hide(&mut self) {
        self.withheld.harmless += 1;
    }

    /// At the end of a period: what was held back in it, if anything; begins the next one.
    pub fn end(&mut self, now: Instant) -> Option<Withheld> {
        if now.duration_since(self.began) < PERIOD {
            return None;
        }
        let withheld = std::mem::replace(self, Self::new(now)).withheld;
        (withheld != Withheld::default()).then_some(withheld)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_each_kind_once_and_counts_the_rest() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let event = |reason: &str| DropEvent { reason: reason.into(), ..DropEvent::default() };
        assert!(pace.admits(&event("A")) && pace.admits(&event("B")) && !pace.admits(&event("A")));
        pace.hide();
        assert_eq!(pace.end(start), None);
        let later = start + PERIOD;
        assert_eq!(pace.end(later), Some(Withheld { repeated: 1, harmless: 1 }));
        assert!(pace.admits(&event("A")));
        assert_eq!(pace.end(later + PERIOD), None);
        let shown = (0..100).filter(|number| pace.admits(&event(&number.to_string()))).count();
        assert_eq!(shown, MOST_LINES);
    }
}
