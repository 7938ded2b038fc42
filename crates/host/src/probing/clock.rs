//! One time axis: CLOCK_MONOTONIC, on which kernel receive stamps (CLOCK_REALTIME) are laid.

use rustix::time::{ClockId, Timespec, clock_gettime};
use whydrop_probe::Nanos;

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now() -> Nanos {
    u64::try_from(nanos(clock_gettime(ClockId::Monotonic))).unwrap_or(0)
}

/// What to add to CLOCK_MONOTONIC for CLOCK_REALTIME, in nanoseconds, at this moment.
pub fn wall_offset() -> i128 {
    nanos(clock_gettime(ClockId::Realtime)) - nanos(clock_gettime(ClockId::Monotonic))
}

/// A kernel receive stamp on the monotonic axis. Without a stamp, and when CLOCK_REALTIME was set between stamp and
/// reading (the stamp then lies in the future or a minute back), the time of reading.
pub fn received(stamp: Option<Timespec>, read: Nanos) -> Nanos {
    stamp
        .and_then(|stamp| u64::try_from(nanos(stamp) - wall_offset()).ok())
        .filter(|at| (read.saturating_sub(60_000_000_000)..=read).contains(at))
        .unwrap_or(read)
}

fn nanos(t: Timespec) -> i128 {
    i128::from(t.tv_sec) * 1_000_000_000 + i128::from(t.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_of_now_lies_before_the_reading() {
        let stamp = clock_gettime(ClockId::Realtime);
        let read = now();
        let at = received(Some(stamp), read);
        assert!(at <= read && read - at < 1_000_000_000);
        let set_back = Timespec { tv_sec: stamp.tv_sec - 3600, ..stamp };
        assert_eq!(received(Some(set_back), read), read);
        assert_eq!(received(None, read), read);
    }
}
