//! Round-trip times, in milliseconds.

use crate::account::Entry;
use whydrop_model::probe::{Outcome, Rtt};

/// Round-trip times of the answers in time, in the order of the sends.
pub fn on_time_ms(entries: &[Entry]) -> Vec<f64> {
    entries
        .iter()
        .filter(|e| matches!(e.outcome(), Some(Outcome::Received | Outcome::Refused)))
        .filter_map(|e| e.rtt().map(|ns| ns as f64 / 1e6))
        .collect()
}

/// Summary of round-trip times; none without any.
pub fn summary(rtts: &[f64]) -> Option<Rtt> {
    let mut sorted = rtts.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let n = sorted.len() as f64;
    let avg = sorted.iter().sum::<f64>() / n;
    let square = sorted.iter().map(|x| (x - avg) * (x - avg)).sum::<f64>() / n;
    let at = |q| percentile(&sorted, q);
    Some(Rtt { min, avg, p50: at(0.5), p95: at(0.95), p99: at(0.99), max, mdev: square.sqrt() })
}

/// Nearest-rank percentile of sorted values: always a value that was measured.
fn percentile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).or(sorted.last()).copied().unwrap_or(f64::NAN)
}

/// Interarrival jitter of RFC 3550 section 6.4.1, over consecutive answers; none with fewer than two.
pub fn jitter_ms(rtts: &[f64]) -> Option<f64> {
    (rtts.len() > 1).then(|| {
        rtts.windows(2).fold(0.0, |j, w| match w {
            [a, b] => j + ((b - a).abs() - j) / 16.0,
            _ => j,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summarises() {
        let rtts: Vec<f64> = (1..=100).map(f64::from).collect();
        let r = summary(&rtts).expect("values");
        assert_eq!((r.min, r.p50, r.p95, r.p99, r.max, r.avg), (1.0, 50.0, 95.0, 99.0, 100.0, 50.5));
        assert!((r.mdev - 28.866).abs() < 1e-3, "as ping prints it");
        assert_eq!(summary(&[]), None);
        assert_eq!(summary(&[2.0]).map(|r| (r.p99, r.mdev)), Some((2.0, 0.0)));
    }

    #[test]
    fn jitter_is_a_sixteenth_of_a_single_step() {
        assert_eq!(jitter_ms(&[1.0, 17.0]), Some(1.0));
        assert_eq!(jitter_ms(&[1.0]), None);
    }
}
