//! Interfaces of a namespace: made, joined, addressed, switched on.

use crate::error::{Error, Result};
use crate::source::link;
use crate::sys::netlink::Netlink;
use crate::sys::netns::Netns;
use netlink_bindings::traits::{NetlinkRequest, Pusher};
use netlink_bindings::utils::{finalize_nested_header, push_nested_header};
use netlink_bindings::{rt_addr, rt_link, rt_route};
use std::ffi::CString;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};
use whydrop_model::{Phrase, Text, text};

/// VETH_INFO_PEER (include/uapi/linux/veth.h); the bindings do not have it.
const VETH_INFO_PEER: u16 = 1;
/// IFLA_INFO_DATA (include/uapi/linux/if_link.h).
const IFLA_INFO_DATA: u16 = 2;
/// A work item that is late by this much will not come.
const SETTLING: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
const IFF_UP: u32 = libc::IFF_UP as u32;

/// A route netlink socket inside one namespace.
#[derive(Debug)]
pub struct Wiring {
    netlink: Netlink,
}

impl Wiring {
    /// Opens it; the socket stays in that namespace.
    pub fn of(netns: &Netns) -> Result<Self> {
        Ok(Self { netlink: netns.run(Netlink::route)?? })
    }

    /// `ip link add NAME type veth peer name PEER netns NETNS`.
    pub fn veth(&mut self, name: &str, peer: &str, netns: &Netns) -> Result<()> {
        let (name, peer) = (interface_name(name)?, interface_name(peer)?);
        let mut request =
            rt_link::Request::new().set_create().set_excl().op_newlink_do(&rt_link::Ifinfomsg::default());
        let mut info = request.encode().push_ifname(&name).nested_linkinfo().push_kind(c"veth");
        let bytes = info.as_vec_mut();
        let data = push_nested_header(bytes, IFLA_INFO_DATA);
        let nested = push_nested_header(bytes, VETH_INFO_PEER);
        bytes.extend(rt_link::Ifinfomsg::default().as_slice());
        rt_link::PushLinkAttrs::new(&mut *bytes)
            .push_ifname(&peer)
            .push_net_ns_fd(netns.as_fd().as_raw_fd().unsigned_abs());
        finalize_nested_header(bytes, nested);
        finalize_nested_header(bytes, data);
        info.end_nested();
        self.execute(
            text!("create the veth pair {object}", "创建 veth 对 {object}"),
            name.to_string_lossy().into_owned(),
            &request,
        )
    }

    /// `ip link add NAME type bridge`.
    pub fn bridge(&mut self, name: &str) -> Result<()> {
        let name = interface_name(name)?;
        let mut request =
            rt_link::Request::new().set_create().set_excl().op_newlink_do(&rt_link::Ifinfomsg::default());
        request.encode().push_ifname(&name).nested_linkinfo().push_kind(c"bridge").end_nested();
        self.execute(
            text!("create the bridge {object}", "创建网桥 {object}"),
            name.to_string_lossy().into_owned(),
            &request,
        )
    }

    /// `ip link set NAME master BRIDGE`.
    pub fn enslave(&mut self, name: &str, bridge: &str) -> Result<()> {
        let bridge = self.index(bridge)?;
        let header = rt_link::Ifinfomsg { ifi_index: self.index(name)?, ..Default::default() };
        let mut request = rt_link::Request::new().op_setlink_do(&header);
        request.encode().push_master(bridge.unsigned_abs());
        self.execute(text!("enslave {object}", "把 {object} 接入网桥"), name, &request)
    }

    /// `ip link set NAME up`.
    pub fn up(&mut self, name: &str) -> Result<()> {
        let header = rt_link::Ifinfomsg {
            ifi_index: self.index(name)?,
            ifi_flags: IFF_UP,
            ifi_change: IFF_UP,
            ..Default::default()
        };
        self.execute(
            text!("switch on {object}", "启用 {object}"),
            name,
            &rt_link::Request::new().op_setlink_do(&header),
        )
    }

    /// Waits until an interface that was switched on carries packets. The kernel gives it its queue from a work item
    /// (net/core/link_watch.c), up to a second later; until then everything sent is dropped.
    pub fn wait_up(&mut self, name: &str) -> Result<()> {
        let deadline = Instant::now() + SETTLING;
        loop {
            let links = link::read(&mut self.netlink)?;
            if links.iter().any(|entry| entry.link.name == name && entry.link.operstate == "up") {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::new(
                    text!("switch on {object}", "启用 {object}"),
                    name,
                    text!("it has no carrier after 5 seconds", "5 秒后仍没有载波").phrase(),
                ));
            }
            std::thread::sleep(POLL);
        }
    }

    /// `ip address add IP/PREFIX dev NAME`.
    pub fn address(&mut self, name: &str, ip: IpAddr, prefix: u8) -> Result<()> {
        let header = rt_addr::Ifaddrmsg {
            ifa_family: family(ip),
            ifa_prefixlen: prefix,
            ifa_index: self.index(name)?.unsigned_abs(),
            ..Default::default()
        };
        let mut request = rt_addr::Request::new().set_create().set_excl().op_newaddr_do(&header);
        request.encode().push_local(ip).push_address(ip);
        self.execute(
            text!("add the address {object}", "添加地址 {object}"),
            text!("{ip}/{prefix} to {name}", "{ip}/{prefix} 到 {name}").fill(&[
                ("ip", &ip),
                ("prefix", &prefix),
                ("name", &name),
            ]),
            &request,
        )
    }

    /// `ip route add DESTINATION/PREFIX via GATEWAY`.
    pub fn route(&mut self, destination: IpAddr, prefix: u8, gateway: IpAddr) -> Result<()> {
        let header = rt_route::Rtmsg {
            rtm_family: family(destination),
            rtm_dst_len: prefix,
            rtm_table: libc::RT_TABLE_MAIN,
            rtm_protocol: libc::RTPROT_STATIC,
            rtm_type: libc::RTN_UNICAST,
            ..Default::default()
        };
        let mut request = rt_route::Request::new().set_create().set_excl().op_newroute_do(&header);
        request.encode().push_dst(destination).push_gateway(gateway);
        self.execute(
            text!("add the route {object}", "添加路由 {object}"),
            format!("{destination}/{prefix} via {gateway}"),
            &request,
        )
    }

    /// True if the interface is up and so is its carrier (IFF_LOWER_UP).
    pub fn has_carrier(&mut self, name: &str) -> Result<bool> {
        const IFF_LOWER_UP: u32 = 1 << 16;
        let wanted = IFF_UP | IFF_LOWER_UP;
        Ok(self.header(name)?.ifi_flags & wanted == wanted)
    }

    fn index(&mut self, name: &str) -> Result<i32> {
        Ok(self.header(name)?.ifi_index)
    }

    fn header(&mut self, name: &str) -> Result<rt_link::Ifinfomsg> {
        let wanted = interface_name(name)?;
        let mut request = rt_link::Request::new().op_getlink_do(&rt_link::Ifinfomsg::default());
        request.encode().push_ifname(&wanted);
        let length = rt_link::Ifinfomsg::len();
        self.netlink
            .get(&request, |reply| rt_link::Ifinfomsg::new_from_slice(reply.get(..length)?))
            .map_err(|e| Error::io(text!("find {object}", "找到 {object}"), name, &e))?
            .ok_or_else(|| {
                Error::new(
                    text!("find {object}", "找到 {object}"),
                    name,
                    text!("the kernel gave no answer", "内核没有应答").phrase(),
                )
            })
    }

    fn execute<R: NetlinkRequest>(
        &mut self,
        operation: Text,
        object: impl Into<Phrase>,
        request: &R,
    ) -> Result<()> {
        self.netlink.execute(request).map_err(|e| Error::io(operation, object, &e))
    }
}

fn family(ip: IpAddr) -> u8 {
    (if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

/// IFNAMSIZ is 16 with the terminating NUL.
fn interface_name(name: &str) -> Result<CString> {
    let usable = !name.is_empty() && name.len() < libc::IFNAMSIZ;
    CString::new(name).ok().filter(|_| usable).ok_or_else(|| {
        Error::new(
            text!("name {object}", "命名{object}"),
            text!("an interface {name}", "接口 {name}").fill(&[("name", &format!("{name:?}"))]),
            text!("not a usable name", "名称不可用").phrase(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Named;

    /// Needs root: the machine is built, not simulated. Without it the creation must fail, and say why.
    #[test]
    fn two_namespaces_reach_each_other() {
        let name = |role: &str| format!("wd-build-{role}-{}", std::process::id());
        if !rustix::process::geteuid().is_root() {
            assert!(Named::create(&name("a")).is_err());
            return;
        }
        let (a, b) = (Named::create(&name("a")).unwrap(), Named::create(&name("b")).unwrap());
        let taken = Named::create(&name("a")).unwrap_err();
        assert_eq!(taken.errno, Some(libc::EEXIST));
        let mut at_a = Wiring::of(a.netns()).unwrap();
        let mut at_b = Wiring::of(b.netns()).unwrap();
        at_a.veth("eth0", "eth0", b.netns()).unwrap();
        at_b.bridge("br0").unwrap();
        at_b.enslave("eth0", "br0").unwrap();
        at_a.address("eth0", "10.76.0.1".parse().unwrap(), 24).unwrap();
        at_b.address("br0", "10.76.0.2".parse().unwrap(), 24).unwrap();
        for name in ["lo", "eth0"] {
            at_a.up(name).unwrap();
        }
        for name in ["eth0", "br0"] {
            at_b.up(name).unwrap();
        }
        at_a.route("10.75.0.0".parse().unwrap(), 16, "10.76.0.2".parse().unwrap()).unwrap();
        assert!(at_a.has_carrier("eth0").unwrap());
        assert!(at_a.up("eth1").is_err());
        // The name leads to the namespace itself.
        let path = std::path::Path::new("/run/netns").join(a.name());
        assert_eq!(Netns::open(&path).unwrap().inode(), a.netns().inode());
        drop(a);
        assert!(!path.exists());
    }
}
