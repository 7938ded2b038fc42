//! Every lost packet, charged once.

use crate::case::Case;
use crate::fate::Death;
use crate::reconcile::Unclaimed;
use crate::rule::Suspect;
use crate::traced;
use crate::way::Way;
use whydrop_model::{Ledger, LedgerEntry, Unexplained};

/// Charges lost probes to the causes on their way. A cause that counts has its own number, and lost probes are among
/// what it counted; so are those that the kernel saw die where no cause is known. A cause that does not count is
/// charged with the lost probes that are left, and what then remains is unexplained.
pub fn charge(case: Case<'_>, suspects: &mut [Suspect], mut unclaimed: Unclaimed<'_>) -> Ledger {
    let mut pools: Vec<u64> = suspects.iter().map(Suspect::counted).collect();
    let mut book = Ledger::default();
    for way in case.ways.iter().filter(|way| way.lost() > 0) {
        let deaths = traced::of_lost(case, way);
        let (known, astray): (Vec<_>, Vec<_>) = deaths.into_iter().partition(|death| unclaimed.holds(death));
        let mut left = way.lost().saturating_sub(known.len() as u64);
        for (_, pool) in suspects.iter().zip(&mut pools).filter(|(s, _)| harms(case, way, s)) {
            let take = left.min(*pool);
            *pool -= take;
            left -= take;
        }
        let uncounted = |s: &&mut Suspect| {
            let by_probes = matches!(s.finding.counted_by.as_deref(), None | Some(BY_PROBES));
            harms(case, way, s) && (by_probes || s.loses_more)
        };
        match suspects.iter_mut().find(uncounted) {
            Some(suspect) if left > 0 => charge_probes(suspect, left),
            _ => without_cause(case, way, &astray, left, &mut book.unexplained_at),
        }
    }
    book.unexplained_at.extend(unclaimed.places());
    book.unexplained_at.sort_by_key(|place| std::cmp::Reverse(place.packets));
    book.unexplained = book.unexplained_at.iter().map(|place| place.packets).sum();
    book
}

/// Marks a number that was counted by the probes themselves.
pub const BY_PROBES: &str = "lost probes";

/// True if lost probes of this way can be among what the suspect took.
pub fn harms(case: Case<'_>, way: &Way<'_>, suspect: &Suspect) -> bool {
    if !suspect.touches.is_empty() {
        return suspect.touches.contains(&way.index);
    }
    // A way that was not followed into any target (a published port, an address of a load balancer) may have ended
    // in any of them; the outer packets of a tunnel may have ended wherever it leads.
    let astray = || !case.spaces().any(|space| space.is_target() && way.visits(space));
    let inside = || case.space(&suspect.finding.target).is_some_and(|space| way.visits(space));
    astray() || (way.is_tunnelled(case) && inside())
}

fn charge_probes(suspect: &mut Suspect, probes: u64) {
    let finding = &mut suspect.finding;
    *finding.packets_lost.get_or_insert(0) += probes;
    finding.counted_by = Some(match finding.counted_by.take() {
        Some(counter) if !counter.contains(BY_PROBES) => format!("{counter}, {BY_PROBES}"),
        Some(known) => known,
        None => BY_PROBES.to_owned(),
    });
}

/// Lost probes without a cause, at the places where the kernel saw some of them die.
fn without_cause(
    case: Case<'_>,
    way: &Way<'_>,
    deaths: &[Death<'_>],
    lost: u64,
    places: &mut Vec<Unexplained>,
) {
    let mut left = lost;
    let mut add = |place: Unexplained| {
        let alike = |known: &&mut Unexplained| Unexplained { packets: 1, ..(*known).clone() } == place;
        match places.iter_mut().find(alike) {
            Some(known) => known.packets += 1,
            None => places.push(place),
        }
    };
    for death in deaths {
        let space = death.event.netns_inode.and_then(|inode| case.space_by_inode(inode));
        let Some(space) = space.filter(|_| left > 0) else { continue };
        left -= 1;
        add(Unexplained {
            target: space.target().id.clone(),
            stage: death.place.stage.to_owned(),
            reason: death.event.reason.clone(),
            function: death.event.function.clone(),
            interface: death.event.interface.clone(),
            packets: 1,
            source: BY_PROBES.to_owned(),
            suspected: death.place.cause.map(str::to_owned),
        });
    }
    let end = way.destination(case).map_or(&way.probe.from, |space| &space.target().id);
    if left > 0 {
        places.push(Unexplained {
            target: end.clone(),
            stage: "unknown".to_owned(),
            reason: String::new(),
            function: String::new(),
            interface: None,
            packets: left,
            source: BY_PROBES.to_owned(),
            suspected: None,
        });
    }
}

/// Writes the entries and the sums, once the findings stand in their final order.
pub fn close(mut book: Ledger, suspects: &mut [Suspect]) -> Ledger {
    for (index, suspect) in suspects.iter_mut().enumerate() {
        let finding = &mut suspect.finding;
        let entry = |target: &str, stage: &str, packets, source: &str| LedgerEntry {
            cause: finding.cause.clone(),
            target: target.to_owned(),
            stage: stage.to_owned(),
            packets,
            source: source.to_owned(),
            finding: Some(index),
        };
        let source = finding.counted_by.as_deref().unwrap_or_default();
        let own = finding.packets_lost.map(|n| entry(&finding.target, &finding.stage, n, source));
        let besides = suspect.besides.iter().map(|b| entry(&b.target, &b.stage, b.packets, &b.source));
        let entries: Vec<LedgerEntry> = own.into_iter().chain(besides).filter(|e| e.packets > 0).collect();
        if !suspect.besides.is_empty() {
            finding.packets_lost = Some(entries.iter().map(|entry| entry.packets).sum());
        }
        book.explained += entries.iter().map(|entry| entry.packets).sum::<u64>();
        book.entries.extend(entries);
    }
    book.lost = book.explained + book.unexplained;
    book
}
