//! What a counter did between two readings. Refuses to invent a rise.

use crate::reading::Reading;
use crate::snapshot::{Counters, Snapshot};
use serde::{Deserialize, Serialize};

/// The change of one counter over the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Rose by so many.
    Rose(u64),
    /// Did not move.
    Same,
    /// Went down: the device, rule or table was made anew. Nothing can be said.
    Reset,
    /// Was not there before; its whole value.
    Appeared(u64),
    /// Is gone.
    Vanished,
    /// Never seen.
    Unknown,
}

impl Change {
    /// Compares two readings of a 64-bit counter.
    pub fn of(before: Option<u64>, after: Option<u64>) -> Self {
        match (before, after) {
            (Some(a), Some(b)) if b > a => Self::Rose(b - a),
            (Some(a), Some(b)) if b == a => Self::Same,
            (Some(_), Some(_)) => Self::Reset,
            (None, Some(b)) => Self::Appeared(b),
            (Some(_), None) => Self::Vanished,
            (None, None) => Self::Unknown,
        }
    }

    /// Compares two readings of a counter that has 32 bits in the kernel and wraps (qdisc drops). A fall by more
    /// than half of the range is a wrap; a smaller one is a reset.
    pub fn of_u32(before: Option<u32>, after: Option<u32>) -> Self {
        match (before, after) {
            (Some(a), Some(b)) if b < a && a - b > u32::MAX / 2 => Self::Rose(u64::from(b.wrapping_sub(a))),
            (a, b) => Self::of(a.map(u64::from), b.map(u64::from)),
        }
    }

    /// Packets that were certainly counted inside the window: a rise, or nothing.
    pub const fn risen(self) -> u64 {
        match self {
            Self::Rose(n) => n,
            Self::Same | Self::Reset | Self::Appeared(_) | Self::Vanished | Self::Unknown => 0,
        }
    }
}

/// Rise of one counter between two snapshots, by its name in `pick`'s table.
pub fn counter(before: &Reading<Counters>, after: &Reading<Counters>, name: &str) -> Change {
    let get = |r: &Reading<Counters>| r.get().and_then(|c| c.get(name).copied());
    Change::of(get(before), get(after))
}

/// Rise of a counter of /proc/net/{snmp,netstat} such as `TcpExt.ListenDrops`.
pub fn mib(before: &Snapshot, after: &Snapshot, name: &str) -> Change {
    counter(&before.mib, &after.mib, name)
}

/// Rise of a counter of /proc/net/snmp6 such as `Ip6InDiscards`.
pub fn mib6(before: &Snapshot, after: &Snapshot, name: &str) -> Change {
    counter(&before.mib6, &after.mib6, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_is_a_reset_and_a_wrap_is_a_rise() {
        assert_eq!(Change::of(Some(5), Some(3)), Change::Reset);
        assert_eq!(Change::of_u32(Some(u32::MAX - 1), Some(3)), Change::Rose(5));
        assert_eq!(Change::of_u32(Some(9), Some(3)), Change::Reset);
        assert_eq!(Change::of(None, Some(3)).risen(), 0);
    }
}
