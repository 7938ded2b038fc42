//! Policy rules: RTM_GETRULE.

use crate::error::Result;
use crate::sys::attributes::{Attributes, ip};
use crate::sys::netlink::Netlink;
use netlink_bindings::rt_rule;
use netlink_bindings::utils::{parse_u16, parse_u32};
use std::net::IpAddr;
use whydrop_model::{snapshot::PolicyRule, text};

/// Length of struct fib_rule_hdr.
const HEADER: usize = 12;
const FIB_RULE_INVERT: u32 = 2;
/// FR_ACT_*, and the words of `ip rule`.
const ACTIONS: [(u8, &str); 6] =
    [(1, "lookup"), (2, "goto"), (3, "nop"), (6, "blackhole"), (7, "unreachable"), (8, "prohibit")];

// FRA_* (include/uapi/linux/fib_rules.h).
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TUN_ID: u16 = 12;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_L3MDEV: u16 = 19;
const FRA_UID_RANGE: u16 = 20;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const FRA_DPORT_RANGE: u16 = 24;
const FRA_DSCP: u16 = 25;

/// Policy rules of IPv4 and IPv6 in order of priority within each. Needs no privilege.
pub fn read(route: &mut Netlink) -> Result<Vec<PolicyRule>> {
    Ok(read_raw(route)?.into_iter().map(|(rule, _)| rule).collect())
}

/// As [`read`], with the messages in which they came.
pub fn read_raw(route: &mut Netlink) -> Result<Vec<(PolicyRule, Vec<u8>)>> {
    let mut rules = Vec::new();
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let header = rt_rule::FibRuleHdr { family, ..Default::default() };
        let request = rt_rule::Request::new().op_getrule_dump(&header);
        rules.extend(route.dump(text!("the policy rules", "策略路由规则"), &request, |message| {
            Some((parse(message, family)?, message.to_vec()))
        })?);
    }
    Ok(rules)
}

/// Number of an action.
pub fn action_number(word: &str) -> Option<u8> {
    ACTIONS.iter().find(|(_, known)| *known == word).map(|(number, _)| *number)
}

pub(crate) fn parse(message: &[u8], family: u8) -> Option<PolicyRule> {
    let [its_family, to_prefix, from_prefix, tos, short_table, _, _, action] = *message.first_chunk()?;
    if its_family != family {
        return None;
    }
    let bits = parse_u32(message.get(8..)?)?;
    let attributes = Attributes::after(message, HEADER)?;
    let known = ACTIONS.iter().find(|(number, _)| *number == action);
    let action = known.map_or_else(|| format!("action {action}"), |(_, word)| (*word).to_owned());
    Some(PolicyRule {
        family: if i32::from(family) == libc::AF_INET6 { 6 } else { 4 },
        // The kernel leaves out a priority of 0.
        priority: attributes.u32(FRA_PRIORITY).unwrap_or(0),
        table: attributes
            .u32(FRA_TABLE)
            .or(Some(u32::from(short_table)))
            .filter(|table| *table != 0 && action == "lookup"),
        action,
        from: network(attributes, FRA_SRC, from_prefix)?,
        to: network(attributes, FRA_DST, to_prefix)?,
        iif: attributes.text(FRA_IIFNAME),
        oif: attributes.text(FRA_OIFNAME),
        fwmark: attributes.u32(FRA_FWMARK).map(|mark| {
            let mask = attributes.u32(FRA_FWMASK);
            (mark, mask.unwrap_or(u32::MAX))
        }),
        conditions: conditions(attributes, bits, tos),
    })
}

/// A prefix; `Some(None)` if the rule has none, `None` if it cannot be read.
#[expect(clippy::option_option, reason = "absent and unreadable are different things")]
fn network(attributes: Attributes<'_>, kind: u16, prefix: u8) -> Option<Option<(IpAddr, u8)>> {
    match attributes.bytes(kind) {
        Some(bytes) => Some(Some((ip(bytes)?, prefix))),
        None => Some(None),
    }
}

fn conditions(attributes: Attributes<'_>, bits: u32, tos: u8) -> Vec<String> {
    let range = |kind| {
        let bytes = attributes.bytes(kind)?;
        Some((parse_u16(bytes)?, parse_u16(bytes.get(2..)?)?))
    };
    let ports = |name: &str, kind| {
        range(kind).map(
            |(from, to)| {
                if from == to { format!("{name} {from}") } else { format!("{name} {from}-{to}") }
            },
        )
    };
    let uids = attributes
        .bytes(FRA_UID_RANGE)
        .and_then(|b| Some(format!("uidrange {}-{}", parse_u32(b)?, parse_u32(b.get(4..)?)?)));
    [
        (bits & FIB_RULE_INVERT != 0).then(|| "not".to_owned()),
        (tos != 0).then(|| format!("tos {tos:#04x}")),
        attributes.u64(FRA_TUN_ID).map(|id| format!("tun_id {}", u64::from_be(id))),
        // -1 stands for none.
        attributes
            .u32(FRA_SUPPRESS_PREFIXLEN)
            .filter(|length| *length != u32::MAX)
            .map(|length| format!("suppress_prefixlength {length}")),
        attributes.u8(FRA_L3MDEV).filter(|on| *on != 0).map(|_| "l3mdev".to_owned()),
        uids,
        attributes.u8(FRA_IP_PROTO).map(|number| format!("ipproto {number}")),
        ports("sport", FRA_SPORT_RANGE),
        ports("dport", FRA_DPORT_RANGE),
        attributes.u8(FRA_DSCP).map(|dscp| format!("dscp {dscp}")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    fn message(action: u8, bits: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = vec![2, 0, 24, 0, 0, 0, 0, action];
        out.extend(bits.to_ne_bytes());
        for (kind, value) in attributes {
            out.extend(attribute(*kind, value));
        }
        out
    }

    #[test]
    fn a_rule_with_everything_that_narrows_it() {
        let bytes = message(
            1,
            FIB_RULE_INVERT,
            &[
                (FRA_PRIORITY, &100u32.to_ne_bytes()),
                (FRA_TABLE, &200u32.to_ne_bytes()),
                (FRA_SRC, &[10, 0, 0, 0]),
                (FRA_IIFNAME, b"eth0\0"),
                (FRA_FWMARK, &1u32.to_ne_bytes()),
                (FRA_FWMASK, &0xffu32.to_ne_bytes()),
                (FRA_SUPPRESS_PREFIXLEN, &u32::MAX.to_ne_bytes()),
                (FRA_IP_PROTO, &[6]),
                (FRA_DPORT_RANGE, &[80u16.to_ne_bytes(), 443u16.to_ne_bytes()].concat()),
            ],
        );
        let rule = parse(&bytes, 2).unwrap();
        assert_eq!((rule.priority, rule.table, rule.fwmark), (100, Some(200), Some((1, 0xff))));
        assert_eq!(rule.from, Some(([10, 0, 0, 0].into(), 24)));
        assert_eq!(rule.conditions, ["not", "ipproto 6", "dport 80-443"]);
        torture(&bytes, |b| parse(b, 2));
    }

    #[test]
    fn a_blackhole_names_no_table() {
        let rule = parse(&message(6, 0, &[]), 2).unwrap();
        assert_eq!((rule.action.as_str(), rule.table, rule.priority), ("blackhole", None, 0));
    }
}
