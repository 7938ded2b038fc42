//! Rules of nft, read back as nft prints them.

mod meaning;
mod statement;

use super::Names;
use super::expr::{Expr, Op};
use super::field::{
    CT_MARK, Context, Field, Kind, L3, Load, META_IIFTYPE, META_L4PROTO, META_MARK, META_NFPROTO,
    META_PROTOCOL, Role, flag_bits, flag_names,
};
use super::sets::{self, Entry, Set, Sets};
use meaning::{address, compared, host, leading_ones, meaning, numgen, share, under_mask};
use whydrop_model::netfilter::{Family, Match, RuleVerdict};

/// A statement or condition of the rule.
struct Word {
    text: String,
    condition: Option<Match>,
}

/// What stands in a register.
#[derive(Clone, Copy)]
struct Register<'a> {
    /// Number in units of four bytes.
    slot: u32,
    load: Load<'a>,
    mask: Option<&'a [u8]>,
    /// Mask and turned bits of the only bitwise expression.
    bits: Option<(&'a [u8], &'a [u8])>,
    /// Brought to network byte order by a byteorder expression.
    swapped: bool,
    /// Changed in a way that is not followed.
    opaque: bool,
}

/// A rule in words.
pub(super) struct Reading {
    pub text: String,
    pub matches: Vec<Match>,
    pub verdict: RuleVerdict,
}

/// The only field that nft shifts before it compares.
const DSCP: &str = "ip dscp";

struct Reader<'a, 's> {
    context: Context,
    family: Family,
    names: &'s Names<'s>,
    sets: &'s Sets,
    registers: Vec<Register<'a>>,
    words: Vec<Word>,
    /// Words that nft leaves out when a field of that protocol follows.
    l3_word: Option<usize>,
    l4_word: Option<usize>,
    verdict: RuleVerdict,
}

/// Registers 1 to 4 hold 16 bytes, those from 8 on the same space in units of 4.
fn slot(register: u32) -> u32 {
    if register < 8 { register.saturating_sub(1) * 4 } else { register - 8 }
}

/// Reads the expressions of a rule.
pub(super) fn read(exprs: &[Expr<'_>], family: Family, names: &Names<'_>, sets: &Sets) -> Reading {
    let mut reader = Reader {
        context: Context::of(family),
        family,
        names,
        sets,
        registers: vec![],
        words: vec![],
        l3_word: None,
        l4_word: None,
        verdict: RuleVerdict::Continue,
    };
    let mut rest = exprs.iter().peekable();
    while let Some(expr) = rest.next() {
        if let Expr::Cmp { from, op: Op::Gte, value: low } = expr
            && let Some(Expr::Cmp { from: again, op: Op::Lte, value: high }) = rest.peek()
            && from == again
        {
            rest.next();
            reader.range(*from, false, low, high);
            continue;
        }
        reader.step(expr);
    }
    let matches = reader.words.iter().filter_map(|word| word.condition.clone()).collect();
    let words: Vec<&str> =
        reader.words.iter().map(|word| word.text.as_str()).filter(|t| !t.is_empty()).collect();
    Reading { text: words.join(" "), matches, verdict: reader.verdict }
}

impl<'a> Reader<'a, '_> {
    fn step(&mut self, expr: &Expr<'a>) {
        if let Some((register, load)) = Load::of(expr) {
            let slot = slot(register);
            self.registers.retain(|other| other.slot != slot);
            self.registers.push(Register {
                slot,
                load,
                mask: None,
                bits: None,
                swapped: false,
                opaque: false,
            });
            return;
        }
        match expr {
            Expr::Bitwise { from, to, mask, xor } => {
                let plain = xor.iter().all(|b| *b == 0) && from == to;
                self.change(*from, *to, |register| {
                    register.opaque |= register.mask.is_some() || !plain;
                    register.bits = register.mask.is_none().then_some((*mask, *xor));
                    register.mask = Some(mask);
                });
            }
            Expr::Byteorder { from, to } => self.change(*from, *to, |register| register.swapped = true),
            Expr::Cmp { from, op, value } => self.compare(*from, *op, value),
            Expr::Range { from, negated, low, high } => self.range(*from, *negated, low, high),
            Expr::Lookup { from, set, maps_to, negated } => self.lookup(*from, set, *maps_to, *negated),
            Expr::MetaSet { key: META_MARK, from } => self.set_mark("meta", *from),
            Expr::CtSet { key: CT_MARK, from } => self.set_mark("ct", *from),
            // It may have written any register.
            Expr::Other(_) | Expr::CtLoad { .. } => {
                self.registers.clear();
                self.statement(expr);
            }
            other => self.statement(other),
        }
    }

    fn change(&mut self, from: u32, to: u32, with: impl Fn(&mut Register<'a>)) {
        let (from, to) = (slot(from), slot(to));
        if from != to {
            self.registers.retain(|register| register.slot != to);
        }
        if let Some(register) = self.registers.iter_mut().find(|register| register.slot == from) {
            register.slot = to;
            with(register);
        }
    }

    fn register(&self, number: u32) -> Option<Register<'a>> {
        let wanted = slot(number);
        self.registers.iter().find(|register| register.slot == wanted && !register.opaque).copied()
    }

    fn say(&mut self, text: String) {
        self.words.push(Word { text, condition: None });
    }

    fn condition(&mut self, text: String, condition: Option<Match>) {
        let condition = Some(condition.unwrap_or_else(|| Match::Other(text.clone())));
        self.words.push(Word { text, condition });
    }

    /// Something that is not decoded.
    fn unknown(&mut self, what: &str) {
        let text = format!("?{what}");
        self.condition(text, None);
    }

    fn compare(&mut self, from: u32, op: Op, value: &'a [u8]) {
        if self.register(from).and_then(|register| self.compared(register, op, value)).is_none() {
            self.unknown("cmp");
        }
    }

    fn compared(&mut self, register: Register<'a>, op: Op, value: &'a [u8]) -> Option<()> {
        if let Load::Numgen { modulus, random, offset } = register.load {
            let number = numgen(register.swapped, value)?;
            let (text, condition) = share(modulus, random, offset, op, number);
            self.condition(text, condition);
            return Some(());
        }
        let fields = self.context.fields(register.load)?;
        let [field] = fields.as_slice() else {
            // Several fields in one load: only equality can be split.
            (op == Op::Eq && register.mask.is_none()).then_some(())?;
            let mut at = 0;
            for field in &fields {
                let len = usize::try_from(field.len).ok()?;
                self.equal(*field, op, value.get(at..at + len)?)?;
                at += len;
            }
            return Some(());
        };
        if let Some(mask) = register.mask {
            return self.masked(*field, op, value, mask);
        }
        if matches!(field.kind, Kind::Ip4 | Kind::Ip6) && value.len() < usize::try_from(field.len).ok()? {
            let prefix = u8::try_from(value.len() * 8).ok()?;
            let mut whole = value.to_vec();
            whole.resize(usize::try_from(field.len).ok()?, 0);
            return self.network(*field, op, &whole, prefix);
        }
        if self.implied(register.load, op, value) {
            return Some(());
        }
        if register.swapped {
            // A host number that nft compares in network byte order.
            let number = u32::from_be_bytes(value.try_into().ok()?);
            return self.equal(*field, op, &number.to_ne_bytes());
        }
        self.equal(*field, op, value)
    }

    /// Keeps what a condition says about the protocol; true if nft would leave the condition out for good.
    fn implied(&mut self, load: Load<'a>, op: Op, value: &[u8]) -> bool {
        let next = Some(self.words.len());
        let first = value.first().copied();
        match (load, op) {
            (Load::Meta(META_NFPROTO), Op::Eq) => {
                self.context.l3 = match first {
                    Some(2) => Some(L3::V4),
                    Some(10) => Some(L3::V6),
                    _ => None,
                };
                self.l3_word = next;
            }
            (Load::Meta(META_PROTOCOL), Op::Eq) | (Load::Payload { base: 0, offset: 12, len: 2 }, Op::Eq) => {
                self.context.l3 = match value {
                    [0x08, 0x00] => Some(L3::V4),
                    [0x86, 0xdd] => Some(L3::V6),
                    [0x08, 0x06] => Some(L3::Arp),
                    _ => None,
                };
                self.l3_word = next;
            }
            (Load::Meta(META_L4PROTO), Op::Eq) => {
                self.context.l4 = first;
                self.l4_word = next;
            }
            // `ether saddr` asks for an Ethernet device first.
            (Load::Meta(META_IIFTYPE), Op::Eq) => return true,
            _ => (),
        }
        false
    }

    /// Takes back the conditions that a field of this header implies.
    fn implies(&mut self, field: Field) {
        let network =
            field.name.starts_with("ip ") || field.name.starts_with("ip6 ") || field.name.starts_with("arp ");
        let icmp = field.name.starts_with("icmp");
        let transport = icmp || ["tcp ", "udp ", "sctp "].iter().any(|name| field.name.starts_with(name));
        if (network || icmp)
            && let Some(word) = self.l3_word.take().and_then(|at| self.words.get_mut(at))
        {
            // The model keeps the protocol.
            word.text = String::new();
        }
        if transport && let Some(word) = self.l4_word.take().and_then(|at| self.words.get_mut(at)) {
            word.text = String::new();
        }
    }

    /// A comparison of a whole field.
    fn equal(&mut self, field: Field, op: Op, value: &[u8]) -> Option<()> {
        let shown = field.kind.show(value)?;
        let condition = compared(field, op, value);
        self.implies(field);
        if field.role == Role::L4Proto && op == Op::Eq {
            self.context.l4 = value.first().copied();
            self.l4_word = Some(self.words.len());
        }
        // A bare value of flags means any of them; equality needs its sign.
        let flags = flag_bits(field.kind, value).is_some();
        let text = format!("{}{} {shown}", field.name, sign(op, flags));
        self.condition(text, condition);
        Some(())
    }

    /// A comparison under a mask: networks, flags, marks, DSCP.
    fn masked(&mut self, field: Field, op: Op, value: &[u8], mask: &[u8]) -> Option<()> {
        (op == Op::Eq || op == Op::Neq).then_some(())?;
        if matches!(field.kind, Kind::Ip4 | Kind::Ip6) {
            let ones: u32 = mask.iter().map(|b| b.count_ones()).sum();
            let prefix = u8::try_from(ones).ok()?;
            (leading_ones(mask) == ones).then_some(())?;
            return self.network(field, op, value, prefix);
        }
        self.implies(field);
        let name = field.name;
        if let Some(bits) = flag_bits(field.kind, mask) {
            let asked = flag_names(field.kind, bits)?;
            let wanted = flag_bits(field.kind, value)?;
            let text = match (wanted, op) {
                (0, Op::Neq) => format!("{name} {}", asked.join(",")),
                (0, _) => format!("{name} ! {}", asked.join(",")),
                // Older releases of nft list it as `syn / syn,ack`, but all take this.
                (_, op) => {
                    let mask = match asked.as_slice() {
                        [one] => (*one).to_owned(),
                        several => format!("({})", several.join(" | ")),
                    };
                    format!("{name} & {mask}{} {}", sign(op, true), field.kind.show(value)?)
                }
            };
            let states = || Match::CtState(asked.iter().map(|name| name.to_uppercase()).collect());
            let condition = match (field.role, wanted) {
                (Role::CtState, 0) => Some(states().unless(op == Op::Eq)),
                _ => under_mask(field, op, value, mask),
            };
            self.condition(text, condition);
            return Some(());
        }
        let condition = under_mask(field, op, value, mask);
        if let (DSCP, [mask @ 0xfc], [value]) = (name, mask, value) {
            let value = value >> mask.trailing_zeros();
            self.condition(format!("{name}{} 0x{value:02x}", sign(op, false)), condition);
            return Some(());
        }
        matches!(field.kind, Kind::Mark | Kind::Number | Kind::Bits).then_some(())?;
        let (value, mask) = (field.kind.show(value)?, field.kind.show(mask)?);
        self.condition(format!("{name} & {mask}{} {value}", sign(op, true)), condition);
        Some(())
    }

    fn network(&mut self, field: Field, op: Op, value: &[u8], prefix: u8) -> Option<()> {
        let text = format!("{}{} {}/{prefix}", field.name, sign(op, false), field.kind.show(value)?);
        let ip = address(value)?;
        let condition = match (field.role, op) {
            (Role::Source, Op::Eq) => Some(Match::Source(ip, prefix)),
            (Role::Destination, Op::Eq) => Some(Match::Destination(ip, prefix)),
            (Role::Source, Op::Neq) => Some(Match::Not(Box::new(Match::Source(ip, prefix)))),
            (Role::Destination, Op::Neq) => Some(Match::Not(Box::new(Match::Destination(ip, prefix)))),
            _ => None,
        };
        self.implies(field);
        self.condition(text, condition);
        Some(())
    }

    fn range(&mut self, from: u32, negated: bool, low: &[u8], high: &[u8]) {
        let found = self.register(from).filter(|register| register.mask.is_none()).and_then(|register| {
            let fields = self.context.fields(register.load)?;
            let [field] = fields.as_slice() else { return None };
            let op = if negated { Op::Neq } else { Op::Eq };
            let (low, high) =
                if register.swapped { (host(low)?, host(high)?) } else { (low.into(), high.into()) };
            let shown = format!("{}-{}", field.kind.show(&low)?, field.kind.show(&high)?);
            Some((*field, format!("{}{} {shown}", field.name, sign(op, false)), low, high))
        });
        let Some((field, text, low, high)) = found else { return self.unknown("range") };
        self.implies(field);
        let found = meaning(field, &low, &high);
        self.condition(text, if negated { found.map(|found| Match::Not(Box::new(found))) } else { found });
    }

    fn lookup(&mut self, from: u32, set: &str, maps_to: Option<u32>, negated: bool) {
        if self.looked_up(from, set, maps_to, negated).is_some() {
            return;
        }
        self.unknown(if maps_to.is_some() { "map" } else { "lookup" });
        match maps_to {
            // What it says is not known, but it says something.
            Some(0) => self.verdict = RuleVerdict::Other("vmap".to_owned()),
            Some(register) => self.registers.retain(|other| other.slot != slot(register)),
            None => {}
        }
    }

    fn looked_up(&mut self, from: u32, name: &str, maps_to: Option<u32>, negated: bool) -> Option<()> {
        // Register 0 takes verdicts; maps of values feed a later expression.
        maps_to.is_none_or(|register| register == 0).then_some(())?;
        let set = sets::find(self.sets, self.names, name)?;
        let (mut at, mut left) = (slot(from), i64::from(set.key_len));
        let mut fields = vec![];
        while left > 0 {
            let register = self.registers.iter().find(|r| r.slot == at && !r.opaque)?;
            register.mask.is_none().then_some(())?;
            for field in self.context.fields(register.load)? {
                at += field.len.div_ceil(4);
                left -= i64::from(field.len.next_multiple_of(4));
                let kind = match field.kind {
                    // Intervals are kept in network byte order.
                    Kind::HostNumber if register.swapped => Kind::Number,
                    _ if register.swapped && field.len > 1 => return None,
                    kind => kind,
                };
                fields.push(Field { kind, ..field });
            }
        }
        let shown = if set.is_anonymous() { set.show(&fields)? } else { format!("@{name}") };
        for field in &fields {
            self.implies(*field);
        }
        let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
        let sign = if negated { " !=" } else { "" };
        let vmap = if maps_to.is_some() { " vmap" } else { "" };
        let text = format!("{}{sign}{vmap} {shown}", names.join(" . "));
        let members = members(set, &fields);
        if maps_to.is_some() {
            let entries = members.and_then(|members| {
                members.into_iter().map(|(key, verdict)| Some((key, verdict?))).collect::<Option<_>>()
            });
            self.verdict = entries.map_or_else(|| RuleVerdict::Other("vmap".to_owned()), RuleVerdict::Map);
            self.say(text);
        } else {
            let any = members.map(|members| Match::AnyOf(members.into_iter().map(|(key, _)| key).collect()));
            let condition = if negated { any.map(|any| Match::Not(Box::new(any))) } else { any };
            self.condition(text, condition);
        }
        Some(())
    }
}

/// The elements of a set as conditions; none if they are not known, or may change with each packet.
fn members(set: &Set, fields: &[Field]) -> Option<Vec<(Match, Option<RuleVerdict>)>> {
    let member = |entry: Entry<'_>| {
        let condition = key(&entry, fields).unwrap_or_else(|| Match::Other(format!("@{}", set.name)));
        (condition, entry.verdict.map(|(_, verdict)| verdict.clone()))
    };
    let mut members: Vec<_> = set.entries(fields)?.into_iter().map(member).collect();
    // What no other element fits; it has no condition of its own.
    members.extend(
        set.rest().map(|verdict| (Match::AllOf(vec![]), verdict.map(|(_, verdict)| verdict.clone()))),
    );
    Some(members)
}

/// One element: its fields, each padded to four bytes.
fn key(entry: &Entry<'_>, fields: &[Field]) -> Option<Match> {
    let (mut at, mut parts) = (0_usize, vec![]);
    for field in fields {
        let len = usize::try_from(field.len).ok()?;
        let range = at..at.checked_add(len)?;
        parts.push(meaning(*field, entry.low.get(range.clone())?, entry.high.get(range)?)?);
        at += len.next_multiple_of(4);
    }
    match parts.len() {
        1 => parts.pop(),
        _ => Some(Match::AllOf(parts)),
    }
}

/// The sign between a field and its value; equality is written only where leaving it out means something else.
fn sign(op: Op, explicit: bool) -> &'static str {
    match op {
        Op::Eq if explicit => " ==",
        Op::Eq => "",
        Op::Neq => " !=",
        Op::Lt => " <",
        Op::Lte => " <=",
        Op::Gt => " >",
        Op::Gte => " >=",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::nftables::expr::Verdict;

    fn text(exprs: &[Expr<'_>], family: Family) -> Reading {
        read(exprs, family, &Names { family: 1, table: "t" }, &Sets::new())
    }

    #[test]
    fn a_dependency_is_not_written() {
        let exprs = [
            Expr::MetaLoad { key: META_NFPROTO, to: 1 },
            Expr::Cmp { from: 1, op: Op::Eq, value: &[2] },
            Expr::Payload { base: 1, offset: 12, len: 1, to: 1 },
            Expr::Cmp { from: 1, op: Op::Eq, value: &[10] },
            Expr::MetaLoad { key: META_L4PROTO, to: 1 },
            Expr::Cmp { from: 1, op: Op::Eq, value: &[6] },
            Expr::Payload { base: 2, offset: 0, len: 4, to: 1 },
            Expr::Cmp { from: 1, op: Op::Eq, value: &[0, 1, 0, 2] },
            Expr::Counter { packets: 0, bytes: 0 },
            Expr::Verdict(Verdict { code: 0, chain: None }),
        ];
        let rule = text(&exprs, Family::Inet);
        assert_eq!(rule.text, "ip saddr 10.0.0.0/8 tcp sport 1 tcp dport 2 counter drop");
        assert_eq!(rule.verdict, RuleVerdict::Drop);
        assert_eq!(
            rule.matches,
            [
                Match::equals(whydrop_model::netfilter::Field::NetworkProtocol, 2),
                Match::Source("10.0.0.0".parse().unwrap(), 8),
                Match::L4Proto(6),
                Match::SourcePorts(1, 1),
                Match::DestinationPorts(2, 2),
            ]
        );
    }

    #[test]
    fn flags_are_written_as_every_nft_takes_them() {
        let flags = |op, mask: Option<&'static [u8]>, value: &'static [u8]| {
            let mut exprs = vec![
                Expr::MetaLoad { key: META_L4PROTO, to: 1 },
                Expr::Cmp { from: 1, op: Op::Eq, value: &[6] },
                Expr::Payload { base: 2, offset: 13, len: 1, to: 1 },
                Expr::Cmp { from: 1, op, value },
            ];
            if let Some(mask) = mask {
                exprs.insert(3, Expr::Bitwise { from: 1, to: 1, mask, xor: &[0] });
            }
            text(&exprs, Family::Inet).text
        };
        assert_eq!(flags(Op::Eq, Some(&[0x12]), &[2]), "tcp flags & (syn | ack) == syn");
        assert_eq!(
            flags(Op::Neq, Some(&[0x17]), &[0x12]),
            "tcp flags & (fin | syn | rst | ack) != syn | ack"
        );
        assert_eq!(flags(Op::Eq, Some(&[2]), &[2]), "tcp flags & syn == syn");
        assert_eq!(flags(Op::Neq, Some(&[0x12]), &[0]), "tcp flags syn,ack");
        assert_eq!(flags(Op::Eq, Some(&[0x12]), &[0]), "tcp flags ! syn,ack");
        assert_eq!(flags(Op::Eq, None, &[0x12]), "tcp flags == syn | ack");
        assert_eq!(flags(Op::Neq, None, &[0]), "tcp flags != 0x0");
    }

    /// `ip saddr 10.0.0.1 tcp option maxseg size 536`: the second load is not decoded, and stands where the first was.
    #[test]
    fn a_load_that_is_not_decoded_is_not_taken_for_the_one_before() {
        for load in [Expr::Other("exthdr"), Expr::CtLoad { key: 8, to: 1, direction: Some(0) }] {
            let exprs = [
                Expr::Payload { base: 1, offset: 12, len: 4, to: 1 },
                Expr::Cmp { from: 1, op: Op::Eq, value: &[10, 0, 0, 1] },
                load,
                Expr::Cmp { from: 1, op: Op::Eq, value: &[2, 24] },
            ];
            let rule = text(&exprs, Family::Ip);
            let others = rule.matches.iter().filter(|found| matches!(found, Match::Other(_))).count();
            assert_eq!((rule.matches.len(), others), (3, 2), "{}", rule.text);
            assert_eq!(rule.matches[0], Match::Source("10.0.0.1".parse().unwrap(), 32));
        }
    }

    #[test]
    fn numgen_is_a_share() {
        let exprs = [
            Expr::Numgen { modulus: 100, random: true, offset: 0, to: 1 },
            Expr::Byteorder { from: 1, to: 1 },
            Expr::Cmp { from: 1, op: Op::Lt, value: &[0, 0, 0, 30] },
            Expr::Verdict(Verdict { code: 0, chain: None }),
        ];
        let rule = text(&exprs, Family::Inet);
        assert_eq!(rule.text, "numgen random mod 100 < 30 drop");
        assert_eq!(rule.matches, [Match::Random(0.3)]);
    }
}
