//! Fixes as they are made: one finding after another, and taken back the other way round.

use std::collections::BTreeMap;
use whydrop_model::Finding;
use whydrop_model::action::{Action, ChainRef};

/// Tells each fix that deletes a rule which rules in front of its own are gone by then: a rule must not come back behind the end of
/// a chain that others have left shorter.
pub fn prepare_undo(findings: &mut [Finding]) {
    let mut gone: BTreeMap<ChainRef, Vec<u32>> = BTreeMap::new();
    let fixes = findings.iter_mut().flat_map(|finding| &mut finding.fixes);
    for step in fixes.flat_map(|fix| &mut fix.steps) {
        let Action::RuleDelete(rule) = &mut step.action else { continue };
        let gone = gone.entry(rule.chain.clone()).or_default();
        let in_front = gone.partition_point(|position| *position < rule.rule.position);
        rule.gone_before = u32::try_from(in_front).unwrap_or(u32::MAX);
        gone.insert(in_front, rule.rule.position);
    }
}
