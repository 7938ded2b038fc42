//! `bridge.port_isolated`: two ports of a bridge are isolated from each other.

use super::{FORWARD, refused};
use crate::case::Space;
use crate::coverage::Source;
use crate::reconcile::BY_EVENTS;
use crate::rule::{Judgement, Rule, Suspect, manual};
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
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Links], consequence_of: &[], judge };

const SUMMARY: Text = text!(
    "Bridge ports {from} and {to} are isolated: nothing passes between them.",
    "网桥端口 {from} 与 {to} 相互隔离：两者之间没有任何帧通过。"
);
const STATE: Text = text!("both ports are isolated", "两个端口都被隔离");
const DO: Text = text!(
    "let them reach each other: bridge link set dev {to} isolated off",
    "让两者互通：bridge link set dev {to} isolated off"
);

fn judge(space: Space<'_>) -> Judgement {
    let isolated = |link: &whydrop_model::snapshot::Link| {
        link.details.get("isolated").is_some_and(|state| state == "on")
    };
    let both = refused(space).into_iter().filter(|r| isolated(r.ingress) && isolated(r.egress));
    let suspects = both.map(|refused| {
        let (from, to) = (refused.ingress.name.as_str(), refused.egress.name.as_str());
        let words: [(&str, &dyn std::fmt::Display); 2] = [("from", &from), ("to", &to)];
        let mut fix = manual(DO);
        fix.title = DO.fill(&words);
        let subject = format!("{from} and {to}");
        Suspect::new(space, &CAUSE, FORWARD, subject, SUMMARY.fill(&words))
            .direction(Direction::Forward)
            .packets(refused.drops, BY_EVENTS)
            .evidence(STATE.phrase(), "links", &["bridge", "-d", "link", "show", "dev", to])
            .drop_events(refused.drops, "NOT_SPECIFIED")
            .on(refused.ingress.index)
            .touches(space.probes_via(refused.ingress.index))
            .fix(fix)
    });
    suspects.collect::<Vec<_>>().into()
}
