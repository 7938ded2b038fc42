//! `route.daemon_down`: the program that keeps the routes is gone.

use super::routing::{Unheard, unheard};
use crate::coverage::Source;
use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::evidence::way::End;
use crate::fixes::by_hand;
use crate::loss::missing::Frame;
use crate::rule::{Judgement, Rule};
use whydrop_model::delta::Change;
use whydrop_model::snapshot::Snapshot;
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "route.daemon_down",
    title: text!("The program that keeps the routes is gone", "维护路由的程序已不在运行"),
    meaning: text!(
        "Routes of this namespace come from a routing program (BIRD, FRR ...). It does not run: its neighbours talk to nobody, and what it should have put into the tables is missing.",
        "该命名空间的路由来自路由程序（BIRD、FRR 等）。它没有运行：邻居的协议报文无人应答，本应由它写入的路由缺失。"
    ),
    seen_by: text!(
        "A neighbour on the same network opens BGP sessions that are refused, or sends OSPF, RIP, BFD or Babel that no socket takes, while packets find no route here.",
        "同一网络上的邻居发起的 BGP 会话被拒绝，或其 OSPF、RIP、BFD、Babel 报文没有套接字接收，同时有包在此处找不到路由。"
    ),
    why_lost: text!(
        "Without the program's routes packets find no way, or no way back.",
        "没有该程序写入的路由，包找不到去路或回路。"
    ),
    what_to_do: text!(
        "Start the routing program, and look into its log for why it ended.",
        "启动路由程序，并查看其日志了解退出原因。"
    ),
    when_wrong: text!(
        "A neighbour may try to reach a router that was never meant to speak with it; then the missing route is another matter.",
        "邻居可能在联系一台本就不打算与其建立会话的路由器；此时缺失的路由另有原因。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Routes], judge };

/// That both are true at once is strong, and no proof.
const CONFIDENCE: f64 = 0.8;

/// RTPROT_* of programs that keep routes (include/uapi/linux/rtnetlink.h): gated, mrt, zebra, bird, dnrouted, xorp,
/// mrouted, babel, openr, bgp, isis, ospf, rip, eigrp.
const KEEPERS: [u8; 14] = [8, 10, 11, 12, 13, 14, 17, 42, 99, 186, 187, 188, 189, 192];

const SUMMARY: Text = text!(
    "No program answers {protocol} here, and routes are missing: the program that keeps them does not run.",
    "此处没有程序应答 {protocol}，且路由缺失：维护路由的程序没有运行。"
);
const IN_VAIN: Text = text!(
    "{neighbour} speaks {protocol} ({port}) to this namespace, and no socket takes it",
    "{neighbour} 向该命名空间发送 {protocol}（{port}），没有套接字接收"
);
const FEWER: Text = text!(
    "{n} routes that a routing program had made went in the window",
    "窗口内有 {n} 条由路由程序写入的路由消失"
);
const LEFT: Text =
    text!("{n} routes that a routing program had made are still there", "仍有 {n} 条由路由程序写入的路由");
const DO: Text = text!(
    "start the routing program that speaks {protocol} with {neighbour} (systemctl start frr, systemctl start bird), and look into its log (journalctl -u frr)",
    "启动与 {neighbour} 使用 {protocol} 的路由程序（systemctl start frr、systemctl start bird），并查看其日志（journalctl -u frr）"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let heard = unheard(space);
    let Some(first) = heard.first().copied().filter(|_| lacks_routes(space)) else {
        return Judgement::default();
    };
    Some(culprit(space, first, heard.into_iter().collect())).into()
}

/// True if packets find no route here.
fn lacks_routes(space: Space<'_>) -> bool {
    let mut flows = space.case.flows.iter().filter(|flow| flow.suffers());
    flows.any(|flow| flow.ends_here(space, End::NoRoute).is_some())
        || space.losses().any(|loss| super::ending_of(space, loss).is_some())
}

fn culprit(space: Space<'_>, first: Unheard, heard: Vec<Unheard>) -> Culprit<'_> {
    let meant = heard.clone();
    Culprit::new(space, &CAUSE, "route", Scope::Netns, format!("{} with {}", first.name(), first.from))
        .at_most(CONFIDENCE)
        .takes(move |loss| match &loss.frame {
            Some(Frame::Read { protocol, port }) if loss.is_in(space) => {
                Fit::sure(meant.iter().any(|unheard| (unheard.protocol, unheard.port) == (*protocol, *port)))
            }
            _ => Fit::No,
        })
        .tell(move |_| story(space, &heard))
}

fn story(space: Space<'_>, heard: &[Unheard]) -> Story {
    let Some(first) = heard.first() else { return Story::new(CAUSE.title.phrase()) };
    let words: [(&str, &dyn std::fmt::Display); 2] =
        [("protocol", &first.name()), ("neighbour", &first.from)];
    let mut story = Story::new(SUMMARY.fill(&[("protocol", &first.name())]));
    for Unheard { protocol, port, from } in heard {
        let word = match (protocol, port) {
            (_, 0) => format!("IP protocol {protocol}"),
            (6, port) => format!("tcp {port}"),
            (_, port) => format!("udp {port}"),
        };
        let name = Unheard { protocol: *protocol, port: *port, from: *from }.name();
        let claim = IN_VAIN.fill(&[("neighbour", from), ("protocol", &name), ("port", &word)]);
        story = story.evidence(claim, "flows", &["ss", "-lntup"]);
    }
    let kept = |snapshot: &Snapshot| {
        let made = |route: &&whydrop_model::snapshot::Route| KEEPERS.contains(&route.protocol);
        snapshot.routes.is_present().then(|| snapshot.routes.iter().filter(made).count() as u64)
    };
    let (before, after) = (kept(space.before), kept(space.after));
    let show = ["ip", "route", "show", "table", "all"];
    let gone = Change::of(after, before).risen();
    if gone > 0 {
        story = story.evidence(FEWER.fill(&[("n", &gone)]), "routes", &show);
    } else if let Some(left) = after.filter(|left| *left > 0) {
        story = story.evidence(LEFT.fill(&[("n", &left)]), "routes", &show);
    }
    story.fix(by_hand(DO.fill(&words)))
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use whydrop_model::Reading;

    /// The server tries to reach 10.9.0.1, to which it has no route; a neighbour's BGP at its port is refused.
    fn world(port: u16, missing: bool) -> World {
        let mut world = World::pair();
        if missing {
            world.both(SERVER, |s| {
                s.routes = Reading::Present(vec![route("10.0.0.0/24", "unicast", None, Some(2))]);
            });
            let talk = world.talk(SERVER, "10.9.0.1:80");
            (talk.attempts, talk.failed) = (9, 9);
            talk.errors.insert("ENETUNREACH".into(), 9);
        }
        world.refuses(CLIENT, SERVER, &format!("10.0.0.2:{port}"), 9);
        world
    }

    const DOWN: &str = "route.daemon_down @ netns:server: BGP with 10.0.0.1";
    const NO_ROUTE: &str = "route.no_route @ netns:server: route to 10.9.0.1";

    #[test]
    fn a_neighbour_that_is_refused_where_routes_are_missing_tells_why_they_are() {
        assert_eq!(world(179, true).found(), [DOWN]);
    }

    #[test]
    fn a_refusal_of_something_else_has_nothing_to_do_with_routes() {
        let found = world(8179, true).found();
        assert!(found.contains(&NO_ROUTE.to_owned()), "{found:?}");
        assert!(!found.iter().any(|found| found.starts_with("route.daemon")), "{found:?}");
    }

    #[test]
    fn a_neighbour_in_vain_where_all_routes_are_there_is_a_closed_port() {
        let found = world(179, false).found();
        assert!(!found.iter().any(|found| found.starts_with("route.")), "{found:?}");
    }
}
