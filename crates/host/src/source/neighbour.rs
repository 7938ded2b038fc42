//! Neighbours (ARP, ND): RTM_GETNEIGH.

use crate::error::Result;
use crate::sys::attributes::{Attributes, mac};
use crate::sys::netlink::Netlink;
use netlink_bindings::rt_neigh;
use netlink_bindings::utils::{parse_u16, parse_u32};
use whydrop_model::{snapshot::Neighbour, text};

/// Length of struct ndmsg.
const HEADER: usize = 12;

/// All neighbour entries, IPv4 and IPv6, those of multicast and loopback (`noarp`) included. Needs no privilege.
pub fn read(route: &mut Netlink) -> Result<Vec<Neighbour>> {
    let request = rt_neigh::Request::new().op_getneigh_dump(&rt_neigh::Ndmsg::default());
    route.dump(text!("the neighbours", "邻居表"), &request, parse)
}

fn parse(message: &[u8]) -> Option<Neighbour> {
    let link = parse_u32(message.get(4..)?)?;
    let state = parse_u16(message.get(8..)?)?;
    let attributes = Attributes::after(message, HEADER)?;
    let word = match state {
        0 => "none",
        libc::NUD_INCOMPLETE => "incomplete",
        libc::NUD_REACHABLE => "reachable",
        libc::NUD_STALE => "stale",
        libc::NUD_DELAY => "delay",
        libc::NUD_PROBE => "probe",
        libc::NUD_FAILED => "failed",
        libc::NUD_NOARP => "noarp",
        libc::NUD_PERMANENT => "permanent",
        _ => "unknown",
    };
    Some(Neighbour {
        link,
        ip: attributes.ip(libc::NDA_DST)?,
        mac: attributes.bytes(libc::NDA_LLADDR).and_then(mac),
        state: word.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    #[test]
    fn a_failed_neighbour_has_no_address() {
        let mut message = vec![2, 0, 0, 0];
        message.extend(3u32.to_ne_bytes());
        message.extend(libc::NUD_FAILED.to_ne_bytes());
        message.extend([0, 1]);
        message.extend(attribute(libc::NDA_DST, &[10, 0, 0, 9]));
        let entry = parse(&message).unwrap();
        assert_eq!((entry.link, entry.state.as_str(), entry.mac.is_none()), (3, "failed", true));
        assert_eq!(entry.ip.to_string(), "10.0.0.9");
        torture(&message, parse);
    }
}
