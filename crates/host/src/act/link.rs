//! State and MTU of an interface.

use super::{Announce, Undo, changed, find_link, route};
use crate::error::{Error, Result};
use crate::sys::netlink::Netlink;
use crate::sys::netns::Netns;
use netlink_bindings::rt_link;
use std::time::{Duration, Instant};
use whydrop_model::Action;
use whydrop_model::text;

const SETTLING: Duration = Duration::from_secs(2);
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
    Ok(undo)
}

/// Waits until the links of these namespaces carry packets, so that what is measured after a change is the change and
/// not its start: a link that got its carrier gets its queue from a work item up to a second later, its other end at a
/// time of its own (net/core/link_watch.c). A link without carrier is not waited for: that is no matter of time. What
/// cannot be read here is met, and said, by the measurement that follows.
pub fn settle<'a>(namespaces: impl Iterator<Item = &'a Netns>) {
    let deadline = Instant::now() + SETTLING;
    for netns in namespaces {
        while Instant::now() < deadline && matches!(netns.run(has_starting_links), Ok(Ok(true))) {
            std::thread::sleep(POLL);
        }
    }
}

fn has_starting_links() -> Result<bool> {
    let links = crate::source::link::read(&mut Netlink::route()?)?;
    Ok(links.iter().any(|found| found.link.up && found.link.lower_up && found.link.operstate == "down"))
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
