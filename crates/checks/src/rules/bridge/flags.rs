//! What the flags of a bridge port hold back: it is locked, or is left out where the bridge floods.

use super::{FORWARD, is_refused, leads_to};
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::loss::missing::Frame;
use crate::loss::{Kind, Loss};
use std::net::IpAddr;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Direction, Text, text};

/// The kernel's name for a frame for which a bridge has no port.
const NO_PORT: &str = "NO_TX_TARGET";

const LOCKED: Text = text!(
    "Bridge port {port} is locked, and no forwarding entry there names {mac}: what that station sends is discarded.",
    "网桥端口 {port} 已锁定，且其转发表项中没有 {mac}：该主机发送的帧被丢弃。"
);
const UNKNOWN: Text = text!(
    "The bridge floods nothing to port {port}, and no forwarding entry names {mac}, which is behind it.",
    "网桥不向端口 {port} 泛洪，而转发表项中没有位于其后的 {mac}。"
);
const BROADCAST: Text = text!(
    "The bridge sends no broadcasts to port {port}: nobody behind it hears an ARP question.",
    "网桥不向端口 {port} 发送广播：其后的主机收不到 ARP 查询。"
);
const FLAG: Text = text!("{port} has {flag} {value}", "{port} 的 {flag} 为 {value}");
const SWITCH: Text = text!(
    "switch the flag: bridge link set dev {port} {word} {other}; or add the entry: bridge fdb add {mac} dev {port} master static",
    "切换该标志：bridge link set dev {port} {word} {other}；或添加表项：bridge fdb add {mac} dev {port} master static"
);
const SWITCH_ONLY: Text = text!(
    "switch the flag: bridge link set dev {port} {word} {other}",
    "切换该标志：bridge link set dev {port} {word} {other}"
);

/// A flag of a port that keeps frames back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flag {
    /// `BR_PORT_LOCKED`: only stations with an entry at the port may send (`br_handle_frame_finish()`).
    Locked,
    /// Without `BR_FLOOD`: frames for stations without an entry do not leave by it (`br_flood()`).
    Unicast,
    /// Without `BR_BCAST_FLOOD`: broadcasts do not leave by it.
    Broadcast,
}

impl Flag {
    const ALL: [Self; 3] = [Self::Locked, Self::Unicast, Self::Broadcast];

    /// Its key in the port's details, its word for `bridge link set`, and the value that keeps back.
    fn words(self) -> [&'static str; 3] {
        match self {
            Self::Locked => ["locked", "locked", "on"],
            Self::Unicast => ["unicast_flood", "flood", "off"],
            Self::Broadcast => ["bcast_flood", "bcast_flood", "off"],
        }
    }

    fn is_set(self, port: &Link) -> bool {
        let [key, _, value] = self.words();
        port.details.get(key).is_some_and(|set| set == value)
    }
}

/// A port with such a flag, and the station behind it that it concerns.
#[derive(Clone, Copy)]
struct Held<'a> {
    space: Space<'a>,
    port: &'a Link,
    flag: Flag,
    mac: &'a str,
}

/// The ports of this namespace whose flags keep frames back from a station in view, or its frames.
pub fn culprits<'a>(space: Space<'a>, cause: &'static Cause) -> Vec<Culprit<'a>> {
    let ports = space.links().filter(|port| port.master.is_some());
    let held = ports.flat_map(|port| Flag::ALL.map(|flag| (port, flag)));
    let held = held.filter(|(port, flag)| flag.is_set(port)).filter_map(|(port, flag)| {
        let mac = space.peer(port)?.1.mac.as_deref()?;
        Some(Held { space, port, flag, mac }).filter(|held| held.flag == Flag::Broadcast || !held.is_known())
    });
    held.map(|held| held.culprit(cause)).collect()
}

impl<'a> Held<'a> {
    /// True if the bridge has an entry for the station at this port.
    fn is_known(self) -> bool {
        let mut entries = self.space.after.fdb.kept().filter(|entry| entry.link == self.port.index);
        entries.any(|entry| entry.master.is_some() && entry.mac.eq_ignore_ascii_case(self.mac))
    }

    fn culprit(self, cause: &'static Cause) -> Culprit<'a> {
        let Self { space, port, flag, .. } = self;
        Culprit::new(space, cause, FORWARD, Scope::Link, port.name.clone())
            .direction(if flag == Flag::Locked { Direction::Receive } else { Direction::Forward })
            .on(port.index)
            .takes(move |loss| self.takes(loss))
            // Broadcasts are for questions, which the imagined ones stand for.
            .harms(move |flow| match flow.suffers() && flow.passes(space, port.index) {
                true if flag == Flag::Broadcast => Fit::No,
                true => Fit::Yes,
                false => Fit::No,
            })
            .tell(move |_| self.story())
    }

    fn takes(self, loss: &Loss<'a>) -> Fit {
        let Self { space, port, flag, .. } = self;
        let behind = |ip: IpAddr| leads_to(space, port, ip);
        if loss.kind == Kind::Imagined {
            let asker = match &loss.frame {
                Some(Frame::Arp { asker, .. }) => *asker,
                Some(Frame::Ip(Some(packet))) => packet.source,
                _ => None,
            };
            let asked = loss.asks_for();
            return sure(
                loss.is_imagined_at(space, port.index)
                    && match flag {
                        // Question or answer: one of the two comes in here.
                        Flag::Locked => asked.is_some(),
                        // The answer goes to one station only.
                        Flag::Unicast => asker.is_some_and(behind),
                        Flag::Broadcast => {
                            matches!(loss.frame, Some(Frame::Arp { .. })) && asked.is_some_and(behind)
                        }
                    },
            );
        }
        let to = loss.event.and_then(|event| event.destination).map(|to| to.ip());
        match flag {
            Flag::Locked => sure(is_refused(space, loss) && loss.is_at(space, port.index)),
            Flag::Unicast => {
                sure(loss.is_in(space) && loss.reason() == Some(NO_PORT) && to.is_some_and(behind))
            }
            Flag::Broadcast => Fit::No,
        }
    }

    fn story(self) -> Story {
        let Self { port, flag, mac, .. } = self;
        let [key, word, value] = flag.words();
        let other = if value == "on" { "off" } else { "on" };
        let words: [(&str, &dyn std::fmt::Display); 6] = [
            ("port", &port.name),
            ("mac", &mac),
            ("flag", &key),
            ("value", &value),
            ("word", &word),
            ("other", &other),
        ];
        let (summary, mend) = match flag {
            Flag::Locked => (LOCKED, SWITCH),
            Flag::Unicast => (UNKNOWN, SWITCH),
            Flag::Broadcast => (BROADCAST, SWITCH_ONLY),
        };
        Story::new(summary.fill(&words))
            .evidence(FLAG.fill(&words), "links", &["bridge", "-d", "link", "show", "dev", &port.name])
            .fix(by_hand(mend.fill(&words)))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::Reading;
    use whydrop_model::reading::Bounded;

    /// The client asks for the server, and nobody answers; the server's port has a flag.
    fn flagged(key: &str, value: &str, known: bool) -> World {
        let mut world = World::bridged();
        world.both(HOST, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            for port in links.iter_mut().filter(|link| link.index == 12) {
                port.details.insert(key.into(), value.into());
            }
            let mac = veth(2, "eth0", 4002).mac.unwrap();
            let items = if known { vec![fdb_entry(12, &mac)] } else { vec![] };
            s.fdb = Reading::Present(Bounded { items, more: false });
        });
        world.after(CLIENT, |s| {
            s.neighbours = Reading::Present(vec![neighbour("10.0.0.2", None, "failed")]);
        });
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        (talk.attempts, talk.failed) = (5, 5);
        talk.errors.insert("EHOSTUNREACH".into(), 5);
        world
    }

    const FOUND: &str = "bridge.port_blocking @ netns:host: p1";

    #[test]
    fn a_locked_port_takes_nothing_of_a_station_that_it_does_not_know() {
        assert_eq!(flagged("locked", "on", false).found(), [FOUND]);
        assert_eq!(
            flagged("locked", "on", true).found(),
            ["neigh.unresolved @ netns:client: 10.0.0.2 dev eth0"]
        );
        assert!(!flagged("locked", "off", false).found().contains(&FOUND.to_owned()));
    }

    #[test]
    fn a_port_without_broadcasts_hears_no_question() {
        assert_eq!(flagged("bcast_flood", "off", true).found(), [FOUND]);
    }

    #[test]
    fn a_station_without_entry_gets_nothing_where_the_bridge_does_not_flood() {
        // The question is a broadcast, which it gets; what follows is not.
        let mut unknown = flagged("unicast_flood", "off", false);
        unknown.after(CLIENT, |s| s.neighbours = Reading::Present(vec![]));
        assert_eq!(unknown.found(), [FOUND]);
        assert!(!flagged("unicast_flood", "off", true).found().contains(&FOUND.to_owned()));
    }
}
