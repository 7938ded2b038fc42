//! `mtu.too_small`: an interface's MTU is smaller than what the traffic must carry.

use super::{
    ETHERNET, ETHERNET_HEADER, IPV4_MINIMUM, TCP, carries_much, is_bridged_out, is_oversized,
    is_too_big_for_port, lacks_ipv6, oversized, set_mtu,
};
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::{Flow, TOO_BIG as TOO_BIG_FOR_CALL};
use crate::evidence::packet::Fit;
use crate::evidence::route::{Lookup, lookup};
use crate::evidence::tunnel::Tunnel;
use crate::fixes::by_hand;
use crate::loss::missing::Frame;
use crate::loss::{Kind, Loss};
use crate::rule::{Judgement, Rule};
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
        "The MTU of an interface on the way is below 576, and something that is larger met it: an HTTP answer, full packets one after the other, fragments, or frames discarded for their size; or a bridge discarded frames in front of a port that takes less than they have. Or a program goes on sending datagrams that may not be cut and are larger than an interface takes: its calls fail (EMSGSIZE), or a router tells it so.",
        "路径上某接口的 MTU 低于 576，且有更大的内容经过：HTTP 应答、接连的满长度包、分片或因过大被丢弃的帧；或网桥在 MTU 更小的端口前丢弃了帧。或者程序持续发送不允许分片且大于接口承载能力的数据报：其调用失败（EMSGSIZE），或由路由器告知。"
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
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links], judge };

const SUMMARY: Text = text!(
    "The MTU of {dev} is {mtu}: answers are cut into tiny packets or vanish.",
    "{dev} 的 MTU 只有 {mtu}：应答被切成极小的包或丢失。"
);
const SUMMARY_DATAGRAMS: Text = text!(
    "The MTU of {dev} is {mtu}: datagrams that may not be cut are larger, and go no further.",
    "{dev} 的 MTU 为 {mtu}：不允许分片的数据报比它更大，无法继续前行。"
);
const SUMMARY_BRIDGED: Text = text!(
    "The MTU of the bridge port {dev} is {mtu}: larger frames that should leave by it vanish.",
    "网桥端口 {dev} 的 MTU 为 {mtu}：应从它发出的更大的帧会丢失。"
);
const BRIDGED: Text = text!(
    "the bridge discarded {n} frames in front of {dev}, which takes {mtu}",
    "网桥在 {dev} 之前丢弃了 {n} 个帧，它最多承载 {mtu} 字节"
);
const REFUSED: Text = text!(
    "datagrams of {bytes} bytes with DF should leave by {dev}, which takes {mtu}; their sender is told and goes on",
    "带 DF 的 {bytes} 字节数据报应从 {dev} 发出，而它最多承载 {mtu} 字节；发送方已得到通知却继续发送"
);
const NOT_SENT: Text = text!(
    "{n} calls to send a datagram failed with EMSGSIZE: it may not be cut, and is larger than what {dev} takes ({mtu})",
    "有 {n} 次发送数据报的调用以 EMSGSIZE 失败：数据报不允许分片，且大于 {dev} 所能承载的 {mtu} 字节"
);
const SMALLER: Text = text!(
    "let the program send smaller datagrams than {mtu} bytes with all headers, or allow them to be cut (IP_MTU_DISCOVER)",
    "让程序发送连同所有头部不超过 {mtu} 字节的数据报，或允许分片（IP_MTU_DISCOVER）"
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
    "{url} goes through it: an answer of {bytes} bytes needs {n} {n|packet|packets}",
    "{url} 经过它：{bytes} 字节的应答需要 {n} 个包"
);
const NO_IPV6: Text =
    text!("IPv6 has left the interface: it needs 1280 bytes", "IPv6 已停用该接口：它需要 1280 字节");
const FULL: Text = text!(
    "{n} {n|packet|packets} left it, on average as large as it allows",
    "它发出了 {n} 个包，平均长度已达上限"
);
const FRAGMENTS: Text = text!("{n} fragments were made", "产生了 {n} 个分片");
const TOO_BIG: Text = text!(
    "{n} frames larger than its MTU were discarded on arrival",
    "有 {n} 个超过其 MTU 的帧在到达时被丢弃"
);
const LATENT: Text = text!(
    "MTU {mtu} costs nothing now; answers over {mtu} bytes will be cut into tiny packets or vanish",
    "MTU {mtu} 目前未造成丢包；超过 {mtu} 字节的应答将被切成小包或丢失"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut judgement = Judgement::default();
    let narrow = space.links().filter(|link| link.up && link.mtu >= IPV4_MINIMUM);
    let met = narrow.filter(|link| {
        space.losses().any(|loss| stays_too_big(space, link, loss))
            || space.case.flows.iter().any(|flow| is_refused_at(space, link, flow))
    });
    judgement.culprits.extend(met.map(|link| for_datagrams(space, link)));
    let ports = space.links().filter(|link| !is_tiny(space, link) && Tunnel::of(space, link).is_none());
    let met = ports.filter(|link| space.losses().any(|loss| is_too_big_for_port(space, link, loss)));
    judgement.culprits.extend(met.map(|link| for_bridged(space, link)));
    for link in space.links().filter(|link| link.up && is_tiny(space, link)) {
        if told_at_the_other_end(space, link) {
            continue;
        }
        let ends_ipv6 = ends_ipv6(space, link);
        let claim = ends_ipv6.then(|| (NO_IPV6.phrase(), "addresses"));
        let witnesses: Vec<_> = witnesses(space, link).into_iter().chain(claim).collect();
        if witnesses.is_empty() {
            let words: [(&str, &dyn std::fmt::Display); 1] = [("mtu", &link.mtu)];
            judgement.note(space, &CAUSE, NoteStatus::Latent, &link.name, LATENT.fill(&words));
        }
        judgement.culprits.push(culprit(space, link, witnesses));
    }
    judgement
}

/// Smaller than every host may expect, or so small that somebody misses IPv6.
fn is_tiny(space: Space<'_>, link: &Link) -> bool {
    !link.loopback && (link.mtu < IPV4_MINIMUM || ends_ipv6(space, link))
}

fn ends_ipv6(space: Space<'_>, link: &Link) -> bool {
    space.case.flows.iter().any(|flow| lacks_ipv6(space, link, flow))
}

fn culprit<'a>(space: Space<'a>, link: &'a Link, witnesses: Vec<(Phrase, &'static str)>) -> Culprit<'a> {
    let (met, too_big) = (!witnesses.is_empty(), oversized(space, link));
    let culprit = Culprit::new(space, &CAUSE, "link", Scope::Link, link.name.clone())
        .on(link.index)
        .reaches()
        .by_itself(met)
        .takes(move |loss| takes(space, link, loss))
        .harms(move |flow| harms(space, link, flow, met))
        .tell(move |_| {
            let dev = link.name.as_str();
            let words: [(&str, &dyn std::fmt::Display); 2] = [("dev", &dev), ("mtu", &link.mtu)];
            let show = ["ip", "-s", "link", "show", "dev", dev];
            let story = Story::new(SUMMARY.fill(&words))
                .evidence(MTU.fill(&words), "links", &show)
                .fix(set_mtu(space, link));
            witnesses
                .iter()
                .fold(story, |story, (claim, source)| story.evidence(claim.clone(), source, &show))
        });
    match too_big {
        0 => culprit,
        frames => culprit.meter(frames, Count::AtLeast, "rx_dropped"),
    }
}

/// A datagram that a program forbids to cut, and that it does not make smaller although it is told to: TCP would.
fn stays_too_big(space: Space<'_>, link: &Link, loss: &Loss<'_>) -> bool {
    let flow = loss.flow.and_then(|flow| space.case.flows.get(flow));
    let suffers = flow.is_some_and(|flow| flow.suffers() && flow.protocol != TCP);
    suffers && loss.kind == Kind::Drop && leaves_too_big(space, link, loss) == Fit::Yes
}

fn for_datagrams<'a>(space: Space<'a>, link: &'a Link) -> Culprit<'a> {
    Culprit::new(space, &CAUSE, "ip.transmit", Scope::Link, link.name.clone())
        .on(link.index)
        .takes(move |loss| sure(stays_too_big(space, link, loss)))
        .harms(move |flow| sure(is_refused_at(space, link, flow)))
        .tell(move |share| {
            let failed: u64 = share.flows.iter().map(|flow| too_big(flow)).sum();
            let dev = link.name.as_str();
            let words: [(&str, &dyn std::fmt::Display); 3] =
                [("dev", &dev), ("mtu", &link.mtu), ("n", &failed)];
            let show = ["ip", "link", "show", "dev", dev];
            let mut story = Story::new(SUMMARY_DATAGRAMS.fill(&words));
            if let Some(bytes) = share.sampled().map(|event| event.length).max() {
                let refused = REFUSED.fill(&[("dev", &dev), ("mtu", &link.mtu), ("bytes", &bytes)]);
                story = story.evidence(refused, "links", &show);
            }
            if failed > 0 {
                story = story.evidence(NOT_SENT.fill(&words), "system calls", &show);
            }
            match link.mtu < ETHERNET {
                true => story.fix(set_mtu(space, link)),
                false => story.fix(by_hand(SMALLER.fill(&words))),
            }
        })
}

/// A port of a bridge that takes less than the others: a bridge cannot cut a frame, and tells nobody.
fn for_bridged<'a>(space: Space<'a>, link: &'a Link) -> Culprit<'a> {
    Culprit::new(space, &CAUSE, "bridge.forward", Scope::Link, link.name.clone())
        .on(link.index)
        .takes(move |loss| sure(is_too_big_for_port(space, link, loss)))
        .tell(move |share| {
            let dev = link.name.as_str();
            let words: [(&str, &dyn std::fmt::Display); 3] =
                [("dev", &dev), ("mtu", &link.mtu), ("n", &share.events())];
            Story::new(SUMMARY_BRIDGED.fill(&words))
                .evidence(BRIDGED.fill(&words), "drop events", &["ip", "link", "show", "dev", dev])
                .fix(set_mtu(space, link))
        })
}

/// Datagrams of a flow that its program may not cut, and that were larger than what it was told to send.
fn too_big(flow: &Flow<'_>) -> u64 {
    flow.trouble.errors.get(TOO_BIG_FOR_CALL).copied().filter(|_| flow.protocol != TCP).unwrap_or(0)
}

/// True if this is the narrowest interface on the way of such datagrams. Where the way leads out of sight, one that carries
/// as much as Ethernet says nothing: it may be narrower there.
fn is_refused_at(space: Space<'_>, link: &Link, flow: &Flow<'_>) -> bool {
    let case = space.case;
    if !flow.suffers() || too_big(flow) == 0 || !(link.mtu < ETHERNET || flow.destination(case).is_some()) {
        return false;
    }
    let hops = flow.forward.hops.iter().filter(|hop| !hop.outer);
    let links = hops.filter_map(|hop| Some((case.space_by_inode(hop.inode)?, hop)));
    let links = links.flat_map(|(there, hop)| hop.outgoing.iter().map(move |index| (there, *index)));
    let links = links.filter_map(|(there, index)| Some((there, there.after.link(index)?)));
    let narrowest = links.filter(|(_, link)| !link.loopback).min_by_key(|(_, link)| link.mtu);
    narrowest.is_some_and(|(there, narrow)| there.same(space) && narrow.index == link.index)
}

/// Frames above its MTU, packets that the IP layer would send by it, and for lack of IPv6 all of neighbour discovery.
fn takes(space: Space<'_>, link: &Link, loss: &Loss<'_>) -> Fit {
    if loss.kind == Kind::Imagined {
        let ipv6 = |frame: &Frame| match frame {
            Frame::Ip(Some(packet)) => packet.source.or(packet.destination).is_some_and(|ip| ip.is_ipv6()),
            _ => false,
        };
        return sure(loss.is_at(space, link.index) && loss.frame.as_ref().is_some_and(ipv6));
    }
    if is_oversized(space, link, loss)
        || is_too_big_for_port(space, link, loss)
        || (loss.kind == Kind::Frames && loss.is_at(space, link.index))
    {
        return Fit::Yes;
    }
    leaves_too_big(space, link, loss)
}

/// A packet that is too big for the interface by which it should leave.
fn leaves_too_big(space: Space<'_>, link: &Link, loss: &Loss<'_>) -> Fit {
    let leaves_by = |to| match lookup(space, to, None) {
        Lookup::Via(_, hop) => sure(hop.link == Some(link.index)),
        _ => Fit::No,
    };
    match loss.event {
        // What a bridge hands on is not routed here.
        _ if !loss.is_in(space) || !loss.is_of(CAUSE.id) || is_bridged_out(loss) => Fit::No,
        Some(event) => event.destination.map_or(Fit::Maybe, |to| leaves_by(to.ip())),
        None => Fit::Maybe,
    }
}

/// Without a packet that was too large nothing says that size is what ails a flow.
fn harms(space: Space<'_>, link: &Link, flow: &Flow<'_>, met: bool) -> Fit {
    let large = flow.suffers() && carries_much(flow) && flow.passes(space, link.index);
    match lacks_ipv6(space, link, flow) || (large && link.mtu < IPV4_MINIMUM) {
        true if met => Fit::Yes,
        true => Fit::Maybe,
        false => Fit::No,
    }
}

/// What was larger than the interface and met it.
fn witnesses(space: Space<'_>, link: &Link) -> Vec<(Phrase, &'static str)> {
    let mut out = vec![];
    let carrying = space.flows_via(link.index).filter(|flow| carries_much(flow));
    for probe in carrying.filter_map(|flow| flow.probe()) {
        let Some(http) = &probe.http else { continue };
        let url = &probe.url;
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
        |s: Space<'_>| s.case.flows.iter().any(|flow| flow.destination(s.case).is_some_and(|d| d.same(s)));
    match (answers(space), answers(there)) {
        (true, false) => false,
        (false, true) => true,
        _ => (there.target().netns_inode, peer.index) < (space.target().netns_inode, link.index),
    }
}
