//! A rule of nf_tables with all that lives and dies with it, as messages that make it again.
//!
//! The kernel's dump of a rule is nearly what a new rule is made of. What differs is mended here: sets without a name
//! are made anew, and states that a new expression must not carry are left out.

use super::nftables::{CREATE, NEWRULE, Tables, header, named};
use super::{from_hex, to_hex};
use crate::error::{Error, Result};
use crate::source::nftables::expr::Attrs;
use crate::source::nftables::{GENMSG, GETSET, GETSETELEM, SUBSYSTEM, push_bytes, push_text};
use crate::sys::netlink::{BatchMessage, errno};
use netlink_bindings::utils::{IterableChunks, finalize_nested_header, push_nested_header};
use serde::{Deserialize, Serialize};
use whydrop_model::action::ChainRef;
use whydrop_model::text;

const NEWSET: u16 = SUBSYSTEM | 9;
const NEWSETELEM: u16 = SUBSYSTEM | 12;
const LIST_ELEM: u16 = 1;
const EXPRESSIONS: u16 = 4;
const APPEND: u16 = libc::NLM_F_APPEND as u16;
/// `NFT_SET_ANONYMOUS`.
const ANONYMOUS: u32 = 1;
/// Attributes of a set that a new one is made of (`enum nft_set_attributes`): flags, types and lengths of key and
/// data, policy, description, timeouts, user data, object type, expressions.
const SET_KEPT: [u16; 13] = [3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 17, 18];
const SET_FLAGS: u16 = 3;
const SET_ID: u16 = 10;
/// `NFT_SET_EVAL`: the rule itself fills the set.
const EVALUATED: u32 = 0x10;
/// Elements of one message: an attribute ends at 64 KiB.
const ELEMENTS_MAX: usize = 256;
/// `NFT_QUOTA_F_INV`; the other flag says that the quota is used up, which a new one may not claim.
const QUOTA_INVERTED: u32 = 1;

/// A set that lives and dies with its rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OwnSet {
    /// Its name in the rule.
    name: String,
    /// Attributes of a new set like it, in hexadecimal.
    definition: String,
    /// Each element, in hexadecimal, sorted.
    elements: Vec<String>,
}

/// A rule with its own sets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OwnRule {
    /// Attributes of the rule, the expressions first.
    pub attributes: Vec<u8>,
    /// Its sets.
    pub sets: Vec<OwnSet>,
}

impl OwnRule {
    /// Messages that make the rule in front of the one with this handle, or at the end of the chain.
    pub fn messages(&self, chain: &ChainRef, before: Option<u64>) -> Result<Vec<BatchMessage>> {
        let mut out = vec![];
        for (set, id) in self.sets.iter().zip(1_u32..) {
            out.extend(set.messages(chain, id)?);
        }
        let mut payload = named(chain, 2);
        let flags = match before {
            Some(handle) => {
                push_bytes(&mut payload, 6, &handle.to_be_bytes());
                CREATE
            }
            None => CREATE | APPEND,
        };
        let ids: Vec<(&str, u32)> = self.sets.iter().map(|set| set.name.as_str()).zip(1..).collect();
        for (attribute, bytes) in IterableChunks::new(&self.attributes) {
            if attribute.r#type == EXPRESSIONS {
                let list = rewritten(bytes, |name, data| with_ids(name, data, &ids));
                push_bytes(&mut payload, libc::NLA_F_NESTED as u16 | EXPRESSIONS, &list);
            } else {
                push_bytes(&mut payload, attribute.r#type, bytes);
            }
        }
        out.push(BatchMessage { kind: NEWRULE, flags, payload });
        Ok(out)
    }
}

impl OwnSet {
    /// Reads a set; none if it has a name of its own, or if there is none.
    fn read(tables: &mut Tables, chain: &ChainRef, name: &str) -> Result<Option<Self>> {
        let fail = |e: std::io::Error| {
            Error::io(
                text!("read the set {object}", "读取集合 {object}"),
                format!("{} {name}", chain.table),
                &e,
            )
        };
        let mut request = header(chain);
        push_text(&mut request, 1, &chain.table);
        push_text(&mut request, 2, name);
        let parse = |reply: &[u8]| {
            let bytes = reply.get(GENMSG..)?;
            let anonymous = Attrs(bytes).u32(SET_FLAGS).unwrap_or(0) & ANONYMOUS != 0;
            anonymous.then(|| kept(bytes, &SET_KEPT))
        };
        let definition = match tables.netlink.get_raw(GETSET, &request, parse) {
            Ok(Some(definition)) => definition,
            Ok(None) => return Ok(None),
            Err(e) if errno(&e) == Some(libc::ENOENT) => return Ok(None),
            Err(e) => return Err(fail(e)),
        };
        let mut elements = vec![];
        let object = text!("the elements of a set", "集合的元素");
        tables.netlink.dump_raw(object, GETSETELEM, &request, |reply| {
            let list = IterableChunks::new(Attrs(reply.get(GENMSG..)?).get(3)?);
            elements.extend(list.filter(|(h, _)| h.r#type == LIST_ELEM).map(|(_, element)| element.to_vec()));
            Some(())
        })?;
        // The kernel shows them backwards, and takes the bounds of intervals only in order.
        elements.sort_by_cached_key(|element: &Vec<u8>| order(element));
        let elements = elements.iter().map(|element| to_hex(element)).collect();
        Ok(Some(Self { name: name.to_owned(), definition: to_hex(&definition), elements }))
    }

    fn messages(&self, chain: &ChainRef, id: u32) -> Result<Vec<BatchMessage>> {
        let new = |set: u16, id_at: u16| {
            let mut payload = header(chain);
            push_text(&mut payload, 1, &chain.table);
            push_text(&mut payload, set, &pattern(&self.name));
            push_bytes(&mut payload, id_at, &id.to_be_bytes());
            payload
        };
        let mut payload = new(2, SET_ID);
        payload.extend(from_hex(&self.definition)?);
        let mut out = vec![BatchMessage { kind: NEWSET, flags: CREATE, payload }];
        for elements in self.elements.chunks(ELEMENTS_MAX) {
            let mut payload = new(2, 4);
            let list = push_nested_header(&mut payload, 3);
            for element in elements {
                push_bytes(&mut payload, libc::NLA_F_NESTED as u16 | LIST_ELEM, &from_hex(element)?);
            }
            finalize_nested_header(&mut payload, list);
            out.push(BatchMessage { kind: NEWSETELEM, flags: CREATE, payload });
        }
        Ok(out)
    }
}

/// Key, and an interval's end in front of the next one's beginning.
fn order(element: &[u8]) -> (Vec<u8>, bool) {
    let attrs = Attrs(element);
    (attrs.get(1).map(<[u8]>::to_vec).into_iter().flatten().collect(), attrs.u32(3).unwrap_or(0) & 1 == 0)
}

/// The name under which a set is made: the kernel numbers those that have none.
fn pattern(name: &str) -> String {
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if matches!(plain, "__set" | "__map") { format!("{plain}%d") } else { name.to_owned() }
}

/// Numbers of the attributes that hold a set's name and its number within a transaction, of expressions with a set.
fn set_attributes(expression: &str) -> Option<(u16, u16)> {
    Some(match expression {
        "lookup" => (1, 4),
        "dynset" => (1, 2),
        "objref" => (4, 5),
        _ => return None,
    })
}

/// Attributes with these numbers, or without them.
fn kept(attributes: &[u8], numbers: &[u16]) -> Vec<u8> {
    let mut out = vec![];
    for (attribute, bytes) in IterableChunks::new(attributes).filter(|(a, _)| numbers.contains(&a.r#type)) {
        push_bytes(&mut out, attribute.r#type, bytes);
    }
    out
}

/// A list of expressions with new data where `change` gives some.
fn rewritten(list: &[u8], change: impl Fn(&str, &[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut out = vec![];
    for (attribute, element) in IterableChunks::new(list) {
        let attrs = Attrs(element);
        let changed =
            attrs.text(1).zip(attrs.get(2)).and_then(|(name, data)| Some((name, change(name, data)?)));
        let number = libc::NLA_F_NESTED as u16 | attribute.r#type;
        let Some((name, data)) = changed else {
            push_bytes(&mut out, number, element);
            continue;
        };
        let nested = push_nested_header(&mut out, attribute.r#type);
        push_text(&mut out, 1, name);
        push_bytes(&mut out, libc::NLA_F_NESTED as u16 | 2, &data);
        finalize_nested_header(&mut out, nested);
    }
    out
}

/// Data of an expression that uses one of these sets, which are made in the same transaction.
fn with_ids(expression: &str, data: &[u8], sets: &[(&str, u32)]) -> Option<Vec<u8>> {
    let (name, id) = set_attributes(expression)?;
    let (set, number) = sets.iter().find(|(set, _)| Attrs(data).text(name) == Some(set))?;
    let mut out = vec![];
    for (attribute, bytes) in IterableChunks::new(data) {
        if attribute.r#type == name {
            push_text(&mut out, name, &pattern(set));
        } else if attribute.r#type != id {
            push_bytes(&mut out, attribute.r#type, bytes);
        }
    }
    push_bytes(&mut out, id, &number.to_be_bytes());
    Some(out)
}

/// What a new expression may carry: all but the state of a quota that is used up.
pub(super) fn renewable(list: &[u8]) -> Vec<u8> {
    rewritten(list, |name, data| (name == "quota").then(|| quota(data, &[1, 2, 4])))
}

fn quota(data: &[u8], numbers: &[u16]) -> Vec<u8> {
    let mut out = vec![];
    for (attribute, bytes) in IterableChunks::new(data).filter(|(a, _)| numbers.contains(&a.r#type)) {
        if attribute.r#type == 2 {
            let flags = Attrs(data).u32(2).unwrap_or(0) & QUOTA_INVERTED;
            push_bytes(&mut out, 2, &flags.to_be_bytes());
        } else {
            push_bytes(&mut out, attribute.r#type, bytes);
        }
    }
    out
}

/// Names of the sets that a rule's expressions use.
fn set_names(list: &[u8]) -> Vec<String> {
    let mut names = vec![];
    for (_, element) in IterableChunks::new(list) {
        let attrs = Attrs(element);
        let found = attrs.text(1).and_then(set_attributes).zip(attrs.get(2));
        let name = found.and_then(|((name, _), data)| Attrs(data).text(name));
        if let Some(name) = name.filter(|name| names.iter().all(|known| known != name)) {
            names.push(name.to_owned());
        }
    }
    names
}

/// A rule's attributes without what changes while it works: what it counted, used up and remembers, and the numbers
/// of its own sets.
fn stateless(attributes: &[u8], own: &[OwnSet]) -> Vec<u8> {
    let mut out = vec![];
    for (attribute, bytes) in IterableChunks::new(attributes) {
        if attribute.r#type == EXPRESSIONS {
            let list = rewritten(bytes, |name, data| match name {
                "counter" | "last" => Some(vec![]),
                "quota" => Some(quota(data, &[1, 2])),
                _ => with_ids(name, data, &own.iter().map(|set| (set.name.as_str(), 0)).collect::<Vec<_>>()),
            });
            push_bytes(&mut out, EXPRESSIONS, &list);
        } else {
            push_bytes(&mut out, attribute.r#type, bytes);
        }
    }
    out
}

/// A rule as it is compared with others: without what it filled in itself.
fn shape(rule: &OwnRule) -> Result<OwnRule> {
    let mut sets = vec![];
    for set in &rule.sets {
        let flags = Attrs(&from_hex(&set.definition)?).u32(SET_FLAGS).unwrap_or(0);
        let elements = if flags & EVALUATED == 0 { set.elements.clone() } else { vec![] };
        sets.push(OwnSet { name: pattern(&set.name), definition: set.definition.clone(), elements });
    }
    Ok(OwnRule { attributes: stateless(&rule.attributes, &rule.sets), sets })
}

impl Tables {
    /// A rule of which the kernel showed these attributes, with its own sets.
    pub fn own_rule(&mut self, chain: &ChainRef, attributes: &[u8]) -> Result<OwnRule> {
        let list = Attrs(attributes).get(EXPRESSIONS).unwrap_or(&[]);
        let mut sets = vec![];
        for name in set_names(list) {
            sets.extend(OwnSet::read(self, chain, &name)?);
        }
        Ok(OwnRule { attributes: attributes.to_vec(), sets })
    }

    /// How many rules of the chain do what this one does, whatever they have counted.
    pub fn twins(&mut self, chain: &ChainRef, wanted: &OwnRule) -> Result<usize> {
        let known = shape(wanted)?;
        let mut count = 0;
        for raw in self.rules(chain)? {
            // Sets are read only of rules that could be it.
            if raw.attributes.len() == wanted.attributes.len() || !wanted.sets.is_empty() {
                count += usize::from(shape(&self.own_rule(chain, &raw.attributes)?)? == known);
            }
        }
        Ok(count)
    }
}
