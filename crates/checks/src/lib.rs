//! The rules: from what was observed to what it means. Never sees the machine.
//!
//! [`judge`] is the whole of it. An [`Observation`] becomes a [`case::Case`]; each rule of the [`registry`] looks at
//! each namespace; [`correlate`] folds what merely follows; drop
//! events are reconciled with what the rules counted and the [`ledger`] charges each lost packet once; and
//! [`coverage`] says what stayed out of sight.
#![forbid(unsafe_code)]

pub mod case;
pub mod correlate;
pub mod coverage;
mod engine;
pub mod fate;
pub mod ledger;
pub mod notes;
pub mod packet;
mod reconcile;
pub mod registry;
pub mod route;
pub mod rule;
pub mod rules;
mod segment;
mod sequence;
pub mod settings;
#[cfg(test)]
mod testing;
mod traced;
pub mod way;

use whydrop_model::{Cause, Observation, Report};

/// Judges an observation.
pub fn judge(observation: &Observation) -> Report {
    engine::judge(observation)
}

/// All causes that whydrop can name, each once.
pub fn causes() -> impl Iterator<Item = &'static Cause> {
    registry::RULES.iter().map(|rule| rule.cause).chain(std::iter::once(&rules::path::remote_loss::CAUSE))
}
