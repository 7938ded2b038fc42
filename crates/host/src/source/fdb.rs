//! Forwarding entries: RTM_GETNEIGH of AF_BRIDGE.

use super::neighbour::{FLAGS, milliseconds};
use crate::error::Result;
use crate::sys::attributes::{Attributes, flags, mac};
use crate::sys::netlink::Netlink;
use netlink_bindings::utils::{parse_u16, parse_u32};
use whydrop_model::snapshot::{FdbEntry, Link};
use whydrop_model::{Bounded, text};

/// Entries beyond these are not read.
const MAX_ENTRIES: usize = 65_536;

/// Length of struct ndmsg.
const HEADER: usize = 12;
const NDA_MASTER: u16 = 9;

/// Forwarding entries of all bridges and tunnels of the calling thread's namespace. Without a device that forwards
/// by address the kernel only lists the multicast addresses of the interfaces: then it is not asked. Needs no
/// privilege.
pub fn read(links: &[Link]) -> Result<Bounded<FdbEntry>> {
    if !links.iter().any(|link| matches!(link.kind.as_deref(), Some("bridge" | "vxlan"))) {
        return Ok(Bounded { items: Vec::new(), more: false });
    }
    let mut header = [0; HEADER];
    header[0] = libc::AF_BRIDGE as u8;
    let object = text!("the forwarding entries", "转发表项");
    Netlink::route()?.dump_at_most(MAX_ENTRIES, object, libc::RTM_GETNEIGH, &header, parse)
}

/// One entry; none for a multicast address that an interface only listens to (`33:33:…`, `01:00:5e:…` of a device).
fn parse(message: &[u8]) -> Option<FdbEntry> {
    let link = parse_u32(message.get(4..)?)?;
    let state = parse_u16(message.get(8..)?)?;
    let bits = u32::from(*message.get(10)?);
    let attributes = Attributes::after(message, HEADER)?;
    let address = attributes.bytes(libc::NDA_LLADDR)?;
    let (master, remote) = (attributes.u32(NDA_MASTER), attributes.ip(libc::NDA_DST));
    if address.first()? & 1 != 0 && master.is_none() && remote.is_none() {
        return None;
    }
    let ages = attributes.bytes(libc::NDA_CACHEINFO);
    let age = |offset| ages.and_then(|a| parse_u32(a.get(offset..)?)).map(milliseconds);
    Some(FdbEntry {
        link,
        master,
        mac: mac(address)?,
        vlan: attributes.u16(libc::NDA_VLAN),
        remote,
        port: attributes.be16(libc::NDA_PORT),
        vni: attributes.u32(libc::NDA_VNI),
        state: if state & libc::NUD_PERMANENT != 0 {
            "permanent"
        } else if state & libc::NUD_NOARP != 0 {
            "static"
        } else {
            "learned"
        }
        .to_owned(),
        flags: flags(bits, &FLAGS),
        used_ms: age(4),
        updated_ms: age(8),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    fn message(state: u16, flags: u8, address: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut out = vec![libc::AF_BRIDGE as u8, 0, 0, 0];
        out.extend(4u32.to_ne_bytes());
        out.extend(state.to_ne_bytes());
        out.extend([flags, 0]);
        out.extend(attribute(libc::NDA_LLADDR, address));
        out.extend(attributes.concat());
        out
    }

    #[test]
    fn a_learned_address_behind_a_port() {
        let ages: Vec<u8> = [0u32, 500, 7000, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
        let attributes = [
            attribute(NDA_MASTER, &9u32.to_ne_bytes()),
            attribute(libc::NDA_VLAN, &10u16.to_ne_bytes()),
            attribute(libc::NDA_CACHEINFO, &ages),
        ];
        let bytes = message(libc::NUD_REACHABLE, 4, &[2, 0, 0, 0, 0, 1], &attributes);
        let entry = parse(&bytes).unwrap();
        assert_eq!((entry.link, entry.master, entry.vlan), (4, Some(9), Some(10)));
        assert_eq!((entry.mac.as_str(), entry.state.as_str()), ("02:00:00:00:00:01", "learned"));
        assert_eq!((entry.used_ms, entry.updated_ms), (Some(5000), Some(70_000)));
        assert_eq!(entry.flags, ["master"]);
        torture(&bytes, parse);
    }

    #[test]
    fn a_tunnel_entry_by_hand_and_a_group_that_is_none() {
        let attributes =
            [attribute(libc::NDA_DST, &[192, 0, 2, 9]), attribute(libc::NDA_PORT, &8472u16.to_be_bytes())];
        let entry = parse(&message(libc::NUD_PERMANENT, 2, &[0; 6], &attributes)).unwrap();
        assert_eq!((entry.remote.unwrap().to_string().as_str(), entry.port), ("192.0.2.9", Some(8472)));
        assert_eq!((entry.state.as_str(), entry.flags), ("permanent", vec!["self".to_owned()]));
        assert_eq!(parse(&message(libc::NUD_PERMANENT, 2, &[0x33, 0x33, 0, 0, 0, 1], &[])), None);
    }
}
