//! `tunnel.port_mismatch`: the two ends of a UDP tunnel use different ports.

use super::{between, odd_ones, unjoined};
use crate::coverage::Source;
use crate::culprit::{Culprit, Story};
use crate::evidence::case::Space;
use crate::evidence::tunnel::Tunnel;
use crate::fixes::manual;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tunnel.port_mismatch",
    title: text!("The two ends of a UDP tunnel use different ports", "UDP 隧道两端使用不同的端口"),
    meaning: text!(
        "One end of a VXLAN or Geneve tunnel sends to a UDP port on which the other end does not listen.",
        "VXLAN 或 Geneve 隧道的一端发往的 UDP 端口，另一端并未监听。"
    ),
    seen_by: text!(
        "Both ends are in view and have the same id, each sends to the other's address, and their ports differ.",
        "两端都在可见范围内且标识相同，互相发往对方的地址，而端口不同。"
    ),
    why_lost: text!(
        "A tunnel listens on the port that it sends to. What comes to another port meets no tunnel and is discarded.",
        "隧道监听的端口与其发往的端口相同。到达其他端口的包遇不到隧道而被丢弃。"
    ),
    what_to_do: text!(
        "Give both ends the same port; that of a device cannot be changed, it has to be made anew. 4789 is the port of the standard, 8472 the kernel's own default.",
        "让两端使用相同的端口；设备的端口不能修改，只能重新创建。4789 是标准端口，8472 是内核的默认端口。"
    ),
    when_wrong: text!(
        "When something between the two ends translates the port.",
        "两端之间有设备转换端口时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links, Source::Addresses], judge };

const SUMMARY: Text = text!(
    "{dev} sends to UDP port {port}, and the other end, {there} of {target}, listens on {other}.",
    "{dev} 发往 UDP 端口 {port}，而对端（{target} 的 {there}）监听 {other}。"
);
const PORTS: Text = text!(
    "{dev} has port {port}, {there} of {target} has port {other}, and both have the id {id}",
    "{dev} 的端口为 {port}，{target} 的 {there} 的端口为 {other}，两者标识均为 {id}"
);
const DO: Text = text!(
    "make {dev} anew with the port {other} (dstport {other}), or the other end with the port {port}",
    "以端口 {other}（dstport {other}）重新创建 {dev}，或以端口 {port} 重新创建对端设备"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let told = odd_ones(space, other_ends).into_iter();
    told.filter_map(|(here, others)| culprit(here, others)).collect::<Vec<_>>().into()
}

/// The ends that it would be joined with but for the port.
fn other_ends(here: Tunnel<'_>) -> Vec<Tunnel<'_>> {
    let differs = |there: &Tunnel<'_>| here.port.zip(there.port).is_some_and(|(own, other)| own != other);
    unjoined(here, |there| here.is_like(there) && differs(there))
}

fn culprit<'a>(here: Tunnel<'a>, others: Vec<Tunnel<'a>>) -> Option<Culprit<'a>> {
    let there = *others.first()?;
    Some(between(&CAUSE, here, others).tell(move |_| {
        let number = |port: Option<u16>| port.map_or_else(String::new, |port| port.to_string());
        let (port, other) = (number(here.port), number(there.port));
        let words: [(&str, &dyn std::fmt::Display); 6] = [
            ("dev", &here.link.name),
            ("port", &port),
            ("other", &other),
            ("there", &there.link.name),
            ("target", &there.space.target().id),
            ("id", &here.id.unwrap_or("")),
        ];
        let mut alike = manual(DO);
        alike.title = DO.fill(&words);
        Story::new(SUMMARY.fill(&words))
            .evidence(PORTS.fill(&words), "links", &["ip", "-d", "link", "show", "dev", &here.link.name])
            .fix(alike)
    }))
}
