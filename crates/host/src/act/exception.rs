//! Exceptions: a rule in front of the one that refuses, or at the end of a chain, in front of its policy.

use super::{Announce, Undo, chain, rule};
use crate::error::Result;
use whydrop_model::action::{Exception, RuleRef};

/// Inserts the exception where it belongs now: the rule that it stands in front of may have moved, but must be the same.
pub(super) fn add(exception: &Exception, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let now = chain::find(&exception.chain)?;
    let position = match &exception.before {
        Some(before) => {
            let (chain, rule) = (exception.chain.clone(), before.clone());
            let wanted = RuleRef { chain, rule, unique: true, gone_before: 0 };
            rule::locate(&wanted, &now, false)?.position
        }
        None => u32::try_from(now.rules.len()).unwrap_or(u32::MAX).saturating_add(1),
    };
    let mut inserted = exception.as_rule();
    inserted.rule.position = position;
    rule::insert(&inserted, None, announce)
}
