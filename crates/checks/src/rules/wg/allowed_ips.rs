//! `wg.allowed_ips`: no WireGuard peer's allowed addresses cover what the route sends through the device.

use super::{devices, inner, peer_of, peers};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeSet;
use std::net::IpAddr;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "wg.allowed_ips",
    title: text!(
        "No WireGuard peer's allowed addresses cover the traffic",
        "没有 WireGuard 对端的 allowed-ips 覆盖该流量"
    ),
    meaning: text!(
        "Traffic is routed through a WireGuard device, and its inner address belongs to no peer of that device.",
        "流量被路由到 WireGuard 设备，而其内层地址不属于该设备的任何对端。"
    ),
    seen_by: text!(
        "A flow that suffers passes the device with an address that no peer's list of allowed addresses covers.",
        "受影响的流经过该设备，而其地址未被任何对端的 allowed-ips 覆盖。"
    ),
    why_lost: text!(
        "The list decides to whom a packet is sent, and from whom a source is accepted. What it does not cover is refused (ENOKEY at the sender), or discarded after it was decrypted.",
        "该列表决定包发给谁，以及接受来自谁的源地址。未覆盖的包会被拒绝（发送方得到 ENOKEY），或在解密后被丢弃。"
    ),
    what_to_do: text!(
        "Add the address to the right peer's allowed addresses; wg set replaces the list, so name the old ones, too.",
        "把该地址加入相应对端的 allowed-ips；wg set 会替换整个列表，因此也要写上原有的地址。"
    ),
    when_wrong: text!(
        "When the route is the mistake, and the traffic should go elsewhere.",
        "路由才是错误，流量本应走别处时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links, Source::Wireguard], judge };

const SUMMARY: Text = text!(
    "{ip} passes {dev}, and no peer of it has {ip} among its allowed addresses.",
    "{ip} 经过 {dev}，而其任何对端的 allowed-ips 都不包含 {ip}。"
);
const ALLOWED: Text = text!("peer {key} is allowed {networks}", "对端 {key} 的 allowed-ips 为 {networks}");
const NO_PEER: Text = text!("{dev} has no peer", "{dev} 没有对端");
const DO: Text = text!(
    "add it to the right peer, with what it has already: wg set {dev} peer {key} allowed-ips {networks}{ip}/{prefix}",
    "把它加入相应的对端，并保留已有的地址：wg set {dev} peer {key} allowed-ips {networks}{ip}/{prefix}"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut out = vec![];
    if !space.after.wireguard.is_present() {
        return out.into();
    }
    for device in devices(space) {
        let needed = space.case.flows.iter().filter(|flow| flow.suffers());
        let needed = needed.flat_map(|flow| inner(flow, space, device));
        let dropped = space.losses().filter(|loss| loss.is_at(space, device.index));
        let dropped = dropped.filter_map(|loss| Some(loss.event?.destination?.ip()));
        let uncovered: BTreeSet<IpAddr> = needed
            .chain(dropped)
            .filter(|ip| !space.after.owns(*ip) && !ip.is_multicast())
            .filter(|ip| peer_of(space, device, *ip).is_none())
            .collect();
        out.extend(uncovered.into_iter().map(|ip| culprit(space, device, ip)));
    }
    out.into()
}

fn culprit<'a>(space: Space<'a>, device: &'a Link, ip: IpAddr) -> Culprit<'a> {
    Culprit::new(space, &CAUSE, "tunnel.transmit", Scope::Rule, format!("{ip} dev {}", device.name))
        .direction(Direction::Transmit)
        .on(device.index)
        .takes(move |loss| {
            let to = loss.event.and_then(|event| event.destination).map(|to| to.ip());
            let asked = loss.is_imagined_at(space, device.index) && loss.asks_for().is_none_or(|to| to == ip);
            sure(asked || (loss.is_at(space, device.index) && to.is_none_or(|to| to == ip)))
        })
        .harms(move |flow| sure(flow.suffers() && inner(flow, space, device).contains(&ip)))
        .tell(move |_| story(space, device, ip))
}

fn story(space: Space<'_>, device: &Link, ip: IpAddr) -> Story {
    let list = |allowed: &[(IpAddr, u8)]| {
        allowed.iter().map(|(ip, prefix)| format!("{ip}/{prefix}")).collect::<Vec<_>>().join(",")
    };
    let words: [(&str, &dyn std::fmt::Display); 2] = [("dev", &device.name), ("ip", &ip)];
    let show = ["wg", "show", &device.name, "allowed-ips"];
    let story = Story::new(SUMMARY.fill(&words));
    let all: Vec<_> = peers(space, device).collect();
    let story = match all.is_empty() {
        true => story.evidence(NO_PEER.fill(&words), "wireguard", &show),
        false => all.iter().fold(story, |story, peer| {
            let claim = ALLOWED.fill(&[("key", &peer.public_key), ("networks", &list(&peer.allowed))]);
            story.evidence(claim, "wireguard", &show)
        }),
    };
    // With one peer there is no choice.
    let (key, networks) = match all.as_slice() {
        [only] if only.allowed.is_empty() => (only.public_key.clone(), String::new()),
        [only] => (only.public_key.clone(), list(&only.allowed) + ","),
        _ => ("KEY".to_owned(), "OLD,".to_owned()),
    };
    let prefix = if ip.is_ipv4() { 32 } else { 128 };
    story.fix(by_hand(DO.fill(&[
        ("dev", &device.name),
        ("key", &key),
        ("networks", &networks),
        ("ip", &ip),
        ("prefix", &prefix),
    ])))
}
