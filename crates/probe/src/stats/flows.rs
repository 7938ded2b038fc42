//! Flows that lose much more than the others: some of several paths are bad.

use super::bursts::fisher_greater;
use whydrop_model::probe::Flow;

/// Chance of a false accusation, over all ways to divide the flows in two.
const DOUBT: f64 = 0.001;
/// A flow is named only if chance alone seldom makes it differ so much from the good ones.
const DOUBT_OF_ONE: f64 = 0.05;

/// Source ports of the bad flows, in order; empty if no division of the flows in bad and good ones is certain. Any
/// number of them may be bad, half of them for one dead next hop of two.
pub fn bad(flows: &[Flow]) -> Vec<u16> {
    let mut sorted: Vec<&Flow> = flows.iter().filter(|f| f.transmitted > 0).collect();
    let share = |f: &Flow| f.lost as f64 / f.transmitted as f64;
    sorted.sort_by(|a, b| share(b).total_cmp(&share(a)));
    let pool =
        |part: &[&Flow]| part.iter().fold((0, 0), |(l, ok), f| (l + f.lost, ok + f.transmitted - f.lost));
    let mut best: (f64, usize) = (DOUBT, 0);
    let mut divisions = 1.0;
    for m in 1..sorted.len() {
        divisions *= (sorted.len() + 1 - m) as f64 / m as f64;
        let (bad, good) = sorted.split_at(m);
        let ((lost, ok), (good_lost, good_ok)) = (pool(bad), pool(good));
        let chance = fisher_greater(lost, ok, good_lost, good_ok) * divisions;
        if chance < best.0 {
            best = (chance, m);
        }
    }
    let (bad, good) = sorted.split_at(best.1);
    let (good_lost, good_ok) = pool(good);
    let differs =
        |f: &Flow| fisher_greater(f.lost, f.transmitted - f.lost, good_lost, good_ok) < DOUBT_OF_ONE;
    let mut ports: Vec<u16> = bad.iter().filter(|f| differs(f)).map(|f| f.sport).collect();
    ports.sort_unstable();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flows(lost: &[u64], transmitted: u64) -> Vec<Flow> {
        (1u16..).zip(lost).map(|(sport, lost)| Flow { sport, transmitted, lost: *lost }).collect()
    }

    #[test]
    fn one_bad_flow_and_half_of_them_are_found() {
        assert_eq!(bad(&flows(&[0, 20, 0, 0], 20)), [2]);
        assert_eq!(
            bad(&flows(&[4, 0, 0, 4, 4, 4, 0, 0, 0, 4, 4, 0, 4, 0, 4, 0], 4)),
            [1, 4, 5, 6, 10, 11, 13, 15]
        );
        assert_eq!(bad(&flows(&[20, 20, 0, 20], 20)), [1, 2, 4]);
    }

    #[test]
    fn equal_flows_and_few_probes_accuse_nobody() {
        assert_eq!(bad(&flows(&[6, 9, 4, 7], 20)), [0u16; 0]);
        assert_eq!(bad(&flows(&[1, 0], 1)), [0u16; 0]);
        assert_eq!(bad(&flows(&[20, 20], 20)), [0u16; 0]);
        assert_eq!(bad(&[]), [0u16; 0]);
    }

    proptest! {
        #[test]
        fn names_only_flows_that_lose(lost in proptest::collection::vec(0u64..=12, 0..24)) {
            let flows = flows(&lost, 12);
            let bad = bad(&flows);
            prop_assert!(flows.iter().filter(|f| f.lost == 0).all(|f| !bad.contains(&f.sport)));
            prop_assert!(flows.is_empty() || bad.len() < flows.len());
        }
    }
}
