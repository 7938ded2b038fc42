//! `netfilter.drop_policy`: A chain's default policy drops.

use super::drops::{Class, direction, leaves_rest_to, limits_below, odd, was_readable};
use super::judge::{self, list_argv, sufferers, title, way_of};
use super::{bridged, unexpected};
use crate::coverage::NETFILTER;
use crate::culprit::{Count, Culprit, Scope, Share, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::evidence::verdicts::{self, At, Oddity};
use crate::evidence::walk::Ending;
use crate::fixes::exception::{Refusal, exceptions};
use crate::fixes::fix;
use crate::fixes::owned;
use crate::loss::missing::Frame;
use crate::loss::{Kind, Loss};
use crate::rule::{Judgement, Rule as CheckRule, fill_words};
use whydrop_model::action::{Action, ChainRef, RuleRef};
use whydrop_model::delta::Change;
use whydrop_model::netfilter::{Chain, Family, Hook, Match, Rule, RuleVerdict, Tool};
use whydrop_model::{Cause, Fix, NoteStatus, Text, text};

/// The cause.
pub const CAUSE: Cause = Cause {
    id: "netfilter.drop_policy",
    title: text!("A chain's default policy drops", "链的默认策略丢弃数据包"),
    meaning: text!(
        "A base chain ends with policy DROP: what no rule accepts is thrown away.",
        "基础链的默认策略是 DROP：没有规则放行的包都会被丢弃。"
    ),
    seen_by: text!(
        "The policy's counter rose, or where nft has none, netfilter drops that no rule explains and a packet that no rule accepts.",
        "策略计数增加；nft 没有策略计数时，则看没有规则能解释的 netfilter 丢弃以及没有规则放行的包。"
    ),
    why_lost: text!(
        "Traffic that nobody thought of when the rules were written is dropped silently.",
        "编写规则时没有考虑到的流量会被静默丢弃。"
    ),
    what_to_do: text!(
        "Insert a rule that accepts the wanted traffic. With two back ends or two tables, every one of them has to accept.",
        "插入一条放行所需流量的规则。存在两种后端或多张表时，每一处都必须放行。"
    ),
    when_wrong: text!("When the traffic should be blocked.", "该流量本来就应被阻止时。"),
};

/// The rule.
pub const RULE: CheckRule = CheckRule { cause: &CAUSE, needs: NETFILTER, judge };

/// IPPROTO_ICMPV6.
const ICMPV6: u8 = 58;

const SUMMARY: Text = text!(
    "The policy of a chain drops the {way} packets that no rule accepts.",
    "链的默认策略丢弃没有规则放行的{way}包。"
);
const ROSE: Text = text!("the policy's counter rose by {n}", "策略计数 +{n}");
const FALLS: Text =
    text!("the policy is DROP and no rule accepts what was lost", "默认策略为 DROP，且没有规则放行丢失的包");
const OTHERS: Text = text!(
    "the policy dropped {n} {n|packet|packets} that nobody in view misses, as it should",
    "默认策略丢弃了 {n} 个在可见范围内无人需要的包，属正常"
);
const IDLE: Text =
    text!("the policy is DROP and cost nothing in the window", "默认策略为 DROP，窗口内没有造成丢包");
const OPEN_PORT: Text =
    text!("accept exactly this traffic in front of the policy", "在默认策略之前只放行这一流量");
const OPEN_ALL: Text = text!("set the policy to ACCEPT", "把默认策略改为 ACCEPT");
const OPENS: Text = text!(
    "everything that no rule drops becomes reachable: an accept rule for the wanted traffic is better",
    "没有规则丢弃的访问都将放行：更好的做法是只放行需要的流量"
);
const PERSIST: Text = text!(
    "until the ruleset is loaded again: put the exception into the file or program that sets the policy, too",
    "规则集重新加载后会失效：还需把该例外写入设置默认策略的文件或程序"
);

fn judge(space: Space<'_>) -> Judgement<'_> {
    judge_policies(space, &CAUSE, SUMMARY, |gate| gate.is_none())
}

/// A base chain whose policy drops.
#[derive(Clone, Copy)]
struct Policy<'a> {
    space: Space<'a>,
    chain: &'a Chain,
    hook: Hook,
    /// Packets that it counted in the window; none if nothing counts them.
    dropped: Option<u64>,
    /// Why packets meet it.
    oddity: Oddity<'a>,
    /// What it does, in one sentence.
    summary: Text,
}

/// Judges the policies of one kind: those behind a limit that lets a part pass, or the others.
pub fn judge_policies<'a>(
    space: Space<'a>,
    cause: &'static Cause,
    summary: Text,
    mine: fn(Option<Class>) -> bool,
) -> Judgement<'a> {
    let mut judgement = Judgement::default();
    for (chain, hook) in dropping_chains(space) {
        let mut gates = chain.rules.iter().filter_map(|r| limits_below(r).map(|class| (r, class)));
        let gate = gates.rfind(|(gate, _)| leaves_rest_to(space, &[hook], gate, &[]));
        let ends =
            |ending: &Ending<'a>| ending.is_policy() && ending.base.is_some_and(|b| std::ptr::eq(b, chain));
        let oddity = odd(space, ends);
        let class = match oddity {
            Oddity::None => family_class(chain.family).or(gate.map(|(_, class)| class)),
            Oddity::Bridged => Some(Class::Bridged),
            Oddity::Untracked(_) => Some(Class::Untracked),
            Oddity::Unexpected(_) => Some(Class::Unexpected),
        };
        if !mine(class) {
            continue;
        }
        let policy = Policy { space, chain, hook, dropped: rise(space, chain), oddity, summary };
        let subject = match oddity {
            Oddity::None => format!("{}, policy", title(chain)),
            Oddity::Bridged => bridged::setting(chain).to_owned(),
            Oddity::Untracked(at) => judge::subject((at.chain, at.rule)),
            Oddity::Unexpected(control) => unexpected::subject(&control),
        };
        match policy.dropped.filter(|n| *n > 0) {
            Some(n) => judgement.note(space, cause, NoteStatus::Benign, &subject, OTHERS.fill(&[("n", &n)])),
            None => judgement.note(space, cause, NoteStatus::Latent, &subject, IDLE.phrase()),
        }
        judgement.culprits.push(policy.culprit(cause, subject));
    }
    judgement
}

impl<'a> Policy<'a> {
    fn culprit(self, cause: &'static Cause, subject: String) -> Culprit<'a> {
        let stage = format!("netfilter.{}", self.hook.word());
        let culprit = Culprit::new(self.space, cause, &stage, Scope::Hook, subject)
            .direction(direction(self.hook))
            // It is no fault while the traffic of those in view passes.
            .needs_harm()
            .takes(move |loss| self.fit(loss))
            .harms(move |flow| {
                let endings = self.space.case.verdicts.map(|verdicts| verdicts.of_flow(self.space, flow.id));
                self.fit_of(endings.unwrap_or(&[]))
            })
            .tell(move |share| self.story(share));
        match self.dropped {
            Some(n) => culprit.meter(n, Count::Exact, "policy counter"),
            None => culprit,
        }
    }

    /// True for a chain that IP packets do not meet as such.
    fn is_of_frames(self) -> bool {
        family_class(self.chain.family).is_some()
    }

    fn fit_of(self, endings: &[At<'_>]) -> Fit {
        verdicts::fit_of_policy(endings, self.chain)
    }

    fn fit(self, loss: &Loss<'_>) -> Fit {
        if !loss.is_in(self.space) {
            return Fit::No;
        }
        let asked = self.space.case.verdicts;
        match (&loss.frame, loss.kind) {
            (Some(Frame::Ip(Some(packet))), Kind::Imagined) if loss.hook == Some(self.hook) => {
                let Some(rules) = asked.and_then(|verdicts| verdicts.rules(self.space)) else {
                    return Fit::No;
                };
                let walk = rules.at_hook(self.hook, packet);
                self.fit_of(&walk.losses().map(|ending| (self.hook, ending.clone())).collect::<Vec<_>>())
            }
            (Some(Frame::Ip(Some(packet))), Kind::Imagined)
                if self.oddity == Oddity::Bridged && loss.hook.is_none() =>
            {
                let rules = asked.and_then(|verdicts| verdicts.rules(self.space));
                rules.map_or(Fit::No, |rules| {
                    let walk = rules.at_hook(self.hook, packet);
                    self.fit_of(&walk.losses().map(|e| (self.hook, e.clone())).collect::<Vec<_>>())
                })
            }
            (_, Kind::Imagined) if self.is_of_frames() => {
                let family = self.chain.family;
                asked.map_or(Fit::No, |verdicts| {
                    self.fit_of(&verdicts.of_imagined(self.space, loss, family, &[self.hook]))
                })
            }
            (_, Kind::Imagined) => Fit::No,
            _ if !loss.is_at_stage("netfilter") => Fit::No,
            _ => match loss.event {
                Some(_) => self.fit_of(asked.map(|verdicts| verdicts.of_loss(loss)).unwrap_or(&[])),
                None => Fit::Maybe,
            },
        }
    }

    fn story(self, share: &Share<'_, 'a>) -> Story {
        let list = list_argv(self.chain);
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        let mut story = Story::new(fill_words(self.summary, &[("way", &way_of(Some(direction(self.hook))))]));
        story = match self.dropped.filter(|n| *n > 0) {
            Some(n) => story.evidence(ROSE.fill(&[("n", &n)]), "policy counter", &list),
            None => story.evidence(FALLS.phrase(), "rules", &list),
        };
        if let Oddity::Unexpected(control) = self.oddity {
            story = unexpected::told(&control, story);
        }
        self.fixes(share).into_iter().fold(story, Story::fix)
    }

    /// The fixes, the smallest first: an exception for what suffers, then the policy itself.
    fn fixes(self, share: &Share<'_, 'a>) -> Vec<Fix> {
        match self.oddity {
            Oddity::None => {}
            Oddity::Bridged => return bridged::fixes(self.space, self.chain),
            Oddity::Untracked(at) => return judge::untracked(self.space, (at.chain, at.rule)),
            Oddity::Unexpected(control) => return vec![unexpected::attach(self.space, &control)],
        }
        if let Some(owner) = owned::policy_owner(self.chain) {
            return vec![owned::there(owner)];
        }
        let mut out = vec![];
        let chain = ChainRef::from(self.chain);
        let suffers = match self.is_of_frames() {
            true => vec![],
            false => sufferers(self.space, &[self.hook], share, |endings| self.fit_of(endings) != Fit::No),
        };
        let (neighbours, suffers): (Vec<_>, Vec<_>) =
            suffers.into_iter().partition(|sufferer| sufferer.packet.protocol == ICMPV6);
        let mut accept = exceptions(self.space, self.chain, Refusal::Policy, &suffers);
        if !neighbours.is_empty() {
            accept.extend(neighbour_rule(self.chain).map(Action::RuleInsert));
        }
        if !accept.is_empty() {
            let mut open = fix(self.space, OPEN_PORT.phrase(), accept);
            open.persist = Some(PERSIST.phrase());
            out.push(open);
        }
        let action = Action::ChainPolicy { chain, policy: RuleVerdict::Accept, was: RuleVerdict::Drop };
        let mut all = fix(self.space, OPEN_ALL.phrase(), vec![action]);
        all.caution = Some(OPENS.phrase());
        out.push(all);
        out
    }
}

/// Accepts what IPv6 neighbours say to each other, from whomever: without it nothing else arrives.
fn neighbour_rule(chain: &Chain) -> Option<RuleRef> {
    let text = match chain.tool {
        Tool::Nft => "meta l4proto ipv6-icmp counter accept",
        _ => "-p ipv6-icmp -j ACCEPT",
    };
    let rule = Rule {
        position: u32::try_from(chain.rules.len()).ok()?.checked_add(1)?,
        handle: None,
        packets: None,
        bytes: None,
        verdict: RuleVerdict::Accept,
        matches: vec![Match::L4Proto(ICMPV6)],
        comment: None,
        text: text.into(),
    };
    Some(RuleRef { chain: ChainRef::from(chain), rule, unique: true, gone_before: 0 })
}

/// Kind of what a chain drops by its family alone.
pub const fn family_class(family: Family) -> Option<Class> {
    match family {
        Family::Arp => Some(Class::Arp),
        Family::Bridge => Some(Class::Bridge),
        Family::Netdev => Some(Class::Ingress),
        Family::Ip | Family::Ip6 | Family::Inet => None,
    }
}

fn dropping_chains<'a>(space: Space<'a>) -> impl Iterator<Item = (&'a Chain, Hook)> {
    space
        .after
        .chains()
        .filter(|c| c.policy == Some(RuleVerdict::Drop))
        .filter_map(|c| c.hook.map(|hook| (c, hook)))
}

fn rise(space: Space<'_>, chain: &Chain) -> Option<u64> {
    let now = chain.policy_packets?;
    let old = space.before.chains().find(|c| c.same(chain));
    match Change::of(old.and_then(|c| c.policy_packets), Some(now)) {
        Change::Rose(n) => Some(n),
        Change::Appeared(n) if old.is_none() && was_readable(space, chain) => Some(n),
        Change::Same => Some(0),
        _ => None,
    }
}
