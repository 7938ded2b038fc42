//! Actions of tc filters: TCA_ACT_* lists.

use super::tc_stats;
use crate::sys::attributes::Attributes;
use netlink_bindings::utils::{parse_i32, parse_u16};
use whydrop_model::snapshot::TcAction;

// TCA_ACT_* (include/uapi/linux/pkt_cls.h).
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_ACT_STATS: u16 = 4;

const TCA_GACT_PARMS: u16 = 2;
const TCA_GACT_PROB: u16 = 3;
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_POLICE_TBF: u16 = 1;

/// Actions of a filter in order.
pub fn parse_list(list: Attributes<'_>) -> Vec<TcAction> {
    list.iter().filter_map(|(_, action)| parse(Attributes(action))).collect()
}

/// A policer in the old form, without a list around it; its statistics stand beside the filter's options
/// (tcf_exts_dump_stats()).
pub fn old_policer(options: Attributes<'_>, filter: Attributes<'_>) -> TcAction {
    let stats = filter.bytes(libc::TCA_STATS).and_then(tc_stats::parse_old);
    TcAction { kind: "police".to_owned(), verdict: police(options), stats, target: None }
}

fn parse(action: Attributes<'_>) -> Option<TcAction> {
    let kind = action.text(TCA_ACT_KIND)?;
    let options = action.nested(TCA_ACT_OPTIONS);
    let verdict = match kind.as_str() {
        "gact" => options.and_then(gact),
        "mirred" => options.and_then(mirred),
        "police" => options.and_then(police),
        _ => None,
    };
    let target = options.filter(|_| kind == "mirred").and_then(mirred_target);
    Some(TcAction { kind, verdict, stats: action.nested(TCA_ACT_STATS).and_then(tc_stats::parse), target })
}

/// What gact does: `drop`; with a random or periodic alternative `drop 1/10 random, else ok`.
fn gact(options: Attributes<'_>) -> Option<String> {
    let usual = word(parse_i32(options.bytes(TCA_GACT_PARMS)?.get(8..)?)?);
    let Some(chance) = options.bytes(TCA_GACT_PROB) else { return Some(usual) };
    // struct tc_gact_p: how (1 at random, 2 every n-th), n, action.
    let how = match parse_u16(chance)? {
        1 => "random",
        2 => "every n-th",
        _ => return Some(usual),
    };
    let n = parse_u16(chance.get(2..)?)?;
    let sometimes = word(parse_i32(chance.get(4..)?)?);
    Some(format!("{sometimes} 1/{n} {how}, else {usual}"))
}

fn mirred(options: Attributes<'_>) -> Option<String> {
    let how = parse_i32(options.bytes(TCA_MIRRED_PARMS)?.get(20..)?)?;
    Some(match how {
        1 => "redirect to egress".to_owned(),
        2 => "mirror to egress".to_owned(),
        3 => "redirect to ingress".to_owned(),
        4 => "mirror to ingress".to_owned(),
        other => format!("mirred {other}"),
    })
}

/// tcfm_ifindex of struct tc_mirred, behind eaction (include/uapi/linux/tc_act/tc_mirred.h).
fn mirred_target(options: Attributes<'_>) -> Option<u32> {
    let index = parse_i32(options.bytes(TCA_MIRRED_PARMS)?.get(24..)?)?;
    u32::try_from(index).ok().filter(|index| *index != 0)
}

/// What a policer does with a packet that exceeds its rate.
fn police(options: Attributes<'_>) -> Option<String> {
    Some(word(parse_i32(options.bytes(TCA_POLICE_TBF)?.get(4..)?)?))
}

/// TC_ACT_* by the words of tc.
fn word(action: i32) -> String {
    match action {
        -1 => "continue",
        0 => "ok",
        1 => "reclassify",
        2 => "drop",
        3 => "pipe",
        4 => "stolen",
        5 => "queued",
        6 => "repeat",
        7 => "redirect",
        8 => "trap",
        _ => {
            // The upper four bits are the verb, the others its argument.
            return match action >> 28 {
                1 => format!("jump {}", action & 0x0fff_ffff),
                2 => format!("goto chain {}", action & 0x0fff_ffff),
                _ => format!("action {action}"),
            };
        }
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    fn action(kind: &[u8], options: &[u8]) -> Vec<u8> {
        let mut inside = attribute(TCA_ACT_KIND, kind);
        inside.extend(attribute(TCA_ACT_OPTIONS, options));
        inside.extend(attribute(TCA_ACT_STATS, &tc_stats::tests::sample()));
        attribute(1, &inside)
    }

    fn words(values: &[i32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_ne_bytes()).collect()
    }

    #[test]
    fn verdicts_in_the_words_of_tc() {
        let drop = attribute(TCA_GACT_PARMS, &words(&[1, 0, 2, 1, 1]));
        let mut sometimes = attribute(TCA_GACT_PARMS, &words(&[1, 0, 0, 1, 1]));
        sometimes.extend(attribute(
            TCA_GACT_PROB,
            &[&1u16.to_ne_bytes()[..], &10u16.to_ne_bytes(), &words(&[2])].concat(),
        ));
        let mirror = attribute(TCA_MIRRED_PARMS, &words(&[1, 0, 4, 1, 1, 1, 3]));
        let police = attribute(TCA_POLICE_TBF, &words(&[1, 2, 0, 0]));
        for (kind, options, verdict) in [
            (&b"gact\0"[..], &drop, Some("drop")),
            (b"gact\0", &sometimes, Some("drop 1/10 random, else ok")),
            (b"mirred\0", &mirror, Some("redirect to egress")),
            (b"police\0", &police, Some("drop")),
            (b"skbedit\0", &drop, None),
        ] {
            let bytes = action(kind, options);
            let actions = parse_list(Attributes(&bytes));
            let first = actions.first().unwrap();
            assert_eq!(first.verdict.as_deref(), verdict);
            assert_eq!(first.stats.as_ref().unwrap().drops, 3);
            torture(&bytes, |b| parse_list(Attributes(b)));
        }
        assert_eq!(word(0x2000_0007), "goto chain 7");
        assert_eq!(word(-1), "continue");
    }
}
