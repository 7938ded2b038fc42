//! pmtu://: the largest packet that passes, found by sending, robust against ordinary loss.
//!
//! A size is called too big only if its silence is not explained by the loss that small packets meet (1 %). Packets
//! above the limit that vanish without an ICMP answer are a black hole (RFC 4821); then the search goes on hop by
//! hop, to say between which two routers they vanish.

use crate::Nanos;
use crate::codec::IcmpError;
use crate::wire::icmp::ErrorKind;
use std::net::IpAddr;
use whydrop_model::probe::Pmtu;

/// What the driver has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send probe `seq` as an IP packet of `size` bytes that must not be fragmented.
    Send {
        /// Number of the probe.
        seq: u32,
        /// Bytes of the IP packet.
        size: u32,
        /// Time to live, if it is to die on the way.
        ttl: Option<u8>,
    },
    /// Wait for packets, at most until then.
    Wait(Nanos),
    /// The search is over.
    Done,
}

const MS: Nanos = 1_000_000;
/// Time between two packets.
const GAP: Nanos = 30 * MS;
/// Time between two packets that ask a router for an ICMP error: many send only some a second.
const HOP_GAP: Nanos = 300 * MS;
/// Small packets sent first.
const FIRST: u32 = 5;
/// An IP packet that every link carries, and that holds a token.
const SMALL: u32 = 84;
/// Sizes worth a try before halving: loopback, jumbo frames, Ethernet, the least IPv6 link.
const COMMON: [u32; 4] = [65_535, 9_000, 1_500, 1_280];
/// Longest path that is searched.
const MAX_TTL: u8 = 30;
/// Chance that ordinary loss alone makes a size look too big.
const DOUBT: f64 = 0.01;

#[derive(Clone, Copy, Debug)]
struct Sent {
    size: u32,
    ttl: Option<u8>,
    at: Nanos,
    answered: bool,
}

/// The size that is being tried.
#[derive(Clone, Copy, Debug)]
struct Trial {
    size: u32,
    ttl: Option<u8>,
    sent: u32,
    /// A small packet goes along, to keep the loss of small packets known.
    small_due: bool,
}

/// A search in progress.
#[derive(Debug)]
pub struct Search {
    sent: Vec<Sent>,
    trial: Option<Trial>,
    /// Largest size known to pass, smallest known not to.
    passes: Option<u32>,
    fails: u32,
    /// What made `fails` fail: nothing came back.
    silent: bool,
    /// `fails` is beyond this machine's own interface.
    local: bool,
    icmp: Option<(IpAddr, u32)>,
    due: Nanos,
    slowest: Nanos,
    /// Router that the too big packets reach, and the first that they do not reach.
    reached: Option<IpAddr>,
    hole_before: Option<IpAddr>,
    done: bool,
}

impl Search {
    /// A search that starts at `now`.
    pub fn new(now: Nanos) -> Self {
        Self {
            sent: vec![],
            trial: None,
            passes: None,
            fails: 65_536,
            silent: false,
            local: true,
            icmp: None,
            due: now,
            slowest: 0,
            reached: None,
            hole_before: None,
            done: false,
        }
    }

    /// What to do at `now`.
    pub fn poll(&mut self, now: Nanos) -> Step {
        if self.done {
            return Step::Done;
        }
        if now < self.due {
            return Step::Wait(self.due);
        }
        let seq = u32::try_from(self.sent.len()).unwrap_or(u32::MAX);
        if seq < FIRST {
            return Step::Send { seq, size: SMALL, ttl: None };
        }
        if self.passes.is_none() {
            return self.after_first(now);
        }
        let tries = self.tries();
        let trial = match self.trial {
            Some(trial) => trial,
            None => match self.next_trial() {
                Some(trial) => *self.trial.insert(trial),
                None => {
                    self.done = true;
                    return Step::Done;
                }
            },
        };
        if trial.small_due {
            // On the way to a router the small packet goes as far as the large one.
            return Step::Send { seq, size: SMALL, ttl: trial.ttl };
        }
        if trial.sent < tries {
            return Step::Send { seq, size: trial.size, ttl: trial.ttl };
        }
        let last = self.sent.last().map_or(now, |s| s.at);
        let end = last + self.patience();
        if now < end {
            return Step::Wait(end);
        }
        self.nothing_came(trial);
        self.poll(now)
    }

    fn after_first(&mut self, now: Nanos) -> Step {
        if self.sent.iter().any(|s| s.answered) {
            self.passes = Some(SMALL);
            return self.poll(now);
        }
        let end = self.sent.last().map_or(now, |s| s.at) + self.patience();
        if now < end {
            return Step::Wait(end);
        }
        self.done = true;
        Step::Done
    }

    /// Books the send that [`Step::Send`] asked for; `too_big` if this machine refused it for its size (EMSGSIZE).
    pub fn sent(&mut self, size: u32, ttl: Option<u8>, now: Nanos, too_big: bool) {
        self.sent.push(Sent { size, ttl, at: now, answered: false });
        let gap = if ttl.is_some() { HOP_GAP } else { GAP };
        self.due = now + gap;
        let Some(trial) = &mut self.trial else { return };
        if size == SMALL {
            trial.small_due = false;
        } else {
            trial.sent += 1;
        }
        if too_big {
            (self.fails, self.local, self.silent) = (size, true, false);
            self.trial = None;
            self.due = now;
        }
    }

    /// Books an echo answer to probe `seq`.
    pub fn answered(&mut self, seq: u32, now: Nanos) {
        let Some(sent) = self.sent.get_mut(seq as usize) else { return };
        sent.answered = true;
        self.slowest = self.slowest.max(now.saturating_sub(sent.at));
        let sent = *sent;
        if sent.size == SMALL {
            // A small packet that was to die on the way came through: the path ends before the hole was found.
            if sent.ttl.is_some() && self.trial.is_some_and(|t| t.ttl == sent.ttl) {
                self.end_of_path();
            }
            return;
        }
        self.passes = self.passes.max(Some(sent.size));
        if self.trial.is_some_and(|t| t.size <= sent.size) {
            self.trial = None;
        }
    }

    /// Books an ICMP error that quotes probe `seq`.
    pub fn error(&mut self, seq: u32, error: IcmpError, now: Nanos) {
        let Some(sent) = self.sent.get_mut(seq as usize) else { return };
        sent.answered = true;
        self.slowest = self.slowest.max(now.saturating_sub(sent.at));
        let sent = *sent;
        match (error.kind, error.from) {
            (ErrorKind::TooBig(mtu), Some(from)) => {
                self.icmp = Some((from, mtu));
                let named = mtu + 1;
                let fails =
                    if named > self.passes.unwrap_or(0) + 1 && named < sent.size { named } else { sent.size };
                if fails <= self.fails {
                    (self.fails, self.local, self.silent) = (fails, false, false);
                }
                if self.trial.is_some_and(|t| t.ttl.is_none() && t.size >= self.fails) {
                    self.trial = None;
                }
            }
            (ErrorKind::TimeExceeded, Some(from)) if self.trial.is_some_and(|t| t.ttl == sent.ttl) => {
                if sent.size == SMALL {
                    self.hole_before = Some(from);
                } else {
                    self.reached = Some(from);
                    self.hole_before = None;
                    self.trial =
                        sent.ttl.filter(|ttl| *ttl < MAX_TTL).map(|ttl| hop_trial(sent.size, ttl + 1));
                    self.done |= self.trial.is_none();
                }
            }
            _ => {}
        }
    }

    fn end_of_path(&mut self) {
        // The last router reached is the last one there is.
        self.trial = None;
        self.done = true;
    }

    /// All tries of a trial stayed unanswered.
    fn nothing_came(&mut self, trial: Trial) {
        self.trial = None;
        if trial.ttl.is_some() {
            self.done = true;
        } else {
            (self.fails, self.local, self.silent) = (trial.size, false, true);
        }
    }

    fn next_trial(&self) -> Option<Trial> {
        let passes = self.passes?;
        if passes + 1 >= self.fails {
            return (self.silent && self.sent.iter().all(|s| s.ttl.is_none()))
                .then(|| hop_trial(self.fails, 1));
        }
        let inside = |size: &u32| *size > passes && *size < self.fails;
        let named = self.icmp.map(|(_, mtu)| mtu).filter(inside);
        let common = COMMON.into_iter().find(inside);
        let size = named.or(common).unwrap_or(u32::midpoint(passes, self.fails));
        Some(Trial { size, ttl: None, sent: 0, small_due: true })
    }

    /// Small packets sent all the way, and how many of them were lost.
    fn small(&self) -> (u64, u64) {
        let small = self.sent.iter().filter(|s| s.size == SMALL && s.ttl.is_none());
        small.fold((0, 0), |(sent, lost), s| (sent + 1, lost + u64::from(!s.answered)))
    }

    /// How many packets of one size have to stay unanswered before that means something.
    fn tries(&self) -> u32 {
        let (sent, lost) = self.small();
        let loss = (lost as f64 + 0.5) / (sent as f64 + 1.0);
        (DOUBT.ln() / loss.ln()).ceil().clamp(3.0, 12.0) as u32
    }

    fn patience(&self) -> Nanos {
        if self.slowest == 0 { 900 * MS } else { (4 * self.slowest + 100 * MS).min(900 * MS) }
    }

    /// Small packets as (sent, answered): the loss that has nothing to do with size.
    pub fn base(&self) -> (u64, u64) {
        let (sent, lost) = self.small();
        (sent, sent - lost)
    }

    /// What was found.
    pub fn result(&self) -> Pmtu {
        Pmtu {
            largest_ok: self.passes,
            smallest_lost: (!self.local).then_some(self.fails),
            icmp: self.icmp,
            black_hole: self.silent,
        }
    }

    /// Routers around the black hole: the last that too big packets reach, and the next one, as far as they answer.
    pub fn hole(&self) -> (Option<IpAddr>, Option<IpAddr>) {
        (self.reached, self.hole_before)
    }
}

fn hop_trial(size: u32, ttl: u8) -> Trial {
    Trial { size, ttl: Some(ttl), sent: 0, small_due: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn router(n: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, n).into()
    }

    /// A path of five hops; the link behind router 3 carries `mtu` bytes, and router 3 says so or not. Every `nth`
    /// packet is lost (0: none).
    fn search(link: u32, mtu: u32, speaks: bool, nth: u32) -> Search {
        let (mut search, mut now) = (Search::new(0), 0);
        for _ in 0..5000 {
            match search.poll(now) {
                Step::Done => return search,
                Step::Wait(until) => now = until,
                Step::Send { seq, size, ttl } => {
                    if size > link {
                        search.sent(size, ttl, now, true);
                        continue;
                    }
                    search.sent(size, ttl, now, false);
                    let ttl = ttl.unwrap_or(64);
                    let error = |kind, n| IcmpError { kind, from: Some(router(n)) };
                    if nth > 0 && seq % nth == 0 {
                        continue;
                    }
                    if ttl <= 3 {
                        search.error(seq, error(ErrorKind::TimeExceeded, ttl), now + MS);
                    } else if size > mtu {
                        if speaks {
                            search.error(seq, error(ErrorKind::TooBig(mtu), 3), now + MS);
                        }
                    } else if ttl <= 5 {
                        search.error(seq, error(ErrorKind::TimeExceeded, ttl), now + MS);
                    } else {
                        search.answered(seq, now + MS);
                    }
                }
            }
        }
        panic!("no end: {search:?}");
    }

    #[test]
    fn a_plain_path_carries_what_the_interface_carries() {
        for link in [1500, 9000, 1280, 65_535] {
            let found = search(link, 65_535, true, 0).result();
            assert_eq!((found.largest_ok, found.smallest_lost, found.black_hole), (Some(link), None, false));
        }
    }

    #[test]
    fn a_router_that_speaks_names_the_size() {
        let found = search(1500, 1400, true, 0);
        let result = found.result();
        assert_eq!(
            (result.largest_ok, result.smallest_lost, result.black_hole),
            (Some(1400), Some(1401), false)
        );
        assert_eq!(result.icmp, Some((router(3), 1400)));
    }

    #[test]
    fn a_black_hole_is_found_with_its_place() {
        for mtu in [1000, 1280, 1499, 576] {
            let found = search(1500, mtu, false, 0);
            let result = found.result();
            assert_eq!((result.largest_ok, result.smallest_lost), (Some(mtu), Some(mtu + 1)));
            assert!(result.black_hole && result.icmp.is_none());
            assert_eq!(found.hole(), (Some(router(3)), Some(router(4))));
        }
    }

    #[test]
    fn ordinary_loss_is_no_black_hole() {
        for nth in [2, 3, 5] {
            let result = search(1500, 1500, false, nth).result();
            assert_eq!((result.largest_ok, result.black_hole), (Some(1500), false), "every {nth}th lost");
        }
    }

    #[test]
    fn a_silent_host_gives_no_size() {
        let (mut search, mut now) = (Search::new(0), 0);
        loop {
            match search.poll(now) {
                Step::Done => break,
                Step::Wait(until) => now = until,
                Step::Send { size, ttl, .. } => search.sent(size, ttl, now, false),
            }
        }
        assert_eq!(
            (search.result().largest_ok, search.result().black_hole, search.base()),
            (None, false, (5, 0))
        );
    }
}
