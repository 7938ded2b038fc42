//! Did a change help? Two runs, before and after.

use super::bursts::fisher_greater;
use super::interval::{share, wilson};

/// Probes lost (or late) of those sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Lost or late.
    pub lost: u64,
    /// Sent.
    pub total: u64,
}

/// How two runs differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Loss after minus loss before.
    pub change: f64,
    /// 95 % interval of `change` (Newcombe's hybrid score interval).
    pub ci95: [f64; 2],
    /// Probability that chance alone makes such a difference in this direction (Fisher's exact test, one-sided).
    pub chance: f64,
}

/// Compares two runs; none if one of them sent nothing.
pub fn compare(before: Run, after: Run) -> Option<Comparison> {
    const Z: f64 = 1.959_964;
    let (p, q) = (share(before.lost, before.total)?, share(after.lost, after.total)?);
    let ([p_low, p_high], [q_low, q_high]) =
        (wilson(before.lost, before.total, Z)?, wilson(after.lost, after.total, Z)?);
    let change = q - p;
    let ci95 = [change - (q - q_low).hypot(p_high - p), change + (q_high - q).hypot(p - p_low)];
    let (more, less) = if p >= q { (before, after) } else { (after, before) };
    let chance = fisher_greater(more.lost, more.total - more.lost, less.lost, less.total - less.lost);
    Some(Comparison { change, ci95, chance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_newcombe() {
        // Newcombe 1998, method 10, example (a): 56/70 and 48/80.
        let c = compare(Run { lost: 48, total: 80 }, Run { lost: 56, total: 70 }).expect("data");
        assert!((c.change - 0.2).abs() < 1e-9);
        assert!((c.ci95[0] - 0.0524).abs() < 1e-3 && (c.ci95[1] - 0.3339).abs() < 1e-3, "{c:?}");
    }

    #[test]
    fn few_probes_prove_little() {
        let few = compare(Run { lost: 3, total: 10 }, Run { lost: 0, total: 10 }).expect("data");
        assert!(few.chance > 0.05 && few.ci95[1] > -0.05, "{few:?}");
        let many = compare(Run { lost: 30, total: 100 }, Run { lost: 0, total: 100 }).expect("data");
        assert!(many.chance < 1e-6 && many.ci95[1] < 0.0, "{many:?}");
        assert_eq!(compare(Run { lost: 0, total: 0 }, Run { lost: 0, total: 1 }), None);
    }
}
