//! `vlan.id_mismatch`: the two ends use different VLAN ids.

use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::frame::{self, Blocked, Device, Why};
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule, fill_words};
use whydrop_model::{Cause, Phrase, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "vlan.id_mismatch",
    title: text!("The two ends use different VLAN ids", "两端使用不同的 VLAN 标识"),
    meaning: text!(
        "Frames of one end carry a VLAN id, and the other end takes only those of another id, or those without a tag.",
        "一端的帧带有某个 VLAN 标识，而另一端只接收其他标识的帧，或只接收不带标签的帧。"
    ),
    seen_by: text!(
        "Both ends are in view and joined by cables and bridges, somebody asks for the address of the other in vain, and their VLAN ids differ.",
        "两端都在可见范围内且由线缆和网桥相连，其中一方查询另一方的地址而无应答，而两者的 VLAN 标识不同。"
    ),
    why_lost: text!(
        "A device takes frames of its own VLAN only. Others are discarded without a word to the sender, and mostly without a counter.",
        "设备只接收自己 VLAN 的帧。其他帧被丢弃，既不通知发送方，通常也没有计数。"
    ),
    what_to_do: text!(
        "Give both ends the same id; that of a device cannot be changed, it has to be made anew.",
        "让两端使用相同的标识；设备的标识不能修改，只能重新创建。"
    ),
    when_wrong: text!(
        "When something between the two ends translates the id.",
        "两端之间有设备转换 VLAN 标识时。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links, Source::Addresses], judge };

const SUMMARY: Text = text!(
    "{dev} sends {own}, and {there} of {target}, which has {ip}, takes {other}.",
    "{dev} 发送{own}，而拥有 {ip} 的 {there}（{target}）接收{other}。"
);
const ENDS: Text = text!("{dev} of {target} uses {id}", "{target} 的 {dev} 使用 {id}");
const TAGGED: Text = text!("VLAN {id}", "标签 VLAN {id}");
const UNTAGGED: Text = text!("no VLAN tag", "无 VLAN 标签");
const SAME: Text = text!(
    "make {dev} anew with the other end's id: ip link add link LOWER name {dev} type vlan id {id}",
    "以对端的标识重新创建 {dev}：ip link add link 下层设备 name {dev} type vlan id {id}"
);
const NO_TAG: Text = text!(
    "give both ends the same VLAN: a VLAN device at both, or at neither",
    "让两端使用相同的 VLAN：两端都用 VLAN 设备，或都不用"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let tags = |space: Space<'_>| space.links().any(|link| link.kind.as_deref() == Some("vlan"));
    if !space.case.spaces().any(tags) {
        return Judgement::default();
    }
    let all = frame::blocked(space.case).into_iter().filter(|blocked| blocked.stop.why == Why::OtherId);
    let told = all.map(|blocked| match blocked.asker.0.speaks_for(blocked.holder.0) {
        true => (blocked.asker, blocked.holder, blocked),
        false => (blocked.holder, blocked.asker, blocked),
    });
    let here = told.filter(|(own, ..)| own.0.same(space));
    here.map(|(own, other, blocked)| culprit(own, other, blocked)).collect::<Vec<_>>().into()
}

fn culprit<'a>(own: Device<'a>, other: Device<'a>, blocked: Blocked<'a>) -> Culprit<'a> {
    let (space, link) = own;
    Culprit::new(space, &CAUSE, "link.receive", Scope::Link, link.name.clone())
        .on(link.index)
        .reaches()
        .takes(move |loss| sure(blocked.is_asked(loss)))
        .harms(move |flow| sure(blocked.is_needed_by(flow)))
        .tell(move |_| story(own, other, blocked))
}

fn tag((_, link): Device<'_>) -> Phrase {
    frame::id(link).map_or_else(|| UNTAGGED.phrase(), |id| TAGGED.fill(&[("id", &id)]))
}

fn story<'a>(own: Device<'a>, other: Device<'a>, blocked: Blocked<'a>) -> Story {
    let ((_, link), (there, device)) = (own, other);
    // The address that the other end has, which is asked for or asks.
    let of_other = || there.after.addresses.iter().find(|a| a.link == device.index).map(|a| a.ip);
    let ip = if there.same(blocked.holder.0) { Some(blocked.ip) } else { of_other() };
    let ip = Phrase::same(ip.map_or_else(String::new, |ip| ip.to_string()));
    let name = |text: &str| Phrase::same(text);
    let summary = fill_words(
        SUMMARY,
        &[
            ("dev", &name(&link.name)),
            ("own", &tag(own)),
            ("there", &name(&device.name)),
            ("target", &name(&there.target().id)),
            ("ip", &ip),
            ("other", &tag(other)),
        ],
    );
    let end = |(space, link): Device<'a>| {
        fill_words(
            ENDS,
            &[("dev", &name(&link.name)), ("target", &name(&space.target().id)), ("id", &tag((space, link)))],
        )
    };
    let advice = match frame::id(device).filter(|_| frame::id(link).is_some()) {
        Some(id) => SAME.fill(&[("dev", &link.name), ("id", &id)]),
        None => NO_TAG.phrase(),
    };
    Story::new(summary)
        .evidence(end(own), "links", &["ip", "-d", "link", "show", "dev", &link.name])
        .evidence(end(other), "other end", &[])
        .fix(by_hand(advice))
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::{Reading, Snapshot};

    /// Client and server on VLAN devices (index 5) above their eth0, with these ids; none: on eth0 itself.
    pub fn ends(world: &mut World, ids: [Option<u16>; 2]) {
        for (index, id) in [(CLIENT, ids[0]), (SERVER, ids[1])] {
            let Some(id) = id else { continue };
            world.both(index, |s: &mut Snapshot| {
                let (Reading::Present(links), Reading::Present(addresses), Reading::Present(routes)) =
                    (&mut s.links, &mut s.addresses, &mut s.routes)
                else {
                    panic!("links")
                };
                let mut vlan = links.iter().find(|l| l.name == "eth0").unwrap().clone();
                (vlan.index, vlan.name, vlan.kind) = (5, format!("eth0.{id}"), Some("vlan".to_owned()));
                (vlan.link, vlan.link_netnsid, vlan.link_netns_inode) = (Some(2), None, None);
                vlan.details.insert("vlan_id".to_owned(), id.to_string());
                links.push(vlan);
                addresses.iter_mut().for_each(|a| a.link = 5);
                routes.iter_mut().flat_map(|r| &mut r.next_hops).for_each(|hop| hop.link = Some(5));
            });
        }
        let link = if ids[0].is_some() { 5 } else { 2 };
        world.both(CLIENT, |s| {
            let entry = neighbour("10.0.0.2", None, "failed");
            s.neighbours = Reading::Present(vec![whydrop_model::snapshot::Neighbour { link, ..entry }]);
        });
        world.probe("tcp://10.0.0.2:80", 20, 20);
    }

    #[test]
    fn two_ids_and_a_tag_at_one_end_only() {
        for (ids, subject) in
            [([Some(10), Some(20)], "eth0.20"), ([None, Some(20)], "eth0.20"), ([Some(10), None], "eth0")]
        {
            let mut world = World::pair();
            ends(&mut world, ids);
            assert_eq!(world.found(), [format!("vlan.id_mismatch @ netns:server: {subject}")]);
            assert_eq!(world.report().ledger.unexplained, 0);
        }
    }

    #[test]
    fn one_id_is_not_blamed() {
        let mut world = World::pair();
        ends(&mut world, [Some(10), Some(10)]);
        assert_eq!(world.found(), ["neigh.unresolved @ netns:client: 10.0.0.2 dev eth0.10"]);
    }
}
