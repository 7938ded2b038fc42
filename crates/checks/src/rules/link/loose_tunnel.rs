//! Ends of a tunnel that are a port of no bridge, although the other end is one and stations are behind both.

use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::segment;
use crate::evidence::tunnel::Tunnel;
use crate::fixes::by_hand;
use crate::loss::Kind;
use std::net::IpAddr;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Text, text};

const SUMMARY: Text = text!(
    "{port} is a port of no bridge, but its other end, {dev} of {target}, is one: nothing passes between {bridge} and there.",
    "{port} 不属于任何网桥，而其对端（{target} 的 {dev}）属于网桥：{bridge} 与对侧之间无法通行。"
);
const BARE: Text = text!("{port} has neither address nor bridge", "{port} 既没有地址也不属于网桥");
const TWIN: Text = text!("{dev} of {target} is a port of {master}", "{target} 的 {dev} 是 {master} 的端口");
const JOIN: Text = text!(
    "make it a port of the bridge: ip link set dev {port} master {bridge}",
    "把它加入网桥：ip link set dev {port} master {bridge}"
);

/// An end that is joined with nothing, its other end, and the bridge whose stations are asked for.
#[derive(Clone, Copy)]
struct Loose<'a> {
    here: Tunnel<'a>,
    there: Tunnel<'a>,
    master: &'a Link,
    bridge: &'a Link,
}

/// Those of one namespace; `used` says of a device that it has a use of its own.
pub(super) fn judge<'a>(
    space: Space<'a>,
    cause: &'static Cause,
    used: impl Fn(&Link) -> bool,
) -> Vec<Culprit<'a>> {
    let ends = space.links().filter(|link| link.up && link.master.is_none() && !used(link));
    let mut out = vec![];
    for here in ends.filter_map(|link| Tunnel::of(space, link)) {
        let twin = Tunnel::all(space.case).filter(|end| here.is_joined_with(end)).find_map(|there| {
            let master = there.space.link(there.link.master?)?;
            (master.kind.as_deref() == Some("bridge")).then_some((there, master))
        });
        let Some((there, master)) = twin else { continue };
        let bridges = space.links().filter(|link| link.kind.as_deref() == Some("bridge"));
        let loose = bridges.map(|bridge| Loose { here, there, master, bridge });
        let wanted = |loose: &Loose<'a>| space.case.flows.iter().any(|flow| !loose.parts(flow).is_empty());
        out.extend(loose.filter(wanted).map(|loose| loose.culprit(cause)));
    }
    out
}

impl<'a> Loose<'a> {
    /// The neighbours that a flow in trouble asks for on one side and that are on the other: there and back.
    fn parts(self, flow: &Flow<'a>) -> Vec<IpAddr> {
        let case = self.here.space.case;
        if !flow.suffers() {
            return vec![];
        }
        let sides = [(self.here.space, self.bridge), (self.there.space, self.master)];
        let [near, far] = sides.map(|(space, bridge)| segment::reachable(space, bridge));
        let mut out = vec![];
        for asker in case.spaces().filter(|asker| flow.visits(*asker)) {
            for (link, ip) in flow.next_hops(asker) {
                let asks = |(s, l): &(Space<'a>, &Link)| s.same(asker) && l.index == link;
                let holds = |(s, l): &(Space<'a>, &Link)| {
                    s.after.addresses.iter().any(|a| a.link == l.index && a.ip == ip)
                };
                let parted = |from: &[(Space<'a>, &Link)], to: &[(Space<'a>, &Link)]| {
                    from.iter().any(asks) && to.iter().any(holds) && !from.iter().any(holds)
                };
                if parted(&near, &far) || parted(&far, &near) {
                    out.push(ip);
                }
            }
        }
        out
    }

    fn culprit(self, cause: &'static Cause) -> Culprit<'a> {
        let Self { here, there, master, bridge } = self;
        let asked = move |loss: &crate::loss::Loss<'a>| {
            let wanted = || here.space.case.flows.iter().flat_map(|flow| self.parts(flow));
            loss.kind == Kind::Imagined && wanted().any(|ip| loss.asks_for() == Some(ip))
        };
        Culprit::new(here.space, cause, "link", Scope::Link, here.link.name.clone())
            .on(here.link.index)
            .concerns(there.space.is_target())
            .reaches()
            .takes(move |loss| sure(asked(loss)))
            .harms(move |flow| sure(!self.parts(flow).is_empty()))
            .tell(move |_| {
                let words: [(&str, &dyn std::fmt::Display); 5] = [
                    ("port", &here.link.name),
                    ("bridge", &bridge.name),
                    ("dev", &there.link.name),
                    ("target", &there.space.target().id),
                    ("master", &master.name),
                ];
                let show = ["ip", "-d", "link", "show", "dev", &here.link.name];
                Story::new(SUMMARY.fill(&words))
                    .evidence(BARE.fill(&words), "links", &show)
                    .evidence_in(there.space, TWIN.fill(&words), "other end", &["bridge", "link"])
                    .fix(by_hand(JOIN.fill(&words)))
            })
    }
}
