//! Source ports that translations may choose from, and how many of them are in use towards one destination.

use super::case::Space;
use super::packet::{Fit, Packet};
use super::tracked;
use super::walk::{RuleAt, Rules};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use whydrop_model::netfilter::{Nat, RuleVerdict};

/// Without a range the kernel takes these for ports from 1024 on (`nf_nat_l4proto_unique_tuple()`).
const UNPRIVILEGED: (u16, u16) = (1024, 65535);
/// It looks at no more than 128 ports of a wide range before it gives up: one free port of so many is none.
const FREE_SHARE: usize = 20;

/// A rule whose ports are used up towards one destination.
#[derive(Clone, Copy, Debug)]
pub struct Full<'a> {
    /// The rule.
    pub at: RuleAt<'a>,
    /// IP protocol.
    pub protocol: u8,
    /// The destination.
    pub to: SocketAddr,
    /// Ports in use.
    pub used: usize,
    /// Ports that there are.
    pub all: usize,
}

/// The rule that translates the packet's source, if its ports are used up towards where the packet goes and new entries
/// could not be inserted in the window.
pub fn full<'a>(space: Space<'a>, rules: &Rules<'a>, packet: &Packet) -> Option<Full<'a>> {
    let to = SocketAddr::new(packet.destination?, packet.destination_port?);
    let (at, nat) = translates(space, rules, packet)?;
    let (low, high) = nat.ports.unwrap_or(UNPRIVILEGED);
    let addresses: BTreeSet<IpAddr> = match nat.addresses {
        Some((first, last)) if first == last => BTreeSet::from([first]),
        // A pool is judged by what is in use of it.
        Some((first, last)) => used_by(space, packet.protocol, to, (low, high))
            .map(|reply| reply.0)
            .filter(|ip| (first..=last).contains(ip))
            .collect(),
        None => used_by(space, packet.protocol, to, (low, high)).map(|reply| reply.0).collect(),
    };
    let pool = nat.addresses.map_or(Some(1), |(first, last)| size(first, last))?.max(addresses.len());
    let used: BTreeSet<(IpAddr, u16)> =
        used_by(space, packet.protocol, to, (low, high)).filter(|(ip, _)| addresses.contains(ip)).collect();
    let all = (usize::from(high.saturating_sub(low)) + 1).saturating_mul(pool);
    let failed = tracked::rise(space, &["insert_failed", "drop"]) > 0;
    // Entries that end while the table is read are free again.
    let free = 1.max(all / FREE_SHARE);
    (failed && used.len() + free >= all).then_some(Full {
        at,
        protocol: packet.protocol,
        to,
        used: used.len(),
        all,
    })
}

/// How many addresses a pool has; none for one that is too large to be used up.
fn size(first: IpAddr, last: IpAddr) -> Option<usize> {
    match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => usize::try_from(u32::from(b).saturating_sub(u32::from(a))).ok(),
        (IpAddr::V6(a), IpAddr::V6(b)) => usize::try_from(u128::from(b).saturating_sub(u128::from(a))).ok(),
        _ => None,
    }?
    .checked_add(1)
}

/// Translated addresses and ports that are in use towards a destination.
fn used_by<'a>(
    space: Space<'a>,
    protocol: u8,
    to: SocketAddr,
    (low, high): (u16, u16),
) -> impl Iterator<Item = (IpAddr, u16)> + 'a {
    tracked::entries(space)
        .map(|entry| &entry.reply)
        .filter(move |reply| reply.protocol == protocol && tracked::from(reply) == to)
        .map(|reply| (reply.destination, reply.destination_port))
        .filter(move |(_, port)| (low..=high).contains(port))
}

fn translates<'a>(space: Space<'a>, rules: &Rules<'a>, packet: &Packet) -> Option<(RuleAt<'a>, &'a Nat)> {
    let chains = space.after.chains().filter(|chain| chain.nat);
    let all = chains.flat_map(|chain| chain.rules.iter().map(move |rule| RuleAt { chain, rule }));
    all.filter(|at| rules.fits(at.rule, packet) != Fit::No).find_map(|at| match &at.rule.verdict {
        RuleVerdict::Nat(nat) if nat.kind.of_source() => Some((at, &**nat)),
        _ => None,
    })
}
