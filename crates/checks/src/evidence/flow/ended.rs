//! Connections that the asked side ends without having said a word: a server that takes them and cannot do more, for want
//! of descriptors, of workers or of a permission.
//!
//! Only a request without an answer is a failure, and only where it is seen that the server can do no more: to end a
//! connection is a program's choice otherwise. A health check and a scan say nothing and close themselves; who sends and
//! wants no answer (logs, measurements) closes first, too.

use super::conversation::{NOTICED_SHARE, lower_bound};
use super::talk::{Talk, Talks};
use crate::evidence::case::Case;
use crate::evidence::silent::turns_away;
use whydrop_model::flow::FlowDirection;

/// So many requests without an answer are no accident.
const SEVERAL: u64 = 3;
/// Nor are two, if no other got one, and they are further apart: a client that means it, and not one that tried twice.
const APART_NS: u64 = 1_000_000_000;

/// Marks the conversations of which more are turned away than by accident.
pub fn add(case: Case<'_>, talks: &mut Talks<'_>) {
    for talk in &mut talks.list {
        let (closed, told) = (talk.told.closed, &talk.told);
        let all = closed.connections.max(closed.unanswered) == closed.unanswered;
        let apart = told.last_ns.saturating_sub(told.first_ns) >= APART_NS;
        let meant = told.direction == FlowDirection::Out && all && apart && closed.unanswered > 1;
        let often = closed.unanswered >= SEVERAL
            && lower_bound(closed.unanswered, closed.connections.max(closed.unanswered)) > NOTICED_SHARE;
        if (meant || often) && is_short(case, talk) {
            talk.turned_away = closed.unanswered;
        }
    }
}

/// True if the program that is asked is in view, and shows that it has nothing left to answer with.
fn is_short(case: Case<'_>, talk: &Talk<'_>) -> bool {
    let told = &talk.told;
    match told.direction {
        FlowDirection::In => {
            case.space_by_inode(told.netns_inode).is_some_and(|there| turns_away(there, told.local.port()))
        }
        FlowDirection::Out => {
            case.owners(told.remote.ip()).any(|there| turns_away(there, told.remote.port()))
        }
    }
}
