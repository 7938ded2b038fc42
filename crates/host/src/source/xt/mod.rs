//! Matches and targets of x_tables, as the kernel stores them.
//!
//! Legacy iptables and iptables over nf_tables carry the same structures (`linux/netfilter/xt_*.h`), so both
//! readers decode them here, and both print a rule as `iptables -S` does. What is not decoded exactly becomes
//! [`Match::Other`] with a leading `?`, so that nobody tries to delete or to insert a rule by that text.

mod conntrack;
mod header;
mod packet;
mod ports;
mod rate;
mod rule;
mod target;

pub(crate) use header::{Header, Interface, Network};
pub(crate) use packet::COMMENT_LEN;
pub(crate) use ports::Ports;
pub(crate) use rate::{Limit, limit};
pub(crate) use rule::{XtRule, quoted};
pub(crate) use target::Target;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use whydrop_model::netfilter::{Field, Match};
use whydrop_model::shell::sanitize;

/// `sizeof(struct xt_entry_match)` and `sizeof(struct xt_entry_target)`: size, name, revision.
pub(crate) const ENTRY_HEADER: usize = 32;
/// `XT_EXTENSION_MAXNAMELEN`.
pub(crate) const NAME_LEN: usize = 29;

/// A structure of the kernel in native byte order; every access is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blob<'a>(pub &'a [u8]);

impl<'a> Blob<'a> {
    pub fn bytes(self, at: usize, len: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(len)?)
    }

    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.bytes(at, N)?.try_into().ok()
    }

    pub fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub fn u16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_ne_bytes)
    }

    pub fn be16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    pub fn u32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_ne_bytes)
    }

    pub fn i32(self, at: usize) -> Option<i32> {
        self.array(at).map(i32::from_ne_bytes)
    }

    pub fn u64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_ne_bytes)
    }

    /// An address in network byte order: 4 bytes, or 16 for IPv6.
    pub fn ip(self, at: usize, v6: bool) -> Option<IpAddr> {
        if v6 {
            self.array(at).map(|b: [u8; 16]| IpAddr::V6(Ipv6Addr::from(b)))
        } else {
            self.array(at).map(|b: [u8; 4]| IpAddr::V4(Ipv4Addr::from(b)))
        }
    }

    /// A NUL-terminated string in a fixed field; none if it is not UTF-8 or would have to be escaped.
    pub fn text(self, at: usize, len: usize) -> Option<&'a str> {
        let bytes = self.bytes(at, len)?;
        let text = std::str::from_utf8(bytes.split(|b| *b == 0).next()?).ok()?;
        (sanitize(text, len) == text).then_some(text)
    }
}

/// A decoded match: what it asks for, and its text after `-m NAME`.
#[derive(Debug, Default)]
pub(crate) struct XtMatch {
    /// Name on the command line, which is not always the kernel's.
    pub name: &'static str,
    /// Options, without leading space.
    pub options: String,
    /// The conditions; empty for a match that asks for nothing (comment).
    pub matches: Vec<Match>,
    /// Comment, if it is one.
    pub comment: Option<String>,
}

impl XtMatch {
    /// A match with one condition that the model has a word for.
    fn known(name: &'static str, options: String, condition: Match) -> Option<Self> {
        Some(Self { name, options, matches: vec![condition], comment: None })
    }

    /// A match whose condition is its text.
    fn other(name: &'static str, options: String) -> Option<Self> {
        let condition = Match::Other(options.clone());
        Self::known(name, options, condition)
    }

    /// A match with several conditions, or with none.
    fn all(name: &'static str, options: String, matches: Vec<Match>) -> Option<Self> {
        Some(Self { name, options, matches, comment: None })
    }
}

/// Decodes a match; none if whydrop does not know this match, this revision or one of its options.
pub(crate) fn decode(name: &str, revision: u8, data: &[u8], v6: bool) -> Option<XtMatch> {
    let blob = Blob(data);
    match (name, revision) {
        ("statistic", 0) => rate::statistic(blob),
        ("limit", 0) => rate::limit_match(blob),
        ("hashlimit", 1..=3) => rate::hashlimit(blob, revision, v6),
        ("connlimit", 1) => rate::connlimit(blob, v6),
        ("quota", 0) => rate::quota(blob),
        ("state", 0) => conntrack::state(blob),
        ("conntrack", 2..=3) => conntrack::conntrack(blob),
        ("mark", 1) => conntrack::mark(blob, "mark", Field::Mark),
        ("connmark", 1) => conntrack::mark(blob, "connmark", Field::CtMark),
        ("tcp", 0) => ports::tcp(blob),
        ("udp", 0) => ports::udp(blob),
        ("multiport", 1) => ports::multiport(blob),
        ("icmp" | "icmp6", 0) => packet::icmp(blob, v6),
        ("comment", 0) => packet::comment(blob),
        ("addrtype", 1) => packet::addrtype(blob),
        ("mac", 0) => packet::mac(blob),
        ("length", 0) => packet::length(blob),
        ("ttl", 0) if !v6 => packet::ttl(blob, "ttl"),
        ("hl", 0) if v6 => packet::ttl(blob, "hl"),
        ("pkttype", 0) => packet::pkttype(blob),
        ("tos", 1) => packet::tos(blob),
        ("dscp", 0) => packet::dscp(blob),
        ("iprange", 1) => packet::iprange(blob, v6),
        ("tcpmss", 0) => packet::tcpmss(blob),
        ("owner", 1) => packet::owner(blob),
        ("physdev", 0) => packet::physdev(blob),
        ("rpfilter", 0) => packet::rpfilter(blob),
        ("recent", 1) => packet::recent(blob, v6),
        _ => None,
    }
}

/// `! ` in front of a negated option.
fn not(inverted: bool) -> &'static str {
    if inverted { "! " } else { "" }
}
