//! `neigh.unresolved`: A neighbour does not answer ARP or ND.

use super::{Hop, entry, goes_to, holders, needed, next_hop};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::segment;
use crate::fixes::manual;
use crate::loss::missing::Frame;
use crate::loss::{Loss, missing};
use crate::rule::{Judgement, Rule};
use std::collections::BTreeSet;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Direction, DropEvent, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "neigh.unresolved",
    title: text!("A neighbour does not answer ARP or ND", "邻居不应答 ARP 或 ND"),
    meaning: text!(
        "The link-layer address of the next hop is unknown, and nobody answers the question for it.",
        "下一跳的链路层地址未知，而且没有人应答查询。"
    ),
    seen_by: text!(
        "The neighbour entry of the next hop of a flow in trouble is incomplete or failed; or the kernel dropped packets with NEIGH_FAILED while such an entry exists.",
        "受影响流量的下一跳邻居项为 incomplete 或 failed；或存在这样的邻居项时内核以 NEIGH_FAILED 丢包。"
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
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Neighbours], judge };

/// Drops of which only the number is known may have been on their way to any neighbour without an answer. Between more
/// than these nobody would choose by hand.
const MOST_CANDIDATES: usize = 64;

/// Who asks for so many hosts that are not there, each with fewer packets than three attempts make, looks for hosts.
const MANY_HOSTS: usize = 4;
const FEW_PACKETS: u64 = 3;
const LOOKED_FOR: Text = text!(
    "{n} {n|packet was|packets were} for a host that does not answer, one of many that somebody looks for",
    "{n} 个包发往不应答的主机，它只是有人正在查找的众多主机之一"
);
const SUMMARY: Text = text!(
    "{ip} on {dev} does not answer ARP or ND, so nothing can be sent to it.",
    "{dev} 上的 {ip} 不应答 ARP 或 ND，无法向它发送任何包。"
);
/// IPPROTO_ICMPV6, by which neighbours are asked for; and of a packet of which nothing is known.
const ICMPV6: u8 = 58;
const ANY: u8 = 0;
const STATE: Text = text!("the neighbour entry of {ip} is {state}", "{ip} 的邻居项状态为 {state}");
const GONE: Text = text!("{ip} has no neighbour entry", "{ip} 没有邻居项");
const ELSEWHERE: Text = text!(
    "{ip} is in view: it is on {there} of {target}, which {dev} is not joined with",
    "{ip} 在可见范围内：它在 {target} 的 {there} 上，而该接口与 {dev} 并不相连"
);
const SILENT: Text = text!(
    "{ip} is in view: it is on {there} of {target}, which {dev} is joined with",
    "{ip} 在可见范围内：它在 {target} 的 {there} 上，且该接口与 {dev} 相连"
);
const SUMMARY_IN_VIEW: Text = text!(
    "The link-layer address of {ip} cannot be found out on {dev}, so nothing can be sent to it; it is on {there} of {target}.",
    "在 {dev} 上无法得知 {ip} 的链路层地址，无法向它发送任何包；它在 {target} 的 {there} 上。"
);
const SEARCH: Text = text!(
    "find out why the neighbour does not answer: is it up, has it this address, is it on this network",
    "查明邻居为何不应答：是否启动、是否拥有该地址、是否在该网络上"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let all = candidates(space);
    let seldom: BTreeSet<Hop> =
        all.iter().copied().filter(|neighbour| is_asked_seldom(space, *neighbour)).collect();
    // A monitor or a scan: many hosts, each asked for once.
    let looks_around = seldom.len() >= MANY_HOSTS;
    let culprit = |neighbour| {
        let askers = askers(space, neighbour);
        // Whoever comes first tells of it.
        if askers.first().is_some_and(|(first, _)| !first.same(space)) {
            return None;
        }
        Some(match looks_around && seldom.contains(&neighbour) {
            true => culprit(space, neighbour, askers).innocent().duty(LOOKED_FOR),
            false => culprit(space, neighbour, askers),
        })
    };
    all.into_iter().filter_map(culprit).collect::<Vec<_>>().into()
}

/// Those who ask for a neighbour in vain. Where its owner is in view and joined with them, it is one matter for all of them,
/// whoever was asked about first; else each one's own.
fn askers(space: Space<'_>, neighbour: Hop) -> Vec<(Space<'_>, Hop)> {
    let (index, ip) = neighbour;
    let mut out = vec![(space, neighbour)];
    let Some(link) = space.after.link(index) else { return out };
    let near = segment::of(space, link);
    let owned = near.iter().any(|(there, _)| !there.same(space) && there.after.owns(ip));
    for (there, device) in near.iter().filter(|(there, _)| owned && !there.same(space)) {
        let hop = (device.index, ip);
        if there.unresolved().any(|unresolved| unresolved == hop) && candidates(*there).contains(&hop) {
            out.push((*there, hop));
        }
    }
    out.sort_by_key(|(there, _)| (!there.is_target(), there.inode()));
    out
}

/// True if nobody is in trouble for want of this neighbour, and hardly a packet was on its way to it.
fn is_asked_seldom(space: Space<'_>, neighbour: Hop) -> bool {
    let wanted = space.case.flows.iter().any(|flow| goes_to(flow, space, neighbour));
    let died = space.losses().filter(|loss| takes(space, neighbour, loss) == Fit::Yes);
    !wanted && died.map(|loss| loss.packets).sum::<u64>() < FEW_PACKETS
}

/// Neighbours that may be what packets died of: those that flows in trouble need, those that dropped packets were going
/// to, and where only the number of drops is known all without an answer.
fn candidates(space: Space<'_>) -> BTreeSet<Hop> {
    let died = || space.losses().filter(|loss| loss.is_of(CAUSE.id));
    let sampled = died().filter_map(|loss| died_for(space, loss.event?));
    let anyone = died().any(|loss| loss.event.is_none() && loss.alike.is_empty());
    let silent = space.unresolved();
    let lost_any = died().next().is_some();
    let needed = needed(space).into_iter().filter(|neighbour| {
        entry(space.after, *neighbour).map_or(lost_any, |entry| is_unresolved(&entry.state))
    });
    sampled.chain(needed).chain(silent.filter(|_| anyone).take(MOST_CANDIDATES)).collect()
}

fn culprit<'a>(space: Space<'a>, neighbour: Hop, askers: Vec<(Space<'a>, Hop)>) -> Culprit<'a> {
    let (link, ip) = neighbour;
    let device = space.after.link(link);
    let subject = format!("{ip} dev {}", space.after.link_name(link));
    let questions = askers.iter().filter_map(|(asker, (link, _))| Some((*asker, asker.after.link(*link)?)));
    let missed = questions.flat_map(|(asker, device)| missing::neighbour(asker, device, ip)).collect();
    let (takers, harmed) = (askers.clone(), askers);
    let culprit = Culprit::new(space, &CAUSE, "neighbour.transmit", Scope::Neighbour, subject)
        .direction(Direction::Transmit)
        .on(link)
        .misses(missed);
    let several = takers.len() > 1;
    let culprit = culprit
        .takes(move |loss| best(takers.iter().map(|(asker, hop)| takes(*asker, *hop, loss))))
        .harms(move |flow| best(harmed.iter().map(|(asker, hop)| harms(*asker, *hop, flow))))
        .tell(move |_| story(space, neighbour, device));
    if several { culprit.reaches() } else { culprit }
}

fn best(fits: impl Iterator<Item = Fit>) -> Fit {
    fits.max().unwrap_or(Fit::No)
}

fn takes(space: Space<'_>, neighbour: Hop, loss: &Loss<'_>) -> Fit {
    // A packet that is asked for on its way, and is no question for this neighbour itself.
    if loss.is_imagined_at(space, neighbour.0)
        && let Some(Frame::Ip(Some(packet))) = &loss.frame
    {
        let question = matches!(packet.protocol, ANY | ICMPV6);
        return if !question && packet.destination == Some(neighbour.1) { Fit::Yes } else { Fit::No };
    }
    match loss.event.map(|event| died_for(space, event)) {
        _ if !loss.is_in(space) || !loss.is_of(CAUSE.id) => Fit::No,
        Some(Some(hop)) if hop == neighbour => Fit::Yes,
        Some(Some(_)) => Fit::No,
        // Where only their number is known, they waited for the only one who is silent.
        None if space.unresolved().all(|silent| silent == neighbour) => Fit::Yes,
        Some(None) | None => Fit::Maybe,
    }
}

/// The neighbour for want of whom this packet died. Where the one whom the tables name answers, the packet was led elsewhere
/// by what it does not show (its user, its mark): to the only one there who does not answer.
fn died_for(space: Space<'_>, event: &DropEvent) -> Option<Hop> {
    let named = next_hop(space, event)?;
    let answers =
        entry(space.after, named).is_some_and(|entry| entry.mac.is_some() && !is_unresolved(&entry.state));
    let mut silent = space.unresolved().filter(|(link, _)| answers && *link == named.0);
    let only = silent.next().filter(|_| silent.next().is_none());
    Some(only.unwrap_or(named))
}

fn harms(space: Space<'_>, neighbour: Hop, flow: &Flow<'_>) -> Fit {
    match entry(space.after, neighbour) {
        _ if !flow.suffers() || !goes_to(flow, space, neighbour) => Fit::No,
        // Whoever chose the address comes first.
        Some(entry) if is_unresolved(&entry.state) && flow.is_turned_to(neighbour.1) => Fit::Maybe,
        Some(entry) if is_unresolved(&entry.state) => Fit::Yes,
        Some(_) => Fit::No,
        None => Fit::Maybe,
    }
}

fn story(space: Space<'_>, neighbour: Hop, device: Option<&Link>) -> Story {
    let (link, ip) = neighbour;
    let dev = space.after.link_name(link);
    let show = ["ip", "neigh", "show", "dev", &dev];
    let claim = match entry(space.after, neighbour) {
        Some(entry) => STATE.fill(&[("ip", &ip), ("state", &entry.state)]),
        None => GONE.fill(&[("ip", &ip)]),
    };
    let story = |summary| Story::new(summary).evidence(claim, "neighbours", &show).fix(manual(SEARCH));
    let Some((there, holder)) = holders(space, ip).find(|(there, _)| !there.same(space)) else {
        return story(SUMMARY.fill(&[("ip", &ip), ("dev", &dev)]));
    };
    let joined = device.is_some_and(|device| {
        segment::of(space, device).iter().any(|(s, l)| s.same(there) && l.index == holder.index)
    });
    let words: [(&str, &dyn std::fmt::Display); 4] =
        [("ip", &ip), ("dev", &dev), ("there", &holder.name), ("target", &there.target().id)];
    let where_it_is = if joined { SILENT } else { ELSEWHERE };
    story(SUMMARY_IN_VIEW.fill(&words)).evidence(where_it_is.fill(&words), "addresses", &[])
}

fn is_unresolved(state: &str) -> bool {
    matches!(state, "incomplete" | "failed")
}
