//! `nat.no_masquerade`: private addresses leave for the Internet without source NAT.

use crate::coverage::NETFILTER;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::evidence::untranslated::leaves_bare;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeSet;
use std::net::IpAddr;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "nat.no_masquerade",
    title: text!("Private addresses leave without source NAT", "私有地址未经源地址转换就发出"),
    meaning: text!(
        "This machine forwards packets from a private network to the Internet and leaves their source address as it is.",
        "本机把来自私有网络的包转发到互联网，却未改写其源地址。"
    ),
    seen_by: text!(
        "A flow in trouble without an answer is forwarded here from a private source to a public address out of sight, and no rule at POSTROUTING translates its source.",
        "无应答的受影响流量在此从私有源地址转发到视野外的公网地址，而 POSTROUTING 处没有规则转换其源地址。"
    ),
    why_lost: text!(
        "Nobody on the Internet knows a way back to a private address: the request may arrive, its answer cannot.",
        "互联网上没有通往私有地址的返回路径：请求可能到达，应答却回不来。"
    ),
    what_to_do: text!(
        "Add a masquerade rule for the private network on the way out, or let the program that manages it (a container engine) write it again.",
        "在出口为该私有网络添加 masquerade 规则，或让管理它的程序（容器引擎）重新写入。"
    ),
    when_wrong: text!(
        "A router further on may translate, and know the way back to this network: then the packets are lost elsewhere.",
        "更远处的路由器可能负责转换并知道返回本网络的路由：那么丢包发生在别处。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: NETFILTER, judge };

/// A router further on may translate.
const BY_EXCLUSION: f64 = 0.6;

const SUMMARY: Text = text!(
    "Packets from {source} leave by {dev} for the Internet with their private address, to which no answer finds back.",
    "来自 {source} 的包以私有地址从 {dev} 发往互联网，应答无法返回。"
);
const NONE: Text = text!(
    "no rule at POSTROUTING translates {source} on {dev}",
    "POSTROUTING 没有规则转换 {dev} 上的 {source}"
);
const ADD: Text = text!(
    "translate the source on the way out: iptables -t nat -A POSTROUTING -s {source} -o {dev} -j MASQUERADE (ip6tables for IPv6), or let the program that manages the network do it",
    "在出口转换源地址：iptables -t nat -A POSTROUTING -s {source} -o {dev} -j MASQUERADE（IPv6 用 ip6tables），或由管理该网络的程序完成"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let bare: BTreeSet<(IpAddr, String)> =
        space.case.flows.iter().filter_map(|flow| leaves_bare(space, flow)).collect();
    bare.into_iter().map(|(source, dev)| culprit(space, source, dev)).collect::<Vec<_>>().into()
}

fn culprit(space: Space<'_>, source: IpAddr, dev: String) -> Culprit<'_> {
    let meant = (source, dev.clone());
    Culprit::new(space, &CAUSE, "netfilter.postrouting", Scope::Netns, format!("{source} by {dev}"))
        .direction(Direction::Forward)
        .at_most(BY_EXCLUSION)
        .reaches()
        .takes({
            let meant = meant.clone();
            move |loss| {
                let flow = loss.flow.and_then(|flow| space.case.flows.get(flow));
                let mine = flow.is_some_and(|flow| leaves_bare(space, flow).as_ref() == Some(&meant));
                Fit::sure(mine && (loss.is_at_stage("route") || loss.is_at_stage("tcp.receive")))
            }
        })
        .harms(move |flow| match leaves_bare(space, flow) {
            Some(bare) if bare == meant && flow.back.is_some() => Fit::Yes,
            Some(bare) if bare == meant => Fit::Maybe,
            _ => Fit::No,
        })
        .tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 2] = [("source", &source), ("dev", &dev)];
            Story::new(SUMMARY.fill(&words))
                .evidence(NONE.fill(&words), "rules", &["iptables", "-t", "nat", "-nvL", "POSTROUTING"])
                .fix(by_hand(ADD.fill(&words)))
        })
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::Reading;
    use whydrop_model::netfilter::{Chain, Hook, Match, Nat, NatKind, RuleVerdict};

    /// The client's way to the Internet leads through the server, which has an uplink, index 3.
    fn routed() -> World {
        let mut world = World::pair();
        world.both(CLIENT, |s| {
            let Reading::Present(routes) = &mut s.routes else { return };
            routes.push(route("0.0.0.0/0", "unicast", Some("10.0.0.2"), Some(2)));
        });
        world.both(SERVER, |s| {
            let Reading::Present(routes) = &mut s.routes else { return };
            routes.push(route("0.0.0.0/0", "unicast", Some("192.168.1.1"), Some(3)));
            let mut uplink = veth(3, "eth1", 0);
            (uplink.kind, uplink.link, uplink.link_netnsid, uplink.link_netns_inode) =
                (None, None, None, None);
            let Reading::Present(links) = &mut s.links else { return };
            links.push(uplink);
            s.sysctls.insert("net.ipv4.ip_forward".into(), Reading::Present("1".into()));
        });
        let talk = world.talk(CLIENT, "9.9.9.9:443");
        (talk.attempts, talk.failed, talk.syn_repeats) = (5, 5, 5);
        world
    }

    fn postrouting(source: &str) -> Chain {
        let masquerade = Nat { kind: NatKind::Masquerade, addresses: None, ports: None, known: true };
        let matches = vec![Match::Source(source.parse().unwrap(), 24)];
        let rules = vec![rule("", RuleVerdict::Nat(Box::new(masquerade)), Some(0), matches)];
        let mut chain = chain("POSTROUTING", Hook::Postrouting, RuleVerdict::Accept, rules);
        (chain.table, chain.priority, chain.nat) = ("nat".into(), Some(100), true);
        chain
    }

    const FOUND: &str = "nat.no_masquerade @ netns:server: 10.0.0.1 by eth1";

    #[test]
    fn a_private_network_without_translation_is_told() {
        assert_eq!(routed().found(), [FOUND]);
        let mut world = routed();
        world.chain(SERVER, postrouting("172.17.0.0"), &[0]);
        assert_eq!(world.found(), [FOUND]);
    }

    #[test]
    fn translated_and_unreadable_are_not_accused() {
        let mut world = routed();
        world.chain(SERVER, postrouting("10.0.0.0"), &[0]);
        assert!(!world.found().contains(&FOUND.to_owned()), "{:?}", world.found());
        let mut world = routed();
        world.both(SERVER, |s| s.nftables = Reading::Denied("not permitted".into()));
        assert!(!world.found().contains(&FOUND.to_owned()), "{:?}", world.found());
    }
}
