//! `tc.mirred_redirect`: a tc mirred action sends packets elsewhere.

use super::{filters, side};
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::fixes::by_hand;
use crate::rule::{Judgement, Rule, fill_words};
use whydrop_model::action::tc_handle;
use whydrop_model::delta::Change;
use whydrop_model::snapshot::{Link, QueueStats, TcAction, TcFilter};
use whydrop_model::{Cause, Direction, Phrase, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "tc.mirred_redirect",
    title: text!("A tc mirred action sends packets elsewhere", "tc mirred 动作把包送往别处"),
    meaning: text!(
        "A filter takes packets from the interface and hands them to another one, instead of letting them go on.",
        "过滤器把接口上的包取走并交给另一个接口，而不让它们继续前进。"
    ),
    seen_by: text!(
        "A filter with `mirred egress redirect` met packets in the window on an interface that a flow in trouble passes, and no drop of the flow's packets was seen.",
        "在受影响的流所经过的接口上，带有 `mirred egress redirect` 的过滤器在窗口内匹配到包，而没有看到该流的包被丢弃。"
    ),
    why_lost: text!(
        "To the interface the packets are stolen: neither a drop counter nor a drop event tells of them.",
        "对该接口而言包被取走：既没有丢弃计数，也没有丢弃事件。"
    ),
    what_to_do: text!(
        "Delete the filter, narrow it to what is meant, or mirror instead of redirecting.",
        "删除该过滤器、缩小其匹配范围，或用 mirror 代替 redirect。"
    ),
    when_wrong: text!(
        "Shaping through an ifb device redirects and brings the packets back; some container runtimes join a tap device to a veth so.",
        "通过 ifb 设备整形会重定向再送回；有些容器运行时以此连接 tap 与 veth。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Filters, Source::Qdiscs], judge };

/// Kinds of devices that bring back what is redirected to them (drivers/net/ifb.c).
const BRINGS_BACK: &str = "ifb";

const SUMMARY: Text = text!(
    "A tc filter on {dev} redirects {way} packets to {to}.",
    "{dev} 上的 tc 过滤器把{way}包重定向到 {to}。"
);
const MET: Text =
    text!("the filter redirected {n} {n|packet|packets} in the window", "该过滤器在窗口内重定向了 {n} 个包");
const DELETE: Text = text!(
    "delete the filter: tc filter del dev {dev} {place} pref {pref}",
    "删除该过滤器：tc filter del dev {dev} {place} pref {pref}"
);
const UNKNOWN: Text = text!("another interface", "另一个接口");

fn judge(space: Space<'_>) -> Judgement<'_> {
    let mut out = vec![];
    for link in space.links() {
        for filter in filters(space, link) {
            let found = filter.actions.iter().enumerate().find(|(_, action)| redirects(space, action));
            let Some((index, action)) = found else { continue };
            let met = met(space, filter, index, action);
            if met != Some(0) {
                out.push(culprit(space, link, filter, action, met));
            }
        }
    }
    out.into()
}

/// True if the action sends packets elsewhere for good.
pub fn redirects(space: Space<'_>, action: &TcAction) -> bool {
    let target = action.target.and_then(|index| space.after.link(index));
    let comes_back = target.is_some_and(|link| link.kind.as_deref() == Some(BRINGS_BACK));
    let redirect = action.verdict.as_deref().is_some_and(|verdict| verdict.starts_with("redirect"));
    action.kind == "mirred" && redirect && !comes_back
}

/// Packets that the action met in the window; none if that is not known.
fn met(space: Space<'_>, filter: &TcFilter, index: usize, action: &TcAction) -> Option<u64> {
    if !space.before.filters.is_present() {
        return None;
    }
    let key = |f: &TcFilter| (f.link, f.parent, f.preference, f.handle);
    let mut before = space.before.filters.iter().filter(|f| key(f) == key(filter) && f.kind == filter.kind);
    let old = before.next().and_then(|f| f.actions.get(index)).and_then(|a| a.stats.as_ref());
    let packets = |stats: &QueueStats| stats.packets;
    Some(Change::of(old.map(packets), Some(packets(action.stats.as_ref()?))).risen())
}

fn culprit<'a>(
    space: Space<'a>,
    link: &'a Link,
    filter: &'a TcFilter,
    action: &'a TcAction,
    met: Option<u64>,
) -> Culprit<'a> {
    let outgoing = side(filter.parent) == "egress";
    let (stage, direction) = match outgoing {
        true => ("tc.egress", Direction::Transmit),
        false => ("tc.ingress", Direction::Receive),
    };
    let subject = format!("{} {}, filter pref {}", link.name, side(filter.parent), filter.preference);
    let culprit = Culprit::new(space, &CAUSE, stage, Scope::Rule, subject)
        .direction(direction)
        .on(link.index)
        .needs_harm()
        // What is redirected dies, if at all, at the other interface, for want of whom it was meant for.
        .takes(move |loss| {
            let there = loss.flow.is_some() && action.target.is_some_and(|to| loss.is_at(space, to));
            sure(there || loss.is_imagined_at(space, link.index))
        })
        .harms(move |flow| {
            let passes = match outgoing {
                true => flow.leaves_by(space, link.index),
                false => flow.passes(space, link.index),
            };
            sure(flow.suffers() && passes)
        })
        .tell(move |_| story(space, link, filter, action, met));
    match met {
        Some(n) => culprit.meter(n, Count::AtMost, "tc action"),
        None => culprit,
    }
}

fn story(space: Space<'_>, link: &Link, filter: &TcFilter, action: &TcAction, met: Option<u64>) -> Story {
    let (way, place) = match side(filter.parent) {
        "egress" => (text!("outgoing", "出站"), "egress"),
        _ => (text!("incoming", "入站"), "ingress"),
    };
    let place = match filter.parent >> 16 {
        0xffff => place.to_owned(),
        _ => format!("parent {}", tc_handle(filter.parent)),
    };
    let to = action.target.map_or_else(|| UNKNOWN.phrase(), |to| Phrase::same(space.after.link_name(to)));
    let dev = Phrase::same(link.name.as_str());
    let summary = fill_words(SUMMARY, &[("dev", &dev), ("way", &way.phrase()), ("to", &to)]);
    let delete = DELETE.fill(&[("dev", &link.name), ("place", &place), ("pref", &filter.preference)]);
    let story = Story::new(summary).fix(by_hand(delete));
    match met {
        Some(n) => story.evidence(
            MET.fill(&[("n", &n)]),
            "tc action",
            &["tc", "-s", "filter", "show", "dev", &link.name, side(filter.parent)],
        ),
        None => story,
    }
}
