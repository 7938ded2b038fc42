//! What a comparison means in the words of the model.

use super::super::expr::Op;
use super::super::field::{Field, Role, flag_bits, flag_names, interface};
use super::super::sets;
use super::sign;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use whydrop_model::netfilter::{Field as Number, Match};

pub(super) fn leading_ones(mask: &[u8]) -> u32 {
    let full = mask.iter().take_while(|b| **b == 0xff).count();
    let rest = mask.get(full).map_or(0, |b| b.leading_ones());
    u32::try_from(full * 8).unwrap_or(u32::MAX).saturating_add(rest)
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|b| IpAddr::V4(Ipv4Addr::from(b))),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|b| IpAddr::V6(Ipv6Addr::from(b))),
        _ => None,
    }
}

/// Brings a number of four bytes from network to host byte order.
pub(super) fn host(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?).to_ne_bytes().into())
}

/// The model's word for a field between two values, if it has one.
pub(super) fn meaning(field: Field, low: &[u8], high: &[u8]) -> Option<Match> {
    let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.try_into().ok()?));
    let same = low == high;
    match field.role {
        Role::Source => {
            sets::prefix(low, high).zip(address(low)).map(|(prefix, ip)| Match::Source(ip, prefix))
        }
        Role::Destination => {
            sets::prefix(low, high).zip(address(low)).map(|(prefix, ip)| Match::Destination(ip, prefix))
        }
        Role::SourcePort => Some(Match::SourcePorts(port(low)?, port(high)?)),
        Role::DestinationPort => Some(Match::DestinationPorts(port(low)?, port(high)?)),
        Role::InInterface if same => interface(low).map(Match::InInterface),
        Role::OutInterface if same => interface(low).map(Match::OutInterface),
        Role::L4Proto if same => low.first().copied().map(Match::L4Proto),
        Role::CtState if same => {
            // A packet is in one state: two of them together never fit.
            let names = flag_names(field.kind, flag_bits(field.kind, low)?)?;
            (names.len() == 1).then(|| Match::CtState(names.iter().map(|name| name.to_uppercase()).collect()))
        }
        Role::Number(number) => {
            // With its flags, which the model's field is without.
            (number != Number::FragmentOffset).then_some(())?;
            let (low, high) = (field.kind.number(low)?, field.kind.number(high)?);
            Some(Match::Number { field: number, mask: u32::MAX, low, high })
        }
        _ => None,
    }
    .or_else(|| range(field, low, high))
}

/// Addresses that are no whole network.
fn range(field: Field, low: &[u8], high: &[u8]) -> Option<Match> {
    match field.role {
        Role::Source => Some(Match::SourceRange(address(low)?, address(high)?)),
        Role::Destination => Some(Match::DestinationRange(address(low)?, address(high)?)),
        _ => None,
    }
}

/// What comparing a whole field with a value asks.
pub(super) fn compared(field: Field, op: Op, value: &[u8]) -> Option<Match> {
    let (least, most) = (vec![0; value.len()], vec![0xff; value.len()]);
    let from_here = || meaning(field, value, &most);
    let up_to_here = || meaning(field, &least, value);
    // Order is that of numbers; addresses and names are only equal or not.
    let ordered = matches!(field.role, Role::SourcePort | Role::DestinationPort | Role::Number(_));
    match op {
        Op::Eq => meaning(field, value, value),
        Op::Neq => meaning(field, value, value).map(|found| found.unless(true)),
        _ if !ordered => None,
        // Below is what is not from here on.
        Op::Lt => from_here().map(|found| found.unless(true)),
        Op::Gte => from_here(),
        Op::Lte => up_to_here(),
        Op::Gt => up_to_here().map(|found| found.unless(true)),
    }
}

/// What comparing a field under a mask asks.
pub(super) fn under_mask(field: Field, op: Op, value: &[u8], mask: &[u8]) -> Option<Match> {
    let Role::Number(number) = field.role else { return None };
    let (wanted, mask) = (field.kind.number(value)?, field.kind.number(mask)?);
    // The upper three bits of a fragment's offset are flags.
    (number != Number::FragmentOffset || mask & !0x1fff == 0).then_some(())?;
    let equal = Match::Number { field: number, mask, low: wanted, high: wanted };
    match op {
        Op::Eq => Some(equal),
        Op::Neq => Some(equal.unless(true)),
        _ => None,
    }
}

pub(super) fn numgen(swapped: bool, value: &[u8]) -> Option<u32> {
    let bytes = value.try_into().ok()?;
    Some(if swapped { u32::from_be_bytes(bytes) } else { u32::from_ne_bytes(bytes) })
}

/// `numgen random mod 100 < 30`, and the share of packets behind it.
pub(super) fn share(modulus: u32, random: bool, offset: u32, op: Op, number: u32) -> (String, Option<Match>) {
    let kind = if random { "random" } else { "inc" };
    let shift = if offset == 0 { String::new() } else { format!(" offset {offset}") };
    let text = format!("numgen {kind} mod {modulus}{shift}{} {number}", sign(op, false));
    let total = f64::from(modulus);
    let below = f64::from(number.min(modulus)) / total;
    let one = 1.0 / total;
    let condition = match op {
        _ if offset != 0 || number >= modulus || modulus == 0 => None,
        Op::Eq if !random => Some(Match::Nth(modulus)),
        _ if !random => None,
        Op::Eq => Some(Match::Random(one)),
        Op::Neq => Some(Match::Random(1.0 - one)),
        Op::Lt => Some(Match::Random(below)),
        Op::Lte => Some(Match::Random(below + one)),
        Op::Gt => Some(Match::Random(1.0 - below - one)),
        Op::Gte => Some(Match::Random(1.0 - below)),
    };
    (text, condition)
}
