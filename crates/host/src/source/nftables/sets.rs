//! Sets and verdict maps. The elements of anonymous ones belong to the text of their rule: `tcp dport { 22, 80 }`.

use super::expr::{Attrs, LIST_ELEM, data_value, data_verdict};
use super::field::{Field, Kind};
use super::{Names, verdict, verdict_word};
use netlink_bindings::utils::IterableChunks;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use whydrop_model::netfilter::RuleVerdict;

/// `enum nft_set_flags`.
const ANONYMOUS: u32 = 0x1;
const INTERVAL: u32 = 0x4;
/// Rules change it with the packets that they see.
const EVAL: u32 = 0x20;
/// `NFT_SET_ELEM_INTERVAL_END`.
const END: u32 = 1;
/// `NFT_SET_ELEM_CATCHALL`.
const CATCHALL: u32 = 2;
/// More elements than this are not written out.
const SHOWN: usize = 256;
/// An interval takes two elements; a set with more than this is not kept whole. Sets of addresses with some ten
/// thousand elements are usual.
const KEPT: usize = 65_536;

/// An element as it was dumped.
#[derive(Clone, Debug)]
struct Element {
    key: Vec<u8>,
    /// Last key of a range, where the set keeps both ends.
    key_end: Option<Vec<u8>>,
    /// It closes the interval before it, and does not belong to it.
    end: bool,
    /// `accept` of a verdict map, as a word and as it acts.
    verdict: Option<(String, RuleVerdict)>,
}

/// What a set has under one key or range of keys.
pub(super) struct Entry<'s> {
    pub low: &'s [u8],
    pub high: Vec<u8>,
    pub verdict: Option<&'s (String, RuleVerdict)>,
}

/// A set.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub family: u8,
    pub table: String,
    pub name: String,
    pub key_len: u32,
    flags: u32,
    elements: Option<Vec<Element>>,
    /// The element for what no other fits, with its verdict.
    rest: Option<Option<(String, RuleVerdict)>>,
}

/// All sets by family, table and name.
pub(super) type Sets = HashMap<(u8, String, String), Set>;

impl Set {
    /// A set from its own message (`NFT_MSG_NEWSET`).
    pub fn parse(family: u8, attrs: Attrs<'_>) -> Option<Self> {
        Some(Self {
            family,
            table: attrs.text(1)?.to_owned(),
            name: attrs.text(2)?.to_owned(),
            // The kernel leaves out flags of zero.
            flags: attrs.u32(3).unwrap_or(0),
            key_len: attrs.u32(5)?,
            elements: None,
            rest: None,
        })
    }

    /// True if its elements can be seen only in the rule.
    pub fn is_anonymous(&self) -> bool {
        self.flags & ANONYMOUS != 0
    }

    /// Adds the elements of one message (`NFT_MSG_NEWSETELEM`); a set that is too long keeps none.
    pub fn add(&mut self, list: &[u8]) {
        let elements = self.elements.get_or_insert_default();
        if elements.len() > KEPT {
            return;
        }
        for (_, element) in IterableChunks::new(list).filter(|(header, _)| header.r#type == LIST_ELEM) {
            let attrs = Attrs(element);
            let verdict =
                attrs.get(2).and_then(data_verdict).map(|found| (verdict_word(found), verdict(found)));
            let flags = attrs.u32(3).unwrap_or(0);
            if flags & CATCHALL != 0 {
                self.rest = Some(verdict);
                continue;
            }
            let Some(key) = attrs.get(1).and_then(data_value) else { continue };
            elements.push(Element {
                key: key.to_vec(),
                key_end: attrs.get(10).and_then(data_value).map(<[u8]>::to_vec),
                end: flags & END != 0,
                verdict,
            });
        }
    }

    /// All its elements were dumped: a set without any is known to be empty.
    pub fn is_read(&mut self) {
        self.elements.get_or_insert_default();
    }

    /// True if no more elements are wanted.
    pub fn is_full(&self) -> bool {
        self.elements.as_ref().is_some_and(|elements| elements.len() > KEPT)
    }

    /// `{ 22, 80-90 : accept }`; none if the elements are not known, too many, or of another length than the fields.
    pub fn show(&self, fields: &[Field]) -> Option<String> {
        let mut shown = vec![];
        if self.elements.as_ref().is_some_and(|elements| elements.len() > 2 * SHOWN) {
            return None;
        }
        for entry in self.entries(fields)? {
            let text = show_key(entry.low, &entry.high, fields)?;
            shown.push(match entry.verdict {
                Some((verdict, _)) => format!("{text} : {verdict}"),
                None => text,
            });
        }
        match &self.rest {
            Some(Some((verdict, _))) => shown.push(format!("* : {verdict}")),
            Some(None) => shown.push("*".to_owned()),
            None => {}
        }
        Some(format!("{{ {} }}", shown.join(", ")))
    }

    /// The element for what no other fits: its verdict, if the set is a verdict map.
    pub fn rest(&self) -> Option<Option<&(String, RuleVerdict)>> {
        self.rest.as_ref().map(Option::as_ref)
    }

    /// The elements in order; none if they are not known, too many, or other ones with each packet.
    pub fn entries(&self, fields: &[Field]) -> Option<Vec<Entry<'_>>> {
        let intervals = self.flags & INTERVAL != 0;
        if intervals && fields.iter().any(|field| field.kind.is_host_order())
            || self.is_full()
            || self.flags & EVAL != 0
        {
            return None;
        }
        let mut elements: Vec<&Element> = self.elements.as_ref()?.iter().collect();
        elements.sort_by(|a, b| (&a.key, b.end).cmp(&(&b.key, a.end)));
        let mut entries = vec![];
        for (i, element) in elements.iter().enumerate().filter(|(_, element)| !element.end) {
            let high = match (&element.key_end, intervals) {
                (Some(last), _) => last.clone(),
                (None, false) => element.key.clone(),
                (None, true) => match elements.get(i + 1) {
                    Some(next) => before(&next.key)?,
                    None => vec![0xff; element.key.len()],
                },
            };
            entries.push(Entry { low: &element.key, high, verdict: element.verdict.as_ref() });
        }
        Some(entries)
    }
}

/// The key in front of this one.
fn before(key: &[u8]) -> Option<Vec<u8>> {
    let mut out = key.to_vec();
    for byte in out.iter_mut().rev() {
        let (value, borrow) = byte.overflowing_sub(1);
        *byte = value;
        if !borrow {
            return Some(out);
        }
    }
    None
}

/// One key: its fields joined with ` . `, each padded to four bytes in the key.
fn show_key(first: &[u8], last: &[u8], fields: &[Field]) -> Option<String> {
    let mut at = 0;
    let mut parts = vec![];
    for field in fields {
        let len = usize::try_from(field.len).ok()?;
        let (low, high) = (first.get(at..at + len)?, last.get(at..at + len)?);
        parts.push(show_range(field.kind, low, high)?);
        at += len.next_multiple_of(4);
    }
    Some(parts.join(" . "))
}

/// A value, a network or a range.
fn show_range(kind: Kind, low: &[u8], high: &[u8]) -> Option<String> {
    if low == high {
        return kind.show(low);
    }
    let prefix = match kind {
        Kind::Ip4 | Kind::Ip6 => prefix(low, high),
        _ => None,
    };
    let text = kind.show(low)?;
    Some(match prefix {
        Some(prefix) => format!("{text}/{prefix}"),
        None => format!("{text}-{}", kind.show(high)?),
    })
}

/// Prefix length if the range of addresses is exactly a network.
pub(super) fn prefix(low: &[u8], high: &[u8]) -> Option<u8> {
    let prefix = if low.len() == 4 {
        let [low, high] = [low, high].map(|b| <[u8; 4]>::try_from(b).map(Ipv4Addr::from));
        network(u128::from(low.ok()?.to_bits()), u128::from(high.ok()?.to_bits()), 32)
    } else {
        let [low, high] = [low, high].map(|b| <[u8; 16]>::try_from(b).map(Ipv6Addr::from));
        network(low.ok()?.to_bits(), high.ok()?.to_bits(), 128)
    };
    prefix.and_then(|prefix| u8::try_from(prefix).ok())
}

fn network(low: u128, high: u128, width: u32) -> Option<u32> {
    let differ = low ^ high;
    let host = 128 - differ.leading_zeros();
    let whole = differ.checked_add(1).is_none_or(u128::is_power_of_two) && low & differ == 0;
    whole.then(|| width.saturating_sub(host))
}

/// Looks a set up.
pub(super) fn find<'s>(sets: &'s Sets, names: &Names<'_>, name: &str) -> Option<&'s Set> {
    sets.get(&(names.family, names.table.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::field::{Context, Load};
    use super::*;

    #[test]
    fn flags_that_stand_together_are_one_element() {
        let element = |bits| Element { key: vec![bits], key_end: None, end: false, verdict: None };
        let set = Set {
            family: 1,
            table: "fw".to_owned(),
            name: "__set0".to_owned(),
            flags: ANONYMOUS,
            key_len: 1,
            elements: Some(vec![element(0x02), element(0x12)]),
            rest: None,
        };
        let flags = Context { l3: None, l4: Some(6) }.fields(Load::Payload { base: 2, offset: 13, len: 1 });
        assert_eq!(set.show(&flags.unwrap()).unwrap(), "{ syn, syn | ack }");
    }
}
