//! `tunnel.vni_mismatch`: the two ends of a tunnel use different ids.

use crate::case::Space;
use crate::coverage::Source;
use crate::reconcile::BY_EVENTS;
use crate::rule::{Judgement, Rule, Suspect, manual};
use crate::rules::events::{Events, payload};
use std::net::IpAddr;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Direction, DropEvent, NoteStatus, Text, text};

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
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::DropEvents, Source::Links], consequence_of: &[], judge };

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

fn judge(space: Space<'_>) -> Judgement {
    let events = Events::of(space, &CAUSE);
    let (mut out, total) = (Judgement::default(), events.total());
    if total == 0 {
        return out;
    }
    let shared = |event: &&DropEvent| event.destination.is_some_and(|to| to.ip().is_multicast());
    if !events.sampled.is_empty() && events.sampled.iter().all(shared) {
        out.note(space, &CAUSE, NoteStatus::Benign, STAGE, SHARED.fill(&[("n", &total)]));
        out.excuse(space, STAGE, total);
        return out;
    }
    let dev = events.busiest().and_then(|count| count.interface.clone()).unwrap_or_else(|| STAGE.to_owned());
    let seen = events.sampled.iter().filter(|event| !shared(event));
    let Some((sender, vni)) = seen.filter_map(|event| Some((event.source?.ip(), vni(event)?))).next() else {
        let suspect = Suspect::new(space, &CAUSE, STAGE, dev, SUMMARY_ANY.phrase())
            .direction(Direction::Receive)
            .packets(total, BY_EVENTS)
            .drop_events(total, events.reason())
            .at_most(ONE_SIDED)
            .fix(manual(DO));
        return vec![suspect].into();
    };
    // Each end refuses the other's frames: one mistake, told at the end that comes first.
    let twin = twin(space, sender);
    if twin.is_some_and(|there| comes_before(there, space)) {
        out.excuse(space, STAGE, total);
        return out;
    }
    let both = total + twin.map_or(0, |there| Events::of(there, &CAUSE).total());
    let words: [(&str, &dyn std::fmt::Display); 2] = [("sender", &sender), ("vni", &vni)];
    let device = tunnel_to(space, sender);
    let subject = device.map_or(dev, |(link, _)| link.name.clone());
    let mut suspect = Suspect::new(space, &CAUSE, STAGE, subject, SUMMARY.fill(&words))
        .direction(Direction::Receive)
        .packets(both, BY_EVENTS)
        .drop_events(both, events.reason());
    if let Some((link, own)) = device {
        let words: [(&str, &dyn std::fmt::Display); 4] =
            [("sender", &sender), ("vni", &vni), ("dev", &link.name), ("own", &own)];
        let mut alike = manual(ALIKE);
        alike.title = ALIKE.fill(&words);
        suspect = suspect
            .evidence(OTHER.fill(&words), "links", &["ip", "-d", "link", "show", "dev", &link.name])
            .touches(space.probes_via(link.index))
            .fix(alike);
    } else {
        suspect = suspect.at_most(ONE_SIDED).fix(manual(DO));
    }
    vec![suspect].into()
}

/// The target at the other end, if it refuses frames, too.
fn twin(space: Space<'_>, sender: IpAddr) -> Option<Space<'_>> {
    let refuses = |there: &Space<'_>| Events::of(*there, &CAUSE).total() > 0;
    let mut others = space.case.spaces().filter(|there| there.is_target() && !there.same(space));
    others.find(|there| there.after.owns(sender)).filter(refuses)
}

fn comes_before(there: Space<'_>, here: Space<'_>) -> bool {
    let place = |space: Space<'_>| here.case.spaces().position(|other| other.same(space));
    place(there) < place(here)
}

/// The id in the VXLAN header: its bytes 4 to 6.
fn vni(event: &DropEvent) -> Option<u32> {
    let vxlan = payload(event)?.get(UDP_HEADER..)?;
    let [a, b, c, _] = vxlan.get(4..8)?.try_into().ok()?;
    Some(u32::from_be_bytes([0, a, b, c]))
}

/// The tunnel whose other end is this address, with its id.
fn tunnel_to(space: Space<'_>, peer: IpAddr) -> Option<(&Link, &str)> {
    let mut tunnels = space.links().filter(|link| link.kind.as_deref() == Some("vxlan"));
    tunnels.find_map(|link| {
        let remote: IpAddr = link.details.get("remote")?.parse().ok()?;
        let own = link.details.get("vni")?;
        (remote == peer).then_some((link, own.as_str()))
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
