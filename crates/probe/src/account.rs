//! The account of a run: every probe is in exactly one column.

use crate::Nanos;
use crate::codec::{Own, Source};
use std::collections::BTreeMap;
use whydrop_model::probe::{Elsewhere, Flow, Outcome, Packet};

/// Counts at one moment. `transmitted = received + late + lost + open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Probes that left.
    pub transmitted: u64,
    /// Answered in time.
    pub received: u64,
    /// First answer after the limit.
    pub late: u64,
    /// No answer within the limit, and none later so far.
    pub lost: u64,
    /// Sent, unanswered, and younger than the limit.
    pub open: u64,
    /// Further replies.
    pub duplicates: u64,
    /// Sends that failed.
    pub not_sent: u64,
    /// Of the received: refused.
    pub refused: u64,
}

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The service answered.
    Reply,
    /// The address answered that nobody serves: RST, port unreachable.
    Refused,
}

/// One probe in the table.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Source port, or ICMP sequence number.
    pub sport: u16,
    /// When it was sent: by the kernel's stamp where a device took it during the call, else when send was called.
    pub sent: Nanos,
    /// Replies with their times, in order of arrival; at most [`MAX_REPLIES`] are kept.
    pub replies: Vec<(Nanos, Answer)>,
    /// Replies beyond those kept.
    pub more_replies: u32,
    /// An ICMP error that quotes this probe.
    pub icmp_error: bool,
    /// A device of this namespace saw the packet leave.
    pub left: bool,
    /// It left for another address than was asked for: this machine translates it.
    pub translated: bool,
    /// When a device of this namespace first saw an answer arrive, whether or not a socket got it.
    pub arrived: Option<Nanos>,
    /// Who answered in place of what was probed; the last one, if several did.
    pub elsewhere: Option<Source>,
    /// A device of the probed namespace saw the probe come in.
    pub reached_peer: bool,
    /// A device of the probed namespace saw an answer leave.
    pub peer_answered: bool,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Open,
    Answered,
    Late,
    Lost,
    NotSent(&'static str),
}

/// Replies kept per probe; a SYN-ACK chain has six.
const MAX_REPLIES: usize = 8;

/// What a reply changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credit {
    /// First reply, in time.
    OnTime,
    /// First reply, after the limit.
    Late,
    /// The probe was answered before.
    Duplicate,
}

/// All probes of a run, in the order of their sends.
#[derive(Debug)]
pub struct Account {
    timeout: Nanos,
    entries: Vec<Entry>,
    counts: Counts,
    /// Entries before this one are no longer open.
    settled: usize,
    send_errors: BTreeMap<&'static str, u64>,
    icmp_errors: BTreeMap<String, u64>,
}

/// Different ICMP errors that are told apart; hostile routers could invent any number.
const MAX_ICMP_ERRORS: usize = 32;
/// Different wrong sources that are told apart; a broken translation can use any number of ports.
const MAX_ELSEWHERE: usize = 32;

impl Account {
    /// An empty account; an answer later than `timeout` is late.
    pub fn new(timeout: Nanos) -> Self {
        Self {
            timeout,
            entries: vec![],
            counts: Counts::default(),
            settled: 0,
            send_errors: BTreeMap::new(),
            icmp_errors: BTreeMap::new(),
        }
    }

    /// Enters the next probe, sent at `now` or not sent because of the errno of that name. Gives its number.
    pub fn sent(&mut self, sport: u16, now: Nanos, failed: Option<&'static str>) -> u32 {
        let state = match failed {
            None => {
                self.counts.transmitted += 1;
                self.counts.open += 1;
                State::Open
            }
            Some(errno) => {
                self.counts.not_sent += 1;
                *self.send_errors.entry(errno).or_default() += 1;
                State::NotSent(errno)
            }
        };
        let seq = self.entries.len();
        self.entries.push(Entry {
            sport,
            sent: now,
            replies: vec![],
            more_replies: 0,
            icmp_error: false,
            left: false,
            translated: false,
            arrived: None,
            elsewhere: None,
            reached_peer: false,
            peer_answered: false,
            state,
        });
        u32::try_from(seq).unwrap_or(u32::MAX)
    }

    /// Books a valid reply to probe `seq`; none if there is no such probe or it never left.
    pub fn reply(&mut self, seq: u32, at: Nanos, answer: Answer) -> Option<Credit> {
        let entry = self.entries.get_mut(seq as usize)?;
        let counts = &mut self.counts;
        let credit = match entry.state {
            State::NotSent(_) => return None,
            State::Answered | State::Late => {
                counts.duplicates += 1;
                Credit::Duplicate
            }
            State::Open | State::Lost => {
                let was = if entry.state == State::Open { &mut counts.open } else { &mut counts.lost };
                *was -= 1;
                if at.saturating_sub(entry.sent) <= self.timeout {
                    counts.received += 1;
                    counts.refused += u64::from(answer == Answer::Refused);
                    entry.state = State::Answered;
                    Credit::OnTime
                } else {
                    counts.late += 1;
                    entry.state = State::Late;
                    Credit::Late
                }
            }
        };
        if entry.replies.len() < MAX_REPLIES {
            entry.replies.push((at, answer));
        } else {
            entry.more_replies += 1;
        }
        Some(credit)
    }

    /// Books an ICMP error (`host unreachable from 10.0.0.1`) that quotes probe `seq`.
    pub fn icmp_error(&mut self, seq: u32, error: String) {
        let Some(entry) = self.entries.get_mut(seq as usize) else { return };
        entry.icmp_error = true;
        if self.icmp_errors.len() < MAX_ICMP_ERRORS || self.icmp_errors.contains_key(&error) {
            *self.icmp_errors.entry(error).or_default() += 1;
        }
    }

    /// Notes that a device saw a probe leave.
    pub fn left(&mut self, own: Own) {
        if let Some(entry) = self.entries.get_mut(own.seq as usize) {
            entry.left = true;
            entry.translated |= own.translated;
        }
    }

    /// Notes that a device took probe `seq` at `at`, before its send returned: what passed before that is delay of this
    /// machine. A probe that waits in a queue leaves after its send, and its wait is part of the round trip, as with
    /// ping.
    pub fn taken(&mut self, seq: u32, at: Nanos) {
        if let Some(entry) = self.entries.get_mut(seq as usize).filter(|e| !e.left && e.replies.is_empty()) {
            entry.sent = entry.sent.max(at);
        }
    }

    /// Notes that a device saw an answer to probe `seq` arrive at `at`.
    pub fn arrived(&mut self, seq: u32, at: Nanos) {
        if let Some(entry) = self.entries.get_mut(seq as usize) {
            entry.arrived.get_or_insert(at);
        }
    }

    /// Notes that `source` answered probe `seq` in place of what was probed; false if that is known.
    pub fn elsewhere(&mut self, seq: u32, source: Source) -> bool {
        let Some(entry) = self.entries.get_mut(seq as usize).filter(|e| e.was_sent()) else { return false };
        entry.elsewhere.replace(source) != Some(source)
    }

    /// As [`Self::elsewhere`], where only a device saw the answer. That proves nothing of a probe that this machine
    /// translates: its answer is translated back before a socket gets it.
    pub fn elsewhere_on_device(&mut self, seq: u32, source: Source) -> bool {
        let as_asked = self.entries.get(seq as usize).is_some_and(|e| e.left && !e.translated);
        as_asked && self.elsewhere(seq, source)
    }

    /// Notes that the other end saw probe `seq` come in.
    pub fn reached_peer(&mut self, seq: u32) {
        if let Some(entry) = self.entries.get_mut(seq as usize) {
            entry.reached_peer = true;
        }
    }

    /// Notes that the other end saw an answer to probe `seq` leave.
    pub fn peer_answered(&mut self, seq: u32) {
        if let Some(entry) = self.entries.get_mut(seq as usize) {
            entry.peer_answered = true;
        }
    }

    /// Moves probes older than the limit from open to lost; gives their numbers.
    pub fn expire(&mut self, now: Nanos) -> Vec<u32> {
        let mut lost = vec![];
        while let Some(entry) = self.entries.get_mut(self.settled) {
            if entry.state == State::Open {
                if now.saturating_sub(entry.sent) <= self.timeout {
                    break;
                }
                entry.state = State::Lost;
                self.counts.open -= 1;
                self.counts.lost += 1;
                lost.push(u32::try_from(self.settled).unwrap_or(u32::MAX));
            }
            self.settled += 1;
        }
        lost
    }

    /// When the oldest open probe passes its limit.
    pub fn next_expiry(&self) -> Option<Nanos> {
        let open = self.entries.get(self.settled..)?.iter().find(|e| e.state == State::Open)?;
        Some(open.sent + self.timeout + 1)
    }

    /// The counts now.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The probes, in the order of their sends.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Sends that failed, by errno name.
    pub fn send_errors(&self) -> BTreeMap<String, u64> {
        self.send_errors.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
    }

    /// ICMP errors by kind and sender.
    pub fn icmp_errors(&self) -> &BTreeMap<String, u64> {
        &self.icmp_errors
    }

    /// Decided probes by source port, in order of the ports.
    pub fn flows(&self) -> Vec<Flow> {
        let mut flows: BTreeMap<u16, Flow> = BTreeMap::new();
        for entry in self.entries.iter().filter(|e| e.was_sent() && e.state != State::Open) {
            let empty = Flow { sport: entry.sport, transmitted: 0, lost: 0 };
            let flow = flows.entry(entry.sport).or_insert(empty);
            flow.transmitted += 1;
            flow.lost += u64::from(!entry.answered_in_time());
        }
        flows.into_values().collect()
    }

    /// Who answered in place of what was probed; at most [`MAX_ELSEWHERE`].
    pub fn answered_elsewhere(&self) -> Vec<Elsewhere> {
        let mut sources: BTreeMap<Source, u64> = BTreeMap::new();
        for source in self.entries.iter().filter_map(|e| e.elsewhere) {
            if sources.len() < MAX_ELSEWHERE || sources.contains_key(&source) {
                *sources.entry(source).or_default() += 1;
            }
        }
        let told = |(Source { address, port }, probes)| Elsewhere { address, port, probes };
        sources.into_iter().map(told).collect()
    }

    /// Every decided probe for the join with drop events; `wall` is what to add to a [`Nanos`] for CLOCK_REALTIME.
    pub fn packets(&self, wall: i128) -> Vec<Packet> {
        (0u32..).zip(&self.entries).filter_map(|(seq, e)| Some(e.packet(seq, e.outcome()?, wall))).collect()
    }
}

impl Entry {
    /// What became of the probe; none while it is open.
    pub fn outcome(&self) -> Option<Outcome> {
        Some(match self.state {
            State::Open => return None,
            State::NotSent(errno) => Outcome::NotSent(errno.to_owned()),
            State::Late => Outcome::Late,
            State::Lost if self.icmp_error => Outcome::Unreachable,
            State::Lost => Outcome::Lost,
            State::Answered => match self.replies.first() {
                Some((_, Answer::Refused)) => Outcome::Refused,
                _ => Outcome::Received,
            },
        })
    }

    /// Nanoseconds from the send to the first reply.
    pub fn rtt(&self) -> Option<Nanos> {
        self.replies.first().map(|(at, _)| at.saturating_sub(self.sent))
    }

    /// Whether an answer came within the limit.
    pub fn answered_in_time(&self) -> bool {
        self.state == State::Answered
    }

    /// Whether this machine itself dropped the first answer: a device saw it, and no socket got it, then or soon after.
    pub fn filtered(&self) -> bool {
        const SOON: Nanos = 100_000_000;
        let first = self.replies.first().map_or(Nanos::MAX, |(at, _)| *at);
        self.arrived.is_some_and(|seen| first.saturating_sub(seen) > SOON)
    }

    /// Whether the probe left (its send succeeded).
    pub fn was_sent(&self) -> bool {
        !matches!(self.state, State::NotSent(_))
    }

    fn packet(&self, seq: u32, outcome: Outcome, wall: i128) -> Packet {
        let kept = u32::try_from(self.replies.len()).unwrap_or(u32::MAX);
        Packet {
            seq,
            sport: self.sport,
            sent_ns: u64::try_from(i128::from(self.sent) + wall).unwrap_or(u64::MAX),
            outcome,
            rtt_ms: self.rtt().map(|ns| ns as f64 / 1e6),
            duplicates: kept.saturating_sub(1) + self.more_replies,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn a_late_first_reply_is_late_and_a_second_one_a_duplicate() {
        let mut account = Account::new(900 * MS);
        let seq = account.sent(1, 0, None);
        assert_eq!(account.expire(900 * MS), Vec::<u32>::new());
        assert_eq!(account.expire(901 * MS), vec![seq]);
        assert_eq!(account.reply(seq, 1000 * MS, Answer::Reply), Some(Credit::Late));
        assert_eq!(account.reply(seq, 3000 * MS, Answer::Reply), Some(Credit::Duplicate));
        let counts = account.counts();
        assert_eq!((counts.late, counts.lost, counts.received, counts.duplicates), (1, 0, 0, 1));
    }

    #[test]
    fn a_prober_that_is_held_up_inside_its_send_makes_no_round_trip_longer() {
        let mut account = Account::new(900 * MS);
        let seq = account.sent(1, 0, None);
        account.taken(seq, 1500 * MS);
        account.left(Own { seq, translated: false });
        account.taken(seq, 1600 * MS);
        assert_eq!(account.reply(seq, 1501 * MS, Answer::Reply), Some(Credit::OnTime));
        assert_eq!(account.entries()[0].rtt(), Some(MS));
    }

    #[test]
    fn a_probe_that_never_left_takes_no_reply() {
        let mut account = Account::new(900 * MS);
        let seq = account.sent(1, 0, Some("EPERM"));
        assert_eq!(account.reply(seq, 1, Answer::Reply), None);
        assert_eq!(account.counts(), Counts { not_sent: 1, ..Counts::default() });
        assert_eq!(account.packets(0)[0].outcome, Outcome::NotSent("EPERM".into()));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Send(bool),
        Reply(u32, bool),
        Expire,
        Icmp(u32),
    }

    proptest! {
        #[test]
        fn the_columns_always_add_up(ops in proptest::collection::vec((0u64..400, prop_oneof![
            any::<bool>().prop_map(Op::Send),
            (0u32..40, any::<bool>()).prop_map(|(s, r)| Op::Reply(s, r)),
            Just(Op::Expire),
            (0u32..40).prop_map(Op::Icmp),
        ]), 0..200)) {
            let mut account = Account::new(900 * MS);
            let (mut now, mut replies) = (0, 0);
            for (step, op) in ops {
                now += step * MS;
                match op {
                    Op::Send(ok) => { account.sent(0, now, (!ok).then_some("EPERM")); }
                    Op::Reply(seq, refused) => {
                        let answer = if refused { Answer::Refused } else { Answer::Reply };
                        replies += u64::from(account.reply(seq, now, answer).is_some());
                    }
                    Op::Expire => { account.expire(now); }
                    Op::Icmp(seq) => account.icmp_error(seq, "x".into()),
                }
                let c = account.counts();
                prop_assert_eq!(c.transmitted, c.received + c.late + c.lost + c.open);
                prop_assert_eq!(c.transmitted + c.not_sent, account.entries().len() as u64);
                prop_assert_eq!(replies, c.received + c.late + c.duplicates);
                prop_assert!(c.refused <= c.received);
            }
            account.expire(now + 901 * MS);
            let c = account.counts();
            prop_assert_eq!(c.open, 0);
            let packets = account.packets(0);
            let with = |f: &dyn Fn(&Outcome) -> bool| packets.iter().filter(|p| f(&p.outcome)).count() as u64;
            prop_assert_eq!(with(&|o| matches!(o, Outcome::Received | Outcome::Refused)), c.received);
            prop_assert_eq!(with(&|o| matches!(o, Outcome::Late)), c.late);
            prop_assert_eq!(with(&|o| matches!(o, Outcome::Lost | Outcome::Unreachable)), c.lost);
            prop_assert_eq!(packets.iter().map(|p| u64::from(p.duplicates)).sum::<u64>(), c.duplicates);
        }
    }
}
