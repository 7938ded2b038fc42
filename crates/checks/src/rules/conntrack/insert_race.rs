//! `conntrack.insert_race`: two first packets of one flow race for one connection entry.

use super::unconfirmed;
use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::{Fit, Packet};
use crate::evidence::source_ports::full;
use crate::evidence::tracked;
use crate::fixes::manual;
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use whydrop_model::{Cause, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "conntrack.insert_race",
    title: text!(
        "Two first packets of one flow race for one connection entry",
        "同一流的两个首包竞争同一个连接条目"
    ),
    meaning: text!(
        "Two packets meet connection tracking before either is confirmed, are translated differently or to the same port, and the later one finds its place taken.",
        "两个包在任一确认之前进入连接跟踪，被转换成不同的目的地或同一端口，后到者发现位置已被占用。"
    ),
    seen_by: text!(
        "The counter insert_failed of conntrack rose, and packets died at confirmation whose flow has an entry by another packet.",
        "conntrack 的 insert_failed 计数增加，且有包在确认时丢失，而其流已有由另一个包建立的条目。"
    ),
    why_lost: text!(
        "The later packet is dropped. With DNS (A and AAAA from one socket) the resolver waits its whole time-out of 5 s.",
        "后到的包被丢弃。对 DNS（同一套接字同时查询 A 和 AAAA）而言，解析器要等满 5 秒超时。"
    ),
    what_to_do: text!(
        "Let the resolver ask one after the other (options single-request-reopen), use a local DNS cache, do not translate or track DNS, or SNAT with --random-fully.",
        "让解析器逐个查询（options single-request-reopen），使用本地 DNS 缓存，对 DNS 不做转换或跟踪，或在 SNAT 中使用 --random-fully。"
    ),
    when_wrong: text!(
        "A range of source ports that is used up fails at the same place.",
        "源端口范围耗尽时也会在同一处失败。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule { cause: &CAUSE, needs: &[Source::Conntrack, Source::ConntrackEntries], judge };

/// So many a window are an accident of a busy translator, as long as nobody suffers.
const ACCIDENTS: u64 = 2;

const SUMMARY: Text = text!(
    "{n} first packets lost a race for a connection entry and were dropped.",
    "有 {n} 个首包在竞争连接条目时落败而被丢弃。"
);
const ROSE: Text = text!("conntrack insert_failed rose by {n}", "conntrack insert_failed 计数 +{n}");
const DO: Text = text!(
    "let the resolver ask one after the other: options single-request-reopen in /etc/resolv.conf; or run a DNS cache where the clients are, or SNAT with --random-fully",
    "让解析器逐个查询：在 /etc/resolv.conf 中写入 options single-request-reopen；或在客户端侧运行 DNS 缓存，或在 SNAT 中使用 --random-fully"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let n = tracked::rise(space, &["insert_failed"]);
    if n == 0 {
        return Judgement::default();
    }
    let mut culprit = Culprit::new(space, &CAUSE, "conntrack", Scope::Netns, "insert_failed".to_owned())
        .meter(n, Count::Exact, "conntrack insert_failed")
        .takes(move |loss| takes(space, loss))
        .tell(move |_| {
            Story::new(SUMMARY.fill(&[("n", &n)]))
                .evidence(ROSE.fill(&[("n", &n)]), "conntrack statistics", &["conntrack", "-S"])
                .fix(manual(DO))
        });
    if n <= ACCIDENTS || !space.losses().any(|loss| takes(space, loss) == Fit::Yes) {
        culprit = culprit.needs_harm();
    }
    Some(culprit).into()
}

/// A packet that could not be confirmed although its flow has an entry.
fn takes(space: Space<'_>, loss: &Loss<'_>) -> Fit {
    let fit = unconfirmed(space, loss);
    if fit == Fit::No {
        return fit;
    }
    // Of drops that were only counted, those that were sampled of the same shape tell.
    let Some(event) = loss.event else {
        let alike = loss.alike.iter().filter_map(|id| space.case.losses.get(*id));
        return alike.map(|loss| takes(space, loss)).max().unwrap_or(fit);
    };
    let (Some(source), Some(destination)) = (event.source, event.destination) else { return Fit::No };
    let packet = Packet {
        protocol: event.protocol.unwrap_or(0),
        source: Some(source.ip()),
        destination: Some(destination.ip()),
        source_port: Some(source.port()),
        destination_port: Some(destination.port()),
        ..Packet::default()
    };
    // Where no port is left there was no race.
    let rules = space.case.verdicts.and_then(|verdicts| verdicts.rules(space));
    if rules.is_some_and(|rules| full(space, &rules, &packet).is_some()) {
        return Fit::No;
    }
    // Behind translation the destination may be another one, and the source as well: what no translation changes is the
    // port of the one or the other.
    let entry = tracked::entries(space).any(|entry| {
        let from = tracked::from(&entry.original);
        let (answers, to) = (tracked::from(&entry.reply), tracked::to(&entry.reply));
        Some(entry.original.protocol) == event.protocol
            && (from == source && answers.port() == destination.port()
                || to == source && answers == destination)
    });
    if entry { Fit::Yes } else { Fit::No }
}
