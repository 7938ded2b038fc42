//! `route.no_return_route`: requests arrive, but there is no route back.

use super::{ADD, add_route};
use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule, Suspect, manual};
use crate::way::End;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.no_return_route",
    title: text!("Requests arrive, but there is no route back", "请求到达，但没有返回路由"),
    meaning: text!("The machine has no route to the address that asks it.", "本机没有到请求来源地址的路由。"),
    seen_by: text!(
        "The probed namespace, or a router on the way back, has no route to the address where the probes start.",
        "被探测的命名空间或返回途中的路由器没有到探测起点地址的路由。"
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
pub const RULE: Rule = Rule {
    cause: &CAUSE,
    needs: &[Source::Routes],
    consequence_of: &["link.admin_down", "link.no_carrier", "route.blackhole"],
    judge,
};

const SUMMARY: Text = text!(
    "Requests from {address} arrive, but there is no route back to it.",
    "来自 {address} 的请求已到达，但没有返回它的路由。"
);
const SUMMARY_ANY: Text = text!(
    "Connection requests were discarded because there is no route back.",
    "由于没有返回路由，连接请求被丢弃。"
);
const LOOKED: Text = text!("no route of any table covers {address}", "任何路由表都没有覆盖 {address} 的路由");

fn judge(space: Space<'_>) -> Judgement {
    let rise = space.mib("Ip.OutNoRoutes");
    let mut suspects: Vec<Suspect> = vec![];
    for way in space.case.ways.iter().filter(|way| way.lost() > 0) {
        let back = way.back.as_ref().filter(|back| back.end == End::NoRoute);
        let Some(to) = back.and(way.source).filter(|_| way.ends_here(space, End::NoRoute) == way.source)
        else {
            continue;
        };
        let subject = format!("route to {to}");
        if let Some(known) = suspects.iter_mut().find(|s| s.finding.subject == subject) {
            known.touches.push(way.index);
            continue;
        }
        let address = to.to_string();
        let mut suspect =
            Suspect::new(space, &CAUSE, "route.output", subject, SUMMARY.fill(&[("address", &to)]))
                .direction(Direction::Transmit)
                .evidence(LOOKED.fill(&[("address", &to)]), "routes", &["ip", "route", "get", &address])
                .touches(vec![way.index])
                .fix(add_route(space, to));
        if rise > 0 {
            suspect = suspect.counter("Ip.OutNoRoutes", rise);
        }
        suspects.push(suspect);
    }
    // A SYN that cannot be answered for want of a route counts in both (tcp_conn_request, inet_csk_route_req).
    let unanswered = rise.min(space.mib("TcpExt.ListenDrops"));
    if suspects.is_empty() && unanswered > 0 && space.case.ways.is_empty() {
        let suspect = Suspect::new(space, &CAUSE, "route.output", "routes".to_owned(), SUMMARY_ANY.phrase())
            .direction(Direction::Transmit)
            .packets(unanswered, "Ip.OutNoRoutes")
            .counter("Ip.OutNoRoutes", rise)
            .fix(manual(ADD));
        suspects.push(suspect);
    }
    suspects.into()
}
