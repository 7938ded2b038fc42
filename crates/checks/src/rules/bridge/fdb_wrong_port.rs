//! `bridge.fdb_wrong_port`: a forwarding entry points to the wrong port.

use super::{is_refused, leads_to};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::manual;
use crate::loss::Loss;
use crate::loss::missing::Frame;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_model::snapshot::{FdbEntry, Link};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "bridge.fdb_wrong_port",
    title: text!("A forwarding entry points to the wrong port", "转发表项指向错误的端口"),
    meaning: text!(
        "A bridge believes a MAC address behind one port, and the station is behind another.",
        "网桥认为某 MAC 地址在一个端口之后，而该主机在另一个端口之后。"
    ),
    seen_by: text!(
        "The forwarding table names another port than the one behind which the interface with this address is, which is in view.",
        "转发表给出的端口与拥有该地址的接口（在可见范围内）所在的端口不同。"
    ),
    why_lost: text!(
        "Frames for the station leave by the wrong port, where nobody takes them. A static entry stays wrong; a learned one is mended by the station's next frame.",
        "发给该主机的帧从错误的端口发出，在那里无人接收。静态表项会一直错误；学习到的表项会被该主机的下一个帧纠正。"
    ),
    what_to_do: text!(
        "Delete the entry: the bridge learns the right port with the next frame of the station.",
        "删除该表项：网桥会从该主机的下一个帧学到正确的端口。"
    ),
    when_wrong: text!(
        "When two stations share the address (a standby pair), the entry follows whoever sent last.",
        "两台主机共用该地址（主备）时，表项随最后发送者变化。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Fdb, Source::Links], judge };

const SUMMARY: Text = text!(
    "The bridge sends frames for {mac} to port {port}, but the station is behind {right}.",
    "网桥把发给 {mac} 的帧送往端口 {port}，而该主机在 {right} 之后。"
);
const ENTRY: Text =
    text!("the entry of {mac} is {state} and names {port}", "{mac} 的表项为 {state}，指向 {port}");
const STATION: Text =
    text!("{mac} is {dev} of {target}, behind {right}", "{mac} 是 {target} 的 {dev}，位于 {right} 之后");
const DO: Text = text!(
    "delete the entry: bridge fdb del {mac} dev {port} master{vlan}",
    "删除该表项：bridge fdb del {mac} dev {port} master{vlan}"
);

/// A station in view: the port behind which it is, and its interface.
type Station<'a> = (&'a Link, (Space<'a>, &'a Link));

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut stations: BTreeMap<String, Vec<Station<'_>>> = BTreeMap::new();
    for port in space.links().filter(|link| link.master.is_some()) {
        for (there, device) in behind(space, port) {
            if let Some(mac) = &device.mac {
                stations.entry(mac.to_ascii_lowercase()).or_default().push((port, (there, device)));
            }
        }
    }
    let wrong = space.after.fdb.kept().filter_map(|entry| {
        let found = stations.get(&entry.mac.to_ascii_lowercase())?;
        // Two stations with one address: the entry can be right for one of them only.
        let [(right, station)] = found.as_slice() else { return None };
        let named = space.after.link(entry.link).filter(|port| port.master == right.master)?;
        let here = entry.master.is_some() && entry.master == right.master;
        (here && named.index != right.index).then_some(Wrong {
            space,
            entry,
            named,
            right,
            station: *station,
        })
    });
    wrong.map(Wrong::culprit).collect::<Vec<_>>().into()
}

/// Interfaces that frames meet which leave by this port: the other end of its cable, and what is stacked on it.
fn behind<'a>(space: Space<'a>, port: &'a Link) -> Vec<(Space<'a>, &'a Link)> {
    let Some((there, device)) = space.peer(port) else { return vec![] };
    let stacked = there.links().filter(|l| {
        l.link == Some(device.index)
            && l.link_netnsid.is_none()
            && l.mac != device.mac
            && l.kind != device.kind
    });
    std::iter::once(device).chain(stacked).map(|device| (there, device)).collect()
}

#[derive(Clone, Copy)]
struct Wrong<'a> {
    space: Space<'a>,
    entry: &'a FdbEntry,
    /// The port that the entry names.
    named: &'a Link,
    /// The port behind which the station is.
    right: &'a Link,
    station: (Space<'a>, &'a Link),
}

impl<'a> Wrong<'a> {
    fn culprit(self) -> Culprit<'a> {
        let Self { space, entry, named, right, .. } = self;
        Culprit::new(
            space,
            &CAUSE,
            "bridge.forward",
            Scope::Rule,
            format!("{} dev {}", entry.mac, named.name),
        )
        .on(named.index)
        .takes(move |loss| self.takes(loss))
        .harms(move |flow| match flow.suffers() && flow.passes(space, right.index) {
            true => Fit::Yes,
            false => Fit::No,
        })
        .tell(move |_| self.story())
    }

    /// Frames for the station that a port does not send back to where they came from, and answers to its questions.
    fn takes(self, loss: &Loss<'a>) -> Fit {
        let meant = |ip: IpAddr| leads_to(self.space, self.right, ip);
        let asker = match &loss.frame {
            Some(Frame::Arp { asker, .. }) => *asker,
            Some(Frame::Ip(Some(packet))) => packet.source,
            _ => None,
        };
        let unanswered = loss.is_imagined_at(self.space, self.right.index) && asker.is_some_and(meant);
        let back = is_refused(self.space, loss) && loss.is_at(self.space, self.named.index);
        let to = loss.event.and_then(|event| event.destination).map(|to| to.ip());
        match unanswered || (back && to.is_some_and(meant)) {
            true => Fit::Yes,
            false => Fit::No,
        }
    }

    fn story(self) -> Story {
        let vlan = self.entry.vlan.map_or_else(String::new, |vlan| format!(" vlan {vlan}"));
        let (there, device) = self.station;
        let words: [(&str, &dyn std::fmt::Display); 7] = [
            ("mac", &self.entry.mac),
            ("port", &self.named.name),
            ("right", &self.right.name),
            ("state", &self.entry.state),
            ("dev", &device.name),
            ("target", &there.target().id),
            ("vlan", &vlan),
        ];
        let mut fix = manual(DO);
        fix.title = DO.fill(&words);
        Story::new(SUMMARY.fill(&words))
            .evidence(ENTRY.fill(&words), "fdb", &["bridge", "fdb", "show", "dev", &self.named.name])
            .evidence(STATION.fill(&words), "links", &[])
            .fix(fix)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::Reading;
    use whydrop_model::reading::Bounded;

    /// The bridge's entry for the server's address names this port; a probe to the server is lost.
    fn entry(port: u32) -> World {
        let mut world = World::bridged();
        let mac = veth(2, "eth0", 4002).mac.unwrap();
        world.both(HOST, |s| {
            s.fdb = Reading::Present(Bounded { items: vec![fdb_entry(port, &mac)], more: false });
        });
        world.probe("tcp://10.0.0.2:80", 20, 20);
        world
    }

    #[test]
    fn a_static_entry_that_names_another_port() {
        let world = entry(13);
        let found = world.found();
        assert_eq!(found, ["bridge.fdb_wrong_port @ netns:host: 02:00:00:00:a2:02 dev p2"]);
        assert_eq!(world.report().ledger.unexplained, 0);
    }

    #[test]
    fn an_entry_that_names_the_port_of_the_station_is_right() {
        assert_eq!(entry(12).found(), Vec::<String>::new());
    }

    #[test]
    fn of_two_stations_with_one_address_the_entry_follows_one() {
        let mut world = entry(13);
        let mac = veth(2, "eth0", 4002).mac;
        world.both(OTHER, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            links.iter_mut().filter(|link| link.index == 2).for_each(|link| link.mac = mac.clone());
        });
        assert_eq!(world.found(), ["l2.duplicate_mac @ netns:server: 02:00:00:00:a2:02"]);
    }
}
