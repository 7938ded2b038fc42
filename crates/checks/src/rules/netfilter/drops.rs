//! Which rules can drop, how many packets they counted in the window, and of which kind each rule is.

use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::verdicts::{self, Oddity};
use crate::evidence::walk::{Ending, is_unread_map};
use crate::loss::missing::Frame;
use crate::loss::{Kind, Loss};
use std::collections::{BTreeMap, VecDeque};
use whydrop_model::Direction;
use whydrop_model::delta::Change;
use whydrop_model::netfilter::{Chain, Family, Hook, Match, Rule, RuleVerdict, Tool};

/// Jumps deeper than this are taken for a loop; the kernel's own limit is 16 for nftables.
const MAX_JUMPS: usize = 16;

/// Kinds of dropping rules; each is a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Plain DROP.
    Drop,
    /// REJECT.
    Reject,
    /// Above a rate.
    RateLimit,
    /// Above a number of connections.
    Connlimit,
    /// Quota used up.
    Quota,
    /// ctstate INVALID.
    Invalid,
    /// netdev hook.
    Ingress,
    /// ARP table.
    Arp,
    /// Bridge family.
    Bridge,
    /// What it drops is bridged, and was sent into the IP firewall.
    Bridged,
    /// What it drops was not tracked, and would pass if it were.
    Untracked,
    /// What it drops is a second flow that a helper would expect.
    Unexpected,
}

/// A rule that can drop.
#[derive(Clone)]
pub struct Dropping<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// The rule to change: itself, or the jump that leads to it with the condition that decides.
    pub at: (&'a Chain, &'a Rule),
    /// The rule itself with its chain.
    pub ends_at: (&'a Chain, &'a Rule),
    /// Its kind.
    pub class: Class,
    /// Hooks from which its chain is reached.
    pub hooks: Vec<Hook>,
    /// Packets dropped in the window; none if the rule does not count or could not be read twice.
    pub dropped: Option<u64>,
    /// Why packets meet it.
    pub oddity: Oddity<'a>,
}

/// All rules of a namespace that can drop, in the order of their chains.
pub fn droppers<'a>(space: Space<'a>) -> Vec<Dropping<'a>> {
    let chains: Vec<&'a Chain> = space.after.chains().collect();
    let callers = Callers::of(&chains);
    let mut out = vec![];
    for chain in chains.iter().copied() {
        let hooks = callers.hooks_of(chain, 0);
        let gates: Vec<_> =
            chain.rules.iter().filter_map(|r| limits_below(r).map(|class| (r, class))).collect();
        let gate = callers.gate_of(chain);
        let mut twins = Twins::of(space, chain);
        for rule in &chain.rules {
            let rise = twins.rise(rule);
            let chooses = chooses_verdict(rule);
            if chooses || matches!(rule.verdict, RuleVerdict::Drop | RuleVerdict::Reject) {
                let own = classify(space, chain, &hooks, rule, &gates);
                let plain = matches!(own, Class::Drop | Class::Reject);
                let ends = |ending: &Ending<'a>| ending.rules().any(|at| std::ptr::eq(at.rule, rule));
                let oddity = odd(space, ends);
                let (class, at) = match (gate.filter(|_| plain), oddity) {
                    (_, Oddity::Bridged) => (Class::Bridged, (chain, rule)),
                    (_, Oddity::Untracked(at)) => (Class::Untracked, (at.chain, at.rule)),
                    (_, Oddity::Unexpected(_)) => (Class::Unexpected, (chain, rule)),
                    (Some((class, at)), Oddity::None) => (class, at),
                    (None, Oddity::None) => (own, (chain, rule)),
                };
                let dropped = rise.filter(|_| !chooses);
                let (hooks, ends_at) = (hooks.clone(), (chain, rule));
                out.push(Dropping { rule, at, ends_at, class, hooks, dropped, oddity });
            }
        }
    }
    out
}

/// Why packets end at something of this namespace, if not for its own sake.
pub fn odd<'a>(space: Space<'a>, ends: impl Fn(&Ending<'a>) -> bool) -> Oddity<'a> {
    space.case.verdicts.map_or(Oddity::None, |verdicts| verdicts.oddity(space, ends))
}

/// Tool, family, table and name of a chain.
type ChainName<'a> = (Tool, Family, &'a str, &'a str);

/// Who jumps to which chain.
struct Callers<'a> {
    of: BTreeMap<ChainName<'a>, Vec<(&'a Chain, &'a Rule)>>,
}

impl<'a> Callers<'a> {
    fn of(chains: &[&'a Chain]) -> Self {
        let mut of: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for chain in chains {
            for rule in &chain.rules {
                for verdict in verdicts(&rule.verdict) {
                    if let RuleVerdict::Jump(name) | RuleVerdict::Goto(name) = verdict {
                        let key = (chain.tool, chain.family, chain.table.as_str(), name.as_str());
                        of.entry(key).or_default().push((*chain, rule));
                    }
                }
            }
        }
        Self { of }
    }

    fn to(&self, chain: &'a Chain) -> &[(&'a Chain, &'a Rule)] {
        let key = (chain.tool, chain.family, chain.table.as_str(), chain.name.as_str());
        self.of.get(&key).map(Vec::as_slice).unwrap_or(&[])
    }

    /// Hooks from which a chain is reached.
    fn hooks_of(&self, chain: &'a Chain, depth: usize) -> Vec<Hook> {
        if let Some(hook) = chain.hook {
            return vec![hook];
        }
        let mut hooks = vec![];
        for (caller, _) in self.to(chain).iter().filter(|_| depth <= MAX_JUMPS) {
            for hook in self.hooks_of(caller, depth + 1) {
                if !hooks.contains(&hook) {
                    hooks.push(hook);
                }
            }
        }
        hooks
    }

    /// The limit in the jumps that lead to a chain, if each of them has one: what drops there drops because of it.
    fn gate_of(&self, chain: &'a Chain) -> Option<(Class, (&'a Chain, &'a Rule))> {
        let limit = |rule: &Rule| rule.matches.iter().find_map(|m| kind_of(m, true));
        let callers = self.to(chain);
        let first = callers.first()?;
        callers.iter().all(|(_, rule)| limit(rule).is_some()).then_some((limit(first.1)?, *first))
    }
}

/// True for a verdict map with entries that may drop: a counter before it counts what the others took, too.
fn chooses_verdict(rule: &Rule) -> bool {
    let drops = |(_, verdict): &(Match, RuleVerdict)| matches!(verdict, RuleVerdict::Drop);
    match &rule.verdict {
        RuleVerdict::Map(entries) => entries.iter().any(drops),
        verdict => is_unread_map(verdict),
    }
}

impl Dropping<'_> {
    /// Direction of the packets that it drops.
    pub fn direction(&self) -> Option<Direction> {
        self.hooks.first().map(|hook| direction(*hook))
    }

    /// Stage id.
    pub fn stage(&self) -> String {
        format!("netfilter.{}", self.hooks.first().map_or("chain", |hook| hook.word()))
    }

    /// How it fits a packet that died in netfilter, or that never came and is asked for.
    pub fn fit(&self, space: Space<'_>, loss: &Loss<'_>) -> Fit {
        if !loss.is_in(space) {
            return Fit::No;
        }
        if loss.kind == Kind::Imagined {
            return self.fit_of_imagined(space, loss);
        }
        if !loss.is_at_stage("netfilter") {
            return Fit::No;
        }
        let endings = space.case.verdicts.map(|verdicts| verdicts.of_loss(loss)).unwrap_or(&[]);
        match loss.event {
            Some(_) => verdicts::fit_of_rule(endings, self.rule),
            // Of a packet that nobody kept the direction may tell.
            None => match loss.count.and_then(|count| count.direction) {
                Some(way) if !self.hooks.iter().any(|hook| meets(*hook, way)) => Fit::No,
                _ => Fit::Maybe,
            },
        }
    }

    fn fit_of_imagined(&self, space: Space<'_>, loss: &Loss<'_>) -> Fit {
        let device = self.class == Class::Ingress;
        if matches!(self.class, Class::Arp | Class::Bridge) {
            let family = self.ends_at.0.family;
            let fit = space.case.verdicts.map_or(Fit::No, |verdicts| {
                verdicts::fit_of_rule(&verdicts.of_imagined(space, loss, family, &self.hooks), self.rule)
            });
            let unknown = self.class == Class::Bridge && matches!(loss.frame, Some(Frame::Ip(None)));
            let least = if unknown { Fit::Maybe } else { Fit::No };
            return fit.max(least);
        }
        match &loss.frame {
            Some(Frame::Arp { .. }) if device => Fit::Maybe,
            Some(Frame::Ip(Some(packet))) if self.class == Class::Bridged => {
                let rules = space.case.verdicts.and_then(|verdicts| verdicts.rules(space));
                rules.map_or(Fit::No, |rules| {
                    let walk = rules.at_hook(Hook::Forward, packet);
                    let endings: Vec<_> = walk.losses().map(|e| (Hook::Forward, e.clone())).collect();
                    verdicts::fit_of_rule(&endings, self.rule)
                })
            }
            Some(Frame::Ip(Some(packet))) => {
                let hooks = loss.hook.filter(|hook| self.hooks.contains(hook));
                let rules = space.case.verdicts.and_then(|verdicts| verdicts.rules(space));
                match (hooks, rules) {
                    (Some(hook), Some(rules)) => {
                        let walk = rules.at_hook(hook, packet);
                        let endings: Vec<_> = walk.losses().map(|ending| (hook, ending.clone())).collect();
                        verdicts::fit_of_rule(&endings, self.rule)
                    }
                    (None, _) if device && loss.hook.is_none() => Fit::Maybe,
                    _ => Fit::No,
                }
            }
            Some(Frame::Ip(None)) if device => Fit::Maybe,
            _ => Fit::No,
        }
    }

    /// How it fits what ails a flow.
    pub fn fit_of_flow(&self, space: Space<'_>, flow: &Flow<'_>) -> Fit {
        match self.class {
            // Who gets no answer to ARP misses that first.
            Class::Arp => Fit::No,
            _ => {
                let endings = space.case.verdicts.map(|verdicts| verdicts.of_flow(space, flow.id));
                verdicts::fit_of_rule(endings.unwrap_or(&[]), self.rule)
            }
        }
    }

    /// True if something that was lost, or that somebody misses, ends at it.
    pub fn is_met(&self, space: Space<'_>) -> bool {
        let ends =
            |(_, ending): &verdicts::At<'_>| ending.rule.is_some_and(|at| std::ptr::eq(at.rule, self.rule));
        space.case.verdicts.is_some_and(|verdicts| verdicts.here(space).any(ends))
    }
}

/// True if packets that go this way can meet the hook.
fn meets(hook: Hook, way: Direction) -> bool {
    match hook {
        Hook::Postrouting | Hook::Egress => way != Direction::Receive,
        Hook::Prerouting | Hook::Ingress => way != Direction::Transmit,
        hook => way == direction(hook),
    }
}

/// Direction of the packets that meet a hook.
pub const fn direction(hook: Hook) -> Direction {
    match hook {
        Hook::Prerouting | Hook::Input | Hook::Ingress => Direction::Receive,
        Hook::Forward => Direction::Forward,
        Hook::Output | Hook::Postrouting | Hook::Egress => Direction::Transmit,
    }
}

/// The verdicts that a rule may come to.
fn verdicts(verdict: &RuleVerdict) -> impl Iterator<Item = &RuleVerdict> {
    let (one, map): (_, &[(Match, RuleVerdict)]) = match verdict {
        RuleVerdict::Map(entries) => (None, entries),
        verdict => (Some(verdict), &[]),
    };
    one.into_iter().chain(map.iter().map(|(_, verdict)| verdict))
}

/// Conditions of what a rule drops.
fn dropped_by(rule: &Rule) -> impl Iterator<Item = &Match> {
    let map: &[(Match, RuleVerdict)] = match &rule.verdict {
        RuleVerdict::Map(entries) => entries,
        _ => &[],
    };
    let drops = map.iter().filter(|(_, verdict)| *verdict == RuleVerdict::Drop);
    rule.matches.iter().chain(drops.map(|(key, _)| key))
}

fn classify(space: Space<'_>, chain: &Chain, hooks: &[Hook], rule: &Rule, gates: &[(&Rule, Class)]) -> Class {
    let own = rule.matches.iter().find_map(|m| kind_of(m, true));
    match chain.family {
        Family::Arp => Class::Arp,
        Family::Bridge => Class::Bridge,
        Family::Netdev => Class::Ingress,
        Family::Ip | Family::Ip6 | Family::Inet => match own.or_else(|| gate(space, hooks, rule, gates)) {
            Some(class) => class,
            None if rule.verdict == RuleVerdict::Reject => Class::Reject,
            None if dropped_by(rule).any(Match::is_only_invalid) => Class::Invalid,
            None => Class::Drop,
        },
    }
}

/// The kind of a limiting condition; `over` asks for those that match what exceeds, else for those that match what
/// stays below.
fn kind_of(condition: &Match, wanted: bool) -> Option<Class> {
    match condition {
        Match::Limit { over, .. } if *over == wanted => Some(Class::RateLimit),
        Match::Connlimit { over, .. } if *over == wanted => Some(Class::Connlimit),
        Match::Quota { over, .. } if *over == wanted => Some(Class::Quota),
        // A rule that drops by it means what exceeds, and one that lets pass what stays below.
        Match::Named { quota: true, .. } => Some(Class::Quota),
        Match::Named { .. } => Some(Class::RateLimit),
        Match::Recent { .. } if wanted => Some(Class::RateLimit),
        _ => None,
    }
}

/// The idiom "let a share pass, drop the rest": an earlier rule of the chain lets pass what stays below a limit, and
/// this one takes the same packets above it.
fn gate(space: Space<'_>, hooks: &[Hook], rule: &Rule, gates: &[(&Rule, Class)]) -> Option<Class> {
    let earlier = gates.iter().take_while(|(gate, _)| gate.position < rule.position);
    earlier
        .filter(|(gate, _)| leaves_rest_to(space, hooks, gate, &rule.matches))
        .last()
        .map(|(_, class)| *class)
}

/// The limit below which a rule lets packets pass.
pub fn limits_below(rule: &Rule) -> Option<Class> {
    matches!(rule.verdict, RuleVerdict::Accept | RuleVerdict::Return)
        .then(|| rule.matches.iter().find_map(|m| kind_of(m, false)))
        .flatten()
}

/// True if what exceeds the gate's limit falls to a rule (or, without conditions, a policy) behind it. Where that
/// rule takes other packets too, only a troubled probe that fits the gate shows that it is the limit that hurts.
pub fn leaves_rest_to(space: Space<'_>, hooks: &[Hook], gate: &Rule, conditions: &[Match]) -> bool {
    let gated: Vec<&Match> = gate.matches.iter().filter(|m| kind_of(m, false).is_none()).collect();
    if gated.iter().all(|m| conditions.contains(m)) {
        return true;
    }
    let contained = conditions.iter().all(|m| gated.contains(&m));
    let bare = Rule { matches: gated.into_iter().cloned().collect(), ..gate.clone() };
    let Some(rules) = space.case.verdicts.and_then(|verdicts| verdicts.rules(space)) else { return false };
    let hurt = |hook: &Hook| {
        let troubled = space.case.flows.iter().filter(|flow| flow.suffers());
        troubled
            .flat_map(|flow| flow.packets_at(space, *hook))
            .any(|packet| rules.fits(&bare, &packet) == Fit::Yes)
    };
    contained && hooks.iter().any(hurt)
}

/// The rules of a chain as they stood at the start of the window, found again by handle, or where the back end has
/// none, by text and occurrence.
struct Twins<'a> {
    by_handle: BTreeMap<u64, &'a Rule>,
    by_text: BTreeMap<&'a str, VecDeque<&'a Rule>>,
    readable: bool,
}

impl<'a> Twins<'a> {
    fn of(space: Space<'a>, chain: &Chain) -> Self {
        let mut twins = Self {
            by_handle: BTreeMap::new(),
            by_text: BTreeMap::new(),
            readable: was_readable(space, chain),
        };
        for rule in space.before.chains().find(|c| c.same(chain)).into_iter().flat_map(|c| &c.rules) {
            match rule.handle {
                Some(handle) => drop(twins.by_handle.insert(handle, rule)),
                None => twins.by_text.entry(&rule.text).or_default().push_back(rule),
            }
        }
        twins
    }

    /// Rise of a rule's counter in the window; to be asked in the order of the chain. A rule that appeared in the
    /// window counted everything in it.
    fn rise(&mut self, rule: &Rule) -> Option<u64> {
        let twin = match rule.handle {
            Some(handle) => self.by_handle.get(&handle).copied(),
            None => self.by_text.get_mut(rule.text.as_str()).and_then(VecDeque::pop_front),
        };
        let now = rule.packets?;
        if twin.is_none() && !self.readable {
            return None;
        }
        match Change::of(twin.and_then(|r| r.packets), Some(now)) {
            Change::Rose(n) | Change::Appeared(n) => Some(n),
            _ => Some(0),
        }
    }
}

/// True if the back end of a chain was read at the start of the window, so that a missing chain was truly not there.
pub fn was_readable(space: Space<'_>, chain: &Chain) -> bool {
    let before = space.before;
    let reading = match chain.tool {
        Tool::Nft | Tool::IptablesNft | Tool::Ip6tablesNft => &before.nftables,
        Tool::IptablesLegacy => &before.iptables_legacy,
        Tool::Ip6tablesLegacy => &before.ip6tables_legacy,
    };
    !reading.is_hidden()
}
