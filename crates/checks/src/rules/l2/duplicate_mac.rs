//! `l2.duplicate_mac`: two stations use one MAC address.

use super::{is_station, is_told_here, others};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::manual;
use crate::rule::{Judgement, Rule};
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "l2.duplicate_mac",
    title: text!("Two stations use one MAC address", "两台主机使用同一个 MAC 地址"),
    meaning: text!(
        "Two interfaces of one network segment have the same link-layer address, as clones of a virtual machine do.",
        "同一网段内的两个接口具有相同的链路层地址，例如克隆的虚拟机。"
    ),
    seen_by: text!(
        "Both are in view and joined below the IP layer, and a flow through one of them suffers.",
        "两者都在可见范围内且在 IP 层以下相连，而经过其中之一的流量受影响。"
    ),
    why_lost: text!(
        "A bridge or switch believes the address behind the port from which it came last, and sends the other's frames there.",
        "网桥或交换机认为该地址位于最近收到它的端口之后，并把发给另一方的帧也送往那里。"
    ),
    what_to_do: text!("Give one of them another MAC address.", "为其中一方更换 MAC 地址。"),
    when_wrong: text!(
        "ipvlan, VLANs above one device, members of a bond and virtual routers (VRRP) share an address on purpose.",
        "ipvlan、同一设备上的 VLAN、bond 成员和虚拟路由器（VRRP）有意共享地址。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links], judge };

/// Kinds that take the address of the device below.
const BORROWING: &[&str] = &["ipvlan", "ipvtap", "vlan", "macsec", "bridge", "bond", "team", "vrf"];
/// VRRP and CARP (RFC 5798, section 7.3): only the master sends from it.
const VIRTUAL_ROUTERS: &str = "00:00:5e:00:";
const NONE: &str = "00:00:00:00:00:00";

const SUMMARY: Text = text!(
    "{dev} here and {there} of {target} have the same MAC address {mac}: frames for one reach the other.",
    "本地的 {dev} 与 {target} 的 {there} 具有相同的 MAC 地址 {mac}：发给一方的帧会到达另一方。"
);
const BOTH: Text = text!(
    "{dev} and {there} of {target} are on one segment, and both have {mac}",
    "{dev} 与 {target} 的 {there} 在同一网段，且都有 {mac}"
);
const DO: Text = text!(
    "give one of them another address: ip link set dev {dev} address MAC",
    "为其中一方更换地址：ip link set dev {dev} address MAC"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut out = vec![];
    for link in space.links().filter(|link| is_station(space, link) && !borrows(link)) {
        let Some(mac) = link.mac.as_deref().filter(|mac| *mac != NONE && !mac.starts_with(VIRTUAL_ROUTERS))
        else {
            continue;
        };
        let same = |l: &Link| l.mac.as_deref() == Some(mac) && !borrows(l);
        // Most addresses are nowhere else: only for the others it is worth to look who is joined.
        let with_it = space.case.index.with_mac(mac).iter();
        let mut with_it = with_it.filter_map(|(place, l)| Some((space.case.at(*place)?, *l)));
        if !with_it.any(|(there, l)| !there.same(space) && same(l)) {
            continue;
        }
        let twin = others(space, link).find(|(there, l)| !there.same(space) && same(l));
        if let Some((there, device)) = twin
            && is_told_here((space, link.index), (there, device.index))
        {
            out.push(culprit(space, link, mac, (there, device)));
        }
    }
    out.into()
}

fn borrows(link: &Link) -> bool {
    let passthru = link.details.get("mode").is_some_and(|mode| mode == "passthru");
    passthru || link.master.is_some() || link.kind.as_deref().is_some_and(|kind| BORROWING.contains(&kind))
}

fn culprit<'a>(
    space: Space<'a>,
    link: &'a Link,
    mac: &'a str,
    (there, device): (Space<'a>, &'a Link),
) -> Culprit<'a> {
    let ends = [(space, link.index), (there, device.index)];
    Culprit::new(space, &CAUSE, "bridge.forward", Scope::Link, mac.to_owned())
        .on(link.index)
        .reaches()
        // The answer to a question may go to the other one.
        .takes(move |loss| match ends.iter().any(|(at, index)| loss.is_imagined_at(*at, *index)) {
            true => Fit::Yes,
            false => Fit::No,
        })
        .harms(move |flow| match flow.suffers() && ends.iter().any(|(at, l)| flow.passes(*at, *l)) {
            true => Fit::Yes,
            false => Fit::No,
        })
        .tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 4] =
                [("dev", &link.name), ("there", &device.name), ("target", &there.target().id), ("mac", &mac)];
            let mut fix = manual(DO);
            fix.title = DO.fill(&words);
            Story::new(SUMMARY.fill(&words)).evidence(BOTH.fill(&words), "links", &["ip", "link"]).fix(fix)
        })
}
