//! What judging costs grows as what is judged: four times as much takes not much more than four times as long.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;
use whydrop_model::Observation;
use whydrop_tests::large::KINDS;

/// Sizes of the smaller one. Large enough to be measured, small enough for a build without optimisation.
const PART: usize = 20;
const TIMES: usize = 4;
/// As the square it would take 16 times as long. Namespaces on one bridge are compared in pairs, which is a part of it.
const MOST: f64 = 13.0;
/// Below this the clock says nothing.
const LEAST: Duration = Duration::from_millis(40);

/// Processor time of this thread: neighbours on a busy machine do not count.
fn judging(observation: &Observation) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let began = now();
    whydrop_checks::judge(observation);
    now() - began
}

#[test]
fn no_kind_of_input_takes_the_square_of_its_size() {
    for (name, size, make) in KINDS {
        let (part, whole) = (make(size / PART), make(size / PART * TIMES));
        let small = (0..3).map(|_| judging(&part)).min().unwrap_or_default().max(LEAST / TIMES as u32);
        let large = (0..2).map(|_| judging(&whole)).min().unwrap_or_default();
        let ratio = large.as_secs_f64() / small.as_secs_f64();
        assert!(large < LEAST || ratio < MOST, "{name}: {small:?}, then {large:?} for {TIMES} times as much");
    }
}
