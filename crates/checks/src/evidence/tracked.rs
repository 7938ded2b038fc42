//! What connection tracking still knows of connections, held against what the rules would do now.

use super::case::Space;
use super::packet::Packet;
use super::route::{self, Lookup};
use super::walk::{End, Rules};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use whydrop_model::netfilter::Hook;
use whydrop_model::snapshot::{ConntrackEntry, Tuple};

/// Entries of a namespace at the end of the window; none if they were not read.
pub fn entries<'a>(space: Space<'a>) -> impl Iterator<Item = &'a ConntrackEntry> {
    space.after.conntrack_entries.get().into_iter().flat_map(|all| &all.items)
}

/// True if all entries are known, so that a missing one is truly not there.
pub fn is_complete(space: Space<'_>) -> bool {
    space.after.conntrack_entries.get().is_some_and(|all| !all.more)
}

/// Where it goes.
pub const fn to(tuple: &Tuple) -> SocketAddr {
    SocketAddr::new(tuple.destination, tuple.destination_port)
}

/// Where it comes from.
pub const fn from(tuple: &Tuple) -> SocketAddr {
    SocketAddr::new(tuple.source, tuple.source_port)
}

/// A counter of connection tracking: its rise in the window.
pub fn rise(space: Space<'_>, names: &[&str]) -> u64 {
    let (Some(before), Some(after)) = (space.before.conntrack.get(), space.after.conntrack.get()) else {
        return 0;
    };
    let one = |name: &&str| {
        let old = before.stats.get(*name).copied();
        whydrop_model::delta::Change::of(old, after.stats.get(*name).copied()).risen()
    };
    names.iter().map(one).max().unwrap_or(0)
}

/// The first packet of a connection as it comes to this namespace, and the hook that it meets first.
pub fn first_packet(space: Space<'_>, tuple: &Tuple) -> (Hook, Packet) {
    let own = space.after.owns(tuple.source);
    let link = |ip| match route::lookup(space, ip, None) {
        Lookup::Via(_, hop) => hop.link.map(|link| space.after.link_name(link)),
        _ => None,
    };
    let has_ports = matches!(tuple.protocol, 6 | 17 | 33 | 132 | 136);
    let packet = Packet {
        protocol: tuple.protocol,
        source: Some(tuple.source),
        destination: Some(tuple.destination),
        source_port: Some(tuple.source_port).filter(|_| has_ports),
        destination_port: Some(tuple.destination_port).filter(|_| has_ports),
        in_interface: if own { None } else { link(tuple.source) },
        out_interface: if own { link(tuple.destination) } else { None },
        ..Packet::default()
    };
    (if own { Hook::Output } else { Hook::Prerouting }, packet)
}

/// Where the rules would send the first packet of a connection now; none if that cannot be told.
pub fn sent_now(space: Space<'_>, rules: &Rules<'_>, tuple: &Tuple) -> Option<SocketAddr> {
    let (hook, packet) = first_packet(space, tuple);
    let walk = rules.at_hook(hook, &packet);
    if walk.endings().any(|ending| matches!(ending.end, End::Unknown(_))) {
        return None;
    }
    let [(_, shape)] = walk.packets.as_slice() else { return None };
    Some(SocketAddr::new(shape.destination?, shape.destination_port?))
}

/// Where connections of a client for this address and port were sent: several places, where a rule chooses.
pub fn sent_to(space: Space<'_>, protocol: u8, client: IpAddr, asked: SocketAddr) -> BTreeSet<SocketAddr> {
    let of_client = entries(space).filter(|entry| {
        let original = &entry.original;
        (original.protocol, original.source, to(original)) == (protocol, client, asked)
    });
    of_client.filter(|entry| entry.is("dst_nat")).map(|entry| from(&entry.reply)).collect()
}

/// Where connections for this address and port were sent before, if the rules send new ones nowhere else now.
pub fn sent_before(space: Space<'_>, protocol: u8, asked: SocketAddr) -> Option<SocketAddr> {
    let mut old = entries(space).filter(|entry| {
        entry.original.protocol == protocol && to(&entry.original) == asked && entry.is("dst_nat")
    });
    let entry = old.next()?;
    let gone = || {
        let rules = Rules::of(space.after);
        sent_now(space, &rules, &entry.original) == Some(asked)
    };
    Some(from(&entry.reply)).filter(|_| gone())
}
