//! Stops as soon as the answer is certain: is the loss above a limit, or not? (Wald's sequential test, twice.)

/// Error of either answer.
const ERROR: f64 = 0.05;

/// The answer so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The loss is not above the limit (95 %).
    NotAbove,
    /// The loss is above the limit (95 %).
    Above,
    /// More probes are needed.
    Open,
}

/// Tests `lost` of `total` against `limit`: against a tenth of it for [`Answer::NotAbove`], against three times it for
/// [`Answer::Above`]. A loss close to the limit needs many probes.
pub fn test(lost: u64, total: u64, limit: f64) -> Answer {
    let limit = limit.clamp(1e-6, 0.9);
    let bound = ((1.0 - ERROR) / ERROR).ln();
    let (lost, kept) = (lost as f64, total.saturating_sub(lost) as f64);
    let ratio = |low: f64, high: f64| lost * (high / low).ln() + kept * ((1.0 - high) / (1.0 - low)).ln();
    if ratio(limit / 10.0, limit) <= -bound {
        Answer::NotAbove
    } else if ratio(limit, (3.0 * limit).min(f64::midpoint(limit, 1.0))) >= bound {
        Answer::Above
    } else {
        Answer::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_as_many_probes_as_certainty_costs() {
        assert_eq!(test(0, 300, 0.01), Answer::Open);
        assert_eq!(test(0, 330, 0.01), Answer::NotAbove);
        assert_eq!(test(3, 10, 0.01), Answer::Above);
        assert_eq!(test(1, 10, 0.1), Answer::Open);
        assert_eq!(test(0, 0, 0.01), Answer::Open);
    }
}
