//! `route.no_route`: no route to the destination.

use super::{ADD, add_route};
use crate::case::Space;
use crate::coverage::Source;
use crate::rule::{Judgement, Rule, Suspect, manual};
use crate::way::End;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.no_route",
    title: text!("No route to the destination", "没有到目的地的路由"),
    meaning: text!(
        "No route of the namespace covers the destination.",
        "命名空间中没有任何路由覆盖目的地址。"
    ),
    seen_by: text!(
        "The routing tables were searched as the kernel does it, for each probed address; and Ip.OutNoRoutes or IpExt.InNoRoutes rose.",
        "按内核的方式为每个被探测的地址查找路由表；并且 Ip.OutNoRoutes 或 IpExt.InNoRoutes 增加。"
    ),
    why_lost: text!(
        "The packet cannot be sent: connect() fails with ENETUNREACH, a router answers with an ICMP error.",
        "包发不出去：connect() 返回 ENETUNREACH，路由器则回应 ICMP 错误。"
    ),
    what_to_do: text!("Add the route, usually the default route.", "添加路由，通常是默认路由。"),
    when_wrong: text!(
        "Programs that try an address of a family which the machine does not use (IPv6) fail by design.",
        "程序尝试本机未使用的协议族（如 IPv6）的地址而失败，属正常现象。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule {
    cause: &CAUSE,
    needs: &[Source::Routes],
    consequence_of: &["link.admin_down", "link.no_carrier", "route.blackhole", "mtu.too_small"],
    judge,
};

const SUMMARY: Text = text!("There is no route to {address}.", "没有到 {address} 的路由。");
const SUMMARY_ANY: Text = text!(
    "Packets were not sent because there is no route to where they should go.",
    "由于没有到目的地的路由，部分包未能发出。"
);
const LOOKED: Text = text!("no route of any table covers {address}", "任何路由表都没有覆盖 {address} 的路由");

fn judge(space: Space<'_>) -> Judgement {
    let rise = space.mib("Ip.OutNoRoutes") + space.mib("IpExt.InNoRoutes");
    let mut suspects: Vec<Suspect> = vec![];
    for way in space.case.ways.iter().filter(|way| way.forward.end == End::NoRoute && way.lost() > 0) {
        let Some(ending) = way.ending(space, End::NoRoute) else { continue };
        let to = ending.to;
        let subject = format!("route to {to}");
        if let Some(known) = suspects.iter_mut().find(|s| s.finding.subject == subject) {
            known.touches.push(way.index);
            continue;
        }
        let address = to.to_string();
        let mut suspect =
            Suspect::new(space, &CAUSE, ending.stage(), subject, SUMMARY.fill(&[("address", &to)]))
                .evidence(LOOKED.fill(&[("address", &to)]), "routes", &["ip", "route", "get", &address])
                .direction(ending.direction())
                .touches(vec![way.index])
                .fix(add_route(space, to));
        if rise > 0 {
            suspect = suspect.counter("Ip.OutNoRoutes", rise);
        }
        suspects.push(suspect);
    }
    // Without a probe only the counter speaks; it names neither the address nor the program. A listener that drops
    // its SYNs at the same time has no route back, which is a cause of its own.
    if suspects.is_empty() && rise > 0 && space.case.ways.is_empty() && space.mib("TcpExt.ListenDrops") == 0 {
        let suspect = Suspect::new(space, &CAUSE, "route.output", "routes".to_owned(), SUMMARY_ANY.phrase())
            .packets(rise, "Ip.OutNoRoutes")
            .counter("Ip.OutNoRoutes", rise)
            .fix(manual(ADD));
        suspects.push(suspect);
    }
    suspects.into()
}
