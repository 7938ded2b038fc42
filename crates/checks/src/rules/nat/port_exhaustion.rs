//! `nat.port_exhaustion`: no source port is free for another translation.

use crate::coverage::Source;
use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::{Fit, Packet};
use crate::evidence::source_ports::{Full, full};
use crate::evidence::tracked;
use crate::fixes::{by_hand, owned};
use crate::loss::Loss;
use crate::rule::{Judgement, Rule};
use crate::rules::netfilter::judge;
use whydrop_model::netfilter::Hook;
use whydrop_model::{Cause, Direction, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "nat.port_exhaustion",
    title: text!("No source port is free for another translation", "没有空闲的源端口可用于新的地址转换"),
    meaning: text!(
        "All source ports that a SNAT or masquerade rule may choose from are in use towards one destination.",
        "SNAT 或 masquerade 规则可选的源端口在某一目的地上已全部占用。"
    ),
    seen_by: text!(
        "Entries of connection tracking fill the range of the rule that translates the flows in trouble, and new ones could not be inserted.",
        "连接跟踪的条目已占满转换受影响流量的规则的端口范围，新条目无法插入。"
    ),
    why_lost: text!(
        "The first packet of another connection gets no port, and is dropped without an answer.",
        "新连接的第一个包得不到端口，被静默丢弃。"
    ),
    what_to_do: text!(
        "Widen the range of ports or give the rule more addresses; let connections end sooner, or be used again.",
        "扩大端口范围或为规则增加地址；让连接更早结束，或复用连接。"
    ),
    when_wrong: text!(
        "Ports of connections that ended are held until their entry times out.",
        "已结束连接的端口会被占用到其条目超时为止。"
    ),
};

/// The rule.
pub const RULE: Rule = Rule {
    cause: &CAUSE,
    needs: &[
        Source::Conntrack,
        Source::ConntrackEntries,
        Source::Nftables,
        Source::IptablesLegacy,
        Source::Ip6tablesLegacy,
    ],
    judge,
};

const SUMMARY: Text = text!(
    "{used} of {all} source ports for translations towards {to} are in use: new connections are dropped.",
    "通往 {to} 的转换可用的 {all} 个源端口已用 {used} 个：新连接被丢弃。"
);
const USED: Text = text!(
    "{used} entries towards {to} use the {all} ports of this rule",
    "通往 {to} 的 {used} 个条目占用了该规则的 {all} 个端口"
);
const ROSE: Text = text!("conntrack insert_failed rose by {n}", "conntrack insert_failed 计数 +{n}");
const WIDEN: Text = text!(
    "give the rule a wider range of ports (--to-source ADDRESS:LOW-HIGH, or none at all) or more addresses",
    "为规则设置更大的端口范围（--to-source 地址:低-高，或不设范围），或增加地址"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    let Some(rules) = space.case.verdicts.and_then(|verdicts| verdicts.rules(space)) else {
        return Judgement::default();
    };
    let mut found: Vec<Full<'_>> = vec![];
    for packet in asked(space) {
        if let Some(full) = full(space, &rules, &packet)
            && !found.iter().any(|known| (known.at, known.to) == (full.at, full.to))
        {
            found.push(full);
        }
    }
    found.into_iter().map(|full| culprit(space, full)).collect::<Vec<_>>().into()
}

/// Requests of flows in trouble, and packets that died, as they come to the translation of their source.
fn asked<'a>(space: Space<'a>) -> Vec<Packet> {
    let flows = space.case.flows.iter().filter(|flow| flow.suffers() && flow.visits(space));
    let requests = flows.flat_map(|flow| flow.packets_at(space, Hook::Postrouting));
    let mut out: Vec<Packet> = requests.filter(|packet| !packet.reply).collect();
    let lost = space.losses().filter(|loss| loss.hook == Some(Hook::Postrouting));
    out.extend(lost.filter_map(|loss| loss.event).filter_map(|event| {
        let (source, destination) = (event.source?, event.destination?);
        Some(Packet {
            protocol: event.protocol?,
            source: Some(source.ip()),
            destination: Some(destination.ip()),
            source_port: Some(source.port()),
            destination_port: Some(destination.port()),
            ..Packet::default()
        })
    }));
    out
}

fn culprit<'a>(space: Space<'a>, full: Full<'a>) -> Culprit<'a> {
    let subject = judge::subject((full.at.chain, full.at.rule));
    let n = tracked::rise(space, &["insert_failed"]);
    let culprit = Culprit::new(space, &CAUSE, "netfilter.postrouting", Scope::Rule, subject)
        .direction(Direction::Forward)
        .takes(move |loss| takes(space, &full, loss))
        .harms(move |flow| harms(space, &full, flow))
        .tell(move |_| story(&full, n));
    if n > 0 { culprit.meter(n, Count::AtLeast, "conntrack insert_failed") } else { culprit }
}

fn takes(space: Space<'_>, full: &Full<'_>, loss: &Loss<'_>) -> Fit {
    let ruled = || space.case.verdicts.is_some_and(|verdicts| !verdicts.of_loss(loss).is_empty());
    if !loss.is_in(space) || loss.hook != Some(Hook::Postrouting) || ruled() {
        return Fit::No;
    }
    let Some(event) = loss.event else { return Fit::No };
    // A flow that has its entry is no new one.
    let known = || tracked::entries(space).any(|entry| event.source == Some(tracked::from(&entry.original)));
    Fit::sure(event.protocol == Some(full.protocol) && event.destination == Some(full.to) && !known())
}

fn harms(space: Space<'_>, full: &Full<'_>, flow: &Flow<'_>) -> Fit {
    let here = flow.suffers() && flow.protocol == full.protocol;
    let mut requests = flow.packets_at(space, Hook::Postrouting).into_iter().filter(|packet| !packet.reply);
    let goes = |packet: &Packet| {
        (packet.destination, packet.destination_port) == (Some(full.to.ip()), Some(full.to.port()))
    };
    Fit::sure(here && requests.any(|packet| goes(&packet)))
}

fn story(full: &Full<'_>, n: u64) -> Story {
    let words: [(&str, &dyn std::fmt::Display); 4] =
        [("used", &full.used), ("all", &full.all), ("to", &full.to), ("n", &n)];
    let list = judge::list_argv(full.at.chain);
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let mut story = Story::new(SUMMARY.fill(&words))
        .exhibit(whydrop_model::shell::sanitize(&full.at.rule.text, 300))
        .handle(full.at.rule.handle)
        .evidence(USED.fill(&words), "conntrack entries", &["conntrack", "-L", "-n"])
        .evidence(CAUSE.meaning.phrase(), "rules", &list);
    if n > 0 {
        story = story.evidence(ROSE.fill(&words), "conntrack statistics", &["conntrack", "-S"]);
    }
    match owned::rule_owner(full.at.chain, full.at.rule) {
        Some(owner) => story.fix(owned::there(owner)),
        None => story.fix(by_hand(WIDEN.phrase())),
    }
}
