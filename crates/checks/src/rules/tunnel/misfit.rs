//! Ends of one tunnel whose outer settings do not fit: an address to send from that is not there, another group, another
//! device below.

use super::{between, odd_ones};
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::route::{self, Lookup};
use crate::evidence::segment;
use crate::evidence::tunnel::{Pair, Tunnel};
use crate::fixes::by_hand;
use crate::loss::Kind;
use std::net::IpAddr;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Text, text};

const SUMMARY_LOCAL: Text = text!(
    "{dev} sends from {local}, an address that this namespace does not have, so nothing of it leaves.",
    "{dev} 以 {local} 为源地址发送，而本命名空间没有该地址，因此什么也发不出去。"
);
const LOCAL: Text = text!("{dev} has the local address {local}", "{dev} 的 local 地址为 {local}");
const DO_LOCAL: Text = text!(
    "give {dev} a local address that this namespace has, or add {local} to the device below it",
    "为 {dev} 设置本命名空间拥有的 local 地址，或在其下层设备上添加 {local}"
);
const SUMMARY_GROUP: Text = text!(
    "{dev} sends to the group {group}, but the other end, {there} of {target}, has joined {right}.",
    "{dev} 发往组播组 {group}，而对端（{target} 的 {there}）加入的是 {right}。"
);
const GROUP: Text = text!("{dev} has the group {group}", "{dev} 的组播组为 {group}");
const DO_GROUP: Text = text!(
    "make {dev} anew with the group of the other end: {right}",
    "以对端的组播组 {right} 重新创建 {dev}"
);
const SUMMARY_BELOW: Text = text!(
    "{dev} sends by {below}, but the other end, {there} of {target}, is reached by {right}.",
    "{dev} 经 {below} 发送，而对端（{target} 的 {there}）要经 {right} 才能到达。"
);
const BELOW: Text = text!("{dev} stands on {below}", "{dev} 建立在 {below} 之上");
const DO_BELOW: Text =
    text!("make {dev} anew on the right device: dev {right}", "在正确的设备上重新创建 {dev}：dev {right}");

/// The kernel's name for a packet for which it finds no route.
const NO_WAY: &str = "IP_OUTNOROUTES";

/// Those of one namespace.
pub(super) fn judge<'a>(space: Space<'a>, cause: &'static Cause) -> Vec<Culprit<'a>> {
    let here = space.links().filter_map(|link| Tunnel::of(space, link));
    let locals = here.filter_map(|here| foreign(here, cause));
    let groups = odd_ones(space, |here| missed(here, in_other_group));
    let groups = groups.into_iter().map(|(here, others)| grouped(here, others, cause));
    let below = space.links().filter_map(|link| Tunnel::of(space, link));
    let below = below.filter_map(|here| misplaced(here, cause));
    locals.chain(groups).chain(below).collect()
}

/// Ends of the same network that would understand this one.
fn alike<'a>(here: Tunnel<'a>) -> impl Iterator<Item = Tunnel<'a>> {
    Tunnel::all(here.space.case).filter(move |end| here.is_like(end) && here.port == end.port)
}

/// An end that sends from an address of somebody else: the kernel finds no way for that (`__ip_route_output_key()`).
fn foreign<'a>(here: Tunnel<'a>, cause: &'static Cause) -> Option<Culprit<'a>> {
    let local = here.local.filter(|local| !here.space.after.owns(*local) && !local.is_multicast())?;
    let others: Vec<_> = alike(here).collect();
    let known = here.space.after.addresses.is_present() && !others.is_empty();
    let asked = others.clone();
    let mut culprit = known.then(|| between(cause, here, others))?.takes(move |loss| {
        // What is sent by it finds no way for its outer packet, whatever it is.
        let sent = loss.is_at(here.space, here.link.index) && loss.reason() == Some(NO_WAY);
        sure(sent || asked.iter().any(|there| Pair(here, *there).is_asked(loss)))
    });
    // Before the routes, which are asked in vain because of it.
    culprit.scope = Scope::Neighbour;
    Some(culprit.tell(move |_| {
        let words: [(&str, &dyn std::fmt::Display); 2] = [("dev", &here.link.name), ("local", &local)];
        Story::new(SUMMARY_LOCAL.fill(&words))
            .evidence(LOCAL.fill(&words), "links", &["ip", "-d", "link", "show", "dev", &here.link.name])
            .fix(by_hand(DO_LOCAL.fill(&words)))
    }))
}

/// The group that it sends to, if that is all.
fn group(end: Tunnel<'_>) -> Option<IpAddr> {
    let mut remotes = end.remotes();
    remotes.next().filter(|ip| ip.is_multicast() && remotes.next().is_none())
}

fn in_other_group(here: Tunnel<'_>, there: Tunnel<'_>) -> bool {
    group(here).zip(group(there)).is_some_and(|(here, there)| here != there)
}

/// Ends that do not fit, in namespaces to which no other end of this one leads.
fn missed<'a>(here: Tunnel<'a>, misfits: impl Fn(Tunnel<'a>, Tunnel<'a>) -> bool) -> Vec<Tunnel<'a>> {
    let joined = |there: &Tunnel<'a>| {
        let ends = || Tunnel::all(here.space.case);
        let ours = || ends().filter(|end| end.space.same(here.space));
        ends().filter(|end| end.space.same(there.space)).any(|end| ours().any(|our| our.is_joined_with(&end)))
    };
    alike(here).filter(|there| misfits(here, *there) && !joined(there)).collect()
}

fn grouped<'a>(here: Tunnel<'a>, others: Vec<Tunnel<'a>>, cause: &'static Cause) -> Culprit<'a> {
    let there = others.first().copied();
    between(cause, here, others).tell(move |_| {
        let show = ["ip", "-d", "link", "show", "dev", &here.link.name];
        let shown = |ip: Option<IpAddr>| ip.map_or_else(String::new, |ip| ip.to_string());
        let (group, right) = (shown(group(here)), shown(there.and_then(self::group)));
        let name = there.map_or("", |there| there.link.name.as_str());
        let target = there.map_or("", |there| there.space.target().id.as_str());
        let words: [(&str, &dyn std::fmt::Display); 5] = [
            ("dev", &here.link.name),
            ("group", &group),
            ("there", &name),
            ("target", &target),
            ("right", &right),
        ];
        Story::new(SUMMARY_GROUP.fill(&words))
            .evidence(GROUP.fill(&words), "links", &show)
            .fix(by_hand(DO_GROUP.fill(&words)))
    })
}

/// An end on a device that does not lead to the other one, although another device here does.
fn misplaced<'a>(here: Tunnel<'a>, cause: &'static Cause) -> Option<Culprit<'a>> {
    let space = here.space;
    let below = lower(here).and_then(|link| space.link(link)).filter(|below| below.master.is_none())?;
    let (there, right) = alike(here).find_map(|there| {
        if !here.sends_to(&there) || !there.sends_to(&here) {
            return None;
        }
        Some((there, way_to(here, there).filter(|right| right.index != below.index)?))
    })?;
    let met = |(seen, link): &(Space<'a>, &Link)| seen.same(there.space) && !link.loopback;
    if segment::reachable(space, below).iter().any(met) {
        return None;
    }
    let culprit = between(cause, here, vec![there]).takes(move |loss| {
        // Who is looked for on the wrong device does not answer there.
        let outer = loss.kind == Kind::Imagined && loss.is_in(space);
        let outer = outer && here.remotes().any(|remote| loss.asks_for() == Some(remote));
        sure(outer || Pair(here, there).is_asked(loss))
    });
    Some(culprit.tell(move |_| {
        let words: [(&str, &dyn std::fmt::Display); 5] = [
            ("dev", &here.link.name),
            ("below", &below.name),
            ("there", &there.link.name),
            ("target", &there.space.target().id),
            ("right", &right.name),
        ];
        Story::new(SUMMARY_BELOW.fill(&words))
            .evidence(BELOW.fill(&words), "links", &["ip", "-d", "link", "show", "dev", &here.link.name])
            .fix(by_hand(DO_BELOW.fill(&words)))
    }))
}

/// The device that it is set to send by.
fn lower(end: Tunnel<'_>) -> Option<u32> {
    end.link.details.get("lower")?.parse().ok()
}

/// The device by which the other end is reached: of a group the one on whose segment the other end's device is.
fn way_to<'a>(here: Tunnel<'a>, there: Tunnel<'a>) -> Option<&'a Link> {
    let space = here.space;
    if let Some(remote) = here.remote.filter(|remote| !remote.is_multicast()) {
        return match route::lookup(space, remote, here.local) {
            Lookup::Via(_, hop) => space.link(hop.link?),
            _ => None,
        };
    }
    let lower = lower(there)?;
    let on = |link: &&Link| {
        let mut met = segment::reachable(space, link).into_iter();
        met.any(|(seen, device)| seen.same(there.space) && device.index == lower)
    };
    space.links().filter(|link| !link.loopback && !segment::is_tunnel(link)).find(on)
}
