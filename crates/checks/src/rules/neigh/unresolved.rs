//! `neigh.unresolved`: A neighbour does not answer ARP or ND.

use super::entry;
use crate::case::Space;
use crate::coverage::Source;
use crate::reconcile::BY_EVENTS;
use crate::route::{Lookup, lookup};
use crate::rule::{Judgement, Rule, Suspect, manual};
use crate::rules::netfilter;
use crate::{segment, traced};
use std::collections::BTreeSet;
use std::net::IpAddr;
use whydrop_facts::place;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "neigh.unresolved",
    title: text!("A neighbour does not answer ARP or ND", "邻居不应答 ARP 或 ND"),
    meaning: text!(
        "The link-layer address of the next hop is unknown, and nobody answers the question for it.",
        "下一跳的链路层地址未知，而且没有人应答查询。"
    ),
    seen_by: text!(
        "The neighbour entry of the next hop of a lost probe is incomplete or failed; or the kernel dropped packets with NEIGH_FAILED while such an entry exists.",
        "丢失的探测包的下一跳邻居项为 incomplete 或 failed；或存在这样的邻居项时内核以 NEIGH_FAILED 丢包。"
    ),
    why_lost: text!(
        "Packets wait for the answer, at most a few, and are thrown away after three seconds; the sender gets EHOSTUNREACH.",
        "包最多有几个在等待应答，三秒后被丢弃，发送方得到 EHOSTUNREACH。"
    ),
    what_to_do: text!(
        "Check that the neighbour is up, has this address and is on the same network; that no filter drops ARP; that the address is right.",
        "检查邻居是否启动、是否拥有该地址、是否在同一网络；是否有规则丢弃 ARP；地址是否正确。"
    ),
    when_wrong: text!(
        "When somebody looks for a machine that was switched off.",
        "有人在寻找一台已关机的机器时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule {
    cause: &CAUSE,
    needs: &[Source::Neighbours],
    consequence_of: &[
        "link.admin_down",
        "link.no_carrier",
        "mtu.too_small",
        "netfilter.arp_drop",
        "netfilter.bridge_drop",
        "netfilter.ingress_drop",
        "qdisc.netem_loss",
        "qdisc.shaper_drop",
        "qdisc.queue_limit",
        "qdisc.blackhole",
        "tc.action_drop",
        "tc.bpf_drop",
        "xdp.drop",
        "bridge.port_blocking",
        "tunnel.vni_mismatch",
    ],
    judge,
};

/// IPPROTO_ICMPV6.
const ICMPV6: u8 = 58;
/// Causes for which the owner of an address does not answer: it looks up the way back first (arp_process()).
const OWNER_IS_SILENT: &[&str] =
    &["route.no_return_route", "route.blackhole", "route.policy_rule", "route.rp_filter"];

const SUMMARY: Text = text!(
    "{ip} on {dev} does not answer ARP or ND, so nothing can be sent to it.",
    "{dev} 上的 {ip} 不应答 ARP 或 ND，无法向它发送任何包。"
);
const STATE: Text = text!("the neighbour entry of {ip} is {state}", "{ip} 的邻居项状态为 {state}");
const GONE: Text = text!("{ip} has no neighbour entry", "{ip} 没有邻居项");
const SEARCH: Text = text!(
    "find out why the neighbour does not answer: is it up, has it this address, is it on this network",
    "查明邻居为何不应答：是否启动、是否拥有该地址、是否在该网络上"
);

fn judge(space: Space<'_>) -> Judgement {
    let events = space.drops_of(CAUSE.id);
    let mut found: Vec<Found> = vec![];
    for way in space.case.ways.iter().filter(|way| way.lost() > 0) {
        for (link, ip) in way.next_hops(space) {
            let entry = entry(space.after, link, ip);
            let unresolved = entry.map_or(events > 0, |e| is_unresolved(&e.state));
            if unresolved {
                add(space, &mut found, link, ip, events, Some(way.index));
            }
        }
    }
    if space.is_target() && events > 0 {
        // Without a probe, or with one whose address was translated on its way: packets died, and an entry says for
        // whom they were, where no packet does.
        let unvisited = || space.case.ways.iter().all(|way| !way.visits(space));
        let by_entry = found.is_empty() && (unvisited() || traced::end_by(space, CAUSE.id));
        for neighbour in space.after.neighbours.iter().filter(|n| is_unresolved(&n.state)) {
            if by_entry || sent_to(space, neighbour.link, neighbour.ip) > 0 {
                add(space, &mut found, neighbour.link, neighbour.ip, events, None);
            }
        }
    }
    count_apart(space, events, &mut found);
    found.into_iter().map(|found| found.suspect).collect::<Vec<_>>().into()
}

/// A neighbour that does not answer.
struct Found {
    link: u32,
    ip: IpAddr,
    suspect: Suspect,
}

/// Sampled packets that died on their way to this neighbour.
fn sent_to(space: Space<'_>, link: u32, ip: IpAddr) -> u64 {
    let inode = Some(space.target().netns_inode);
    let sampled = space.case.drop_log().into_iter().flat_map(|log| &log.sampled);
    let died = sampled.filter(|e| e.netns_inode == inode && place::of_event(e).cause == Some(CAUSE.id));
    let to_it = died.filter_map(|e| e.destination).map(|to| to.ip()).filter(|to| {
        let hop = match lookup(space, *to, None) {
            Lookup::Via(_, hop) => hop,
            _ => return false,
        };
        hop.link == Some(link) && hop.gateway.unwrap_or(*to) == ip
    });
    to_it.count() as u64
}

/// With one neighbour all drops at this place were on their way to it. Between several the sampled packets tell, if
/// each drop was sampled.
fn count_apart(space: Space<'_>, events: u64, found: &mut [Found]) {
    let shares: Vec<u64> = found.iter().map(|f| sent_to(space, f.link, f.ip)).collect();
    if found.len() < 2 || shares.iter().sum::<u64>() != events {
        return;
    }
    for (found, packets) in found.iter_mut().zip(shares) {
        found.suspect.finding.packets_lost = Some(packets);
        found.suspect.finding.counted_by = Some(BY_EVENTS.to_owned());
        found.suspect.loses_more = true;
    }
}

fn add(space: Space<'_>, to: &mut Vec<Found>, link: u32, ip: IpAddr, events: u64, probe: Option<usize>) {
    let dev = space.after.link_name(link);
    let subject = format!("{ip} dev {dev}");
    if let Some(known) = to.iter_mut().find(|f| (f.link, f.ip) == (link, ip)) {
        let touches = &mut known.suspect.touches;
        touches.extend(probe.filter(|p| !touches.contains(p)));
        return;
    }
    let claim = match entry(space.after, link, ip) {
        Some(entry) => STATE.fill(&[("ip", &ip), ("state", &entry.state)]),
        None => GONE.fill(&[("ip", &ip)]),
    };
    let mut suspect = Suspect::new(
        space,
        &CAUSE,
        "neighbour.transmit",
        subject,
        SUMMARY.fill(&[("ip", &ip), ("dev", &dev)]),
    )
    .direction(Direction::Transmit)
    .evidence(claim, "neighbours", &["ip", "neigh", "show", "dev", &dev])
    .drop_events(events, "NEIGH_FAILED")
    .on(link)
    .touches(probe.into_iter().collect())
    .fix(manual(SEARCH));
    let segment = space.after.link(link).map(|device| segment::of(space, device)).unwrap_or_default();
    for (there, _) in segment {
        if there.after.owns(ip) {
            suspect = suspect.follows(OWNER_IS_SILENT);
        }
        if ip.is_ipv6() {
            suspect = suspect.follows(&filters(there));
        }
    }
    to.push(Found { link, ip, suspect });
}

/// Causes for which netfilter dropped ICMPv6 here: neighbours of IPv6 are asked, and answer, by it.
fn filters(space: Space<'_>) -> Vec<&'static str> {
    let inode = Some(space.target().netns_inode);
    let sampled = space.case.drop_log().into_iter().flat_map(|log| &log.sampled);
    let icmp = sampled.filter(|event| event.netns_inode == inode && event.protocol == Some(ICMPV6));
    let dropped = icmp.filter(|event| place::of_event(event).stage.starts_with("netfilter."));
    let causes: BTreeSet<_> = dropped.filter_map(|event| netfilter::cause_of(space, event)).collect();
    causes.into_iter().collect()
}

fn is_unresolved(state: &str) -> bool {
    matches!(state, "incomplete" | "failed")
}
