//! Matches by what a packet looks like and where it comes from.

use super::{Blob, XtMatch, not, quoted};
use whydrop_model::netfilter::{Field, Match};

const fn number(field: Field, mask: u32, low: u32, high: u32) -> Match {
    Match::Number { field, mask, low, high }
}

/// `ipt_icmp`, `ip6t_icmp`: u8 type, u8 first and last code, u8 invert.
pub(super) fn icmp(blob: Blob<'_>, v6: bool) -> Option<XtMatch> {
    let [kind, first, last] = [blob.u8(0)?, blob.u8(1)?, blob.u8(2)?];
    let (name, option) = if v6 { ("icmp6", "--icmpv6-type") } else { ("icmp", "--icmp-type") };
    let text = match (kind, first, last) {
        (255, ..) if !v6 => "any".to_owned(),
        (_, 0, 255) => kind.to_string(),
        (_, code, end) if code == end => format!("{kind}/{code}"),
        // iptables has no words for a range of codes.
        _ => return None,
    };
    let inverted = blob.u8(3)? & 1 != 0;
    let asked = match (kind, first, last) {
        (255, ..) if !v6 => Match::AllOf(vec![]),
        (_, 0, 255) => Match::equals(Field::IcmpType, u32::from(kind)),
        _ => Match::AllOf(vec![
            Match::equals(Field::IcmpType, u32::from(kind)),
            Match::equals(Field::IcmpCode, u32::from(first)),
        ]),
    };
    XtMatch::known(name, format!("{}{option} {text}", not(inverted)), asked.unless(inverted))
}

/// `XT_MAX_COMMENT_LEN`.
pub(crate) const COMMENT_LEN: usize = 256;

/// `xt_comment_info`: 256 characters.
pub(super) fn comment(blob: Blob<'_>) -> Option<XtMatch> {
    let text = blob.text(0, COMMENT_LEN)?;
    Some(XtMatch {
        name: "comment",
        options: format!("--comment {}", quoted(text)),
        matches: vec![],
        comment: Some(text.to_owned()),
    })
}

/// Address types by bit (RTN_*).
const TYPES: [&str; 12] = [
    "UNSPEC",
    "UNICAST",
    "LOCAL",
    "BROADCAST",
    "ANYCAST",
    "MULTICAST",
    "BLACKHOLE",
    "UNREACHABLE",
    "PROHIBIT",
    "THROW",
    "NAT",
    "XRESOLVE",
];

/// `xt_addrtype_info_v1`: u16 source, u16 destination, u32 flags.
pub(super) fn addrtype(blob: Blob<'_>) -> Option<XtMatch> {
    let (source, destination, flags) = (blob.u16(0)?, blob.u16(2)?, blob.u32(4)?);
    if (source | destination) >> TYPES.len() != 0 || flags & !0xf != 0 {
        return None;
    }
    let names = |mask: u16| {
        let names = TYPES.iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0).map(|(_, name)| *name);
        names.collect::<Vec<_>>().join(",")
    };
    let (mut options, mut matches) = (vec![], vec![]);
    for (mask, bit, word, field) in
        [(source, 1, "src", Field::SourceType), (destination, 2, "dst", Field::DestinationType)]
    {
        if mask != 0 {
            let kinds = (0..TYPES.len() as u32).filter(|kind| mask & (1 << kind) != 0);
            let any = Match::AnyOf(kinds.map(|kind| Match::equals(field, kind)).collect());
            matches.push(any.unless(flags & bit != 0));
            options.push(format!("{}--{word}-type {}", not(flags & bit != 0), names(mask)));
        }
    }
    for (bit, word) in [(4, "--limit-iface-in"), (8, "--limit-iface-out")] {
        if flags & bit != 0 {
            options.push(word.to_owned());
            // Only addresses of that interface count then.
            matches.push(Match::Other(word.to_owned()));
        }
    }
    XtMatch::all("addrtype", options.join(" "), matches)
}

/// `xt_mac_info`: 6 bytes, padding, int invert.
pub(super) fn mac(blob: Blob<'_>) -> Option<XtMatch> {
    let mac: Vec<String> = blob.bytes(0, 6)?.iter().map(|b| format!("{b:02x}")).collect();
    XtMatch::other("mac", format!("{}--mac-source {}", not(blob.u32(8)? != 0), mac.join(":")))
}

/// `xt_length_info`: u16 least, u16 most, u8 invert.
pub(super) fn length(blob: Blob<'_>) -> Option<XtMatch> {
    let (least, most, inverted) = (blob.u16(0)?, blob.u16(2)?, blob.u8(4)? != 0);
    let text = if least == most { least.to_string() } else { format!("{least}:{most}") };
    let asked = number(Field::Length, u32::MAX, u32::from(least), u32::from(most));
    XtMatch::known("length", format!("{}--length {text}", not(inverted)), asked.unless(inverted))
}

/// `xt_tcpmss_match_info`: u16 least, u16 most, u8 invert.
pub(super) fn tcpmss(blob: Blob<'_>) -> Option<XtMatch> {
    let (least, most, inverted) = (blob.u16(0)?, blob.u16(2)?, blob.u8(4)? != 0);
    let text = if least == most { least.to_string() } else { format!("{least}:{most}") };
    let asked = number(Field::TcpMss, u32::MAX, u32::from(least), u32::from(most));
    XtMatch::known("tcpmss", format!("{}--mss {text}", not(inverted)), asked.unless(inverted))
}

/// `ipt_ttl_info`, `ip6t_hl_info`: u8 mode (equal, not equal, below, above), u8 limit.
pub(super) fn ttl(blob: Blob<'_>, name: &'static str) -> Option<XtMatch> {
    let (mode, limit) = (blob.u8(0)?, blob.u8(1)?);
    let (bang, word) = *[("", "eq"), ("! ", "eq"), ("", "lt"), ("", "gt")].get(usize::from(mode))?;
    let n = u32::from(limit);
    let asked = match mode {
        0 => Match::equals(Field::Ttl, n),
        1 => Match::equals(Field::Ttl, n).unless(true),
        // Below: not from here on.
        2 => number(Field::Ttl, u32::MAX, n, u32::MAX).unless(true),
        _ => number(Field::Ttl, u32::MAX, n + 1, u32::MAX),
    };
    XtMatch::known(name, format!("{bang}--{name}-{word} {limit}"), asked)
}

/// `xt_pkttype_info`: int type, int invert.
pub(super) fn pkttype(blob: Blob<'_>) -> Option<XtMatch> {
    let (kind, inverted) = (blob.u32(0)?, blob.u32(4)? != 0);
    let word = ["unicast", "broadcast", "multicast"].get(usize::try_from(kind).ok()?)?;
    let asked = Match::equals(Field::PacketType, kind).unless(inverted);
    XtMatch::known("pkttype", format!("{}--pkt-type {word}", not(inverted)), asked)
}

/// `xt_tos_match_info`: u8 mask, u8 value, u8 invert.
pub(super) fn tos(blob: Blob<'_>) -> Option<XtMatch> {
    let [mask, value, inverted] = [blob.u8(0)?, blob.u8(1)?, blob.u8(2)?];
    let asked = number(Field::Tos, u32::from(mask), u32::from(value), u32::from(value));
    let text = format!("{}--tos {value:#04x}/{mask:#04x}", not(inverted != 0));
    XtMatch::known("tos", text, asked.unless(inverted != 0))
}

/// `xt_dscp_info`: u8 value, u8 invert.
pub(super) fn dscp(blob: Blob<'_>) -> Option<XtMatch> {
    let (value, inverted) = (blob.u8(0)?, blob.u8(1)? != 0);
    // The six upper bits of the type of service.
    let wanted = u32::from(value) << 2;
    let asked = number(Field::Tos, 0xfc, wanted, wanted).unless(inverted);
    XtMatch::known("dscp", format!("{}--dscp {value:#04x}", not(inverted)), asked)
}

/// `xt_iprange_mtinfo`: four addresses of 16 bytes, u8 flags.
pub(super) fn iprange(blob: Blob<'_>, v6: bool) -> Option<XtMatch> {
    let flags = blob.u8(64)?;
    let (mut options, mut matches) = (vec![], vec![]);
    for (bit, at, word) in [(0, 0, "src"), (1, 32, "dst")] {
        if flags & (1 << bit) != 0 {
            let (first, last) = (blob.ip(at, v6)?, blob.ip(at + 16, v6)?);
            let side = if bit == 0 { Match::SourceRange } else { Match::DestinationRange };
            matches.push(side(first, last).unless(flags & (0x10 << bit) != 0));
            options.push(format!("{}--{word}-range {first}-{last}", not(flags & (0x10 << bit) != 0)));
        }
    }
    XtMatch::all("iprange", options.join(" "), matches)
}

/// `xt_owner_match_info`: first and last uid, first and last gid, u8 asked, u8 inverted.
pub(super) fn owner(blob: Blob<'_>) -> Option<XtMatch> {
    let (asked, inverted) = (blob.u8(16)?, blob.u8(17)?);
    if asked & !7 != 0 {
        return None;
    }
    let (mut options, mut matches) = (vec![], vec![]);
    for (bit, at, word, field) in [(1, 0, "uid-owner", Field::Uid), (2, 8, "gid-owner", Field::Gid)] {
        if asked & bit != 0 {
            let (first, last) = (blob.u32(at)?, blob.u32(at + 4)?);
            let text = if first == last { first.to_string() } else { format!("{first}-{last}") };
            matches.push(number(field, u32::MAX, first, last).unless(inverted & bit != 0));
            options.push(format!("{}--{word} {text}", not(inverted & bit != 0)));
        }
    }
    if asked & 4 != 0 {
        let text = format!("{}--socket-exists", not(inverted & 4 != 0));
        matches.push(Match::Other(text.clone()));
        options.push(text);
    }
    XtMatch::all("owner", options.join(" "), matches)
}

/// `xt_physdev_info`: two names of 16 bytes with their masks, u8 inverted, u8 asked. Only `--physdev-is-*`.
pub(super) fn physdev(blob: Blob<'_>) -> Option<XtMatch> {
    let (inverted, asked) = (blob.u8(64)?, blob.u8(65)?);
    let known = [(0x08, "is-in"), (0x10, "is-out"), (0x04, "is-bridged")];
    if asked & !0x1c != 0 {
        return None;
    }
    let options: Vec<String> = known
        .iter()
        .filter(|(bit, _)| asked & bit != 0)
        .map(|(bit, word)| format!("{}--physdev-{word}", not(inverted & bit != 0)))
        .collect();
    XtMatch::other("physdev", options.join(" "))
}

/// `xt_rpfilter_info`: u8 flags.
pub(super) fn rpfilter(blob: Blob<'_>) -> Option<XtMatch> {
    let flags = blob.u8(0)?;
    let known = [(1, "--loose"), (2, "--validmark"), (4, "--accept-local"), (8, "--invert")];
    let options: Vec<&str> =
        known.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, word)| *word).collect();
    XtMatch::other("rpfilter", options.join(" "))
}

/// `xt_recent_mtinfo_v1`: u32 seconds, u32 hits, u8 action, u8 invert, name of 200, u8 side, mask.
pub(super) fn recent(blob: Blob<'_>, v6: bool) -> Option<XtMatch> {
    let (seconds, hits, action) = (blob.u32(0)?, blob.u32(4)?, blob.u8(8)?);
    let word = match action {
        1 => "--rcheck",
        2 => "--set",
        4 => "--update",
        8 => "--remove",
        // With --rttl or --reap.
        _ => return None,
    };
    let inverted = blob.u8(9)? != 0;
    let mut text = format!("{}{word}", not(inverted));
    for (value, option) in [(seconds, "seconds"), (hits, "hitcount")] {
        if value != 0 {
            text.push_str(&format!(" --{option} {value}"));
        }
    }
    let side = *["--rsource", "--rdest"].get(usize::from(blob.u8(210)?))?;
    let name = blob.text(10, 200)?;
    text.push_str(&format!(" --name {name}"));
    // Without an option all 16 bytes are ones, also for IPv4; iptables prints a mask then that it would not find again.
    if blob.bytes(212, 16)? != [0xff; 16] {
        text.push_str(&format!(" --mask {}", blob.ip(212, v6)?));
    }
    text.push_str(&format!(" {side}"));
    let asked = match action {
        // Every packet fits, and is noted.
        2 => Match::AllOf(vec![]),
        1 | 4 => Match::Recent { name: name.to_owned(), seconds, hits },
        _ => return XtMatch::other("recent", text),
    };
    XtMatch::known("recent", text, asked.unless(inverted))
}
