//! Rules that whydrop makes itself: conditions of the model as expressions of nf_tables.

use crate::source::nftables::{describe, push_bytes, push_text};
use netlink_bindings::utils::{finalize_nested_header, push_nested_header};
use std::net::IpAddr;
use whydrop_model::action::ChainRef;
use whydrop_model::netfilter::{Family, Field, Match, Rule, RuleVerdict, Tool};

const EXPRESSIONS: u16 = 4;
const LIST_ELEM: u16 = 1;
/// `NFT_REG_1`.
const REGISTER: u32 = 1;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const META_PROTOCOL: u32 = 1;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const EQ: u32 = 0;
const NEQ: u32 = 1;
const LT: u32 = 2;
const LTE: u32 = 3;
const GTE: u32 = 5;
const IFNAMSIZ: usize = 16;

/// A rule of nft from conditions, with a counter in front of its verdict, for a chain of family inet; none if one of
/// the conditions is not among those that whydrop writes: Random, Nth, Limit, L4Proto, Source, Destination,
/// SourcePorts, DestinationPorts, InInterface, OutInterface, CtState.
pub fn rule(matches: Vec<Match>, verdict: RuleVerdict) -> Option<Rule> {
    let list = list(&matches, &verdict, Family::Inet)?;
    let (text, _) = describe(&list, Family::Inet);
    Some(Rule {
        position: 1,
        handle: None,
        packets: None,
        bytes: None,
        verdict,
        matches,
        comment: None,
        text,
    })
}

/// The attributes of a rule for this chain; none if it has a condition or a verdict that whydrop does not write.
pub(super) fn attributes(rule: &Rule, chain: &ChainRef) -> Option<Vec<u8>> {
    let foreign = |m: &Match| matches!(m, Match::Random(_) | Match::Nth(_) | Match::CtState(_));
    let iptables = chain.tool != Tool::Nft;
    // iptables would not understand what it does not write itself.
    if rule.comment.is_some()
        || iptables && (rule.matches.iter().any(foreign) || rule.verdict == RuleVerdict::Reject)
    {
        return None;
    }
    let list = list(&rule.matches, &rule.verdict, chain.family)?;
    let mut out = vec![];
    push_bytes(&mut out, libc::NLA_F_NESTED as u16 | EXPRESSIONS, &list);
    Some(out)
}

fn list(matches: &[Match], verdict: &RuleVerdict, family: Family) -> Option<Vec<u8>> {
    let mut writer = Writer { out: vec![], family, l3: false, l4: None };
    for condition in matches {
        writer.condition(condition)?;
    }
    writer.expr("counter", |data| {
        push_bytes(data, 1, &0_u64.to_be_bytes());
        push_bytes(data, 2, &0_u64.to_be_bytes());
    });
    writer.verdict(verdict)?;
    Some(writer.out)
}

struct Writer {
    out: Vec<u8>,
    family: Family,
    /// The network protocol was asked for.
    l3: bool,
    l4: Option<u8>,
}

fn number(data: &mut Vec<u8>, attribute: u16, value: u32) {
    push_bytes(data, attribute, &value.to_be_bytes());
}

fn value(data: &mut Vec<u8>, attribute: u16, bytes: &[u8]) {
    let nested = push_nested_header(data, attribute);
    push_bytes(data, 1, bytes);
    finalize_nested_header(data, nested);
}

impl Writer {
    fn expr(&mut self, name: &str, fill: impl FnOnce(&mut Vec<u8>)) {
        let element = push_nested_header(&mut self.out, LIST_ELEM);
        push_text(&mut self.out, 1, name);
        let data = push_nested_header(&mut self.out, 2);
        fill(&mut self.out);
        finalize_nested_header(&mut self.out, data);
        finalize_nested_header(&mut self.out, element);
    }

    fn meta(&mut self, key: u32) {
        self.expr("meta", |data| {
            number(data, 1, REGISTER);
            number(data, 2, key);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, len: u32) {
        self.expr("payload", |data| {
            for (attribute, value) in [(1, REGISTER), (2, base), (3, offset), (4, len)] {
                number(data, attribute, value);
            }
        });
    }

    fn compare(&mut self, op: u32, bytes: &[u8]) {
        self.expr("cmp", |data| {
            number(data, 1, REGISTER);
            number(data, 2, op);
            value(data, 3, bytes);
        });
    }

    fn mask(&mut self, mask: &[u8]) {
        self.expr("bitwise", |data| {
            number(data, 1, REGISTER);
            number(data, 2, REGISTER);
            number(data, 3, u32::try_from(mask.len()).unwrap_or(0));
            value(data, 4, mask);
            value(data, 5, &vec![0; mask.len()]);
        });
    }

    fn condition(&mut self, condition: &Match) -> Option<()> {
        match condition {
            Match::L4Proto(protocol) => {
                self.meta(META_L4PROTO);
                self.compare(EQ, &[*protocol]);
                self.l4 = Some(*protocol);
            }
            Match::Source(ip, prefix) => self.address(*ip, *prefix, true)?,
            Match::Destination(ip, prefix) => self.address(*ip, *prefix, false)?,
            Match::SourcePorts(first, last) => self.ports(0, *first, *last)?,
            Match::DestinationPorts(first, last) => self.ports(2, *first, *last)?,
            Match::InInterface(name) => self.interface(META_IIFNAME, name)?,
            Match::OutInterface(name) => self.interface(META_OIFNAME, name)?,
            Match::CtState(states) => self.state(states)?,
            Match::Random(share) => self.random(*share)?,
            Match::Nth(every) => {
                (*every > 0).then_some(())?;
                self.numgen(*every, false);
                self.compare(EQ, &0_u32.to_ne_bytes());
            }
            Match::Limit { rate, over } => self.limit(rate, *over)?,
            Match::Number { field: Field::NetworkProtocol, mask: u32::MAX, low, high } if low == high => {
                self.network_protocol(*low == 10)?;
            }
            Match::Connlimit { .. }
            | Match::Quota { .. }
            | Match::Named { .. }
            | Match::Recent { .. }
            | Match::SourceRange(..)
            | Match::DestinationRange(..)
            | Match::Number { .. }
            | Match::AnyOf(_)
            | Match::AllOf(_)
            | Match::Not(_)
            | Match::Change(_)
            | Match::Other(_) => return None,
        }
        Some(())
    }

    /// Asks for the network protocol where the family leaves it open.
    fn network_protocol(&mut self, v6: bool) -> Option<()> {
        match self.family {
            Family::Ip if !v6 => return Some(()),
            Family::Ip6 if v6 => return Some(()),
            Family::Ip | Family::Ip6 | Family::Arp => return None,
            _ if self.l3 => return Some(()),
            Family::Inet => {
                self.meta(META_NFPROTO);
                self.compare(EQ, &[if v6 { 10 } else { 2 }]);
            }
            Family::Bridge | Family::Netdev => {
                self.meta(META_PROTOCOL);
                self.compare(EQ, if v6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
            }
        }
        self.l3 = true;
        Some(())
    }

    fn address(&mut self, ip: IpAddr, prefix: u8, source: bool) -> Option<()> {
        self.network_protocol(ip.is_ipv6())?;
        let (bytes, offset) = match ip {
            IpAddr::V4(ip) => (ip.octets().to_vec(), if source { 12 } else { 16 }),
            IpAddr::V6(ip) => (ip.octets().to_vec(), if source { 8 } else { 24 }),
        };
        let bits = usize::from(prefix);
        (bits <= bytes.len() * 8).then_some(())?;
        let mask: Vec<u8> = (0..bytes.len())
            .map(|at| bits.saturating_sub(at * 8).min(8))
            .map(|ones| !0xff_u8.checked_shr(u32::try_from(ones).unwrap_or(8)).unwrap_or(0))
            .collect();
        self.payload(NETWORK, offset, u32::try_from(bytes.len()).ok()?);
        if bits < bytes.len() * 8 {
            self.mask(&mask);
        }
        let network: Vec<u8> = bytes.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
        self.compare(EQ, &network);
        Some(())
    }

    fn ports(&mut self, offset: u32, first: u16, last: u16) -> Option<()> {
        // Without one of these protocols the bytes would be something else.
        matches!(self.l4, Some(6 | 17 | 33 | 132 | 136)).then_some(())?;
        self.payload(TRANSPORT, offset, 2);
        if first == last {
            self.compare(EQ, &first.to_be_bytes());
        } else {
            self.compare(GTE, &first.to_be_bytes());
            self.compare(LTE, &last.to_be_bytes());
        }
        Some(())
    }

    fn interface(&mut self, key: u32, name: &str) -> Option<()> {
        let prefix = name.strip_suffix(['*', '+']);
        let mut bytes = prefix.unwrap_or(name).as_bytes().to_vec();
        (!bytes.is_empty() && bytes.len() < IFNAMSIZ && !bytes.contains(&0)).then_some(())?;
        if prefix.is_none() {
            bytes.resize(IFNAMSIZ, 0);
        }
        self.meta(key);
        self.compare(EQ, &bytes);
        Some(())
    }

    fn state(&mut self, states: &[String]) -> Option<()> {
        let bits: Option<Vec<u32>> = states
            .iter()
            .map(|state| match state.as_str() {
                "INVALID" => Some(1),
                "ESTABLISHED" => Some(2),
                "RELATED" => Some(4),
                "NEW" => Some(8),
                "UNTRACKED" => Some(64),
                _ => None,
            })
            .collect();
        let mask = bits?.iter().fold(0, |all, bit| all | bit);
        (mask != 0).then_some(())?;
        self.expr("ct", |data| {
            number(data, 1, REGISTER);
            // NFT_CT_STATE.
            number(data, 2, 0);
        });
        self.mask(&mask.to_ne_bytes());
        self.compare(NEQ, &0_u32.to_ne_bytes());
        Some(())
    }

    fn numgen(&mut self, modulus: u32, random: bool) {
        self.expr("numgen", |data| {
            for (attribute, value) in [(1, REGISTER), (2, modulus), (3, u32::from(random)), (4, 0)] {
                number(data, attribute, value);
            }
        });
    }

    fn random(&mut self, share: f64) -> Option<()> {
        (share > 0.0 && share < 1.0).then_some(())?;
        // The coarsest scale that still says the share.
        let fine =
            |modulus: u32| ((share * f64::from(modulus)).round() / f64::from(modulus) - share).abs() < 1e-9;
        let modulus = [100, 1000, 10_000].into_iter().find(|modulus| fine(*modulus)).unwrap_or(1_000_000);
        let below = (share * f64::from(modulus)).round() as u32;
        (below > 0).then_some(())?;
        self.numgen(modulus, true);
        // Bytes are compared, so the number has to begin with the highest.
        self.expr("byteorder", |data| {
            for (attribute, value) in [(1, REGISTER), (2, REGISTER), (3, 1), (4, 4), (5, 4)] {
                number(data, attribute, value);
            }
        });
        self.compare(LT, &below.to_be_bytes());
        Some(())
    }

    fn limit(&mut self, rate: &str, over: bool) -> Option<()> {
        let (count, unit) = rate.split_once('/')?;
        let count: u64 = count.parse().ok().filter(|count| *count > 0)?;
        let seconds: u64 = match unit {
            "second" | "sec" => 1,
            "minute" | "min" => 60,
            "hour" => 3_600,
            "day" => 86_400,
            _ => return None,
        };
        self.expr("limit", |data| {
            push_bytes(data, 1, &count.to_be_bytes());
            push_bytes(data, 2, &seconds.to_be_bytes());
            // Burst as both tools have it unless told otherwise, packets, above or below.
            for (attribute, value) in [(3, 5), (4, 0), (5, u32::from(over))] {
                number(data, attribute, value);
            }
        });
        Some(())
    }

    fn verdict(&mut self, verdict: &RuleVerdict) -> Option<()> {
        let code: i32 = match verdict {
            RuleVerdict::Drop => 0,
            RuleVerdict::Accept => 1,
            RuleVerdict::Return => -5,
            RuleVerdict::Continue => return Some(()),
            RuleVerdict::Reject => {
                // Port unreachable, in the family's own code.
                let (kind, code) = match self.family {
                    Family::Ip => (0, 3),
                    Family::Ip6 => (0, 4),
                    _ => (2, 1),
                };
                self.expr("reject", |data| {
                    number(data, 1, kind);
                    push_bytes(data, 2, &[code]);
                });
                return Some(());
            }
            _ => return None,
        };
        self.expr("immediate", |data| {
            number(data, 1, 0);
            let outer = push_nested_header(data, 2);
            let inner = push_nested_header(data, 2);
            number(data, 1, code.cast_unsigned());
            finalize_nested_header(data, inner);
            finalize_nested_header(data, outer);
        });
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_print_as_nft_prints_them() {
        let text = |matches: Vec<Match>, verdict| rule(matches, verdict).unwrap().text;
        let to_web = [Match::L4Proto(6), Match::DestinationPorts(80, 80)];
        assert_eq!(
            text([&to_web[..], &[Match::Random(0.3)]].concat(), RuleVerdict::Drop),
            "tcp dport 80 numgen random mod 100 < 30 counter drop"
        );
        let source = Match::Source("10.1.2.3".parse().unwrap(), 12);
        assert_eq!(text(vec![source], RuleVerdict::Accept), "ip saddr 10.0.0.0/12 counter accept");
        let source = Match::Source("fe80::1".parse().unwrap(), 128);
        assert_eq!(text(vec![source], RuleVerdict::Return), "ip6 saddr fe80::1 counter return");
        let whole = vec![
            Match::InInterface("eth*".into()),
            Match::OutInterface("lo".into()),
            Match::L4Proto(17),
            Match::SourcePorts(1000, 2000),
            Match::CtState(vec!["NEW".into(), "INVALID".into()]),
            Match::Nth(4),
            Match::Limit { rate: "10/second".into(), over: true },
        ];
        assert_eq!(
            text(whole, RuleVerdict::Reject),
            "iifname \"eth*\" oifname \"lo\" udp sport 1000-2000 ct state invalid,new numgen inc mod 4 0 \
             limit rate over 10/second burst 5 packets counter reject"
        );
    }

    #[test]
    fn what_cannot_be_written_is_none() {
        assert!(rule(vec![Match::DestinationPorts(80, 80)], RuleVerdict::Drop).is_none(), "ports of what");
        assert!(rule(vec![Match::Other("?time".into())], RuleVerdict::Drop).is_none());
        assert!(rule(vec![Match::Random(1.5)], RuleVerdict::Drop).is_none());
        assert!(rule(vec![], RuleVerdict::Jump("x".into())).is_none());
    }
}
