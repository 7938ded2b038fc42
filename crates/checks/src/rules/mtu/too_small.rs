//! `mtu.too_small`: an interface's MTU is smaller than what the traffic must carry.

use super::{
    ETHERNET_HEADER, FORWARD_SKB, IPV4_MINIMUM, IPV6_MINIMUM, carrying, oversized, set_mtu, too_big_events,
};
use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule, Suspect};
use crate::way::Way;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, NoteStatus, Phrase, Text, text};

/// IPv4 and TCP header with time-stamps, in bytes.
const HEADERS: u32 = 52;

/// Packets are full if their average comes this near to the limit: acknowledgements and the last piece are shorter.
const FULL_SHARE: f64 = 0.8;

/// Fewer packets say nothing about their average.
const MANY: u64 = 20;

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "mtu.too_small",
    title: text!("An interface's MTU is smaller than what the traffic must carry", "接口的 MTU 小于流量所需"),
    meaning: text!(
        "The interface takes so little per packet that ordinary traffic does not fit: IPv4 hosts must take 576 bytes, IPv6 links 1280.",
        "接口每包能承载的数据太少，普通流量放不下：IPv4 主机必须能接收 576 字节，IPv6 链路必须支持 1280 字节。"
    ),
    seen_by: text!(
        "The MTU of an interface on the way is below 576, and something that is larger met it: an HTTP answer, full packets one after the other, fragments, or frames discarded for their size.",
        "路径上某接口的 MTU 低于 576，且有更大的内容经过：HTTP 应答、接连的满长度包、分片或因过大被丢弃的帧。"
    ),
    why_lost: text!(
        "What does not fit is cut into very many packets, each of which can be lost, or vanishes; IPv6 leaves the interface altogether.",
        "放不下的内容被切成大量小包（每个都可能丢失）或直接消失；IPv6 则会完全停用该接口。"
    ),
    what_to_do: text!(
        "Set the MTU to that of the other end, usually 1500.",
        "把 MTU 设为与对端一致，通常为 1500。"
    ),
    when_wrong: text!(
        "Some radio and serial links really carry no more.",
        "有些无线或串行链路确实只能承载这么多。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links], consequence_of: &[], judge };

const SUMMARY: Text = text!(
    "The MTU of {dev} is {mtu}: answers are cut into tiny packets or vanish.",
    "{dev} 的 MTU 只有 {mtu}：应答被切成极小的包或丢失。"
);
const MTU: Text = text!(
    "{dev} has an MTU of {mtu}; IPv4 hosts take 576, Ethernet carries 1500",
    "{dev} 的 MTU 为 {mtu}；IPv4 主机至少接收 576，以太网为 1500"
);
const SEGMENTS: Text = text!(
    "the connection of {url} could use segments of {mss} bytes only",
    "{url} 的连接只能使用 {mss} 字节的报文段"
);
const ANSWER: Text = text!(
    "{url} goes through it: an answer of {bytes} bytes needs {n} packets",
    "{url} 经过它：{bytes} 字节的应答需要 {n} 个包"
);
const NO_IPV6: Text =
    text!("IPv6 has left the interface: it needs 1280 bytes", "IPv6 已停用该接口：它需要 1280 字节");
const FULL: Text =
    text!("{n} packets left it, on average as large as it allows", "它发出了 {n} 个包，平均长度已达上限");
const FRAGMENTS: Text = text!("{n} fragments were made", "产生了 {n} 个分片");
const TOO_BIG: Text = text!(
    "{n} frames larger than its MTU were discarded on arrival",
    "有 {n} 个超过其 MTU 的帧在到达时被丢弃"
);
const LATENT: Text = text!(
    "MTU {mtu} costs nothing now; answers over {mtu} bytes will be cut into tiny packets or vanish",
    "MTU {mtu} 目前未造成丢包；超过 {mtu} 字节的应答将被切成小包或丢失"
);

fn judge(space: Space<'_>) -> Judgement {
    let mut judgement = Judgement::default();
    for link in space.links().filter(|link| link.up && !link.loopback && link.mtu < IPV6_MINIMUM) {
        let (v6, claim) = without_ipv6(space, link);
        if link.mtu >= IPV4_MINIMUM && v6.is_empty() {
            continue;
        }
        if told_at_the_other_end(space, link) {
            continue;
        }
        let dev = link.name.as_str();
        let words: [(&str, &dyn std::fmt::Display); 2] = [("dev", &dev), ("mtu", &link.mtu)];
        let witnesses: Vec<_> = witnesses(space, link).into_iter().chain(claim).collect();
        if witnesses.is_empty() {
            judgement.note(space, &CAUSE, NoteStatus::Latent, dev, LATENT.fill(&words));
            continue;
        }
        let show = ["ip", "-s", "link", "show", "dev", dev];
        let mut suspect = Suspect::new(space, &CAUSE, "link", dev.to_owned(), SUMMARY.fill(&words))
            .evidence(MTU.fill(&words), "links", &show)
            .on(link.index)
            .touches([carrying(space, link.index), v6].concat())
            .fix(set_mtu(space, link));
        for (claim, source) in witnesses {
            suspect = suspect.evidence(claim, source, &show);
        }
        let too_big = oversized(space, link);
        if too_big > 0 {
            suspect =
                suspect.packets(too_big, "rx_dropped").drop_events(too_big_events(space, link), FORWARD_SKB);
        }
        judgement.suspects.push(suspect);
    }
    judgement
}

/// Lost IPv6 probes that need the interface: below 1280 bytes the kernel takes IPv6 away from it, addresses and all.
fn without_ipv6(space: Space<'_>, link: &Link) -> (Vec<usize>, Option<(Phrase, &'static str)>) {
    let needs = |way: &&Way<'_>| {
        let v6 = way.lost() > 0 && way.probe.address.is_some_and(|ip| ip.is_ipv6());
        let leads_here = space.peer(link).is_some_and(|(there, peer)| way.passes(there, peer.index));
        v6 && (leads_here || way.starts_in(space) || way.passes(space, link.index))
    };
    let gone = !space.after.addresses.iter().any(|a| a.link == link.index && a.ip.is_ipv6());
    let ways = space.case.ways.iter().filter(|way| gone && needs(way));
    let probes: Vec<usize> = ways.map(|way| way.index).collect();
    let claim = (!probes.is_empty()).then(|| (NO_IPV6.phrase(), "addresses"));
    (probes, claim)
}

/// What was larger than the interface and met it.
fn witnesses(space: Space<'_>, link: &Link) -> Vec<(Phrase, &'static str)> {
    let mut out = vec![];
    let ways = carrying(space, link.index);
    for way in ways.iter().filter_map(|i| space.case.ways.get(*i)) {
        let Some(http) = &way.probe.http else { continue };
        let url = &way.probe.url;
        if let Some((sent, received)) = http.mss.filter(|(a, b)| *a.min(b) < IPV4_MINIMUM) {
            let mss = sent.min(received);
            out.push((SEGMENTS.fill(&[("url", url), ("mss", &mss)]), "http"));
        } else {
            let n = http.bytes.div_ceil(u64::from(link.mtu.saturating_sub(HEADERS).max(1)));
            out.push((ANSWER.fill(&[("url", url), ("bytes", &http.bytes), ("n", &n)]), "http"));
        }
    }
    let too_big = oversized(space, link);
    if too_big > 0 {
        out.push((TOO_BIG.fill(&[("n", &too_big)]), "interface counters"));
    }
    let fragments = space.mib("Ip.FragCreates") + space.mib("Ip.FragFails");
    if fragments > 0 {
        out.push((FRAGMENTS.fill(&[("n", &fragments)]), "/proc/net/snmp"));
    }
    let (packets, bytes) = (space.link_rise(link, "tx_packets"), space.link_rise(link, "tx_bytes"));
    let full = f64::from(link.mtu + ETHERNET_HEADER) * FULL_SHARE;
    if packets >= MANY && bytes as f64 >= packets as f64 * full {
        out.push((FULL.fill(&[("n", &packets)]), "interface counters"));
    }
    out
}

/// One link, one finding: where both ends of a veth are too small, it stands at the target, and of two targets at the
/// end that answers the probes.
fn told_at_the_other_end(space: Space<'_>, link: &Link) -> bool {
    let Some((there, peer)) = space.peer(link).filter(|(_, peer)| peer.mtu < IPV4_MINIMUM) else {
        return false;
    };
    if there.is_target() != space.is_target() {
        return there.is_target();
    }
    let answers =
        |s: Space<'_>| s.case.ways.iter().any(|way| way.destination(s.case).is_some_and(|d| d.same(s)));
    match (answers(space), answers(there)) {
        (true, false) => false,
        (false, true) => true,
        _ => (there.target().netns_inode, peer.index) < (space.target().netns_inode, link.index),
    }
}
