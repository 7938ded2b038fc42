//! Multicast forwarding of bridges: RTM_GETMDB.

use crate::error::Result;
use crate::sys::attributes::{Attributes, ip};
use crate::sys::netlink::Netlink;
use netlink_bindings::utils::{parse_u16, parse_u32};
use std::net::IpAddr;
use whydrop_model::snapshot::{Link, MdbEntry, RouterPort};
use whydrop_model::{Bounded, text};

/// Entries beyond these are not kept.
const MAX_ENTRIES: usize = 16_384;

/// Length of struct br_port_msg.
const HEADER: usize = 8;

// MDBA_* (include/uapi/linux/if_bridge.h).
const MDBA_MDB: u16 = 1;
const MDBA_ROUTER: u16 = 2;
const MDBA_MDB_ENTRY: u16 = 1;
const MDBA_MDB_ENTRY_INFO: u16 = 1;
const MDBA_ROUTER_PORT: u16 = 1;

/// Entries, and ports behind which a multicast router is.
pub type Forwarding = (Bounded<MdbEntry>, Vec<RouterPort>);

/// Of all bridges of the calling thread's namespace; not asked for without a bridge. Absent if the kernel has no
/// snooping (CONFIG_BRIDGE_IGMP_SNOOPING). Needs no privilege.
pub fn read(route: &mut Netlink, links: &[Link]) -> Result<Forwarding> {
    let (mut items, mut routers) = (Vec::new(), Vec::new());
    if links.iter().any(|link| link.kind.as_deref() == Some("bridge")) {
        let mut header = [0; HEADER];
        header[0] = libc::AF_BRIDGE as u8;
        let object = text!("the multicast forwarding entries", "组播转发表项");
        for (entries, ports) in route.dump_raw(object, libc::RTM_GETMDB, &header, parse)? {
            items.extend(entries);
            routers.extend(ports);
        }
    }
    let more = items.len() > MAX_ENTRIES;
    items.truncate(MAX_ENTRIES);
    Ok((Bounded { items, more }, routers))
}

/// One bridge.
fn parse(message: &[u8]) -> Option<(Vec<MdbEntry>, Vec<RouterPort>)> {
    let bridge = parse_u32(message.get(4..)?)?;
    let attributes = Attributes::after(message, HEADER)?;
    let groups = attributes.nested(MDBA_MDB).into_iter().flat_map(Attributes::iter);
    let infos =
        groups.filter(|(kind, _)| *kind == MDBA_MDB_ENTRY).flat_map(|(_, group)| Attributes(group).iter());
    let entries = infos.filter(|(kind, _)| *kind == MDBA_MDB_ENTRY_INFO).map(|(_, info)| entry(bridge, info));
    let routers = attributes.nested(MDBA_ROUTER).into_iter().flat_map(Attributes::iter);
    let ports = routers
        .filter(|(kind, _)| *kind == MDBA_ROUTER_PORT)
        .map(|(_, port)| Some(RouterPort { bridge, port: parse_u32(port)? }));
    Some((entries.collect::<Option<_>>()?, ports.collect::<Option<_>>()?))
}

/// struct br_mdb_entry: interface, state, flags, VLAN id, address of 16 bytes, protocol in network order.
fn entry(bridge: u32, info: &[u8]) -> Option<MdbEntry> {
    let protocol = u16::from_be(parse_u16(info.get(24..)?)?);
    let group: Option<IpAddr> = match i32::from(protocol) {
        libc::ETH_P_IP => Some(ip(info.get(8..12)?)?),
        libc::ETH_P_IPV6 => Some(ip(info.get(8..24)?)?),
        _ => None,
    };
    let vlan = parse_u16(info.get(6..)?)?;
    Some(MdbEntry {
        bridge,
        port: parse_u32(info)?,
        group,
        vlan: (vlan != 0).then_some(vlan),
        permanent: *info.get(4)? == 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    #[test]
    fn who_wants_a_group_and_where_the_router_is() {
        let mut info = 4u32.to_ne_bytes().to_vec();
        info.extend([0, 0]);
        info.extend(10u16.to_ne_bytes());
        info.extend([239, 255, 0, 1]);
        info.extend([0; 12]);
        info.extend(0x0800u16.to_be_bytes());
        info.extend([0; 2]);
        let groups = attribute(MDBA_MDB_ENTRY, &attribute(MDBA_MDB_ENTRY_INFO, &info));
        let mut message = vec![7, 0, 0, 0];
        message.extend(9u32.to_ne_bytes());
        message.extend(attribute(MDBA_MDB, &groups));
        message.extend(attribute(MDBA_ROUTER, &attribute(MDBA_ROUTER_PORT, &6u32.to_ne_bytes())));
        let (entries, routers) = parse(&message).unwrap();
        let entry = entries.first().unwrap();
        assert_eq!((entry.bridge, entry.port, entry.vlan, entry.permanent), (9, 4, Some(10), false));
        assert_eq!(entry.group.unwrap().to_string(), "239.255.0.1");
        assert_eq!(routers, [RouterPort { bridge: 9, port: 6 }]);
        torture(&message, parse);
    }
}
