//! Packet-filter rules of nf_tables, read over netlink: those of nft and those that iptables keeps there.

mod compat;
pub(crate) mod expr;
mod field;
mod native;
mod sets;

use crate::error::{Error, Result};
use crate::sys::netlink::{Netlink, errno};
use expr::{Attrs, Expr, Verdict};
use netlink_bindings::utils::{IterableChunks, nla_align_up, push_header};
use sets::{Set, Sets};
use std::collections::{HashMap, HashSet};
use whydrop_model::Reading;
use whydrop_model::netfilter::{Chain, Family, Hook, Match, Rule, RuleVerdict, Tool};
use whydrop_model::shell::sanitize;
use whydrop_model::text;

/// `NFNL_SUBSYS_NFTABLES << 8`, to which the message number is added.
pub(crate) const SUBSYSTEM: u16 = 10 << 8;
const GETTABLE: u16 = SUBSYSTEM | 1;
pub(crate) const GETCHAIN: u16 = SUBSYSTEM | 4;
pub(crate) const GETRULE: u16 = SUBSYSTEM | 7;
pub(crate) const GETSET: u16 = SUBSYSTEM | 10;
pub(crate) const GETSETELEM: u16 = SUBSYSTEM | 13;
const GETGEN: u16 = SUBSYSTEM | 16;
/// `struct nfgenmsg`: u8 family, u8 version, be16 resource.
pub(crate) const GENMSG: usize = 4;
/// Names of the kernel are shorter than this (`NFT_NAME_MAXLEN`).
const NAME_MAX: usize = 256;
/// Longest text of one rule.
const TEXT_MAX: usize = 4096;
/// More sets than this are not looked into: each is a request of its own.
const SETS_MAX: usize = 4096;
/// How often the reading is repeated when the rules change meanwhile.
const ATTEMPTS: usize = 8;

const NEEDS: &str = "CAP_NET_ADMIN in the network namespace";

/// Reads all chains and rules of the calling thread's network namespace.
pub fn read() -> Reading<Vec<Chain>> {
    match read_all() {
        Ok(Some(chains)) => Reading::Present(chains),
        Ok(None) => Reading::Absent("the kernel has no nf_tables".to_owned()),
        Err(error) => error.reading(NEEDS),
    }
}

/// The rules of one generation; none if the kernel has no nf_tables.
fn read_all() -> Result<Option<Vec<Chain>>> {
    let mut netlink = Netlink::netfilter()?;
    for _ in 0..ATTEMPTS {
        let Some(before) = generation(&mut netlink)? else { return Ok(None) };
        let chains = dump(&mut netlink);
        if generation(&mut netlink)? == Some(before) {
            return chains.map(Some);
        }
    }
    Err(Error::new(
        text!("read {object}", "读取 {object}"),
        "nftables",
        text!("the rules changed during each of {n} reads", "{n} 次读取期间规则每次都在变化")
            .fill(&[("n", &ATTEMPTS)]),
    ))
}

/// Number of the ruleset's generation; it changes with every transaction.
fn generation(netlink: &mut Netlink) -> Result<Option<u32>> {
    match netlink.get_raw(GETGEN, &[0; GENMSG], |reply| Attrs(reply.get(GENMSG..)?).u32(1)) {
        Ok(Some(generation)) => Ok(Some(generation)),
        Ok(None) => Err(Error::new(
            text!("read {object}", "读取 {object}"),
            "nftables",
            text!("the kernel gave no generation", "内核没有给出规则集的版本号").phrase(),
        )),
        // A kernel without the subsystem answers EINVAL or EOPNOTSUPP.
        Err(e) if matches!(errno(&e), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(None),
        Err(e) => Err(refused(&e)),
    }
}

fn refused(error: &std::io::Error) -> Error {
    let mut out = Error::io(text!("read {object}", "读取 {object}"), "nftables", error);
    out.errno = errno(error);
    out
}

fn dump(netlink: &mut Netlink) -> Result<Vec<Chain>> {
    let mut chains =
        netlink.dump_raw(text!("nftables chains", "nftables 的链"), GETCHAIN, &[0; GENMSG], chain)?;
    let dormant: Vec<(u8, String)> = netlink
        .dump_raw(text!("nftables tables", "nftables 的表"), GETTABLE, &[0; GENMSG], table)?
        .into_iter()
        .filter_map(|(family, name, flags)| (flags & DORMANT != 0).then_some((family, name)))
        .collect();
    let sets = read_sets(netlink)?;
    let mut places: HashMap<(u8, String, String), usize> = HashMap::with_capacity(chains.len());
    for (at, (family, chain)) in chains.iter().enumerate() {
        places.insert((*family, chain.table.clone(), chain.name.clone()), at);
    }
    // The owner of a table shows only once all its rules are known, so the rules are kept as they came.
    let raw =
        netlink.dump_raw(text!("nftables rules", "nftables 的规则"), GETRULE, &[0; GENMSG], |reply| {
            Some(reply.to_vec())
        })?;
    let rules: Vec<RawRule<'_>> = raw.iter().map(|reply| RawRule::parse(reply)).collect::<Result<_>>()?;
    let tools = owners(&chains, &rules);
    for ((_, chain), tool) in chains.iter_mut().zip(tools) {
        chain.tool = tool;
    }
    let mut last: Option<(u8, &str, &str, usize)> = None;
    for rule in &rules {
        let at = match last {
            Some((family, table, name, at))
                if (family, table, name) == (rule.family, rule.table, rule.chain) =>
            {
                at
            }
            _ => {
                let key = (rule.family, rule.table.to_owned(), rule.chain.to_owned());
                let missing = || {
                    Error::new(
                        text!("read {object}", "读取 {object}"),
                        "nftables",
                        text!("a rule without its chain", "有规则找不到所属的链").phrase(),
                    )
                };
                let at = *places.get(&key).ok_or_else(missing)?;
                last = Some((rule.family, rule.table, rule.chain, at));
                at
            }
        };
        if let Some((_, chain)) = chains.get_mut(at) {
            let position = u32::try_from(chain.rules.len()).unwrap_or(u32::MAX).saturating_add(1);
            chain.rules.push(rule.read(position, chain.tool, chain.family, &sets));
        }
    }
    for (family, chain) in &mut chains {
        // No packet meets a chain of a table that sleeps.
        if dormant.iter().any(|(other, name)| (other, name) == (family, &chain.table)) {
            chain.hook = None;
        }
    }
    Ok(chains
        .into_iter()
        .map(|(_, mut chain)| {
            chain.table = sanitize(&chain.table, NAME_MAX);
            chain.name = sanitize(&chain.name, NAME_MAX);
            chain
        })
        .collect())
}

/// `NFT_TABLE_F_DORMANT`.
const DORMANT: u32 = 1;

/// Family, name and flags of a table from its message.
fn table(reply: &[u8]) -> Option<(u8, String, u32)> {
    let attrs = Attrs(reply.get(GENMSG..)?);
    Some((*reply.first()?, attrs.text(1)?.to_owned(), attrs.u32(2).unwrap_or(0)))
}

/// A chain from its message, with its family's number.
fn chain(reply: &[u8]) -> Option<(u8, Chain)> {
    let number = *reply.first()?;
    let family = family(number)?;
    let attrs = Attrs(reply.get(GENMSG..)?);
    let hook = attrs.get(4).map(Attrs);
    let base = hook.and_then(|hook| Some((self::hook(family, hook.u32(1)?)?, hook.u32(2)?.cast_signed())));
    let policy = attrs.u32(5).map(|policy| if policy == 0 { RuleVerdict::Drop } else { RuleVerdict::Accept });
    let counters = attrs.get(8).map(Attrs);
    let chain = Chain {
        tool: Tool::Nft,
        family,
        table: attrs.text(1)?.to_owned(),
        name: attrs.text(3)?.to_owned(),
        hook: base.map(|(hook, _)| hook),
        device: hook.and_then(device),
        priority: base.map(|(_, priority)| priority),
        nat: base.is_some() && attrs.text(7) == Some("nat"),
        policy,
        policy_packets: counters.and_then(|counters| counters.u64(2)),
        rules: vec![],
    };
    Some((number, chain))
}

/// The device of a hook; the names of several are joined with a comma.
fn device(hook: Attrs<'_>) -> Option<String> {
    let one = hook.text(3).map(str::to_owned);
    let list = || {
        let names = IterableChunks::new(hook.get(4)?);
        let names: Vec<String> = names.map(|(_, name)| String::from_utf8_lossy(name).into_owned()).collect();
        Some(names.join(",").replace('\0', ""))
    };
    one.or_else(list).map(|names| sanitize(&names, NAME_MAX))
}

/// `NFPROTO_*`.
fn family(number: u8) -> Option<Family> {
    Some(match number {
        1 => Family::Inet,
        2 => Family::Ip,
        3 => Family::Arp,
        5 => Family::Netdev,
        7 => Family::Bridge,
        10 => Family::Ip6,
        _ => return None,
    })
}

/// The number of a family, `NFPROTO_*`.
pub(crate) const fn family_number(family: Family) -> u8 {
    match family {
        Family::Inet => 1,
        Family::Ip => 2,
        Family::Arp => 3,
        Family::Netdev => 5,
        Family::Bridge => 7,
        Family::Ip6 => 10,
    }
}

/// Hooks are numbered by family: `NF_NETDEV_*`, `NF_ARP_*`, and `NF_INET_*` also for bridges.
fn hook(family: Family, number: u32) -> Option<Hook> {
    let hooks: &[Hook] = match family {
        Family::Netdev => &[Hook::Ingress, Hook::Egress],
        Family::Arp => &[Hook::Input, Hook::Output, Hook::Forward],
        Family::Ip | Family::Ip6 | Family::Inet | Family::Bridge => {
            &[Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting, Hook::Ingress]
        }
    };
    hooks.get(usize::try_from(number).ok()?).copied()
}

/// The number of a hook in its family; none if the family has no such hook.
pub(crate) fn hook_number(family: Family, wanted: Hook) -> Option<u32> {
    (0..6).find(|number| hook(family, *number) == Some(wanted))
}

/// Where a rule stands, for the look-up of its sets.
pub(crate) struct Names<'a> {
    pub family: u8,
    pub table: &'a str,
}

/// A rule's message, cut into its parts.
struct RawRule<'a> {
    family: u8,
    table: &'a str,
    chain: &'a str,
    handle: u64,
    exprs: Vec<Expr<'a>>,
    comment: Option<&'a [u8]>,
}

impl<'a> RawRule<'a> {
    fn parse(reply: &'a [u8]) -> Result<Self> {
        let parse = || {
            let attrs = Attrs(reply.get(GENMSG..)?);
            Some(Self {
                family: *reply.first()?,
                table: attrs.text(1)?,
                chain: attrs.text(2)?,
                handle: attrs.u64(3)?,
                exprs: attrs.get(4).map(expr::decode_all).unwrap_or_default(),
                comment: attrs.get(7).and_then(comment),
            })
        };
        // A rule that vanished would make its chain look harmless.
        parse().ok_or_else(|| {
            Error::new(
                text!("read {object}", "读取 {object}"),
                "nftables",
                text!("a rule could not be decoded", "有规则无法解码").phrase(),
            )
        })
    }

    fn read(&self, position: u32, tool: Tool, family: Family, sets: &Sets) -> Rule {
        let counter = self.exprs.iter().find_map(|expr| match expr {
            Expr::Counter { packets, bytes } => Some((*packets, *bytes)),
            _ => None,
        });
        let (packets, bytes) = counter.unzip();
        let handle = Some(self.handle);
        let comment = self.comment.map(|text| String::from_utf8_lossy(text).into_owned());
        if tool != Tool::Nft {
            let rule = compat::rule(&self.exprs, comment.as_deref(), family == Family::Ip6);
            return rule.render(position, handle, packets, bytes);
        }
        let names = Names { family: self.family, table: self.table };
        let native::Reading { mut text, mut matches, verdict } =
            native::read(&self.exprs, family, &names, sets);
        if let Some(comment) = &comment {
            text.push_str(&format!(" comment \"{comment}\""));
        }
        let shown = sanitize(text.trim(), TEXT_MAX);
        if shown != text.trim() {
            matches.push(Match::Other("?text".to_owned()));
        }
        let comment = comment.map(|comment| sanitize(&comment, NAME_MAX));
        Rule { position, handle, packets, bytes, verdict, matches, comment, text: shown }
    }
}

/// The comment in a rule's user data: type 0 of a list of (u8 type, u8 length, value).
fn comment(mut data: &[u8]) -> Option<&[u8]> {
    loop {
        let [kind, length, rest @ ..] = data else { return None };
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return value.split(|b| *b == 0).next().filter(|text| !text.is_empty());
        }
        data = rest.get(usize::from(*length)..)?;
    }
}

/// Tables of iptables, with the base chains that it makes in them.
const TABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];
const BASE_CHAINS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// The tool of each chain. A table belongs to iptables if name and base chains are its own, and nothing is in it
/// that it could not show.
fn owners(chains: &[(u8, Chain)], rules: &[RawRule<'_>]) -> Vec<Tool> {
    let mut own: HashMap<(u8, &str), Tool> = HashMap::new();
    let mut foreign: HashSet<(u8, &str)> = HashSet::new();
    for (family, chain) in chains {
        let tool = match chain.family {
            Family::Ip => Tool::IptablesNft,
            Family::Ip6 => Tool::Ip6tablesNft,
            _ => continue,
        };
        let key = (*family, chain.table.as_str());
        if chain.hook.is_some() {
            if TABLES.contains(&key.1) && BASE_CHAINS.contains(&chain.name.as_str()) {
                own.insert(key, tool);
            } else {
                foreign.insert(key);
            }
        }
    }
    let strange = rules.iter().filter(|rule| !rule.exprs.iter().all(compat::understands));
    foreign.extend(strange.map(|rule| (rule.family, rule.table)));
    own.retain(|key, _| !foreign.contains(key));
    let tool = |(family, chain): &(u8, Chain)| own.get(&(*family, chain.table.as_str())).copied();
    chains.iter().map(|chain| tool(chain).unwrap_or(Tool::Nft)).collect()
}

/// Expressions as nft would print them, and what they do: for rules that whydrop makes itself.
pub(crate) fn describe(exprs: &[u8], family: Family) -> (String, RuleVerdict) {
    let names = Names { family: family_number(family), table: "" };
    let read = native::read(&expr::decode_all(exprs), family, &names, &Sets::new());
    (read.text, read.verdict)
}

fn read_sets(netlink: &mut Netlink) -> Result<Sets> {
    let parse = |reply: &[u8]| Set::parse(*reply.first()?, Attrs(reply.get(GENMSG..)?));
    let mut sets =
        netlink.dump_raw(text!("nftables sets", "nftables 的集合"), GETSET, &[0; GENMSG], parse)?;
    for set in sets.iter_mut().take(SETS_MAX) {
        let mut request = vec![set.family, 0, 0, 0];
        push_text(&mut request, 1, &set.table);
        push_text(&mut request, 2, &set.name);
        netlink.dump_raw(
            text!("nftables set elements", "nftables 集合的元素"),
            GETSETELEM,
            &request,
            |reply| {
                set.add(Attrs(reply.get(GENMSG..)?).get(3)?);
                Some(())
            },
        )?;
        set.is_read();
    }
    Ok(sets.into_iter().map(|set| ((set.family, set.table.clone(), set.name.clone()), set)).collect())
}

/// Appends a NUL-terminated string.
pub(crate) fn push_text(message: &mut Vec<u8>, number: u16, text: &str) {
    push_bytes(message, number, &[text.as_bytes(), &[0]].concat());
}

/// Appends an attribute, padded.
pub(crate) fn push_bytes(message: &mut Vec<u8>, number: u16, bytes: &[u8]) {
    push_header(message, number, u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    message.extend(bytes);
    message.resize(nla_align_up(message.len()), 0);
}

/// `NF_*` and `NFT_*` verdicts.
pub(crate) fn verdict(found: Verdict<'_>) -> RuleVerdict {
    let chain = || sanitize(found.chain.unwrap_or(""), NAME_MAX);
    match found.code {
        0 => RuleVerdict::Drop,
        1 => RuleVerdict::Accept,
        // The queue's number stands in the upper half.
        code if code & 0xff == 3 && code >= 0 => RuleVerdict::Queue((code >> 16) as u16),
        -1 | -2 => RuleVerdict::Continue,
        -3 => RuleVerdict::Jump(chain()),
        -4 => RuleVerdict::Goto(chain()),
        -5 => RuleVerdict::Return,
        code => RuleVerdict::Other(format!("verdict {code}")),
    }
}

/// A verdict as nft writes it.
fn verdict_word(found: Verdict<'_>) -> String {
    match verdict(found) {
        RuleVerdict::Accept => "accept".to_owned(),
        RuleVerdict::Drop => "drop".to_owned(),
        RuleVerdict::Return => "return".to_owned(),
        RuleVerdict::Jump(chain) => format!("jump {chain}"),
        RuleVerdict::Goto(chain) => format!("goto {chain}"),
        RuleVerdict::Queue(number) => format!("queue num {number}"),
        RuleVerdict::Continue => "continue".to_owned(),
        RuleVerdict::Reject => "reject".to_owned(),
        RuleVerdict::Other(other) => format!("?{other}"),
        RuleVerdict::Map(_) => "?vmap".to_owned(),
        // No verdict of the kernel is one of these.
        RuleVerdict::Nat(_) | RuleVerdict::Tproxy { .. } => "?verdict".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::torture;

    // Messages of Linux 6.18, without netlink header.
    /// `iptables-nft -A INPUT -p tcp -m statistic --mode random --probability 0.3 -j DROP`
    const IPTABLES: &str = "\
        020000050b00010066696c74657200000a000200494e5055540000000c0003000000000000000002f8000400240001000900\
        01006d6574610000000014000200080002000000001008000100000000012c00010008000100636d70002000020008000100\
        0000000108000200000000000c0003000500010006000000480001000a0001006d61746368000000380002000e0001007374\
        6174697374696300000008000200000000001c0003000000000066666626000000006666662600000000000000002c000100\
        0c000100636f756e746572001c0002000c00010000000000000000000c0002000000000000000000300001000e000100696d\
        6d6564696174650000001c0002000800010000000000100002000c0002000800010000000000";
    /// `nft add rule inet fw input tcp dport 80 numgen random mod 100 < 30 counter drop comment "why"`
    const NATIVE: &str = "\
        0100000507000100667700000a000200696e7075740000000c0003000000000000000002b001040024000100090001006d65\
        74610000000014000200080002000000001008000100000000012c00010008000100636d7000200002000800010000000001\
        08000200000000000c0003000500010006000000340001000c0001007061796c6f6164002400020008000100000000010800\
        020000000002080003000000000208000400000000022c00010008000100636d700020000200080001000000000108000200\
        000000000c0003000600010000500000340001000b0001006e756d67656e0000240002000800010000000001080002000000\
        006408000300000000010800040000000000400001000e000100627974656f726465720000002c0002000800010000000001\
        08000200000000010800030000000001080004000000000408000500000000042c00010008000100636d7000200002000800\
        01000000000108000200000000020c000300080001000000001e2c0001000c000100636f756e746572001c0002000c000100\
        00000000000000000c0002000000000000000000300001000e000100696d6d6564696174650000001c000200080001000000\
        0000100002000c00020008000100000000000a0007000004776879000000";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn read(message: &[u8], tool: Tool, family: Family) -> Option<Rule> {
        Some(RawRule::parse(message).ok()?.read(1, tool, family, &Sets::new()))
    }

    #[test]
    fn captured_rules() {
        let rule = read(&bytes(IPTABLES), Tool::IptablesNft, Family::Ip).unwrap();
        assert_eq!(rule.text, "-p tcp -m statistic --mode random --probability 0.29999999981 -j DROP");
        assert_eq!((rule.handle, rule.packets, rule.verdict), (Some(2), Some(0), RuleVerdict::Drop));
        let rule = read(&bytes(NATIVE), Tool::Nft, Family::Inet).unwrap();
        assert_eq!(rule.text, "tcp dport 80 numgen random mod 100 < 30 counter drop comment \"why\"");
        assert_eq!(rule.comment.as_deref(), Some("why"));
        assert_eq!(rule.matches, [Match::L4Proto(6), Match::DestinationPorts(80, 80), Match::Random(0.3)]);
    }

    #[test]
    fn bent_rules_never_panic() {
        for message in [bytes(IPTABLES), bytes(NATIVE)] {
            torture(&message, |bent| read(bent, Tool::IptablesNft, Family::Ip6));
            torture(&message, |bent| read(bent, Tool::Nft, Family::Inet));
        }
    }

    /// A comment is its author's: control characters are shown, and the text no longer passes for the rule's own.
    #[test]
    fn a_hostile_comment_is_shown_and_marked() {
        let mut message = bytes(NATIVE);
        let at = message.len() - 6;
        message[at..at + 3].copy_from_slice(b"\x1b[m");
        let rule = read(&message, Tool::Nft, Family::Inet).unwrap();
        assert_eq!(rule.comment.as_deref(), Some("\\u{1b}[m"));
        assert!(rule.text.ends_with("comment \"\\u{1b}[m\""), "{}", rule.text);
        assert!(rule.matches.contains(&Match::Other("?text".into())));
    }
}
