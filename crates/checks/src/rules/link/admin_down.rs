//! `link.admin_down`: an interface that the path needs is down.

use super::{flapping, is_bare, is_only_way_out};
use crate::coverage::Source;
use crate::culprit::{Culprit, Missing, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::route::contains;
use crate::evidence::way::End;
use crate::fixes::fix;
use crate::loss::{Kind, Loss, missing};
use crate::rule::{Judgement, Rule};
use whydrop_model::action::Action;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "link.admin_down",
    title: text!("An interface that the path needs is down", "路径所需的接口被关闭"),
    meaning: text!(
        "The interface was switched off (ip link set down) or never switched on.",
        "接口被关闭（ip link set down）或从未启用。"
    ),
    seen_by: text!(
        "An interface without IFF_UP carries the probed address, leads to it, or is the only way out of the namespace.",
        "没有 IFF_UP 标志的接口持有被探测的地址、通向该地址，或是命名空间的唯一出口。"
    ),
    why_lost: text!(
        "Nothing is sent or received through it, its routes are gone, and its neighbours get no answer.",
        "通过它收发不了任何包，它的路由消失，邻居也得不到应答。"
    ),
    what_to_do: text!("Switch it on, and find out who switched it off.", "启用该接口，并查明是谁关闭了它。"),
    when_wrong: text!(
        "A spare interface that nothing uses may well be down.",
        "无人使用的备用接口处于关闭状态是正常的。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links, Source::Addresses], judge };

const SUMMARY: Text = text!("The interface {dev} is switched off.", "接口 {dev} 已被关闭。");
const DOWN: Text = text!("{dev} is administratively down", "{dev} 处于管理关闭状态");
const FELL: Text = text!("it went down during the window", "它在观察窗口内被关闭");
const UP: Text = text!("switch the interface on", "启用该接口");
const RETURNS: Text = text!(
    "routes that went with the interface, beyond those of its addresses, have to be added again",
    "除接口地址自带的路由外，随接口消失的其他路由需要重新添加"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    // Of one that comes and goes the moment of the second reading says nothing.
    let stays = |link: &Link| flapping(space, link).is_none();
    let down = space.links().filter(|link| !link.up && !link.loopback && stays(link));
    down.map(|link| culprit(space, link)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, link: &'a Link) -> Culprit<'a> {
    let fell = space.before.link(link.index).is_some_and(|before| before.up);
    Culprit::new(space, &CAUSE, "link", Scope::Link, link.name.clone())
        .on(link.index)
        .by_itself(fell || is_only_way_out(space, link))
        .misses(owners(space, link))
        .takes(move |loss| sure(loss.is_at(space, link.index) || is_at_port(space, link, loss)))
        .harms(move |flow| sure(flow.passes(space, link.index) || strands(space, link, flow)))
        .tell(move |_| {
            let dev = link.name.as_str();
            let action = Action::LinkState { dev: link.name.clone(), up: true };
            let mut up = fix(space, UP.phrase(), vec![action]);
            up.caution = Some(RETURNS.phrase());
            let show = ["ip", "link", "show", "dev", dev];
            let story = Story::new(SUMMARY.fill(&[("dev", &dev)]))
                .evidence(DOWN.fill(&[("dev", &dev)]), "links", &show)
                .fix(up);
            if fell { story.evidence(FELL.phrase(), "two readings", &[]) } else { story }
        })
}

/// True for a frame that a port of this bridge discards, or would: all are closed with it.
fn is_at_port(space: Space<'_>, bridge: &Link, loss: &Loss<'_>) -> bool {
    let port = loss.link.and_then(|index| space.link(index)).filter(|_| loss.is_in(space));
    port.is_some_and(|port| port.master == Some(bridge.index))
        && (loss.kind == Kind::Imagined || loss.is_at_stage("bridge.receive"))
}

/// An interface that is off and in no use here may be the one that is missing elsewhere: moving it to another namespace
/// switches it off (dev_change_net_namespace()).
fn owners<'a>(space: Space<'a>, link: &Link) -> Missing<'a> {
    let used = link.master.is_some() || space.after.addresses.iter().any(|a| a.link == link.index);
    let serves = |there: &Space<'a>| {
        there.after.sockets.iter().any(|s| s.state == "listen" && !s.local.ip().is_loopback())
    };
    let others = space.case.spaces().filter(|there| !there.same(space) && is_bare(*there));
    others.filter(serves).filter(|_| !used).map(missing::at_no_interface).collect()
}

/// True if the flow would pass the interface if it were up. Its routes are gone, so that a way that ends without a route
/// may be one of its: if the address lies in a network of the interface, or if no other interface could be meant.
fn strands(space: Space<'_>, link: &Link, flow: &Flow<'_>) -> bool {
    let mut networks = space.after.addresses.iter().filter(|a| a.link == link.index);
    flow.ends_here(space, End::NoRoute)
        .is_some_and(|to| networks.any(|a| contains(a.ip, a.prefix, to)) || is_only_way_out(space, link))
}
