//! A table's entries: bytes of the kernel to chains and rules.

use super::socket::Info;
use crate::source::xt::{self, Blob, ENTRY_HEADER, Header, Interface, NAME_LEN, Network, Target, XtRule};
use std::collections::HashMap;
use whydrop_model::netfilter::{Chain, Family, Hook, Rule, RuleVerdict, Tool};

/// IPv4 or IPv6 entries: `struct ipt_entry`, `struct ip6t_entry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    V4,
    V6,
}

/// Offsets of an entry.
struct Offsets {
    address: usize,
    interfaces: usize,
    protocol: usize,
    flags: usize,
    target: usize,
    counters: usize,
    size: usize,
}

impl Layout {
    const fn offsets(self) -> Offsets {
        match self {
            Self::V4 => Offsets {
                address: 4,
                interfaces: 16,
                protocol: 80,
                flags: 82,
                target: 88,
                counters: 96,
                size: 112,
            },
            Self::V6 => Offsets {
                address: 16,
                interfaces: 64,
                protocol: 128,
                flags: 131,
                target: 140,
                counters: 152,
                size: 168,
            },
        }
    }
}

/// `IFNAMSIZ`.
const NAME: usize = 16;
/// `XT_FUNCTION_MAXNAMELEN`.
const CHAIN_NAME: usize = 30;
const HOOKS: [(&str, Hook); 5] = [
    ("PREROUTING", Hook::Prerouting),
    ("INPUT", Hook::Input),
    ("FORWARD", Hook::Forward),
    ("OUTPUT", Hook::Output),
    ("POSTROUTING", Hook::Postrouting),
];

/// One entry, with its parts.
struct Entry<'a> {
    offset: u32,
    next: u32,
    blob: Blob<'a>,
    matches: &'a [u8],
    target: &'a str,
    revision: u8,
    data: &'a [u8],
}

/// The chains of a table; none if an entry is malformed, since a chain without its rules would look harmless.
pub(super) fn chains(table: &str, info: &Info, bytes: &[u8], layout: Layout) -> Option<Vec<Chain>> {
    let entries = split(bytes, layout)?;
    let at: HashMap<u32, usize> = entries.iter().enumerate().map(|(i, entry)| (entry.offset, i)).collect();
    // First entry of every chain: where hooks begin, and behind the heads of user chains.
    let mut heads: Vec<(usize, String, Option<usize>)> = vec![];
    for hook in (0..HOOKS.len()).filter(|hook| info.valid_hooks & (1 << hook) != 0) {
        let first = *at.get(info.hook_entry.get(hook)?)?;
        heads.push((first, HOOKS.get(hook)?.0.to_owned(), Some(hook)));
    }
    // The last entry closes the table; it looks like the head of a chain.
    for (i, entry) in entries.iter().enumerate().take(entries.len().saturating_sub(1)) {
        if entry.target == "ERROR" {
            heads.push((i + 1, Blob(entry.data).text(0, CHAIN_NAME)?.to_owned(), None));
        }
    }
    heads.sort_by_key(|(first, ..)| *first);
    let names: HashMap<u32, &str> = heads
        .iter()
        .filter_map(|(first, name, _)| Some((entries.get(*first)?.offset, name.as_str())))
        .collect();
    let mut out = vec![];
    for (i, (first, name, hook)) in heads.iter().enumerate() {
        let end = match hook {
            Some(hook) => *at.get(info.underflow.get(*hook)?)?,
            // A user chain ends in a return that belongs to no rule, in front of the next head or of the end.
            None => {
                let next = heads.get(i + 1).map_or(entries.len(), |(next, ..)| *next);
                next.checked_sub(2)?
            }
        };
        let mut chain = chain(table, name, hook.and_then(|hook| HOOKS.get(hook)), layout);
        for (n, entry) in entries.get(*first..end)?.iter().enumerate() {
            chain.rules.push(entry.rule(u32::try_from(n + 1).ok()?, &names, layout)?);
        }
        if hook.is_some() {
            let policy = entries.get(end)?;
            chain.policy = Some(policy.target(&names, layout)?.verdict);
            chain.policy_packets = policy.blob.u64(layout.offsets().counters);
        }
        out.push(chain);
    }
    Some(out)
}

fn chain(table: &str, name: &str, hook: Option<&(&str, Hook)>, layout: Layout) -> Chain {
    let (tool, family) = match layout {
        Layout::V4 => (Tool::IptablesLegacy, Family::Ip),
        Layout::V6 => (Tool::Ip6tablesLegacy, Family::Ip6),
    };
    let hook = hook.map(|(_, hook)| *hook);
    Chain {
        tool,
        family,
        table: table.to_owned(),
        name: name.to_owned(),
        hook,
        device: None,
        priority: hook.and_then(|hook| priority(table, hook)),
        nat: table == "nat" && hook.is_some(),
        policy: None,
        policy_packets: None,
        rules: vec![],
    }
}

/// Priorities at which the kernel hooks its own tables (`enum nf_ip_hook_priorities`).
fn priority(table: &str, hook: Hook) -> Option<i32> {
    Some(match (table, hook) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", Hook::Prerouting | Hook::Output) => -100,
        ("nat", _) => 100,
        ("filter", _) => 0,
        ("security", _) => 50,
        _ => return None,
    })
}

fn split(bytes: &[u8], layout: Layout) -> Option<Vec<Entry<'_>>> {
    let offsets = layout.offsets();
    let (mut entries, mut at) = (vec![], 0);
    while at < bytes.len() {
        let head = Blob(bytes.get(at..)?);
        let target = usize::from(head.u16(offsets.target)?);
        let next = usize::from(head.u16(offsets.target + 2)?);
        // Every entry ends in a target, so this also says that the walk moves on.
        if target < offsets.size || next < target + ENTRY_HEADER {
            return None;
        }
        let blob = Blob(head.bytes(0, next)?);
        entries.push(Entry {
            offset: u32::try_from(at).ok()?,
            next: u32::try_from(at + next).ok()?,
            matches: blob.bytes(offsets.size, target - offsets.size)?,
            target: blob.text(target + 2, NAME_LEN)?,
            revision: blob.u8(target + ENTRY_HEADER - 1)?,
            data: blob.bytes(target + ENTRY_HEADER, next - target - ENTRY_HEADER)?,
            blob,
        });
        at += next;
    }
    Some(entries)
}

impl Entry<'_> {
    fn rule(&self, position: u32, names: &HashMap<u32, &str>, layout: Layout) -> Option<Rule> {
        let counters = layout.offsets().counters;
        let (packets, bytes) = (self.blob.u64(counters)?, self.blob.u64(counters + 8)?);
        let rule = XtRule {
            header: self.header(layout)?,
            matches: self.matches(layout)?,
            target: self.target(names, layout)?,
        };
        Some(rule.render(position, None, Some(packets), Some(bytes)))
    }

    fn target(&self, names: &HashMap<u32, &str>, layout: Layout) -> Option<Target> {
        if !self.target.is_empty() {
            return Some(Target::decode(self.target, self.revision, self.data, layout == Layout::V6));
        }
        let verdict = Blob(self.data).i32(0)?;
        Some(match u32::try_from(verdict) {
            // A jump to the next entry is a rule without a target.
            Ok(to) if to == self.next => Target::default(),
            Ok(to) => {
                let chain = (*names.get(&to)?).to_owned();
                let goto = self.blob.u8(layout.offsets().flags)? & goto_flag(layout) != 0;
                Target::verdict(if goto { RuleVerdict::Goto(chain) } else { RuleVerdict::Jump(chain) })
            }
            // Verdicts are kept as -verdict - 1, RETURN as -NF_REPEAT - 1.
            Err(_) => Target::verdict(match verdict {
                -1 => RuleVerdict::Drop,
                -2 => RuleVerdict::Accept,
                -4 => RuleVerdict::Queue(0),
                -5 => RuleVerdict::Return,
                _ => return None,
            }),
        })
    }

    fn matches(&self, layout: Layout) -> Option<Vec<Result<xt::XtMatch, String>>> {
        let (mut out, mut rest) = (vec![], Blob(self.matches));
        while !rest.0.is_empty() {
            let size = usize::from(rest.u16(0)?);
            if size < ENTRY_HEADER {
                return None;
            }
            let data = rest.bytes(ENTRY_HEADER, size - ENTRY_HEADER)?;
            let (name, revision) = (rest.text(2, NAME_LEN)?, rest.u8(ENTRY_HEADER - 1)?);
            let found = xt::decode(name, revision, data, layout == Layout::V6);
            out.push(found.ok_or_else(|| name.to_owned()));
            rest = Blob(rest.0.get(size..)?);
        }
        Some(out)
    }

    fn header(&self, layout: Layout) -> Option<Header> {
        let Offsets { address, interfaces, protocol, flags, .. } = layout.offsets();
        let v6 = layout == Layout::V6;
        let (asked, inverted) = (self.blob.u8(flags)?, self.blob.u8(flags + 1)?);
        let network = |ip: usize, bit: u8| {
            let network = Network {
                negated: inverted & bit != 0,
                ip: self.blob.ip(ip, v6)?,
                mask: self.blob.ip(ip + 2 * address, v6)?,
            };
            let any = !network.negated && network.ip.is_unspecified() && network.mask.is_unspecified();
            Some((!any).then_some(network))
        };
        let interface = |at: usize, bit: u8| {
            let (name, mask) = (self.blob.text(at, NAME)?, self.blob.bytes(at + 2 * NAME, NAME)?);
            // The mask covers the terminating zero of a whole name, and not the `+` of a prefix.
            let covered = mask.iter().take_while(|byte| **byte != 0).count();
            let name = name.get(..covered).map_or_else(|| name.to_owned(), |prefix| format!("{prefix}+"));
            Some((covered > 0).then_some(Interface { negated: inverted & bit != 0, name }))
        };
        let number = u8::try_from(self.blob.u16(protocol)?).ok()?;
        let fragment = !v6 && asked & 1 != 0;
        Some(Header {
            source: network(0, 0x08)?,
            destination: network(address, 0x10)?,
            input: interface(interfaces, 0x01)?,
            output: interface(interfaces + NAME, 0x02)?,
            protocol: (number != 0).then_some((inverted & 0x40 != 0, number)),
            fragment: fragment.then_some(inverted & 0x20 != 0),
        })
    }
}

/// `IPT_F_GOTO`, `IP6T_F_GOTO`.
const fn goto_flag(layout: Layout) -> u8 {
    match layout {
        Layout::V4 => 0x02,
        Layout::V6 => 0x04,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry without matches: standard target with this verdict.
    fn standard(verdict: i32, packets: u64) -> Vec<u8> {
        let mut entry = vec![0_u8; 112];
        entry[88..90].copy_from_slice(&112_u16.to_ne_bytes());
        entry[90..92].copy_from_slice(&152_u16.to_ne_bytes());
        entry[96..104].copy_from_slice(&packets.to_ne_bytes());
        entry.extend([0; ENTRY_HEADER]);
        entry.extend(verdict.to_ne_bytes());
        entry.extend([0; 4]);
        entry
    }

    fn error(name: &[u8]) -> Vec<u8> {
        let mut entry = standard(0, 0);
        entry[114..119].copy_from_slice(b"ERROR");
        entry.truncate(144);
        entry.extend(name);
        entry.resize(176, 0);
        entry[90..92].copy_from_slice(&176_u16.to_ne_bytes());
        entry
    }

    #[test]
    fn rules_policy_and_user_chains_are_told_apart() {
        // INPUT: jump to SUB, drop, policy accept; SUB: empty.
        let jump = 3 * 152 + 176;
        let bytes = [
            standard(jump, 7),
            standard(-1, 3),
            standard(-2, 9),
            error(b"SUB\0"),
            standard(-5, 0),
            error(b"ERROR\0"),
        ]
        .concat();
        let jump_at = |n: u32| n * 152;
        let mut info = Info { valid_hooks: 2, ..Info::default() };
        (info.hook_entry[1], info.underflow[1]) = (0, jump_at(2));
        // A jump leads behind the head of its chain.
        let read = chains("filter", &info, &bytes, Layout::V4).unwrap();
        let texts: Vec<&str> = read[0].rules.iter().map(|rule| rule.text.as_str()).collect();
        assert_eq!(texts, ["-j SUB", "-j DROP"]);
        assert_eq!(read[0].policy, Some(RuleVerdict::Accept));
        assert_eq!((read[0].policy_packets, read[0].rules[1].packets), (Some(9), Some(3)));
        assert_eq!((read[1].name.as_str(), read[1].rules.len(), read[1].hook), ("SUB", 0, None));
    }

    #[test]
    fn garbage_never_panics() {
        let good = [standard(-1, 0), standard(-2, 0), error(b"ERROR\0")].concat();
        let mut info = Info { valid_hooks: 2, ..Info::default() };
        info.underflow[1] = 152;
        for at in 0..good.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                drop(chains("filter", &info, &bad, Layout::V4));
                drop(chains("filter", &info, &bad, Layout::V6));
            }
            drop(chains("filter", &info, &good[..at], Layout::V4));
        }
    }
}
