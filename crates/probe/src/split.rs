//! Which direction loses, from the pattern of SYN-ACKs.
//!
//! A server repeats an unanswered SYN-ACK 1, 3, 7, 15 and 31 s after the first (TCP_TIMEOUT_INIT doubled,
//! net.ipv4.tcp_synack_retries). So a first reply on that comb means that the SYN arrived and an answer was lost;
//! a further reply on it means that our kernel's RST was lost on the way there; silence means that the SYN was lost.

use crate::Nanos;
use crate::account::{Answer, Entry};
use std::collections::BTreeMap;
use whydrop_model::probe::Share;

/// When the server sends a SYN-ACK, in seconds after the SYN.
const COMB: [u64; 6] = [0, 1, 3, 7, 15, 31];
const SECOND: Nanos = 1_000_000_000;

/// How far the log-likelihood may fall inside a 95 % interval. Half the quantile of chi-squared with one degree of
/// freedom is 1.92; it holds for many losses, and with a handful of them the interval would miss the truth in one run of
/// six (simulated).
pub(crate) const DROP_95: f64 = 2.4;
/// The same for 99.9 %.
const DROP_999: f64 = 5.413_8;
/// How much farther it may fall beside a loss of nothing: with this, none lost of n bounds the loss as the exact interval
/// of Clopper and Pearson does.
const BESIDE_NOTHING: f64 = 3.688_9 / DROP_95;

/// What the SYN-ACK pattern of a run says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Split {
    /// Loss of the request.
    pub forward: Share,
    /// Loss of the answer.
    pub reverse: Share,
}

/// Transmission of the SYN-ACK (0 is the first) that a reply `rtt` after the SYN is; none off the comb.
/// `base` is the usual round-trip time.
pub fn attempt(rtt: Nanos, base: Nanos) -> Option<usize> {
    COMB.iter().position(|second| {
        let at = second * SECOND;
        // Kernel timers fire late, the longer the later (timer wheel: up to 1/8, measured 3 %).
        let (early, slack) = (10_000_000 + base / 2, 50_000_000 + at / 16 + base / 2);
        ((at + base).saturating_sub(early)..=at + base + slack).contains(&rtt)
    })
}

/// Transmissions of the SYN-ACK that could be seen within `horizon` of the SYN.
fn visible(horizon: Nanos) -> usize {
    COMB.iter().filter(|s| *s * SECOND + *s * SECOND / 16 + 100_000_000 <= horizon).count().max(1)
}

/// Probes that look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Look {
    /// Transmissions of the SYN-ACK that could be seen.
    visible: usize,
    /// The first one seen.
    first: Option<usize>,
    /// The last one seen, if it is not the first: our RST was lost.
    again: Option<usize>,
}

type Groups = BTreeMap<Look, u64>;

/// What the answers of a run look like on the comb.
#[derive(Debug, Default)]
pub(crate) struct Pattern {
    /// Late first answers on the comb.
    pub late_on_comb: u64,
    /// Late first answers beside it.
    pub off_comb: u64,
    /// Answered probes with a further answer on the comb.
    pub repeated: u64,
    /// Probes without any answer.
    silent: u64,
    refused: bool,
    groups: Groups,
}

impl Pattern {
    /// The pattern of what was seen until `now`. If the devices were `watched`, what this machine itself dropped tells
    /// nothing of the path.
    pub fn of(entries: &[Entry], now: Nanos, watched: bool) -> Self {
        let dropped_here = |e: &Entry| watched && (e.filtered() || !e.left && e.replies.is_empty());
        // An answer from elsewhere tells that the SYN arrived; whether the right one would have, nobody knows.
        let judged =
            |e: &&Entry| e.outcome().is_some() && e.was_sent() && e.elsewhere.is_none() && !dropped_here(e);
        let sent: Vec<&Entry> = entries.iter().filter(judged).collect();
        let base = base_rtt(&sent);
        let mut out = Self::default();
        for entry in sent {
            let slot = |at: Nanos| attempt(at.saturating_sub(entry.sent), base);
            let (mut first, mut again) = (None, None);
            match entry.replies.first() {
                Some((_, Answer::Refused)) => {
                    out.refused = true;
                    continue;
                }
                Some((at, _)) => {
                    first = if entry.answered_in_time() { Some(0) } else { slot(*at) };
                    let Some(k) = first else {
                        out.off_comb += 1;
                        continue;
                    };
                    again =
                        entry.replies.iter().skip(1).filter_map(|(at, _)| slot(*at)).filter(|j| *j > k).max();
                    out.late_on_comb += u64::from(k > 0);
                    out.repeated += u64::from(again.is_some());
                }
                None => out.silent += 1,
            }
            let seen = again.max(first).map_or(1, |k| k + 1);
            let visible = visible(now.saturating_sub(entry.sent)).max(seen);
            *out.groups.entry(Look { visible, first, again }).or_default() += 1;
        }
        out
    }

    /// Late answers come at any time: the path delays, and an answer that meets the comb does so by chance.
    pub fn delayed(&self) -> bool {
        self.off_comb * 5 > self.late_on_comb + self.off_comb
    }

    /// Losses, answers, and yet nothing repeated: the server does not repeat itself, or it was not watched for long
    /// enough to see it.
    pub fn silent_server(&self) -> bool {
        let answered = self.groups.keys().any(|look| look.first.is_some());
        // One or two losses may well leave no trace; a share of them does.
        self.silent > 2 && answered && self.late_on_comb == 0 && self.repeated == 0 && !self.refused
    }

    /// Losses beside answers that were repeated: the server repeats itself, but perhaps not always.
    pub fn some_silence(&self) -> bool {
        self.silent > 2 && self.late_on_comb + self.repeated > 0 && !self.refused
    }
}

/// Estimates both directions, with intervals where the log-likelihood falls by `drop`. None where the pattern does
/// not tell: refused or no answers, answers late for other reasons, losses without any repeated SYN-ACK (SYN
/// cookies, no retries: the server does not repeat itself), or more silence than the fate of our RSTs bears out (a
/// server that sends cookies now and then).
pub(crate) fn estimate(pattern: &Pattern, drop: f64) -> Option<Split> {
    let Pattern { late_on_comb: late, repeated, refused, groups, .. } = pattern;
    let undecidable = pattern.silent > 0 && *late == 0 && *repeated == 0;
    if *refused || undecidable || pattern.delayed() {
        return None;
    }
    // What became of our RSTs tells of the same direction as the SYNs, unless a firewall treats them differently.
    let syns = fit(groups, drop, Evidence::Syns)?;
    let [low, high] = fit(groups, DROP_999, Evidence::Syns)?.forward.ci95;
    let both = fit(groups, drop, Evidence::SynsAndRsts)?;
    match both.forward.loss {
        // Either only SYNs are lost on the way there, or answers that are never repeated on the way back.
        loss if loss < low => None,
        loss if loss > high => Some(syns),
        _ => Some(both),
    }
}

/// What the fit looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Evidence {
    Syns,
    SynsAndRsts,
}

fn fit(groups: &Groups, drop: f64, evidence: Evidence) -> Option<Split> {
    // The server's number of retries is unknown: every number that the data do not rule out is weighed.
    let last = groups.keys().filter_map(|look| look.again.max(look.first)).max()?;
    let views: Vec<Groups> = ((last + 1).max(2)..=COMB.len()).map(|limit| limited(groups, limit)).collect();
    let forward = profile(&views, drop, |g, p| maximum(|r| likelihood(g, p, r, evidence)).1);
    let reverse = profile(&views, drop, |g, r| maximum(|p| likelihood(g, p, r, evidence)).1);
    Some(Split { forward: forward?, reverse: reverse? })
}

/// The usual round trip: median of answers within half a second.
fn base_rtt(sent: &[&Entry]) -> Nanos {
    let mut rtts: Vec<Nanos> = sent.iter().filter_map(|e| e.rtt()).filter(|rtt| *rtt < SECOND / 2).collect();
    rtts.sort_unstable();
    rtts.get(rtts.len() / 2).copied().unwrap_or(0)
}

/// The groups as seen if the server sends at most `limit` SYN-ACKs.
fn limited(groups: &Groups, limit: usize) -> Groups {
    let mut out = Groups::new();
    for (look, n) in groups {
        *out.entry(Look { visible: look.visible.min(limit), ..*look }).or_default() += n;
    }
    out
}

/// Log-likelihood of request loss `p` and answer loss `r`.
fn likelihood(groups: &Groups, p: f64, r: f64, evidence: Evidence) -> f64 {
    let chance = |look: &Look| match look.first {
        None => p + (1.0 - p) * r.powi(look.visible as i32),
        Some(k) => {
            let first = (1.0 - p) * r.powi(k as i32) * (1.0 - r);
            // Lost RST, and not all of the repeated answers lost.
            let again = p * (1.0 - r.powi((look.visible - 1 - k) as i32));
            match (evidence, look.again) {
                (Evidence::Syns, _) => first,
                (Evidence::SynsAndRsts, Some(_)) => first * again,
                (Evidence::SynsAndRsts, None) => first * (1.0 - again),
            }
        }
    };
    groups.iter().map(|(look, n)| *n as f64 * chance(look).max(1e-300).ln()).sum()
}

/// Where a unimodal function of 0..1 is largest, and its value (golden section).
fn maximum(f: impl Fn(f64) -> f64) -> (f64, f64) {
    const G: f64 = 0.618_033_988_749_895;
    let (mut a, mut b) = (0.0, 1.0);
    let (mut x, mut y) = (b - G * (b - a), a + G * (b - a));
    let (mut fx, mut fy) = (f(x), f(y));
    for _ in 0..36 {
        if fx >= fy {
            (b, y, fy) = (y, x, fx);
            x = b - G * (b - a);
            fx = f(x);
        } else {
            (a, x, fx) = (x, y, fy);
            y = a + G * (b - a);
            fy = f(y);
        }
    }
    // The ends are reached only in the limit, and 0 is the commonest answer.
    [0.0, 1.0, f64::midpoint(a, b)].map(|p| (p, f(p))).into_iter().fold(
        (0.0, f64::NEG_INFINITY),
        |best, next| {
            if next.1 > best.1 { next } else { best }
        },
    )
}

/// Point and interval of one parameter, `f` being the best log-likelihood for each of its values under one view.
/// The interval covers every view that is likely enough.
fn profile(views: &[Groups], drop: f64, f: impl Fn(&Groups, f64) -> f64) -> Option<Share> {
    let peaks: Vec<(f64, f64)> = views.iter().map(|g| maximum(|p| f(g, p))).collect();
    let (loss, top) = peaks.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let mut share = Share { loss, ci95: [loss, loss] };
    for (view, (peak, _)) in views.iter().zip(&peaks).filter(|(_, (_, best))| *best >= top - drop) {
        let edge = |end: f64| {
            let drop = if *peak == 0.0 { drop * BESIDE_NOTHING } else { drop };
            if f(view, end) >= top - drop {
                return end;
            }
            let (mut inside, mut outside) = (*peak, end);
            for _ in 0..30 {
                let mid = f64::midpoint(inside, outside);
                if f(view, mid) >= top - drop { inside = mid } else { outside = mid }
            }
            outside
        };
        let [low, high] = &mut share.ci95;
        (*low, *high) = (low.min(edge(0.0)), high.max(edge(1.0)));
    }
    Some(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;
    use crate::codec::Own;

    /// A small deterministic generator (splitmix64), so that a failing seed can be repeated.
    struct Dice(u64);
    impl Dice {
        fn lost(&mut self, p: f64) -> bool {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64) < p
        }
    }

    /// 200 probes at 100 ms against a server that keeps to the comb with `retries` SYN-ACKs in all.
    fn run(seed: u64, p: f64, r: f64, retries: usize, wait: u64) -> Option<Split> {
        run_with(seed, p, p, r, 0.0, retries, wait)
    }

    /// The same with another loss `rst` for our RSTs, and a share of `cookies`, which are never repeated.
    fn run_with(
        seed: u64,
        p: f64,
        rst: f64,
        r: f64,
        cookies: f64,
        retries: usize,
        wait: u64,
    ) -> Option<Split> {
        let (mut dice, mut account) = (Dice(seed << 32), Account::new(SECOND * 9 / 10));
        let n = 200;
        let now = n * SECOND / 10 + wait * SECOND;
        let mut replies = vec![];
        for i in 0..n {
            let sent = i * SECOND / 10;
            let seq = account.sent(0, sent, None);
            if dice.lost(p) {
                continue;
            }
            let sends = if cookies > 0.0 && dice.lost(cookies) { 1 } else { retries };
            for second in &COMB[..sends] {
                let at = sent + second * SECOND + 1_000_000;
                if !dice.lost(r) && at <= now {
                    replies.push((at, seq));
                    if !dice.lost(rst) {
                        break;
                    }
                }
            }
        }
        replies.sort_unstable();
        for (at, seq) in replies {
            account.reply(seq, at, Answer::Reply);
        }
        account.expire(now);
        estimate(&Pattern::of(account.entries(), now, false), DROP_95)
    }

    #[test]
    fn true_rates_lie_inside_and_the_direction_is_right() {
        let (mut outside, mut checked) = (0, 0);
        for (p, r) in [(0.3, 0.0), (0.0, 0.3), (0.05, 0.2), (0.3, 0.3), (0.0, 0.0)] {
            for (seed, retries, wait) in (1..7).flat_map(|s| [(s, 6, 8), (s, 2, 2), (s, 6, 1)]) {
                let split = run(seed, p, r, retries, wait).expect("a pattern");
                for (share, truth) in [(split.forward, p), (split.reverse, r)] {
                    outside += u32::from(truth < share.ci95[0] || share.ci95[1] < truth);
                    checked += 1;
                    assert!(
                        (share.loss - truth).abs() < 0.15,
                        "{p}/{r} seed {seed} retries {retries}: {split:?}"
                    );
                }
                if (p - r).abs() > 0.25 {
                    assert_eq!(split.forward.loss > split.reverse.loss, p > r, "{split:?}");
                }
            }
        }
        assert!(outside * 100 <= checked * 6, "{outside} of {checked} outside a 95 % interval");
    }

    #[test]
    fn a_handful_of_losses_lies_inside_too() {
        let missed = (1..61)
            .filter_map(|seed| run(seed, 0.0, 0.01, 6, 8))
            .filter(|split| split.reverse.ci95[0] > 0.01 || split.reverse.ci95[1] < 0.01)
            .count();
        assert!(missed <= 4, "{missed} of 60 outside a 95 % interval");
    }

    #[test]
    fn a_firewall_that_drops_rsts_is_no_loss_of_requests() {
        let split = run_with(5, 0.05, 1.0, 0.05, 0.0, 6, 8).expect("a pattern");
        assert!(split.forward.loss < 0.12, "{split:?}");
    }

    #[test]
    fn a_server_that_never_repeats_itself_leaves_the_direction_open() {
        assert_eq!(run(3, 0.3, 0.3, 1, 8), None);
        assert!(run(3, 0.0, 0.0, 1, 8).is_some(), "nothing lost is nothing lost in both directions");
        assert_eq!(run(3, 1.0, 0.0, 6, 8), None);
    }

    #[test]
    fn a_server_that_sends_cookies_now_and_then_is_not_taken_for_loss_of_requests() {
        for seed in 1..7 {
            assert_eq!(run_with(seed, 0.0, 0.0, 0.3, 0.7, 6, 8), None);
        }
    }

    #[test]
    fn what_this_machine_drops_is_no_loss_of_the_path() {
        let mut account = Account::new(SECOND * 9 / 10);
        for i in 0..60u32 {
            let sent = u64::from(i) * SECOND / 10;
            let seq = account.sent(0, sent, None);
            if i % 4 > 0 {
                account.left(Own { seq, translated: false });
                account.arrived(seq, sent + 1_000_000);
            }
            match i % 4 {
                2 => drop(account.reply(seq, sent + 1_000_000, Answer::Reply)),
                // The second SYN-ACK passed the filter.
                3 => drop(account.reply(seq, sent + SECOND, Answer::Reply)),
                _ => {}
            }
        }
        let now = 8 * SECOND;
        account.expire(now);
        let pattern = Pattern::of(account.entries(), now, true);
        assert!(!pattern.silent_server());
        let split = estimate(&pattern, DROP_95).expect("fifteen probes of the path, all answered");
        assert_eq!(pattern.late_on_comb, 0);
        assert_eq!((split.forward.loss, split.reverse.loss), (0.0, 0.0));
    }

    #[test]
    fn a_slow_path_is_no_loss_of_answers() {
        let mut account = Account::new(SECOND * 9 / 10);
        for i in 0..200u64 {
            let seq = account.sent(0, i * 10_000_000, None);
            account.reply(seq, i * 10_000_000 + i * 10_000_000, Answer::Reply);
        }
        account.expire(20 * SECOND);
        let pattern = Pattern::of(account.entries(), 20 * SECOND, true);
        assert!(pattern.delayed() && pattern.late_on_comb > 0, "{pattern:?}");
        assert_eq!(estimate(&pattern, DROP_95), None);
    }

    #[test]
    fn knows_the_comb() {
        let ms = 1_000_000;
        assert_eq!(attempt(ms, ms), Some(0));
        assert_eq!(attempt(1014 * ms, ms), Some(1));
        assert_eq!(attempt(2000 * ms, ms), None);
        assert_eq!(attempt(3045 * ms, ms), Some(2));
        assert_eq!(attempt(7256 * ms, ms), Some(3));
        assert_eq!(attempt(15_489 * ms, ms), Some(4));
        assert_eq!(attempt(500 * ms, ms), None);
    }
}
