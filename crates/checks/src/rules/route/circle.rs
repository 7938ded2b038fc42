//! `route.loop`: packets circle until their TTL ends.

use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule, Suspect, manual};
use crate::way::End;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.loop",
    title: text!("Packets circle until their TTL ends", "数据包循环转发直到 TTL 耗尽"),
    meaning: text!("Two routers send a packet to each other.", "两台路由器互相转发同一个包。"),
    seen_by: text!(
        "The routes were followed from namespace to namespace for each lost probe, and came to one of them twice.",
        "对每个丢失的探测逐个命名空间地跟踪路由，结果两次来到同一个命名空间。"
    ),
    why_lost: text!(
        "Each hop takes one from the TTL; at zero the packet is discarded.",
        "每一跳 TTL 减一，减到零时包被丢弃。"
    ),
    what_to_do: text!(
        "Compare the routes of both routers for the destination.",
        "比较两台路由器到该目的地的路由。"
    ),
    when_wrong: text!(
        "Routes that depend on marks or protocols are not followed.",
        "依赖标记或协议的路由不在跟踪之列。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Routes], consequence_of: &[], judge };

const SUMMARY: Text = text!(
    "Packets to {address} circle: the routers send them to each other.",
    "发往 {address} 的包在循环：路由器互相转发。"
);
const LOOKED: Text = text!(
    "following the routes to {address} leads here a second time",
    "沿着到 {address} 的路由会第二次回到此处"
);
const DO: Text = text!(
    "compare the routes of the routers on the way for this destination",
    "比较途中各路由器到该目的地的路由"
);

fn judge(space: Space<'_>) -> Judgement {
    let mut suspects: Vec<Suspect> = vec![];
    for way in space.case.ways.iter().filter(|way| way.lost() > 0) {
        let Some(to) = way.ends_here(space, End::Circles) else { continue };
        let subject = format!("route to {to}");
        if let Some(known) = suspects.iter_mut().find(|s| s.finding.subject == subject) {
            known.touches.push(way.index);
            continue;
        }
        let address = to.to_string();
        let suspect = Suspect::new(space, &CAUSE, "ip.forward", subject, SUMMARY.fill(&[("address", &to)]))
            .direction(Direction::Forward)
            .evidence(LOOKED.fill(&[("address", &to)]), "routes", &["ip", "route", "get", &address])
            .touches(vec![way.index])
            .fix(manual(DO));
        suspects.push(suspect);
    }
    suspects.into()
}
