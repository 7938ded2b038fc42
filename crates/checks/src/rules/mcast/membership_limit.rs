//! `mcast.membership_limit`: a process may join no more groups.

use super::Astray;
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use crate::rules::tcp::name;
use crate::tell::BY_EVENTS;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use whydrop_model::snapshot::Group;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "mcast.membership_limit",
    title: text!("A process may join no more multicast groups", "进程不能再加入更多组播组"),
    meaning: text!(
        "A socket may be a member of so many groups, and not of one more: net.ipv4.igmp_max_memberships.",
        "一个套接字能加入的组数有上限：net.ipv4.igmp_max_memberships。"
    ),
    seen_by: text!(
        "Datagrams arrive for a group that nobody here joined although a socket waits for their port, and as many groups are joined as one socket may join.",
        "有发往无人加入的组的数据报到达，而有套接字在等待其端口，且已加入的组数达到单个套接字的上限。"
    ),
    why_lost: text!(
        "IP_ADD_MEMBERSHIP fails with ENOBUFS; a program that does not look goes on without the group.",
        "IP_ADD_MEMBERSHIP 以 ENOBUFS 失败；不检查结果的程序会在没有加入该组的情况下继续运行。"
    ),
    what_to_do: text!(
        "Raise net.ipv4.igmp_max_memberships and restart the program, or let it use more sockets.",
        "调大 net.ipv4.igmp_max_memberships 并重启程序，或让程序使用更多套接字。"
    ),
    when_wrong: text!(
        "When several sockets share the groups and each is below the limit.",
        "多个套接字分担这些组且各自低于上限时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Groups, Source::DropEvents], judge };

/// The setting, and what it is where nobody set it (IP_MAX_MEMBERSHIPS).
const SETTING: &str = "net.ipv4.igmp_max_memberships";
const DEFAULT: i64 = 20;
/// 224.0.0.1: every interface is a member, no socket is.
const ALL_SYSTEMS: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1));
/// Groups may share the limit among sockets: no witness makes it surer.
const AT_MOST: f64 = 0.9;

const SUMMARY: Text = text!(
    "{groups} groups are joined, which is all that a socket may join; datagrams to {group} find no member.",
    "已加入 {groups} 个组，达到套接字的上限；发往 {group} 的数据报没有成员接收。"
);
const LIMIT: Text = text!("{setting} is {limit}", "{setting} 为 {limit}");
const WAITS: Text = text!("{socket} waits for their port", "{socket} 在等待其端口");
const NOBODY: Text = text!(
    "{group} is joined on no interface, {groups} others are",
    "{group} 未在任何接口上加入，另有 {groups} 个已加入"
);
const RAISE: Text = text!(
    "raise the limit (sysctl -w {setting}={wanted}) and restart {socket}: who failed to join does not try again",
    "提高上限（sysctl -w {setting}={wanted}）并重启 {socket}：加入失败后不会重试"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let limit = space.after.sysctl(SETTING).unwrap_or(DEFAULT);
    let joined: BTreeSet<IpAddr> = space
        .after
        .groups
        .iter()
        .filter(|group: &&Group| group.users > 0 && group.group.is_ipv4() && group.group != ALL_SYSTEMS)
        .map(|group| group.group)
        .collect();
    if i64::try_from(joined.len()).unwrap_or(i64::MAX) < limit {
        return Judgement::default();
    }
    let unjoined = super::unwanted(space, |groups| groups.is_empty());
    unjoined.into_iter().map(|astray| culprit(space, astray, joined.len(), limit)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, astray: Astray<'a>, groups: usize, limit: i64) -> Culprit<'a> {
    Culprit::new(space, &CAUSE, "ip.receive", Scope::Socket, SETTING.to_owned())
        .direction(Direction::Receive)
        .on(astray.link)
        .at_most(AT_MOST)
        // Of multicast that nobody wants only some is sampled, and none is a loss: these are.
        .meter(astray.sampled, Count::AtLeast, BY_EVENTS)
        .tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 6] = [
                ("group", &astray.group),
                ("groups", &groups),
                ("socket", &name(astray.socket)),
                ("setting", &SETTING),
                ("limit", &limit),
                ("wanted", &limit.saturating_mul(2).max(DEFAULT)),
            ];
            Story::new(SUMMARY.fill(&words))
                .evidence(NOBODY.fill(&words), "groups", &["ip", "maddr", "show"])
                .evidence(LIMIT.fill(&words), "sysctl", &["sysctl", SETTING])
                .evidence(WAITS.fill(&words), "sockets", &["ss", "-lunp"])
                .fix(by_hand(RAISE.fill(&words)))
        })
}
