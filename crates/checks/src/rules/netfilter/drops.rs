//! Which rules dropped in the window, how many packets, and of which kind each rule is.

use super::silent::{dropped_packet, sampled};
use crate::case::Space;
use crate::packet::{Fit, Packet, ends_at_rule, is_unread_map};
use std::collections::{BTreeMap, VecDeque};
use whydrop_facts::place;
use whydrop_model::delta::Change;
use whydrop_model::netfilter::{Chain, Family, Hook, Match, Rule, RuleVerdict, Tool};
use whydrop_model::snapshot::{Protocol, Socket};
use whydrop_model::{Direction, DropEvent};

/// The reason that the kernel gives for every netfilter drop; those before 5.17 give none.
pub const REASON: &str = "NETFILTER_DROP";

/// Places where netfilter drops admit this cause, whatever the hook and the family, as long as no stack is asked.
pub const AT_NETFILTER: &str = "netfilter.drop_rule";

/// Jumps deeper than this are taken for a loop; the kernel's own limit is 16 for nftables.
const MAX_JUMPS: usize = 16;

/// First port of the default range of `net.ipv4.ip_local_port_range`.
pub const FIRST_EPHEMERAL_PORT: u16 = 32768;

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
}

impl Class {
    /// The cause that it is.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Drop => super::drop_rule::CAUSE.id,
            Self::Reject => super::reject_rule::CAUSE.id,
            Self::RateLimit => super::rate_limit::CAUSE.id,
            Self::Connlimit => super::connlimit::CAUSE.id,
            Self::Quota => super::quota::CAUSE.id,
            Self::Invalid => super::invalid_drop::CAUSE.id,
            Self::Ingress => super::ingress_drop::CAUSE.id,
            Self::Arp => super::arp_drop::CAUSE.id,
            Self::Bridge => super::bridge_drop::CAUSE.id,
        }
    }
}

/// A rule that can drop.
#[derive(Clone)]
pub struct Dropping<'a> {
    /// Its chain.
    pub chain: &'a Chain,
    /// The rule.
    pub rule: &'a Rule,
    /// Its kind.
    pub class: Class,
    /// Hooks from which its chain is reached.
    pub hooks: Vec<Hook>,
    /// Packets dropped in the window; none if the rule does not count or could not be read twice.
    pub dropped: Option<u64>,
}

/// All rules of a namespace that can drop, in the order of their chains.
pub fn droppers<'a>(space: Space<'a>) -> Vec<Dropping<'a>> {
    let chains: Vec<&Chain> = space.after.chains().collect();
    let mut out = vec![];
    for chain in &chains {
        let hooks = hooks_of(&chains, chain, 0);
        let gates: Vec<_> =
            chain.rules.iter().filter_map(|r| limits_below(r).map(|class| (r, class))).collect();
        let mut twins = Twins::of(space, chain);
        for rule in &chain.rules {
            let rise = twins.rise(rule);
            let chooses = chooses_verdict(rule);
            if chooses || matches!(rule.verdict, RuleVerdict::Drop | RuleVerdict::Reject) {
                let class = classify(space, chain, &hooks, rule, &gates);
                let dropped = rise.filter(|_| !chooses);
                out.push(Dropping { chain, rule, class, hooks: hooks.clone(), dropped });
            }
        }
    }
    out
}

/// True for a verdict map with entries that may drop: a counter before it counts what the others took, too.
fn chooses_verdict(rule: &Rule) -> bool {
    let drops = |(_, verdict): &(Match, RuleVerdict)| matches!(verdict, RuleVerdict::Drop);
    match &rule.verdict {
        RuleVerdict::Map(entries) => entries.iter().any(drops),
        verdict => is_unread_map(verdict),
    }
}

/// Packets that counting rules took in the window, at one hook or at all of them.
pub fn counted(droppers: &[Dropping<'_>], hook: Option<Hook>) -> u64 {
    droppers
        .iter()
        .filter(|d| hook.is_none_or(|hook| d.hooks.contains(&hook)))
        .filter_map(|d| d.dropped)
        .sum()
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

    /// True if all packets that it was seen to drop came from outside for local ports that no socket has.
    pub fn took_only_unwanted(&self, space: Space<'_>) -> bool {
        let local =
            self.hooks.iter().all(|hook| matches!(hook, Hook::Input | Hook::Prerouting | Hook::Ingress));
        let mut chains = space.after.chains().flat_map(|chain| &chain.rules);
        // Behind a translated address somebody else may wait.
        let translates =
            chains.any(|rule| matches!(&rule.verdict, RuleVerdict::Other(name) if name != "vmap"));
        let taken: Vec<Packet> = sampled(space, &self.hooks).collect();
        let mine = taken.iter().filter(|p| self.best_fit(space, std::slice::from_ref(p)) != Fit::No);
        let mut mine = mine.peekable();
        local && !translates && mine.peek().is_some() && mine.all(|packet| is_unwanted(space, packet))
    }

    /// Numbers of the probes whose packets can meet it.
    pub fn touches(&self, space: Space<'_>) -> Vec<usize> {
        if matches!(self.class, Class::Arp | Class::Bridge | Class::Ingress) {
            return space.probes_through();
        }
        let meets = |index: usize| self.fit_of_probe(space, index) != Fit::No;
        (0..space.case.ways.len()).filter(|i| meets(*i)).collect()
    }

    /// How well the packets of a probe fit.
    pub fn fit_of_probe(&self, space: Space<'_>, index: usize) -> Fit {
        let Some(way) = space.case.ways.get(index) else { return Fit::No };
        let packets = self.hooks.iter().flat_map(|hook| way.packets_at(space, *hook));
        self.best_fit(space, &packets.collect::<Vec<_>>())
    }

    /// False if the rule certainly lets this dropped packet pass.
    pub fn can_take(&self, space: Space<'_>, event: &DropEvent) -> bool {
        let packet = dropped_packet(space, event);
        packet.is_none_or(|(_, packet)| self.best_fit(space, std::slice::from_ref(&packet)) != Fit::No)
    }

    /// The best fit among packets.
    pub fn best_fit(&self, space: Space<'_>, packets: &[Packet]) -> Fit {
        let chains: Vec<&Chain> = space.after.chains().collect();
        let in_family = |packet: &&Packet| speaks(self.chain.family, packet);
        let fits = packets.iter().filter(in_family).map(|p| ends_at_rule(&chains, self.chain, self.rule, p));
        fits.max().unwrap_or(Fit::No)
    }
}

/// True if a chain of this family sees the packet.
pub fn speaks(family: Family, packet: &Packet) -> bool {
    let v6 = packet.destination.or(packet.source).map(|ip| ip.is_ipv6());
    match family {
        Family::Ip => v6 != Some(true),
        Family::Ip6 => v6 != Some(false),
        Family::Inet | Family::Bridge | Family::Netdev => true,
        Family::Arp => false,
    }
}

/// Netfilter drops that the kernel reported, of packets that go the way of one of these hooks.
pub fn events(space: Space<'_>, hooks: &[Hook]) -> u64 {
    let goes = |way: Direction| {
        hooks.iter().any(|hook| match hook {
            Hook::Postrouting | Hook::Egress => way != Direction::Receive,
            hook => way == direction(*hook),
        })
    };
    let here = space.drop_counts().filter(|count| place::of_count(count).cause == Some(AT_NETFILTER));
    here.filter(|count| hooks.is_empty() || count.direction.is_none_or(goes)).map(|count| count.drops).sum()
}

/// Direction of the packets that meet a hook.
pub const fn direction(hook: Hook) -> Direction {
    match hook {
        Hook::Prerouting | Hook::Input | Hook::Ingress => Direction::Receive,
        Hook::Forward => Direction::Forward,
        Hook::Output | Hook::Postrouting | Hook::Egress => Direction::Transmit,
    }
}

/// Hooks from which a chain is reached, its own first.
pub fn hooks_of(chains: &[&Chain], chain: &Chain, depth: usize) -> Vec<Hook> {
    if let Some(hook) = chain.hook {
        return vec![hook];
    }
    let mut hooks = vec![];
    if depth > MAX_JUMPS {
        return hooks;
    }
    let named =
        |v: &RuleVerdict| matches!(v, RuleVerdict::Jump(n) | RuleVerdict::Goto(n) if *n == chain.name);
    let calls = |rule: &Rule| verdicts(&rule.verdict).any(named);
    let callers = chains.iter().filter(|c| {
        (c.tool, c.family) == (chain.tool, chain.family)
            && c.table == chain.table
            && c.rules.iter().any(calls)
    });
    for caller in callers {
        for hook in hooks_of(chains, caller, depth + 1) {
            if !hooks.contains(&hook) {
                hooks.push(hook);
            }
        }
    }
    hooks
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
    let only_invalid = |m: &Match| matches!(m, Match::CtState(states) if !states.is_empty() && states.iter().all(|s| s.eq_ignore_ascii_case("INVALID")));
    match chain.family {
        Family::Arp => Class::Arp,
        Family::Bridge => Class::Bridge,
        Family::Netdev => Class::Ingress,
        Family::Ip | Family::Ip6 | Family::Inet => match own.or_else(|| gate(space, hooks, rule, gates)) {
            Some(class) => class,
            None if rule.verdict == RuleVerdict::Reject => Class::Reject,
            None if dropped_by(rule).any(only_invalid) => Class::Invalid,
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
    let hurt = |hook: &Hook| {
        let troubled = space.case.ways.iter().filter(|way| way.troubled());
        troubled.flat_map(|way| way.packets_at(space, *hook)).any(|packet| packet.fits(&bare) == Fit::Yes)
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

/// True for a packet that would open something on a port of this namespace that no socket has. Ports from which
/// answers are awaited come and go too fast to tell.
fn is_unwanted(space: Space<'_>, packet: &Packet) -> bool {
    let Some(port) = packet.destination_port else { return false };
    let protocol = match packet.protocol {
        6 if !packet.reply => Protocol::Tcp,
        17 if port < FIRST_EPHEMERAL_PORT => Protocol::Udp,
        _ => return false,
    };
    let open = |s: &Socket| s.protocol == protocol && s.local.port() == port;
    space.after.sockets.is_present()
        && !space.after.sockets.iter().chain(space.before.sockets.iter()).any(open)
}
