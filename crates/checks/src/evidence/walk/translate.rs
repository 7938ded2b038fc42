//! What a NAT rule makes of a packet.

use super::super::packet::Packet;
use super::chain::Walker;
use super::fit::FIRST_UNPRIVILEGED_PORT;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use whydrop_model::netfilter::{Field, Hook, Nat, NatKind};
use whydrop_model::network::contains;
use whydrop_model::snapshot::Address;

/// `IPS_SRC_NAT`, `IPS_DST_NAT`: what the translation leaves in the status of the connection.
const SOURCE_STATUS: u32 = 1 << 4;
const DESTINATION_STATUS: u32 = 1 << 5;

/// The packet behind a translation; none if address or port cannot be told.
pub(super) fn translated(walker: &Walker<'_, '_>, nat: &Nat) -> Option<Packet> {
    let mut packet = walker.packet.clone();
    if !nat.known {
        return None;
    }
    let port = match nat.ports {
        Some((low, high)) if low == high => Some(Some(low)),
        // One of several: an ephemeral one is known as such.
        Some((low, _)) if low >= FIRST_UNPRIVILEGED_PORT => Some(None),
        Some(_) => return None,
        None => None,
    };
    let address = match (nat.kind, nat.addresses) {
        (_, Some((first, last))) if first == last => Some(first),
        (_, Some(_)) => return None,
        (NatKind::Masquerade, None) => Some(own_address(walker, packet.out_interface.as_deref())?),
        (NatKind::Redirect, None) if walker.hook == Some(Hook::Output) => {
            let v6 = packet.is_v6()?;
            Some(if v6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) })
        }
        (NatKind::Redirect, None) => Some(own_address(walker, packet.in_interface.as_deref())?),
        (NatKind::Source | NatKind::Destination, None) => None,
    };
    let (to_address, to_port, status) = if nat.kind.of_source() {
        (&mut packet.source, &mut packet.source_port, SOURCE_STATUS)
    } else {
        (&mut packet.destination, &mut packet.destination_port, DESTINATION_STATUS)
    };
    *to_address = address.or(*to_address);
    if let Some(port) = port {
        *to_port = port;
    }
    if let Some(known) = packet.fields.get_mut(&Field::CtStatus) {
        *known |= status;
    }
    Some(packet)
}

/// The address of an interface, if it has only one of the packet's family that the kernel could take: the first in the
/// network of the next hop (`inet_select_addr()`), which is the destination where that is near.
fn own_address(walker: &Walker<'_, '_>, name: Option<&str>) -> Option<IpAddr> {
    let snapshot = walker.rules.snapshot;
    let (v6, link) = (walker.packet.is_v6()?, snapshot.link_named(name?)?);
    let local_only = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let mut own = snapshot
        .addresses
        .iter()
        .filter(|a| a.link == link.index && a.ip.is_ipv6() == v6 && !local_only(&a.ip))
        .filter(|a| !a.flags.iter().any(|flag| flag == "secondary"));
    let first = own.next()?;
    let more: Vec<_> = own.collect();
    let near = |a: &&Address| walker.packet.destination.is_some_and(|to| contains(a.ip, a.prefix, to));
    let only = more.is_empty().then_some(first);
    only.or_else(|| std::iter::once(first).chain(more).find(near)).map(|address| address.ip)
}
