//! `link.flapping`: the carrier changes again and again.

use super::{Flapping, JOINING, flapping};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::route::contains;
use crate::evidence::way::End;
use crate::fixes::manual;
use crate::loss::missing::{self, Frame};
use crate::rule::{Judgement, Rule};
use std::net::IpAddr;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "link.flapping",
    title: text!("The carrier of an interface comes and goes", "接口的载波反复变化"),
    meaning: text!(
        "The interface loses its carrier or is switched off, comes back, and goes again, several times in a few seconds.",
        "接口在几秒之内多次失去载波（或被关闭）又恢复。"
    ),
    seen_by: text!(
        "The kernel announced that the interface went down at least twice in the window, or its count of carrier changes rose as often.",
        "内核在窗口内至少两次通告该接口变为 down，或其载波变化计数相应增加。"
    ),
    why_lost: text!(
        "Each time the queue of the interface is emptied, its routes and neighbours go, and whoever is on the way waits for a time-out.",
        "每次变化都会清空接口队列，路由和邻居项消失，正在传输的连接只能等待超时。"
    ),
    what_to_do: text!(
        "Change cable, transceiver or port; compare the negotiation of both ends; look for a program that switches the interface (a network manager, a watchdog, a script).",
        "更换线缆、光模块或端口；比较两端的协商；查找反复开关该接口的程序（网络管理程序、看门狗、脚本）。"
    ),
    when_wrong: text!(
        "An interface that is being set up changes a few times and then stays.",
        "正在配置的接口会变化几次，之后保持稳定。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links, Source::LinkEvents], judge };

const SUMMARY: Text =
    text!("The interface {dev} goes down and comes back again and again.", "接口 {dev} 反复断开又恢复。");
const WENT: Text = text!("{dev} went down {n} times in the window", "{dev} 在窗口内断开了 {n} 次");
const SWITCHED: Text =
    text!("{dev} was switched off {n} times in the window", "{dev} 在窗口内被关闭了 {n} 次");
const ROSE: Text = text!("its carrier changed {n} times in the window", "其载波在窗口内变化了 {n} 次");
const DO: Text = text!(
    "find out why: cable, transceiver and switch port, the negotiation of both ends, or a program that switches the interface",
    "查明原因：线缆、光模块、交换机端口、两端协商，或反复开关该接口的程序"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let all = space
        .links()
        .filter(|link| !link.loopback)
        .filter_map(|link| Some(Flaps { space, link, seen: flapping(space, link)? }));
    all.map(Flaps::culprit).collect::<Vec<_>>().into()
}

#[derive(Clone, Copy)]
struct Flaps<'a> {
    space: Space<'a>,
    link: &'a Link,
    seen: Flapping,
}

impl<'a> Flaps<'a> {
    fn culprit(self) -> Culprit<'a> {
        let Self { space, link, .. } = self;
        let joins = link.kind.as_deref().is_none_or(|kind| JOINING.contains(&kind));
        // Every interface gives itself a link-local address.
        let own = |ip: IpAddr| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let addressed = space.after.addresses.iter().any(|a| a.link == link.index && own(a.ip));
        let culprit = Culprit::new(space, &CAUSE, "link", Scope::Link, link.name.clone())
            .on(link.index)
            .by_itself(joins && addressed)
            .takes(move |loss| {
                // Its routes go and come with it.
                let routed = loss.flow.is_some() && loss.is_in(space) && loss.is_at_stage("route");
                match loss.is_at(space, link.index) || missing::is_at_no_interface(loss, space) {
                    true => Fit::Yes,
                    false if routed => Fit::Maybe,
                    false => Fit::No,
                }
            })
            .harms(move |flow| sure(flow.passes(space, link.index) || strands(space, link, flow)))
            .tell(move |_| self.story());
        // The end that was switched off takes the carrier of the other.
        match self.seen.switched {
            0 => culprit.misses(
                space
                    .peer(link)
                    .map(|(there, peer)| missing::at(there, peer.index, Frame::Ip(None)))
                    .into_iter()
                    .collect(),
            ),
            _ => culprit,
        }
    }

    fn story(self) -> Story {
        let Self { link, seen: Flapping { fell, switched, changes }, .. } = self;
        let show = ["ip", "monitor", "link", "dev", &link.name];
        let words = [("dev", &link.name as &dyn std::fmt::Display), ("n", &fell)];
        let mut story = Story::new(SUMMARY.fill(&[("dev", &link.name)]))
            .evidence(WENT.fill(&words), "link_events", &show)
            .fix(manual(DO));
        if switched > 0 {
            let claim = SWITCHED.fill(&[("dev", &link.name), ("n", &switched)]);
            story = story.evidence(claim, "link_events", &show);
        }
        if changes > 0 {
            let claim = ROSE.fill(&[("n", &changes)]);
            story = story.evidence(claim, "links", &["ip", "-d", "link", "show", "dev", &link.name]);
        }
        story
    }
}

/// True if the flow would pass the interface if its routes had not gone with it.
fn strands(space: Space<'_>, link: &Link, flow: &Flow<'_>) -> bool {
    let mut networks = space.after.addresses.iter().filter(|a| a.link == link.index);
    let only = !space.links().any(|l| l.index != link.index && !l.loopback && l.up && l.lower_up);
    flow.ends_here(space, End::NoRoute)
        .is_some_and(|to| only || networks.any(|a| contains(a.ip, a.prefix, to)))
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::snapshot::LinkEvent;
    use whydrop_model::{Bounded, Reading, Verdict};

    /// The carrier of the server's eth0 goes so many times.
    fn flaps(times: u32) -> World {
        let mut world = World::pair();
        let event = |lower_up: bool| LinkEvent {
            monotonic_ns: 0,
            link: 2,
            name: "eth0".into(),
            up: true,
            lower_up,
            operstate: "up".into(),
            carrier_changes: None,
            master: None,
            gone: false,
        };
        let items = (0..times).flat_map(|_| [event(false), event(true)]).collect();
        world.observation.namespaces[SERVER].link_events = Reading::Present(Bounded { items, more: false });
        world
    }

    #[test]
    fn a_link_that_comes_and_goes_is_a_fault_by_itself_and_one_accident_is_none() {
        assert_eq!(flaps(3).found(), ["link.flapping @ netns:server: eth0"]);
        assert_eq!(flaps(1).report().verdict, Verdict::Clear);
    }
}
