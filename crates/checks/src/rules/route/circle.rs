//! `route.loop`: packets circle until their TTL ends.

use crate::case::Space;
use crate::coverage::Source;
use crate::route::{Lookup, lookup_from};
use crate::rule::{Judgement, Rule, Suspect, manual};
use crate::way::{End, Path};
use std::net::IpAddr;
use whydrop_facts::place;
use whydrop_model::{Cause, Direction, DropCount, DropEvent, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.loop",
    title: text!("Packets circle until their TTL ends", "数据包循环转发直到 TTL 耗尽"),
    meaning: text!("Two routers send a packet to each other.", "两台路由器互相转发同一个包。"),
    seen_by: text!(
        "The routes were followed from namespace to namespace, for each lost probe and each packet whose TTL ended here, and came to one of them twice, or lead a packet out by the interface by which it came in.",
        "对每个丢失的探测和每个 TTL 在此耗尽的包逐个命名空间地跟踪路由，结果两次来到同一个命名空间，或者路由让包从到达的接口又出去。"
    ),
    why_lost: text!(
        "Each hop takes one from the TTL; at zero the packet is discarded.",
        "每一跳 TTL 减一，减到零时包被丢弃。"
    ),
    what_to_do: text!(
        "Compare the routes of both routers for the destination.",
        "比较两台路由器到该目的地的路由。"
    ),
    when_wrong: text!(
        "Routes that depend on marks or protocols are not followed.",
        "依赖标记或协议的路由不在跟踪之列。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Routes], consequence_of: &[], judge };

const SUMMARY: Text = text!(
    "Packets to {address} circle: the routers send them to each other.",
    "发往 {address} 的包在循环：路由器互相转发。"
);
const LOOKED: Text = text!(
    "following the routes to {address} leads here a second time",
    "沿着到 {address} 的路由会第二次回到此处"
);
const BACK: Text = text!(
    "the route to {address} leads out by the interface by which the packets come in",
    "到 {address} 的路由从包到达的接口又出去"
);
/// From 33434 on, one more for each of up to 64 hops with three packets each (traceroute(8)).
const TRACEROUTE_PORTS: std::ops::RangeInclusive<u16> = 33434..=33626;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SYN: u8 = 2;
const ACK: u8 = 16;
const DO: Text = text!(
    "compare the routes of the routers on the way for this destination",
    "比较途中各路由器到该目的地的路由"
);

fn judge(space: Space<'_>) -> Judgement {
    let mut suspects: Vec<Suspect> = vec![];
    for way in space.case.ways.iter().filter(|way| way.lost() > 0) {
        let Some(to) = way.ends_here(space, End::Circles) else { continue };
        add(space, &mut suspects, to, LOOKED, Some(way.index));
    }
    if suspects.is_empty() && space.is_target() {
        for event in ended(space).filter(|event| !is_traceroute(event)) {
            let Some(to) = event.destination.map(|to| to.ip()) else { continue };
            if Path::circles(space, to) {
                add(space, &mut suspects, to, LOOKED, None);
            } else if returns(space, event, to) {
                add(space, &mut suspects, to, BACK, None);
            }
        }
    }
    suspects.into()
}

fn add(space: Space<'_>, suspects: &mut Vec<Suspect>, to: IpAddr, seen: Text, way: Option<usize>) {
    let subject = format!("route to {to}");
    if suspects.iter().all(|s| s.finding.subject != subject) {
        let (subject, address) = (subject.clone(), to.to_string());
        let suspect = Suspect::new(space, &CAUSE, "ip.forward", subject, SUMMARY.fill(&[("address", &to)]))
            .direction(Direction::Forward)
            .evidence(seen.fill(&[("address", &to)]), "routes", &["ip", "route", "get", &address])
            .fix(manual(DO));
        suspects.push(suspect);
    }
    suspects.iter_mut().filter(|s| s.finding.subject == subject).for_each(|s| s.touches.extend(way));
}

/// Sampled packets whose TTL ended here.
fn ended<'a>(space: Space<'a>) -> impl Iterator<Item = &'a DropEvent> {
    let inode = Some(space.target().netns_inode);
    let sampled = space.case.drop_log().into_iter().flat_map(|log| &log.sampled);
    sampled.filter(move |e| e.netns_inode == inode && place::of_event(e).cause == Some(CAUSE.id))
}

/// True if the route leads a packet out by the interface by which it came in.
fn returns(space: Space<'_>, event: &DropEvent, to: IpAddr) -> bool {
    let out = match lookup_from(space, to, event.source.map(|from| from.ip()), event.link) {
        Lookup::Via(_, hop) => hop.link,
        _ => None,
    };
    out.is_some() && out == event.link
}

/// Packets of one kind of drop that no traceroute sent. Of those that were not sampled nobody can tell: they count
/// only where all that were sampled speak with one voice.
pub fn not_traced(space: Space<'_>, count: &DropCount) -> u64 {
    let alike = |e: &&DropEvent| {
        (&e.reason, &e.function, e.protocol, e.link)
            == (&count.reason, &count.function, count.protocol, count.link)
    };
    let (traced, lost): (Vec<_>, Vec<_>) = ended(space).filter(alike).partition(|e| is_traceroute(e));
    match (traced.len(), lost.len() as u64) {
        (_, 0) => 0,
        (0, _) => count.drops,
        (_, n) => n.min(count.drops),
    }
}

/// What traceroute, tracepath, mtr and `whydrop probe path://` send to learn where a TTL ends.
fn is_traceroute(event: &DropEvent) -> bool {
    match event.protocol {
        Some(UDP) => event.destination.is_some_and(|to| TRACEROUTE_PORTS.contains(&to.port())),
        Some(TCP) => event.tcp_flags.is_some_and(|flags| flags & (SYN | ACK) == SYN),
        Some(ICMP | ICMPV6) => event.echo.is_some(),
        _ => false,
    }
}
