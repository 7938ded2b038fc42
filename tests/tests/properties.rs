//! What holds for every recording below `scenarios/`, whatever was recorded: no root, no network.

use std::path::PathBuf;
use whydrop_checks::rule::Rule;
use whydrop_checks::{judge, judge_by, registry::RULES};
use whydrop_host::replay;
use whydrop_model::{Observation, Report};
use whydrop_tests::Scenario;

fn recordings() -> Vec<(String, Observation)> {
    let read = |scenario: &Scenario| {
        let path = scenario.record();
        let file = PathBuf::from(&path);
        let bytes = replay::load(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
        let observation = replay::decode(&file, &bytes).unwrap_or_else(|error| panic!("{path}: {error}"));
        (path, observation)
    };
    Scenario::all().iter().map(read).collect()
}

/// All that a report says; its type has no equality.
fn said(report: &Report) -> String {
    format!("{report:#?}")
}

/// The rules in another order, the same for the same number (a linear congruential generator).
fn shuffled(seed: u64) -> Vec<Rule> {
    let mut rules = RULES.to_vec();
    let mut state = seed;
    for last in (1..rules.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        rules.swap(last, usize::try_from(state >> 33).expect("31 bits") % (last + 1));
    }
    rules
}

#[test]
fn the_order_of_the_registry_decides_nothing() {
    let mut orders: Vec<Vec<Rule>> = (1..4).map(shuffled).collect();
    orders.push(RULES.iter().rev().copied().collect());
    for (path, observation) in recordings() {
        let expected = said(&judge(&observation));
        for order in &orders {
            let got = said(&judge_by(&observation, order));
            let differs = expected.lines().zip(got.lines()).find(|(a, b)| a != b);
            assert_eq!(got, expected, "{path}: {differs:?}");
        }
    }
}
