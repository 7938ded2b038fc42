//! Statements of a rule: verdicts, limits, counters, what is logged and set.

use super::super::expr::{Expr, LOG_WARNING};
use super::super::field::{CT_MARK, L3, Load, META_MARK, host_number};
use super::super::{verdict, verdict_word};
use super::meaning::address;
use super::{Reader, Word};
use whydrop_model::netfilter::{Change, Family, Field, Match, Nat, NatKind, RuleVerdict};

impl Reader<'_, '_> {
    pub(super) fn set_mark(&mut self, what: &str, from: u32) {
        let value = self.register(from).and_then(|register| match register.load {
            Load::Value(value) => host_number(value),
            _ => None,
        });
        let field = if what == "ct" { Field::CtMark } else { Field::Mark };
        let constant = value.and_then(|mark| u32::try_from(mark).ok());
        match constant {
            Some(mark) => self.alter(
                format!("{what} mark set 0x{mark:08x}"),
                Change::Set { field, clear: u32::MAX, value: mark },
            ),
            None => self.alter(format!("?{what} set"), self.computed(field, from)),
        }
    }

    /// A mark that is made of a mark: `meta mark set ct mark`, `meta mark set meta mark | 0x1`.
    fn computed(&self, field: Field, from: u32) -> Change {
        let known = || {
            let register = self.register(from).filter(|register| !register.swapped)?;
            let source = match register.load {
                Load::Meta(META_MARK) => Field::Mark,
                Load::Ct(CT_MARK) => Field::CtMark,
                _ => return None,
            };
            let bits = |bytes: &[u8]| host_number(bytes).and_then(|n| u32::try_from(n).ok());
            let (mask, turned) = match register.bits {
                None => (u32::MAX, 0),
                Some((mask, xor)) => (bits(mask)?, bits(xor)?),
            };
            match (source == field, turned) {
                (true, value) => Some(Change::Set { field, clear: !mask, value }),
                (false, 0) => Some(Change::Copy { from: source, mask, to: field, clear: u32::MAX }),
                _ => None,
            }
        };
        known().unwrap_or(Change::Blur(field))
    }

    fn alter(&mut self, text: String, change: Change) {
        self.words.push(Word { text, condition: Some(Match::Change(change)) });
    }

    /// A quota or a rate that is kept under a name.
    fn named(&mut self, name: &str, quota: bool) {
        let text = format!("{} name \"{name}\"", if quota { "quota" } else { "limit" });
        self.condition(text, Some(Match::Named { name: name.to_owned(), quota }));
    }

    pub(super) fn statement(&mut self, expr: &Expr<'_>) {
        match expr {
            Expr::Verdict(found) => {
                self.verdict = verdict(*found);
                self.say(verdict_word(*found));
            }
            Expr::Counter { .. } => self.say("counter".to_owned()),
            Expr::Limit { rate, unit, burst, bytes, over } => {
                let Some((rate, burst)) = limit(*rate, *unit, *burst, *bytes) else {
                    return self.unknown("limit");
                };
                let text = format!("limit rate {}{rate}{burst}", if *over { "over " } else { "" });
                self.condition(text, Some(Match::Limit { rate, over: *over }));
            }
            Expr::Connlimit { count, over } => {
                let text = format!("ct count {}{count}", if *over { "over " } else { "" });
                self.condition(text, Some(Match::Connlimit { count: *count, over: *over }));
            }
            Expr::Quota { bytes, over } => {
                let (number, unit) = bytes_unit(*bytes);
                let text = format!("quota {}{number} {unit}", if *over { "over " } else { "" });
                self.condition(text, Some(Match::Quota { bytes: *bytes, over: *over }));
            }
            Expr::Reject { kind, code } => {
                self.verdict = RuleVerdict::Reject;
                match self.reject(*kind, *code) {
                    Some(text) => self.say(text),
                    None => self.unknown("reject"),
                }
            }
            Expr::Queue { first, total, flags } => {
                self.verdict = RuleVerdict::Queue(*first);
                let last = match first.checked_add(total.saturating_sub(1)) {
                    Some(last) if last != *first => format!("-{last}"),
                    _ => String::new(),
                };
                let flags = ["", " bypass", " fanout", " bypass,fanout"].get(usize::from(*flags));
                self.say(format!("queue num {first}{last}{}", flags.unwrap_or(&"")));
            }
            Expr::Log { prefix, group, level, flags: 0, snaplen, threshold } => {
                self.log(prefix, *group, *level, *snaplen, *threshold);
            }
            Expr::Notrack => self.alter("notrack".to_owned(), Change::Notrack),
            Expr::Objref { kind: 1, name } => self.say(format!("counter name \"{name}\"")),
            Expr::Objref { kind: 2, name } => self.named(name, true),
            Expr::Objref { kind: 4, name } => self.named(name, false),
            Expr::Nat { destination, family, addresses, ports, flags } => {
                let kind = if *destination { NatKind::Destination } else { NatKind::Source };
                self.nat(kind, *family, *addresses, *ports, *flags);
            }
            Expr::Masquerade { ports, flags } => self.nat(NatKind::Masquerade, 0, [None; 2], *ports, *flags),
            Expr::Redirect { ports, flags } => self.nat(NatKind::Redirect, 0, [None; 2], *ports, *flags),
            Expr::Dynset { measures } => {
                self.words.push(Word { text: "?dynset".to_owned(), condition: None });
                for measure in measures {
                    let at = self.words.len();
                    self.statement(measure);
                    for word in self.words.iter_mut().skip(at) {
                        word.text = String::new();
                    }
                }
            }
            Expr::Match { name, .. } => self.unknown(&format!("xt match {name}")),
            Expr::Target { name, .. } => {
                self.verdict = RuleVerdict::Other((*name).to_owned());
                self.unknown(&format!("xt target {name}"));
            }
            // They decide about the packet, or may.
            Expr::Other(name @ ("immediate" | "fwd" | "synproxy")) => self.effect(name),
            Expr::Other(name) => self.unknown(name),
            _ => self.unknown("expression"),
        }
    }

    /// A translation. Its arguments stand in registers.
    fn nat(
        &mut self,
        kind: NatKind,
        family: u32,
        addresses: [Option<u32>; 2],
        ports: [Option<u32>; 2],
        flags: u32,
    ) {
        let value = |register: u32| match self.register(register)?.load {
            Load::Value(value) => Some(value),
            _ => None,
        };
        // A range that is one value has a single register.
        let range = |[first, last]: [Option<u32>; 2]| -> Option<Option<(&[u8], &[u8])>> {
            let Some(first) = first else { return Some(None) };
            Some(Some((value(first)?, value(last.unwrap_or(first))?)))
        };
        let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?));
        // Of an IPv4 address the register keeps four bytes.
        let ip = |bytes: &[u8]| address(bytes);
        let random = flags & (NAT_RANDOM | NAT_RANDOM_FULLY) != 0;
        let known = || -> Option<Nat> {
            let addresses = match range(addresses)? {
                Some((first, last)) => Some((ip(first)?, ip(last)?)),
                None => None,
            };
            let ports = match range(ports)? {
                Some((low, high)) => Some((port(low)?, port(high)?)),
                None => random.then_some((FIRST_RANDOM_PORT, u16::MAX)),
            };
            (flags & NAT_NETMAP == 0).then_some(Nat { kind, addresses, ports, known: true })
        };
        let text = known().and_then(|nat| self.nat_text(&nat, family, flags));
        let nat = known().unwrap_or(Nat { kind, addresses: None, ports: None, known: false });
        self.verdict = RuleVerdict::Nat(Box::new(nat));
        self.say(text.unwrap_or_else(|| format!("?{}", nat_word(kind))));
    }

    /// `dnat ip to 10.0.0.2:80`; none for what is not written as nft does.
    fn nat_text(&self, nat: &Nat, family: u32, flags: u32) -> Option<String> {
        let random = flags & (NAT_RANDOM | NAT_RANDOM_FULLY | NAT_PERSISTENT) != 0;
        (!random).then_some(())?;
        let mut text = nat_word(nat.kind).to_owned();
        if self.family == Family::Inet && nat.addresses.is_some() {
            text.push_str(if family == 10 { " ip6" } else { " ip" });
        }
        let ports = match nat.ports {
            None => String::new(),
            Some((low, high)) if low == high => format!(":{low}"),
            Some((low, high)) => format!(":{low}-{high}"),
        };
        let target = match nat.addresses {
            None => ports,
            Some((ip, last)) if ip != last => format!("{ip}-{last}{ports}"),
            Some((ip, _)) if ip.is_ipv6() && nat.ports.is_some() => format!("[{ip}]{ports}"),
            Some((ip, _)) => format!("{ip}{ports}"),
        };
        Some(if target.is_empty() { text } else { format!("{text} to {target}") })
    }

    /// A statement whose arguments are not decoded, but whose effect has a name.
    fn effect(&mut self, name: &str) {
        self.verdict = RuleVerdict::Other(name.to_owned());
        self.unknown(name);
    }

    fn reject(&mut self, kind: u32, code: u8) -> Option<String> {
        let v6 = self.context.l3 == Some(L3::V6);
        let name = match kind {
            0 if v6 => "icmpv6",
            0 => "icmp",
            1 => return Some("reject with tcp reset".to_owned()),
            2 => "icmpx",
            _ => return None,
        };
        let table: &[(u8, &str)] = match name {
            "icmp" => &REJECT_4,
            "icmpv6" => &REJECT_6,
            _ => &REJECT_X,
        };
        let word = table.iter().find(|(known, _)| *known == code)?.1;
        let usual = match self.family {
            Family::Ip | Family::Ip6 => kind == 0 && word == "port-unreachable",
            _ => kind == 2 && word == "port-unreachable",
        };
        if kind == 0
            && let Some(at) = self.l3_word.take()
            && let Some(implied) = self.words.get_mut(at)
        {
            implied.text = String::new();
        }
        Some(if usual { "reject".to_owned() } else { format!("reject with {name} {word}") })
    }

    fn log(&mut self, prefix: &str, group: Option<u16>, level: u32, snaplen: u32, threshold: u16) {
        let mut text = "log".to_owned();
        if !prefix.is_empty() {
            text.push_str(&format!(" prefix \"{prefix}\""));
        }
        if let Some(group) = group {
            text.push_str(&format!(" group {group}"));
        } else if level != LOG_WARNING {
            let Some(level) = usize::try_from(level).ok().and_then(|level| LOG_LEVELS.get(level)) else {
                return self.unknown("log");
            };
            text.push_str(&format!(" level {level}"));
        }
        for (value, word) in [(snaplen, "snaplen"), (u32::from(threshold), "queue-threshold")] {
            if value != 0 {
                text.push_str(&format!(" {word} {value}"));
            }
        }
        self.say(text);
    }
}

/// `NF_NAT_RANGE_*` flags.
const NAT_RANDOM: u32 = 1 << 2;
const NAT_PERSISTENT: u32 = 1 << 3;
const NAT_RANDOM_FULLY: u32 = 1 << 4;
const NAT_NETMAP: u32 = 1 << 6;
/// First port that a random one comes from (`nf_nat_l4proto_unique_tuple`).
const FIRST_RANDOM_PORT: u16 = 1024;

const fn nat_word(kind: NatKind) -> &'static str {
    match kind {
        NatKind::Source => "snat",
        NatKind::Destination => "dnat",
        NatKind::Masquerade => "masquerade",
        NatKind::Redirect => "redirect",
    }
}

const LOG_LEVELS: [&str; 9] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit"];
const REJECT_4: [(u8, &str); 7] = [
    (0, "net-unreachable"),
    (1, "host-unreachable"),
    (2, "prot-unreachable"),
    (3, "port-unreachable"),
    (9, "net-prohibited"),
    (10, "host-prohibited"),
    (13, "admin-prohibited"),
];
const REJECT_6: [(u8, &str); 6] = [
    (0, "no-route"),
    (1, "admin-prohibited"),
    (3, "addr-unreachable"),
    (4, "port-unreachable"),
    (5, "policy-fail"),
    (6, "reject-route"),
];
const REJECT_X: [(u8, &str); 4] =
    [(0, "no-route"), (1, "port-unreachable"), (2, "host-unreachable"), (3, "admin-prohibited")];

/// A number of bytes in the unit that nft chooses.
fn bytes_unit(mut number: u64) -> (u64, &'static str) {
    for unit in ["bytes", "kbytes"] {
        if number == 0 || !number.is_multiple_of(1024) {
            return (number, unit);
        }
        number /= 1024;
    }
    (number, "mbytes")
}

/// Rate and burst as nft writes them: `10/second`, ` burst 20 packets`. Releases before 1.1 leave a burst of 5 packets
/// out, but take it.
fn limit(rate: u64, unit: u64, burst: u32, bytes: bool) -> Option<(String, String)> {
    let unit = match unit {
        1 => "second",
        60 => "minute",
        3_600 => "hour",
        86_400 => "day",
        604_800 => "week",
        _ => return None,
    };
    if bytes {
        let (rate, word) = bytes_unit(rate);
        let (size, size_word) = bytes_unit(u64::from(burst));
        let burst = if burst == 0 { String::new() } else { format!(" burst {size} {size_word}") };
        return Some((format!("{rate} {word}/{unit}"), burst));
    }
    Some((format!("{rate}/{unit}"), format!(" burst {burst} packets")))
}
