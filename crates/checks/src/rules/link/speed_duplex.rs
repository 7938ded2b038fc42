//! `link.speed_duplex`: a wire runs slower, or with less duplex, than both of its ends can.

use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::loss::{Kind, Loss};
use crate::rule::{Judgement, Rule};
use whydrop_model::snapshot::{Link, Wire};
use whydrop_model::{Cause, NoteStatus, Phrase, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "link.speed_duplex",
    title: text!("A wire runs below what both ends can", "链路的速率或双工低于两端的能力"),
    meaning: text!(
        "Speed or duplex of a card is lower than what this end and, as far as it tells, the other end can do.",
        "网卡当前的速率或双工低于本端以及（就其通告而言）对端的能力。"
    ),
    seen_by: text!(
        "The settings of the card (ethtool DEV): half duplex where full is possible, or a speed below what both ends offer; and collisions, late collisions or a queue that overflows for it.",
        "网卡设置（ethtool DEV）：能全双工却为半双工，或速率低于两端通告的能力；同时出现冲突、迟冲突，或其队列因此溢出。"
    ),
    why_lost: text!(
        "With half duplex at one end only, both send at once and the frames collide; a wire at a tenth of its speed takes a tenth of the traffic, and the queue above drops the rest.",
        "只有一端为半双工时，双方同时发送造成帧冲突；速率只有十分之一的链路只能承载十分之一的流量，其余被上层队列丢弃。"
    ),
    what_to_do: text!(
        "Let both ends negotiate (ethtool -s DEV autoneg on), or set both to the same; change the cable: four of its eight wires suffice for 100 Mb/s only.",
        "让两端自动协商（ethtool -s DEV autoneg on），或把两端设为相同值；更换网线：只有四芯可用时最多 100 Mb/s。"
    ),
    when_wrong: text!(
        "Who saves energy may have chosen a lower speed on purpose. Some old hubs have no full duplex.",
        "为节能可能有意选择较低速率。某些老式集线器不支持全双工。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links, Source::DeviceSettings], judge };

/// Frames that collided too late or too often, and were given up (rtnl_link_stats64).
const GIVEN_UP: [&str; 2] = ["tx_window_errors", "tx_aborted_errors"];
/// Attempts that met another frame on the wire: with half duplex on both ends no loss by itself.
const COLLISIONS: &str = "collisions";

const SUMMARY: Text =
    text!("{dev} runs at {now}, and could do {able}.", "{dev} 当前为 {now}，而它可以达到 {able}。");
const LATENT: Text = text!(
    "runs at {now} and could do {able}; nothing was lost by that in the window",
    "当前为 {now}，可以达到 {able}；窗口内未因此丢包"
);
const SETTINGS: Text = text!(
    "now: {now}; this end can {able}, the other end offers {peer}; negotiation is {negotiation}",
    "当前：{now}；本端最高 {able}，对端通告 {peer}；自动协商 {negotiation}"
);
const ROSE: Text = text!("{field} rose by {n}", "{field} 计数 +{n}");
const NEGOTIATE: Text = text!(
    "let both ends negotiate: ethtool -s {dev} autoneg on here, and the same at the switch; to go back: ethtool -s {dev} speed {speed} duplex {duplex} autoneg off",
    "让两端自动协商：在本机执行 ethtool -s {dev} autoneg on，交换机端口同样设置；恢复：ethtool -s {dev} speed {speed} duplex {duplex} autoneg off"
);
const OTHER_END: Text = text!(
    "let the other end negotiate, too (the switch's port is fixed), or change the cable",
    "让对端也自动协商（交换机端口被固定），或更换网线"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut judgement = Judgement::default();
    let settings = space.after.device_settings.get();
    for link in space.links().filter(|link| link.up && link.lower_up) {
        let wire = settings.and_then(|all| all.get(&link.name)?.wire);
        let Some(slow) = wire.and_then(|wire| Slow::of(space, link, wire)) else { continue };
        if !slow.is_met() {
            judgement.note(space, &CAUSE, NoteStatus::Latent, &link.name, slow.say(LATENT));
        }
        judgement.culprits.push(slow.culprit());
    }
    judgement
}

/// A wire that could do more.
#[derive(Clone, Copy)]
struct Slow<'a> {
    space: Space<'a>,
    link: &'a Link,
    wire: Wire,
    /// What it does, in megabits per second.
    speed: u32,
    /// What it could do, in megabits per second.
    able: u32,
}

impl<'a> Slow<'a> {
    fn of(space: Space<'a>, link: &'a Link, wire: Wire) -> Option<Self> {
        let (speed, own) = (wire.speed?, wire.able?);
        let able = wire.peer_able.map_or(own, |peer| peer.min(own));
        let half = wire.full_duplex == Some(false);
        // Of an end that offers nothing nobody knows what it can, unless this one was told not to ask.
        let slow = speed < able && (wire.peer_able.is_some() || !wire.negotiated);
        (half || slow).then_some(Self { space, link, wire, speed, able: able.max(speed) })
    }

    fn rises(self) -> impl Iterator<Item = (&'static str, u64)> {
        let fields = GIVEN_UP.into_iter().chain([COLLISIONS]);
        fields.map(move |field| (field, self.space.link_rise(self.link, field))).filter(|(_, n)| *n > 0)
    }

    fn given_up(self) -> u64 {
        GIVEN_UP.iter().map(|field| self.space.link_rise(self.link, field)).sum()
    }

    fn is_met(self) -> bool {
        self.rises().next().is_some() || self.space.losses().any(|loss| self.takes(loss) != Fit::No)
    }

    fn culprit(self) -> Culprit<'a> {
        let Self { space, link, .. } = self;
        let culprit = Culprit::new(space, &CAUSE, "link", Scope::Link, link.name.clone())
            .on(link.index)
            .takes(move |loss| self.takes(loss))
            .harms(move |flow| match flow.suffers() && flow.passes(space, link.index) {
                true if self.rises().next().is_some() => Fit::Yes,
                true => Fit::Maybe,
                false => Fit::No,
            })
            .tell(move |_| self.story());
        match self.given_up() {
            0 => culprit,
            n => culprit.meter(n, Count::AtLeast, "interface counters"),
        }
    }

    /// What waits for the wire dies in the queue above it.
    fn takes(self, loss: &Loss<'_>) -> Fit {
        let queued = loss.kind == Kind::Drop && (loss.is_at_stage("qdisc") || loss.is_at_stage("tx"));
        if queued && loss.is_at(self.space, self.link.index) { Fit::Maybe } else { Fit::No }
    }

    fn say(self, text: Text) -> Phrase {
        let rate = |speed: Option<u32>, full: bool| match speed {
            Some(speed) => format!("{speed} Mb/s {}", if full { "full" } else { "half" }),
            None => "?".to_owned(),
        };
        let Wire { speed, full_duplex, negotiated, able, peer_able } = self.wire;
        let words: [(&str, &dyn std::fmt::Display); 5] = [
            ("dev", &self.link.name),
            ("now", &rate(speed, full_duplex != Some(false))),
            ("able", &rate(able.map(|own| own.min(self.able)), true)),
            ("peer", &rate(peer_able, true)),
            ("negotiation", &if negotiated { "on" } else { "off" }),
        ];
        text.fill(&words)
    }

    fn story(self) -> Story {
        let dev = &self.link.name;
        let story =
            Story::new(self.say(SUMMARY)).evidence(self.say(SETTINGS), "device_settings", &["ethtool", dev]);
        let show = ["ip", "-s", "-s", "link", "show", "dev", dev];
        let story = self.rises().fold(story, |story, (field, n)| {
            story.evidence(ROSE.fill(&[("field", &field), ("n", &n)]), "interface counters", &show)
        });
        let duplex = if self.wire.full_duplex == Some(false) { "half" } else { "full" };
        match self.wire.negotiated {
            true => story.fix(by_hand(OTHER_END.phrase())),
            false => {
                let words: [(&str, &dyn std::fmt::Display); 3] =
                    [("dev", dev), ("speed", &self.speed), ("duplex", &duplex)];
                story.fix(by_hand(NEGOTIATE.fill(&words)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use std::collections::BTreeMap;
    use whydrop_model::snapshot::{DeviceSettings, Wire};
    use whydrop_model::{Reading, Verdict};

    const GIGABIT: Wire = Wire {
        speed: Some(1000),
        full_duplex: Some(true),
        negotiated: true,
        able: Some(1000),
        peer_able: Some(1000),
    };

    /// The server's eth0 has this wire, and gives up so many frames.
    fn wired(wire: Wire, late: u64) -> World {
        let mut world = World::pair();
        let settings = DeviceSettings { wire: Some(wire), ..DeviceSettings::default() };
        world.both(SERVER, |s| {
            s.device_settings = Reading::Present(BTreeMap::from([("eth0".to_owned(), settings.clone())]));
        });
        for (n, which) in [(0, 0), (late, 1)] {
            let change = |s: &mut whydrop_model::Snapshot| {
                let Reading::Present(links) = &mut s.links else { return };
                for link in links.iter_mut().filter(|link| link.index == 2) {
                    link.stats.insert("tx_window_errors".into(), n);
                }
            };
            if which == 0 {
                world.both(SERVER, change)
            } else {
                world.after(SERVER, change)
            };
        }
        world
    }

    #[test]
    fn half_duplex_with_late_collisions_is_found_and_without_any_is_a_note() {
        let half = Wire { speed: Some(100), full_duplex: Some(false), negotiated: false, ..GIGABIT };
        let world = wired(half, 9);
        assert_eq!(world.found(), ["link.speed_duplex @ netns:server: eth0"]);
        assert_eq!(world.report().ledger.lost, 9);
        let quiet = wired(half, 0).report();
        assert_eq!((quiet.verdict, quiet.findings.len()), (Verdict::Clear, 0));
        assert!(quiet.notes.iter().any(|note| note.cause.as_deref() == Some("link.speed_duplex")));
    }

    #[test]
    fn a_speed_below_what_both_offer_harms_who_suffers_there() {
        let slow = Wire { speed: Some(10), ..GIGABIT };
        let mut world = wired(slow, 0);
        world.probe("tcp://10.0.0.2:80", 20, 9);
        assert_eq!(world.found(), ["link.speed_duplex @ netns:server: eth0"]);
    }

    #[test]
    fn what_the_other_end_cannot_or_does_not_tell_is_no_fault() {
        let other = [
            GIGABIT,
            Wire { speed: Some(100), peer_able: Some(100), ..GIGABIT },
            Wire { speed: Some(100), peer_able: None, ..GIGABIT },
            Wire { speed: None, full_duplex: None, ..GIGABIT },
        ];
        for wire in other {
            let mut world = wired(wire, 0);
            assert!(world.report().notes.iter().all(|n| n.cause.as_deref() != Some("link.speed_duplex")));
            world.probe("tcp://10.0.0.2:80", 20, 9);
            assert!(!world.found().iter().any(|found| found.starts_with("link.speed")), "{wire:?}");
        }
    }
}
