//! What ends a loss. How a fix may be applied follows from its changes, never from the rule that proposes it.

pub mod exception;
pub mod owned;
#[cfg(test)]
mod tests;

use crate::evidence::case::Space;
use whydrop_model::action::Action;
use whydrop_model::finding::Step;
use whydrop_model::{Applicability, Fix, Phrase, Text};

/// A fix made of changes in one namespace.
pub fn fix(space: Space<'_>, title: Phrase, actions: Vec<Action>) -> Fix {
    let target = &space.target().id;
    let applicability = Applicability::of(&actions);
    let steps = actions.into_iter().map(|action| Step { target: target.clone(), action }).collect();
    Fix { title, applicability, steps, persist: None, caution: None }
}

/// A fix that only a person can make.
pub fn manual(title: Text) -> Fix {
    by_hand(title.phrase())
}

/// A fix that only a person can make, with words of its own.
pub fn by_hand(title: Phrase) -> Fix {
    Fix { title, applicability: Applicability::Manual, steps: vec![], persist: None, caution: None }
}
