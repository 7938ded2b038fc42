//! Beyond the machine.

pub mod capacity;
pub mod remote_loss;
pub mod remote_refusal;
#[cfg(test)]
mod tests;

use crate::coverage::Source;
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use std::net::IpAddr;

/// What has to be seen before something may be blamed on others.
const SIGHT: &[Source] = &[Source::Links, Source::Qdiscs, Source::Nftables, Source::IptablesLegacy];

/// True if the observed end of the flow is in this namespace.
fn is_home(space: Space<'_>, flow: &Flow<'_>) -> bool {
    match flow.home(space.case) {
        Some(home) => home.same(space),
        None => flow.is_inbound() && flow.destination(space.case).is_some_and(|there| there.same(space)),
    }
}

/// The end of the flow that is out of sight.
fn far_end(flow: &Flow<'_>) -> Option<IpAddr> {
    if flow.is_inbound() { flow.source } else { flow.address }
}
