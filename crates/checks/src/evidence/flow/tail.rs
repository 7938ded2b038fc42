//! Tails that were sent again because no answer came, of connections to hosts out of sight.
//!
//! A probe for a lost tail (TLP, RFC 8985) goes out before anything is known to be lost, and a single one tells nothing.
//! Where the answers are lost it is all that the sender ever sees: a later answer acknowledges what an earlier one did, and
//! nothing has to be sent again. The kernel waits for as long as the other end may delay its answer before it probes
//! (`tcp_schedule_loss_probe()`), so that many of them mean packets or answers that did not come.

use super::conversation::{ATTEMPTS, NOTICED_SHARE, lower_bound};
use super::talk::{Talk, Talks};
use crate::evidence::case::Case;

/// Marks the connections whose tail probes stand for what was lost.
pub fn add<'a>(case: Case<'a>, talks: &mut Talks<'a>) {
    for talk in talks.list.iter_mut().filter(|talk| talk.told.tail_probes > 0) {
        let remote = talk.told.remote.ip();
        // Of a host in view it is known what it received, and what it was slow to answer.
        let beyond = !remote.is_unspecified() && case.owners(remote).next().is_none();
        talk.tails = if beyond && is_trouble(talk) { talk.told.tail_probes } else { 0 };
    }
}

fn is_trouble(talk: &Talk<'_>) -> bool {
    let probes = talk.told.tail_probes;
    let sent = talk.told.closed.data_segments + talk.open.data_segments;
    let needless = talk.told.closed.needless + talk.open.needless;
    let often = probes >= ATTEMPTS && lower_bound(probes, sent.max(probes)) > NOTICED_SHARE;
    // What comes out of order alone may have been overtaken; who reorders packets does not keep the last one back.
    let (gaps, received) = talk.arrived;
    let holes = gaps >= ATTEMPTS && lower_bound(gaps, received.max(gaps)) > NOTICED_SHARE;
    sent > 0 && often || needless > 0 && holes
}
