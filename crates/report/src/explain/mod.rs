//! `whydrop explain`: a cause, a counter, a drop reason, a line of `netstat -s`, a setting, a stage or a pitfall, in
//! words. The first line is one sentence; nothing needs a network.

mod list;
mod nearest;
mod write;

pub use list::write_list;
pub use nearest::nearest;
pub use write::write_explain;

use whydrop_facts::{self as facts, CauseId, Counter, Pitfall, Reason, Sentence, Stage, State};
use whydrop_model::Cause;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject<'a> {
    /// A cause with its texts.
    Cause(&'a Cause),
    /// A cause of the contract that no rule looks for yet.
    Unjudged(&'static CauseId),
    /// A counter; several where tables share the name.
    Counters(Vec<&'static Counter>),
    /// A line of `netstat -s`; several where sections share it.
    Sentences(Vec<&'static Sentence>),
    /// A drop reason.
    Reason(&'static Reason),
    /// A stage of the packet's way.
    Stage(&'static Stage),
    /// A setting or state; several where they share the setting that was named.
    States(Vec<&'static State>),
    /// A pitfall.
    Pitfall(&'static Pitfall),
}

/// Finds what `name` stands for among the given causes and the catalogue.
///
/// # Errors
/// The nearest names, at most three, if there is none.
pub fn find<'a>(name: &str, causes: &[&'a Cause]) -> Result<Subject<'a>, Vec<String>> {
    let name = name.trim();
    if let Some(cause) = causes.iter().find(|c| c.id == name) {
        return Ok(Subject::Cause(cause));
    }
    if let Some(cause) = facts::causes().iter().find(|c| c.id == name) {
        return Ok(Subject::Unjudged(cause));
    }
    let by_id = facts::counter(name).map(|c| Subject::Counters(vec![c]));
    let by_id = by_id.or_else(|| facts::reason(name).map(Subject::Reason));
    let by_id = by_id.or_else(|| facts::reason(&name.to_ascii_uppercase()).map(Subject::Reason));
    let by_id = by_id.or_else(|| facts::stage(name).map(Subject::Stage));
    let by_id = by_id.or_else(|| facts::state(name).map(|s| Subject::States(vec![s])));
    let by_id = by_id.or_else(|| facts::pitfall(name).map(Subject::Pitfall));
    if let Some(subject) = by_id {
        return Ok(subject);
    }
    // What people paste: `TCPTimeouts: 7`, `TcpExtTCPTimeouts` (nstat), a whole line of netstat.
    let bare = name.split_once(':').map_or(name, |(n, _)| n.trim());
    let mut counters = facts::counters_named(bare);
    if counters.is_empty() {
        counters.extend(nstat_name(bare));
    }
    if !counters.is_empty() {
        return Ok(Subject::Counters(counters));
    }
    let sentences = facts::sentences(name);
    if !sentences.is_empty() {
        return Ok(Subject::Sentences(sentences));
    }
    let states = facts::states_of_sysctl(name.split('=').next().unwrap_or(name).trim());
    if !states.is_empty() {
        return Ok(Subject::States(states));
    }
    Err(nearest(name, causes))
}

/// The counter that `nstat` calls by group and name without a dot.
fn nstat_name(name: &str) -> Option<&'static Counter> {
    facts::counters().iter().find(|c| name.strip_prefix(c.group) == Some(c.name))
}
