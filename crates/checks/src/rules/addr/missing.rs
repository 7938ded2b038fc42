//! `addr.missing`: an interface that should have an address has none.

use super::{Wanted, each, is_bridge, may_be_out_of_sight, stations, unanswered};
use crate::coverage::Source;
use crate::culprit::{Culprit, Story};
use crate::evidence::case::Space;
use crate::fixes::manual;
use crate::rule::{Judgement, Rule};
use whydrop_model::Snapshot;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "addr.missing",
    title: text!("An interface that should have an address has none", "应有地址的接口没有地址"),
    meaning: text!(
        "The interface is switched on and joined with those who want to reach it, and has no address of their family.",
        "接口已启用并与想要访问它的主机相连，但没有对应协议族的地址。"
    ),
    seen_by: text!(
        "Somebody joined with the interface asks for an address that nobody in view has, and no other station there could be meant; or the interface lost that address in the window.",
        "与该接口相连的主机在查询一个可见范围内无人拥有的地址，且该处没有其他主机可能是目标；或该接口在窗口内失去了该地址。"
    ),
    why_lost: text!(
        "Nobody answers the question for the address, so that nothing is sent to it.",
        "没有人应答对该地址的查询，因此无法向它发送任何包。"
    ),
    what_to_do: text!(
        "Give the interface its address; find out why it has none: a DHCP client that failed, a network manager that was restarted, flushed addresses.",
        "为接口配置地址，并查明缺失原因：DHCP 客户端失败、网络管理程序重启、地址被清空。"
    ),
    when_wrong: text!(
        "When a machine is asked for that does not exist, and the interface only carries other protocols.",
        "被查询的主机并不存在，而该接口只承载其他协议时。"
    ),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Addresses, Source::Links, Source::Neighbours], judge };

/// That this address is the one that is missing is only likely where nobody saw it here.
const BY_EXCLUSION: f64 = 0.8;

/// IPV6_MIN_MTU.
const IPV6_MIN_MTU: u32 = 1280;

const SUMMARY: Text = text!(
    "{dev} has no address; {asker} asks for {ip} there in vain.",
    "{dev} 没有地址；{asker} 在那里查询 {ip} 而无人应答。"
);
const BARE: Text = text!("{dev} is up and has no {family} address", "{dev} 已启用但没有 {family} 地址");
const HAD: Text = text!("it had {ip} at the start of the window", "窗口开始时它有地址 {ip}");
const NOBODY: Text = text!("nobody in view has {ip}", "可见范围内没有主机拥有 {ip}");
const ADD: Text = text!(
    "give the interface its address: ip addr add {ip}/PREFIX dev {dev}",
    "为接口配置地址：ip addr add {ip}/PREFIX dev {dev}"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    if !space.after.addresses.is_present() {
        return Judgement::default();
    }
    each(space, |link, wanted| is_missing(space, link, wanted).then(|| culprit(space, link, wanted))).into()
}

fn has_any(snapshot: &Snapshot, link: &Link, v4: bool) -> bool {
    let global = |ip: std::net::IpAddr| match ip {
        std::net::IpAddr::V4(_) => true,
        std::net::IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    snapshot.addresses.iter().any(|a| a.link == link.index && a.ip.is_ipv4() == v4 && global(a.ip))
}

/// True for a namespace that only joins others: it has no address of the family anywhere, and lost none.
fn is_switch(space: Space<'_>, v4: bool) -> bool {
    let outside = space.links().filter(|link| !link.loopback);
    outside.into_iter().all(|link| !has_any(space.after, link, v4) && !has_any(space.before, link, v4))
}

fn had(space: Space<'_>, link: &Link, wanted: Wanted<'_>) -> bool {
    space.before.addresses.iter().any(|a| a.link == link.index && a.ip == wanted.ip)
}

/// True if the interface is bare, and is the one that is meant: it had the address, or no other can be meant.
fn is_missing(space: Space<'_>, link: &Link, wanted: Wanted<'_>) -> bool {
    let v4 = wanted.ip.is_ipv4();
    let bare = |there: Space<'_>, l: &Link| !has_any(there.after, l, v4);
    // An interface that is too narrow for IPv6 has none of its addresses (addrconf_notify()).
    let wide = v4 || link.mtu >= IPV6_MIN_MTU;
    let ends =
        link.up && link.lower_up && wide && !link.loopback && (link.master.is_none() || is_bridge(link));
    if !ends || !bare(space, link) || (is_bridge(link) && is_switch(space, v4)) {
        return false;
    }
    let others = || stations(wanted).into_iter().filter(|(s, l)| !(s.same(space) && l.index == link.index));
    had(space, link, wanted) || (!may_be_out_of_sight(wanted) && !others().any(|(there, l)| bare(there, l)))
}

fn culprit<'a>(space: Space<'a>, link: &'a Link, wanted: Wanted<'a>) -> Culprit<'a> {
    let had = had(space, link, wanted);
    let at_most = if had { 1.0 } else { BY_EXCLUSION };
    unanswered(space, &CAUSE, link, wanted).at_most(at_most).tell(move |_| {
        let family = if wanted.ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let words: [(&str, &dyn std::fmt::Display); 4] = [
            ("dev", &link.name),
            ("ip", &wanted.ip),
            ("asker", &wanted.asker.target().id),
            ("family", &family),
        ];
        let mut add = manual(ADD);
        add.title = ADD.fill(&words);
        let story = Story::new(SUMMARY.fill(&words))
            .evidence(BARE.fill(&words), "addresses", &["ip", "addr", "show", "dev", &link.name])
            .fix(add);
        match had {
            true => story.evidence(HAD.fill(&words), "two readings", &[]),
            false => story.evidence(NOBODY.fill(&words), "other end", &[]),
        }
    })
}
