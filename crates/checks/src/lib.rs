//! The rules: from what was observed to what it means. Never sees the machine.
//!
//! [`judge`] is the whole of it, in five passes: [`evidence`] shows who wants packets through and where they pass;
//! what was lost is gathered once ([`loss`]); the [`rules`] name culprits; [`assign`] says who took which packet and
//! who follows from whom; [`tell`] makes of it what people read. [`coverage`] says what stayed out of sight.
#![forbid(unsafe_code)]

pub mod assign;
pub mod course;
pub mod coverage;
pub mod culprit;
mod engine;
pub mod evidence;
pub mod fixes;
pub mod live;
pub mod loss;
pub mod registry;
pub mod rule;
pub mod rules;
pub mod settings;
pub mod tell;
#[cfg(test)]
mod testing;

use whydrop_model::{Cause, Observation, Report};

/// Judges an observation.
pub fn judge(observation: &Observation) -> Report {
    engine::judge(observation, registry::RULES)
}

/// The same by these rules, in this order.
pub fn judge_by(observation: &Observation, rules: &[rule::Rule]) -> Report {
    engine::judge(observation, rules)
}

/// All causes that whydrop can name, each once.
pub fn causes() -> impl Iterator<Item = &'static Cause> {
    registry::RULES.iter().map(|rule| rule.cause)
}
