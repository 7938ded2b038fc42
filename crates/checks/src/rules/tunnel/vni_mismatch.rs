//! `tunnel.vni_mismatch`: the two ends of a tunnel use different ids.

use super::{between, odd_ones, unjoined};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::evidence::tunnel::{Pair, Tunnel};
use crate::fixes::manual;
use crate::loss::Loss;
use crate::loss::death::payload;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Direction, DropEvent, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tunnel.vni_mismatch",
    title: text!("The two ends of a tunnel use different ids", "隧道两端使用不同的标识"),
    meaning: text!(
        "VXLAN frames arrive with a network id (VNI) that no device here has.",
        "到达的 VXLAN 帧所带的网络标识（VNI）在本机没有对应的设备。"
    ),
    seen_by: text!(
        "The kernel reported frames with an unknown VNI; their headers tell which, and the devices here which would be right.",
        "内核报告了 VNI 未知的帧；帧头给出其 VNI，本机设备给出正确的 VNI。"
    ),
    why_lost: text!(
        "The receiver does not know to which network such a frame belongs, and discards it without an answer.",
        "接收方不知道这样的帧属于哪个网络，将其丢弃且不作应答。"
    ),
    what_to_do: text!(
        "Give both ends the same id; the id of a device cannot be changed, it has to be made anew.",
        "让两端使用相同的标识；设备的标识不能修改，只能重新创建设备。"
    ),
    when_wrong: text!(
        "Frames to a multicast group that several overlays share reach hosts without that network, too.",
        "多个叠加网络共用一个组播组时，帧也会到达没有该网络的主机。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::DropEvents, Source::Links], judge };

/// Where it happens.
const STAGE: &str = "tunnel.receive";
/// Bytes before the VXLAN header: UDP (RFC 7348, section 5).
const UDP_HEADER: usize = 8;
/// A sender whose tunnel ends here by its own setting, but not by any here, may have a stale forwarding entry.
const ONE_SIDED: f64 = 0.6;

const SUMMARY: Text = text!(
    "VXLAN frames from {sender} carry the id {vni}, which no device here has.",
    "来自 {sender} 的 VXLAN 帧带有标识 {vni}，而本机没有使用该标识的设备。"
);
const SUMMARY_ANY: Text = text!(
    "VXLAN frames arrive with an id that no device here has.",
    "到达的 VXLAN 帧所带的标识在本机没有对应的设备。"
);
const SUMMARY_BOTH: Text = text!(
    "{dev} has the id {own}, and the other end, {there} of {target}, has {vni}.",
    "{dev} 的标识为 {own}，而对端（{target} 的 {there}）的标识为 {vni}。"
);
const IDS: Text = text!(
    "each of the two sends to the other, {dev} with {own}, {there} of {target} with {vni}",
    "两端互相发往对方，{dev} 使用 {own}，{target} 的 {there} 使用 {vni}"
);
const OTHER: Text = text!(
    "{dev} is the tunnel to {sender} and has the id {own}",
    "{dev} 是通往 {sender} 的隧道，其标识为 {own}"
);
const ALIKE: Text = text!(
    "make {dev} anew with the id {vni}, or the other end with the id {own}",
    "以标识 {vni} 重新创建 {dev}，或以标识 {own} 重新创建对端设备"
);
const DO: Text = text!(
    "compare the ids of both ends (ip -d link show type vxlan), and look for a stale forwarding entry of the sender (bridge fdb)",
    "比较两端的标识（ip -d link show type vxlan），并检查发送方是否有过期的转发表项（bridge fdb）"
);
const SHARED: Text = text!(
    "{n} VXLAN frames to a multicast group carried an id that is not used here: others share the group",
    "有 {n} 个发往组播组的 VXLAN 帧带有本机未使用的标识：该组由多个网络共用"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut senders: BTreeMap<IpAddr, u32> = BTreeMap::new();
    let (mut shared, mut nameless) = (false, false);
    for loss in space.losses().filter(|loss| loss.is_of(CAUSE.id)) {
        match loss.event {
            Some(event) if is_shared(event) => shared = true,
            Some(event) => match event.source.zip(vni(event)) {
                Some((source, vni)) => {
                    senders.entry(source.ip()).or_insert(vni);
                }
                None => nameless = true,
            },
            None => nameless |= loss.alike.is_empty(),
        }
    }
    let pairs = odd_ones(space, strangers);
    // Where both ends are in view they are compared, and it is told at one of them.
    let ends = |sender: IpAddr| Tunnel::all(space.case).filter(move |end| end.space.after.owns(sender));
    let told =
        |sender: &IpAddr| ends(*sender).any(|end| strangers(end).iter().any(|there| there.space.same(space)));
    let known = senders.into_iter().filter(|(sender, _)| !told(sender));
    let mut out: Vec<Culprit<'_>> = known.map(|(sender, vni)| culprit(space, sender, vni)).collect();
    out.extend(pairs.into_iter().filter_map(|(here, others)| differing(here, others)));
    if out.is_empty() && nameless {
        out.push(
            at_any(space, STAGE.to_owned())
                .at_most(ONE_SIDED)
                .takes(move |loss| mine(space, loss, |event| !is_shared(event)))
                .tell(|_| Story::new(SUMMARY_ANY.phrase()).fix(manual(DO))),
        );
    }
    if shared {
        let of_others = at_any(space, STAGE.to_owned()).duty(SHARED);
        out.push(of_others.takes(move |loss| mine(space, loss, is_shared)));
    }
    out.into()
}

fn at_any(space: Space<'_>, subject: String) -> Culprit<'_> {
    Culprit::new(space, &CAUSE, STAGE, Scope::Link, subject).direction(Direction::Receive)
}

/// The ends that it would be joined with but for the id.
fn strangers(here: Tunnel<'_>) -> Vec<Tunnel<'_>> {
    let differs = |there: &Tunnel<'_>| here.id.zip(there.id).is_some_and(|(own, other)| own != other);
    // Others may share a group.
    let shared = here.remotes().any(|ip| ip.is_multicast());
    unjoined(here, |there| !shared && here.port == there.port && differs(there))
}

/// An end that has another id than those with which it should be joined.
fn differing<'a>(here: Tunnel<'a>, others: Vec<Tunnel<'a>>) -> Option<Culprit<'a>> {
    let there = *others.first()?;
    let (own, vni) = (here.id?, there.id?);
    let asked = others.clone();
    let culprit = between(&CAUSE, here, others).takes(move |loss| {
        let from = |event: &DropEvent, end: Space<'_>| {
            event.source.is_some_and(|source| end.after.owns(source.ip())) && !is_shared(event)
        };
        let refused = |there: &Tunnel<'a>| {
            mine(here.space, loss, |event| from(event, there.space))
                .max(mine(there.space, loss, |event| from(event, here.space)))
        };
        let wanted = sure(asked.iter().any(|there| Pair(here, *there).is_asked(loss)));
        asked.iter().map(refused).max().unwrap_or(Fit::No).max(wanted)
    });
    Some(culprit.tell(move |_| {
        let words: [(&str, &dyn std::fmt::Display); 5] = [
            ("dev", &here.link.name),
            ("own", &own),
            ("vni", &vni),
            ("there", &there.link.name),
            ("target", &there.space.target().id),
        ];
        let mut alike = manual(ALIKE);
        alike.title = ALIKE.fill(&words);
        Story::new(SUMMARY_BOTH.fill(&words))
            .evidence(IDS.fill(&words), "links", &["ip", "-d", "link", "show", "dev", &here.link.name])
            .fix(alike)
    }))
}

fn culprit(space: Space<'_>, sender: IpAddr, vni: u32) -> Culprit<'_> {
    let device = tunnel_to(space, sender);
    let received = space.losses().filter(|loss| loss.is_of(CAUSE.id)).find_map(|loss| loss.count);
    let by = received.and_then(|count| count.interface.clone()).unwrap_or_else(|| STAGE.to_owned());
    let culprit = at_any(space, device.map_or(by, |(link, _)| link.name.clone()))
        .reaches()
        .takes(move |loss| takes(space, sender, loss))
        .harms(move |flow| {
            let passes = device.is_some_and(|(link, _)| flow.passes(space, link.index));
            if passes && flow.suffers() { Fit::Yes } else { Fit::No }
        })
        .tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 2] = [("sender", &sender), ("vni", &vni)];
            let story = Story::new(SUMMARY.fill(&words));
            let Some((link, own)) = device else { return story.fix(manual(DO)) };
            let words: [(&str, &dyn std::fmt::Display); 4] =
                [("sender", &sender), ("vni", &vni), ("dev", &link.name), ("own", &own)];
            let mut alike = manual(ALIKE);
            alike.title = ALIKE.fill(&words);
            story
                .evidence(OTHER.fill(&words), "links", &["ip", "-d", "link", "show", "dev", &link.name])
                .fix(alike)
        });
    match device {
        Some((link, _)) => culprit.on(link.index),
        None => culprit.at_most(ONE_SIDED),
    }
}

/// What this end refuses of the sender, and what was never sent through the tunnel for want of a neighbour.
fn takes<'a>(space: Space<'a>, sender: IpAddr, loss: &Loss<'a>) -> Fit {
    let mut at_sender = space.case.owners(sender).flat_map(|there| {
        let own = there.links().filter_map(move |link| Tunnel::of(there, link));
        own.filter(|end| end.remotes().any(|remote| space.after.owns(remote)))
    });
    if tunnel_to(space, sender).is_some_and(|(link, _)| loss.is_imagined_at(space, link.index))
        || at_sender
            .any(|end| loss.is_imagined_at(end.space, end.link.index) && end.id != own_id(space, sender))
    {
        return Fit::Yes;
    }
    let his = |event: &DropEvent| event.source.is_some_and(|from| from.ip() == sender);
    mine(space, loss, |event| !is_shared(event) && his(event))
}

/// Frames with an unknown id; which, the packets tell.
fn mine(space: Space<'_>, loss: &Loss<'_>, wanted: impl Fn(&DropEvent) -> bool) -> Fit {
    match loss.event {
        _ if !loss.is_in(space) || !loss.is_of(CAUSE.id) => Fit::No,
        Some(event) if wanted(event) => Fit::Yes,
        Some(_) => Fit::No,
        None => Fit::Maybe,
    }
}

/// True if it was sent to a group that several overlays share.
fn is_shared(event: &DropEvent) -> bool {
    event.destination.is_some_and(|to| to.ip().is_multicast())
}

/// The id of the tunnel whose other end is this address.
fn own_id<'a>(space: Space<'a>, peer: IpAddr) -> Option<&'a str> {
    tunnel_to(space, peer).map(|(_, id)| id)
}

/// The id in the VXLAN header: its bytes 4 to 6.
fn vni(event: &DropEvent) -> Option<u32> {
    let vxlan = payload(event)?.get(UDP_HEADER..)?;
    let [a, b, c, _] = vxlan.get(4..8)?.try_into().ok()?;
    Some(u32::from_be_bytes([0, a, b, c]))
}

/// The tunnel that sends to this address, with its id.
fn tunnel_to<'a>(space: Space<'a>, peer: IpAddr) -> Option<(&'a Link, &'a str)> {
    let mut tunnels = space.links().filter_map(|link| Tunnel::of(space, link));
    tunnels.find_map(|end| {
        let sends = end.kind == "vxlan" && end.remotes().any(|remote| remote == peer);
        Some((end.link, end.id?)).filter(|_| sends)
    })
}

#[cfg(test)]
mod tests {
    use crate::rules::events::sample;
    use crate::testing::*;
    use whydrop_model::{DropEvent, Reading, Verdict};

    const REASON: &str = "VXLAN_VNI_NOT_FOUND";

    /// As recorded: an ARP request in VXLAN 43.
    fn frame() -> DropEvent {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet.extend([0xd0, 0x18, 0x12, 0xb5, 0, 0x3a, 0x15, 0, 8, 0, 0, 0, 0, 0, 43, 0]);
        DropEvent { reason: REASON.into(), function: "vxlan_rcv".into(), packet, ..DropEvent::default() }
    }

    fn world(to: &str, remote: Option<&str>) -> World {
        let mut world = World::pair();
        world.drops(SERVER, REASON, "vxlan_rcv", 7);
        sample(&mut world, SERVER, frame(), "10.0.0.1:53272", to);
        if let Some(remote) = remote {
            world.both(SERVER, |s| {
                let Reading::Present(links) = &mut s.links else { return };
                let mut vxlan = veth(9, "vx0", 0);
                (vxlan.kind, vxlan.link, vxlan.link_netnsid) = (Some("vxlan".into()), None, None);
                vxlan.details.insert("remote".into(), remote.into());
                vxlan.details.insert("vni".into(), "42".into());
                links.push(vxlan);
            });
        }
        world
    }

    #[test]
    fn the_tunnel_to_the_sender_and_both_ids_are_named() {
        let world = world("10.0.0.2:4789", Some("10.0.0.1"));
        assert_eq!(world.found(), ["tunnel.vni_mismatch @ netns:server: vx0"]);
        let report = world.report();
        assert_eq!((report.ledger.lost, report.ledger.unexplained), (7, 0));
        let title = &report.findings[0].fixes[0].title.en;
        assert!(title.contains("43") && title.contains("42"), "{title}");
    }

    #[test]
    fn a_sender_without_a_tunnel_here_is_less_sure() {
        let report = world("10.0.0.2:4789", None).report();
        assert_eq!((report.findings.len(), report.ledger.unexplained), (1, 0));
        assert!(report.findings[0].confidence < 0.8);
    }

    #[test]
    fn a_shared_multicast_group_is_no_loss() {
        let report = world("239.1.1.1:4789", Some("239.1.1.1")).report();
        assert_eq!((report.verdict, report.ledger.unexplained), (Verdict::Clear, 0));
    }
}
