//! Rules that iptables made through nf_tables, read back as iptables prints them.
//!
//! iptables-nft stores what is simple as native expressions and the rest as matches and targets of x_tables
//! (its nft-shared.c and nft-ipv4.c); here is the way back.

use super::expr::{Expr, Op};
use super::verdict;
use crate::source::xt::{self, Blob, Header, Interface, Limit, Network, Ports, Target, XtRule};

// Keys of `enum nft_meta_keys` and `enum nft_payload_bases` that iptables uses.
const META_MARK: u32 = 3;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFTRACE: u32 = 12;
const META_L4PROTO: u32 = 16;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

/// True if iptables can show a rule with this expression (`nft_is_expr_compatible` of iptables 1.8.9).
pub(super) fn understands(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::MetaLoad { .. }
        | Expr::Payload { .. }
        | Expr::Bitwise { .. }
        | Expr::Cmp { .. }
        | Expr::Range { .. }
        | Expr::Value { .. }
        | Expr::MetaSet { key: META_NFTRACE, .. }
        | Expr::Verdict(_)
        | Expr::Counter { .. }
        | Expr::Match { .. }
        | Expr::Target { .. } => true,
        Expr::Limit { bytes, over, .. } => !bytes && !over,
        Expr::Log { group, .. } => group.is_some(),
        _ => false,
    }
}

/// What was loaded last, for the comparison behind it; iptables loads, masks and compares one thing at a time.
#[derive(Clone, Copy)]
enum Loaded<'a> {
    Meta(u32),
    Payload { base: u32, offset: u32, len: u32 },
    Value(&'a [u8]),
}

/// A comparison with what was loaded.
struct Wanted<'a> {
    negated: bool,
    low: &'a [u8],
    high: &'a [u8],
    mask: Option<&'a [u8]>,
}

#[derive(Default)]
struct Builder {
    rule: XtRule,
    /// Ports and flags of all comparisons together, and the place of the match among the others.
    ports: Option<(usize, &'static str, Ports)>,
    v6: bool,
}

/// The rule behind these expressions. A comparison that iptables does not make becomes a `?` match.
pub(super) fn rule(exprs: &[Expr<'_>], comment: Option<&str>, v6: bool) -> XtRule {
    let mut builder = Builder { v6, ..Builder::default() };
    let (mut loaded, mut mask): (Option<Loaded<'_>>, Option<&[u8]>) = (None, None);
    for expr in exprs {
        match expr {
            Expr::MetaLoad { key, .. } => (loaded, mask) = (Some(Loaded::Meta(*key)), None),
            Expr::Payload { base, offset, len, .. } => {
                loaded = Some(Loaded::Payload { base: *base, offset: *offset, len: *len });
                mask = None;
            }
            Expr::Value { value, .. } => (loaded, mask) = (Some(Loaded::Value(value)), None),
            Expr::Bitwise { mask: bits, xor, .. } if mask.is_none() && xor.iter().all(|b| *b == 0) => {
                mask = Some(bits);
            }
            Expr::Cmp { op: op @ (Op::Eq | Op::Neq), value, .. } => {
                builder.compare(loaded, &Wanted { negated: *op == Op::Neq, low: value, high: value, mask });
            }
            Expr::Cmp { op, value, .. } => match bounds(*op, value) {
                Some((low, high)) => {
                    builder.compare(loaded, &Wanted { negated: false, low: &low, high: &high, mask });
                }
                None => builder.whole(expr),
            },
            Expr::Range { negated, low, high, .. } => {
                builder.compare(loaded, &Wanted { negated: *negated, low, high, mask });
            }
            Expr::MetaSet { key: META_NFTRACE, .. } if matches!(loaded, Some(Loaded::Value([1, ..]))) => {
                builder.rule.target = Target::decode("TRACE", 0, &[], v6);
            }
            Expr::Counter { .. } => (),
            other => {
                // It may have changed what was loaded.
                loaded = None;
                builder.whole(other);
            }
        }
    }
    builder.finish(comment)
}

impl Builder {
    /// An expression that is a match or a target by itself.
    fn whole(&mut self, expr: &Expr<'_>) {
        let rule = &mut self.rule;
        match expr {
            Expr::Limit { rate, unit, burst, .. } => {
                let wanted = limit(*rate, *unit, *burst).and_then(|wanted| xt::limit(&wanted));
                rule.matches.push(wanted.ok_or_else(|| "limit".to_owned()));
            }
            Expr::Match { name, revision, data } => {
                let found = xt::decode(name, *revision, data, self.v6);
                rule.matches.push(found.ok_or_else(|| (*name).to_owned()));
            }
            Expr::Target { name, revision, data } => {
                rule.target = Target::decode(name, *revision, data, self.v6);
            }
            Expr::Verdict(found) => rule.target = Target::verdict(verdict(*found)),
            Expr::Log { prefix, group: Some(group), threshold, snaplen: 0, .. } => {
                rule.target = Target::nflog(prefix, *group, *threshold);
            }
            Expr::Other(name) => rule.matches.push(Err((*name).to_owned())),
            _ => rule.matches.push(Err("expression".to_owned())),
        }
    }

    fn compare(&mut self, loaded: Option<Loaded<'_>>, wanted: &Wanted<'_>) {
        if loaded.and_then(|loaded| self.place(loaded, wanted)).is_none() {
            self.rule.matches.push(Err("cmp".to_owned()));
        }
    }

    /// Puts a comparison where it belongs; none if iptables has no word for it.
    fn place(&mut self, loaded: Loaded<'_>, wanted: &Wanted<'_>) -> Option<()> {
        let Wanted { negated, low, high, mask } = *wanted;
        let (single, header) = (low == high, &mut self.rule.header);
        match loaded {
            Loaded::Meta(META_IIFNAME) if single && mask.is_none() => {
                set(&mut header.input, interface(negated, low)?)
            }
            Loaded::Meta(META_OIFNAME) if single && mask.is_none() => {
                set(&mut header.output, interface(negated, low)?)
            }
            Loaded::Meta(META_L4PROTO) if single && mask.is_none() => protocol(header, negated, low),
            Loaded::Meta(META_MARK) if single => {
                let info = [low, mask.unwrap_or(&[0xff; 4]), &[u8::from(negated), 0, 0, 0]].concat();
                self.rule.matches.push(Ok(xt::decode("mark", 1, &info, self.v6)?));
                Some(())
            }
            Loaded::Payload { base: NETWORK, offset, len } if single => {
                network(header, (offset, len), wanted, self.v6)
            }
            Loaded::Payload { base: TRANSPORT, offset, len } => {
                let name = match header.protocol? {
                    (false, 6) => "tcp",
                    (false, 17) => "udp",
                    _ => return None,
                };
                let at = self.rule.matches.len();
                let (_, _, ports) = self.ports.get_or_insert_with(|| (at, name, Ports::default()));
                transport(ports, (offset, len), wanted)
            }
            _ => None,
        }
    }

    fn finish(mut self, comment: Option<&str>) -> XtRule {
        if let Some((at, name, ports)) = self.ports {
            self.rule.matches.insert(at.min(self.rule.matches.len()), Ok(ports.render(name)));
        }
        if let Some(comment) = comment {
            let mut info = comment.as_bytes().to_vec();
            info.resize(xt::COMMENT_LEN.max(info.len()), 0);
            let found = xt::decode("comment", 0, &info, self.v6);
            self.rule.matches.push(found.ok_or_else(|| "comment".to_owned()));
        }
        self.rule
    }
}

/// Fills a slot that was still empty: a second condition of the same kind has no place in a rule of iptables.
fn set<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.is_none().then(|| *slot = Some(value))
}

/// An interface name: with its terminating zero it is whole, without it a prefix.
fn interface(negated: bool, value: &[u8]) -> Option<Interface> {
    let name = Blob(value).text(0, value.len())?;
    let whole = name.len() < value.len();
    Some(Interface { negated, name: if whole { name.to_owned() } else { format!("{name}+") } })
}

/// The protocol behind the IP header.
fn protocol(header: &mut Header, negated: bool, value: &[u8]) -> Option<()> {
    let &[number] = value else { return None };
    set(&mut header.protocol, (negated, number))
}

/// Source, destination, protocol or fragment of an IP header.
fn network(header: &mut Header, (offset, len): (u32, u32), wanted: &Wanted<'_>, v6: bool) -> Option<()> {
    let (source, destination, width) = if v6 { (8, 24, 16) } else { (12, 16, 4) };
    if offset == source || offset == destination {
        let len = usize::try_from(len).ok().filter(|len| (1..=width).contains(len))?;
        let address = |bytes: &[u8]| {
            // A short load stands for a network that ends at a byte.
            let mut whole = [0_u8; 16];
            whole.get_mut(..len)?.copy_from_slice(bytes.get(..len)?);
            Blob(&whole).ip(0, v6)
        };
        let mask = address(wanted.mask.unwrap_or(&[0xff; 16]))?;
        let network = Network { negated: wanted.negated, ip: address(wanted.low)?, mask };
        return set(if offset == source { &mut header.source } else { &mut header.destination }, network);
    }
    match (v6, offset, len, wanted.mask, wanted.low) {
        // iptables 1.8.10 and newer; before it and for IPv6 the protocol is metadata.
        (false, 9, 1, None, value) => protocol(header, wanted.negated, value),
        // `-f`: the fragment offset, without the flags in front of it.
        (false, 6, 2, Some([0x1f, 0xff]), [0, 0]) => set(&mut header.fragment, !wanted.negated),
        _ => None,
    }
}

/// Ports and TCP flags.
fn transport(ports: &mut Ports, (offset, len): (u32, u32), wanted: &Wanted<'_>) -> Option<()> {
    let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.try_into().ok()?));
    let Wanted { negated, low, high, mask } = *wanted;
    match (offset, len, mask) {
        (0, 2, None) => set(&mut ports.source, (negated, port(low)?, port(high)?)),
        (2, 2, None) => set(&mut ports.destination, (negated, port(low)?, port(high)?)),
        // Both ports in one load.
        (0, 4, None) if !negated && low == high => {
            let (source, destination) = (port(low.get(..2)?)?, port(low.get(2..)?)?);
            set(&mut ports.source, (false, source, source))?;
            set(&mut ports.destination, (false, destination, destination))
        }
        (13, 1, Some(&[mask])) => {
            let &[flags] = low else { return None };
            ((mask | flags) & 0xc0 == 0).then_some(())?;
            set(&mut ports.flags, (negated, mask, flags))
        }
        _ => None,
    }
}

/// The ports on one side of a port: `--sport :5` is stored as a comparison, `--sport 1:5` as a range.
fn bounds(op: Op, value: &[u8]) -> Option<([u8; 2], [u8; 2])> {
    let port = u16::from_be_bytes(value.try_into().ok()?);
    let (low, high) = match op {
        Op::Lt => (0, port.checked_sub(1)?),
        Op::Lte => (0, port),
        Op::Gt => (port.checked_add(1)?, u16::MAX),
        Op::Gte => (port, u16::MAX),
        Op::Eq | Op::Neq => return None,
    };
    Some((low.to_be_bytes(), high.to_be_bytes()))
}

/// A native limit in the units of x_tables, as iptables converts it.
fn limit(rate: u64, unit: u64, burst: u32) -> Option<Limit> {
    let period = 10_000_u64.checked_mul(unit)?.checked_div(rate)?;
    Some(Limit { period: u32::try_from(period).ok()?, burst })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::nftables::expr::Verdict;
    use whydrop_model::netfilter::Match;

    #[test]
    fn simple_conditions_come_back_as_options() {
        // As stored for: iptables-nft -A INPUT ! -s 10.1.0.0/16 -i eth0 -p tcp ! --sport 1000:2000 --dport 80 -j DROP
        let exprs = [
            Expr::MetaLoad { key: META_IIFNAME, to: 1 },
            Expr::Cmp { from: 1, op: Op::Eq, value: b"eth0\0" },
            Expr::MetaLoad { key: META_L4PROTO, to: 1 },
            Expr::Cmp { from: 1, op: Op::Eq, value: &[6] },
            Expr::Payload { base: NETWORK, offset: 12, len: 2, to: 1 },
            Expr::Cmp { from: 1, op: Op::Neq, value: &[10, 1] },
            Expr::Payload { base: TRANSPORT, offset: 0, len: 2, to: 1 },
            Expr::Range { from: 1, negated: true, low: &[3, 0xe8], high: &[7, 0xd0] },
            Expr::Payload { base: TRANSPORT, offset: 2, len: 2, to: 1 },
            Expr::Cmp { from: 1, op: Op::Eq, value: &[0, 80] },
            Expr::Counter { packets: 3, bytes: 180 },
            Expr::Verdict(Verdict { code: 0, chain: None }),
        ];
        let rule = rule(&exprs, None, false).render(1, Some(7), Some(3), Some(180));
        assert_eq!(
            rule.text,
            "! -s 10.1.0.0/16 -i eth0 -p tcp -m tcp ! --sport 1000:2000 --dport 80 -j DROP"
        );
        assert!(rule.matches.contains(&Match::DestinationPorts(80, 80)));
        assert!(rule.matches.contains(&Match::L4Proto(6)));
    }

    /// From 1.8.10 on, iptables asks the IPv4 header for the protocol.
    #[test]
    fn the_protocol_is_read_in_both_ways() {
        let metadata = Expr::MetaLoad { key: META_L4PROTO, to: 1 };
        let header = Expr::Payload { base: NETWORK, offset: 9, len: 1, to: 1 };
        for load in [metadata, header.clone()] {
            let exprs = [
                load,
                Expr::Cmp { from: 1, op: Op::Eq, value: &[6] },
                Expr::Payload { base: TRANSPORT, offset: 2, len: 2, to: 1 },
                Expr::Cmp { from: 1, op: Op::Eq, value: &[0, 80] },
            ];
            let found = rule(&exprs, None, false).render(1, None, None, None);
            assert_eq!(found.text, "-p tcp -m tcp --dport 80");
            assert_eq!(found.matches, [Match::L4Proto(6), Match::DestinationPorts(80, 80)]);
        }
        let exprs = [header, Expr::Cmp { from: 1, op: Op::Neq, value: &[17] }];
        assert_eq!(rule(&exprs, None, false).render(1, None, None, None).text, "! -p udp");
        // At this place the header of IPv6 has a part of the source.
        assert_eq!(rule(&exprs, None, true).render(1, None, None, None).text, "-m ?cmp");
    }

    /// As stored for: iptables-nft -A INPUT -p tcp --sport :5 ! --dport :1023
    #[test]
    fn ports_below_one_are_a_range() {
        let exprs = [
            Expr::MetaLoad { key: META_L4PROTO, to: 1 },
            Expr::Cmp { from: 1, op: Op::Eq, value: &[6] },
            Expr::Payload { base: TRANSPORT, offset: 0, len: 2, to: 1 },
            Expr::Cmp { from: 1, op: Op::Lte, value: &[0, 5] },
            Expr::Payload { base: TRANSPORT, offset: 2, len: 2, to: 1 },
            Expr::Cmp { from: 1, op: Op::Gt, value: &[3, 0xff] },
        ];
        let found = rule(&exprs, None, false).render(1, None, None, None);
        assert_eq!(found.text, "-p tcp -m tcp --sport 0:5 --dport 1024:65535");
        assert!(found.matches.contains(&Match::DestinationPorts(1024, u16::MAX)));
    }

    #[test]
    fn tracing_is_a_target() {
        let traced = |value| {
            let exprs = [
                Expr::Counter { packets: 0, bytes: 0 },
                Expr::Value { to: 9, value },
                Expr::MetaSet { key: META_NFTRACE, from: 9 },
            ];
            assert!(exprs.iter().all(understands));
            rule(&exprs, None, false).render(1, None, None, None).text
        };
        assert_eq!((traced(&[1]), traced(&[0])), ("-j TRACE".to_owned(), "-m ?expression".to_owned()));
    }

    #[test]
    fn what_iptables_cannot_say_is_marked() {
        let text = |exprs: &[Expr<'_>]| rule(exprs, None, false).render(1, None, None, None);
        let exprs = [
            Expr::Payload { base: NETWORK, offset: 8, len: 1, to: 1 },
            Expr::Cmp { from: 1, op: Op::Eq, value: &[64] },
        ];
        assert_eq!(text(&exprs).matches, [Match::Other("?cmp".into())]);
        // Behind a change that is not followed, a comparison says nothing about what was loaded.
        for change in
            [Expr::Other("bitwise"), Expr::Bitwise { from: 1, to: 1, mask: &[0xff; 4], xor: &[1, 0, 0, 0] }]
        {
            let exprs = [
                Expr::MetaLoad { key: META_MARK, to: 1 },
                change,
                Expr::Cmp { from: 1, op: Op::Eq, value: &[1, 0, 0, 0] },
            ];
            assert!(text(&exprs).matches.iter().all(|found| matches!(found, Match::Other(_))));
        }
    }
}
