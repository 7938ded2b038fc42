//! Addresses: RTM_GETADDR.

use crate::error::Result;
use crate::sys::attributes::{Attributes, flags};
use crate::sys::netlink::Netlink;
use netlink_bindings::rt_addr;
use netlink_bindings::utils::parse_u32;
use whydrop_model::{snapshot::Address, text};

/// Length of struct ifaddrmsg.
const HEADER: usize = 8;

const IFA_FLAGS: u16 = 8;

/// IFA_F_* (include/uapi/linux/if_addr.h).
const FLAGS: [(u32, &str); 11] = [
    (0x01, "secondary"),
    (0x02, "nodad"),
    (0x04, "optimistic"),
    (0x08, "dadfailed"),
    (0x10, "homeaddress"),
    (0x20, "deprecated"),
    (0x40, "tentative"),
    (0x80, "permanent"),
    (0x100, "managetempaddr"),
    (0x200, "noprefixroute"),
    (0x400, "mcautojoin"),
];

/// All addresses, IPv4 and IPv6. Needs no privilege.
pub fn read(route: &mut Netlink) -> Result<Vec<Address>> {
    let request = rt_addr::Request::new().op_getaddr_dump(&rt_addr::Ifaddrmsg::default());
    route.dump(text!("the addresses", "地址"), &request, parse)
}

/// One RTM_NEWADDR.
pub(crate) fn parse(message: &[u8]) -> Option<Address> {
    let [_family, prefix, short_flags, _scope] = *message.first_chunk()?;
    let link = parse_u32(message.get(4..)?)?;
    let attributes = Attributes::after(message, HEADER)?;
    // On a point-to-point link IFA_ADDRESS is the peer.
    let ip = attributes.ip(libc::IFA_LOCAL).or_else(|| attributes.ip(libc::IFA_ADDRESS))?;
    let bits = attributes.u32(IFA_FLAGS).unwrap_or(u32::from(short_flags));
    Some(Address { link, ip, prefix, flags: flags(bits, &FLAGS) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    #[test]
    fn the_own_side_of_a_point_to_point_address() {
        let mut message = vec![2, 32, 0x80, 0];
        message.extend(5u32.to_ne_bytes());
        message.extend(attribute(libc::IFA_ADDRESS, &[10, 0, 0, 2]));
        message.extend(attribute(libc::IFA_LOCAL, &[10, 0, 0, 1]));
        let address = parse(&message).unwrap();
        assert_eq!((address.link, address.ip.to_string().as_str(), address.prefix), (5, "10.0.0.1", 32));
        assert_eq!(address.flags, ["permanent"]);
        torture(&message, parse);
    }

    #[test]
    fn a_failed_duplicate_address_detection() {
        let mut message = vec![10, 64, 0, 0];
        message.extend(5u32.to_ne_bytes());
        message.extend(attribute(libc::IFA_ADDRESS, &std::net::Ipv6Addr::LOCALHOST.octets()));
        message.extend(attribute(IFA_FLAGS, &0x248u32.to_ne_bytes()));
        assert_eq!(parse(&message).unwrap().flags, ["dadfailed", "tentative", "noprefixroute"]);
    }
}
