//! `neigh.wrong_lladdr`: A neighbour entry has the wrong link-layer address.

use super::entry;
use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule, Suspect, fix};
use whydrop_model::action::Action;
use whydrop_model::{Applicability, Cause, Direction, Text, text};

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
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Neighbours, Source::Links], consequence_of: &[], judge };

const SUMMARY: Text = text!(
    "The neighbour entry of {ip} says {mac}, but its interface has {right}.",
    "{ip} 的邻居项为 {mac}，而其接口的地址是 {right}。"
);
const ENTRY: Text = text!("the entry is {state} with {mac}", "该邻居项为 {state}，地址 {mac}");
const OWNER: Text =
    text!("{ip} belongs to {dev} of {target} with {right}", "{ip} 属于 {target} 的 {dev}，地址为 {right}");
const DELETE: Text = text!("delete the neighbour entry", "删除该邻居项");

fn judge(space: Space<'_>) -> Judgement {
    let mut suspects: Vec<Suspect> = vec![];
    for way in space.case.ways.iter().filter(|way| way.lost() > 0) {
        for (link, ip) in way.next_hops(space) {
            let Some((owner, there)) = space.after.link(link).and_then(|l| space.peer(l)) else { continue };
            let owns = owner.links_with(ip).any(|l| l.index == there.index);
            let entry = entry(space.after, link, ip).filter(|_| owns);
            let Some((mac, right)) = entry.and_then(|e| e.mac.as_ref()).zip(there.mac.as_ref()) else {
                continue;
            };
            let Some(entry) = entry.filter(|_| !mac.eq_ignore_ascii_case(right)) else { continue };
            let dev = space.after.link_name(link);
            let subject = format!("{ip} dev {dev}");
            if let Some(known) = suspects.iter_mut().find(|s| s.finding.subject == subject) {
                known.touches.push(way.index);
                continue;
            }
            let target = &owner.target().id;
            let words: [(&str, &dyn std::fmt::Display); 6] = [
                ("ip", &ip),
                ("mac", mac),
                ("right", right),
                ("state", &entry.state),
                ("dev", &there.name),
                ("target", target),
            ];
            let action = Action::NeighbourDelete { dev: dev.clone(), ip, mac: mac.clone() };
            let suspect = Suspect::new(space, &CAUSE, "neighbour.transmit", subject, SUMMARY.fill(&words))
                .direction(Direction::Transmit)
                .evidence(ENTRY.fill(&words), "neighbours", &["ip", "neigh", "show", "dev", &dev])
                .evidence(OWNER.fill(&words), "links", &[])
                .touches(vec![way.index])
                .fix(fix(space, DELETE.phrase(), Applicability::Safe, vec![action]));
            suspects.push(suspect);
        }
    }
    suspects.into()
}
