//! Services that were started anew within the window: whoever asked in that moment was refused, and got through before and
//! after it.

use super::conversation;
use super::talk::{Talk, Talks};
use crate::evidence::case::{Case, Space};
use crate::evidence::program::is_listener;
use crate::evidence::translate::Translators;
use std::collections::BTreeSet;
use whydrop_model::flow::FlowDirection;
use whydrop_model::snapshot::{Snapshot, Socket};

/// A restart takes a moment of the window: for each attempt that it costs so many others get through. A service that fails
/// again and again costs more.
const SUCCESSES: u64 = 4;

/// Marks the conversations whose failures a restart explains.
pub fn add<'a>(case: Case<'a>, nat: &Translators<'a>, talks: &mut Talks<'a>) {
    for talk in talks.list.iter_mut().filter(|talk| is_refused_for_a_moment(talk)) {
        let flow = case
            .space_by_inode(talk.told.netns_inode)
            .and_then(|space| conversation::flow(0, nat, space, talk, conversation::trouble(talk)));
        let asked = flow.as_ref().and_then(|flow| {
            Some((flow.destination(case)?, flow.arrival().and_then(|packet| packet.destination_port)?))
        });
        talk.restarted = asked.is_some_and(|(there, port)| was_restarted(there, port));
    }
}

/// True if all that failed was refused, and most got through.
fn is_refused_for_a_moment(talk: &Talk<'_>) -> bool {
    let told = &talk.told;
    let refused = told.errors.get("ECONNREFUSED").copied().unwrap_or(0);
    let failed = told.failed + talk.waiting();
    told.direction == FlowDirection::Out
        && failed > 0
        && failed == refused
        && told.established >= failed.saturating_mul(SUCCESSES)
}

/// True if the port is listened on at both ends of the window, and by no socket twice.
fn was_restarted(there: Space<'_>, port: u16) -> bool {
    let open = |snapshot: &Snapshot| -> BTreeSet<u64> {
        let sockets = snapshot.sockets.iter().filter(|s: &&Socket| is_listener(s) && s.local.port() == port);
        sockets.map(|socket| socket.cookie).collect()
    };
    let (before, after) = (open(there.before), open(there.after));
    !before.is_empty() && !after.is_empty() && before.is_disjoint(&after)
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::snapshot::Protocol;
    use whydrop_model::{Reading, Verdict};

    /// A client of which so many of 45 attempts are refused by a service that may have been started anew.
    fn refused(failed: u64, anew: bool) -> World {
        let mut world = World::pair();
        world.listens(SERVER, Protocol::Tcp, "0.0.0.0:80");
        world.after(SERVER, |s| {
            let Reading::Present(sockets) = &mut s.sockets else { panic!("sockets") };
            sockets.iter_mut().filter(|_| anew).for_each(|socket| socket.cookie += 1000);
        });
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        (talk.attempts, talk.failed, talk.established) = (45, failed, 45 - failed);
        talk.errors.insert("ECONNREFUSED".into(), failed);
        world
    }

    #[test]
    fn a_service_that_is_started_anew_refuses_for_a_moment_and_nobody_suffers() {
        assert_eq!(refused(4, true).report().verdict, Verdict::Clear);
        // The same refusals by one that went on are somebody's, and a service that falls again and again is no restart.
        assert_eq!(refused(4, false).report().flows.len(), 1);
        assert_eq!(refused(20, true).report().flows.len(), 1);
    }
}
