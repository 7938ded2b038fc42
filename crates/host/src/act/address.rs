//! Addresses and neighbours.

use super::{Announce, Undo, changed, find_link, from_hex, route};
use crate::error::{Error, Result};
use crate::source::{address, neighbour};
use crate::sys::netlink::{Netlink, errno};
use netlink_bindings::{rt_addr, rt_neigh};
use std::net::IpAddr;
use whydrop_model::Action;
use whydrop_model::text;

const NEWADDR: u16 = libc::RTM_NEWADDR;
/// `NLM_F_CREATE | NLM_F_EXCL`.
pub(super) const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

/// `AF_INET` or `AF_INET6`.
pub(super) fn family(ip: IpAddr) -> u8 {
    (if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

/// `ip addr add IP/PREFIX dev DEV`; with `raw` exactly the address that was deleted, with label and lifetimes.
pub(super) fn add(
    dev: &str,
    ip: IpAddr,
    prefix: u8,
    raw: Option<&str>,
    announce: &mut Announce<'_>,
) -> Result<Vec<Undo>> {
    let mut netlink = Netlink::route()?;
    let link = find_link(&mut netlink, dev)?;
    let there = address::read(&mut netlink)?;
    if there.iter().any(|a| (a.link, a.ip, a.prefix) == (link.index, ip, prefix)) {
        return Ok(vec![]);
    }
    let undo = vec![Undo::plain(Action::AddressDelete { dev: dev.to_owned(), ip, prefix })];
    announce(&undo)?;
    let fail = |e| {
        Error::io(
            text!("add the address {object}", "添加地址 {object}"),
            text!("{ip}/{prefix} to {dev}", "{ip}/{prefix} 到 {dev}").fill(&[
                ("ip", &ip),
                ("prefix", &prefix),
                ("dev", &dev),
            ]),
            &e,
        )
    };
    match raw {
        Some(raw) => netlink.execute_raw(NEWADDR, CREATE, &from_hex(raw)?).map_err(fail)?,
        None => {
            let mut request =
                rt_addr::Request::new().set_flags(CREATE).op_newaddr_do(&header(ip, prefix, link.index));
            request.encode().push_local(ip).push_address(ip);
            netlink.execute(&request).map_err(fail)?;
        }
    }
    Ok(undo)
}

/// `ip addr del IP/PREFIX dev DEV`. Routes that go with it are part of the way back.
pub(super) fn delete(dev: &str, ip: IpAddr, prefix: u8, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let mut netlink = Netlink::route()?;
    let link = find_link(&mut netlink, dev)?;
    let all = route::raw_addresses(&mut netlink)?;
    let found = all.into_iter().find(|(a, _)| (a.link, a.ip, a.prefix) == (link.index, ip, prefix));
    let Some((_, message)) = found else {
        return Err(changed(
            text!("the address {ip}/{prefix} of {dev}", "{dev} 的地址 {ip}/{prefix}").fill(&[
                ("ip", &ip),
                ("prefix", &prefix),
                ("dev", &dev),
            ]),
            &text!("it is gone", "它已不存在").phrase(),
        ));
    };
    let back = Action::AddressAdd { dev: dev.to_owned(), ip, prefix };
    let mut undo = vec![Undo::raw(back, &message)];
    let routes = route::raw_routes(&mut netlink)?;
    announce(&undo)?;
    let mut request = rt_addr::Request::new().op_deladdr_do(&header(ip, prefix, link.index));
    request.encode().push_local(ip);
    netlink.execute(&request).map_err(|e| {
        Error::io(text!("delete the address {object}", "删除地址 {object}"), format!("{ip}/{prefix}"), &e)
    })?;
    undo.extend(route::lost_since(&mut netlink, routes)?);
    Ok(undo)
}

/// True if the interface has this address.
pub(super) fn stands(dev: &str, ip: IpAddr, prefix: u8) -> Result<bool> {
    let mut netlink = Netlink::route()?;
    let link = find_link(&mut netlink, dev)?;
    Ok(address::read(&mut netlink)?.iter().any(|a| (a.link, a.ip, a.prefix) == (link.index, ip, prefix)))
}

/// True if the neighbour is fixed at this link-layer address.
pub(super) fn neighbour_stands(dev: &str, ip: IpAddr, mac: &str) -> Result<bool> {
    let mut netlink = Netlink::route()?;
    let link = find_link(&mut netlink, dev)?;
    let fixed = |n: &&whydrop_model::snapshot::Neighbour| {
        (n.link, n.ip) == (link.index, ip) && n.state == "permanent"
    };
    Ok(neighbour::read(&mut netlink)?.iter().find(fixed).is_some_and(|n| n.mac.as_deref() == Some(mac)))
}

fn header(ip: IpAddr, prefix: u8, link: u32) -> rt_addr::Ifaddrmsg {
    rt_addr::Ifaddrmsg {
        ifa_family: family(ip),
        ifa_prefixlen: prefix,
        ifa_index: link,
        ..Default::default()
    }
}

/// `ip neigh replace IP lladdr MAC dev DEV nud permanent`. An entry that was learned is learned again after it is
/// taken back; a permanent one with another address is refused.
pub(super) fn neighbour_add(
    dev: &str,
    ip: IpAddr,
    mac: &str,
    announce: &mut Announce<'_>,
) -> Result<Vec<Undo>> {
    let mut netlink = Netlink::route()?;
    let link = find_link(&mut netlink, dev)?;
    let bytes = mac_bytes(mac)?;
    let there = neighbour::read(&mut netlink)?;
    let fixed = there.iter().find(|n| (n.link, n.ip) == (link.index, ip) && n.state == "permanent");
    match fixed.and_then(|n| n.mac.as_deref()) {
        Some(known) if known == mac => return Ok(vec![]),
        Some(known) => {
            return Err(changed(
                text!("the neighbour {ip}", "邻居 {ip}").fill(&[("ip", &ip)]),
                &text!("it is fixed at {mac}", "它已固定为 {mac}").fill(&[("mac", &known)]),
            ));
        }
        None => (),
    }
    let undo = vec![Undo::plain(Action::NeighbourDelete { dev: dev.to_owned(), ip, mac: mac.to_owned() })];
    announce(&undo)?;
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
    let mut request = rt_neigh::Request::new().set_flags(flags).op_newneigh_do(&neighbour_header(
        ip,
        link.index,
        libc::NUD_PERMANENT,
    ));
    request.encode().push_dst(ip).push_lladdr(&bytes);
    netlink.execute(&request).map_err(|e| {
        Error::io(text!("fix the neighbour {object}", "固定邻居 {object}"), ip.to_string(), &e)
    })?;
    Ok(undo)
}

/// `ip neigh del IP dev DEV`.
pub(super) fn neighbour_delete(
    dev: &str,
    ip: IpAddr,
    mac: &str,
    announce: &mut Announce<'_>,
) -> Result<Vec<Undo>> {
    let mut netlink = Netlink::route()?;
    let link = find_link(&mut netlink, dev)?;
    let there = neighbour::read(&mut netlink)?;
    let found = there.iter().find(|n| (n.link, n.ip) == (link.index, ip));
    let Some(entry) = found.filter(|n| n.mac.as_deref() == Some(mac)) else {
        let now = found.and_then(|n| n.mac.clone()).unwrap_or_else(|| "gone".to_owned());
        return Err(changed(
            text!("the neighbour {ip}", "邻居 {ip}").fill(&[("ip", &ip)]),
            &text!("it is {now}, not {was}", "它是 {now}，不是 {was}").fill(&[("now", &now), ("was", &mac)]),
        ));
    };
    // Only what a person fixed has to come back; the rest is learned.
    let permanent = entry.state == "permanent";
    let back = Undo::plain(Action::NeighbourAdd { dev: dev.to_owned(), ip, mac: mac.to_owned() });
    let undo: Vec<Undo> = Some(back).filter(|_| permanent).into_iter().collect();
    announce(&undo)?;
    let mut request = rt_neigh::Request::new().op_delneigh_do(&neighbour_header(ip, link.index, 0));
    request.encode().push_dst(ip);
    match netlink.execute(&request) {
        Err(e) if errno(&e) == Some(libc::ENOENT) => Err(changed(
            text!("the neighbour {ip}", "邻居 {ip}").fill(&[("ip", &ip)]),
            &text!("it is gone", "它已不存在").phrase(),
        )),
        other => other.map(|()| undo).map_err(|e| {
            Error::io(text!("delete the neighbour {object}", "删除邻居 {object}"), ip.to_string(), &e)
        }),
    }
}

fn neighbour_header(ip: IpAddr, link: u32, state: u16) -> rt_neigh::Ndmsg {
    rt_neigh::Ndmsg {
        ndm_family: family(ip),
        ndm_ifindex: link.cast_signed(),
        ndm_state: state,
        ..Default::default()
    }
}

fn mac_bytes(mac: &str) -> Result<Vec<u8>> {
    let bytes: Option<Vec<u8>> = mac.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes.filter(|bytes| (1..=32).contains(&bytes.len())).ok_or_else(|| {
        Error::new(
            text!("use {object}", "使用 {object}"),
            whydrop_model::shell::sanitize(mac, 40),
            text!("not a link-layer address", "它不是链路层地址").phrase(),
        )
    })
}
