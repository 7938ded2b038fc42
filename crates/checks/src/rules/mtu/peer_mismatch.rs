//! `mtu.peer_mismatch`: the two ends of a link disagree about the MTU.

use super::{IPV4_MINIMUM, carries_much, is_oversized, lacks_ipv6, oversized, set_mtu};
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::loss::{Kind, Loss};
use crate::rule::{Judgement, Rule};
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
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links], judge };

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

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut judgement = Judgement::default();
    // An interface that is too narrow for what it has to carry at all is another matter.
    let fits = |link: &&Link| {
        link.mtu >= IPV4_MINIMUM && !space.case.flows.iter().any(|flow| lacks_ipv6(space, link, flow))
    };
    for link in space.links().filter(|link| link.up && is_veth(link)).filter(fits) {
        match space.peer(link) {
            Some((there, peer)) if peer.mtu > link.mtu => between(space, link, there, peer, &mut judgement),
            Some(_) => {}
            None => judgement.culprits.extend(alone(space, link)),
        }
    }
    judgement
}

/// Both ends are seen, and `link` is the smaller one.
fn between<'a>(
    space: Space<'a>,
    link: &'a Link,
    there: Space<'a>,
    peer: &'a Link,
    judgement: &mut Judgement<'a>,
) {
    let words = move |text: Text| {
        let target = there.target().name.as_str();
        text.fill(&[
            ("dev", &link.name),
            ("mtu", &link.mtu),
            ("peer", &peer.mtu),
            ("there", &target),
            ("name", &peer.name),
        ])
    };
    let lost = oversized(space, link);
    if lost == 0 && !space.flows_via(link.index).any(|flow| stuck(link, flow).is_some()) {
        judgement.note(space, &CAUSE, NoteStatus::Latent, &link.name, words(LATENT));
        return;
    }
    // Where probes only start nothing counts by itself: then the loss is the other end's.
    let (at, subject) = match space.is_target() || !there.is_target() {
        true => (space, &link.name),
        false => (there, &peer.name),
    };
    let culprit = culprit(at, space, link, lost, subject).tell(move |share| {
        let show = ["ip", "-s", "link", "show", "dev", subject.as_str()];
        let mut story = Story::new(words(SUMMARY)).evidence(words(MTUS), "links", &show);
        story = discarded(story, lost, &show).fix(set_mtu(space, link));
        for (url, bytes) in share.flows.iter().filter_map(|flow| stuck(link, flow)) {
            story = story.evidence(PROBED.fill(&[("url", &url), ("bytes", &bytes)]), "pmtu probe", &[]);
        }
        story
    });
    judgement.culprits.push(culprit);
}

/// The other end is out of sight; the kernel's own account of frames that were too large speaks for it.
fn alone<'a>(space: Space<'a>, link: &'a Link) -> Option<Culprit<'a>> {
    let lost = oversized(space, link);
    (lost > 0).then(|| {
        culprit(space, space, link, lost, &link.name).tell(move |_| {
            let show = ["ip", "-s", "link", "show", "dev", link.name.as_str()];
            let summary = SUMMARY_UNSEEN.fill(&[("dev", &link.name), ("mtu", &link.mtu)]);
            discarded(Story::new(summary), lost, &show).fix(set_mtu(space, link))
        })
    })
}

fn culprit<'a>(at: Space<'a>, space: Space<'a>, link: &'a Link, lost: u64, subject: &str) -> Culprit<'a> {
    let culprit = Culprit::new(at, &CAUSE, "link", Scope::Link, subject.to_owned())
        .reaches()
        .takes(move |loss| takes(space, link, loss))
        .harms(move |flow| {
            let met = lost > 0 && flow.suffers() && carries_much(flow) && flow.passes(space, link.index);
            sure(met || stuck(link, flow).is_some() && flow.passes(space, link.index))
        });
    match lost {
        0 => culprit,
        lost => culprit.meter(lost, Count::AtLeast, "rx_dropped"),
    }
}

fn takes(space: Space<'_>, link: &Link, loss: &Loss<'_>) -> Fit {
    match loss.kind {
        Kind::Frames => sure(loss.is_at(space, link.index)),
        _ => sure(is_oversized(space, link, loss)),
    }
}

/// The URL of a probe of which just what fits got through, with the number of bytes.
fn stuck<'a>(link: &Link, flow: &Flow<'a>) -> Option<(&'a str, u32)> {
    let probe = flow.probe()?;
    let pmtu = probe.pmtu.as_ref().filter(|pmtu| pmtu.black_hole && pmtu.smallest_lost.is_some())?;
    Some((probe.url.as_str(), pmtu.largest_ok.filter(|n| *n <= link.mtu)?))
}

fn discarded(story: Story, lost: u64, show: &[&str]) -> Story {
    match lost {
        0 => story,
        lost => story.evidence(TOO_BIG.fill(&[("n", &lost)]), "interface counters", show),
    }
}

fn is_veth(link: &Link) -> bool {
    link.kind.as_deref() == Some("veth")
}
