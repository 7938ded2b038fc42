//! Datagrams to a group whose TTL ends before the first router that could send them on, to members behind it.

use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::segment;
use crate::fixes::by_hand;
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_model::snapshot::Protocol;
use whydrop_model::{Cause, Direction, DropEvent, Text, text};

/// IPPROTO_UDP.
const UDP: u8 = 17;
/// What routers do not send on.
const ENDS: u8 = 1;
const BY_EVENTS: &str = "drop events";

const SUMMARY: Text = text!(
    "Datagrams to the group {group} start with a TTL of 1, which ends at {router}; {member} has joined it behind that router.",
    "发往组 {group} 的数据报初始 TTL 为 1，到 {router} 即耗尽；而 {member} 在该路由器之后加入了该组。"
);
const DROPPED: Text = text!(
    "{router} discarded at least {n} of them, which came with a TTL of 1",
    "{router} 至少丢弃了其中 {n} 个，到达时 TTL 为 1"
);
const WAITS: Text = text!(
    "a socket of {member} waits on port {port} of the group",
    "{member} 的套接字在该组的端口 {port} 上等待"
);
const DO: Text = text!(
    "let the sender set a larger TTL (IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS; 1 is the default), and let {router} route multicast to the members (smcroute, pimd)",
    "让发送方设置更大的 TTL（IP_MULTICAST_TTL、IPV6_MULTICAST_HOPS；默认为 1），并让 {router} 把组播路由到成员（smcroute、pimd）"
);

/// What this namespace sends to groups and nobody behind the next router gets, as culprits of this cause.
pub(super) fn culprits<'a>(space: Space<'a>, cause: &'static Cause) -> Vec<Culprit<'a>> {
    let mut met: BTreeMap<(IpAddr, u16, u64), Ended<'_>> = BTreeMap::new();
    let sampled = space.case.drop_log().into_iter().flat_map(|log| &log.sampled);
    for event in sampled.filter(|event| event.protocol == Some(UDP) && ttl(event) == Some(ENDS)) {
        if let Some(ended) = Ended::of(space, event) {
            let key = (ended.group, ended.port, ended.router.inode());
            met.entry(key).or_insert(ended).sampled += 1;
        }
    }
    met.into_values().map(|ended| ended.culprit(cause)).collect()
}

/// TTL or hop limit of a sampled packet.
fn ttl(event: &DropEvent) -> Option<u8> {
    let at = match event.packet.first()? >> 4 {
        4 => 8,
        6 => 7,
        _ => return None,
    };
    event.packet.get(at).copied()
}

/// Datagrams to one group that end at one router.
#[derive(Clone, Copy)]
struct Ended<'a> {
    space: Space<'a>,
    group: IpAddr,
    port: u16,
    router: Space<'a>,
    /// Who has joined the group and is not reached.
    member: Space<'a>,
    sampled: u64,
}

impl<'a> Ended<'a> {
    fn of(space: Space<'a>, event: &DropEvent) -> Option<Self> {
        let (from, to) = (event.source?.ip(), event.destination?);
        let group = to.ip();
        if !group.is_multicast() || is_of_link(group) || !space.after.owns(from) {
            return None;
        }
        let router = space.case.space_by_inode(event.netns_inode?)?;
        let link = space.links_with(from).next()?;
        let near = segment::reachable(space, link);
        let takes = |there: Space<'a>| {
            let mut sockets = there.listeners(Protocol::Udp, to.port());
            sockets.any(|socket| {
                let own = socket.local.ip().to_canonical();
                own.is_unspecified() || own == group
            })
        };
        let mut members = space.case.spaces().filter(|there| !there.same(space) && !there.same(router));
        let member = members.find(|there| {
            let mut joined = there.after.groups.iter().filter(|joined| joined.group == group);
            let apart = |index: u32| !near.iter().any(|(s, l)| s.same(*there) && l.index == index);
            joined.any(|joined| joined.users > 0 && apart(joined.link)) && takes(*there)
        })?;
        let joins = |own: Space<'a>| own.after.links.iter().filter(|link| !link.loopback).count() > 1;
        (!router.same(space) && joins(router)).then_some(Self {
            space,
            group,
            port: to.port(),
            router,
            member,
            sampled: 0,
        })
    }

    fn culprit(self, cause: &'static Cause) -> Culprit<'a> {
        let Self { space, group, router, member, .. } = self;
        Culprit::new(space, cause, "ip.forward", Scope::Socket, format!("TTL of packets to {group}"))
            .direction(Direction::Transmit)
            .concerns([member, router].iter().any(|there| there.is_target()))
            // To the kernel of the router they are packets that nothing there waits for, and no loss.
            .meter(self.sampled, Count::AtLeast, BY_EVENTS)
            .tell(move |_| {
                let words: [(&str, &dyn std::fmt::Display); 5] = [
                    ("group", &group),
                    ("router", &router.target().id),
                    ("member", &member.target().id),
                    ("port", &self.port),
                    ("n", &self.sampled),
                ];
                Story::new(SUMMARY.fill(&words))
                    .evidence(DROPPED.fill(&words), BY_EVENTS, &[])
                    .evidence(WAITS.fill(&words), "groups", &["ip", "maddr", "show"])
                    .fix(by_hand(DO.fill(&words)))
            })
    }
}

/// True for groups that no router sends on: 224.0.0.0/24, and those of link or interface in IPv6.
fn is_of_link(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(ip) => matches!(ip.octets(), [224, 0, 0, _]),
        IpAddr::V6(ip) => matches!(ip.octets(), [0xff, scope, ..] if scope & 0xf <= 2),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::snapshot::{Group, Protocol};
    use whydrop_model::{DropEvent, Reading};

    /// The client sends to 239.1.2.3 with this TTL; the host, in place of a router, drops it. The server has joined the
    /// group behind it, or not.
    fn world(ttl: u8, joined: bool, apart: bool) -> World {
        let mut world = World::bridged();
        world.listens(SERVER, Protocol::Udp, "0.0.0.0:5000");
        if joined {
            let group = Group { link: 2, group: "239.1.2.3".parse().unwrap(), users: 1 };
            world.both(SERVER, |s| s.groups = Reading::Present(vec![group.clone()]));
        }
        if apart {
            world.both(HOST, |s| {
                let Reading::Present(links) = &mut s.links else { return };
                links.iter_mut().filter(|l| l.index == 12).for_each(|l| l.master = None);
            });
        }
        let mut packet = vec![0; 28];
        (packet[0], packet[8], packet[9]) = (0x45, ttl, 17);
        let event = DropEvent {
            reason: "NOT_SPECIFIED".into(),
            function: "ip_rcv_finish_core".into(),
            netns_inode: Some(world.observation.namespaces[HOST].target.netns_inode),
            link: Some(11),
            protocol: Some(17),
            source: "10.0.0.1:5000".parse().ok(),
            destination: "239.1.2.3:5000".parse().ok(),
            packet,
            ..DropEvent::default()
        };
        let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
        log.sampled.extend(std::iter::repeat_n(event, 3));
        world
    }

    #[test]
    fn a_member_behind_a_router_does_not_get_what_has_a_ttl_of_one() {
        let found = world(1, true, true).found();
        assert_eq!(found, ["ip.ttl_too_low @ netns:client: TTL of packets to 239.1.2.3"]);
    }

    #[test]
    fn nobody_behind_it_another_ttl_or_a_member_of_the_same_network_are_none() {
        for world in [world(1, false, true), world(9, true, true), world(1, true, false)] {
            assert!(world.found().is_empty(), "{:?}", world.found());
        }
    }
}
