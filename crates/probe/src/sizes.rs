//! http(s)://, with sizes: which segments pass, in each direction of a connection.
//!
//! A connection stands, small requests are answered, and yet large ones hang: a link with a smaller MTU, and nobody
//! says so. TCP's own option for the largest segment bounds both directions, so a connection for each size tells.
//! A size is called stuck only if every transmission of a full segment stayed without effect, and ordinary loss, as
//! small segments meet it, would do that once in [`DOUBT`].

use whydrop_model::probe::{SizeLimit, Sizes};

/// IP packets of this many bytes pass everywhere.
pub const SMALL: u32 = 576;
/// Largest IP packet that is tried: servers refuse the longer headers that larger ones need.
pub const LARGEST: u32 = 9000;
/// Tried before halving: the least link of IPv6, below every usual tunnel.
const LIKELY: u32 = 1280;
/// Small exchanges at the start.
const FIRST: u32 = 3;
/// Small exchanges that may all fail before the sweep gives up.
const PATIENCE: u32 = 6;
/// Trials of one size that may tell nothing.
const UNCLEAR: u32 = 6;
/// A server that now and then takes long to answer looks stuck, too: what was found is tried again so often, with a
/// small exchange before each.
const CONFIRM: u32 = 2;
/// Searches of one direction that end in a size which then passes.
const RESTARTS: u32 = 2;
/// Connections of one sweep.
const MOST: u32 = 80;
/// Chance that ordinary loss alone makes a size look stuck.
const DOUBT: f64 = 1e-4;

/// Which way large segments go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A long request: this side's segments are full.
    There,
    /// A short request: the answer's segments are full.
    Back,
}

/// One connection to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Largest IP packet of either side in bytes; none: as large as the two agree.
    pub size: Option<u32>,
    /// What is to be full.
    pub way: Way,
    /// Transmissions without effect after which it may end.
    pub tries: u32,
}

/// What a connection showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Largest IP packet that the side whose segments were to be full could send, in bytes.
    pub size: u32,
    /// SYNs and requests sent again (small segments: ordinary loss), while they were small.
    pub lost_small: u32,
    /// What became of the full segments.
    pub effect: Effect,
}

/// What became of full segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// They arrived.
    Passed,
    /// An ICMP error told this side to send smaller ones.
    Told,
    /// The answer is too short to fill a segment; it came.
    Short,
    /// This many transmissions had no effect, on a connection that stands.
    Stuck(u32),
    /// Nobody listens.
    Refused,
    /// Something else: no connection, closed early.
    Unclear,
}

#[derive(Clone, Copy, Debug, Default)]
struct Direction {
    /// Largest size known to pass, smallest known to be stuck.
    passes: Option<u32>,
    stuck: Option<u32>,
    /// Transmissions without effect at the size in question, and trials that told nothing.
    tries: u32,
    unclear: u32,
    /// How often the smallest stuck size was found stuck again when the search was over.
    confirmed: u32,
    restarts: u32,
    told: bool,
    verdict: Option<&'static str>,
}

/// A sweep in progress.
#[derive(Debug, Default)]
pub struct Sweep {
    directions: [Direction; 2],
    made: u32,
    /// Small exchanges: made, passed, refused; their transmissions, and those sent again.
    small: (u32, u32, u32),
    sent: u32,
    lost: u32,
    /// A small exchange comes before the next trial of a size that seems stuck.
    small_due: bool,
}

impl Sweep {
    /// The next connection; none when the sweep is over.
    pub fn next_trial(&mut self) -> Option<Trial> {
        let (made, passed, refused) = self.small;
        if self.made >= MOST || refused > 0 || (passed == 0 && made >= PATIENCE) {
            return None;
        }
        let tries = self.tries();
        if made < FIRST || passed == 0 || self.small_due {
            return Some(Trial { size: Some(SMALL), way: Way::Back, tries });
        }
        let way = [Way::There, Way::Back]
            .into_iter()
            .find(|way| self.directions[*way as usize].verdict.is_none())?;
        let size = match self.directions[way as usize] {
            Direction { stuck: None, .. } => None,
            Direction { passes: None, .. } => Some(SMALL),
            Direction { passes: Some(low), stuck: Some(high), .. } if (low + 1..high).contains(&LIKELY) => {
                Some(LIKELY)
            }
            Direction { passes: Some(low), stuck: Some(high), .. } if low + 1 >= high => Some(high),
            Direction { passes: Some(low), stuck: Some(high), .. } => Some(u32::midpoint(low, high)),
        };
        Some(Trial { size, way, tries })
    }

    /// Books what the connection of `trial` showed.
    pub fn seen(&mut self, trial: Trial, seen: Seen) {
        self.made += 1;
        // The SYN, and the first segment of the request if it is small.
        self.sent += 1 + seen.lost_small;
        self.lost += seen.lost_small;
        if trial.size == Some(SMALL) && (self.small.0 < FIRST || self.small.1 == 0 || self.small_due) {
            self.small_due = false;
            self.small.0 += 1;
            self.small.1 += u32::from(matches!(seen.effect, Effect::Passed | Effect::Short));
            self.small.2 += u32::from(seen.effect == Effect::Refused);
            return;
        }
        let needed = self.tries();
        let direction = &mut self.directions[trial.way as usize];
        let again = trial.size.is_some() && trial.size == direction.stuck;
        match seen.effect {
            Effect::Passed => {
                direction.passes = direction.passes.max(Some(seen.size));
                (direction.tries, direction.unclear) = (0, 0);
                if again {
                    // By chance, then: from the beginning, not for ever.
                    (direction.stuck, direction.confirmed) = (None, 0);
                    direction.restarts += 1;
                    if direction.restarts > RESTARTS {
                        direction.verdict = Some("unclear");
                    }
                } else if trial.size.is_none() {
                    direction.verdict = Some("passes");
                }
            }
            Effect::Stuck(tries) => {
                direction.tries += tries;
                if direction.tries < needed {
                    self.small_due = true;
                    return;
                }
                (direction.tries, direction.unclear) = (0, 0);
                if trial.size == Some(SMALL) {
                    // Not the size: nothing passes.
                    direction.verdict = Some("unclear");
                }
                direction.stuck = Some(seen.size);
                direction.confirmed += u32::from(again);
            }
            Effect::Told => {
                direction.told = true;
                // The next connection knows it from the start, unless the kernel forgets at once.
                direction.unclear += 1;
            }
            Effect::Short => direction.verdict = Some("untested"),
            Effect::Refused | Effect::Unclear => direction.unclear += 1,
        }
        if direction.unclear >= UNCLEAR {
            direction.verdict = Some("unclear");
        }
        if direction.passes.zip(direction.stuck).is_some_and(|(low, high)| low + 1 >= high) {
            self.small_due = true;
            if direction.confirmed >= CONFIRM {
                direction.verdict.get_or_insert("stuck");
            }
        }
    }

    /// Transmissions without effect that ordinary loss does not explain.
    fn tries(&self) -> u32 {
        let loss = (f64::from(self.lost) + 0.5) / (f64::from(self.sent) + 1.0);
        (DOUBT.ln() / loss.ln()).ceil().clamp(4.0, 16.0) as u32
    }

    /// Small exchanges as (made, answered, refused).
    pub fn small(&self) -> (u64, u64, u64) {
        let (made, passed, refused) = self.small;
        (made.into(), (passed + refused).into(), refused.into())
    }

    /// What was found; none if not even small segments passed.
    pub fn result(&self) -> Option<Sizes> {
        let limit = |d: Direction| {
            let verdict = d.verdict.unwrap_or("unclear");
            // A size that only seemed stuck is no finding.
            let stuck = d.stuck.filter(|_| verdict == "stuck");
            SizeLimit { passes: d.passes, stuck, told: d.told, verdict: verdict.to_owned() }
        };
        let [there, back] = self.directions.map(limit);
        (self.small.1 > 0).then_some(Sizes { there, back })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A path that carries `there` and `back` bytes; whether a transmission is lost by chance, by its number.
    fn sweep(there: u32, back: u32, lost: impl Fn(u32) -> bool) -> (Sweep, u32) {
        let (mut sweep, mut n) = (Sweep::default(), 0);
        let mut lost = || {
            n += 1;
            lost(n)
        };
        let mut made = 0;
        while let Some(trial) = sweep.next_trial() {
            made += 1;
            let size = trial.size.unwrap_or(1500);
            let mut lost_small = 0;
            while lost_small < 6 && lost() {
                lost_small += 1;
            }
            let carries = if trial.way == Way::There { there } else { back };
            let tries = trial.tries.min(5);
            let effect = match (0..tries).all(|_| size > carries || lost()) {
                true => Effect::Stuck(tries),
                false => Effect::Passed,
            };
            sweep.seen(trial, Seen { size, lost_small, effect });
        }
        (sweep, made)
    }

    #[test]
    fn finds_the_size_in_each_direction() {
        let (clean, made) = sweep(1500, 1500, |_| false);
        let sizes = clean.result().expect("answers");
        assert_eq!((sizes.there.verdict.as_str(), sizes.back.passes, made), ("passes", Some(1500), 5));
        for (there, back) in [(1400, 1500), (1500, 1400), (1006, 1399)] {
            let sizes = sweep(there, back, |_| false).0.result().expect("answers");
            for (limit, mtu) in [(sizes.there, there), (sizes.back, back)] {
                let stuck = (mtu < 1500).then_some(mtu + 1);
                assert_eq!((limit.passes, limit.stuck), (Some(mtu), stuck));
            }
        }
    }

    #[test]
    fn nothing_is_said_without_small_exchanges_or_a_long_answer() {
        let mut closed = Sweep::default();
        while let Some(trial) = closed.next_trial() {
            closed.seen(trial, Seen { size: SMALL, lost_small: 3, effect: Effect::Unclear });
        }
        assert_eq!((closed.result(), closed.small()), (None, (6, 0, 0)));
        let mut short = Sweep::default();
        while let Some(trial) = short.next_trial() {
            let effect = if trial.way == Way::There { Effect::Passed } else { Effect::Short };
            short.seen(trial, Seen { size: trial.size.unwrap_or(1500), lost_small: 0, effect });
        }
        assert_eq!(short.result().expect("answers").back.verdict, "untested");
    }

    proptest! {
        #[test]
        fn ordinary_loss_is_no_hole(seed in any::<u64>(), percent in 0u64..30) {
            let (sweep, _) = sweep(1500, 1500, |n| {
                let mut x = (seed ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                (x ^ x >> 31) % 100 < percent
            });
            for limit in sweep.result().into_iter().flat_map(|s| [s.there, s.back]) {
                prop_assert_ne!(limit.verdict.as_str(), "stuck");
            }
        }
    }
}
