//! Who suffers while it happens: what the tracer alone tells, before anything else is read.

use crate::evidence::flow;
use crate::tell;
use whydrop_model::report::SufferingFlow;
use whydrop_model::{FlowLog, Target};

/// The conversations in trouble, each with the reason unknown; `target` names a namespace by its inode.
pub fn flows<'t>(log: &FlowLog, target: impl Fn(u64) -> Option<&'t Target>) -> Vec<SufferingFlow> {
    let told = flow::told(log).into_iter();
    told.map(|(talk, trouble, attempts)| {
        tell::flows::bare(target(talk.netns_inode), &talk, &trouble, attempts)
    })
    .collect()
}
