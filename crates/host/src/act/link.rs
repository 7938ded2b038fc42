//! State and MTU of an interface.

use super::{Announce, Undo, changed, find_link, route};
use crate::error::{Error, Result};
use crate::sys::netlink::Netlink;
use netlink_bindings::rt_link;
use std::time::{Duration, Instant};
use whydrop_model::Action;
use whydrop_model::text;

const SETTLING: Duration = Duration::from_secs(2);
/// The kernel's pause between two runs of that work item (one second), and a tick.
const LINK_WATCH: Duration = Duration::from_millis(1020);
const POLL: Duration = Duration::from_millis(10);

/// `ip link set dev DEV up|down`. Switching off takes addresses and routes with it; they are part of the way back.
pub(super) fn state(dev: &str, up: bool, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let mut netlink = Netlink::route()?;
    let link = find_link(&mut netlink, dev)?;
    if link.up == up {
        return Ok(vec![]);
    }
    let mut undo = vec![Undo::plain(Action::LinkState { dev: dev.to_owned(), up: !up })];
    if !up {
        undo.extend(route::lost_with_link(&mut netlink, &link)?);
    }
    announce(&undo)?;
    let flag = libc::IFF_UP as u32;
    let header = rt_link::Ifinfomsg {
        ifi_index: link.index.cast_signed(),
        ifi_flags: if up { flag } else { 0 },
        ifi_change: flag,
        ..Default::default()
    };
    netlink.execute(&rt_link::Request::new().op_setlink_do(&header)).map_err(|e| {
        Error::io(
            if up {
                text!("switch on {object}", "启用 {object}")
            } else {
                text!("switch off {object}", "停用 {object}")
            },
            dev,
            &e,
        )
    })?;
    if up {
        settle(&mut netlink, dev)?;
    }
    Ok(undo)
}

/// Waits until a link that was switched on carries packets, so that what is measured next is the link and not its
/// start: each end gets its queue from a work item that the kernel runs at most once a second (net/core/link_watch.c).
/// This end shows when; the other may lie where nobody looks, and has had its turn after that second. A link without
/// carrier stays as it is: that is not this change's doing.
fn settle(netlink: &mut Netlink, dev: &str) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < SETTLING && find_link(netlink, dev)?.operstate != "up" {
        std::thread::sleep(POLL);
    }
    std::thread::sleep(LINK_WATCH.saturating_sub(since.elapsed()));
    Ok(())
}

/// `ip link set dev DEV mtu N`.
pub(super) fn mtu(dev: &str, mtu: u32, was: u32, announce: &mut Announce<'_>) -> Result<Vec<Undo>> {
    let mut netlink = Netlink::route()?;
    let link = find_link(&mut netlink, dev)?;
    if link.mtu == mtu {
        return Ok(vec![]);
    }
    if link.mtu != was {
        return Err(changed(
            text!("the MTU of {dev}", "{dev} 的 MTU").fill(&[("dev", &dev)]),
            &text!("it is {now}, not {was}", "它是 {now}，不是 {was}")
                .fill(&[("now", &link.mtu), ("was", &was)]),
        ));
    }
    let undo = vec![Undo::plain(Action::LinkMtu { dev: dev.to_owned(), mtu: was, was: mtu })];
    announce(&undo)?;
    let header = rt_link::Ifinfomsg { ifi_index: link.index.cast_signed(), ..Default::default() };
    let mut request = rt_link::Request::new().op_setlink_do(&header);
    request.encode().push_mtu(mtu);
    netlink
        .execute(&request)
        .map_err(|e| Error::io(text!("set the MTU of {object}", "设置 {object} 的 MTU"), dev, &e))?;
    Ok(undo)
}
