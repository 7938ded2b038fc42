//! Targets: what a rule does to a packet, and how iptables writes it.

use super::{Blob, quoted};
use std::net::IpAddr;
use whydrop_model::netfilter::{Change, Field, Nat, NatKind, RuleVerdict};
use whydrop_model::shell::sanitize;

/// A decoded target.
#[derive(Debug)]
pub(crate) struct Target {
    /// `-j NAME …` or `-g CHAIN`; empty for a rule without a target.
    pub text: String,
    pub verdict: RuleVerdict,
    /// What it changes in the packet.
    pub change: Option<Change>,
}

impl Default for Target {
    fn default() -> Self {
        Self { text: String::new(), verdict: RuleVerdict::Continue, change: None }
    }
}

/// Decoded options of a target: its name on the command line, its options, what it does.
type Known = (&'static str, String, RuleVerdict);

impl Target {
    /// A verdict without options.
    pub fn verdict(verdict: RuleVerdict) -> Self {
        let text = match &verdict {
            RuleVerdict::Accept => "-j ACCEPT".to_owned(),
            RuleVerdict::Drop => "-j DROP".to_owned(),
            RuleVerdict::Return => "-j RETURN".to_owned(),
            RuleVerdict::Queue(_) => "-j QUEUE".to_owned(),
            RuleVerdict::Jump(chain) => format!("-j {chain}"),
            RuleVerdict::Goto(chain) => format!("-g {chain}"),
            RuleVerdict::Reject
            | RuleVerdict::Continue
            | RuleVerdict::Map(_)
            | RuleVerdict::Nat(_)
            | RuleVerdict::Tproxy { .. }
            | RuleVerdict::Other(_) => String::new(),
        };
        Self { text, verdict, change: None }
    }

    /// `-j NFLOG`, which iptables over nf_tables stores as a native log expression.
    pub fn nflog(prefix: &str, group: u16, threshold: u16) -> Self {
        let options = nflog_options(prefix, group, threshold);
        let space = if options.is_empty() { "" } else { " " };
        Self { text: format!("-j NFLOG{space}{options}"), verdict: RuleVerdict::Continue, change: None }
    }

    /// Decodes a target of an extension module.
    pub fn decode(name: &str, revision: u8, data: &[u8], v6: bool) -> Self {
        let change = change(name, revision, Blob(data));
        match decode(name, revision, Blob(data), v6) {
            Some((name, options, verdict)) => {
                let space = if options.is_empty() { "" } else { " " };
                Self { text: format!("-j {name}{space}{options}"), verdict, change }
            }
            None => {
                let name = sanitize(name, super::NAME_LEN);
                Self { text: format!("-j ?{name}"), verdict: effect(&name), change }
            }
        }
    }
}

/// What a target does as far as its name alone tells.
fn effect(name: &str) -> RuleVerdict {
    match name {
        "REJECT" => RuleVerdict::Reject,
        "LOG" | "NFLOG" | "MARK" | "CONNMARK" | "NOTRACK" | "CHECKSUM" | "TCPMSS" | "TRACE" | "TOS"
        | "DSCP" | "TTL" | "HL" | "CLASSIFY" | "SET" | "AUDIT" | "CT" | "TEE" | "RATEEST" => {
            RuleVerdict::Continue
        }
        other => RuleVerdict::Other(other.to_owned()),
    }
}

/// What a target changes in the packet or in its connection.
fn change(name: &str, revision: u8, blob: Blob<'_>) -> Option<Change> {
    Some(match name {
        "MARK" => {
            let numbers = (revision == 2).then(|| blob.u32(0).zip(blob.u32(4))).flatten();
            numbers.map_or(Change::Blur(Field::Mark), |(value, clear)| Change::Set {
                field: Field::Mark,
                clear,
                value,
            })
        }
        "CONNMARK" => connmark_change(revision, blob),
        "NOTRACK" => Change::Notrack,
        // The lowest bit of the flags: XT_CT_NOTRACK.
        "CT" if blob.u16(0).is_some_and(|flags| flags & 1 != 0) => Change::Notrack,
        "TCPMSS" => Change::Blur(Field::TcpMss),
        "TOS" | "DSCP" => Change::Blur(Field::Tos),
        "TTL" | "HL" => Change::Blur(Field::Ttl),
        _ => return None,
    })
}

fn connmark_change(revision: u8, blob: Blob<'_>) -> Change {
    let known = || {
        let [mark, ctmask, nfmask] = [blob.u32(0)?, blob.u32(4)?, blob.u32(8)?];
        let mode = match revision {
            1 => blob.u8(12)?,
            2 if blob.u8(13)? == 0 => blob.u8(14)?,
            _ => return None,
        };
        let (mark_field, ct) = (Field::Mark, Field::CtMark);
        match mode {
            0 => Some(Change::Set { field: ct, clear: ctmask, value: mark }),
            1 => Some(Change::Copy { from: mark_field, mask: nfmask, to: ct, clear: ctmask }),
            2 => Some(Change::Copy { from: ct, mask: ctmask, to: mark_field, clear: nfmask }),
            _ => None,
        }
    };
    // Its mode decides which of the two marks it changes; the other one is seldom asked.
    known().unwrap_or(Change::Blur(Field::CtMark))
}

fn decode(name: &str, revision: u8, blob: Blob<'_>, v6: bool) -> Option<Known> {
    let other = |name: &'static str, options: String| Some((name, options, effect(name)));
    match (name, revision) {
        ("REJECT", 0) => reject(blob, v6),
        ("LOG", 0) => log(blob),
        ("NFLOG", 0) => nflog(blob),
        ("MARK", 2) => other("MARK", format!("--set-xmark {:#x}/{:#x}", blob.u32(0)?, blob.u32(4)?)),
        ("CONNMARK", 1) => connmark(blob, 12),
        ("CONNMARK", 2) if blob.u8(13)? == 0 => connmark(blob, 14),
        ("NFQUEUE", 0..=3) => nfqueue(blob, revision),
        ("TPROXY", 1) => tproxy(blob, v6),
        ("CT", 0..=2) => ct(blob, revision),
        ("NOTRACK", _) => other("NOTRACK", String::new()),
        ("TRACE", _) => other("TRACE", String::new()),
        ("CHECKSUM", 0) if blob.u8(0)? == 1 => other("CHECKSUM", "--checksum-fill".to_owned()),
        ("TCPMSS", 0) => other(
            "TCPMSS",
            match blob.u16(0)? {
                u16::MAX => "--clamp-mss-to-pmtu".to_owned(),
                mss => format!("--set-mss {mss}"),
            },
        ),
        ("MASQUERADE", 0) => nat(range(blob, false, v6)?, NatKind::Masquerade, ""),
        ("REDIRECT", 0) => nat(range(blob, false, v6)?, NatKind::Redirect, ""),
        // Revision 0 of IPv4 is a compat structure; later ones and IPv6 carry nf_nat_range.
        ("SNAT", 0) => nat(range(blob, false, v6)?, NatKind::Source, "--to-source"),
        ("DNAT", 0) => nat(range(blob, false, v6)?, NatKind::Destination, "--to-destination"),
        ("SNAT", 1) => nat(range(blob, true, v6)?, NatKind::Source, "--to-source"),
        ("DNAT", 1..=2) => nat(range(blob, true, v6)?, NatKind::Destination, "--to-destination"),
        _ => None,
    }
}

const REJECT_4: [&str; 9] = [
    "icmp-net-unreachable",
    "icmp-host-unreachable",
    "icmp-proto-unreachable",
    "icmp-port-unreachable",
    "",
    "icmp-net-prohibited",
    "icmp-host-prohibited",
    "tcp-reset",
    "icmp-admin-prohibited",
];
const REJECT_6: [&str; 9] = [
    "icmp6-no-route",
    "icmp6-adm-prohibited",
    "",
    "icmp6-addr-unreachable",
    "icmp6-port-unreachable",
    "",
    "tcp-reset",
    "icmp6-policy-fail",
    "icmp6-reject-route",
];

/// `ipt_reject_info`, `ip6t_reject_info`: an enum.
fn reject(blob: Blob<'_>, v6: bool) -> Option<Known> {
    let names = if v6 { REJECT_6 } else { REJECT_4 };
    let name = names.get(usize::try_from(blob.u32(0)?).ok()?).filter(|name| !name.is_empty())?;
    Some(("REJECT", format!("--reject-with {name}"), RuleVerdict::Reject))
}

/// Level that `-j LOG` uses unless told otherwise (warning).
const LOG_LEVEL: u8 = 4;
const LOG_FLAGS: [(u8, &str); 5] = [
    (0x01, "--log-tcp-sequence"),
    (0x02, "--log-tcp-options"),
    (0x04, "--log-ip-options"),
    (0x08, "--log-uid"),
    (0x20, "--log-macdecode"),
];

/// `xt_log_info`: u8 level, u8 flags, prefix of 30.
fn log(blob: Blob<'_>) -> Option<Known> {
    let (level, flags, prefix) = (blob.u8(0)?, blob.u8(1)?, blob.text(2, 30)?);
    let mut options = vec![];
    if !prefix.is_empty() {
        options.push(format!("--log-prefix {}", quoted(prefix)));
    }
    if level != LOG_LEVEL {
        options.push(format!("--log-level {level}"));
    }
    options.extend(LOG_FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, word)| (*word).to_owned()));
    Some(("LOG", options.join(" "), RuleVerdict::Continue))
}

/// `xt_nflog_info`: u32 length, u16 group, u16 threshold, u16 flags, padding, prefix of 64.
fn nflog(blob: Blob<'_>) -> Option<Known> {
    let [group, threshold, flags] = [blob.u16(4)?, blob.u16(6)?, blob.u16(8)?];
    if blob.u32(0)? != 0 || flags != 0 {
        return None;
    }
    Some(("NFLOG", nflog_options(blob.text(12, 64)?, group, threshold), RuleVerdict::Continue))
}

fn nflog_options(prefix: &str, group: u16, threshold: u16) -> String {
    let mut options = vec![];
    if !prefix.is_empty() {
        options.push(format!("--nflog-prefix {}", quoted(prefix)));
    }
    for (value, word) in [(group, "group"), (threshold, "threshold")] {
        if value != 0 {
            options.push(format!("--nflog-{word} {value}"));
        }
    }
    options.join(" ")
}

/// `xt_connmark_tginfo{1,2}`: u32 mark, u32 ctmask, u32 nfmask, u8 mode.
fn connmark(blob: Blob<'_>, mode_at: usize) -> Option<Known> {
    let [mark, ctmask, nfmask] = [blob.u32(0)?, blob.u32(4)?, blob.u32(8)?];
    let masks = format!(" --nfmask {nfmask:#x} --ctmask {ctmask:#x}");
    let options = match blob.u8(mode_at)? {
        0 => format!("--set-xmark {mark:#x}/{ctmask:#x}"),
        1 => format!("--save-mark{masks}"),
        2 => format!("--restore-mark{masks}"),
        _ => return None,
    };
    Some(("CONNMARK", options, RuleVerdict::Continue))
}

/// `xt_NFQ_info{,_v1,_v2,_v3}`: u16 queue, u16 number of queues, u16 flags.
fn nfqueue(blob: Blob<'_>, revision: u8) -> Option<Known> {
    let queue = blob.u16(0)?;
    let total = if revision >= 1 { blob.u16(2)? } else { 1 };
    let flags = if revision >= 2 { blob.u16(4)? } else { 0 };
    let mut options = match total {
        0 | 1 => format!("--queue-num {queue}"),
        total => format!("--queue-balance {queue}:{}", queue.checked_add(total - 1)?),
    };
    for (bit, word) in [(1, " --queue-bypass"), (2, " --queue-cpu-fanout")] {
        if flags & bit != 0 {
            options.push_str(word);
        }
    }
    Some(("NFQUEUE", options, RuleVerdict::Queue(queue)))
}

/// `xt_tproxy_target_info_v1`: u32 mask, u32 mark, 16 bytes of address, be16 port.
fn tproxy(blob: Blob<'_>, v6: bool) -> Option<Known> {
    let (mask, mark, ip, port) = (blob.u32(0)?, blob.u32(4)?, blob.ip(8, v6)?, blob.be16(24)?);
    let options = format!("--on-port {port} --on-ip {ip} --tproxy-mark {mark:#x}/{mask:#x}");
    let verdict = RuleVerdict::Tproxy {
        address: Some(ip).filter(|ip| !ip.is_unspecified()),
        port: Some(port).filter(|port| *port != 0),
    };
    Some(("TPROXY", options, verdict))
}

/// `xt_ct_target_info{,_v1}`: u16 flags, u16 zone, u32 events twice, helper of 16, time-out name of 32.
fn ct(blob: Blob<'_>, revision: u8) -> Option<Known> {
    let (flags, zone) = (blob.u16(0)?, blob.u16(2)?);
    let plain = zone == 0
        && (blob.u32(4)?, blob.u32(8)?) == (0, 0)
        && (revision == 0 || blob.text(28, 32)?.is_empty());
    let helper = blob.text(12, 16)?;
    match flags {
        // NOTRACK is kept as CT with a flag that remembers how it was written.
        3 if plain && helper.is_empty() => Some(("NOTRACK", String::new(), RuleVerdict::Continue)),
        1 if plain && helper.is_empty() => Some(("CT", "--notrack".to_owned(), RuleVerdict::Continue)),
        0 if plain && !helper.is_empty() => Some(("CT", format!("--helper {helper}"), RuleVerdict::Continue)),
        _ => None,
    }
}

/// Addresses and ports of a NAT target.
struct Range {
    flags: u32,
    ips: (IpAddr, IpAddr),
    ports: (u16, u16),
}

const MAP_IPS: u32 = 1;
const PORTS: u32 = 2;
const RANDOM: u32 = 4;
const PERSISTENT: u32 = 8;
const RANDOM_FULLY: u32 = 16;

/// `nf_nat_range{,2}` (u32 flags, two addresses of 16 bytes, two be16), or for IPv4 of old revisions
/// `nf_nat_ipv4_multi_range_compat` (u32 count, u32 flags, two addresses of 4 bytes, two be16).
fn range(blob: Blob<'_>, wide: bool, v6: bool) -> Option<Range> {
    if wide || v6 {
        let ips = (blob.ip(4, v6)?, blob.ip(20, v6)?);
        return Some(Range { flags: blob.u32(0)?, ips, ports: (blob.be16(36)?, blob.be16(38)?) });
    }
    (blob.u32(0)? == 1).then_some(())?;
    let ips = (blob.ip(8, false)?, blob.ip(12, false)?);
    Some(Range { flags: blob.u32(4)?, ips, ports: (blob.be16(16)?, blob.be16(18)?) })
}

/// First port that a random one comes from, whatever was asked (`nf_nat_l4proto_unique_tuple`).
const FIRST_RANDOM_PORT: u16 = 1024;

fn nat(range: Range, kind: NatKind, to: &str) -> Option<Known> {
    let Range { flags, ips: (first, last), ports: (low, high) } = range;
    if flags & !(MAP_IPS | PORTS | RANDOM | PERSISTENT | RANDOM_FULLY) != 0 {
        return None;
    }
    let ports = if low == high { low.to_string() } else { format!("{low}-{high}") };
    let mut options = vec![];
    if to.is_empty() {
        if flags & PORTS != 0 {
            options.push(format!("--to-ports {ports}"));
        }
    } else {
        let bracket = first.is_ipv6() && flags & PORTS != 0;
        let ips = if first == last { first.to_string() } else { format!("{first}-{last}") };
        let ips = if flags & MAP_IPS == 0 { String::new() } else { ips };
        let ips = if bracket { format!("[{ips}]") } else { ips };
        let ports = if flags & PORTS == 0 { String::new() } else { format!(":{ports}") };
        options.push(format!("{to} {ips}{ports}"));
    }
    for (bit, word) in [(RANDOM, "--random"), (RANDOM_FULLY, "--random-fully"), (PERSISTENT, "--persistent")]
    {
        if flags & bit != 0 {
            options.push(word.to_owned());
        }
    }
    let random = flags & (RANDOM | RANDOM_FULLY) != 0;
    let translation = Nat {
        kind,
        addresses: (flags & MAP_IPS != 0).then_some((first, last)),
        ports: if flags & PORTS != 0 {
            Some((low, high))
        } else {
            random.then_some((FIRST_RANDOM_PORT, u16::MAX))
        },
        known: true,
    };
    Some((kind.word(), options.join(" "), RuleVerdict::Nat(Box::new(translation))))
}
