//! Do losses come one by one, or in runs?

use super::interval::ln_gamma;
use whydrop_model::probe::Bursts;

/// Fewest losses from which a model is fitted.
const FEWEST: usize = 5;

/// Fits a Gilbert model to probes in the order of their sends (true: lost). None with too few losses, or without an
/// answered probe beside them.
pub fn gilbert(lost: &[bool]) -> Option<Bursts> {
    let losses = lost.iter().filter(|l| **l).count();
    // Transitions by (before, after).
    let mut n = [[0u64; 2]; 2];
    for pair in lost.windows(2) {
        if let [before, after] = *pair {
            let row: &mut [u64; 2] = if before { &mut n[1] } else { &mut n[0] };
            if after { row[1] += 1 } else { row[0] += 1 }
        }
    }
    let [[ok_ok, ok_lost], [lost_ok, lost_lost]] = n;
    if losses < FEWEST || ok_ok + ok_lost == 0 || lost_ok + lost_lost == 0 {
        return None;
    }
    let runs: Vec<u32> = lost
        .split(|l| !*l)
        .filter(|run| !run.is_empty())
        .map(|run| u32::try_from(run.len()).unwrap_or(u32::MAX))
        .collect();
    Some(Bursts {
        longest: runs.iter().copied().max()?,
        mean: losses as f64 / runs.len() as f64,
        p: ok_lost as f64 / (ok_ok + ok_lost) as f64,
        r: lost_ok as f64 / (lost_ok + lost_lost) as f64,
        clustered: fisher_greater(lost_lost, lost_ok, ok_lost, ok_ok) < 0.01,
    })
}

/// One-sided Fisher's exact test: probability, under independence, of a table with at least `a` in its first cell.
///
/// ```text
/// a b
/// c d
/// ```
pub fn fisher_greater(a: u64, b: u64, c: u64, d: u64) -> f64 {
    let choose =
        |n: u64, k: u64| ln_gamma(n as f64 + 1.0) - ln_gamma(k as f64 + 1.0) - ln_gamma((n - k) as f64 + 1.0);
    let (row, column, all) = (a + b, a + c, a + b + c + d);
    let least = (row + column).saturating_sub(all);
    let probability = |k: u64| (choose(column, k) + choose(all - column, row - k) - choose(all, row)).exp();
    (a.max(least)..=row.min(column)).map(probability).sum::<f64>().min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fisher_agrees_with_r() {
        // R: fisher.test(matrix(c(3, 1, 1, 3), 2), alternative = "greater")$p.value
        assert!((fisher_greater(3, 1, 1, 3) - 0.242_857).abs() < 1e-6);
        assert!((fisher_greater(8, 2, 1, 5) - 0.024_475).abs() < 1e-6);
    }

    #[test]
    fn tells_runs_from_single_losses() {
        let alternating: Vec<bool> = (0..100).map(|i| i % 4 == 0).collect();
        let single = gilbert(&alternating).expect("losses");
        assert_eq!((single.longest, single.mean, single.r, single.clustered), (1, 1.0, 1.0, false));
        let blocks: Vec<bool> = (0..100).map(|i| i % 50 < 10).collect();
        let bursts = gilbert(&blocks).expect("losses");
        assert_eq!((bursts.longest, bursts.mean, bursts.clustered), (10, 10.0, true));
        assert_eq!(gilbert(&[false; 50]), None);
        assert_eq!(gilbert(&[true; 50]), None);
    }
}
