//! From a dropping rule to a finding or a note: the same for every kind.

use super::drops::{Class, Dropping, REASON, droppers, events};
use super::silent::silent;
use crate::case::Space;
use crate::packet::Fit;
use crate::rule::{Judgement, Suspect, fill_words, fix, manual};
use whydrop_model::action::{Action, ChainRef, RuleRef};
use whydrop_model::netfilter::{Chain, Match, Rule, RuleVerdict, Tool};
use whydrop_model::shell::sanitize;
use whydrop_model::{Applicability, Cause, Direction, Fix, NoteStatus, Phrase, Text, text};

/// Longer rules are cut in what people read.
const MAX_RULE_TEXT: usize = 300;

/// A rule without counter that only perhaps takes the lost packets is no more than probable.
const PERHAPS: f64 = 0.6;

/// Extensions whose rules iptables does not find again by their text, since it compares state of the kernel, too.
const COMPARED_WITH_STATE: [&str; 2] = ["-m connlimit ", "-m recent "];

/// IPPROTO_ICMP, IPPROTO_ICMPV6.
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

const RULE_ROSE: Text = text!("its counter rose by {n}", "规则计数 +{n}");
const NO_COUNTER: Text = text!(
    "it has no counter, but fits packets that were dropped in its chain's hook",
    "该规则没有计数器，但与其挂载点处被丢弃的包相符"
);
const FITS_PROBE: Text =
    text!("it has no counter, but fits the probes that were lost", "该规则没有计数器，但与丢失的探测包相符");
const OLD: Text = text!(
    "its counter stands at {n} and did not move in the window: {rule}",
    "计数为 {n}，观察窗口内没有变化：{rule}"
);
const LATENT: Text = text!("dropped nothing in the window: {rule}", "观察窗口内没有丢弃任何包：{rule}");
const BACKGROUND: Text = text!(
    "dropped {n} packets that nothing here waits for, and none of the traffic under study",
    "丢弃了 {n} 个此处无人接收的包，被研究的流量未受影响"
);
const DELETE: Text = text!("delete the rule", "删除该规则");
const TAKE_OUT: Text = text!(
    "take the entry that drops out of the rule's map; the other entries have to stay",
    "从该规则的映射中去掉丢弃的条目，其他条目需保留"
);
const PERSIST: Text = text!(
    "until the ruleset is loaded again: take the rule out of the file or program that adds it, too",
    "规则集重新加载后会恢复：还需从添加它的文件或程序中删除"
);
const MEANT: Text = text!(
    "the rule may be there on purpose: what it blocks becomes reachable",
    "该规则可能是有意设置的：删除后被它阻止的访问将放行"
);

/// Judges one kind of rule: what dropped in the window is a suspect, what did not is old or latent.
pub fn judge_class(space: Space<'_>, cause: &'static Cause, class: Class, summary: Text) -> Judgement {
    let mut judgement = Judgement::default();
    let all = droppers(space);
    let silent = silent(space, &all);
    for dropping in all.iter().filter(|d| d.class == class) {
        let rule = dropping.rule;
        let silent = silent.iter().find(|s| std::ptr::eq(s.rule, rule));
        let suspect = || suspect(space, cause, dropping, summary);
        let took = dropping.dropped.or(silent.and_then(|silent| silent.events)).filter(|n| *n > 0);
        if let Some(n) = took.filter(|_| is_background(space, dropping)) {
            let text = BACKGROUND.fill(&[("n", &n)]);
            judgement.note(space, cause, NoteStatus::Benign, &subject(dropping.chain, rule), text);
            judgement.excuse(space, &dropping.stage(), n);
            continue;
        }
        match (dropping.dropped, silent) {
            (Some(n), _) if n > 0 => {
                let list = list_argv(dropping.chain);
                let list: Vec<&str> = list.iter().map(String::as_str).collect();
                let suspect = suspect().packets(n, "rule counter");
                let suspect = suspect.evidence(RULE_ROSE.fill(&[("n", &n)]), "rule counter", &list);
                judgement.suspects.push(suspect.drop_events(events(space, &dropping.hooks), REASON));
            }
            (None, Some(silent)) => {
                let claim = if silent.events.is_some() { NO_COUNTER } else { FITS_PROBE };
                let list = list_argv(dropping.chain);
                let list: Vec<&str> = list.iter().map(String::as_str).collect();
                let mut suspect = suspect().evidence(claim.phrase(), "rules", &list);
                if let Some(events) = silent.events {
                    suspect = suspect.packets(events, "drop events").drop_events(events, REASON);
                } else {
                    suspect = suspect.needs_probe();
                }
                judgement.suspects.push(suspect.at_most(if silent.fit == Fit::Yes { 1.0 } else { PERHAPS }));
            }
            _ => {
                let shown = sanitize(&rule.text, MAX_RULE_TEXT);
                let (status, text) = match (rule.packets, dropping.dropped) {
                    (Some(old), Some(0)) if old > 0 => {
                        (NoteStatus::Old, OLD.fill(&[("n", &old), ("rule", &shown)]))
                    }
                    _ => (NoteStatus::Latent, LATENT.fill(&[("rule", &shown)])),
                };
                judgement.note(space, cause, status, &subject(dropping.chain, rule), text);
            }
        }
    }
    judgement
}

/// True if a rule did what it is for: the traffic under study passed it unharmed, and what it took were packets for
/// ports that nobody has open, or out of any connection. A rule that throws dice protects nothing.
fn is_background(space: Space<'_>, dropping: &Dropping<'_>) -> bool {
    let mut ways = space.case.ways.iter();
    let touches = dropping.touches(space);
    let hurt = ways.any(|way| (way.troubled() || way.refused()) && touches.contains(&way.index));
    if space.case.ways.is_empty() || hurt || throws_dice(dropping.rule) {
        return false;
    }
    dropping.class == Class::Invalid || dropping.took_only_unwanted(space)
}

fn throws_dice(rule: &Rule) -> bool {
    rule.matches.iter().any(|m| matches!(m, Match::Random(_) | Match::Nth(_)))
}

/// Argv that lists a chain with its counters.
pub fn list_argv(chain: &Chain) -> Vec<String> {
    let mut out = vec![chain.command().to_owned()];
    match chain.tool {
        Tool::Nft => out.extend(
            ["-a", "list", "chain", chain.family.word(), &chain.table, &chain.name].map(String::from),
        ),
        _ => {
            if chain.table != "filter" {
                out.extend(["-t".to_owned(), chain.table.clone()]);
            }
            out.extend(["-nvL".to_owned(), chain.name.clone()]);
        }
    }
    out
}

/// `filter INPUT`, with the family in front where the title alone would mean IPv4.
pub fn title(chain: &Chain) -> String {
    let v6 = matches!(chain.tool, Tool::Ip6tablesNft | Tool::Ip6tablesLegacy);
    let title = sanitize(&chain.title(), MAX_RULE_TEXT);
    if v6 { format!("ip6 {title}") } else { title }
}

/// The dropping rules of a namespace that findings are about, by the findings' subjects.
pub fn rules_of<'a>(space: Space<'a>, subjects: &[&str]) -> Vec<(String, Dropping<'a>)> {
    let named = droppers(space).into_iter().map(|d| (subject(d.chain, d.rule), d));
    named.filter(|(subject, _)| subjects.contains(&subject.as_str())).collect()
}

/// Words for a direction.
pub fn way_of(direction: Option<Direction>) -> Phrase {
    let (en, zh) = match direction {
        Some(Direction::Receive) => ("incoming", "入站"),
        Some(Direction::Transmit) => ("outgoing", "出站"),
        Some(Direction::Forward) => ("forwarded", "转发"),
        None => ("passing", "经过"),
    };
    Phrase { en: en.into(), zh: zh.into() }
}

fn subject(chain: &Chain, rule: &Rule) -> String {
    format!("{}, rule {}", title(chain), rule.position)
}

fn suspect(space: Space<'_>, cause: &'static Cause, dropping: &Dropping<'_>, summary: Text) -> Suspect {
    let share = share_of(dropping.rule);
    let way = way_of(dropping.direction());
    let summary = fill_words(summary, &[("share", &share), ("way", &way)]);
    let subject = subject(dropping.chain, dropping.rule);
    let mut suspect = Suspect::new(space, cause, &dropping.stage(), subject, summary)
        .exhibit(sanitize(&dropping.rule.text, MAX_RULE_TEXT))
        .touches(dropping.touches(space))
        .fix(delete(space, dropping));
    suspect.finding.direction = dropping.direction();
    match dropping.rule.matches.iter().any(|m| matches!(m, Match::L4Proto(ICMP | ICMPV6))) {
        true => suspect.acts_as("mtu.pmtu_blackhole"),
        false => suspect,
    }
}

/// `30 % of the ` for a random rule; empty for one that takes all that fits.
fn share_of(rule: &Rule) -> Phrase {
    let percent = |share: f64| format!("{}", (share * 1000.0).round() / 10.0);
    let share = rule.matches.iter().find_map(|m| match m {
        Match::Random(share) => Some(percent(*share)),
        Match::Nth(n) if *n > 0 => Some(percent(1.0 / f64::from(*n))),
        _ => None,
    });
    share.map_or_else(Phrase::default, |share| Phrase {
        en: format!("{share} % of the "),
        zh: format!(" {share}% 的"),
    })
}

/// True if `-D` with the rule's text deletes it, or one of its twins right beside it, which is the same.
fn can_be_named_by_text(chain: &Chain, rule: &Rule) -> bool {
    if COMPARED_WITH_STATE.iter().any(|module| rule.text.contains(module)) {
        return false;
    }
    let mut twins = chain.rules.iter().filter(|r| r.text == rule.text).map(|r| r.position);
    let first = twins.next().unwrap_or(rule.position);
    twins.zip(first.saturating_add(1)..).all(|(position, expected)| position == expected)
}

fn delete(space: Space<'_>, dropping: &Dropping<'_>) -> Fix {
    let rule = dropping.rule;
    if matches!(rule.verdict, RuleVerdict::Map(_)) {
        return manual(TAKE_OUT);
    }
    let unique = can_be_named_by_text(dropping.chain, rule);
    let chain = ChainRef::from(dropping.chain);
    let action = Action::RuleDelete(RuleRef { chain, rule: rule.clone(), unique, gone_before: 0 });
    let mut fix = fix(space, DELETE.phrase(), Applicability::Safe, vec![action]);
    fix.persist = Some(PERSIST.phrase());
    // Nobody protects a machine with dice: a random rule is a test that was forgotten.
    fix.caution = (!throws_dice(rule)).then(|| MEANT.phrase());
    fix
}
