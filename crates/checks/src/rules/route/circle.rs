//! `route.loop`: packets circle until their TTL ends.

use super::forwards;
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::{Fit, Packet};
use crate::evidence::route::{Lookup, lookup_from};
use crate::evidence::way::{End, Path};
use crate::fixes::manual;
use crate::loss::missing::{self, Frame};
use crate::loss::{Kind, Loss};
use crate::rule::{Judgement, Rule};
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_model::{Cause, Direction, DropEvent, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.loop",
    title: text!("Packets circle until their TTL ends", "数据包循环转发直到 TTL 耗尽"),
    meaning: text!("Two routers send a packet to each other.", "两台路由器互相转发同一个包。"),
    seen_by: text!(
        "The routes were followed from namespace to namespace, for each flow that suffers and each packet whose TTL ended here, and came to one of them twice, or lead a packet out by the interface by which it came in.",
        "对每个受影响的流和每个 TTL 在此耗尽的包逐个命名空间地跟踪路由，结果两次来到同一个命名空间，或者路由让包从到达的接口又出去。"
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
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Routes], judge };

const SUMMARY: Text = text!(
    "Packets to {address} circle: the routers send them to each other.",
    "发往 {address} 的包在循环：路由器互相转发。"
);
const LOOKED: Text = text!(
    "following the routes to {address} leads here a second time",
    "沿着到 {address} 的路由会第二次回到此处"
);
const BACK: Text = text!(
    "the route to {address} leads out by the interface by which the packets come in",
    "到 {address} 的路由从包到达的接口又出去"
);
const DO: Text = text!(
    "compare the routes of the routers on the way for this destination",
    "比较途中各路由器到该目的地的路由"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut met: BTreeMap<IpAddr, Text> = BTreeMap::new();
    for flow in space.case.flows.iter().filter(|flow| flow.suffers()) {
        // Who does not forward discards what comes back to him: nothing circles.
        let on = |to: &IpAddr| forwards(space, to.is_ipv6()) != Some(false);
        if let Some(to) = flow.ends_here(space, End::Circles).filter(on) {
            met.entry(to).or_insert(LOOKED);
        }
    }
    // Where a flow meets the circle it is told, once.
    let told = |to: IpAddr| {
        let of_flow = |flow: &&Flow<'_>| flow.suffers() && flow.circles_to(to);
        space.case.flows.iter().any(|flow| of_flow(&flow)) && !met.contains_key(&to)
    };
    let told: Vec<IpAddr> = ended_here(space).map(|(_, to)| to).filter(|to| told(*to)).collect();
    for (event, to) in ended_here(space).filter(|(_, to)| !told.contains(to)) {
        if Path::circles(space, to) {
            met.entry(to).or_insert(LOOKED);
        } else if returns(space, event, to) {
            met.entry(to).or_insert(BACK);
        }
    }
    met.into_iter().map(|(to, seen)| culprit(space, to, seen)).collect::<Vec<_>>().into()
}

fn culprit(space: Space<'_>, to: IpAddr, seen: Text) -> Culprit<'_> {
    Culprit::new(space, &CAUSE, "ip.forward", Scope::Route, format!("route to {to}"))
        .direction(Direction::Forward)
        .reaches()
        // Whoever turns them that way is the root.
        .misses(vec![missing::at_routing(space, Packet { destination: Some(to), ..Packet::default() })])
        .takes(move |loss| takes(space, to, loss))
        .harms(move |flow| sure(flow.suffers() && flow.ends_here(space, End::Circles) == Some(to)))
        .tell(move |_| {
            let address = to.to_string();
            Story::new(SUMMARY.fill(&[("address", &to)]))
                .evidence(seen.fill(&[("address", &to)]), "routes", &["ip", "route", "get", &address])
                .fix(manual(DO))
        })
}

/// Packets whose TTL ended here, with where they were going.
fn ended_here(space: Space<'_>) -> impl Iterator<Item = (&DropEvent, IpAddr)> {
    let ended = space.losses().filter(|loss| is_ended(loss)).filter_map(|loss| loss.event);
    ended.filter_map(|event| Some((event, event.destination?.ip())))
}

/// What circles comes by everywhere on the circle.
fn takes(space: Space<'_>, to: IpAddr, loss: &Loss<'_>) -> Fit {
    match &loss.frame {
        Some(Frame::Ip(Some(packet))) => sure(packet.destination == Some(to)),
        Some(_) => Fit::No,
        None if !is_ended(loss) => Fit::No,
        None => match loss.event.and_then(|event| event.destination) {
            Some(destination) => sure(destination.ip() == to),
            None if loss.is_in(space) => Fit::Maybe,
            None => Fit::No,
        },
    }
}

/// True if its TTL ended here, and no traceroute let it end.
fn is_ended(loss: &Loss<'_>) -> bool {
    loss.is_of(CAUSE.id) && (loss.kind == Kind::Drop || loss.flow.is_some())
}

/// True if the route leads a packet out by the interface by which it came in.
fn returns(space: Space<'_>, event: &DropEvent, to: IpAddr) -> bool {
    let out = match lookup_from(space, to, event.source.map(|from| from.ip()), event.link) {
        Lookup::Via(_, hop) => hop.link,
        _ => None,
    };
    out.is_some() && out == event.link
}
