//! `bridge.mcast_snooping`: multicast snooping keeps a group from a port where it is joined.

use super::FORWARD;
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::segment;
use crate::fixes::{by_hand, fix};
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use whydrop_model::action::Action;
use whydrop_model::snapshot::{Link, Protocol};
use whydrop_model::{Cause, Direction, Fix, Phrase, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "bridge.mcast_snooping",
    title: text!(
        "Multicast snooping keeps a group from a port where it is joined",
        "组播侦听使已加入的组到达不了端口"
    ),
    meaning: text!(
        "The bridge passes a group on only to ports where it heard that it is joined, and it does not know of a member any more.",
        "网桥只把组播转发到它得知有成员的端口，而它已不知道某个成员。"
    ),
    seen_by: text!(
        "A station in view behind a port has joined the group, the bridge's table has no entry for that port, and the bridge does not flood the group: another port has an entry, somebody queries, or flooding is off there. Datagrams are sent and do not arrive, or a neighbour is asked for over IPv6.",
        "可见范围内某端口之后的主机已加入该组，网桥的表中没有该端口的表项，且网桥不泛洪该组：其他端口有表项、存在查询者，或该端口关闭了泛洪。数据报已发送而未到达，或正在通过 IPv6 查询邻居。"
    ),
    why_lost: text!(
        "Members tell of themselves when they join and when somebody asks (the querier). Without a querier entries age and nobody renews them; IPv6 neighbour discovery is multicast, too.",
        "成员只在加入时以及有查询者询问时报告自己。没有查询者时表项会老化而无人更新；IPv6 邻居发现同样使用组播。"
    ),
    what_to_do: text!(
        "Let somebody query (mcast_querier 1, with an address on the bridge), or switch snooping off where the groups are few.",
        "启用查询者（mcast_querier 1，且网桥上有地址），或在组播较少时关闭侦听。"
    ),
    when_wrong: text!(
        "In the first seconds after a join the entry may not be there yet.",
        "加入后的最初几秒表项可能尚未建立。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links, Source::Groups, Source::Mdb], judge };

/// Reports and queries of memberships are multicast, too: so many sent datagrams are more than those.
const SENT: u64 = 8;

const SUMMARY: Text = text!(
    "The bridge {bridge} does not pass {group} on to its port {port}, where {target} has joined it.",
    "网桥 {bridge} 不把 {group} 转发到端口 {port}，而 {target} 在那里加入了该组。"
);
const JOINED: Text = text!("{target} has joined {group} on {dev}", "{target} 在 {dev} 上加入了 {group}");
const NO_ENTRY: Text = text!(
    "{bridge} snoops and has no entry of {group} for {port}",
    "{bridge} 启用了侦听，且没有 {port} 的 {group} 表项"
);
const SENT_NOT_CAME: Text = text!(
    "{n} multicast packets were sent in the window, and none came to {target}",
    "窗口内发送了 {n} 个组播包，而没有一个到达 {target}"
);
const DO: Text = text!(
    "let somebody query (ip link set {bridge} type bridge mcast_querier 1), add the entry (bridge mdb add dev {bridge} port {port} grp {group} permanent), or switch snooping off (ip link set {bridge} type bridge mcast_snooping 0)",
    "启用查询者（ip link set {bridge} type bridge mcast_querier 1）、添加表项（bridge mdb add dev {bridge} port {port} grp {group} permanent），或关闭侦听（ip link set {bridge} type bridge mcast_snooping 0）"
);

const FLOOD: Text =
    text!("let groups without an entry reach the port {port}", "让没有表项的组到达端口 {port}");

/// A member behind a port that does not get its group.
#[derive(Clone, Copy)]
struct Deaf<'a> {
    space: Space<'a>,
    bridge: &'a Link,
    port: &'a Link,
    there: Space<'a>,
    device: &'a Link,
    group: IpAddr,
}

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut out = vec![];
    for bridge in space.links().filter(|link| link.kind.as_deref() == Some("bridge")) {
        for deaf in deaf(space, bridge) {
            let lost = lost(deaf);
            // A question for a neighbour goes to a group that nobody else uses.
            if lost > 0 || is_solicited(deaf.group) {
                out.push(culprit(deaf, lost));
            }
        }
    }
    out.into()
}

/// Members that the bridge does not know of, where it does not flood either.
fn deaf<'a>(space: Space<'a>, bridge: &'a Link) -> Vec<Deaf<'a>> {
    let (Some(mdb), Some(routers)) = (space.after.mdb.get(), space.after.router_ports.get()) else {
        return vec![];
    };
    let on = |link: &Link, key: &str| link.details.get(key).is_some_and(|value| value == "on");
    let snoops = on(bridge, "mcast_snooping");
    let mut out = vec![];
    for port in space.links().filter(|link| link.master == Some(bridge.index)) {
        let Some((there, end)) = space.peer(port) else { continue };
        if routers.iter().any(|router| router.port == port.index) || mdb.more {
            continue;
        }
        let quiet = port.details.get("mcast_flood").is_some_and(|value| value == "off");
        let stacked = segment::of(there, end).into_iter().filter(|(s, _)| s.same(there));
        let devices: Vec<u32> = stacked.map(|(_, link)| link.index).collect();
        for group in there.after.groups.iter().filter(|g| g.users > 0 && devices.contains(&g.link)) {
            let entries =
                || mdb.items.iter().filter(|e| e.bridge == bridge.index && e.group == Some(group.group));
            let asked = match group.group {
                IpAddr::V4(_) => bridge.details.contains_key("querier"),
                IpAddr::V6(_) => bridge.details.contains_key("querier6"),
            };
            // Without a querier entries are not used, not even those that are set (br_multicast_querier_exists()).
            let used = snoops && (asked || on(bridge, "mcast_querier"));
            let known = used || entries().next().is_some();
            let served = entries().any(|e| e.port == port.index) && (used || !quiet);
            // A port that is not flooded to gets none without snooping either.
            let kept_back = quiet || snoops && known;
            if kept_back && !is_flooded(group.group) && !served {
                let Some(device) = there.after.link(group.link) else { continue };
                out.push(Deaf { space, bridge, port, there, device, group: group.group });
            }
        }
    }
    out
}

/// Groups that a bridge floods in any case (br_multicast_ipv4_rcv(), ipv6_addr_is_ll_all_nodes()).
fn is_flooded(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(ip) => ip.octets().starts_with(&[224, 0, 0]),
        IpAddr::V6(ip) => ip == Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1) || ip.segments()[0] & 0xf == 1,
    }
}

/// RFC 4291, 2.7.1.
fn is_solicited(group: IpAddr) -> bool {
    matches!(group, IpAddr::V6(ip) if ip.segments()[..6] == [0xff02, 0, 0, 0, 0, 1])
}

/// Multicast packets that stations of the bridge sent in the window, if none came to the member and a program of its
/// waits for some.
fn lost(deaf: Deaf<'_>) -> u64 {
    let Deaf { there, group, .. } = deaf;
    let waits = there.after.sockets.iter().any(|socket| {
        let ip = socket.local.ip().to_canonical();
        socket.protocol == Protocol::Udp && (ip.is_unspecified() || ip == group)
    });
    let count = |there: Space<'_>, names: [&str; 2]| {
        if group.is_ipv4() { there.mib(names[0]) } else { there.mib6(names[1]) }
    };
    let came = count(there, ["IpExt.InMcastPkts", "Ip6.InMcastPkts"]);
    if !waits || came >= SENT {
        return 0;
    }
    let sent = senders(deaf).map(|s| count(s, ["IpExt.OutMcastPkts", "Ip6.OutMcastPkts"])).sum();
    if sent >= SENT { sent } else { 0 }
}

/// The other stations of the bridge, each once.
fn senders<'a>(deaf: Deaf<'a>) -> impl Iterator<Item = Space<'a>> {
    let joined: BTreeSet<u64> = segment::of(deaf.space, deaf.bridge).iter().map(|(s, _)| s.inode()).collect();
    deaf.space.case.spaces().filter(move |s| joined.contains(&s.inode()) && !s.same(deaf.there))
}

fn culprit(deaf: Deaf<'_>, lost: u64) -> Culprit<'_> {
    let Deaf { space, port, there, device, group, .. } = deaf;
    let culprit = Culprit::new(space, &CAUSE, FORWARD, Scope::Rule, format!("{} group {group}", port.name))
        .direction(Direction::Forward)
        .on(port.index)
        .concerns(there.is_target() || (lost > 0 && senders(deaf).any(|s| s.is_target())))
        .takes(move |loss| sure(takes(deaf, loss)))
        .harms(move |flow| {
            let asks = |ip: IpAddr| solicited(ip) == Some(group) && there.after.owns(ip);
            let needed = || space.case.spaces().flat_map(|from| flow.next_hops(from)).map(|(_, ip)| ip);
            sure(flow.suffers() && flow.passes(there, device.index) && needed().any(asks))
        })
        .tell(move |_| story(deaf, lost));
    match lost {
        0 => culprit,
        // Which of them were for this group nobody counts.
        n => culprit.meter(n, Count::AtLeast, "IpExt.OutMcastPkts"),
    }
}

/// Datagrams to the group that found no port, and the question for a neighbour who is its member.
fn takes(deaf: Deaf<'_>, loss: &Loss<'_>) -> bool {
    let to = loss.event.and_then(|event| event.destination).map(|to| to.ip());
    let asked = loss.asks_for().filter(|ip| deaf.there.after.owns(*ip)).and_then(solicited);
    (loss.is_in(deaf.space) && to == Some(deaf.group))
        || (loss.is_imagined_at(deaf.space, deaf.port.index) && asked == Some(deaf.group))
}

/// The group of a neighbour (RFC 4291, 2.7.1).
fn solicited(ip: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(ip) = ip else { return None };
    let [.., high, low] = ip.segments();
    Some(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low).into())
}

/// Where only flooding is off at the port, switching it on is enough; a querier or an entry is for a person to choose.
fn mend(deaf: Deaf<'_>, by_a_person: Phrase) -> Fix {
    let quiet = deaf.port.details.get("mcast_flood").is_some_and(|value| value == "off");
    let mut of_group = deaf.space.after.mdb.kept().filter(|entry| entry.group == Some(deaf.group));
    let known = of_group.any(|entry| entry.bridge == deaf.bridge.index);
    if !quiet || known {
        return by_hand(by_a_person);
    }
    let action = Action::BridgePort {
        dev: deaf.port.name.clone(),
        setting: "mcast_flood".into(),
        value: "on".into(),
        was: "off".into(),
    };
    fix(deaf.space, FLOOD.fill(&[("port", &deaf.port.name)]), vec![action])
}

fn story(deaf: Deaf<'_>, lost: u64) -> Story {
    let words: [(&str, &dyn std::fmt::Display); 6] = [
        ("bridge", &deaf.bridge.name),
        ("port", &deaf.port.name),
        ("group", &deaf.group),
        ("target", &deaf.there.target().id),
        ("dev", &deaf.device.name),
        ("n", &lost),
    ];
    let story = Story::new(SUMMARY.fill(&words))
        .evidence(JOINED.fill(&words), "groups", &[])
        .evidence(NO_ENTRY.fill(&words), "mdb", &["bridge", "-d", "mdb", "show", "dev", &deaf.bridge.name])
        .fix(mend(deaf, DO.fill(&words)));
    match lost {
        0 => story,
        _ => story.evidence(SENT_NOT_CAME.fill(&words), "netstat", &["nstat", "-as"]),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::snapshot::{Group, MdbEntry, Protocol};
    use whydrop_model::{Bounded, Reading, Verdict};

    /// The server has joined a group of which the bridge knows these ports; the client sends to it.
    fn joined(known: &[u32]) -> World {
        let mut world = World::bridged();
        let group: std::net::IpAddr = "239.1.1.1".parse().unwrap();
        world.both(HOST, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            for link in links.iter_mut().filter(|link| link.name == "br0") {
                link.details.insert("mcast_snooping".into(), "on".into());
            }
            let entry = |port: &u32| MdbEntry {
                bridge: 10,
                port: *port,
                group: Some(group),
                vlan: None,
                permanent: true,
            };
            s.mdb = Reading::Present(Bounded { items: known.iter().map(entry).collect(), more: false });
        });
        world.both(SERVER, |s| s.groups = Reading::Present(vec![Group { link: 2, group, users: 1 }]));
        world.listens(SERVER, Protocol::Udp, "0.0.0.0:5000");
        world.rises(CLIENT, "IpExt.OutMcastPkts", 40);
        world
    }

    #[test]
    fn a_member_of_which_the_bridge_does_not_know_while_it_knows_another() {
        assert_eq!(joined(&[13]).found(), ["bridge.mcast_snooping @ netns:host: p1 group 239.1.1.1"]);
    }

    #[test]
    fn a_member_that_is_known_and_a_group_that_is_flooded() {
        assert_eq!(joined(&[12, 13]).report().verdict, Verdict::Clear);
        assert_eq!(joined(&[]).report().verdict, Verdict::Clear);
    }

    #[test]
    fn an_entry_serves_a_port_that_is_not_flooded_only_while_somebody_queries() {
        let queries = |on: bool| {
            let mut world = joined(&[12]);
            world.both(HOST, |s| {
                let Reading::Present(links) = &mut s.links else { return };
                for link in links.iter_mut() {
                    if link.index == 12 {
                        link.details.insert("mcast_flood".into(), "off".into());
                    }
                    if on && link.name == "br0" {
                        link.details.insert("mcast_querier".into(), "on".into());
                    }
                }
            });
            world.found()
        };
        assert_eq!(queries(false), ["bridge.mcast_snooping @ netns:host: p1 group 239.1.1.1"]);
        assert_eq!(queries(true), Vec::<String>::new());
    }
}
