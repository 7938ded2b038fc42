//! `mtu.peer_mismatch`: the two ends of a link disagree about the MTU.

use super::{FORWARD_SKB, IPV4_MINIMUM, carrying, oversized, set_mtu, too_big_events};
use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule, Suspect};
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, NoteStatus, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "mtu.peer_mismatch",
    title: text!("The two ends of a link disagree about the MTU", "链路两端的 MTU 不一致"),
    meaning: text!(
        "One end of a link may send packets that the other end is too small to take.",
        "链路一端可以发送另一端因 MTU 过小而无法接收的包。"
    ),
    seen_by: text!(
        "Both ends of a veth are observed, or the kernel discards frames on arrival for their size, and the smaller end lost frames that the larger end sent.",
        "veth 的两端都在观察之中（或内核因过大在到达时丢弃帧），且较小的一端丢失了较大的一端发来的帧。"
    ),
    why_lost: text!(
        "A frame above the receiver's MTU is discarded on arrival. The sender learns nothing: no ICMP error is made on a link.",
        "超过接收端 MTU 的帧在到达时被丢弃。发送方一无所知：链路上不会产生 ICMP 错误。"
    ),
    what_to_do: text!("Give both ends the same MTU.", "使两端的 MTU 相同。"),
    when_wrong: text!(
        "TCP agrees on its segment size and never notices; only larger datagrams and forwarded packets are lost.",
        "TCP 会协商报文段大小而不受影响；只有较大的数据报和被转发的包会丢失。"
    ),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Links], consequence_of: &["mtu.too_small"], judge };

const SUMMARY: Text = text!(
    "The ends of the link disagree about the MTU: {dev} takes {mtu} bytes, the other end sends up to {peer}.",
    "链路两端的 MTU 不一致：{dev} 只收 {mtu} 字节，对端最多发送 {peer} 字节。"
);
const SUMMARY_UNSEEN: Text = text!(
    "The other end of {dev} sends packets larger than the MTU of {mtu}.",
    "{dev} 的对端发送了超过 MTU（{mtu}）的包。"
);
const MTUS: Text = text!(
    "{dev}: MTU {mtu}; the other end, {there} {name}: MTU {peer}",
    "{dev}：MTU {mtu}；对端 {there} {name}：MTU {peer}"
);
const TOO_BIG: Text =
    text!("{n} frames larger than the MTU were discarded on arrival", "有 {n} 个超过 MTU 的帧在到达时被丢弃");
const PROBED: Text = text!(
    "{url}: packets up to {bytes} bytes pass, larger ones do not",
    "{url}：不超过 {bytes} 字节的包能通过，更大的不能"
);
const LATENT: Text = text!(
    "MTU {mtu}, but {peer} at the other end ({there} {name}); nothing larger was sent in the window",
    "MTU 为 {mtu}，而对端（{there} {name}）为 {peer}；窗口内没有发送更大的包"
);

fn judge(space: Space<'_>) -> Judgement {
    let mut judgement = Judgement::default();
    for link in space.links().filter(|link| link.up && link.mtu >= IPV4_MINIMUM && is_veth(link)) {
        match space.peer(link) {
            Some((there, peer)) if peer.mtu > link.mtu => between(space, link, there, peer, &mut judgement),
            Some(_) => {}
            None => judgement.suspects.extend(alone(space, link)),
        }
    }
    judgement
}

/// Both ends are seen, and `link` is the smaller one.
fn between(space: Space<'_>, link: &Link, there: Space<'_>, peer: &Link, judgement: &mut Judgement) {
    let target = there.target().name.as_str();
    let words: [(&str, &dyn std::fmt::Display); 5] = [
        ("dev", &link.name),
        ("mtu", &link.mtu),
        ("peer", &peer.mtu),
        ("there", &target),
        ("name", &peer.name),
    ];
    let lost = oversized(space, link);
    let probes = carrying(space, link.index);
    let stuck = probes.iter().filter_map(|i| space.case.ways.get(*i)).find_map(|way| {
        let pmtu = way.probe.pmtu.as_ref()?;
        let largest = pmtu.largest_ok.filter(|n| *n <= link.mtu && pmtu.smallest_lost.is_some())?;
        pmtu.black_hole.then_some((way, largest))
    });
    if lost == 0 && stuck.is_none() {
        judgement.note(space, &CAUSE, NoteStatus::Latent, &link.name, LATENT.fill(&words));
        return;
    }
    // Where probes only start nothing counts by itself: then the loss is the other end's.
    let (at, subject) = match space.is_target() || !there.is_target() {
        true => (space, &link.name),
        false => (there, &peer.name),
    };
    let show = ["ip", "-s", "link", "show", "dev", subject.as_str()];
    let mut suspect = Suspect::new(at, &CAUSE, "link", subject.clone(), SUMMARY.fill(&words))
        .evidence(MTUS.fill(&words), "links", &show)
        .touches(probes)
        .fix(set_mtu(space, link));
    if lost > 0 {
        suspect = suspect
            .packets(lost, "rx_dropped")
            .evidence(TOO_BIG.fill(&[("n", &lost)]), "interface counters", &show)
            .drop_events(too_big_events(space, link), FORWARD_SKB);
    }
    if let Some((way, bytes)) = stuck {
        let claim = PROBED.fill(&[("url", &way.probe.url), ("bytes", &bytes)]);
        suspect = suspect.evidence(claim, "pmtu probe", &[]);
    }
    judgement.suspects.push(suspect);
}

/// The other end is out of sight; the kernel's own account of frames that were too large speaks for it.
fn alone(space: Space<'_>, link: &Link) -> Option<Suspect> {
    let lost = oversized(space, link);
    let words: [(&str, &dyn std::fmt::Display); 2] = [("dev", &link.name), ("mtu", &link.mtu)];
    let show = ["ip", "-s", "link", "show", "dev", link.name.as_str()];
    (lost > 0).then(|| {
        Suspect::new(space, &CAUSE, "link", link.name.clone(), SUMMARY_UNSEEN.fill(&words))
            .packets(lost, "rx_dropped")
            .evidence(TOO_BIG.fill(&[("n", &lost)]), "interface counters", &show)
            .drop_events(too_big_events(space, link), FORWARD_SKB)
            .touches(carrying(space, link.index))
            .fix(set_mtu(space, link))
    })
}

fn is_veth(link: &Link) -> bool {
    link.kind.as_deref() == Some("veth")
}
