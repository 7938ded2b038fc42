//! `addr.wrong_prefix`: an address has the wrong prefix length.

use super::asks_for;
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::evidence::route::{Lookup, contains, lookup};
use crate::evidence::segment;
use crate::evidence::way::End;
use crate::fixes::manual;
use crate::loss::missing::Frame;
use crate::loss::{Kind, Loss};
use crate::rule::{Judgement, Rule};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use whydrop_model::snapshot::{Address, Link, Neighbour};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "addr.wrong_prefix",
    title: text!("An address has the wrong prefix length", "地址的前缀长度有误"),
    meaning: text!(
        "Two stations of one segment disagree about how large their network is.",
        "同一网段的两台主机对网络大小的认识不一致。"
    ),
    seen_by: text!(
        "Of two stations that are joined one takes the other for a neighbour, and that one has a shorter or longer prefix and looks for the first elsewhere, or for strangers on the segment.",
        "相连的两台主机中，一方视另一方为邻居，而后者前缀更长或更短，因而到别处寻找前者，或在网段上寻找不在其中的主机。"
    ),
    why_lost: text!(
        "With a prefix that is too long the answers have no route or go to the gateway; with one that is too short hosts behind a router are asked for by ARP, and nobody answers.",
        "前缀过长时，应答没有路由或被送往网关；前缀过短时，会用 ARP 查询路由器之后的主机，而无人应答。"
    ),
    what_to_do: text!(
        "Give all stations of the segment the same prefix length.",
        "让该网段的所有主机使用相同的前缀长度。"
    ),
    when_wrong: text!(
        "Host addresses (/32, /128) with routes of their own are meant so.",
        "带有专门路由的主机地址（/32、/128）是有意为之。"
    ),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Addresses, Source::Routes, Source::Links], judge };

const SUMMARY_LONG: Text = text!(
    "{dev} has {own}/{prefix}, so that {other} of {target} is no neighbour to it; the others of the segment have /{right}.",
    "{dev} 的地址为 {own}/{prefix}，因而 {target} 的 {other} 不是它的邻居；该网段其他主机为 /{right}。"
);
const SUMMARY_SHORT: Text = text!(
    "{dev} has {own}/{prefix} and asks for {other} on the segment, but it is in {target}; the others of the segment have /{right}.",
    "{dev} 的地址为 {own}/{prefix}，并在网段上查询 {other}，而后者在 {target}；该网段其他主机为 /{right}。"
);
const NETWORKS: Text = text!(
    "{dev} has {own}/{prefix}, a neighbour has {near}/{right}",
    "{dev} 为 {own}/{prefix}，邻居为 {near}/{right}"
);
const DO: Text = text!(
    "set the prefix length: ip addr add {own}/{right} dev {dev}, then ip addr del {own}/{prefix} dev {dev}",
    "修改前缀长度：ip addr add {own}/{right} dev {dev}，然后 ip addr del {own}/{prefix} dev {dev}"
);

/// An address whose prefix does not fit.
#[derive(Clone, Copy)]
struct Wrong<'a> {
    space: Space<'a>,
    link: &'a Link,
    own: &'a Address,
    /// A neighbour's address, whose prefix is right.
    near: &'a Address,
    /// Who is looked for in the wrong place, and where he is.
    other: IpAddr,
    target: Space<'a>,
    too_long: bool,
}

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut found: BTreeMap<(u32, IpAddr), Wrong<'_>> = BTreeMap::new();
    for there in space.case.spaces() {
        for (index, ip) in there.asks_for() {
            let Some(by) = there.after.link(index) else { continue };
            let wrong = match there.same(space) {
                true => too_short(space, by, ip),
                false => too_long(there, by, space, ip),
            };
            if let Some(wrong) = wrong {
                found.entry((wrong.link.index, wrong.other)).or_insert(wrong);
            }
        }
    }
    for (by, to) in stranded(space) {
        for (there, device) in segment::reachable(space, by).into_iter().filter(|(s, _)| !s.same(space)) {
            let mine = || on(space, by, to).filter(|_| there.carries(device.index, to));
            for wrong in mine().filter_map(|own| too_long(there, device, space, own.ip)) {
                found.entry((wrong.link.index, wrong.other)).or_insert(wrong);
            }
        }
    }
    found.into_values().map(Wrong::culprit).collect::<Vec<_>>().into()
}

/// Addresses to which flows that suffer find no route here, with each interface by which they may be meant to leave.
fn stranded(space: Space<'_>) -> impl Iterator<Item = (&Link, IpAddr)> {
    let flows = space.case.flows.iter().filter(|flow| flow.suffers());
    let lost: BTreeSet<IpAddr> = flows.filter_map(|flow| flow.ends_here(space, End::NoRoute)).collect();
    let links = move |to| space.links().filter(|link| !link.loopback).map(move |link| (link, to));
    lost.into_iter().flat_map(links)
}

/// Addresses of the family on the interface.
fn on<'a>(space: Space<'a>, link: &'a Link, like: IpAddr) -> impl Iterator<Item = &'a Address> {
    let mine = move |a: &&Address| a.link == link.index && a.ip.is_ipv4() == like.is_ipv4();
    space.after.addresses.iter().filter(mine)
}

/// Somebody takes an address of `space` for a neighbour's; is he one to it, too?
fn too_long<'a>(asker: Space<'a>, by: &'a Link, space: Space<'a>, ip: IpAddr) -> Option<Wrong<'a>> {
    let near = on(asker, by, ip).find(|a| contains(a.ip, a.prefix, ip))?;
    let link = space.links_with(ip).next()?;
    let joined = segment::reachable(asker, by).iter().any(|(s, l)| s.same(space) && l.index == link.index);
    let own = on(space, link, ip).find(|a| a.ip == ip).filter(|_| joined)?;
    let wrong = own.prefix > near.prefix && !is_host(own) && !contains(own.ip, own.prefix, near.ip);
    let direct = matches!(lookup(space, near.ip, Some(ip)), Lookup::Via(_, hop) if hop.link == Some(link.index)
        && hop.gateway.is_none());
    (wrong && !direct).then_some(Wrong {
        space,
        link,
        own,
        near,
        other: near.ip,
        target: asker,
        too_long: true,
    })
}

/// `space` takes an address for a neighbour's; is it on the segment, as far as its neighbours know?
fn too_short<'a>(space: Space<'a>, by: &'a Link, ip: IpAddr) -> Option<Wrong<'a>> {
    let own = on(space, by, ip).find(|a| contains(a.ip, a.prefix, ip))?;
    // Proxy ARP answers for strangers.
    let answered = |n: &Neighbour| (n.link, n.ip) == (by.index, ip) && n.mac.is_some();
    if space.after.neighbours.iter().any(answered) {
        return None;
    }
    let segment = segment::of(space, by);
    let target = space.case.owners(ip).find(|there| !there.same(space))?;
    let at_home = |(s, l): &(Space<'a>, &'a Link)| on(*s, l, ip).any(|a| a.ip == ip);
    if segment.iter().any(at_home) {
        return None;
    }
    let others = segment::reachable(space, by).into_iter().filter(|(s, _)| !s.same(space));
    let mut near = others.flat_map(|(s, l)| on(s, l, ip).collect::<Vec<_>>());
    let narrower = |a: &&Address| {
        a.prefix > own.prefix
            && !is_host(a)
            && contains(a.ip, a.prefix, own.ip)
            && !contains(a.ip, a.prefix, ip)
    };
    let near = near.find(narrower)?;
    Some(Wrong { space, link: by, own, near, other: ip, target, too_long: false })
}

/// True for an address without a network.
fn is_host(address: &Address) -> bool {
    address.prefix == if address.ip.is_ipv4() { 32 } else { 128 }
}

impl<'a> Wrong<'a> {
    fn culprit(self) -> Culprit<'a> {
        let Self { space, link, own, other, .. } = self;
        Culprit::new(
            space,
            &CAUSE,
            "route.output",
            Scope::Route,
            format!("{}/{} dev {}", own.ip, own.prefix, link.name),
        )
        .on(link.index)
        .takes(move |loss| self.takes(loss))
        .harms(move |flow| {
            let ends = [flow.source, flow.address];
            // Who finds no route has no source address yet.
            let own_end = || ends.contains(&Some(own.ip)) || flow.source.is_none() && flow.starts_in(space);
            let between = ends.contains(&Some(other)) && (!self.too_long || own_end());
            match flow.suffers() && flow.visits(space) && between {
                // A gateway may bring the answers back, if by a detour.
                true if self.too_long && self.has_detour() => Fit::Maybe,
                true => Fit::Yes,
                false => Fit::No,
            }
        })
        .tell(move |_| self.story())
    }

    /// What should have left by this interface and found no way; what was asked for and is not there.
    fn takes(self, loss: &Loss<'a>) -> Fit {
        match loss.kind == Kind::Imagined && self.too_long {
            true if self.is_answer_to(loss) => Fit::Yes,
            true => Fit::No,
            false => asks_for(self.other, loss, &[(self.space, self.link.index)]),
        }
    }

    fn has_detour(self) -> bool {
        matches!(lookup(self.space, self.other, Some(self.own.ip)), Lookup::Via(..))
    }

    fn is_answer_to(self, loss: &Loss<'a>) -> bool {
        let to_other =
            matches!(&loss.frame, Some(Frame::Ip(Some(packet))) if packet.destination == Some(self.other));
        to_other
            && loss.is_in(self.space)
            && loss.hook.is_none()
            && loss.link.is_none_or(|link| link == self.link.index)
    }

    fn story(self) -> Story {
        let words: [(&str, &dyn std::fmt::Display); 7] = [
            ("dev", &self.link.name),
            ("own", &self.own.ip),
            ("prefix", &self.own.prefix),
            ("other", &self.other),
            ("target", &self.target.target().id),
            ("right", &self.near.prefix),
            ("near", &self.near.ip),
        ];
        let mut fix = manual(DO);
        fix.title = DO.fill(&words);
        let summary = if self.too_long { SUMMARY_LONG } else { SUMMARY_SHORT };
        let show = ["ip", "addr", "show", "dev", &self.link.name];
        Story::new(summary.fill(&words)).evidence(NETWORKS.fill(&words), "addresses", &show).fix(fix)
    }
}
