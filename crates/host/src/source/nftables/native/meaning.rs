//! What a comparison means in the words of the model.

use super::super::expr::Op;
use super::super::field::{Field, Role, flag_bits, flag_names, interface};
use super::super::sets;
use super::sign;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use whydrop_model::netfilter::Match;

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
        Role::Source => Some(Match::Source(address(low)?, sets::prefix(low, high)?)),
        Role::Destination => Some(Match::Destination(address(low)?, sets::prefix(low, high)?)),
        Role::SourcePort => Some(Match::SourcePorts(port(low)?, port(high)?)),
        Role::DestinationPort => Some(Match::DestinationPorts(port(low)?, port(high)?)),
        Role::InInterface if same => interface(low).map(Match::InInterface),
        Role::OutInterface if same => interface(low).map(Match::OutInterface),
        Role::L4Proto if same => low.first().copied().map(Match::L4Proto),
        Role::CtState if same => {
            let names = flag_names(field.kind, flag_bits(field.kind, low)?)?;
            Some(Match::CtState(names.iter().map(|name| name.to_uppercase()).collect()))
        }
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
