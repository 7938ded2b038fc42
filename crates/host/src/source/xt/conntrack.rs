//! Matches by connection tracking state and by marks.

use super::{Blob, XtMatch, not};
use whydrop_model::netfilter::{Field, Match};

/// Bits of `XT_CONNTRACK_STATE_*` in the order in which iptables prints them.
const STATES: [(u16, &str); 7] = [
    (1 << 0, "INVALID"),
    (1 << 3, "NEW"),
    (1 << 2, "RELATED"),
    (1 << 1, "ESTABLISHED"),
    (1 << 8, "UNTRACKED"),
    (1 << 6, "SNAT"),
    (1 << 7, "DNAT"),
];

fn names(mask: u16) -> Option<Vec<String>> {
    let known = STATES.iter().fold(0, |all, (bit, _)| all | bit);
    let names = STATES.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, word)| (*word).to_owned());
    (mask != 0 && mask & !known == 0).then(|| names.collect())
}

/// `xt_state_info`: u32 mask, with the bit of UNTRACKED at 6.
pub(super) fn state(blob: Blob<'_>) -> Option<XtMatch> {
    let mask = u16::try_from(blob.u32(0)?).ok()?;
    let mask = if mask & (1 << 6) == 0 { mask } else { mask & !(1 << 6) | 1 << 8 };
    let names = names(mask)?;
    XtMatch::known("state", format!("--state {}", names.join(",")), Match::CtState(names))
}

const FLAG_STATE: u16 = 1 << 0;
const FLAG_STATUS: u16 = 1 << 6;
const FLAG_DIRECTION: u16 = 1 << 12;
const FLAG_STATE_ALIAS: u16 = 1 << 13;
/// IPS_EXPECTED, IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED.
const STATUS: [(u16, &str); 4] = [(1, "EXPECTED"), (2, "SEEN_REPLY"), (4, "ASSURED"), (8, "CONFIRMED")];

/// `xt_conntrack_mtinfo{2,3}`: flags at 146, masks behind them; state, status and direction are decoded.
pub(super) fn conntrack(blob: Blob<'_>) -> Option<XtMatch> {
    let [flags, inverted, states, status] = [blob.u16(146)?, blob.u16(148)?, blob.u16(150)?, blob.u16(152)?];
    if flags & !(FLAG_STATE | FLAG_STATUS | FLAG_DIRECTION | FLAG_STATE_ALIAS) != 0 {
        return None;
    }
    let (mut options, mut matches) = (vec![], vec![]);
    let alias = flags & FLAG_STATE_ALIAS != 0;
    let mut push = |negated: bool, text: String, condition: Match| {
        let text = format!("{}{text}", not(negated));
        matches.push(condition.unless(negated));
        options.push(text);
    };
    if flags & FLAG_STATE != 0 {
        let names = names(states)?;
        let option = if alias { "--state" } else { "--ctstate" };
        push(inverted & FLAG_STATE != 0, format!("{option} {}", names.join(",")), Match::CtState(names));
    }
    if flags & FLAG_STATUS != 0 {
        if status == 0 || status & !0xf != 0 {
            return None;
        }
        let words: Vec<&str> =
            STATUS.iter().filter(|(bit, _)| status & bit != 0).map(|(_, word)| *word).collect();
        let asked = Match::any_bit(Field::CtStatus, u32::from(status));
        push(inverted & FLAG_STATUS != 0, format!("--ctstatus {}", words.join(",")), asked);
    }
    if flags & FLAG_DIRECTION != 0 {
        let reply = inverted & FLAG_DIRECTION != 0;
        let way = if reply { "REPLY" } else { "ORIGINAL" };
        let asked = Match::equals(Field::CtDirection, u32::from(reply));
        push(false, format!("--ctdir {way}"), asked);
    }
    let name = if alias { "state" } else { "conntrack" };
    Some(XtMatch { name, options: options.join(" "), matches, comment: None })
}

/// `xt_mark_mtinfo1`, `xt_connmark_mtinfo1`: u32 mark, u32 mask, u8 invert.
pub(super) fn mark(blob: Blob<'_>, name: &'static str, field: Field) -> Option<XtMatch> {
    let (mark, mask, inverted) = (blob.u32(0)?, blob.u32(4)?, blob.u8(8)? != 0);
    let asked = Match::Number { field, mask, low: mark, high: mark };
    let mask = if mask == u32::MAX { String::new() } else { format!("/{mask:#x}") };
    XtMatch::known(name, format!("{}--mark {mark:#x}{mask}", not(inverted)), asked.unless(inverted))
}
