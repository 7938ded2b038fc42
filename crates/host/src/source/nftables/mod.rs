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

/// `NFNL_SUBSYS_NFTABLES << 8`, to which the message number is added.
pub(crate) const SUBSYSTEM: u16 = 10 << 8;
pub(crate) const GETCHAIN: u16 = SUBSYSTEM | 4;
pub(crate) const GETRULE: u16 = SUBSYSTEM | 7;
const GETSET: u16 = SUBSYSTEM | 10;
const GETSETELEM: u16 = SUBSYSTEM | 13;
const GETGEN: u16 = SUBSYSTEM | 16;
/// `struct nfgenmsg`: u8 family, u8 version, be16 resource.
pub(crate) const GENMSG: usize = 4;
/// Names of the kernel are shorter than this (`NFT_NAME_MAXLEN`).
const NAME_MAX: usize = 256;
/// Longest text of one rule.
const TEXT_MAX: usize = 4096;
/// More anonymous sets than this are not looked into: each is a request of its own.
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
    Err(Error::new("read", "nftables", format!("the rules changed during each of {ATTEMPTS} reads")))
}

/// Number of the ruleset's generation; it changes with every transaction.
fn generation(netlink: &mut Netlink) -> Result<Option<u32>> {
    match netlink.get_raw(GETGEN, &[0; GENMSG], |reply| Attrs(reply.get(GENMSG..)?).u32(1)) {
        Ok(Some(generation)) => Ok(Some(generation)),
        Ok(None) => Err(Error::new("read", "nftables", "the kernel gave no generation")),
        // A kernel without the subsystem answers EINVAL or EOPNOTSUPP.
        Err(e) if matches!(errno(&e), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(None),
        Err(e) => Err(refused(&e)),
    }
}

fn refused(error: &std::io::Error) -> Error {
    let mut out = Error::io("read", "nftables", error);
    out.errno = errno(error);
    out
}

fn dump(netlink: &mut Netlink) -> Result<Vec<Chain>> {
    let mut chains = netlink.dump_raw("nftables chains", GETCHAIN, &[0; GENMSG], chain)?;
    let sets = read_sets(netlink)?;
    let mut places: HashMap<(u8, String, String), usize> = HashMap::with_capacity(chains.len());
    for (at, (family, chain)) in chains.iter().enumerate() {
        places.insert((*family, chain.table.clone(), chain.name.clone()), at);
    }
    // The owner of a table shows only once all its rules are known, so the rules are kept as they came.
    let raw = netlink.dump_raw("nftables rules", GETRULE, &[0; GENMSG], |reply| Some(reply.to_vec()))?;
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
                let missing = || Error::new("read", "nftables", "a rule without its chain");
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
    Ok(chains
        .into_iter()
        .map(|(_, mut chain)| {
            chain.table = sanitize(&chain.table, NAME_MAX);
            chain.name = sanitize(&chain.name, NAME_MAX);
            chain
        })
        .collect())
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
        parse().ok_or_else(|| Error::new("read", "nftables", "a rule could not be decoded"))
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
    let mut sets = netlink.dump_raw("nftables sets", GETSET, &[0; GENMSG], parse)?;
    for set in sets.iter_mut().filter(|set| set.is_anonymous()).take(SETS_MAX) {
        let mut request = vec![set.family, 0, 0, 0];
        push_text(&mut request, 1, &set.table);
        push_text(&mut request, 2, &set.name);
        let lists = netlink.dump_raw("nftables set elements", GETSETELEM, &request, |reply| {
            Some(Attrs(reply.get(GENMSG..)?).get(3)?.to_vec())
        })?;
        lists.iter().for_each(|list| set.add(list));
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
    }
}
