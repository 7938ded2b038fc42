//! Options of qdiscs as the kernel takes them: TCA_OPTIONS (include/uapi/linux/pkt_sched.h).

use netlink_bindings::utils::push_header;
use whydrop_model::snapshot::QdiscOptions;

/// One tick of the packet scheduler is 64 ns (PSCHED_SHIFT 6).
const TICK_NS: u64 = 64;
const NETEM_REORDER: u16 = 3;
const NETEM_CORRUPT: u16 = 4;
const NETEM_RATE: u16 = 6;
const NETEM_RATE64: u16 = 8;
const NETEM_LATENCY64: u16 = 10;
const NETEM_JITTER64: u16 = 11;
const TBF_PARMS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;
const HTB_INIT: u16 = 2;
const FQ_CODEL_TARGET: u16 = 1;
const FQ_CODEL_LIMIT: u16 = 2;
/// `TC_LINKLAYER_ETHERNET`.
const ETHERNET: u8 = 1;

/// The options of a qdisc; `Some(None)` for a kind without any, `None` if they cannot be written.
pub(super) fn encode(kind: &str, options: &QdiscOptions) -> Option<Option<Vec<u8>>> {
    Some(match (kind, options) {
        ("netem", QdiscOptions::Netem { model: Some(_), .. }) => return None,
        ("netem", options @ QdiscOptions::Netem { .. }) => Some(netem(options)?),
        ("tbf", QdiscOptions::Tbf { rate, burst, limit }) => Some(tbf(*rate, *burst, *limit)?),
        ("htb", QdiscOptions::Htb { default, .. }) => {
            // struct tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts.
            Some(attribute(HTB_INIT, &words(&[3, 10, *default, 0, 0])))
        }
        ("pfifo" | "bfifo" | "pfifo_head_drop", QdiscOptions::Fifo { limit }) => Some(words(&[*limit])),
        ("fq_codel", QdiscOptions::FqCodel { limit, target_us, .. }) => {
            let mut out = attribute(FQ_CODEL_TARGET, &words(&[*target_us]));
            out.extend(attribute(FQ_CODEL_LIMIT, &words(&[*limit])));
            Some(out)
        }
        (_, QdiscOptions::Other) | ("pfifo_fast", QdiscOptions::Fifo { .. }) => None,
        _ => return None,
    })
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    push_header(&mut out, number, u16::try_from(value.len()).unwrap_or(u16::MAX));
    out.extend(value);
    out
}

/// A probability of the kernel: a share of 2^32 - 1.
fn probability(share: f64) -> u32 {
    (share.clamp(0.0, 1.0) * f64::from(u32::MAX)).round() as u32
}

fn ticks(ns: u64) -> u32 {
    u32::try_from(ns / TICK_NS).unwrap_or(u32::MAX)
}

fn netem(options: &QdiscOptions) -> Option<Vec<u8>> {
    let QdiscOptions::Netem { loss, limit, delay_us, jitter_us, corrupt, duplicate, reorder, rate, .. } =
        options
    else {
        return None;
    };
    let (latency, jitter) = (delay_us.checked_mul(1000)?, jitter_us.checked_mul(1000)?);
    // Reordering happens in every n-th packet; tc takes every one, too.
    let gap = u32::from(*reorder > 0.0);
    let mut out =
        words(&[ticks(latency), *limit, probability(*loss), gap, probability(*duplicate), ticks(jitter)]);
    for (number, ns) in [(NETEM_LATENCY64, latency), (NETEM_JITTER64, jitter)] {
        if ns > 0 {
            out.extend(attribute(number, &ns.to_ne_bytes()));
        }
    }
    for (number, share) in [(NETEM_REORDER, *reorder), (NETEM_CORRUPT, *corrupt)] {
        if share > 0.0 {
            // Probability and correlation.
            out.extend(attribute(number, &words(&[probability(share), 0])));
        }
    }
    if *rate > 0 {
        // struct tc_netem_rate: rate, packet overhead, cell size, cell overhead. A rate beyond 32 bits stands apart.
        let short = u32::try_from(*rate).unwrap_or(u32::MAX);
        if u64::from(short) != *rate {
            out.extend(attribute(NETEM_RATE64, &rate.to_ne_bytes()));
        }
        out.extend(attribute(NETEM_RATE, &words(&[short, 0, 0, 0])));
    }
    Some(out)
}

fn tbf(rate: u64, burst: u64, limit: u32) -> Option<Vec<u8>> {
    let short = u32::try_from(rate).unwrap_or(u32::MAX);
    let time = u64::try_from(u128::from(burst) * 1_000_000_000 / u128::from(rate.max(1))).ok()?;
    // struct tc_tbf_qopt: struct tc_ratespec of the rate and of the peak rate, limit, buffer (ticks), mtu.
    let mut parms = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    parms.extend(words(&[short, 0, 0, 0, limit, ticks(time), 0]));
    let mut out = attribute(TBF_PARMS, &parms);
    if u64::from(short) != rate {
        out.extend(attribute(TBF_RATE64, &rate.to_ne_bytes()));
    }
    out.extend(attribute(TBF_BURST, &words(&[u32::try_from(burst).ok()?])));
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::qdisc_options::parse;

    /// What is written is what the reader of the kernel's answers makes of it.
    #[test]
    fn options_come_back() {
        let netem = QdiscOptions::Netem {
            loss: 0.3,
            model: None,
            limit: 1000,
            delay_us: 5_000_000,
            jitter_us: 20_000,
            corrupt: 0.5,
            duplicate: 0.25,
            reorder: 0.0,
            rate: 10_000_000_000,
        };
        let written = encode("netem", &netem).unwrap().unwrap();
        let QdiscOptions::Netem { loss, delay_us, jitter_us, rate, .. } =
            parse("netem", Some(&written), None, None)
        else {
            panic!("no netem")
        };
        assert!((loss - 0.3).abs() < 1e-9);
        assert_eq!((delay_us, jitter_us, rate), (5_000_000, 20_000, 10_000_000_000));
        let tbf = QdiscOptions::Tbf { rate: 125_000, burst: 10_000, limit: 30_000 };
        let written = encode("tbf", &tbf).unwrap().unwrap();
        assert_eq!(parse("tbf", Some(&written), None, None), tbf);
        assert_eq!(encode("blackhole", &QdiscOptions::Other), Some(None));
        assert_eq!(encode("tbf", &netem), None, "options of another kind");
    }
}
