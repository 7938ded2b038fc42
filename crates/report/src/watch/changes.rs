//! When a loss began, and what was changed on the machine in the seconds before.

use super::Round;
use whydrop_model::{Finding, Phrase};

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;
/// Seconds before the begin of a loss whose changes may have to do with it.
const BEFORE: u64 = 10;
/// An announcement is stamped when it is read, which a busy machine delays: a moment after the first lost packet.
const SLOW: u64 = SECOND / 2;
/// What is announced so shortly before a loss began is its likeliest begin.
const AT_ONCE: u64 = SECOND;

/// A moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Local time: `12:00:41.023`.
    pub at: String,
    /// CLOCK_REALTIME in nanoseconds.
    pub realtime_ns: u64,
}

/// A change, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// When it was announced, or found by a look.
    pub when: Moment,
    /// The kernel announced it.
    pub announced: bool,
    /// The earliest time at which it may have been made, CLOCK_REALTIME in nanoseconds: that of the look before, if a look
    /// found it.
    pub not_before_ns: u64,
    /// Name of the target.
    pub target: String,
    /// What, and who did it.
    pub what: Phrase,
}

/// When a loss began.
#[derive(Clone, Debug, Default)]
pub(super) struct Onset {
    /// Not before.
    pub first: Moment,
    /// Not after, CLOCK_REALTIME in nanoseconds.
    pub last: u64,
}

/// When a loss began that is seen in this round for the first time: with the first packet that was seen to die where it
/// took some, else somewhere in the round.
pub(super) fn onset(round: &Round, finding: &Finding) -> Onset {
    let entries = round.report.ledger.entries.iter();
    let its = entries.filter(|entry| entry.cause == finding.cause && entry.target == finding.target);
    let drops = its.filter_map(|entry| round.first_drops.get(&(entry.target.clone(), entry.stage.clone())));
    match drops.min_by_key(|drop| drop.realtime_ns) {
        Some(drop) => Onset { first: drop.clone(), last: drop.realtime_ns },
        None => Onset { first: round.began.clone(), last: round.ended_ns.max(round.began.realtime_ns) },
    }
}

/// True if a change may have been made before a loss began, and shortly before.
fn is_near(changed: &Changed, onset: &Onset) -> bool {
    let latest = if changed.announced { onset.last.saturating_add(SLOW) } else { onset.last };
    changed.when.realtime_ns >= onset.first.realtime_ns.saturating_sub(BEFORE * SECOND)
        && changed.not_before_ns <= latest
}

/// How likely a change began a loss, the lower the likelier: announced just before it; only found by a look, for it often
/// follows from what was announced; announced earlier than that.
fn rank(changed: &Changed, onset: &Onset) -> u8 {
    match changed.announced {
        true if changed.when.realtime_ns >= onset.first.realtime_ns.saturating_sub(AT_ONCE) => 0,
        true => 2,
        false => 1,
    }
}

/// Changes that may have begun a loss in a target, the likeliest first: there before elsewhere, by their [`rank`], the
/// latest first.
pub(super) fn suspects<'a>(
    all: impl Iterator<Item = &'a Changed>,
    onset: &Onset,
    target: &str,
) -> Vec<Changed> {
    let mut out: Vec<Changed> = all.filter(|changed| is_near(changed, onset)).cloned().collect();
    let latest = |changed: &Changed| std::cmp::Reverse(changed.when.realtime_ns);
    out.sort_by_key(|changed| (changed.target != target, rank(changed, onset), latest(changed)));
    out
}

/// True if a round tells of a change that may have begun a loss of an earlier round: a look finds it later.
pub(super) fn tells_more(round: &Round, onset: &Onset) -> bool {
    round.changes.iter().any(|changed| is_near(changed, onset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_changed_before_is_suspected_and_the_nearest_comes_first() {
        // Looks follow each other after five seconds.
        let changed = |tenths: u64, announced, target: &str| Changed {
            when: Moment { at: tenths.to_string(), realtime_ns: tenths * SECOND / 10 },
            announced,
            not_before_ns: if announced { tenths } else { tenths - 50 } * SECOND / 10,
            target: target.to_owned(),
            what: Phrase::same("x"),
        };
        let all = [
            changed(800, true, "web"),
            changed(950, true, "web"),
            changed(990, true, "host"),
            changed(998, true, "web"),
            changed(1004, true, "web"),
            changed(1020, true, "web"),
            changed(1030, false, "web"),
            changed(1100, false, "web"),
        ];
        let onset =
            Onset { first: Moment { at: String::new(), realtime_ns: 100 * SECOND }, last: 100 * SECOND };
        let told: Vec<String> =
            suspects(all.iter(), &onset, "web").into_iter().map(|changed| changed.when.at).collect();
        assert_eq!(told, ["1004", "998", "1030", "950", "990"]);
    }

    #[test]
    fn what_a_look_found_long_after_is_suspected_if_it_may_have_been_before() {
        let found = |not_before: u64, at: u64| Changed {
            when: Moment { at: String::new(), realtime_ns: at * SECOND },
            announced: false,
            not_before_ns: not_before * SECOND,
            target: "web".to_owned(),
            what: Phrase::same("x"),
        };
        let onset =
            Onset { first: Moment { at: String::new(), realtime_ns: 101 * SECOND }, last: 101 * SECOND };
        // A quiet round takes ten seconds, and an engine may be silent for minutes.
        assert!(is_near(&found(100, 110), &onset) && is_near(&found(40, 160), &onset));
        assert!(!is_near(&found(102, 103), &onset), "the look before came after the begin of the loss");
        assert!(!is_near(&found(80, 90), &onset), "too long ago");
    }
}
