//! tcp:// without raw sockets: what connect() and TCP_INFO tell about each direction.
//!
//! A handshake that had to repeat its SYN has no round trip that Karn's rule would accept, so the kernel takes the
//! time stamp that came back; the server echoes the one of the first SYN it got. Hence `elapsed - tcpi_rtt` is when
//! the first SYN left that arrived: SYNs before it were lost on the way there; and a long tcpi_rtt means that the
//! answer to it was lost on the way back. SYNs are repeated every second at first (net.ipv4.tcp_syn_linear_timeouts,
//! Linux 6.5; before that at 1, 3 and 7 s).

use crate::Nanos;
use crate::split::Split;
use crate::stats::interval::{clopper_pearson, share};
use whydrop_model::probe::Share;

const SECOND: Nanos = 1_000_000_000;
/// A probe watched for less says nothing about repeated SYNs.
pub const HORIZON: Nanos = 4_200_000_000;

/// One handshake that completed, as TCP_INFO shows it.
#[derive(Clone, Copy, Debug)]
pub struct Handshake {
    /// From connect() to the established connection.
    pub elapsed: Nanos,
    /// tcpi_rtt.
    pub rtt_us: u32,
    /// tcpi_total_retrans.
    pub retransmissions: u32,
    /// Whether TCP timestamps are in use.
    pub timestamps: bool,
}

/// What a handshake tells: SYNs lost before the first that arrived, and whether the answer to that one was lost.
pub fn decode(h: Handshake) -> Option<(u64, bool)> {
    if h.retransmissions == 0 {
        return Some((0, false));
    }
    let rtt = u64::from(h.rtt_us) * 1000;
    let first_arrived = h.elapsed.saturating_sub(rtt);
    h.timestamps.then(|| ((first_arrived + SECOND / 2) / SECOND, rtt > SECOND / 2))
}

/// Estimates both directions from probes: how long each was watched, and its handshake if it completed. None while
/// too few were watched long enough, or too many never completed.
pub fn estimate(probes: &[(Nanos, Option<Handshake>)]) -> Option<Split> {
    let smooth = probes.iter().all(|(_, h)| h.is_some_and(|h| h.retransmissions == 0));
    let watched = probes.iter().filter(|(horizon, _)| smooth || *horizon >= HORIZON);
    let (mut all, mut decoded, mut lost_syns, mut lost_answers) = (0u64, 0u64, 0u64, 0u64);
    for (_, handshake) in watched {
        all += 1;
        if let Some((syns, answer)) = handshake.and_then(decode) {
            decoded += 1;
            lost_syns += syns;
            lost_answers += u64::from(answer);
        }
    }
    if decoded == 0 || decoded * 20 < all * 19 {
        return None;
    }
    let interval =
        |lost, total| Some(Share { loss: share(lost, total)?, ci95: clopper_pearson(lost, total, 0.05)? });
    Some(Split {
        forward: interval(lost_syns, lost_syns + decoded)?,
        reverse: interval(lost_answers, decoded)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(elapsed_ms: u64, rtt_us: u32, retransmissions: u32) -> Handshake {
        Handshake { elapsed: elapsed_ms * 1_000_000, rtt_us, retransmissions, timestamps: true }
    }

    #[test]
    fn tells_a_lost_syn_from_a_lost_answer() {
        // Values as measured on Linux 6.18.
        assert_eq!(decode(handshake(1, 60, 0)), Some((0, false)));
        assert_eq!(decode(handshake(1_020, 1_000, 1)), Some((1, false)));
        assert_eq!(decode(handshake(1_020, 1_014_000, 1)), Some((0, true)));
        assert_eq!(decode(handshake(3_060, 1_014_000, 3)), Some((2, true)));
        assert_eq!(decode(Handshake { timestamps: false, ..handshake(1_020, 0, 1) }), None);
    }

    #[test]
    fn estimates_only_from_what_was_watched_long_enough() {
        let clean = (SECOND, Some(handshake(1, 60, 0)));
        let lost_syn = (5 * SECOND, Some(handshake(1_020, 1_000, 1)));
        let split = estimate(&[clean; 50]).expect("clean");
        assert_eq!((split.forward.loss, split.reverse.loss), (0.0, 0.0));
        assert_eq!(estimate(&[clean, (SECOND, None)]), None);
        let clean = (5 * SECOND, clean.1);
        let mut probes = vec![clean; 30];
        probes.extend([lost_syn; 10]);
        let split = estimate(&probes).expect("forward loss");
        assert_eq!((split.forward.loss, split.reverse.loss), (0.2, 0.0));
    }
}
