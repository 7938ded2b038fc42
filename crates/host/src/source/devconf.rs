//! `net.ipv4.conf.IFACE.*` and `net.ipv6.conf.IFACE.*` of one interface: IFLA_AF_SPEC of RTM_GETLINK.
//!
//! The link dump carries them all, so that no file has to be opened for each setting of each interface.

use crate::sys::attributes::Attributes;
use netlink_bindings::utils::parse_i32;
use std::collections::BTreeMap;
use whydrop_model::Reading;

/// Where a protocol keeps its settings: an array of 32-bit values inside IFLA_AF_SPEC.
struct Family {
    protocol: &'static str,
    family: u16,
    attribute: u16,
    /// Position in the array and name of the file.
    settings: &'static [(usize, &'static str)],
}

/// IPV4_DEVCONF_* - 1 (include/uapi/linux/ip.h) in IFLA_INET_CONF.
const IPV4: Family = Family {
    protocol: "ipv4",
    family: libc::AF_INET as u16,
    attribute: 1,
    settings: &[
        (0, "forwarding"),
        (2, "proxy_arp"),
        (7, "rp_filter"),
        (10, "log_martians"),
        (12, "arp_filter"),
        (17, "arp_announce"),
        (18, "arp_ignore"),
        (22, "accept_local"),
        (23, "src_valid_mark"),
        (24, "proxy_arp_pvlan"),
        (25, "route_localnet"),
        (30, "drop_gratuitous_arp"),
    ],
};

/// DEVCONF_* (include/uapi/linux/ipv6.h) in IFLA_INET6_CONF.
const IPV6: Family = Family {
    protocol: "ipv6",
    family: libc::AF_INET6 as u16,
    attribute: 2,
    settings: &[
        (0, "forwarding"),
        (2, "mtu"),
        (3, "accept_ra"),
        (22, "proxy_ndp"),
        (26, "disable_ipv6"),
        (27, "accept_dad"),
    ],
};

/// The settings that rules need, by dotted name. Absent: IPv4 leaves an interface whose MTU is below 68 bytes, IPv6
/// one whose MTU is below 1280, and an interface that was never configured for the protocol has none.
pub fn parse(name: &str, families: Option<Attributes<'_>>) -> BTreeMap<String, Reading<String>> {
    let mut settings = BTreeMap::new();
    for Family { protocol, family, attribute, settings: names } in [IPV4, IPV6] {
        let values = families.and_then(|all| all.nested(family)?.bytes(attribute));
        for (position, setting) in names {
            let value = values.and_then(|v| parse_i32(v.get(position * 4..)?));
            let reading = match value {
                Some(value) => Reading::Present(value.to_string()),
                None => Reading::Absent(format!("{protocol} is not on {name}")),
            };
            settings.insert(format!("net.{protocol}.conf.{name}.{setting}"), reading);
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    #[test]
    fn settings_of_an_interface_that_lost_ipv6() {
        let values: Vec<u8> = (0..33i32).flat_map(i32::to_ne_bytes).collect();
        let bytes = attribute(2, &attribute(IPV4.attribute, &values));
        let settings = parse("eth0.5", Some(Attributes(&bytes)));
        assert_eq!(settings.get("net.ipv4.conf.eth0.5.rp_filter"), Some(&Reading::Present("7".to_owned())));
        assert!(matches!(settings.get("net.ipv6.conf.eth0.5.disable_ipv6"), Some(Reading::Absent(_))));
        torture(&bytes, |b| parse("eth0", Some(Attributes(b))));
    }
}
