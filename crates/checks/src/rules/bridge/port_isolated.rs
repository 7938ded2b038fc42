//! `bridge.port_isolated`: two ports of a bridge are isolated from each other.

use super::{FORWARD, is_asked_through, is_refused, passage};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::segment;
use crate::evidence::way::Hop;
use crate::fixes::fix;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeSet;
use std::net::IpAddr;
use whydrop_model::action::Action;
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "bridge.port_isolated",
    title: text!("Isolated bridge ports cannot reach each other", "相互隔离的网桥端口无法通信"),
    meaning: text!(
        "A frame should pass from one isolated port of a bridge to another.",
        "帧需要从网桥的一个隔离端口到另一个隔离端口。"
    ),
    seen_by: text!(
        "The bridge dropped frames between two ports, and both are isolated.",
        "网桥丢弃了两个端口之间的帧，而两者都被隔离。"
    ),
    why_lost: text!(
        "Isolated ports exchange frames with the bridge and with ports that are not isolated, never with each other; nobody is told.",
        "隔离端口只与网桥本身和未隔离的端口交换帧，彼此之间从不交换，且不通知任何人。"
    ),
    what_to_do: text!(
        "Take the isolation off one of the two ports, if they are meant to reach each other.",
        "如果两者应当互通，取消其中一个端口的隔离。"
    ),
    when_wrong: text!(
        "When tenants of one bridge must not see each other, isolation does its work.",
        "当同一网桥的租户不得互通时，隔离正是其职责。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links], judge };

const SUMMARY: Text = text!(
    "Bridge ports {from} and {to} are isolated: nothing passes between them.",
    "网桥端口 {from} 与 {to} 相互隔离：两者之间没有任何帧通过。"
);
const STATE: Text = text!("both ports are isolated", "两个端口都被隔离");
const DO: Text = text!("take the isolation off one of the two ports", "取消其中一个端口的隔离");
const REACHES: Text =
    text!("the port then reaches all isolated ports of the bridge", "此后该端口可以与网桥的所有隔离端口互通");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let isolated = |link: &Link| link.details.get("isolated").is_some_and(|state| state == "on");
    // One alone is apart from nobody.
    if space.links().filter(|link| isolated(link)).count() < 2 {
        return Judgement::default();
    }
    let died = space.losses().filter(|loss| is_refused(space, loss)).filter_map(|loss| {
        let (ingress, egress) = passage(space, loss)?;
        Some((ingress.index, egress.index))
    });
    let needed = space.case.flows.iter().filter(|flow| flow.suffers()).flat_map(|flow| passes(space, flow));
    let asked = space.case.spaces().flat_map(|asker| {
        asker
            .asks_for()
            .into_iter()
            .filter_map(move |(link, ip)| between(space, asker, asker.after.link(link)?, ip))
    });
    // Neither reaches the other: one fault.
    let pairs: BTreeSet<(u32, u32)> =
        died.chain(needed).chain(asked).map(|(from, to)| (from.min(to), from.max(to))).collect();
    let links = |(from, to): (u32, u32)| Some((space.after.link(from)?, space.after.link(to)?));
    let both = pairs.into_iter().filter_map(links).filter(|(from, to)| isolated(from) && isolated(to));
    both.map(|(from, to)| culprit(space, from, to)).collect::<Vec<_>>().into()
}

/// The ports of a bridge of this namespace by which a question for a neighbour comes in and leaves.
fn between(space: Space<'_>, asker: Space<'_>, by: &Link, ip: IpAddr) -> Option<(u32, u32)> {
    space.case.owners(ip).next()?;
    let path = segment::towards(asker, by, ip);
    let mut ports = path.iter().filter(|(there, link)| there.same(space) && link.master.is_some());
    let (_, from) = ports.next()?;
    let (_, to) = ports.next_back().filter(|(_, to)| to.master == from.master)?;
    Some((from.index, to.index))
}

/// Pairs of ports between which a bridge of this namespace hands the flow's packets.
fn passes(space: Space<'_>, flow: &Flow<'_>) -> Vec<(u32, u32)> {
    let paths = std::iter::once(&flow.forward).chain(&flow.back);
    let hops = paths.flat_map(|path| &path.hops).filter(|hop| hop.bridged && hop.inode == space.inode());
    hops.filter_map(|hop: &Hop| Some((*hop.incoming.first()?, *hop.outgoing.first()?))).collect()
}

fn culprit<'a>(space: Space<'a>, from: &'a Link, to: &'a Link) -> Culprit<'a> {
    Culprit::new(space, &CAUSE, FORWARD, Scope::Link, format!("{} and {}", from.name, to.name))
        .direction(Direction::Forward)
        .on(from.index)
        .takes(move |loss| takes(space, from, to, loss))
        .harms(move |flow| {
            let between = |(a, b): &(u32, u32)| is_pair(from, to, *a, *b);
            sure(flow.suffers() && passes(space, flow).iter().any(between))
        })
        .tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 2] = [("from", &from.name), ("to", &to.name)];
            let action = Action::BridgePort {
                dev: to.name.clone(),
                setting: "isolated".into(),
                value: "off".into(),
                was: "on".into(),
            };
            let mut fix = fix(space, DO.phrase(), vec![action]);
            fix.caution = Some(REACHES.phrase());
            Story::new(SUMMARY.fill(&words))
                .evidence(STATE.phrase(), "links", &["bridge", "-d", "link", "show", "dev", &to.name])
                .fix(fix)
        })
}

fn is_pair(from: &Link, to: &Link, a: u32, b: u32) -> bool {
    (a, b) == (from.index, to.index) || (b, a) == (from.index, to.index)
}

fn takes(space: Space<'_>, from: &Link, to: &Link, loss: &Loss<'_>) -> Fit {
    if !is_refused(space, loss) {
        return sure(is_asked_through(space, from, to, loss) || is_asked_through(space, to, from, loss));
    }
    match passage(space, loss) {
        Some((ingress, egress)) => sure(is_pair(from, to, ingress.index, egress.index)),
        None if loss.is_at(space, from.index) || loss.is_at(space, to.index) => Fit::Maybe,
        None => Fit::No,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::{Reading, Verdict};

    fn isolated(ports: &[u32]) -> World {
        let mut world = World::bridged();
        world.both(HOST, |s| {
            let Reading::Present(links) = &mut s.links else { return };
            for port in links.iter_mut().filter(|link| ports.contains(&link.index)) {
                port.details.insert("isolated".into(), "on".into());
            }
        });
        world
    }

    #[test]
    fn a_cold_neighbour_entry_is_a_consequence() {
        let mut world = isolated(&[11, 12]);
        world.both(CLIENT, |s| {
            s.neighbours = Reading::Present(vec![neighbour("10.0.0.2", None, "failed")]);
        });
        world.probe("tcp://10.0.0.2:80", 20, 20);
        assert_eq!(world.found(), ["bridge.port_isolated @ netns:host: p0 and p1"]);
        assert_eq!(world.report().ledger.unexplained, 0);
    }

    #[test]
    fn without_a_flow_the_packets_that_died_waiting_for_the_neighbour_speak() {
        let mut world = isolated(&[11, 12]);
        world.both(CLIENT, |s| {
            s.neighbours = Reading::Present(vec![neighbour("10.0.0.2", None, "failed")]);
        });
        world.observation.namespaces[CLIENT].target.role = whydrop_model::Role::Target;
        world.drops(CLIENT, "NEIGH_FAILED", "neigh_invalidate", 3);
        assert_eq!(world.found(), ["bridge.port_isolated @ netns:host: p0 and p1"]);
        assert_eq!(world.report().ledger.unexplained, 0);
    }

    #[test]
    fn one_isolated_port_refuses_nothing() {
        let mut world = isolated(&[11]);
        world.probe("tcp://10.0.0.2:80", 20, 0);
        assert_eq!(world.report().verdict, Verdict::Clear);
    }
}
