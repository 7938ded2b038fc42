//! Interfaces: RTM_GETLINK.

use super::{devconf, link_details};
use crate::error::Result;
use crate::sys::attributes::{Attributes, mac};
use crate::sys::netlink::Netlink;
use netlink_bindings::rt_link;
use netlink_bindings::utils::{parse_i32, parse_u32, parse_u64};
use std::collections::BTreeMap;
use whydrop_model::snapshot::{Counters, Link, Xdp};
use whydrop_model::{Reading, text};

/// Length of struct ifinfomsg.
const HEADER: usize = 16;

/// struct rtnl_link_stats64 (include/uapi/linux/if_link.h) in order. It has grown: 23 fields until 4.5, 24 until 5.18.
/// What a kernel does not send is not in the map.
const STATS: [&str; 25] = [
    "rx_packets",
    "tx_packets",
    "rx_bytes",
    "tx_bytes",
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
    "multicast",
    "collisions",
    "rx_length_errors",
    "rx_over_errors",
    "rx_crc_errors",
    "rx_frame_errors",
    "rx_fifo_errors",
    "rx_missed_errors",
    "tx_aborted_errors",
    "tx_carrier_errors",
    "tx_fifo_errors",
    "tx_heartbeat_errors",
    "tx_window_errors",
    "rx_compressed",
    "tx_compressed",
    "rx_nohandler",
    "rx_otherhost_dropped",
];

/// IF_OPER_* (include/uapi/linux/if.h).
const OPERSTATES: [&str; 7] = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"];

const IFLA_PROTO_DOWN: u16 = 39;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;

/// An interface with the settings of `net.ipv4.conf.IFACE` and `net.ipv6.conf.IFACE` that came in the same message.
#[derive(Debug)]
pub struct LinkAndSettings {
    /// The interface; `link_netns_inode` is left for [`super::netnsid`].
    pub link: Link,
    /// By dotted name.
    pub settings: BTreeMap<String, Reading<String>>,
}

/// All interfaces of the namespace of `route`. Needs no privilege.
pub fn read(route: &mut Netlink) -> Result<Vec<LinkAndSettings>> {
    let request = rt_link::Request::new().op_getlink_dump(&rt_link::Ifinfomsg::default());
    route.dump(text!("the interfaces", "接口"), &request, parse)
}

/// One RTM_NEWLINK or RTM_DELLINK.
pub(crate) fn parse(message: &[u8]) -> Option<LinkAndSettings> {
    let index = u32::try_from(parse_i32(message.get(4..)?)?).ok()?;
    let flags = parse_u32(message.get(8..)?)?.cast_signed();
    let attributes = Attributes::after(message, HEADER)?;
    let name = attributes.text(libc::IFLA_IFNAME)?;
    let info = attributes.nested(libc::IFLA_LINKINFO);
    let mut details = info.map_or_else(BTreeMap::new, link_details::parse);
    let xdp = attributes.nested(libc::IFLA_XDP).and_then(|x| parse_xdp(x, &mut details));
    if attributes.u8(IFLA_PROTO_DOWN) == Some(1) {
        details.insert("protodown".to_owned(), "on".to_owned());
    }
    let settings = devconf::parse(&name, attributes.nested(libc::IFLA_AF_SPEC));
    let operstate = attributes.u8(libc::IFLA_OPERSTATE)?;
    let link = Link {
        index,
        kind: info.and_then(|i| i.text(libc::IFLA_INFO_KIND)),
        mac: attributes.bytes(libc::IFLA_ADDRESS).and_then(mac),
        mtu: attributes.u32(libc::IFLA_MTU)?,
        up: flags & libc::IFF_UP != 0,
        lower_up: flags & libc::IFF_LOWER_UP != 0,
        loopback: flags & libc::IFF_LOOPBACK != 0,
        operstate: OPERSTATES
            .get(usize::from(operstate))
            .map_or_else(|| format!("operstate {operstate}"), |word| (*word).to_owned()),
        carrier_changes: attributes.u32(libc::IFLA_CARRIER_CHANGES),
        master: attributes.u32(libc::IFLA_MASTER),
        link: attributes.u32(libc::IFLA_LINK).filter(|lower| *lower != 0),
        link_netnsid: attributes.u32(libc::IFLA_LINK_NETNSID).map(u32::cast_signed),
        link_netns_inode: None,
        txqlen: attributes.u32(libc::IFLA_TXQLEN),
        xdp,
        stats: parse_stats(attributes.bytes(libc::IFLA_STATS64)?),
        details,
        name,
    };
    Some(LinkAndSettings { link, settings })
}

fn parse_stats(bytes: &[u8]) -> Counters {
    let values = bytes.chunks_exact(8).filter_map(parse_u64);
    STATS.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value)).collect()
}

/// The attached XDP program. With several (mode `multi`) the one that sees a packet first is `program`, and
/// `details` lists each as `xdp_offload`, `xdp_native`, `xdp_generic`.
fn parse_xdp(xdp: Attributes<'_>, details: &mut BTreeMap<String, String>) -> Option<Xdp> {
    let each = [
        ("offload", xdp.u32(IFLA_XDP_HW_PROG_ID)),
        ("native", xdp.u32(IFLA_XDP_DRV_PROG_ID)),
        ("generic", xdp.u32(IFLA_XDP_SKB_PROG_ID)),
    ];
    let attached = xdp.u8(IFLA_XDP_ATTACHED)?;
    let mode = match attached {
        0 => return None,
        1 => "native",
        2 => "generic",
        3 => "offload",
        _ => "multi",
    };
    if mode == "multi" {
        for (name, id) in each {
            details.extend(id.map(|id| (format!("xdp_{name}"), id.to_string())));
        }
    }
    let first = each.into_iter().find_map(|(_, id)| id);
    Some(Xdp { mode: mode.to_owned(), program: xdp.u32(IFLA_XDP_PROG_ID).or(first) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    /// A veth end as a 5.10 kernel describes it: 24 statistics.
    fn message(stats: usize) -> Vec<u8> {
        let mut out = vec![0; 4];
        out.extend(7i32.to_ne_bytes());
        out.extend((libc::IFF_UP | libc::IFF_LOWER_UP).to_ne_bytes());
        out.extend([0; 4]);
        out.extend(attribute(libc::IFLA_IFNAME, b"eth0\0"));
        out.extend(attribute(libc::IFLA_MTU, &100u32.to_ne_bytes()));
        out.extend(attribute(libc::IFLA_OPERSTATE, &[6]));
        out.extend(attribute(libc::IFLA_LINK, &4u32.to_ne_bytes()));
        out.extend(attribute(libc::IFLA_LINK_NETNSID, &0i32.to_ne_bytes()));
        out.extend(attribute(libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 0xaa]));
        let counters: Vec<u8> = (1..=stats as u64).flat_map(u64::to_ne_bytes).collect();
        out.extend(attribute(libc::IFLA_STATS64, &counters));
        let mut xdp = attribute(IFLA_XDP_ATTACHED, &[4]);
        xdp.extend(attribute(IFLA_XDP_DRV_PROG_ID, &41u32.to_ne_bytes()));
        xdp.extend(attribute(IFLA_XDP_SKB_PROG_ID, &42u32.to_ne_bytes()));
        out.extend(attribute(libc::IFLA_XDP, &xdp));
        out.extend(attribute(libc::IFLA_LINKINFO, &attribute(libc::IFLA_INFO_KIND, b"veth\0")));
        out
    }

    #[test]
    fn a_veth_of_an_older_kernel() {
        let link = parse(&message(24)).unwrap().link;
        assert_eq!((link.index, link.name.as_str(), link.mtu), (7, "eth0", 100));
        assert_eq!(link.kind.as_deref(), Some("veth"));
        assert_eq!((link.link, link.link_netnsid), (Some(4), Some(0)));
        assert!(link.up && link.lower_up && !link.loopback);
        assert_eq!(link.operstate, "up");
        assert_eq!(link.mac.as_deref(), Some("02:00:00:00:00:aa"));
        assert_eq!(link.stats.get("rx_nohandler"), Some(&24));
        assert_eq!(link.stats.get("rx_otherhost_dropped"), None, "not sent is not zero");
        assert_eq!(link.xdp, Some(Xdp { mode: "multi".to_owned(), program: Some(41) }));
        assert_eq!(link.details.get("xdp_generic").map(String::as_str), Some("42"));
    }

    #[test]
    fn more_statistics_than_we_know_and_garbage() {
        assert_eq!(parse(&message(30)).unwrap().link.stats.len(), STATS.len());
        torture(&message(25), parse);
    }
}
