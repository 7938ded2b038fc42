//! Statements of a rule: verdicts, limits, counters, what is logged and set.

use super::super::expr::{Expr, LOG_WARNING};
use super::super::field::{L3, Load, host_number};
use super::super::{verdict, verdict_word};
use super::{Reader, Word};
use whydrop_model::netfilter::{Family, Match, RuleVerdict};

impl Reader<'_, '_> {
    pub(super) fn set_mark(&mut self, what: &str, from: u32) {
        let value = self.register(from).and_then(|register| match register.load {
            Load::Value(value) => host_number(value),
            _ => None,
        });
        match value {
            Some(mark) => self.say(format!("{what} mark set 0x{mark:08x}")),
            None => self.unknown(&format!("{what} set")),
        }
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
            Expr::Notrack => self.say("notrack".to_owned()),
            Expr::Objref { kind: 1, name } => self.say(format!("counter name \"{name}\"")),
            Expr::Objref { kind: 2, name } => self.condition(format!("quota name \"{name}\""), None),
            Expr::Objref { kind: 4, name } => self.condition(format!("limit name \"{name}\""), None),
            Expr::Nat { destination } => self.effect(if *destination { "dnat" } else { "snat" }),
            Expr::Masquerade => self.effect("masquerade"),
            Expr::Redirect => self.effect("redirect"),
            Expr::Match { name, .. } => self.unknown(&format!("xt match {name}")),
            Expr::Target { name, .. } => {
                self.verdict = RuleVerdict::Other((*name).to_owned());
                self.unknown(&format!("xt target {name}"));
            }
            Expr::Other(name) => self.unknown(name),
            _ => self.unknown("expression"),
        }
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
            *implied = Word { text: String::new(), condition: None };
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

/// Burst of packets that nft leaves out.
const USUAL_BURST: u32 = 5;

/// Rate and burst as nft writes them: `10/second`, ` burst 20 packets`.
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
    let burst = if burst == USUAL_BURST { String::new() } else { format!(" burst {burst} packets") };
    Some((format!("{rate}/{unit}"), burst))
}
