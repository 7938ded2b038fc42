//! What is known about the Linux network stack, as data: counters, drop reasons, stages of a packet's way, settings
//! that lose packets, the sentences of `netstat -s`, pitfalls, and the ids of the causes that whydrop can name.
//!
//! The data are TOML (`data/`, with a README that says where they come from); a build script turns them into static
//! tables. Nothing is read or parsed at run time. Facts are data, judgement is code: rules live in `checks`.
#![forbid(unsafe_code)]

mod counter;
mod owner;
pub mod place;
mod reason;
mod sentence;
mod stage;
mod state;

pub use counter::{Counter, Effect, Scope, counter, counters, counters_named};
pub use owner::{Owner, owner_of_chain, owner_of_policy, owner_of_route, owner_of_rule, owners};
pub use reason::{Class, Direction, Reason, reason, reasons};
pub use sentence::{Sentence, all_sentences, sentence, sentences};
pub use stage::{Layer, Path, Stage, stage, stages};
pub use state::{State, state, states, states_of_sysctl};

/// Something that misleads people who read the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pitfall {
    /// `double.listendrops`.
    pub id: &'static str,
    /// What is misleading, and what to do instead.
    pub text: &'static str,
    /// Kernel file (and function) or document that it was read from.
    pub source: &'static str,
}

/// The pitfall with this id.
pub fn pitfall(id: &str) -> Option<&'static Pitfall> {
    find(tables::PITFALLS, id, |p| p.id)
}

/// All pitfalls, by id.
pub const fn pitfalls() -> &'static [Pitfall] {
    tables::PITFALLS
}

/// A cause that whydrop can name. The id is a contract; its texts stand with its rule in `checks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CauseId {
    /// `netfilter.drop_rule`.
    pub id: &'static str,
    /// One line.
    pub title: &'static str,
}

/// All causes of the contract, by id.
pub const fn causes() -> &'static [CauseId] {
    tables::CAUSES
}

/// All cause ids of the contract, sorted.
pub fn cause_ids() -> impl Iterator<Item = &'static str> {
    tables::CAUSES.iter().map(|c| c.id)
}

/// Binary search in a table that is sorted by its ids.
fn find<T>(table: &'static [T], id: &str, key: impl Fn(&T) -> &'static str) -> Option<&'static T> {
    table.binary_search_by(|item| key(item).cmp(id)).ok().and_then(|i| table.get(i))
}

mod tables {
    use crate::{
        CauseId, Class, Counter, Direction, Effect, Layer, Owner, Path, Pitfall, Reason, Scope, Sentence,
        Stage, State,
    };
    use whydrop_model::Text;

    include!(concat!(env!("OUT_DIR"), "/tables.rs"));
}
