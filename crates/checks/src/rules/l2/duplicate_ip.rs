//! `l2.duplicate_ip`: two stations use one IP address.

use super::{is_station, is_told_here, others};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::shadowed;
use crate::fixes::{by_hand, manual};
use crate::rule::{Judgement, Rule};
use std::net::IpAddr;
use whydrop_model::snapshot::{Address, Link, Protocol};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "l2.duplicate_ip",
    title: text!("Two stations use one IP address", "两台主机使用同一个 IP 地址"),
    meaning: text!(
        "Two interfaces of one network segment have the same IP address.",
        "同一网段内的两个接口具有相同的 IP 地址。"
    ),
    seen_by: text!(
        "Both are in view and joined below the IP layer, and a flow to or through this address suffers.",
        "两者都在可见范围内且在 IP 层以下相连，而发往或经过该地址的流量受影响。"
    ),
    why_lost: text!(
        "Both answer ARP. Whose answer comes last gets the packets, and the other's connections break.",
        "两者都应答 ARP。后到的应答获得数据包，另一方的连接随之中断。"
    ),
    what_to_do: text!("Take the address from one of them.", "从其中一方移除该地址。"),
    when_wrong: text!(
        "Hosts that share an address on purpose and keep silent about it (arp_ignore, an address on lo) are not meant; a take-over that is just happening looks like this for a moment.",
        "有意共享地址且不为其应答 ARP 的主机（arp_ignore、地址在 lo 上）不在此列；正在进行的地址接管会短暂呈现此状。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links, Source::Addresses], judge };

/// By this a host answers ARP for no address at all (ip-sysctl.rst, arp_ignore).
const ANSWERS_NONE: i64 = 8;

const SUMMARY: Text = text!(
    "{ip} is on {dev} here and on {there} of {target}: packets reach now one and now the other.",
    "{ip} 同时在本地的 {dev} 和 {target} 的 {there} 上：数据包有时到达一方，有时到达另一方。"
);
const BOTH: Text = text!(
    "{dev} ({mac}) and {there} of {target} ({other}) are on one segment, and both have {ip}",
    "{dev}（{mac}）与 {target} 的 {there}（{other}）在同一网段，且都有 {ip}"
);
const SUMMARY_OWN: Text = text!(
    "{ip} is on {dev} here, too: what is sent to {there} of {target} never leaves.",
    "{ip} 也在本地的 {dev} 上：发往 {target} 的 {there} 的包不会离开本机。"
);
const OWN: Text = text!(
    "{dev} and {there} of {target} both have {ip}, and only the other one serves the port",
    "{dev} 与 {target} 的 {there} 都有 {ip}，而只有后者在该端口提供服务"
);
const REMOVE: Text = text!(
    "take the address from the one that should not have it: ip addr del {ip}/{prefix} dev {dev}",
    "从不应拥有该地址的一方移除：ip addr del {ip}/{prefix} dev {dev}"
);
const DO: Text = text!(
    "take the address from the one that should not have it: ip addr del {ip}/{prefix} dev DEV",
    "从不应拥有该地址的一方移除：ip addr del {ip}/{prefix} dev DEV"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut out = vec![];
    for address in space.after.addresses.iter().filter(|address| is_used(address)) {
        let Some(link) = space.after.link(address.link).filter(|link| is_station(space, link)) else {
            continue;
        };
        // Most addresses are nowhere else: only for the others it is worth to look who is joined.
        let elsewhere = space.case.owners(address.ip).any(|there| !there.same(space));
        if !elsewhere || keeps_silent(space, link) {
            continue;
        }
        let twin = others(space, link).find(|(there, device)| {
            let has = |a: &Address| a.link == device.index && a.ip == address.ip && is_used(a);
            !there.same(space) && !keeps_silent(*there, device) && there.after.addresses.iter().any(has)
        });
        if let Some((there, device)) = twin
            && is_told_here((space, link.index), (there, device.index))
        {
            out.push(culprit(space, link, address, (there, device)));
        }
    }
    let flows = space.case.flows.iter().filter(|flow| flow.in_trouble());
    let own = flows.filter_map(|flow| Some((flow.address?, shadowed::meant(space, flow)?)));
    let mut own: Vec<_> = own.collect();
    own.dedup_by_key(|(ip, _)| *ip);
    // On an interface of the segment it is found above.
    let hidden = own.into_iter().filter(|(ip, _)| space.links_with(*ip).all(|link| link.loopback));
    out.extend(hidden.filter_map(|(ip, twin)| {
        let mut own = space.after.addresses.iter().filter(|address| address.ip == ip);
        Some(shadowing(space, own.next()?, twin))
    }));
    out.into()
}

/// An address that this namespace has on lo, so that what it sends to the other owner stays here.
fn shadowing<'a>(
    space: Space<'a>,
    address: &'a Address,
    (there, device): (Space<'a>, &'a Link),
) -> Culprit<'a> {
    let ip = address.ip;
    Culprit::new(space, &CAUSE, "route.output", Scope::Link, ip.to_string())
        .on(address.link)
        .harms(move |flow| sure(flow.address == Some(ip) && shadowed::meant(space, flow).is_some()))
        .tell(move |_| {
            let dev = space.after.link_name(address.link);
            let words: [(&str, &dyn std::fmt::Display); 5] = [
                ("ip", &ip),
                ("dev", &dev),
                ("there", &device.name),
                ("target", &there.target().id),
                ("prefix", &address.prefix),
            ];
            Story::new(SUMMARY_OWN.fill(&words))
                .evidence(OWN.fill(&words), "addresses", &["ip", "addr"])
                .fix(by_hand(REMOVE.fill(&words)))
        })
}

/// The kernel itself keeps an address out of use that it found to be a duplicate.
fn is_used(address: &Address) -> bool {
    !address.flags.iter().any(|flag| flag == "dadfailed" || flag == "tentative")
}

fn keeps_silent(space: Space<'_>, link: &Link) -> bool {
    let ignores = |of: &str| space.after.sysctl(&format!("net.ipv4.conf.{of}.arp_ignore"));
    [ignores("all"), ignores(&link.name)].contains(&Some(ANSWERS_NONE))
}

fn culprit<'a>(
    space: Space<'a>,
    link: &'a Link,
    address: &'a Address,
    (there, device): (Space<'a>, &'a Link),
) -> Culprit<'a> {
    let ip = address.ip;
    Culprit::new(space, &CAUSE, "neighbour.receive", Scope::Link, ip.to_string())
        .on(link.index)
        .harms(move |flow| harms([space, there], ip, flow))
        .tell(move |_| {
            let mac = |link: &'a Link| link.mac.as_deref().unwrap_or("?");
            let words: [(&str, &dyn std::fmt::Display); 7] = [
                ("ip", &ip),
                ("dev", &link.name),
                ("there", &device.name),
                ("target", &there.target().id),
                ("mac", &mac(link)),
                ("other", &mac(device)),
                ("prefix", &address.prefix),
            ];
            let mut fix = manual(DO);
            fix.title = DO.fill(&words);
            Story::new(SUMMARY.fill(&words))
                .evidence(BOTH.fill(&words), "addresses", &["ip", "addr"])
                .fix(fix)
        })
}

/// A flow that goes to the address or through it. Where only one of the two would serve it, that is what ails it.
fn harms(owners: [Space<'_>; 2], ip: IpAddr, flow: &Flow<'_>) -> Fit {
    let ends = [flow.address, flow.source].contains(&Some(ip));
    let [one, other] = owners;
    let through = || one.case.spaces().any(|space| flow.next_hops(space).iter().any(|(_, hop)| *hop == ip));
    if !flow.in_trouble() || !(ends || through()) {
        return Fit::No;
    }
    let protocol = if flow.protocol == 6 { Protocol::Tcp } else { Protocol::Udp };
    let serves =
        |space: Space<'_>| flow.port.is_some_and(|port| space.listeners(protocol, port).next().is_some());
    if serves(one) != serves(other) { Fit::Yes } else { Fit::Maybe }
}
