//! A run of single-packet probes on an absolute schedule: what to do next, and the result at the end.

use crate::Nanos;
use crate::account::Answer::Refused;
use crate::account::{Account, Counts, Credit, Entry};
use crate::codec::{Heard, What};
use crate::spec::ProbeSpec;
use crate::stats::sequential::{self, Answer};
use crate::{notes, stats};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;
use whydrop_model::ProbeResult;

/// What the driver has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send probe [`Flight::next_seq`], then call [`Flight::sent`].
    Send,
    /// Tell people that this probe passed its limit.
    Lost(u32),
    /// Wait for packets, at most until then.
    Wait(Nanos),
    /// The run is over.
    Done,
}

/// Most probes of one run: bounds the table to some 30 MB.
pub const MAX_PROBES: u32 = 200_000;
/// Probes that may be unanswered at once: what a small server's SYN queue bears.
pub const MAX_OPEN: u64 = 64;

/// A delay that is made up for: at a high rate the scheduler of a busy machine costs some sends their time.
const CATCH_UP: Nanos = 10_000_000;

/// A run in progress.
#[derive(Debug)]
pub struct Flight {
    account: Account,
    count: u32,
    interval: Nanos,
    timeout: Nanos,
    late: Nanos,
    max_open: u64,
    /// When the next probe is due; none before the first.
    due: Option<Nanos>,
    last_sent: Nanos,
    stopped: bool,
    lost: VecDeque<u32>,
    /// When sending ends whatever the count.
    deadline: Nanos,
    ends: Option<Nanos>,
    /// Loss against which the run is tested.
    limit: Option<f64>,
    fixed_flows: bool,
    /// Round trip of the last answer in time.
    last_rtt: Nanos,
}

/// Round trips above this leave no gap before the first repetition of a SYN-ACK.
const QUICK: Nanos = 250_000_000;

fn nanos(d: Duration) -> Nanos {
    u64::try_from(d.as_nanos()).unwrap_or(Nanos::MAX / 4).min(Nanos::MAX / 4)
}

impl Flight {
    /// A run as `spec` wants it.
    pub fn new(spec: &ProbeSpec) -> Self {
        let (timeout, interval) = (nanos(spec.timeout), nanos(spec.interval).max(1));
        Self {
            account: Account::new(timeout),
            count: spec.count.unwrap_or(MAX_PROBES).min(MAX_PROBES),
            interval,
            timeout,
            late: nanos(spec.late).max(timeout),
            // A fast run towards a healthy peer has no more open than fly during one round trip; loss at a high
            // rate must not throttle the run below its schedule, which the caller has allowed.
            max_open: MAX_OPEN.max(timeout / interval + 1),
            due: None,
            last_sent: 0,
            stopped: false,
            lost: VecDeque::new(),
            deadline: spec.deadline.map_or(Nanos::MAX / 4, nanos),
            ends: None,
            limit: spec.target,
            fixed_flows: spec.flows.is_some(),
            last_rtt: 0,
        }
    }

    /// What to do at `now`.
    pub fn poll(&mut self, now: Nanos) -> Step {
        self.lost.extend(self.account.expire(now));
        if let Some(seq) = self.lost.pop_front() {
            return Step::Lost(seq);
        }
        if now >= *self.ends.get_or_insert(now + self.deadline) || self.certain() {
            self.stopped = true;
        }
        let expiry = self.account.next_expiry();
        if !self.stopped && self.next_seq() < self.count {
            let due = *self.due.get_or_insert(now);
            let full = self.account.counts().open >= self.max_open;
            return match expiry {
                Some(expiry) if full => Step::Wait(expiry),
                _ if now >= due => Step::Send,
                Some(expiry) => Step::Wait(due.min(expiry)),
                None => Step::Wait(due),
            };
        }
        if let Some(expiry) = expiry {
            return Step::Wait(expiry);
        }
        let end = self.last_sent + self.late;
        if self.stopped || self.late == self.timeout || now >= end { Step::Done } else { Step::Wait(end) }
    }

    fn certain(&self) -> bool {
        let c = self.account.counts();
        let test = |limit| sequential::test(c.lost + c.late, c.transmitted - c.open, limit);
        self.limit.is_some_and(|limit| test(limit) != Answer::Open)
    }

    /// Number of the next probe.
    pub fn next_seq(&self) -> u32 {
        u32::try_from(self.account.entries().len()).unwrap_or(u32::MAX)
    }

    /// Books the send that [`Step::Send`] asked for: its source port, the time just before the call, and the errno
    /// name if it failed.
    pub fn sent(&mut self, sport: u16, now: Nanos, failed: Option<&'static str>) {
        self.account.sent(sport, now, failed);
        self.last_sent = now;
        // Absolute schedule: no drift. A prober that was stalled for longer does not catch up with a burst.
        let next = self.due.unwrap_or(now) + self.interval;
        self.due = Some(if next + self.interval.max(CATCH_UP) < now { now + self.interval } else { next });
    }

    /// Books a packet that belongs to a probe of `remote`.
    pub fn heard(&mut self, heard: &Heard, remote: IpAddr, at: Nanos) -> Option<Credit> {
        match &heard.what {
            What::Answer(answer, _) => {
                let credit = self.account.reply(heard.seq, at, *answer);
                if let (Some(Credit::OnTime), Some(entry)) =
                    (credit, self.account.entries().get(heard.seq as usize))
                {
                    self.last_rtt = at.saturating_sub(entry.sent);
                }
                credit
            }
            What::IcmpError(error) => {
                self.account.icmp_error(heard.seq, error.to_string());
                error.refuses(remote).then(|| self.account.reply(heard.seq, at, Refused))?
            }
            What::Elsewhere(source) => {
                self.account.elsewhere(heard.seq, *source);
                None
            }
        }
    }

    /// Round trip of the last answer in time; none if it took so long that a late one at 1, 3 or 7 s does not stand out.
    pub fn quick_rtt(&self) -> Option<Nanos> {
        Some(self.last_rtt).filter(|rtt| *rtt < QUICK)
    }

    /// Sends nothing more, and waits only for probes that are still within their limit.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// The account.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The account, for what devices saw.
    pub fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }

    /// Counts now.
    pub fn counts(&self) -> Counts {
        self.account.counts()
    }

    /// The result at `now`. `wall` is what to add to a [`Nanos`] for CLOCK_REALTIME; `watched` says that the
    /// devices of the namespace were watched without a gap.
    pub fn finish(&mut self, now: Nanos, wall: i128, watched: bool) -> ProbeResult {
        self.account.expire(now);
        let counts = self.account.counts();
        let decided = counts.transmitted - counts.open;
        let rtts = stats::rtt::on_time_ms(self.account.entries());
        let mut result = ProbeResult {
            transmitted: decided,
            received: counts.received,
            lost: counts.lost,
            late: counts.late,
            duplicates: counts.duplicates,
            not_sent: counts.not_sent,
            refused: counts.refused,
            loss: stats::interval::share(counts.lost + counts.late, decided),
            loss_ci95: stats::interval::clopper_pearson(counts.lost + counts.late, decided, 0.05),
            rtt_ms: stats::rtt::summary(&rtts),
            send_errors: self.account.send_errors(),
            icmp_errors: self.account.icmp_errors().clone(),
            packets: self.account.packets(wall),
            ..ProbeResult::default()
        };
        result.extra.undecided = counts.open;
        result.extra.jitter_ms = stats::rtt::jitter_ms(&rtts);
        let lost = self.account.entries().iter().filter(|e| e.was_sent() && e.replies.is_empty());
        result.extra.answered_elsewhere =
            lost.clone().filter(|e| e.outcome().is_some() && e.elsewhere.is_some()).count() as u64;
        result.extra.elsewhere = self.account.answered_elsewhere();
        // What was answered has left. Devices that saw nothing of that do not show what this machine sends.
        let in_sight = |e: &Entry| e.replies.is_empty() || e.left;
        if watched && self.account.entries().iter().all(in_sight) {
            let dropped = |e: &&Entry| e.left && !e.answered_in_time() && e.filtered();
            result.extra.never_left = Some(lost.filter(|e| !e.left).count() as u64);
            result.extra.dropped_on_return =
                Some(self.account.entries().iter().filter(dropped).count() as u64);
        }
        result.extra.bursts = stats::bursts::gilbert(&notes::losses(self.account.entries()));
        if self.fixed_flows {
            result.extra.flows = self.account.flows();
        }
        result.extra.notes = notes::own_side(&result);
        result.extra.notes.extend(self.limit.map(|limit| notes::limit(limit, &result)));
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Detail;
    use proptest::prelude::*;

    const MS: Nanos = 1_000_000;
    const REMOTE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn spec(count: u32) -> ProbeSpec {
        ProbeSpec { count: Some(count), ..ProbeSpec::parse("tcp://h:1").expect("url") }
    }

    fn reply(seq: u32) -> Heard {
        Heard { seq, what: What::Answer(crate::account::Answer::Reply, Detail::default()) }
    }

    /// Drives a flight through a network in which probe `seq` is answered at the given delays (ms).
    fn drive(spec: &ProbeSpec, network: impl Fn(u32) -> Vec<u64>) -> (ProbeResult, Vec<Nanos>, Nanos) {
        let mut flight = Flight::new(spec);
        let (mut now, mut sends) = (5 * MS, vec![]);
        let mut air: Vec<(Nanos, u32)> = vec![];
        loop {
            match flight.poll(now) {
                Step::Done => break,
                Step::Lost(_) => {}
                Step::Send => {
                    let seq = flight.next_seq();
                    air.extend(network(seq).into_iter().map(|d| (now + d * MS, seq)));
                    air.sort_unstable();
                    sends.push(now);
                    flight.sent(1, now, None);
                }
                Step::Wait(until) => {
                    assert!(until > now, "a wait that does not wait");
                    match air.first().copied() {
                        Some((at, seq)) if at <= until => {
                            air.remove(0);
                            now = at;
                            flight.heard(&reply(seq), REMOTE, at);
                        }
                        _ => now = until,
                    }
                }
            }
        }
        (flight.finish(now, 0, false), sends, now)
    }

    #[test]
    fn keeps_an_absolute_schedule_and_ends_when_all_are_answered() {
        let (result, sends, end) = drive(&spec(10), |_| vec![3]);
        assert_eq!((result.transmitted, result.received, result.loss), (10, 10, Some(0.0)));
        assert!(sends.windows(2).all(|w| w[1] - w[0] == 100 * MS));
        assert_eq!(end, sends[9] + 3 * MS);
    }

    #[test]
    fn waits_for_the_limit_of_the_last_probe_and_for_the_late_window_if_asked() {
        let (result, sends, end) = drive(&spec(2), |_| vec![1005]);
        assert_eq!((result.late, result.lost), (0, 2), "nobody waited for 1 s");
        assert_eq!(end, sends[1] + 900 * MS + 1);
        let long = ProbeSpec { late: Duration::from_secs(8), ..spec(2) };
        let (result, ..) = drive(&long, |_| vec![1005, 3000]);
        assert_eq!((result.late, result.lost, result.duplicates), (2, 0, 2));
    }

    #[test]
    fn a_stalled_prober_does_not_send_a_burst() {
        let mut flight = Flight::new(&spec(10));
        assert_eq!(flight.poll(0), Step::Send);
        flight.sent(1, 0, None);
        assert!(matches!(flight.poll(1), Step::Wait(_)));
        let late = 550 * MS;
        assert_eq!(flight.poll(late), Step::Send);
        flight.sent(1, late, None);
        assert_eq!(flight.poll(late), Step::Wait(late + 100 * MS));
    }

    #[test]
    fn stopping_waits_for_open_probes_only() {
        let mut flight = Flight::new(&spec(10));
        assert_eq!(flight.poll(0), Step::Send);
        flight.sent(1, 0, None);
        flight.stop();
        assert_eq!(flight.poll(0), Step::Wait(900 * MS + 1));
        flight.heard(&reply(0), REMOTE, MS);
        assert_eq!(flight.poll(MS), Step::Done);
    }

    #[test]
    fn a_limit_ends_the_run_once_the_answer_is_certain() {
        let limited = ProbeSpec { target: Some(0.01), count: None, ..spec(1) };
        let (result, ..) = drive(&limited, |_| vec![1]);
        assert!((300..400).contains(&result.transmitted), "{}", result.transmitted);
        assert!(result.extra.notes[0].en.contains("not above 1 %"), "{:?}", result.extra.notes);
        let (result, ..) = drive(&limited, |_| vec![]);
        assert!(result.transmitted < 20, "{}", result.transmitted);
    }

    #[test]
    fn a_deadline_ends_sending() {
        let (result, sends, _) =
            drive(&ProbeSpec { deadline: Some(Duration::from_millis(450)), ..spec(50) }, |_| vec![1]);
        assert_eq!((result.transmitted, sends.len()), (5, 5));
    }

    proptest! {
        #[test]
        fn received_is_never_above_transmitted(delays in proptest::collection::vec(
            proptest::collection::vec(0u64..9000, 0..4), 1..40), late in 0u64..9000) {
            let spec = ProbeSpec { late: Duration::from_millis(late), ..spec(delays.len() as u32) };
            let (r, ..) = drive(&spec, |seq| delays[seq as usize].clone());
            prop_assert_eq!(r.transmitted, r.received + r.late + r.lost);
            prop_assert_eq!(r.transmitted, delays.len() as u64);
            prop_assert_eq!(r.packets.len(), delays.len());
            let on_time = delays.iter().filter(|d| d.iter().any(|ms| *ms <= 900)).count() as u64;
            prop_assert_eq!(r.received, on_time);
            let ci = r.loss_ci95.expect("sent");
            prop_assert!(ci[0] <= r.loss.expect("sent") && r.loss.expect("sent") <= ci[1]);
        }
    }
}
