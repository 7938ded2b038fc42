//! `mcast.joined_elsewhere`: a group is joined on another interface than the one its packets come in by.

use super::Astray;
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use crate::rules::tcp::name;
use crate::tell::BY_EVENTS;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "mcast.joined_elsewhere",
    title: text!("A multicast group is joined on another interface", "组播组在另一个接口上加入"),
    meaning: text!(
        "A program joined the group on one interface, and the datagrams arrive by another one, on which nobody did.",
        "程序在一个接口上加入了该组，而数据报从另一个没有加入该组的接口到达。"
    ),
    seen_by: text!(
        "The kernel dropped datagrams to the group that came by an interface on which it is not joined, it is joined on another one of the same namespace, and a socket waits for their port.",
        "内核丢弃了从未加入该组的接口到达的该组数据报，同一命名空间的另一个接口上加入了该组，且有套接字在等待其端口。"
    ),
    why_lost: text!(
        "Membership belongs to an interface. A program that names none joins where the route to the group leads, mostly the default route.",
        "组成员资格属于接口。未指明接口的程序会在通往该组的路由所指的接口上加入，通常是默认路由。"
    ),
    what_to_do: text!(
        "Name the interface when joining (imr_ifindex, ipv6mr_interface), or add a route for multicast through the right one.",
        "加入时指明接口（imr_ifindex、ipv6mr_interface），或添加经由正确接口的组播路由。"
    ),
    when_wrong: text!(
        "Where the same datagrams arrive by both interfaces, the second copy is not needed.",
        "同样的数据报从两个接口都到达时，第二份并不需要。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Groups, Source::DropEvents], judge };

const SUMMARY: Text = text!(
    "{group} is joined on {joined}, and its datagrams arrive by {arrives}.",
    "{group} 在 {joined} 上加入，而其数据报从 {arrives} 到达。"
);
const JOINED: Text = text!(
    "{group} is joined on {joined} and not on {arrives}",
    "{group} 在 {joined} 上加入，未在 {arrives} 上加入"
);
const WAITS: Text = text!("{socket} waits for them", "{socket} 在等待它们");
const DROPPED: Text = text!(
    "at least {n} datagrams to {group} came by {arrives} and were dropped",
    "至少有 {n} 个发往 {group} 的数据报从 {arrives} 到达并被丢弃"
);
const DO: Text = text!(
    "join {group} on {arrives} (name the interface in IP_ADD_MEMBERSHIP), or let the route lead there: ip route add {group} dev {arrives}",
    "在 {arrives} 上加入 {group}（在 IP_ADD_MEMBERSHIP 中指明接口），或让路由指向它：ip route add {group} dev {arrives}"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let elsewhere = super::unwanted(space, |groups| groups.iter().any(|group| group.users > 0));
    elsewhere.into_iter().map(|astray| culprit(space, astray)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, astray: Astray<'a>) -> Culprit<'a> {
    let arrives = space.after.link_name(astray.link);
    let subject = format!("{} on {arrives}", astray.group);
    let elsewhere = astray.joined.iter().find(|group| group.users > 0);
    let joined = elsewhere.map_or_else(String::new, |group| space.after.link_name(group.link));
    Culprit::new(space, &CAUSE, "ip.receive", Scope::Socket, subject)
        .direction(Direction::Receive)
        .on(astray.link)
        // Of multicast that nobody wants only some is sampled, and none is a loss: these are.
        .meter(astray.sampled, Count::AtLeast, BY_EVENTS)
        .tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 5] = [
                ("group", &astray.group),
                ("joined", &joined),
                ("arrives", &arrives),
                ("socket", &name(astray.socket)),
                ("n", &astray.sampled),
            ];
            Story::new(SUMMARY.fill(&words))
                .evidence(JOINED.fill(&words), "groups", &["ip", "maddr", "show"])
                .evidence(WAITS.fill(&words), "sockets", &["ss", "-lunp"])
                .evidence(DROPPED.fill(&words), BY_EVENTS, &[])
                .fix(by_hand(DO.fill(&words)))
        })
}
