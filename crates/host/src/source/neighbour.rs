//! Neighbours (ARP, ND): RTM_GETNEIGH.

use crate::error::Result;
use crate::sys::attributes::{Attributes, flags, mac};
use crate::sys::netlink::Netlink;
use netlink_bindings::rt_neigh;
use netlink_bindings::utils::{parse_u16, parse_u32};
use whydrop_model::{snapshot::Neighbour, text};

/// Length of struct ndmsg.
const HEADER: usize = 12;

const NDA_FLAGS_EXT: u16 = 15;

/// NTF_* of ndm_flags, and NTF_EXT_* of NDA_FLAGS_EXT from bit 8 on (include/uapi/linux/neighbour.h).
pub(super) const FLAGS: [(u32, &str); 10] = [
    (0x01, "use"),
    (0x02, "self"),
    (0x04, "master"),
    (0x08, "proxy"),
    (0x10, "extern_learn"),
    (0x20, "offloaded"),
    (0x40, "sticky"),
    (0x80, "router"),
    (0x100, "managed"),
    (0x200, "locked"),
];

/// struct nda_cacheinfo counts in USER_HZ ticks, 100 a second on every architecture that Debian has.
pub(super) fn milliseconds(ticks: u32) -> u64 {
    u64::from(ticks) * 10
}

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
    let ages = attributes.bytes(libc::NDA_CACHEINFO);
    let age = |offset| ages.and_then(|a| parse_u32(a.get(offset..)?)).map(milliseconds);
    Some(Neighbour {
        link,
        ip: attributes.ip(libc::NDA_DST)?,
        mac: attributes.bytes(libc::NDA_LLADDR).and_then(mac),
        state: word.to_owned(),
        flags: flags(u32::from(*message.get(10)?) | attributes.u32(NDA_FLAGS_EXT).unwrap_or(0) << 8, &FLAGS),
        probes: attributes.u32(libc::NDA_PROBES),
        confirmed_ms: age(0),
        used_ms: age(4),
        updated_ms: age(8),
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
