//! What the kernel announces of interfaces while one looks: RTM_NEWLINK and RTM_DELLINK. A carrier that went and came
//! back between two looks is seen here only.

use super::link;
use crate::error::Result;
use crate::sys::netlink::Subscription;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use whydrop_model::Bounded;
use whydrop_model::snapshot::LinkEvent;

/// RTNLGRP_LINK (include/uapi/linux/rtnetlink.h).
const RTNLGRP_LINK: u32 = 1;
/// Changes of one namespace beyond these are not kept.
const MAX_EVENTS: usize = 256;

/// An open ear in one namespace.
#[derive(Debug)]
pub struct LinkWatch {
    subscription: Subscription,
    kept: Bounded<LinkEvent>,
    last: BTreeMap<u32, LinkEvent>,
}

impl LinkWatch {
    /// Opens it in the calling thread's namespace. Needs no privilege.
    pub fn open() -> Result<Self> {
        let subscription = Subscription::route(&[RTNLGRP_LINK])?;
        Ok(Self { subscription, kept: Bounded { items: Vec::new(), more: false }, last: BTreeMap::new() })
    }

    /// Takes what has been announced so far, without waiting. To be called from time to time: the socket holds some
    /// hundred announcements, and they carry no time of their own.
    pub fn listen(&mut self) {
        let now = clock_gettime(ClockId::Monotonic);
        // CLOCK_MONOTONIC begins at 0.
        let monotonic_ns = now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs();
        let mut heard = Vec::new();
        let whole =
            self.subscription.drain(|told| heard.extend(parse(told.kind, told.payload, monotonic_ns)));
        self.kept.more |= !whole;
        for event in heard {
            self.keep(event);
        }
    }

    /// The kernel announces much that is no change of these: it is passed over.
    fn keep(&mut self, event: LinkEvent) {
        let known = self
            .last
            .get(&event.link)
            .is_some_and(|last| LinkEvent { monotonic_ns: event.monotonic_ns, ..last.clone() } == event);
        if known {
            return;
        }
        self.last.insert(event.link, event.clone());
        if self.kept.items.len() < MAX_EVENTS {
            self.kept.items.push(event);
        } else {
            self.kept.more = true;
        }
    }

    /// The changes, in order; `more` if some were not kept.
    pub fn end(mut self) -> Bounded<LinkEvent> {
        self.listen();
        self.kept
    }
}

/// None for what is not about an interface itself (a bridge announces its ports with a family of its own).
fn parse(kind: u16, message: &[u8], monotonic_ns: u64) -> Option<LinkEvent> {
    let gone = match kind {
        libc::RTM_NEWLINK => false,
        libc::RTM_DELLINK => true,
        _ => return None,
    };
    if i32::from(*message.first()?) != libc::AF_UNSPEC {
        return None;
    }
    let link = link::parse(message)?.link;
    Some(LinkEvent {
        monotonic_ns,
        link: link.index,
        name: link.name,
        up: link.up,
        lower_up: link.lower_up,
        operstate: link.operstate,
        carrier_changes: link.carrier_changes,
        master: link.master,
        gone,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    fn message(flags: i32) -> Vec<u8> {
        let mut out = vec![0; 4];
        out.extend(7i32.to_ne_bytes());
        out.extend(flags.to_ne_bytes());
        out.extend([0; 4]);
        out.extend(attribute(libc::IFLA_IFNAME, b"eth0\0"));
        out.extend(attribute(libc::IFLA_MTU, &1500u32.to_ne_bytes()));
        out.extend(attribute(libc::IFLA_OPERSTATE, &[6]));
        out.extend(attribute(libc::IFLA_STATS64, &[0; 8]));
        out
    }

    #[test]
    fn what_did_not_change_is_passed_over() {
        let mut watch = LinkWatch::open().unwrap();
        let up = parse(libc::RTM_NEWLINK, &message(libc::IFF_UP | libc::IFF_LOWER_UP), 1).unwrap();
        let down = parse(libc::RTM_NEWLINK, &message(libc::IFF_UP), 3).unwrap();
        for event in [up.clone(), LinkEvent { monotonic_ns: 2, ..up.clone() }, down, up] {
            watch.keep(event);
        }
        let seen: Vec<_> = watch.kept.items.iter().map(|e| (e.monotonic_ns, e.lower_up)).collect();
        assert_eq!(seen, [(1, true), (3, false), (1, true)]);
    }

    #[test]
    fn other_announcements_are_none() {
        assert!(parse(libc::RTM_DELLINK, &message(0), 1).unwrap().gone);
        assert_eq!(parse(libc::RTM_NEWADDR, &message(0), 1), None);
        let mut port = message(0);
        port[0] = libc::AF_BRIDGE as u8;
        assert_eq!(parse(libc::RTM_NEWLINK, &port, 1), None);
        torture(&message(0), |b| parse(libc::RTM_NEWLINK, b, 1));
    }
}
