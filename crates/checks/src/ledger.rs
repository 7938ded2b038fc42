//! Every lost packet, charged once.

use crate::case::Case;
use crate::rule::Suspect;
use whydrop_model::{Ledger, LedgerEntry};

/// Charges lost probes to the causes on their way. A cause that counts has its own number, and lost probes are among
/// what it counted; a cause that does not count is charged with the lost probes that no counter explains. What is
/// left is unexplained.
pub fn charge(case: Case<'_>, suspects: &mut [Suspect]) -> Ledger {
    let mut pools: Vec<u64> = suspects.iter().map(|s| s.finding.packets_lost.unwrap_or(0)).collect();
    let mut book = Ledger::default();
    for way in case.ways.iter().filter(|way| way.lost() > 0) {
        let mut left = way.lost();
        // A way that was not followed into any target (a published port, an address of a load balancer) may have
        // ended in any of them.
        let astray = !case.spaces().any(|space| space.is_target() && way.visits(space));
        let harms = |s: &Suspect| s.touches.contains(&way.index) || (astray && s.touches.is_empty());
        for (_, pool) in suspects.iter().zip(&mut pools).filter(|(s, _)| harms(s)) {
            let take = left.min(*pool);
            *pool -= take;
            left -= take;
        }
        let uncounted = |s: &&mut Suspect| {
            let by_probes = matches!(s.finding.counted_by.as_deref(), None | Some(BY_PROBES));
            harms(s) && (by_probes || s.loses_more)
        };
        match suspects.iter_mut().find(uncounted) {
            Some(suspect) if left > 0 => {
                let finding = &mut suspect.finding;
                *finding.packets_lost.get_or_insert(0) += left;
                finding.counted_by = Some(match finding.counted_by.take() {
                    Some(counter) if !counter.contains(BY_PROBES) => format!("{counter}, {BY_PROBES}"),
                    Some(known) => known,
                    None => BY_PROBES.to_owned(),
                });
            }
            _ => book.unexplained += left,
        }
    }
    book
}

/// Marks a number that was counted by the probes themselves.
pub const BY_PROBES: &str = "lost probes";

/// Writes the entries and the sum, once the findings stand in their final order.
pub fn close(mut book: Ledger, suspects: &[Suspect]) -> Ledger {
    for (index, suspect) in suspects.iter().enumerate() {
        let finding = &suspect.finding;
        let Some(packets) = finding.packets_lost.filter(|n| *n > 0) else { continue };
        book.explained += packets;
        book.entries.push(LedgerEntry {
            cause: finding.cause.clone(),
            target: finding.target.clone(),
            stage: finding.stage.clone(),
            packets,
            source: finding.counted_by.clone().unwrap_or_default(),
            finding: Some(index),
        });
    }
    book.lost = book.explained + book.unexplained;
    book
}
