//! path://: hop by hop, at a rate that routers answer.
//!
//! A router answers a dying packet when it likes: most limit their ICMP errors to some a second. So loss at a hop is
//! loss only if it goes on to the end; else the hop limits its answers.

use crate::Nanos;
use crate::codec::MOST_PROBES;
use crate::spec::{MIN_PATH_INTERVAL, ProbeSpec};
use crate::stats;
use crate::stats::interval::clopper_pearson;
use std::net::IpAddr;
use whydrop_model::probe::Hop;

/// What the driver has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send the next probe with this time to live.
    Send(u8),
    /// Wait for packets, at most until then.
    Wait(Nanos),
    /// The run is over.
    Done,
}

/// Longest path.
const MAX_TTL: u8 = 30;
/// Rounds of the longest run.
const MAX_ROUNDS: u32 = 10_000;
/// Silent hops behind the last answering one that are still probed.
const BEYOND: u8 = 4;
/// Time between two probes of one round.
const GAP: Nanos = 20_000_000;
/// Least time between two probes to one hop.
const ROUND: Nanos = MIN_PATH_INTERVAL.as_nanos() as Nanos;
/// Addresses kept per hop; more than that is no path.
const MAX_ADDRESSES: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Sent {
    ttl: u8,
    /// Number of its flow, below the number of flows.
    flow: u32,
    at: Nanos,
    answered: bool,
}

#[derive(Debug, Default)]
struct Seen {
    sent: u64,
    received: u64,
    addresses: Vec<IpAddr>,
    rtts: Vec<f64>,
}

/// A run in progress.
#[derive(Debug)]
pub struct Path {
    rounds: u32,
    round: u32,
    /// Flows used in turn: a round goes to all hops with one of them, as routers see one path in one flow.
    flows: u32,
    interval: Nanos,
    timeout: Nanos,
    round_start: Nanos,
    ttl: u8,
    due: Nanos,
    sent: Vec<Sent>,
    hops: Vec<Seen>,
    /// Time to live with which the destination is reached.
    reached: Option<u8>,
    stopped: bool,
}

impl Path {
    /// A run of `spec.count` rounds that starts at `now`.
    pub fn new(spec: &ProbeSpec, now: Nanos) -> Self {
        let nanos = |d: std::time::Duration| u64::try_from(d.as_nanos()).unwrap_or(Nanos::MAX / 4);
        let flows = u32::from(spec.flows.unwrap_or(1).max(1));
        // The numbers of all probes must stay below what a codec can read back.
        let most = (MOST_PROBES / (u32::from(MAX_TTL) * flows)).max(1);
        Self {
            rounds: spec.count.unwrap_or(u32::MAX).min(MAX_ROUNDS).min(most),
            round: 0,
            flows,
            interval: nanos(spec.interval).max(ROUND),
            timeout: nanos(spec.timeout),
            round_start: now,
            ttl: 1,
            due: now,
            sent: vec![],
            hops: (0..MAX_TTL).map(|_| Seen::default()).collect(),
            reached: None,
            stopped: false,
        }
    }

    /// What to do at `now`.
    pub fn poll(&mut self, now: Nanos) -> Step {
        if self.stopped || self.round >= self.rounds {
            let end = self.sent.last().map_or(now, |s| s.at + self.timeout);
            let open = self
                .sent
                .iter()
                .rev()
                .take(usize::from(MAX_TTL))
                .any(|s| !s.answered && now < s.at + self.timeout);
            return if open && now < end { Step::Wait(end) } else { Step::Done };
        }
        if self.ttl > self.last() {
            self.round += 1;
            self.ttl = 1;
            self.round_start += self.interval;
            self.due = self.round_start;
            return self.poll(now);
        }
        if now >= self.due { Step::Send(self.ttl) } else { Step::Wait(self.due) }
    }

    /// The last hop worth a probe.
    fn last(&self) -> u8 {
        let answering =
            (1..).zip(&self.hops).filter(|(_, h)| h.received > 0).map(|(ttl, _)| ttl).max().unwrap_or(0);
        match self.reached {
            Some(ttl) => ttl,
            // In the first round nothing is known of what comes.
            None if self.round == 0 => MAX_TTL,
            None => MAX_TTL.min(answering + BEYOND),
        }
    }

    /// Number of the next probe. A codec takes the source port that the number leaves when it is divided by that of the
    /// ports: the numbers of a round have one.
    pub fn next_seq(&self) -> u32 {
        let sent = u32::try_from(self.sent.len()).unwrap_or(u32::MAX);
        sent.saturating_mul(self.flows).saturating_add(self.flow())
    }

    /// The flow of this round.
    fn flow(&self) -> u32 {
        self.round % self.flows
    }

    /// Books the send that [`Step::Send`] asked for.
    pub fn sent(&mut self, ttl: u8, now: Nanos) {
        self.sent.push(Sent { ttl, flow: self.flow(), at: now, answered: false });
        if let Some(hop) = self.hop(ttl) {
            hop.sent += 1;
        }
        self.pass(ttl, now);
    }

    /// Goes on to the next hop, without a probe if its send failed on this machine.
    pub fn pass(&mut self, ttl: u8, now: Nanos) {
        self.ttl = ttl + 1;
        self.due = now + GAP;
    }

    /// Books an answer of `from` to probe `seq`; `end` if it came from where the path leads, or ends there.
    pub fn answered(&mut self, seq: u32, from: IpAddr, at: Nanos, end: bool) {
        let timeout = self.timeout;
        let Some(sent) = self.sent.get_mut((seq / self.flows) as usize).filter(|s| !s.answered) else {
            return;
        };
        if at.saturating_sub(sent.at) > timeout {
            return;
        }
        sent.answered = true;
        let Sent { ttl, at: left, .. } = *sent;
        if let Some(hop) = self.hop(ttl) {
            hop.received += 1;
            hop.rtts.push(at.saturating_sub(left) as f64 / 1e6);
            if !hop.addresses.contains(&from) && hop.addresses.len() < MAX_ADDRESSES {
                hop.addresses.push(from);
            }
        }
        if end {
            self.reached = Some(self.reached.map_or(ttl, |r| r.min(ttl)));
        }
    }

    fn hop(&mut self, ttl: u8) -> Option<&mut Seen> {
        self.hops.get_mut(usize::from(ttl).checked_sub(1)?)
    }

    /// Sends nothing more.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Probes to the end of the path as (sent, answered, round-trip times); nothing was answered if it was never
    /// reached.
    pub fn destination(&self) -> (u64, u64, &[f64]) {
        let ttl = self.reached.unwrap_or_else(|| self.last());
        self.hops.get(usize::from(ttl).saturating_sub(1)).map_or((0, 0, &[]), |h| {
            if self.reached.is_some() { (h.sent, h.received, &h.rtts) } else { (h.sent, 0, &[]) }
        })
    }

    /// Probes of each flow to the end of the path as (sent, answered), in the order of the flows; those whose answer may
    /// still come at `now` are left out. Empty if the end was never reached.
    pub fn flows(&self, now: Nanos) -> Vec<(u64, u64)> {
        let Some(end) = self.reached else { return vec![] };
        let mut flows = vec![(0, 0); self.flows as usize];
        let decided = |sent: &&Sent| sent.ttl == end && (sent.answered || now >= sent.at + self.timeout);
        for sent in self.sent.iter().filter(decided) {
            if let Some((n, answered)) = flows.get_mut(sent.flow as usize) {
                *n += 1;
                *answered += u64::from(sent.answered);
            }
        }
        flows
    }

    /// The hops up to the destination, or to the first of those that nothing answers from.
    pub fn hops(&self) -> Vec<Hop> {
        let answering = self.hops.iter().rposition(|h| h.received > 0).map_or(0, |i| i + 1);
        let shown = self.reached.map_or((answering + 1).min(usize::from(MAX_TTL)), usize::from);
        let hops = self.hops.get(..shown).unwrap_or_default();
        // Where nothing was sent, nothing can answer.
        let sent = hops.iter().rposition(|h| h.sent > 0).map_or(0, |i| i + 1);
        let hops = hops.get(..sent).unwrap_or_default();
        (1..)
            .zip(hops)
            .enumerate()
            .map(|(i, (ttl, hop))| Hop {
                ttl,
                addresses: hop.addresses.clone(),
                transmitted: hop.sent,
                received: hop.received,
                rtt_ms: stats::rtt::summary(&hop.rtts),
                verdict: verdict(hop, hops.get(i + 1..).unwrap_or_default(), self.reached.is_some())
                    .to_owned(),
            })
            .collect()
    }
}

/// Loss that must be certain (lower end of its interval) before it is called loss.
const CHANCE: f64 = 0.01;

/// What the missing answers of a hop mean, given the hops behind it.
fn verdict(hop: &Seen, later: &[Seen], reached: bool) -> &'static str {
    let interval = |h: &Seen| clopper_pearson(h.sent - h.received, h.sent, 0.05);
    if hop.received == 0 {
        return if later.iter().any(|h| h.received > 0) { "silent" } else { "end" };
    }
    let Some([low, _]) = interval(hop).filter(|_| hop.received < hop.sent) else { return "ok" };
    let better = later.iter().filter_map(interval).any(|[_, high]| high < low);
    // One missing answer among few proves nothing, here or at the end of the path.
    let certain = |h: &Seen| interval(h).is_some_and(|[low, _]| low > CHANCE);
    let persists = later.iter().filter(|h| h.received > 0).all(|h| h.received < h.sent)
        && later.last().is_none_or(certain);
    match (better, persists && reached && low > CHANCE) {
        (true, _) => "limited",
        (false, true) => "loss",
        (false, false) => "ok",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const MS: Nanos = 1_000_000;

    fn address(n: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, n).into()
    }

    /// Runs 20 rounds over a path of four hops; `answers` says whether hop `ttl` answers in a round.
    fn run(answers: impl Fn(u8, u32) -> bool) -> Path {
        let spec = ProbeSpec { count: Some(20), ..ProbeSpec::parse("path://h").expect("url") };
        let (mut path, mut now) = (Path::new(&spec, 0), 0);
        loop {
            match path.poll(now) {
                Step::Done => return path,
                Step::Wait(until) => now = until,
                Step::Send(ttl) => {
                    let (seq, round) = (path.next_seq(), path.round);
                    path.sent(ttl, now);
                    let hop = ttl.min(4);
                    if answers(hop, round) {
                        path.answered(seq, address(hop), now + MS, hop == 4);
                    }
                }
            }
        }
    }

    fn verdicts(path: &Path) -> Vec<String> {
        path.hops().into_iter().map(|h| h.verdict).collect()
    }

    #[test]
    fn a_clean_path_is_ok_and_each_hop_gets_one_probe_a_second() {
        let path = run(|_, _| true);
        assert_eq!(verdicts(&path), ["ok"; 4]);
        assert_eq!(path.hops()[1].addresses, [address(2)]);
        assert_eq!(path.destination().0, 20);
        let second: Vec<Nanos> = path.sent.iter().filter(|s| s.ttl == 2).map(|s| s.at).collect();
        assert!(second.windows(2).all(|w| w[1] - w[0] >= ROUND));
    }

    #[test]
    fn a_hop_that_limits_its_answers_is_no_loss() {
        let path = run(|hop, round| hop != 2 || round % 4 == 0);
        assert_eq!(verdicts(&path), ["ok", "limited", "ok", "ok"]);
        let path = run(|hop, _| hop != 3);
        assert_eq!(verdicts(&path), ["ok", "ok", "silent", "ok"]);
    }

    #[test]
    fn a_hop_that_limits_and_one_lost_probe_at_the_end_are_no_loss_of_the_path() {
        let path = run(|hop, round| if hop == 2 { round % 4 > 1 } else { hop < 4 || round != 7 });
        assert!(!verdicts(&path).contains(&"loss".to_owned()), "{:?}", verdicts(&path));
    }

    #[test]
    fn a_send_that_fails_does_not_end_the_round() {
        let spec = ProbeSpec { count: Some(1), ..ProbeSpec::parse("path://h").expect("url") };
        let mut path = Path::new(&spec, 0);
        assert_eq!(path.poll(0), Step::Send(1));
        path.pass(1, 0);
        assert_eq!((path.poll(0), path.poll(GAP)), (Step::Wait(GAP), Step::Send(2)));
        assert_eq!((path.next_seq(), path.hops().len()), (0, 0));
    }

    #[test]
    fn loss_that_goes_on_to_the_end_is_loss() {
        let path = run(|hop, round| hop < 3 || round % 2 == 0);
        assert_eq!(verdicts(&path), ["ok", "ok", "loss", "loss"]);
        assert_eq!((path.destination().0, path.destination().1), (20, 10));
    }

    #[test]
    fn each_round_has_one_flow_and_each_flow_its_books() {
        let spec =
            ProbeSpec { count: Some(12), flows: Some(4), ..ProbeSpec::parse("path://h:80").expect("url") };
        let (mut path, mut now) = (Path::new(&spec, 0), 0);
        loop {
            match path.poll(now) {
                Step::Done => break,
                Step::Wait(until) => now = until,
                Step::Send(ttl) => {
                    let (seq, flow) = (path.next_seq(), path.round % 4);
                    assert_eq!(seq % 4, flow);
                    path.sent(ttl, now);
                    // Behind hop 1 the second flow ends.
                    let hop = ttl.min(3);
                    if hop == 1 || flow != 1 {
                        path.answered(seq, address(hop), now + MS, hop == 3);
                    }
                }
            }
        }
        assert_eq!(path.flows(now), [(3, 3), (3, 0), (3, 3), (3, 3)]);
        assert_eq!((path.destination().0, path.destination().1), (12, 9));
    }

    #[test]
    fn a_path_that_ends_says_where() {
        let path = run(|hop, _| hop < 3);
        assert_eq!(verdicts(&path), ["ok", "ok", "end"]);
        assert_eq!(path.destination().1, 0);
    }
}
