//! Fixes as they are made: one finding after another, and taken back the other way round.

use crate::rule::Suspect;
use whydrop_model::action::{Action, RuleRef};

/// Tells each first fix which rules in front of its own are gone by then: a rule must not come back behind the end of
/// a chain that others have left shorter.
pub fn prepare_undo(suspects: &mut [Suspect]) {
    let mut gone: Vec<RuleRef> = vec![];
    let first_fixes = suspects.iter_mut().filter_map(|s| s.finding.fixes.first_mut());
    for step in first_fixes.flat_map(|fix| &mut fix.steps) {
        let Action::RuleDelete(rule) = &mut step.action else { continue };
        let in_front =
            gone.iter().filter(|g| g.chain == rule.chain && g.rule.position < rule.rule.position).count();
        rule.gone_before = u32::try_from(in_front).unwrap_or(u32::MAX);
        gone.push(rule.clone());
    }
}
