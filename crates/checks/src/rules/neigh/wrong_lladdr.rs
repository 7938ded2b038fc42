//! `neigh.wrong_lladdr`: A neighbour entry has the wrong link-layer address.

use super::{Hop, entry, goes_to, needed, next_hop};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::segment;
use crate::fixes::{by_hand, fix};
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use whydrop_model::action::Action;
use whydrop_model::snapshot::{Link, Neighbour, Snapshot};
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "neigh.wrong_lladdr",
    title: text!("A neighbour entry has the wrong link-layer address", "邻居项的链路层地址有误"),
    meaning: text!(
        "Packets to a neighbour are sent to a link-layer address that is not its own.",
        "发往邻居的包被送到了不属于它的链路层地址。"
    ),
    seen_by: text!(
        "The neighbour entry of the next hop differs from the address of the interface that owns the IP address, which is observed, too.",
        "下一跳的邻居项与实际拥有该 IP 地址的接口（也在观察之中）的链路层地址不同。"
    ),
    why_lost: text!(
        "The neighbour's interface takes the frame for another station's and discards it.",
        "邻居的接口认为该帧是发给其他站点的，将其丢弃。"
    ),
    what_to_do: text!(
        "Delete the entry; if it is permanent, find out who set it.",
        "删除该邻居项；若为永久项，查明是谁设置的。"
    ),
    when_wrong: text!(
        "Virtual addresses (VRRP, load balancers) have link-layer addresses of their own.",
        "虚拟地址（VRRP、负载均衡）有自己的链路层地址。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Neighbours, Source::Links], judge };

const SUMMARY: Text = text!(
    "The neighbour entry of {ip} says {mac}, but its interface has {right}.",
    "{ip} 的邻居项为 {mac}，而其接口的地址是 {right}。"
);
const SUMMARY_HEALED: Text = text!(
    "The neighbour entry of {ip} said {mac} until the kernel asked anew; its interface has {right}.",
    "{ip} 的邻居项曾为 {mac}，直到内核重新查询；其接口的地址是 {right}。"
);
const WATCH: Text = text!(
    "the entry is right by now; if it goes wrong again, find out who announces {mac} for {ip}",
    "该邻居项现已正确；若再次出错，请查明是谁为 {ip} 通告了 {mac}"
);
const ENTRY: Text = text!("the entry is {state} with {mac}", "该邻居项为 {state}，地址 {mac}");
const OWNER: Text =
    text!("{ip} belongs to {dev} of {target} with {right}", "{ip} 属于 {target} 的 {dev}，地址为 {right}");
const OTHER: Text = text!(
    "{mac} is {dev} of {target}, which does not have the address",
    "{mac} 是 {target} 的 {dev}，它没有该地址"
);
const DELETE: Text = text!("delete the neighbour entry", "删除该邻居项");

/// The setting by which a namespace passes on what is not its own.
const FORWARDING: &str = "net.ipv4.ip_forward";

fn judge(space: Space<'_>) -> Judgement<'_> {
    let wrong = needed(space).into_iter().filter_map(|neighbour| Wrong::of(space, neighbour));
    wrong.map(Wrong::culprit).collect::<Vec<_>>().into()
}

/// An entry that names none of the interfaces by which the owner of the address can be reached.
#[derive(Clone, Copy)]
struct Wrong<'a> {
    space: Space<'a>,
    neighbour: Hop,
    entry: &'a Neighbour,
    mac: &'a str,
    /// The interface that really has the address, with its link-layer address.
    owner: (Space<'a>, &'a Link),
    right: &'a str,
    /// The interface that the frames are sent to instead, if it is in view.
    other: Option<(Space<'a>, &'a Link)>,
    /// True if the kernel found out in the window, after what waited for an answer to its questions was lost.
    healed: bool,
}

impl<'a> Wrong<'a> {
    fn of(space: Space<'a>, neighbour: Hop) -> Option<Self> {
        let (link, ip) = neighbour;
        let near: Vec<_> = segment::reachable(space, space.after.link(link)?)
            .into_iter()
            .filter(|(there, device)| !(there.same(space) && device.index == link))
            .collect();
        let named =
            |device: &Link, mac: &str| device.mac.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(mac));
        let owner = near.iter().copied().find(|(there, device)| there.carries(device.index, ip))?;
        // A host answers for all of its addresses by each of its interfaces (arp_ignore 0).
        let owns = |there: Space<'_>| there.after.owns(ip);
        let wrong = |snapshot: &'a Snapshot| {
            let entry = entry(snapshot, neighbour)?;
            let mac = entry.mac.as_deref()?;
            let is_right = near.iter().any(|(there, device)| owns(*there) && named(device, mac));
            (!is_right).then_some((entry, mac))
        };
        let now = wrong(space.after);
        let (entry, mac) = now.or_else(|| wrong(space.before))?;
        let other = near.iter().copied().find(|(_, device)| named(device, mac));
        let right = owner.1.mac.as_deref()?;
        Some(Self { space, neighbour, entry, mac, owner, right, other, healed: now.is_none() })
    }

    fn culprit(self) -> Culprit<'a> {
        let (link, ip) = self.neighbour;
        let subject = format!("{ip} dev {}", self.space.after.link_name(link));
        Culprit::new(self.space, &CAUSE, "neighbour.transmit", Scope::Neighbour, subject)
            .direction(Direction::Transmit)
            .on(link)
            .reaches()
            .takes(move |loss| self.takes(loss))
            .harms(move |flow| self.harms(flow))
            .tell(move |_| self.story())
    }

    /// What the wrong station discards: a packet that is not for it.
    fn takes(self, loss: &Loss<'a>) -> Fit {
        // A stale entry is asked about at the address that it names, and nobody answers there (neigh_probe()).
        if loss.is_imagined_at(self.space, self.neighbour.0) && loss.asks_for() == Some(self.neighbour.1) {
            return Fit::Yes;
        }
        let there = self.other.is_some_and(|(there, _)| loss.is_in(there));
        let to_it = loss.event.and_then(|event| next_hop(self.space, event)) == Some(self.neighbour);
        match there && to_it && (loss.is_at_stage("route") || loss.is_at_stage("ip.receive")) {
            true => Fit::Yes,
            false => Fit::No,
        }
    }

    /// A station that forwards may pass on what is sent to it (proxy ARP).
    fn harms(self, flow: &Flow<'a>) -> Fit {
        let forwards = self.other.is_some_and(|(there, _)| there.after.sysctl(FORWARDING) == Some(1));
        match flow.suffers() && goes_to(flow, self.space, self.neighbour) {
            false => Fit::No,
            true if forwards || self.healed => Fit::Maybe,
            true => Fit::Yes,
        }
    }

    fn story(self) -> Story {
        let (link, ip) = self.neighbour;
        let dev = self.space.after.link_name(link);
        let (owner, device) = self.owner;
        let words: [(&str, &dyn std::fmt::Display); 6] = [
            ("ip", &ip),
            ("mac", &self.mac),
            ("right", &self.right),
            ("state", &self.entry.state),
            ("dev", &device.name),
            ("target", &owner.target().id),
        ];
        let action = Action::NeighbourDelete { dev: dev.clone(), ip, mac: self.mac.to_owned() };
        let summary = if self.healed { SUMMARY_HEALED } else { SUMMARY };
        let mend = match self.healed {
            true => by_hand(WATCH.fill(&words)),
            false => fix(self.space, DELETE.phrase(), vec![action]),
        };
        let story = Story::new(summary.fill(&words))
            .evidence(ENTRY.fill(&words), "neighbours", &["ip", "neigh", "show", "dev", &dev])
            .evidence(OWNER.fill(&words), "links", &[])
            .fix(mend);
        let Some((there, other)) = self.other else { return story };
        let words: [(&str, &dyn std::fmt::Display); 3] =
            [("mac", &self.mac), ("dev", &other.name), ("target", &there.target().id)];
        story.evidence(OTHER.fill(&words), "links", &[])
    }
}
