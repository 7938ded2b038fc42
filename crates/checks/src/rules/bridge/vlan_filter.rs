//! `bridge.vlan_filter`: a bridge that filters by VLAN refuses the frame.

use super::{FORWARD, is_refused};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::frame::{self, Blocked, Stop, Why};
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule, fill_words};
use std::collections::BTreeMap;
use whydrop_model::{Cause, Direction, Phrase, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "bridge.vlan_filter",
    title: text!("Bridge VLAN filtering refuses the frame", "网桥的 VLAN 过滤拒绝该帧"),
    meaning: text!(
        "The bridge filters by VLAN, and a port on the way does not belong to the VLAN of the frames.",
        "网桥按 VLAN 过滤，而路径上的某个端口不属于这些帧的 VLAN。"
    ),
    seen_by: text!(
        "Somebody asks for an address in view in vain; the VLAN tables of the ports between show where the frames end.",
        "有主机查询可见范围内的地址而无应答；两者之间各端口的 VLAN 表表明帧在何处终止。"
    ),
    why_lost: text!(
        "A frame comes in only by a port of its VLAN, or without a tag by a port with a PVID, and leaves only by a port of the same VLAN. All else is dropped without a counter.",
        "帧只能从所属 VLAN 的端口进入（无标签时从有 PVID 的端口进入），且只能从同一 VLAN 的端口离开。其余均被丢弃，没有计数。"
    ),
    what_to_do: text!(
        "Add the VLAN to the port: bridge vlan add dev PORT vid ID, with `pvid untagged` where the station does not use tags.",
        "为端口添加该 VLAN：bridge vlan add dev 端口 vid 标识；若该主机不使用标签，加上 `pvid untagged`。"
    ),
    when_wrong: text!("When the VLANs are there to keep the two apart.", "VLAN 正是用来隔离两者时。"),
};

/// The rule.
pub const RULE: Rule =
    Rule { cause: &CAUSE, needs: &[Source::Links, Source::Addresses, Source::BridgeVlans], judge };

const SUMMARY_OUT: Text = text!(
    "Frames for {ip} are in VLAN {vlan}, to which the bridge port {port} does not belong.",
    "发给 {ip} 的帧属于 VLAN {vlan}，而网桥端口 {port} 不属于该 VLAN。"
);
const SUMMARY_IN: Text = text!(
    "Frames with the VLAN tag {vlan} may not come in by the bridge port {port}; {ip} is asked for in vain.",
    "带有 VLAN 标签 {vlan} 的帧不能从网桥端口 {port} 进入；对 {ip} 的查询没有应答。"
);
const SUMMARY_NO_PVID: Text = text!(
    "The bridge port {port} takes no frames without a VLAN tag (it has no PVID); {ip} is asked for in vain.",
    "网桥端口 {port} 不接收无 VLAN 标签的帧（没有 PVID）；对 {ip} 的查询没有应答。"
);
const TABLE: Text = text!("the VLANs of {port} are: {vlans}", "{port} 的 VLAN 为：{vlans}");
const NONE: Text = text!("none", "无");
const ADD: Text = text!(
    "add the VLAN to the port: bridge vlan add dev {port} vid {vlan}{flags}",
    "为端口添加该 VLAN：bridge vlan add dev {port} vid {vlan}{flags}"
);
const ADD_PVID: Text = text!(
    "give the port the VLAN of the other end: bridge vlan add dev {port} vid ID pvid untagged",
    "为端口设置对端的 VLAN：bridge vlan add dev {port} vid 标识 pvid untagged"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    if !space.links().any(frame::filters) {
        return Judgement::default();
    }
    let mut found: BTreeMap<(u32, Option<u16>), Blocked<'_>> = BTreeMap::new();
    for blocked in frame::blocked(space.case) {
        let Stop { space: there, link, tag, why } = blocked.stop;
        if there.same(space) && why != Why::OtherId {
            found.entry((link.index, tag)).or_insert(blocked);
        }
    }
    found.into_values().map(|blocked| culprit(space, blocked)).collect::<Vec<_>>().into()
}

fn culprit<'a>(space: Space<'a>, blocked: Blocked<'a>) -> Culprit<'a> {
    let Stop { link, tag, .. } = blocked.stop;
    let subject = tag.map_or_else(|| link.name.clone(), |id| format!("{} vlan {id}", link.name));
    let key = move |other: &Blocked<'a>| {
        other.stop.space.same(space) && (other.stop.link.index, other.stop.tag) == (link.index, tag)
    };
    // All that end at this port in this VLAN.
    let alike: Vec<Blocked<'a>> = frame::blocked(space.case).into_iter().filter(key).collect();
    let needed = alike.clone();
    Culprit::new(space, &CAUSE, FORWARD, Scope::Link, subject)
        .direction(Direction::Forward)
        .on(link.index)
        .takes(move |loss| match alike.iter().any(|blocked| blocked.is_asked(loss)) {
            true => Fit::Yes,
            false if is_refused(space, loss) => Fit::Maybe,
            false => Fit::No,
        })
        .harms(move |flow| sure(needed.iter().any(|blocked| blocked.is_needed_by(flow))))
        .tell(move |_| story(space, blocked))
}

fn story<'a>(space: Space<'a>, blocked: Blocked<'a>) -> Story {
    let Stop { link, tag, why, .. } = blocked.stop;
    let own = space.after.bridge_vlans.iter().filter(|vlan| vlan.link == link.index);
    let vlans: Vec<String> = own
        .map(|vlan| match vlan.first == vlan.last {
            true => vlan.first.to_string(),
            false => format!("{}-{}", vlan.first, vlan.last),
        })
        .collect();
    let vlans = match vlans.is_empty() {
        true => NONE.phrase(),
        false => Phrase::same(vlans.join(", ")),
    };
    let vlan = tag.map_or_else(String::new, |id| id.to_string());
    // A station behind the port that uses no tags gets its frames without one.
    let ends_untagged = [blocked.asker, blocked.holder].into_iter().any(|(there, device)| {
        space.peer(link).is_some_and(|(s, l)| s.same(there) && l.index == device.index)
    });
    let flags = if ends_untagged { " pvid untagged" } else { "" };
    let words: [(&str, &dyn std::fmt::Display); 4] =
        [("port", &link.name), ("ip", &blocked.ip), ("vlan", &vlan), ("flags", &flags)];
    let (summary, advice) = match why {
        Why::Out | Why::OtherId => (SUMMARY_OUT, ADD),
        Why::In => (SUMMARY_IN, ADD),
        Why::NoPvid => (SUMMARY_NO_PVID, ADD_PVID),
    };
    let table = fill_words(TABLE, &[("port", &Phrase::same(link.name.as_str())), ("vlans", &vlans)]);
    Story::new(summary.fill(&words))
        .evidence(table, "bridge_vlans", &["bridge", "vlan", "show", "dev", &link.name])
        .fix(by_hand(advice.fill(&words)))
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::Reading;
    use whydrop_model::snapshot::BridgeVlan;

    /// The bridge filters; its ports p0 and p1 (client, server) belong to these VLANs, without tag.
    fn filtered(vlans: [u16; 2]) -> World {
        let mut world = World::bridged();
        world.both(HOST, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            for link in links.iter_mut().filter(|link| link.name == "br0") {
                link.details.insert("vlan_filtering".into(), "on".into());
            }
            let vlan = |link, id| BridgeVlan { link, first: id, last: id, pvid: true, untagged: true };
            s.bridge_vlans = Reading::Present(vec![vlan(11, vlans[0]), vlan(12, vlans[1])]);
        });
        world.both(CLIENT, |s| {
            s.neighbours = Reading::Present(vec![neighbour("10.0.0.2", None, "failed")]);
        });
        world.probe("tcp://10.0.0.2:80", 20, 20);
        world
    }

    #[test]
    fn ports_of_two_vlans_are_apart() {
        assert_eq!(filtered([10, 20]).found(), ["bridge.vlan_filter @ netns:host: p1 vlan 10"]);
        assert_eq!(filtered([10, 20]).report().ledger.unexplained, 0);
    }

    #[test]
    fn ports_of_one_vlan_are_not() {
        let found = filtered([10, 10]).found();
        assert_eq!(found, ["neigh.unresolved @ netns:client: 10.0.0.2 dev eth0"]);
    }
}
