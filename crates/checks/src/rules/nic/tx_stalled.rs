//! `nic.tx_stalled`: a network card does not get rid of what it should send.

use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::by_hand;
use crate::loss::{Kind, Loss};
use crate::rule::{Judgement, Rule};
use whydrop_model::delta::Change;
use whydrop_model::snapshot::{Counters, Link};
use whydrop_model::{Cause, Direction, Phrase, Snapshot, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "nic.tx_stalled",
    title: text!("A network card does not send what it is given", "网卡没有把交给它的包发出去"),
    meaning: text!(
        "A transmit queue of the card stands still, or its driver throws away what the card does not take.",
        "网卡的某个发送队列停住不动，或驱动丢弃了网卡不接收的包。"
    ),
    seen_by: text!(
        "A driver's count of transmit time-outs, or tx_dropped, tx_aborted_errors, tx_fifo_errors or tx_carrier_errors of a card rose in the window; or packets waited in its queue at both ends of the window and none left.",
        "驱动的发送超时计数，或网卡的 tx_dropped、tx_aborted_errors、tx_fifo_errors、tx_carrier_errors 在窗口内增加；或窗口首尾其队列中都有包在等待而没有任何包发出。"
    ),
    why_lost: text!(
        "The watchdog resets the card after some seconds and empties its ring; until then nothing leaves and the queue above overflows.",
        "看门狗在数秒后重置网卡并清空发送环；在此之前没有包能发出，上层队列溢出。"
    ),
    what_to_do: text!(
        "Look into the kernel's log (NETDEV WATCHDOG), update driver and firmware, enlarge the ring (ethtool -G), switch flow control off where the other end pauses for ever (ethtool -A).",
        "查看内核日志（NETDEV WATCHDOG），升级驱动和固件，增大发送环（ethtool -G）；若对端一直发送暂停帧则关闭流控（ethtool -A）。"
    ),
    when_wrong: text!(
        "A card that is switched off and on loses what was in its ring, once. Some drivers count packets that a program offered while the link was down.",
        "网卡被关闭再打开时会丢失一次环中的包。有些驱动也把链路断开期间程序提交的包计入。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links, Source::Qdiscs], judge };

/// Counters of frames that were given up; each is its own (rtnl_link_stats64), save that drivers add the others to
/// tx_errors, which is therefore not taken.
const LOST: [&str; 4] = ["tx_dropped", "tx_aborted_errors", "tx_fifo_errors", "tx_carrier_errors"];
/// What every driver's name for the time-outs of its queues contains (`tx_timeout_count`, `tx0_tx_timeouts`).
const TIMEOUT: &str = "tx_timeout";

const SUMMARY: Text = text!("{dev} does not send what it is given.", "{dev} 没有把交给它的包发出去。");
const ROSE: Text = text!("{field} rose by {n}", "{field} 计数 +{n}");
const TIMED_OUT: Text = text!(
    "the driver's {field} rose by {n}: the watchdog found a transmit queue that stood still",
    "驱动的 {field} 计数 +{n}：看门狗发现发送队列停住不动"
);
const STANDS: Text = text!(
    "{n} {n|packet waits|packets wait} in its queue as before the window, and it sent none in between",
    "其队列中有 {n} 个包在等待，与窗口开始时一样，期间没有发出任何包"
);
const DO: Text = text!(
    "look for NETDEV WATCHDOG in the kernel's log (dmesg); show ring and flow control (ethtool -g {dev}, ethtool -a {dev}); restart the card: ip link set {dev} down, ip link set {dev} up",
    "在内核日志（dmesg）中查找 NETDEV WATCHDOG；查看发送环和流控（ethtool -g {dev}、ethtool -a {dev}）；重启网卡：ip link set {dev} down，再 ip link set {dev} up"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    // Devices that are made of software count other things there, such as what the other end of a veth does not take.
    let cards = space.links().filter(|link| link.kind.is_none() && !link.loopback && link.lower_up);
    cards.filter_map(|link| Stalled::of(space, link)).map(Stalled::culprit).collect::<Vec<_>>().into()
}

/// A card that stalls.
#[derive(Clone)]
struct Stalled<'a> {
    space: Space<'a>,
    link: &'a Link,
    /// Counters of frames that were given up, with their rises.
    lost: Vec<(&'static str, u64)>,
    /// Counters of time-outs, with their rises.
    timeouts: Vec<(&'a str, u64)>,
    /// Packets that wait while nothing moves.
    waiting: u32,
}

impl<'a> Stalled<'a> {
    fn of(space: Space<'a>, link: &'a Link) -> Option<Self> {
        let before = space.before.link(link.index).filter(|before| before.name == link.name)?;
        // Who comes back from a restart has lost his ring.
        if !before.lower_up || before.carrier_changes != link.carrier_changes {
            return None;
        }
        let lost: Vec<_> = LOST
            .map(|field| (field, space.link_rise(link, field)))
            .into_iter()
            .filter(|(_, n)| *n > 0)
            .collect();
        let timeouts = timeouts(space, link);
        let waiting = waiting(space, link);
        let any = !lost.is_empty() || !timeouts.is_empty() || waiting > 0;
        any.then_some(Self { space, link, lost, timeouts, waiting })
    }

    fn culprit(self) -> Culprit<'a> {
        let Self { space, link, .. } = self;
        let (given_up, stands) = (self.lost.iter().map(|(_, n)| n).sum::<u64>(), self.stands());
        let culprit = Culprit::new(space, &CAUSE, "tx.driver_ring", Scope::Link, link.name.clone())
            .direction(Direction::Transmit)
            .on(link.index)
            .takes(move |loss| takes(space, link, stands, loss))
            .harms(move |flow| match flow.suffers() && flow.leaves_by(space, link.index) {
                true if stands => Fit::Yes,
                true => Fit::Maybe,
                false => Fit::No,
            })
            .tell(move |_| self.story());
        match given_up {
            0 => culprit,
            n => culprit.meter(n, if stands { Count::AtLeast } else { Count::Exact }, "interface counters"),
        }
    }

    /// True if nothing leaves, for seconds at a time.
    fn stands(&self) -> bool {
        self.waiting > 0 || !self.timeouts.is_empty()
    }

    fn story(&self) -> Story {
        let dev = &self.link.name;
        let show = ["ip", "-s", "-s", "link", "show", "dev", dev];
        let statistics = ["ethtool", "-S", dev];
        let say = |text: Text, field: &str, n: u64| -> Phrase { text.fill(&[("field", &field), ("n", &n)]) };
        let mut story = Story::new(SUMMARY.fill(&[("dev", dev)]));
        for (field, n) in &self.timeouts {
            story = story.evidence(say(TIMED_OUT, field, *n), "ethtool", &statistics);
        }
        if self.waiting > 0 {
            let claim = STANDS.fill(&[("n", &self.waiting)]);
            story = story.evidence(claim, "qdiscs", &["tc", "-s", "qdisc", "show", "dev", dev]);
        }
        for (field, n) in &self.lost {
            story = story.evidence(say(ROSE, field, *n), "interface counters", &show);
        }
        story.fix(by_hand(DO.fill(&[("dev", dev)])))
    }
}

/// What the queue above could not hold dies there because nothing leaves.
fn takes(space: Space<'_>, link: &Link, stands: bool, loss: &Loss<'_>) -> Fit {
    if loss.is_imagined_at(space, link.index) {
        return if stands { Fit::Yes } else { Fit::Maybe };
    }
    let queued = loss.is_at_stage("qdisc") || loss.is_at_stage("tx");
    match loss.kind == Kind::Drop && queued && loss.is_at(space, link.index) {
        true if stands => Fit::Yes,
        true => Fit::Maybe,
        false => Fit::No,
    }
}

/// The driver's counters of time-outs that rose.
fn timeouts<'a>(space: Space<'a>, link: &Link) -> Vec<(&'a str, u64)> {
    let of = |snapshot: &'a Snapshot| -> Option<&'a Counters> { snapshot.ethtool.get()?.get(&link.name) };
    let (Some(before), Some(after)) = (of(space.before), of(space.after)) else { return vec![] };
    let named = after.iter().filter(|(name, _)| name.to_ascii_lowercase().contains(TIMEOUT));
    let rises =
        named.map(|(name, n)| (name.as_str(), Change::of(before.get(name).copied(), Some(*n)).risen()));
    rises.filter(|(_, n)| *n > 0).collect()
}

/// Packets that wait in a queue of the card at both ends of the window while neither it nor the card sent any.
fn waiting(space: Space<'_>, link: &Link) -> u32 {
    if space.link_rise(link, "tx_packets") > 0 {
        return 0;
    }
    let stands = space.after.qdiscs.iter().filter(|now| {
        let same = |was: &&whydrop_model::snapshot::Qdisc| {
            (was.link, was.handle, was.parent, &was.kind) == (now.link, now.handle, now.parent, &now.kind)
        };
        let before = space.before.qdiscs.iter().find(same);
        let still = before.is_some_and(|was| was.stats.qlen > 0 && was.stats.packets == now.stats.packets);
        now.link == link.index && still
    });
    stands.map(|qdisc| qdisc.stats.qlen).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use std::collections::BTreeMap;
    use whydrop_model::snapshot::{Counters, Link, QdiscOptions};
    use whydrop_model::{Reading, Verdict};

    /// The server's eth0 is a card.
    fn card() -> World {
        let mut world = World::pair();
        world.both(SERVER, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            for link in links.iter_mut().filter(|link| link.index == 2) {
                *link = Link {
                    kind: None,
                    link: None,
                    link_netnsid: None,
                    link_netns_inode: None,
                    ..link.clone()
                };
                link.stats.insert("tx_dropped".into(), 5);
            }
        });
        world
    }

    fn stat(world: &mut World, field: &'static str, n: u64) {
        world.after(SERVER, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            links.iter_mut().for_each(|link| {
                link.stats.insert(field.to_owned(), n);
            });
        });
    }

    /// Packets that wait in the queue of eth0, and those that it sent before the window.
    fn queued(world: &mut World, waiting: u32) {
        let mut queue = qdisc("fq_codel", 0, QdiscOptions::Other);
        (queue.stats.qlen, queue.stats.packets) = (waiting, 100);
        world.both(SERVER, |s| s.qdiscs = Reading::Present(vec![queue.clone()]));
    }

    fn statistics(world: &mut World, name: &str, rise: u64) {
        let of = |n: u64| BTreeMap::from([("eth0".to_owned(), Counters::from([(name.to_owned(), n)]))]);
        world.both(SERVER, |s| s.ethtool = Reading::Present(of(1)));
        world.after(SERVER, |s| s.ethtool = Reading::Present(of(1 + rise)));
    }

    #[test]
    fn frames_that_the_driver_gave_up_are_counted() {
        let mut world = card();
        stat(&mut world, "tx_dropped", 12);
        assert_eq!(world.found(), ["nic.tx_stalled @ netns:server: eth0"]);
        assert_eq!(world.report().ledger.lost, 7);
    }

    #[test]
    fn a_queue_that_stands_still_is_named_where_somebody_waits() {
        let mut world = card();
        queued(&mut world, 9);
        assert_eq!(world.report().verdict, Verdict::Clear, "nobody waits");
        world.probe("tcp://10.0.0.2:80", 20, 20);
        assert_eq!(world.found(), ["nic.tx_stalled @ netns:server: eth0"]);
        stat(&mut world, "tx_packets", 40);
        assert_ne!(world.found(), ["nic.tx_stalled @ netns:server: eth0"], "it moves");
    }

    #[test]
    fn a_watchdog_that_struck_is_a_witness_by_whatever_name() {
        for name in ["tx_timeout_count", "tx0_tx_timeouts"] {
            let mut world = card();
            statistics(&mut world, name, 1);
            world.probe("tcp://10.0.0.2:80", 20, 20);
            assert_eq!(world.found(), ["nic.tx_stalled @ netns:server: eth0"], "{name}");
        }
    }

    #[test]
    fn a_veth_counts_something_else_there_and_a_restart_is_none() {
        let mut world = World::pair();
        stat(&mut world, "tx_dropped", 12);
        assert_eq!(world.report().verdict, Verdict::Clear);
        let mut world = card();
        stat(&mut world, "tx_dropped", 12);
        world.after(SERVER, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            links.iter_mut().for_each(|link| link.carrier_changes = Some(4));
        });
        assert_eq!(world.report().verdict, Verdict::Clear);
    }
}
