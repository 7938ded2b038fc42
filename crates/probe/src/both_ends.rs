//! Both ends on this machine: each probe seen where it leaves and where it arrives, so nothing is estimated.

use crate::account::Entry;
use crate::stats::interval::{clopper_pearson, share};
use whydrop_model::probe::Share;
use whydrop_model::{ProbeResult, text};

/// Replaces the estimates of both directions by what was seen at both ends. Leaves the result alone if the two views
/// contradict each other, as address translation in between makes them do.
pub fn apply(result: &mut ProbeResult, entries: &[Entry]) {
    let decided: Vec<&Entry> = entries.iter().filter(|e| e.was_sent() && e.outcome().is_some()).collect();
    if decided.iter().any(|e| !e.replies.is_empty() && !e.reached_peer) {
        let note = text!(
            "the view of the other end does not fit (address translation in between?): directions are estimated",
            "对端的观察与本端不符（中间有地址转换？）：两个方向的丢包率为估计值"
        );
        result.extra.notes.push(note.phrase());
        return;
    }
    let count = |f: &dyn Fn(&Entry) -> bool| decided.iter().filter(|e| f(e)).count() as u64;
    let arrived = count(&|e| e.reached_peer);
    // What left with another source address is no answer that could come back.
    let answered = count(&|e| e.peer_answered && e.elsewhere.is_none());
    let first_back = count(&|e| e.peer_answered && e.elsewhere.is_none() && e.answered_in_time());
    let sent = decided.len() as u64;
    let exact =
        |lost, total| Some(Share { loss: share(lost, total)?, ci95: clopper_pearson(lost, total, 0.05)? });
    result.forward = exact(sent - arrived, sent);
    result.reverse = exact(answered - first_back, answered);
    let note = text!(
        "seen at both ends: {there} lost on the way there, {inside} inside the other end, {back} first answers on the way back",
        "两端均有观察：去程丢失 {there} 个，对端内部丢失 {inside} 个，首个应答回程丢失 {back} 个"
    );
    let inside = count(&|e| e.reached_peer && !e.peer_answered);
    result.extra.notes.push(note.fill(&[
        ("there", &(sent - arrived)),
        ("inside", &inside),
        ("back", &(answered - first_back)),
    ]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, Answer};

    /// Ten probes: two never arrive, one arrives and is not answered, three answers are lost.
    fn account() -> Account {
        let mut account = Account::new(100);
        for seq in 0..10 {
            account.sent(1, 0, None);
            if seq >= 2 {
                account.reached_peer(seq);
            }
            if seq >= 3 {
                account.peer_answered(seq);
            }
            if seq >= 6 {
                account.reply(seq, 50, Answer::Reply);
            }
        }
        account.expire(200);
        account
    }

    #[test]
    fn counts_where_each_probe_died() {
        let mut result = ProbeResult::default();
        apply(&mut result, account().entries());
        assert_eq!(result.forward.map(|s| s.loss), Some(0.2));
        assert_eq!(result.reverse.map(|s| s.loss), Some(3.0 / 7.0));
        assert!(
            result.extra.notes[0].en.contains("2 lost on the way there, 1 inside the other end, 3 first")
        );
    }

    #[test]
    fn views_that_contradict_each_other_prove_nothing() {
        let mut account = Account::new(100);
        account.sent(1, 0, None);
        account.reply(0, 50, Answer::Reply);
        let mut result = ProbeResult::default();
        apply(&mut result, account.entries());
        assert_eq!(result.forward, None);
    }
}
