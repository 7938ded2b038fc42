//! `route.no_return_route`: requests arrive, but there is no route back.

use super::{ADD, add_route, asked_back, ending_of, fit, is_answer, is_quiet, lost_routes, unanswered};
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::route::Lookup;
use crate::evidence::untranslated::{is_bare, may_be_translated};
use crate::evidence::way::{End, Ending};
use crate::fixes::manual;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use std::collections::BTreeSet;
use std::net::IpAddr;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.no_return_route",
    title: text!("Requests arrive, but there is no route back", "请求到达，但没有返回路由"),
    meaning: text!("The machine has no route to the address that asks it.", "本机没有到请求来源地址的路由。"),
    seen_by: text!(
        "The namespace that is asked, or a router on the way back, has no route to the address of who asks.",
        "被访问的命名空间或返回途中的路由器没有到访问者地址的路由。"
    ),
    why_lost: text!(
        "The answer cannot be sent. A strict reverse path filter discards the request already.",
        "应答发不出去。严格的反向路径过滤还会直接丢弃请求。"
    ),
    what_to_do: text!(
        "Add a route to the client's network, usually the default route.",
        "添加到客户端网络的路由，通常是默认路由。"
    ),
    when_wrong: text!("When the service must not be reached from there.", "该服务本来就不应被那里访问时。"),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Routes], judge };

const SUMMARY: Text = text!(
    "Requests from {address} arrive, but there is no route back to it.",
    "来自 {address} 的请求已到达，但没有返回它的路由。"
);
const SUMMARY_ANY: Text = text!(
    "Connection requests were discarded because there is no route back.",
    "由于没有返回路由，连接请求被丢弃。"
);
const LOOKED: Text = text!("no route of any table covers {address}", "任何路由表都没有覆盖 {address} 的路由");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let flows = space.case.flows.iter().filter_map(|flow| stranded(space, flow));
    let mine = |loss: &&Loss<'_>| {
        let flow = loss.flow.and_then(|flow| space.case.flows.get(flow));
        !flow.is_some_and(|flow| is_bare(flow, space.case.spaces()))
    };
    let answers = space.losses().filter(mine).filter(|loss| is_answer(loss));
    let answers = answers.filter_map(|loss| ending_of(space, loss));
    let refused = space.losses().filter(mine).filter_map(asked_back);
    let lost = answers.chain(refused).filter(|ending| matches!(ending.lookup(space), Lookup::Missing));
    let met: BTreeSet<IpAddr> = flows.chain(lost.map(|ending| ending.to)).collect();
    let rise = space.mib("Ip.OutNoRoutes") + space.mib6("Ip6OutNoRoutes");
    if met.is_empty() && is_quiet(space) {
        return unanswered(space).map(|unanswered| by_counter(space, unanswered, rise)).into();
    }
    met.into_iter().map(|to| culprit(space, to, rise)).collect::<Vec<_>>().into()
}

/// The address to which the answer of a flow that suffers finds no route here.
fn stranded(space: Space<'_>, flow: &Flow<'_>) -> Option<IpAddr> {
    let backs = flow.ways().filter_map(|way| way.back.as_ref());
    let back = backs.filter(|back| flow.suffers() && back.end == End::NoRoute).last();
    // Nobody has a route back to an address that should have been translated. Behind a gap, or
    // where the translation is not known exactly, nobody knows what it is translated to, and whether it comes here at all: only what is lost tells.
    let hidden = || may_be_translated(flow, space.case.spaces());
    let back = back.filter(|_| !flow.forward.gap && !is_bare(flow, space.case.spaces()) && !hidden());
    back.and(flow.source).filter(|to| flow.ends_here(space, End::NoRoute) == Some(*to))
}

fn culprit(space: Space<'_>, to: IpAddr, rise: u64) -> Culprit<'_> {
    Culprit::new(space, &CAUSE, "route.output", Scope::Route, format!("route to {to}"))
        .direction(Direction::Transmit)
        .misses(lost_routes(space, to))
        .takes(move |loss| takes(space, to, loss))
        .harms(move |flow| sure(stranded(space, flow) == Some(to)))
        .tell(move |_| {
            let address = to.to_string();
            Story::new(SUMMARY.fill(&[("address", &to)]))
                .evidence(LOOKED.fill(&[("address", &to)]), "routes", &["ip", "route", "get", &address])
                .counter("Ip.OutNoRoutes", rise)
                .fix(add_route(space, to))
        })
}

/// The answer; or the request of which TCP knows already that it cannot be answered.
fn takes<'a>(space: Space<'a>, to: IpAddr, loss: &Loss<'a>) -> Fit {
    let asks = loss.event.and_then(|event| event.source).is_some_and(|source| source.ip() == to);
    if asks && loss.is_in(space) && loss.is_at_stage("tcp.receive") {
        return if loss.place.is_some_and(|place| place.cause.is_none()) { Fit::Maybe } else { Fit::No };
    }
    let missing = |ending: &Ending, said: Lookup<'_>| ending.to == to && matches!(said, Lookup::Missing);
    if is_answer(loss) { fit(space, loss, missing) } else { Fit::No }
}

fn by_counter(space: Space<'_>, unanswered: u64, rise: u64) -> Culprit<'_> {
    Culprit::new(space, &CAUSE, "route.output", Scope::Route, "routes".to_owned())
        .direction(Direction::Transmit)
        .meter(unanswered, Count::Exact, "Ip.OutNoRoutes")
        .takes(move |loss| {
            if is_answer(loss) {
                fit(space, loss, |_, said| matches!(said, Lookup::Missing))
            } else {
                Fit::No
            }
        })
        .tell(move |_| Story::new(SUMMARY_ANY.phrase()).counter("Ip.OutNoRoutes", rise).fix(manual(ADD)))
}
