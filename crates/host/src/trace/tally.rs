//! Counting in user space, for the steps of the ladder that cannot count in the kernel.

use std::collections::HashMap;
use whydrop_model::{DropCount, DropEvent};

/// Kinds that are kept apart; the drops of further ones are one row, as in the BPF map.
const MOST_KINDS: usize = 4096;

/// Drops by kind.
#[derive(Debug, Default)]
pub struct Tally {
    kinds: HashMap<Kind, u64>,
    other: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    reason: String,
    function: String,
    interface: Option<(u32, Option<String>)>,
    protocol: Option<u8>,
}

impl Tally {
    /// Counts a drop.
    pub fn add(&mut self, event: &DropEvent) {
        let kind = Kind {
            reason: event.reason.clone(),
            function: event.function.clone(),
            interface: event.link.map(|link| (link, event.interface.clone())),
            protocol: event.protocol,
        };
        if self.kinds.len() >= MOST_KINDS && !self.kinds.contains_key(&kind) {
            self.other += 1;
            return;
        }
        *self.kinds.entry(kind).or_default() += 1;
    }

    /// Drops that no row names.
    pub fn nameless(&self) -> u64 {
        self.other
    }

    /// All rows, the largest first. The namespace is never known here.
    pub fn rows(&self) -> Vec<DropCount> {
        let mut rows: Vec<_> = self.kinds.iter().map(|(kind, &drops)| row(kind, drops)).collect();
        rows.sort_by(|a, b| (b.drops, &a.reason, &a.function).cmp(&(a.drops, &b.reason, &b.function)));
        if self.other > 0 {
            rows.push(DropCount { reason: super::OTHER.into(), drops: self.other, ..DropCount::default() });
        }
        rows
    }
}

fn row(kind: &Kind, drops: u64) -> DropCount {
    let (link, interface) = kind.interface.clone().unzip();
    DropCount {
        reason: kind.reason.clone(),
        function: kind.function.clone(),
        link,
        interface: interface.flatten(),
        protocol: kind.protocol,
        drops,
        ..DropCount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_kinds_apart_and_overflow_together() {
        let mut tally = Tally::default();
        for number in 0..MOST_KINDS + 3 {
            tally.add(&DropEvent { function: format!("f{number}"), ..DropEvent::default() });
        }
        tally.add(&DropEvent { function: "f0".into(), ..DropEvent::default() });
        let rows = tally.rows();
        assert_eq!(rows.len(), MOST_KINDS + 1);
        assert_eq!(rows.first().map(|r| (r.function.as_str(), r.drops)), Some(("f0", 2)));
        assert_eq!(rows.last().map(|r| (r.reason.as_str(), r.drops)), Some((super::super::OTHER, 3)));
    }
}
