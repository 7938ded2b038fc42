//! `link.admin_down`: an interface that the path needs is down.

use super::is_only_way_out;
use crate::case::Space;
use crate::coverage::Source;
use crate::route::contains;
use crate::rule::{Judgement, Rule, Suspect, fix};
use crate::way::{End, Way};
use whydrop_model::action::Action;
use whydrop_model::snapshot::Link;
use whydrop_model::{Applicability, Cause, Text, text};

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
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Links, Source::Addresses], consequence_of: &[], judge };

const SUMMARY: Text = text!("The interface {dev} is switched off.", "接口 {dev} 已被关闭。");
const DOWN: Text = text!("{dev} is administratively down", "{dev} 处于管理关闭状态");
const FELL: Text = text!("it went down during the window", "它在观察窗口内被关闭");
const UP: Text = text!("switch the interface on", "启用该接口");
const RETURNS: Text = text!(
    "routes that went with the interface, beyond those of its addresses, have to be added again",
    "除接口地址自带的路由外，随接口消失的其他路由需要重新添加"
);

fn judge(space: Space<'_>) -> Judgement {
    let down = space.links().filter(|link| !link.up && !link.loopback);
    let suspects = down.filter_map(|link| {
        let touches = needed_by(space, link);
        let fell = space.before.link(link.index).is_some_and(|before| before.up);
        if touches.is_empty() && !fell && !is_only_way_out(space, link) {
            return None;
        }
        let dev = link.name.as_str();
        let show = ["ip", "link", "show", "dev", dev];
        let action = Action::LinkState { dev: link.name.clone(), up: true };
        let mut up = fix(space, UP.phrase(), Applicability::Safe, vec![action]);
        up.caution = Some(RETURNS.phrase());
        let mut suspect = Suspect::new(space, &CAUSE, "link", dev.to_owned(), SUMMARY.fill(&[("dev", &dev)]))
            .evidence(DOWN.fill(&[("dev", &dev)]), "links", &show)
            .on(link.index)
            .touches(touches)
            .fix(up);
        if fell {
            suspect = suspect.evidence(FELL.phrase(), "two readings", &[]);
        } else if !is_only_way_out(space, link) {
            suspect = suspect.needs_probe();
        }
        Some(suspect)
    });
    suspects.collect::<Vec<_>>().into()
}

/// Probes that would pass the interface if it were up. Its routes are gone, so that a way that ends without a route
/// may be one of them: if the address lies in a network of the interface, or if no other interface could be meant.
fn needed_by(space: Space<'_>, link: &Link) -> Vec<usize> {
    let networks = || space.after.addresses.iter().filter(|a| a.link == link.index);
    let stranded = |way: &&Way<'_>| {
        way.ends_here(space, End::NoRoute).is_some_and(|to| {
            networks().any(|a| contains(a.ip, a.prefix, to)) || is_only_way_out(space, link)
        })
    };
    let ways = space.case.ways.iter().filter(|way| way.passes(space, link.index) || stranded(way));
    ways.map(|way| way.index).collect()
}
