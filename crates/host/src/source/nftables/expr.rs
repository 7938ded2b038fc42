//! Expressions of a rule as the kernel stores them (`linux/netfilter/nf_tables.h`), decoded one by one.

use netlink_bindings::utils::{IterableChunks, find_attr};

/// Upper bound of expressions in one rule: the kernel's own (`NFT_RULE_MAXEXPRS`).
const MAX: usize = 128;
/// Element of a list (`NFTA_LIST_ELEM`).
pub(super) const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
/// `NFT_LOGLEVEL_WARNING`, the level of a log expression without one.
pub(super) const LOG_WARNING: u32 = 4;

/// How a comparison is meant (`enum nft_cmp_ops`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Eq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
}

/// A verdict with the chain of a jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict<'a> {
    pub code: i32,
    pub chain: Option<&'a str>,
}

/// An expression. Registers, keys and flags are the kernel's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expr<'a> {
    MetaLoad {
        key: u32,
        to: u32,
    },
    MetaSet {
        key: u32,
        from: u32,
    },
    Payload {
        base: u32,
        offset: u32,
        len: u32,
        to: u32,
    },
    CtLoad {
        key: u32,
        to: u32,
        direction: Option<u8>,
    },
    CtSet {
        key: u32,
        from: u32,
    },
    Fib {
        result: u32,
        flags: u32,
        to: u32,
    },
    Numgen {
        modulus: u32,
        random: bool,
        offset: u32,
        to: u32,
    },
    Bitwise {
        from: u32,
        to: u32,
        mask: &'a [u8],
        xor: &'a [u8],
    },
    Byteorder {
        from: u32,
        to: u32,
    },
    Cmp {
        from: u32,
        op: Op,
        value: &'a [u8],
    },
    Range {
        from: u32,
        negated: bool,
        low: &'a [u8],
        high: &'a [u8],
    },
    Lookup {
        from: u32,
        set: &'a str,
        maps_to: Option<u32>,
        negated: bool,
    },
    Value {
        to: u32,
        value: &'a [u8],
    },
    Verdict(Verdict<'a>),
    Counter {
        packets: u64,
        bytes: u64,
    },
    Limit {
        rate: u64,
        unit: u64,
        burst: u32,
        bytes: bool,
        over: bool,
    },
    Connlimit {
        count: u32,
        over: bool,
    },
    Quota {
        bytes: u64,
        over: bool,
    },
    Reject {
        kind: u32,
        code: u8,
    },
    Queue {
        first: u16,
        total: u16,
        flags: u16,
    },
    Log {
        prefix: &'a str,
        group: Option<u16>,
        level: u32,
        flags: u32,
        snaplen: u32,
        threshold: u16,
    },
    Notrack,
    Nat {
        destination: bool,
        family: u32,
        /// First and last address, first and last port.
        addresses: [Option<u32>; 2],
        ports: [Option<u32>; 2],
        flags: u32,
    },
    Masquerade {
        ports: [Option<u32>; 2],
        flags: u32,
    },
    Redirect {
        ports: [Option<u32>; 2],
        flags: u32,
    },
    /// Adds to a set, or asks a measure of each element: a rate, a number of connections, a quota.
    Dynset {
        measures: Vec<Expr<'a>>,
    },
    Objref {
        kind: u32,
        name: &'a str,
    },
    /// A match of x_tables.
    Match {
        name: &'a str,
        revision: u8,
        data: &'a [u8],
    },
    /// A target of x_tables.
    Target {
        name: &'a str,
        revision: u8,
        data: &'a [u8],
    },
    /// Not decoded: its name.
    Other(&'a str),
}

/// Decodes the nested list of a rule (`NFTA_RULE_EXPRESSIONS`).
pub(crate) fn decode_all(list: &[u8]) -> Vec<Expr<'_>> {
    IterableChunks::new(list)
        .filter(|(header, _)| header.r#type == LIST_ELEM)
        .take(MAX)
        .map(|(_, element)| decode(element))
        .collect()
}

fn decode(element: &[u8]) -> Expr<'_> {
    let name = find_attr(element, EXPR_NAME).and_then(text).unwrap_or("expression");
    let data = Attrs(find_attr(element, EXPR_DATA).unwrap_or(&[]));
    known(name, data).unwrap_or(Expr::Other(name))
}

/// One expression by name; none if an attribute that it needs is missing or too short.
fn known<'a>(name: &str, data: Attrs<'a>) -> Option<Expr<'a>> {
    Some(match name {
        "meta" => match (data.u32(1), data.u32(3)) {
            (Some(to), None) => Expr::MetaLoad { key: data.u32(2)?, to },
            (None, Some(from)) => Expr::MetaSet { key: data.u32(2)?, from },
            _ => return None,
        },
        // A payload expression with a source register writes into the packet.
        "payload" if data.get(5).is_none() => {
            Expr::Payload { to: data.u32(1)?, base: data.u32(2)?, offset: data.u32(3)?, len: data.u32(4)? }
        }
        "ct" => match (data.u32(1), data.u32(4)) {
            (Some(to), None) => Expr::CtLoad { key: data.u32(2)?, to, direction: data.u8(3) },
            (None, Some(from)) => Expr::CtSet { key: data.u32(2)?, from },
            _ => return None,
        },
        "fib" => Expr::Fib { to: data.u32(1)?, result: data.u32(2)?, flags: data.u32(3)? },
        "numgen" => Expr::Numgen {
            to: data.u32(1)?,
            modulus: data.u32(2)?,
            random: data.u32(3)? == 1,
            // Left out by the kernel when it is zero.
            offset: data.u32(4).unwrap_or(0),
        },
        // Operation 0 is mask and xor; the shifts are not decoded.
        "bitwise" if data.u32(6).is_none_or(|op| op == 0) => {
            Expr::Bitwise { from: data.u32(1)?, to: data.u32(2)?, mask: data.value(4)?, xor: data.value(5)? }
        }
        "byteorder" => Expr::Byteorder { from: data.u32(1)?, to: data.u32(2)? },
        "cmp" => Expr::Cmp { from: data.u32(1)?, op: op(data.u32(2)?)?, value: data.value(3)? },
        "range" => Expr::Range {
            from: data.u32(1)?,
            negated: data.u32(2)? == 1,
            low: data.value(3)?,
            high: data.value(4)?,
        },
        "lookup" => Expr::Lookup {
            set: data.text(1)?,
            from: data.u32(2)?,
            maps_to: data.u32(3),
            negated: data.u32(5).is_some_and(|flags| flags & 1 != 0),
        },
        "immediate" => {
            let (to, value) = (data.u32(1)?, data.get(2)?);
            match find_attr(value, DATA_VERDICT) {
                Some(verdict) => Expr::Verdict(decode_verdict(verdict)?),
                None => Expr::Value { to, value: find_attr(value, DATA_VALUE)? },
            }
        }
        "counter" => Expr::Counter { bytes: data.u64(1)?, packets: data.u64(2)? },
        "limit" => Expr::Limit {
            rate: data.u64(1)?,
            unit: data.u64(2)?,
            burst: data.u32(3)?,
            bytes: data.u32(4)? == 1,
            over: data.u32(5)? & 1 != 0,
        },
        // Flags of zero are left out.
        "connlimit" => {
            Expr::Connlimit { count: data.u32(1)?, over: data.u32(2).is_some_and(|flags| flags & 1 != 0) }
        }
        "quota" => Expr::Quota { bytes: data.u64(1)?, over: data.u32(2)? & 1 != 0 },
        // A TCP reset has no code.
        "reject" => Expr::Reject { kind: data.u32(1)?, code: data.u8(2).unwrap_or(0) },
        "queue" => Expr::Queue { first: data.u16(1)?, total: data.u16(2)?, flags: data.u16(3)? },
        "log" => Expr::Log {
            group: data.u16(1),
            prefix: match data.get(2) {
                Some(prefix) => text(prefix)?,
                None => "",
            },
            snaplen: data.u32(3).unwrap_or(0),
            threshold: data.u16(4).unwrap_or(0),
            level: data.u32(5).unwrap_or(LOG_WARNING),
            flags: data.u32(6).unwrap_or(0),
        },
        "notrack" => Expr::Notrack,
        "nat" => Expr::Nat {
            destination: data.u32(1)? == 1,
            family: data.u32(2)?,
            addresses: [data.u32(3), data.u32(4)],
            ports: [data.u32(5), data.u32(6)],
            flags: data.u32(7).unwrap_or(0),
        },
        "masq" => Expr::Masquerade { flags: data.u32(1).unwrap_or(0), ports: [data.u32(2), data.u32(3)] },
        "redir" => Expr::Redirect { ports: [data.u32(1), data.u32(2)], flags: data.u32(3).unwrap_or(0) },
        "dynset" => Expr::Dynset {
            measures: data
                .get(7)
                .map(decode)
                .into_iter()
                .chain(data.get(10).map(decode_all).into_iter().flatten())
                .collect(),
        },
        "objref" => Expr::Objref { kind: data.u32(1)?, name: data.text(2)? },
        "match" => Expr::Match { name: data.text(1)?, revision: data.revision()?, data: data.get(3)? },
        "target" => Expr::Target { name: data.text(1)?, revision: data.revision()?, data: data.get(3)? },
        _ => return None,
    })
}

fn op(code: u32) -> Option<Op> {
    [Op::Eq, Op::Neq, Op::Lt, Op::Lte, Op::Gt, Op::Gte].get(usize::try_from(code).ok()?).copied()
}

/// `NFTA_DATA_VERDICT`: code and chain.
fn decode_verdict(verdict: &[u8]) -> Option<Verdict<'_>> {
    let attrs = Attrs(verdict);
    Some(Verdict { code: attrs.u32(1)?.cast_signed(), chain: attrs.text(2) })
}

/// The value inside `nft_data` attributes.
pub(super) fn data_value(data: &[u8]) -> Option<&[u8]> {
    find_attr(data, DATA_VALUE)
}

/// The verdict inside `nft_data` attributes.
pub(super) fn data_verdict(data: &[u8]) -> Option<Verdict<'_>> {
    find_attr(data, DATA_VERDICT).and_then(decode_verdict)
}

/// A NUL-terminated name; none if it is not UTF-8.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes.split(|b| *b == 0).next()?).ok()
}

/// Attributes by number. Numbers of nf_tables are in network byte order.
#[derive(Clone, Copy)]
pub(crate) struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    pub fn get(self, number: u16) -> Option<&'a [u8]> {
        find_attr(self.0, number)
    }

    pub fn u8(self, number: u16) -> Option<u8> {
        self.get(number)?.first().copied()
    }

    pub fn u16(self, number: u16) -> Option<u16> {
        Some(u16::from_be_bytes(self.get(number)?.get(..2)?.try_into().ok()?))
    }

    pub fn u32(self, number: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(number)?.get(..4)?.try_into().ok()?))
    }

    pub fn u64(self, number: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(number)?.get(..8)?.try_into().ok()?))
    }

    pub fn text(self, number: u16) -> Option<&'a str> {
        text(self.get(number)?)
    }

    fn value(self, number: u16) -> Option<&'a [u8]> {
        data_value(self.get(number)?)
    }

    fn revision(self) -> Option<u8> {
        self.u32(2).and_then(|revision| u8::try_from(revision).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_never_panics() {
        let mut state = 0x9e37_79b9_u32;
        for length in 0..600 {
            let bytes: Vec<u8> = (0..length)
                .map(|i| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // Small numbers make plausible lengths and types.
                    (state >> 24) as u8 % if i % 4 == 0 { 40 } else { 4 }
                })
                .collect();
            drop(decode_all(&bytes));
            for name in ["meta", "cmp", "immediate", "lookup", "match", "log", "bitwise", "numgen"] {
                let _ = known(name, Attrs(&bytes));
            }
        }
    }
}
