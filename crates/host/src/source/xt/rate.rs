//! Matches by chance, rate and number: statistic, limit, hashlimit, connlimit, quota.

use super::{Blob, XtMatch, not};
use whydrop_model::netfilter::Match;

/// `xt_statistic_info`: u16 mode, u16 flags, then the union at 4.
pub(super) fn statistic(blob: Blob<'_>) -> Option<XtMatch> {
    let (mode, inverted) = (blob.u16(0)?, blob.u16(2)? & 1 != 0);
    let bang = if inverted { " !" } else { "" };
    match mode {
        0 => {
            // XT_STATISTIC_MODE_RANDOM: a share of 2^31.
            let share = f64::from(blob.u32(4)?) / f64::from(0x8000_0000_u32);
            let text = format!("--mode random{bang} --probability {share:.11}");
            let share = if inverted { 1.0 - share } else { share };
            XtMatch::known("statistic", text, Match::Random(share))
        }
        1 => {
            let (every, packet) = (blob.u32(4)?.checked_add(1)?, blob.u32(8)?);
            let text = format!("--mode nth{bang} --every {every} --packet {packet}");
            XtMatch::known("statistic", text, Match::Nth(every).unless(inverted))
        }
        _ => None,
    }
}

/// `XT_LIMIT_SCALE`: the average is kept as ten thousandths of a second between two packets.
const LIMIT_SCALE: u64 = 10_000;
/// Burst when none was given.
const LIMIT_BURST: u64 = 5;
const UNITS: [(&str, u64); 4] = [("day", 86_400), ("hour", 3_600), ("min", 60), ("sec", 1)];

/// The unit that iptables chooses to print a period of `period / scale` seconds in.
fn unit(period: u64, scale: u64) -> Option<(&'static str, u64)> {
    if period == 0 {
        return None;
    }
    let fits = |seconds: u64| {
        let whole = scale * seconds;
        period <= whole && whole / period >= whole % period
    };
    let extra = UNITS.iter().skip(1).take_while(|(_, seconds)| fits(*seconds)).count();
    UNITS.get(extra).copied()
}

/// What a limit asks for, in the units of `xt_rateinfo`.
pub(crate) struct Limit {
    /// Ten thousandths of a second between two packets.
    pub period: u32,
    /// Packets that may come at once.
    pub burst: u32,
}

/// `-m limit`; also what iptables over nf_tables stores as a native limit expression.
pub(crate) fn limit(wanted: &Limit) -> Option<XtMatch> {
    let period = u64::from(wanted.period);
    let (name, seconds) = unit(period, LIMIT_SCALE)?;
    let rate = format!("{}/{name}", LIMIT_SCALE * seconds / period);
    let mut text = format!("--limit {rate}");
    if u64::from(wanted.burst) != LIMIT_BURST {
        text.push_str(&format!(" --limit-burst {}", wanted.burst));
    }
    XtMatch::known("limit", text, Match::Limit { rate, over: false })
}

/// `xt_rateinfo`: u32 average, u32 burst.
pub(super) fn limit_match(blob: Blob<'_>) -> Option<XtMatch> {
    limit(&Limit { period: blob.u32(0)?, burst: blob.u32(4)? })
}

/// XT_HASHLIMIT_HASH_* in the order in which iptables prints them.
const MODES: [(u32, &str); 4] = [(4, "srcip"), (8, "srcport"), (1, "dstip"), (2, "dstport")];
const HASHLIMIT_INVERT: u32 = 16;
const HASHLIMIT_KNOWN: u32 = 31;
/// Default of `--hashlimit-htable-gcinterval` in ms.
const HASHLIMIT_GC: u32 = 1000;

/// `xt_hashlimit_mtinfo{1,2,3}`; byte rates and rate matches are not decoded.
pub(super) fn hashlimit(blob: Blob<'_>, revision: u8, v6: bool) -> Option<XtMatch> {
    // Revision 1 has a name of 16 bytes and 32-bit numbers, later ones 255 bytes and 64 bits.
    let (name_len, scale) = if revision == 1 { (16, 10_000) } else { (255, 1_000_000) };
    let name = blob.text(0, name_len)?;
    let (mode, period, burst, at) = if revision == 1 {
        (blob.u32(16)?, u64::from(blob.u32(20)?), u64::from(blob.u32(24)?), 28)
    } else {
        (blob.u32(272)?, blob.u64(256)?, blob.u64(264)?, 276)
    };
    let [size, max, gc, expire] = [blob.u32(at)?, blob.u32(at + 4)?, blob.u32(at + 8)?, blob.u32(at + 12)?];
    let masks = at + if revision == 3 { 20 } else { 16 };
    if mode & !HASHLIMIT_KNOWN != 0 || (revision == 3 && blob.u32(at + 16)? != 0) {
        return None;
    }
    let over = mode & HASHLIMIT_INVERT != 0;
    let (unit, seconds) = unit(period, scale)?;
    let rate = format!("{}/{unit}", scale * seconds / period);
    let mut text =
        format!("--hashlimit-{} {rate} --hashlimit-burst {burst}", if over { "above" } else { "upto" });
    let modes: Vec<&str> = MODES.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, word)| *word).collect();
    if !modes.is_empty() {
        text.push_str(&format!(" --hashlimit-mode {}", modes.join(",")));
    }
    text.push_str(&format!(" --hashlimit-name {name}"));
    let mut option = |name: &str, value: u32, usual: u32| {
        if value != usual {
            text.push_str(&format!(" --hashlimit-{name} {value}"));
        }
    };
    option("htable-size", size, 0);
    option("htable-max", max, 0);
    option("htable-gcinterval", gc, HASHLIMIT_GC);
    option("htable-expire", expire, u32::try_from(seconds * 1000).ok()?);
    let whole = if v6 { 128 } else { 32 };
    option("srcmask", u32::from(blob.u8(masks)?), whole);
    option("dstmask", u32::from(blob.u8(masks + 1)?), whole);
    XtMatch::known("hashlimit", text, Match::Limit { rate, over })
}

/// `xt_connlimit_info`: 16 bytes of mask, u32 limit, u32 flags.
pub(super) fn connlimit(blob: Blob<'_>, v6: bool) -> Option<XtMatch> {
    let ones: u32 = blob.bytes(0, if v6 { 16 } else { 4 })?.iter().map(|b| b.count_ones()).sum();
    let (count, flags) = (blob.u32(16)?, blob.u32(20)?);
    let (upto, by_destination) = (flags & 1 != 0, flags & 2 != 0);
    let text = format!(
        "--connlimit-{} {count} --connlimit-mask {ones} --connlimit-{}",
        if upto { "upto" } else { "above" },
        if by_destination { "daddr" } else { "saddr" },
    );
    XtMatch::known("connlimit", text, Match::Connlimit { count, over: !upto })
}

/// `xt_quota_info`: u32 flags, padding, u64 quota.
pub(super) fn quota(blob: Blob<'_>) -> Option<XtMatch> {
    let (over, bytes) = (blob.u32(0)? & 1 != 0, blob.u64(8)?);
    XtMatch::known("quota", format!("{}--quota {bytes}", not(over)), Match::Quota { bytes, over })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: f64) -> String {
        // One thousand a second is ten thousandths 10 apart; one a day fits no other unit.
        let period = (LIMIT_SCALE as f64 / per_second) as u32;
        limit(&Limit { period, burst: 5 }).unwrap().options
    }

    #[test]
    fn rates_are_printed_in_the_unit_of_iptables() {
        assert_eq!(rate(10.0), "--limit 10/sec");
        assert_eq!(rate(0.5), "--limit 30/min");
        assert_eq!(rate(3.0 / 86_400.0), "--limit 3/day");
        assert!(limit(&Limit { period: 0, burst: 5 }).is_none(), "an infinite rate has no text");
    }

    #[test]
    fn thirty_per_cent_prints_as_iptables_prints_it() {
        // Captured: -m statistic --mode random --probability 0.3
        let mut info = [0_u8; 24];
        info[4..8].copy_from_slice(&644_245_094_u32.to_ne_bytes());
        let read = statistic(Blob(&info)).unwrap();
        assert_eq!(read.options, "--mode random --probability 0.29999999981");
        assert!(matches!(read.matches[..], [Match::Random(share)] if (share - 0.3).abs() < 1e-9));
        assert!(statistic(Blob(&info[..6])).is_none(), "cut short");
    }
}
