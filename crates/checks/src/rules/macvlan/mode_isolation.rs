//! `macvlan.mode_isolation`: the macvlan mode keeps the endpoints apart.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::fixes::manual;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeSet;
use std::net::IpAddr;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "macvlan.mode_isolation",
    title: text!("The macvlan mode keeps the endpoints apart", "macvlan 模式使两端相互隔离"),
    meaning: text!(
        "The address is on a macvlan or ipvlan whose lower device is the very one that asks for it, or on another one above the same device in a mode that lets them not see each other.",
        "目标地址所在的 macvlan 或 ipvlan，其下层设备正是发出请求的设备；或两者共用同一下层设备，而其模式使彼此不可见。"
    ),
    seen_by: text!(
        "A flow suffers between the two devices; both are in view, with their lower device and mode.",
        "两个设备之间的流量受影响；两者及其下层设备和模式都在可见范围内。"
    ),
    why_lost: text!(
        "What leaves by the lower device goes to the wire, and what a macvlan sends never comes back to its lower device: the kernel does not loop it. Modes private and vepa do not pass frames to their neighbours either.",
        "从下层设备发出的帧直接上线路，macvlan 发出的帧也不会回到其下层设备：内核不做环回。private 和 vepa 模式也不会把帧交给相邻设备。"
    ),
    what_to_do: text!(
        "Give the host a macvlan of its own above the same device, in mode bridge, and put its address there; set the others to mode bridge.",
        "在同一设备上为主机创建一个 bridge 模式的 macvlan，并把主机地址放在其上；其他 macvlan 也设为 bridge 模式。"
    ),
    when_wrong: text!(
        "In mode vepa a switch that sends frames back (hairpin) joins them.",
        "vepa 模式下，若交换机把帧送回（hairpin），两者可以互通。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links, Source::Addresses], judge };

/// rtnl_link_ops.kind of devices that share a lower one.
const SHARING: &[&str] = &["macvlan", "ipvlan"];
/// Modes in which two macvlans above one device do not see each other (macvlan_queue_xmit()).
const APART: &[&str] = &["private", "vepa"];

const SUMMARY_LOWER: Text = text!(
    "{dev} is a macvlan above {other} of {target}: the two cannot reach each other.",
    "{dev} 是 {target} 的 {other} 之上的 macvlan：两者无法互通。"
);
const SUMMARY_BESIDE: Text = text!(
    "{dev} and {other} of {target} share a lower device, and the mode keeps them apart.",
    "{dev} 与 {target} 的 {other} 共用下层设备，而其模式使两者相互隔离。"
);
const STACKED: Text = text!(
    "{dev} ({kind}, mode {mode}) lies above {lower} of {below}",
    "{dev}（{kind}，{mode} 模式）位于 {below} 的 {lower} 之上"
);
const OWN_MACVLAN: Text = text!(
    "give {target} a macvlan of its own and move its address there: ip link add link {lower} type macvlan mode bridge",
    "为 {target} 创建自己的 macvlan 并把地址移到其上：ip link add link {lower} type macvlan mode bridge"
);
const MODE_BRIDGE: Text = text!(
    "let both see each other: ip link set {dev} type macvlan mode bridge, and the same for {other}",
    "让两者互通：ip link set {dev} type macvlan mode bridge，{other} 同样处理"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut out = vec![];
    for link in space.links().filter(|link| is_sharing(link)) {
        let Some((below, lower)) = lower(space, link) else { continue };
        for pair in Pair::all(space, link, below, lower) {
            if pair.is_needed(|asker| asker.asks_for()) {
                out.push(pair.culprit());
            }
        }
    }
    out.into()
}

fn is_sharing(link: &Link) -> bool {
    link.kind.as_deref().is_some_and(|kind| SHARING.contains(&kind))
}

fn mode(link: &Link) -> &str {
    link.details.get("mode").map_or("?", String::as_str)
}

/// The device below, if its namespace is in view.
fn lower<'a>(space: Space<'a>, link: &Link) -> Option<(Space<'a>, &'a Link)> {
    let below = match link.link_netnsid {
        None => space,
        Some(_) => space.case.space_by_inode(link.link_netns_inode?)?,
    };
    Some((below, below.after.link(link.link?)?))
}

fn next_hops(flow: &Flow<'_>, from: Space<'_>) -> BTreeSet<(u32, IpAddr)> {
    flow.next_hops(from).into_iter().collect()
}

/// Two devices that cannot reach each other.
#[derive(Clone, Copy)]
struct Pair<'a> {
    space: Space<'a>,
    link: &'a Link,
    below: Space<'a>,
    lower: &'a Link,
    /// The lower device itself, or another above it.
    other: (Space<'a>, &'a Link),
}

impl<'a> Pair<'a> {
    /// The device below, and those beside with which the mode forbids to speak, each pair once.
    fn all(space: Space<'a>, link: &'a Link, below: Space<'a>, lower: &'a Link) -> Vec<Self> {
        let pair = |other| Self { space, link, below, lower, other };
        let own = (space.inode(), link.index);
        let beside = space.case.spaces().flat_map(|there| {
            let above = there.links().filter(move |l| {
                let same = |(s, l): (Space<'_>, &Link)| s.same(below) && l.index == lower.index;
                own < (there.inode(), l.index) && is_sharing(l) && self::lower(there, l).is_some_and(same)
            });
            above.map(move |l| (there, l))
        });
        let apart = |(_, l): &(Space<'a>, &Link)| [mode(link), mode(l)].iter().any(|m| APART.contains(m));
        std::iter::once(pair((below, lower))).chain(beside.filter(apart).map(pair)).collect()
    }

    fn is_lower(&self) -> bool {
        self.other.0.same(self.below) && self.other.1.index == self.lower.index
    }

    /// True if one of the two has to hand packets to an address of the other, as far as these next hops say.
    fn is_needed(&self, next_hops: impl Fn(Space<'a>) -> BTreeSet<(u32, IpAddr)>) -> bool {
        let own = (self.space, self.link);
        let asks = |(from, by): (Space<'a>, &Link), (to, at): (Space<'a>, &Link)| {
            next_hops(from).into_iter().any(|(link, ip)| link == by.index && to.carries(at.index, ip))
        };
        asks(own, self.other) || asks(self.other, own)
    }

    fn takes(&self, loss: &Loss<'a>) -> Fit {
        let own = (self.space, self.link);
        let at = |(space, link): (Space<'a>, &Link)| loss.is_imagined_at(space, link.index);
        let for_one = |(space, link): (Space<'a>, &Link)| {
            loss.asks_for().is_some_and(|ip| space.carries(link.index, ip))
        };
        sure((at(own) || at(self.other)) && (for_one(own) || for_one(self.other)))
    }

    fn culprit(self) -> Culprit<'a> {
        let (there, _) = self.other;
        // Told where somebody asked.
        let (at, subject) = match self.space.is_target() || !there.is_target() {
            true => (self.space, self.link),
            false => self.other,
        };
        Culprit::new(at, &CAUSE, "link.transmit", Scope::Link, subject.name.clone())
            .on(subject.index)
            .reaches()
            .takes(move |loss| self.takes(loss))
            .harms(move |flow| sure(flow.suffers() && self.is_needed(|from| next_hops(flow, from))))
            .tell(move |_| self.story())
    }

    fn story(&self) -> Story {
        let (there, other) = self.other;
        let words: [(&str, &dyn std::fmt::Display); 7] = [
            ("dev", &self.link.name),
            ("other", &other.name),
            ("target", &there.target().id),
            ("kind", &self.link.kind.as_deref().unwrap_or("")),
            ("mode", &mode(self.link)),
            ("lower", &self.lower.name),
            ("below", &self.below.target().id),
        ];
        let (summary, advice) = match self.is_lower() {
            true => (SUMMARY_LOWER, OWN_MACVLAN),
            false => (SUMMARY_BESIDE, MODE_BRIDGE),
        };
        let mut fix = manual(advice);
        fix.title = advice.fill(&words);
        let show = ["ip", "-d", "link", "show", "dev", &self.link.name];
        Story::new(summary.fill(&words)).evidence(STACKED.fill(&words), "links", &show).fix(fix)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::snapshot::Link;
    use whydrop_model::{Reading, Snapshot};

    /// The server's eth0 as a macvlan above the client's eth0, or both above the host's p9.
    fn above(world: &mut World, index: usize, lower: u32, inode: u64, mode: &str) {
        world.both(index, |s: &mut Snapshot| {
            let Reading::Present(links) = &mut s.links else { return };
            for link in links.iter_mut().filter(|link| link.index == 2) {
                (link.kind, link.link) = (Some("macvlan".into()), Some(lower));
                link.link_netns_inode = Some(inode);
                link.details.insert("mode".into(), mode.into());
            }
        });
    }

    fn asks_in_vain(world: &mut World) {
        world.after(CLIENT, |s| {
            s.neighbours = Reading::Present(vec![neighbour("10.0.0.2", None, "failed")]);
        });
        world.probe("tcp://10.0.0.2:80", 20, 20);
    }

    #[test]
    fn the_lower_device_cannot_reach_what_lies_above_it() {
        let mut world = World::pair();
        above(&mut world, SERVER, 2, 4001, "bridge");
        world.both(CLIENT, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            for link in links.iter_mut().filter(|link| link.index == 2) {
                (link.kind, link.link, link.link_netnsid, link.link_netns_inode) = (None, None, None, None);
            }
        });
        asks_in_vain(&mut world);
        assert_eq!(world.found(), ["macvlan.mode_isolation @ netns:server: eth0"]);
        assert_eq!(world.report().ledger.unexplained, 0);
    }

    #[test]
    fn without_a_flow_the_packets_that_died_waiting_for_the_neighbour_speak() {
        let mut world = beside(["private", "private"]);
        world.observation.probes.clear();
        world.observation.namespaces[CLIENT].target.role = whydrop_model::Role::Target;
        world.drops(CLIENT, "NEIGH_FAILED", "neigh_invalidate", 3);
        assert_eq!(world.found().len(), 1, "{:?}", world.found());
        assert!(world.found()[0].starts_with("macvlan.mode_isolation"));
    }

    /// Client and server above p9 of the host.
    fn beside(modes: [&str; 2]) -> World {
        let mut world = World::bridged();
        world.both(HOST, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            let mut lower = veth(20, "p9", 0);
            (lower.kind, lower.link, lower.link_netnsid, lower.link_netns_inode) = (None, None, None, None);
            *links = links.iter().filter(|link: &&Link| link.loopback).cloned().chain([lower]).collect();
        });
        above(&mut world, CLIENT, 20, 4000, modes[0]);
        above(&mut world, SERVER, 20, 4000, modes[1]);
        asks_in_vain(&mut world);
        world
    }

    #[test]
    fn a_private_one_is_alone_and_two_in_mode_bridge_are_not() {
        assert_eq!(beside(["bridge", "private"]).found(), ["macvlan.mode_isolation @ netns:server: eth0"]);
        let found = beside(["bridge", "bridge"]).found();
        assert_eq!(found, ["neigh.unresolved @ netns:client: 10.0.0.2 dev eth0"]);
    }
}
