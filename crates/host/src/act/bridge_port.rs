//! Settings of a bridge port.

use super::{Announce, Undo, changed, find_link};
use crate::error::{Error, Result};
use crate::sys::netlink::Netlink;
use whydrop_model::Action;
use whydrop_model::snapshot::Link;
use whydrop_model::text;

/// IFLA_PROTINFO with NLA_F_NESTED (include/uapi/linux/if_link.h, netlink.h).
const PROTINFO: u16 = 12 | 0x8000;
/// The states of a port by number (BR_STATE_*).
const STATES: [&str; 5] = ["disabled", "listening", "learning", "forwarding", "blocking"];
/// Settings in the words of `bridge link set`: with the key of their reading and their IFLA_BRPORT_*.
const SETTINGS: [(&str, &str, u16); 3] =
    [("state", "port_state", 1), ("mcast_flood", "mcast_flood", 27), ("isolated", "isolated", 33)];

/// `bridge link set dev DEV SETTING VALUE`.
pub(super) fn set(
    dev: &str,
    setting: &str,
    value: &str,
    was: &str,
    announce: &mut Announce<'_>,
) -> Result<Vec<Undo>> {
    let mut netlink = Netlink::route()?;
    let link = find_link(&mut netlink, dev)?;
    let object = text!("{setting} of the port {dev}", "端口 {dev} 的 {setting}")
        .fill(&[("setting", &setting), ("dev", &dev)]);
    let now = reading(&link, setting);
    if now == Some(value) {
        return Ok(vec![]);
    }
    let (Some((_, _, attribute)), Some(number)) = (known(setting), number(value)) else {
        let why = text!("there is no such setting", "没有这样的设置").phrase();
        return Err(Error::new(text!("change {object}", "改动 {object}"), object, why));
    };
    if now != Some(was) {
        let now = now.unwrap_or("?");
        let how =
            text!("it is {now}, not {was}", "它是 {now}，不是 {was}").fill(&[("now", &now), ("was", &was)]);
        return Err(changed(object, &how));
    }
    let undo = vec![Undo::plain(Action::BridgePort {
        dev: dev.to_owned(),
        setting: setting.to_owned(),
        value: was.to_owned(),
        was: value.to_owned(),
    })];
    announce(&undo)?;
    netlink
        .execute_raw(libc::RTM_SETLINK, 0, &message(link.index, attribute, number))
        .map_err(|e| Error::io(text!("change {object}", "改动 {object}"), object, &e))?;
    Ok(undo)
}

/// True if the setting has this value.
pub(super) fn stands(dev: &str, setting: &str, value: &str) -> Result<bool> {
    Ok(reading(&find_link(&mut Netlink::route()?, dev)?, setting) == Some(value))
}

fn known(setting: &str) -> Option<(&'static str, &'static str, u16)> {
    SETTINGS.into_iter().find(|(name, ..)| *name == setting)
}

fn reading<'l>(link: &'l Link, setting: &str) -> Option<&'l str> {
    let (_, key, _) = known(setting)?;
    link.details.get(key).map(String::as_str)
}

fn number(value: &str) -> Option<u8> {
    match value {
        "off" => Some(0),
        "on" => Some(1),
        state => STATES.iter().zip(0..).find(|(name, _)| **name == state).map(|(_, number)| number),
    }
}

/// struct ifinfomsg of the family AF_BRIDGE, and one attribute of eight bits.
fn message(index: u32, attribute: u16, number: u8) -> Vec<u8> {
    let mut out = vec![libc::AF_BRIDGE as u8, 0, 0, 0];
    out.extend(index.to_ne_bytes());
    out.extend([0; 8]);
    // Outer and inner header are four bytes each; the value is padded to four.
    for word in [12u16, PROTINFO, 5, attribute] {
        out.extend(word.to_ne_bytes());
    }
    out.extend([number, 0, 0, 0]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_long_as_it_says() {
        let bytes = message(7, 33, 1);
        assert_eq!(bytes.len(), 16 + 12);
        assert_eq!((number("forwarding"), number("on"), number("up")), (Some(3), Some(1), None));
    }
}
