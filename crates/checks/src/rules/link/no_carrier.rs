//! `link.no_carrier`: an interface has no carrier.

use super::{flapping, is_only_way_out};
use crate::coverage::Source;
use crate::culprit::{Culprit, Missing, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::fixes::manual;
use crate::loss::missing::{self, Frame};
use crate::rule::{Judgement, Rule};
use whydrop_model::shell::sanitize;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "link.no_carrier",
    title: text!("An interface has no carrier", "接口没有载波"),
    meaning: text!(
        "The interface is switched on, but the other end is not there: cable, switch port, veth peer or lower device is down.",
        "接口已启用，但对端不在：网线、交换机端口、veth 对端或下层设备处于关闭状态。"
    ),
    seen_by: text!(
        "IFF_LOWER_UP is missing on an interface that the probes need, or on the only way out of the namespace.",
        "探测所需的接口或命名空间的唯一出口缺少 IFF_LOWER_UP 标志。"
    ),
    why_lost: text!(
        "Without carrier the queue of the interface throws everything away.",
        "没有载波时，接口队列会丢弃所有包。"
    ),
    what_to_do: text!(
        "Look at the other end: switch on the peer, check the cable and the switch port.",
        "检查对端：启用 peer，检查网线和交换机端口。"
    ),
    when_wrong: text!(
        "A bridge without ports and a spare socket have no carrier and need none.",
        "没有端口的网桥和备用网口没有载波，也不需要。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links], judge };

const SUMMARY: Text = text!(
    "The interface {dev} has no carrier: its other end is down.",
    "接口 {dev} 没有载波：对端处于关闭状态。"
);
const LOST: Text =
    text!("{dev} is up without carrier (operstate {state})", "{dev} 已启用但没有载波（operstate {state}）");
const OTHER_END: Text = text!(
    "switch on the other end: the veth peer, the switch port, the lower device",
    "启用对端：veth 对端、交换机端口或下层设备"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    // A bond has the carrier of its members, and is in trouble without one for reasons of its own.
    let is_bond = |link: &Link| link.kind.as_deref() == Some("bond");
    let dead = space.links().filter(|link| link.up && !link.lower_up && !link.loopback && !is_bond(link));
    // Of one that comes and goes the moment of the second reading says nothing.
    let dead = dead.filter(|link| flapping(space, link).is_none());
    dead.map(|link| culprit(space, link)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, link: &'a Link) -> Culprit<'a> {
    Culprit::new(space, &CAUSE, "link", Scope::Link, link.name.clone())
        .on(link.index)
        .by_itself(is_only_way_out(space, link))
        .misses(other_ends(space, link))
        .takes(move |loss| sure(loss.is_at(space, link.index)))
        .harms_via(link.index)
        .tell(move |_| {
            let dev = link.name.as_str();
            let claim = LOST.fill(&[("dev", &dev), ("state", &sanitize(&link.operstate, 40))]);
            Story::new(SUMMARY.fill(&[("dev", &dev)]))
                .evidence(claim, "links", &["ip", "link", "show", "dev", dev])
                .fix(manual(OTHER_END))
        })
}

/// Carrier is what the other end gives: the peer of a veth, or the device below.
fn other_ends<'a>(space: Space<'a>, link: &'a Link) -> Missing<'a> {
    let peer = space.peer(link).map(|(there, peer)| missing::at(there, peer.index, Frame::Ip(None)));
    let below = link.link.filter(|_| link.kind.as_deref() != Some("veth"));
    let below = below.and_then(|index| match link.link_netns_inode {
        Some(inode) => Some((space.case.space_by_inode(inode)?, index)),
        None => Some((space, index)),
    });
    peer.into_iter().chain(below.map(|(there, index)| missing::at(there, index, Frame::Ip(None)))).collect()
}
