//! VLANs of bridges and their ports: RTM_GETLINK of AF_BRIDGE with RTEXT_FILTER_BRVLAN_COMPRESSED.

use crate::error::Result;
use crate::sys::attributes::Attributes;
use crate::sys::netlink::Netlink;
use netlink_bindings::utils::{parse_u16, parse_u32};
use whydrop_model::snapshot::{BridgeVlan, Link};
use whydrop_model::text;

/// Length of struct ifinfomsg.
const HEADER: usize = 16;

const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_BRVLAN_COMPRESSED: u32 = 4;
/// IFLA_BRIDGE_VLAN_INFO in IFLA_AF_SPEC (include/uapi/linux/if_bridge.h).
const VLAN_INFO: u16 = 2;
// BRIDGE_VLAN_INFO_*.
const PVID: u16 = 2;
const UNTAGGED: u16 = 4;
const RANGE_BEGIN: u16 = 8;
const RANGE_END: u16 = 16;

/// VLANs of all bridges and ports of the calling thread's namespace; not asked for without a bridge. A bridge without
/// vlan_filtering has them as well (id 1) and heeds none. Needs no privilege.
pub fn read(route: &mut Netlink, links: &[Link]) -> Result<Vec<BridgeVlan>> {
    if !links.iter().any(|link| link.kind.as_deref() == Some("bridge")) {
        return Ok(Vec::new());
    }
    let mut payload = vec![0; HEADER];
    if let Some(family) = payload.first_mut() {
        *family = libc::AF_BRIDGE as u8;
    }
    payload.extend(8u16.to_ne_bytes());
    payload.extend(IFLA_EXT_MASK.to_ne_bytes());
    payload.extend(RTEXT_FILTER_BRVLAN_COMPRESSED.to_ne_bytes());
    let object = text!("the VLANs of bridges", "网桥 VLAN");
    let ports = route.dump_raw(object, libc::RTM_GETLINK, &payload, parse)?;
    Ok(ports.into_iter().flatten().collect())
}

fn parse(message: &[u8]) -> Option<Vec<BridgeVlan>> {
    let link = parse_u32(message.get(4..)?)?;
    let spec = Attributes::after(message, HEADER)?.nested(libc::IFLA_AF_SPEC)?;
    let mut vlans = Vec::new();
    let mut begin = None;
    for (_, info) in spec.iter().filter(|(kind, _)| *kind == VLAN_INFO) {
        let (flags, id) = (parse_u16(info)?, parse_u16(info.get(2..)?)?);
        if flags & RANGE_BEGIN != 0 {
            begin = Some(id);
            continue;
        }
        let first = if flags & RANGE_END != 0 { begin.take()? } else { id };
        let (pvid, untagged) = (flags & PVID != 0, flags & UNTAGGED != 0);
        vlans.push(BridgeVlan { link, first, last: id, pvid, untagged });
    }
    Some(vlans)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    #[test]
    fn single_ids_and_ranges() {
        let info =
            |flags: u16, id: u16| attribute(VLAN_INFO, &[flags.to_ne_bytes(), id.to_ne_bytes()].concat());
        let spec = [info(PVID | UNTAGGED, 1), info(RANGE_BEGIN, 10), info(RANGE_END, 20)].concat();
        let mut message = vec![0; HEADER];
        message[4..8].copy_from_slice(&5u32.to_ne_bytes());
        message.extend(attribute(libc::IFLA_AF_SPEC, &spec));
        let vlans = parse(&message).unwrap();
        let seen: Vec<_> = vlans.iter().map(|v| (v.link, v.first, v.last, v.pvid, v.untagged)).collect();
        assert_eq!(seen, [(5, 1, 1, true, true), (5, 10, 20, false, false)]);
        torture(&message, parse);
    }
}
