//! From a dropping rule to a culprit or a note: the same for every kind.

use super::drops::{Class, Dropping, droppers};
use super::{bridged, unexpected};
use crate::culprit::{Count, Culprit, Scope, Share, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::{Fit, Packet};
use crate::evidence::verdicts::{self, At, Oddity};
use crate::fixes::exception::{self, Refusal, Sufferer};
use crate::fixes::owned;
use crate::fixes::{fix, manual};
use crate::rule::{Judgement, fill_words};
use whydrop_model::action::{Action, ChainRef, RuleRef};
use whydrop_model::netfilter::{Chain, Hook, Match, Rule, RuleVerdict, Tool};
use whydrop_model::shell::sanitize;
use whydrop_model::{Cause, Direction, Fix, NoteStatus, Phrase, Text, text};

/// Ports from here on change from flow to flow: the default of `net.ipv4.ip_local_port_range`.
const FIRST_EPHEMERAL_PORT: u16 = 32768;
/// Longer rules are cut in what people read.
const MAX_RULE_TEXT: usize = 300;

/// Extensions whose rules iptables does not find again by their text, since it compares state of the kernel, too.
const COMPARED_WITH_STATE: [&str; 2] = ["-m connlimit ", "-m recent "];

const RULE_ROSE: Text = text!("its counter rose by {n}", "规则计数 +{n}");
const NO_COUNTER: Text = text!(
    "it has no counter, but fits packets that were dropped in its chain's hook",
    "该规则没有计数器，但与其挂载点处被丢弃的包相符"
);
const OLD: Text = text!(
    "its counter stands at {n} and did not move in the window: {rule}",
    "计数为 {n}，观察窗口内没有变化：{rule}"
);
const LATENT: Text = text!("dropped nothing in the window: {rule}", "观察窗口内没有丢弃任何包：{rule}");
const BACKGROUND: Text = text!(
    "dropped {n} {n|packet|packets} that nothing here waits for, and none of the traffic under study",
    "丢弃了 {n} 个此处无人接收的包，被研究的流量未受影响"
);
const ACCEPT: Text = text!("accept exactly this traffic in front of the rule", "在该规则之前只放行这一流量");
const PERSIST_EXCEPTION: Text = text!(
    "until the ruleset is loaded again: put the exception into the file or program that adds the rule, too",
    "规则集重新加载后会失效：还需把该例外写入添加该规则的文件或程序"
);
const MEETS: Text = text!(
    "what it takes out of tracking ends at {rule}, which tracked packets pass",
    "它排除在跟踪之外的包止于 {rule}，而被跟踪的包可以通过"
);
const TRACKED: Text = text!(
    "connections that were not tracked are tracked again, which costs an entry each",
    "原本不跟踪的连接将重新被跟踪，每个占用一个条目"
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

/// Judges one kind of rule: what dropped in the window, or ends packets that are missed, is a culprit; what did not is
/// old or latent.
pub fn judge_class<'a>(
    space: Space<'a>,
    cause: &'static Cause,
    class: Class,
    summary: Text,
) -> Judgement<'a> {
    let mut judgement = Judgement::default();
    for dropping in droppers(space).into_iter().filter(|d| d.class == class) {
        let took = dropping.dropped.is_some_and(|n| n > 0);
        if took || dropping.is_met(space) || (class == Class::Arp && dropping.dropped.is_none()) {
            judgement.culprits.push(culprit(space, cause, dropping.clone(), summary));
        }
        if !took {
            idle(space, cause, &dropping, &mut judgement);
        }
    }
    judgement
}

/// Says that a rule cost nothing in the window; left out where it is told of after all.
fn idle(space: Space<'_>, cause: &Cause, dropping: &Dropping<'_>, judgement: &mut Judgement<'_>) {
    let rule = dropping.rule;
    let shown = sanitize(&rule.text, MAX_RULE_TEXT);
    let (status, text) = match (rule.packets, dropping.dropped) {
        (Some(old), Some(0)) if old > 0 => (NoteStatus::Old, OLD.fill(&[("n", &old), ("rule", &shown)])),
        _ => (NoteStatus::Latent, LATENT.fill(&[("rule", &shown)])),
    };
    judgement.note(space, cause, status, &subject(dropping.at), text);
}

fn culprit<'a>(
    space: Space<'a>,
    cause: &'static Cause,
    dropping: Dropping<'a>,
    summary: Text,
) -> Culprit<'a> {
    let asked = dropping.clone();
    let hurt = dropping.clone();
    let subject = match dropping.oddity {
        Oddity::Bridged => bridged::setting(dropping.at.0).to_owned(),
        Oddity::Unexpected(control) => unexpected::subject(&control),
        Oddity::Untracked(_) | Oddity::None => subject(dropping.at),
    };
    let mut culprit = Culprit::new(space, cause, &dropping.stage(), Scope::Rule, subject)
        .direction(dropping.direction())
        .duty(BACKGROUND)
        .has_no_duty(throws_dice(dropping.rule))
        .takes(move |loss| asked.fit(space, loss))
        .harms(move |flow| hurt.fit_of_flow(space, flow));
    if let Some(n) = dropping.dropped {
        culprit = culprit.meter(n, Count::Exact, "rule counter");
    }
    culprit.tell(move |share| {
        let words = [("share", share_of(dropping.at.1)), ("way", way_of(dropping.direction()))];
        let words = words.each_ref().map(|(name, phrase)| (*name, phrase));
        let list = list_argv(dropping.at.0);
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        let story = Story::new(fill_words(summary, &words))
            .exhibit(sanitize(&dropping.at.1.text, MAX_RULE_TEXT))
            .handle(dropping.at.1.handle);
        let story = fixes(space, &dropping, share).into_iter().fold(story, Story::fix);
        let story = match dropping.oddity {
            Oddity::Unexpected(control) => unexpected::told(&control, story),
            Oddity::Untracked(_) => story.evidence(
                MEETS.fill(&[("rule", &self::subject(dropping.ends_at))]),
                "rules",
                &list_argv(dropping.ends_at.0).iter().map(String::as_str).collect::<Vec<_>>(),
            ),
            _ => story,
        };
        match dropping.dropped {
            Some(n) => story.evidence(RULE_ROSE.fill(&[("n", &n)]), "rule counter", &list),
            None => story.evidence(NO_COUNTER.phrase(), "rules", &list),
        }
    })
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

/// `filter INPUT, rule 3`.
pub fn subject((chain, rule): (&Chain, &Rule)) -> String {
    format!("{}, rule {}", title(chain), rule.position)
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
fn can_be_named_by_text(space: Space<'_>, chain: &Chain, rule: &Rule) -> bool {
    if COMPARED_WITH_STATE.iter().any(|module| rule.text.contains(module)) {
        return false;
    }
    let rules = space.case.verdicts.and_then(|verdicts| verdicts.rules(space));
    rules.is_some_and(|rules| rules.stands_with_twins(chain, rule))
}

/// The fixes, the smallest first: an exception for what suffers, then the rule itself.
fn fixes<'a>(space: Space<'a>, dropping: &Dropping<'a>, share: &Share<'_, 'a>) -> Vec<Fix> {
    let (chain, rule) = dropping.at;
    match dropping.oddity {
        Oddity::Bridged => return bridged::fixes(space, chain),
        Oddity::Untracked(_) => return untracked(space, dropping.at),
        Oddity::Unexpected(control) => return vec![unexpected::attach(space, &control)],
        Oddity::None => {}
    }
    if let Some(owner) = owned::rule_owner(chain, rule) {
        return vec![owned::there(owner)];
    }
    let is_limit = matches!(dropping.class, Class::RateLimit | Class::Connlimit | Class::Quota);
    let suffers = sufferers(space, &dropping.hooks, share, |endings| {
        verdicts::fit_of_rule(endings, dropping.rule) != Fit::No
    });
    let exceptions = exception::exceptions(space, chain, Refusal::Rule(rule, is_limit), &suffers);
    let mut out = vec![];
    if !exceptions.is_empty() {
        let mut accept = fix(space, ACCEPT.phrase(), exceptions);
        accept.persist = Some(PERSIST_EXCEPTION.phrase());
        out.push(accept);
    }
    // Nobody protects a machine with dice: a random rule is a test that was forgotten.
    let caution = (!throws_dice(rule)).then_some(MEANT);
    out.push(delete(space, chain, rule, caution));
    out
}

/// The fix for packets that a rule takes out of tracking: to track them.
pub fn untracked(space: Space<'_>, (chain, rule): (&Chain, &Rule)) -> Vec<Fix> {
    match owned::rule_owner(chain, rule) {
        Some(owner) => vec![owned::there(owner)],
        None => vec![delete(space, chain, rule, Some(TRACKED))],
    }
}

/// What is known to suffer at these hooks: the packets of flows in trouble; without any, those that were seen to die.
pub fn sufferers<'a>(
    space: Space<'a>,
    hooks: &[Hook],
    share: &Share<'_, 'a>,
    ends_here: impl Fn(&[At<'_>]) -> bool,
) -> Vec<Sufferer> {
    let Some(rules) = space.case.verdicts.and_then(|verdicts| verdicts.rules(space)) else { return vec![] };
    let ends = |hook: Hook, packet: &Packet| {
        let walk = rules.at_hook(hook, packet);
        ends_here(&walk.losses().map(|ending| (hook, ending.clone())).collect::<Vec<At<'_>>>())
    };
    let mut out: Vec<Sufferer> = vec![];
    let mut add = |sufferer: Sufferer| {
        if !out.contains(&sufferer) {
            out.push(sufferer);
        }
    };
    for flow in &share.flows {
        for hook in hooks {
            let met =
                space.case.verdicts.into_iter().flat_map(|verdicts| verdicts.met(space, flow.id, *hook));
            for packet in met.filter(|packet| ends(*hook, packet)) {
                add(Sufferer { packet: packet.clone(), in_trouble: true });
            }
        }
    }
    let both = hooks.iter().any(|hook| matches!(hook, Hook::Forward | Hook::Prerouting | Hook::Postrouting));
    for (loss, _) in &share.losses {
        let Some((_, mut packet)) = loss.event.and_then(|event| verdicts::dropped(space, event)) else {
            continue;
        };
        // One flow after another meets the same rules: the port that changes says nothing.
        packet.source_port = packet.source_port.filter(|port| *port < FIRST_EPHEMERAL_PORT);
        packet.destination_port = packet.destination_port.filter(|port| *port < FIRST_EPHEMERAL_PORT);
        if loss.flow.is_some() {
            // Where both directions meet one chain, a request that died would be followed by its answer.
            if both {
                add(Sufferer { packet: packet.answer(), in_trouble: true });
            }
            add(Sufferer { packet, in_trouble: true });
        } else if share.flows.is_empty() {
            add(Sufferer::seen(space, packet));
        }
    }
    out
}

/// The fix that deletes a rule, with what is to be said against it.
pub fn delete(space: Space<'_>, chain: &Chain, rule: &Rule, caution: Option<Text>) -> Fix {
    if matches!(rule.verdict, RuleVerdict::Map(_)) {
        return manual(TAKE_OUT);
    }
    let unique = can_be_named_by_text(space, chain, rule);
    let chain = ChainRef::from(chain);
    let action = Action::RuleDelete(RuleRef { chain, rule: rule.clone(), unique, gone_before: 0 });
    let mut fix = fix(space, DELETE.phrase(), vec![action]);
    fix.persist = Some(PERSIST.phrase());
    fix.caution = caution.map(|text| text.phrase());
    fix
}
