//! Options of the qdiscs that whydrop knows: TCA_OPTIONS (include/uapi/linux/pkt_sched.h).

use crate::sys::attributes::Attributes;
use netlink_bindings::utils::parse_u32;
use whydrop_model::snapshot::QdiscOptions;

/// Length of struct tc_netem_qopt.
const NETEM_HEADER: usize = 24;

const TCA_NETEM_REORDER: u16 = 3;
const TCA_NETEM_CORRUPT: u16 = 4;
const TCA_NETEM_LOSS: u16 = 5;
const TCA_NETEM_RATE: u16 = 6;
const TCA_NETEM_RATE64: u16 = 8;
const TCA_NETEM_LATENCY64: u16 = 10;
const TCA_NETEM_JITTER64: u16 = 11;
const NETEM_LOSS_GI: u16 = 1;
const NETEM_LOSS_GE: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_HTB_INIT: u16 = 2;
const TCA_FQ_CODEL_TARGET: u16 = 1;
const TCA_FQ_CODEL_LIMIT: u16 = 2;

/// One tick of the packet scheduler is 64 ns (PSCHED_SHIFT 6, include/net/pkt_sched.h; /proc/net/psched).
const TICK_NS: u64 = 64;

/// Decodes `options` of a qdisc; [`QdiscOptions::Other`] for a kind that is not known, and for options that do not
/// have the form that is known. `app` are its own statistics, `txqlen` is the queue length of its interface.
pub fn parse(kind: &str, options: Option<&[u8]>, app: Option<&[u8]>, txqlen: Option<u32>) -> QdiscOptions {
    match kind {
        "netem" => options.and_then(netem),
        "tbf" => options.and_then(|o| tbf(Attributes(o))),
        "htb" => options.and_then(|o| htb(Attributes(o))),
        "pfifo" | "bfifo" | "pfifo_head_drop" => {
            options.and_then(parse_u32).map(|limit| QdiscOptions::Fifo { limit })
        }
        "pfifo_fast" => txqlen.map(|limit| QdiscOptions::Fifo { limit }),
        "fq_codel" => options.and_then(|o| fq_codel(Attributes(o), app?)),
        _ => None,
    }
    .unwrap_or(QdiscOptions::Other)
}

fn netem(options: &[u8]) -> Option<QdiscOptions> {
    // latency (ticks), limit, loss, gap, duplicate, jitter (ticks)
    let word = |index: usize| parse_u32(options.get(index * 4..)?);
    let attributes = Attributes::after(options, NETEM_HEADER)?;
    let nanoseconds = |kind, ticks: u32| attributes.u64(kind).unwrap_or(u64::from(ticks) * TICK_NS);
    let share = |kind| attributes.u32(kind).map_or(0.0, probability);
    let (model, loss) = match attributes.nested(TCA_NETEM_LOSS).map(loss_model) {
        Some(model) => model.map(|(name, loss)| (Some(name.to_owned()), loss))?,
        None => (None, probability(word(2)?)),
    };
    Some(QdiscOptions::Netem {
        loss,
        model,
        limit: word(1)?,
        delay_us: nanoseconds(TCA_NETEM_LATENCY64, word(0)?) / 1000,
        jitter_us: nanoseconds(TCA_NETEM_JITTER64, word(5)?) / 1000,
        corrupt: share(TCA_NETEM_CORRUPT),
        duplicate: probability(word(4)?),
        reorder: share(TCA_NETEM_REORDER),
        // Without `rate` the kernel sends an all-zero one: none.
        rate: attributes
            .u64(TCA_NETEM_RATE64)
            .or_else(|| attributes.u32(TCA_NETEM_RATE).map(u64::from))
            .unwrap_or(0),
    })
}

/// A probability of the kernel: a share of 2^32 - 1.
fn probability(value: u32) -> f64 {
    f64::from(value) / f64::from(u32::MAX)
}

/// Name and long-run loss of a loss model.
fn loss_model(model: Attributes<'_>) -> Option<(&'static str, f64)> {
    let values = |bytes: &[u8]| -> Option<Vec<f64>> {
        Some(bytes.chunks_exact(4).filter_map(parse_u32).map(probability).collect())
    };
    if let Some(bytes) = model.bytes(NETEM_LOSS_GE) {
        let [p, r, h, k1] = *values(bytes)?.first_chunk()?;
        return Some(("gemodel", gilbert_elliott(p, r, h, k1)));
    }
    let [p13, p31, p32, p14, p23] = *values(model.bytes(NETEM_LOSS_GI)?)?.first_chunk()?;
    Some(("state", four_states(p13, p31, p32, p14, p23)))
}

/// Long-run loss of the Gilbert-Elliott model (net/sched/sch_netem.c:loss_gilb_ell): good to bad with `p`, back with
/// `r`; a good state loses `k1`, a bad one `1 - h`.
fn gilbert_elliott(p: f64, r: f64, h: f64, k1: f64) -> f64 {
    if p + r == 0.0 {
        // It stays in the good state, in which it begins.
        return k1;
    }
    (r * k1 + p * (1.0 - h)) / (p + r)
}

/// Long-run loss of the four-state model (net/sched/sch_netem.c:loss_4state): received in a gap (1) or in a burst
/// (2), lost in a burst (3) or alone (4).
fn four_states(p13: f64, p31: f64, p32: f64, p14: f64, p23: f64) -> f64 {
    // Time in state 2 for each packet lost in a burst.
    let received_in_burst = if p32 == 0.0 { 0.0 } else { p32 / p23 };
    if p13 > 0.0 && p31 == 0.0 {
        // A burst never ends.
        return 1.0 / (1.0 + received_in_burst);
    }
    let lost_in_burst = if p13 == 0.0 { 0.0 } else { p13 / p31 };
    let lost = lost_in_burst + p14;
    if lost_in_burst > 0.0 && received_in_burst.is_infinite() {
        // State 2 is never left.
        return 0.0;
    }
    lost / (1.0 + lost + lost_in_burst * received_in_burst)
}

fn tbf(options: Attributes<'_>) -> Option<QdiscOptions> {
    // struct tc_tbf_qopt: rate and peak rate (12 bytes each), limit, buffer (ticks), mtu.
    let parms = options.bytes(TCA_TBF_PARMS)?;
    let rate = options.u64(TCA_TBF_RATE64).or_else(|| rate(parms))?;
    let ticks = u128::from(parse_u32(parms.get(28..)?)?);
    // The kernel keeps the burst as the time that it takes at this rate. A tick is longer than a byte at high
    // rates, so the burst comes back rounded, as in `tc -s qdisc`.
    let burst = ticks * u128::from(TICK_NS) * u128::from(rate) / 1_000_000_000;
    Some(QdiscOptions::Tbf { rate, burst: u64::try_from(burst).ok()?, limit: parse_u32(parms.get(24..)?)? })
}

/// Bytes per second of a struct tc_ratespec: the last of its 12 bytes. A rate beyond 32 bits stands elsewhere.
pub fn rate(spec: &[u8]) -> Option<u64> {
    parse_u32(spec.get(8..)?).map(u64::from)
}

fn htb(options: Attributes<'_>) -> Option<QdiscOptions> {
    // struct tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts.
    let init = options.bytes(TCA_HTB_INIT)?;
    Some(QdiscOptions::Htb {
        default: parse_u32(init.get(8..)?)?,
        direct_packets: parse_u32(init.get(16..)?)?,
    })
}

fn fq_codel(options: Attributes<'_>, app: &[u8]) -> Option<QdiscOptions> {
    // struct tc_fq_codel_xstats: type (0 for the qdisc), maxpacket, drop_overlimit, …
    if parse_u32(app)? != 0 {
        return None;
    }
    Some(QdiscOptions::FqCodel {
        limit: options.u32(TCA_FQ_CODEL_LIMIT)?,
        target_us: options.u32(TCA_FQ_CODEL_TARGET)?,
        drop_overlimit: parse_u32(app.get(8..)?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    fn words(values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_ne_bytes()).collect()
    }

    fn percent(share: f64) -> u32 {
        (share / 100.0 * f64::from(u32::MAX)) as u32
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    #[test]
    fn netem_with_loss_and_a_long_delay() {
        let mut options = words(&[0, 1000, percent(30.0), 0, percent(1.0), 15625]);
        options.extend(attribute(TCA_NETEM_LATENCY64, &5_000_000_000i64.to_ne_bytes()));
        options.extend(attribute(TCA_NETEM_CORRUPT, &words(&[percent(2.0), 0])));
        options.extend(attribute(TCA_NETEM_RATE, &words(&[125_000, 0, 0, 0])));
        let QdiscOptions::Netem {
            loss,
            model,
            limit,
            delay_us,
            jitter_us,
            corrupt,
            duplicate,
            reorder,
            rate,
        } = parse("netem", Some(&options), None, None)
        else {
            panic!("no netem")
        };
        assert!(near(loss, 0.3) && near(corrupt, 0.02) && near(duplicate, 0.01) && near(reorder, 0.0));
        assert_eq!((model, limit, delay_us, jitter_us, rate), (None, 1000, 5_000_000, 1000, 125_000));
        torture(&options, |b| parse("netem", Some(b), None, None));
    }

    #[test]
    fn netem_loss_models() {
        let with = |kind, values: &[u32]| {
            let mut options = words(&[0, 1000, 0, 0, 0, 0]);
            options.extend(attribute(TCA_NETEM_LOSS, &attribute(kind, &words(values))));
            match parse("netem", Some(&options), None, None) {
                QdiscOptions::Netem { loss, model, .. } => (model.unwrap(), loss),
                other => panic!("{other:?}"),
            }
        };
        // `loss gemodel 10% 90%`: a tenth of the packets finds the bad state, which loses all.
        let (name, loss) = with(NETEM_LOSS_GE, &[percent(10.0), percent(90.0), 0, 0]);
        assert!(name == "gemodel" && near(loss, 0.1), "{name} {loss}");
        // `loss state 10%` is plain loss: p31 is then 90 %, p32 0, p23 100 %.
        let (name, loss) = with(NETEM_LOSS_GI, &[percent(10.0), percent(90.0), 0, 0, u32::MAX]);
        assert!(name == "state" && near(loss, 0.1), "{name} {loss}");
        assert!(near(four_states(0.1, 0.0, 0.5, 0.0, 0.5), 0.5), "a burst that never ends");
        assert!(near(four_states(0.0, 0.0, 0.0, 0.25, 0.0), 0.2), "isolated losses only");
        assert!(near(four_states(0.1, 0.5, 0.5, 0.0, 0.0), 0.0), "stuck where nothing is lost");
        assert!(near(gilbert_elliott(0.0, 0.0, 0.0, 0.01), 0.01));
    }

    #[test]
    fn tbf_gives_its_burst_back() {
        // `tbf rate 1mbit burst 10k latency 50ms`: 10240 bytes at 125000 B/s are 81.92 ms.
        let mut parms = vec![0; 8];
        parms.extend(words(&[125_000]));
        parms.extend([0; 12]);
        parms.extend(words(&[16490, 1_280_000, 0]));
        let options = attribute(TCA_TBF_PARMS, &parms);
        assert_eq!(
            parse("tbf", Some(&options), None, None),
            QdiscOptions::Tbf { rate: 125_000, burst: 10240, limit: 16490 }
        );
        torture(&options, |b| parse("tbf", Some(b), None, None));
    }

    #[test]
    fn the_others() {
        let htb = attribute(TCA_HTB_INIT, &words(&[0x30011, 10, 0x30, 0, 9]));
        assert_eq!(
            parse("htb", Some(&htb), None, None),
            QdiscOptions::Htb { default: 0x30, direct_packets: 9 }
        );
        let mut codel = attribute(TCA_FQ_CODEL_TARGET, &words(&[4999]));
        codel.extend(attribute(TCA_FQ_CODEL_LIMIT, &words(&[10240])));
        assert_eq!(
            parse("fq_codel", Some(&codel), Some(&words(&[0, 1514, 7])), None),
            QdiscOptions::FqCodel { limit: 10240, target_us: 4999, drop_overlimit: 7 }
        );
        assert_eq!(
            parse("fq_codel", Some(&codel), None, None),
            QdiscOptions::Other,
            "no statistics, no zero"
        );
        assert_eq!(parse("pfifo_fast", Some(&[0; 20]), None, Some(1000)), QdiscOptions::Fifo { limit: 1000 });
        assert_eq!(parse("pfifo_fast", None, None, None), QdiscOptions::Other);
        assert_eq!(parse("clsact", None, None, Some(1000)), QdiscOptions::Other);
    }
}
