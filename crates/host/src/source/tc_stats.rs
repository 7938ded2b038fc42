//! Statistics of qdiscs, classes and actions: TCA_STATS2 and its likes.

use crate::sys::attributes::Attributes;
use netlink_bindings::utils::{parse_u32, parse_u64};
use whydrop_model::snapshot::QueueStats;

// TCA_STATS_* (include/uapi/linux/gen_stats.h).
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_STATS_PKT64: u16 = 8;

/// Specific statistics of the kind of qdisc.
pub const TCA_STATS_APP: u16 = 4;

/// Reads the nested attribute; none if a part of it is missing.
pub fn parse(stats: Attributes<'_>) -> Option<QueueStats> {
    // struct gnet_stats_basic: bytes (64 bits), packets (32 bits; 64 in an attribute of their own since 5.5).
    let basic = stats.bytes(TCA_STATS_BASIC)?;
    let packets = parse_u32(basic.get(8..)?)?;
    // struct gnet_stats_queue: qlen, backlog, drops, requeues, overlimits.
    let queue = stats.bytes(TCA_STATS_QUEUE)?;
    let word = |index: usize| parse_u32(queue.get(index * 4..)?);
    Some(QueueStats {
        bytes: parse_u64(basic)?,
        packets: stats.u64(TCA_STATS_PKT64).unwrap_or(u64::from(packets)),
        qlen: word(0)?,
        backlog: word(1)?,
        drops: word(2)?,
        requeues: word(3)?,
        overlimits: word(4)?,
    })
}

/// Reads struct tc_stats (include/uapi/linux/pkt_sched.h), the form before attributes; it counts no requeues.
pub fn parse_old(stats: &[u8]) -> Option<QueueStats> {
    // bytes (64 bits), packets, drops, overlimits, two rates, qlen, backlog.
    let word = |at: usize| parse_u32(stats.get(at..)?);
    Some(QueueStats {
        bytes: parse_u64(stats)?,
        packets: u64::from(word(8)?),
        drops: word(12)?,
        overlimits: word(16)?,
        requeues: 0,
        qlen: word(28)?,
        backlog: word(32)?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    /// Content of TCA_STATS2 with 7 packets and 3 drops.
    pub(in crate::source) fn sample() -> Vec<u8> {
        let mut basic = 900u64.to_ne_bytes().to_vec();
        basic.extend([7u32.to_ne_bytes(), [0; 4]].concat());
        let queue: Vec<u8> = [1u32, 90, 3, 4, 5].into_iter().flat_map(u32::to_ne_bytes).collect();
        let mut out = attribute(TCA_STATS_BASIC, &basic);
        out.extend(attribute(TCA_STATS_QUEUE, &queue));
        out
    }

    #[test]
    fn the_form_of_old() {
        let words = [7u32, 3, 5, 0, 0, 1, 90, 0];
        let bytes =
            [900u64.to_ne_bytes().to_vec(), words.into_iter().flat_map(u32::to_ne_bytes).collect()].concat();
        let stats = parse_old(&bytes).unwrap();
        assert_eq!((stats.bytes, stats.packets, stats.drops, stats.overlimits), (900, 7, 3, 5));
        assert_eq!((stats.qlen, stats.backlog), (1, 90));
        assert_eq!(parse_old(bytes.get(..30).unwrap()), None);
        torture(&bytes, parse_old);
    }

    #[test]
    fn both_parts_or_nothing() {
        let bytes = sample();
        let stats = parse(Attributes(&bytes)).unwrap();
        assert_eq!((stats.bytes, stats.packets, stats.drops), (900, 7, 3));
        assert_eq!((stats.qlen, stats.backlog, stats.requeues, stats.overlimits), (1, 90, 4, 5));
        assert_eq!(parse(Attributes(bytes.get(..20).unwrap())), None);
        let wide = [bytes.clone(), attribute(TCA_STATS_PKT64, &(1u64 << 40).to_ne_bytes())].concat();
        assert_eq!(parse(Attributes(&wide)).unwrap().packets, 1 << 40);
        torture(&bytes, |b| parse(Attributes(b)));
    }
}
