//! The walk against the kernel: random packets through random rule sets of each back end, sent for real through a
//! namespace. Where the walk claims to know, counters and arrival must agree.

#![allow(clippy::print_stdout, reason = "the numbers that it holds are what it is run for")]

mod kernel;
mod packets;
mod random;
mod rulesets;

use kernel::{Count, Net, Seen};
use packets::Sent;
use random::Random;
use rulesets::Backend;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use whydrop_checks::evidence::packet::{Fit, Packet, State};
use whydrop_checks::evidence::walk::{End, Ending, RuleAt, Rules, Walk};
use whydrop_model::Snapshot;
use whydrop_model::netfilter::{Field, Hook, Rule, RuleVerdict};

/// Rule sets for each back end: a few each time, and 5,000 packets' worth in the ignored tests.
const FEW: usize = 8;
const MANY: usize = 50;
/// Packets through each.
const PACKETS: usize = 102;

/// A packet is through the router by then, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the walk says of a packet on its way through the router.
#[derive(Default)]
struct Forecast<'a> {
    /// Rules that it meets and fits, for sure.
    hit: Vec<RuleAt<'a>>,
    /// The way on behind each hook is known.
    sure: bool,
    /// All rules that decide about it are known, too: not so where each of two leads on.
    exact: bool,
    /// Only what depends on other packets is not known.
    only_measured: bool,
    /// How surely it gets through.
    arrives: Option<Fit>,
    local: bool,
    /// It ended at, or was accepted by, a rule that is not the first of its chain.
    behind_the_first: bool,
    /// It was decided behind two jumps, or by a map.
    deep: bool,
    /// What could not be decided.
    open: Vec<String>,
}

impl<'a> Forecast<'a> {
    fn of(rules: &Rules<'a>, snapshot: &Snapshot, sent: &Sent) -> Self {
        let mut forecast =
            Self { sure: true, exact: true, only_measured: true, arrives: Some(Fit::Yes), ..Self::default() };
        let packet = sent.packet();
        let Some(packet) = forecast.pass(rules, Hook::Prerouting, &packet) else { return forecast };
        forecast.local = packet.destination.is_some_and(|ip| snapshot.owns(ip));
        let out = sent.out_interface();
        let packet = match forecast.local {
            true => packet,
            false => Packet { out_interface: Some(out.to_owned()), ..packet },
        };
        let hooks: &[Hook] =
            if forecast.local { &[Hook::Input] } else { &[Hook::Forward, Hook::Postrouting] };
        let mut packet = packet;
        for hook in hooks {
            match forecast.pass(rules, *hook, &packet) {
                Some(next) => packet = next,
                None => return forecast,
            }
        }
        forecast
    }

    /// One hook; the packet behind it if only one thing can become of it there.
    fn pass(&mut self, rules: &Rules<'a>, hook: Hook, packet: &Packet) -> Option<Packet> {
        let walk = rules.at_hook(hook, packet);
        self.exact &= walk.steps.iter().chain(&walk.endings).all(|ending| ending.fit == Fit::Yes);
        for ending in walk.steps.iter().chain(&walk.endings).filter(|ending| ending.fit == Fit::Yes) {
            self.hit.extend(ending.rules());
            self.judge(ending);
        }
        // What the catching chain of the router takes has arrived.
        let caught = walk.losses().any(|ending| ending.base.is_some_and(|base| base.table == kernel::CATCH));
        let passes = if caught && walk.endings.len() == 1 { Fit::Yes } else { walk.passes() };
        let passes = if caught { passes.max(Fit::Maybe) } else { passes };
        self.arrives = self.arrives.map(|fit| fit.min(passes));
        match walk.packets.as_slice() {
            [(Fit::Yes, next)] => return Some(next.clone()),
            _ if walk.endings.iter().any(|ending| ending.fit == Fit::Yes) => return None,
            _ => {}
        }
        self.sure = false;
        for ending in walk.endings().chain(&walk.steps) {
            let open = ending.because.iter().filter(|condition| !condition.asks.is_measured());
            self.open.extend(open.map(|condition| format!("{}: {}", condition.asks, condition.at.rule.text)));
            self.open.extend(matches!(ending.end, End::Unknown(_)).then(|| format!("{:?}", ending.end)));
        }
        self.only_measured = walk.endings().chain(&walk.steps).all(is_measured) && is_whole(&walk);
        if self.arrives != Some(Fit::No) {
            self.arrives = Some(Fit::Maybe);
        }
        None
    }

    fn judge(&mut self, ending: &Ending<'a>) {
        let Some(rule) = ending.rule else { return };
        self.behind_the_first |= rule.rule.position > 1;
        let by_map = ending.rules().any(|at| matches!(at.rule.verdict, RuleVerdict::Map(_)));
        self.deep |= ending.via.len() >= 2 || by_map;
    }
}

/// True if nothing about the ending hangs on what the walk should know.
fn is_measured(ending: &Ending<'_>) -> bool {
    ending.because.iter().all(|condition| condition.asks.is_measured())
}

fn is_whole(walk: &Walk<'_>) -> bool {
    walk.endings().all(|ending| !matches!(ending.end, End::Unknown(_)))
}

#[derive(Debug, Default)]
struct Score {
    packets: usize,
    sure: usize,
    measured: usize,
    behind_the_first: usize,
    deep: usize,
    arrived: usize,
    /// What could not be decided, and how often.
    open: BTreeMap<String, usize>,
}

fn run(backend: Backend, rule_sets: usize) {
    if !whydrop_tests::is_root() {
        panic!("needs root: it builds namespaces");
    }
    let net = Net::build(backend.word());
    let mut random = Random::new(0x5eed_0001 + backend as u64);
    let mut score = Score::default();
    for round in 0..rule_sets {
        let script = rulesets::script(backend, &mut random);
        net.load(backend, &script);
        let snapshot = net.snapshot();
        let rules = Rules::of(&snapshot);
        let translates = snapshot.chains().any(|chain| chain.nat && !chain.rules.is_empty());
        let asks_state = |rule: &Rule| rule.matches.iter().any(|asks| format!("{asks:?}").contains("Ct"));
        let tracks = snapshot.chains().flat_map(|chain| &chain.rules).any(asks_state);
        for _ in 0..PACKETS / 2 {
            let sent = Sent::random(&mut random, &net);
            let arrived = check(&net, &rules, &snapshot, &sent, &mut score, &script, round);
            // What arrived as it was sent may be answered. That something arrived is not enough: it may have been the packet
            // before, if the walk did not know whether it would, and nobody waited for it.
            let tracked = || !tracks || net.tracks(&sent);
            let answer = sent.answer(&mut random, &net).filter(|_| arrived && !translates && tracked());
            let next = answer.unwrap_or_else(|| Sent::random(&mut random, &net));
            check(&net, &rules, &snapshot, &next, &mut score, &script, round);
        }
    }
    let share = |n: usize, of: usize| n as f64 / of.max(1) as f64;
    assert!(score.packets >= rule_sets * 100, "{score:?}");
    let decided = share(score.sure, score.packets - score.measured);
    println!(
        "{}: {} packets, none disagreed; decided {:.2} % ({} hang on what is measured); not at the first rule {:.1} %, \
         behind two jumps or a map {:.1} %; arrived {:.1} %",
        backend.word(),
        score.packets,
        100.0 * decided,
        score.measured,
        100.0 * share(score.behind_the_first, score.packets),
        100.0 * share(score.deep, score.packets),
        100.0 * share(score.arrived, score.packets),
    );
    assert!(decided >= 0.98, "decided {decided:.3}: {score:?}");
    // A handful of rule sets is no mixture.
    if rule_sets >= MANY {
        assert!(share(score.behind_the_first, score.packets) >= 1.0 / 3.0, "{score:?}");
        assert!(share(score.deep, score.packets) >= 0.1, "{score:?}");
        // Neither all nor nothing gets through.
        assert!((0.1..0.9).contains(&share(score.arrived, score.packets)), "{score:?}");
    }
}

/// Sends a packet and compares; true if it arrived.
fn check(
    net: &Net,
    rules: &Rules<'_>,
    snapshot: &Snapshot,
    sent: &Sent,
    score: &mut Score,
    script: &str,
    round: usize,
) -> bool {
    let forecast = Forecast::of(rules, snapshot, sent);
    let before = net.send(sent);
    let deadline = Instant::now() + PATIENCE;
    // A packet may still be on its way when it was seen first.
    let seen = loop {
        let seen = net.look(sent, &before);
        let Some(odd) = disagreement(&forecast, snapshot, &seen) else { break seen };
        if Instant::now() > deadline {
            let hit: Vec<String> = forecast.hit.iter().map(|at| format!("{at}: {}", at.rule.text)).collect();
            let Forecast { sure, arrives, .. } = forecast;
            panic!(
                "{odd}\nround {round}\n{script}\n{sent:?}\n{:?}\nhit {hit:#?}\nsure {sure} arrives {arrives:?}\n{seen:?}",
                sent.packet()
            );
        }
    };
    score.packets += 1;
    for open in forecast.open {
        *score.open.entry(open).or_insert(0) += 1;
    }
    score.sure += usize::from(forecast.sure);
    score.measured += usize::from(!forecast.sure && forecast.only_measured);
    score.behind_the_first += usize::from(forecast.behind_the_first);
    score.deep += usize::from(forecast.deep);
    score.arrived += usize::from(seen.arrived);
    seen.arrived
}

/// What the kernel did otherwise than the walk said.
fn disagreement(forecast: &Forecast<'_>, snapshot: &Snapshot, seen: &Seen) -> Option<String> {
    match forecast.arrives {
        _ if !seen.came => return Some("it never came".to_owned()),
        Some(Fit::Yes) if !seen.arrived => return Some("it was to arrive".to_owned()),
        Some(Fit::No) if seen.arrived => return Some("it was not to arrive".to_owned()),
        _ => {}
    }
    let expected: BTreeSet<Count> = forecast.hit.iter().map(Count::of).collect();
    let mut counting = forecast.hit.iter().filter(|at| at.rule.packets.is_some());
    if let Some(at) = counting.find(|at| !seen.rose.contains(&Count::of(at))) {
        return Some(format!("not met: {at}: {}", at.rule.text));
    }
    // A jump that came back is no part of how the packet ended.
    let decides = |verdict: &RuleVerdict| {
        let (accepts, drops) = (RuleVerdict::Accept, RuleVerdict::Drop);
        *verdict == accepts
            || *verdict == drops
            || matches!(verdict, RuleVerdict::Reject | RuleVerdict::Nat(_))
    };
    let chains = snapshot.chains().filter(|chain| forecast.exact && chain.table != kernel::CATCH);
    let mut deciding = chains
        .flat_map(|chain| chain.rules.iter().map(move |rule| RuleAt { chain, rule }))
        .filter(|at| decides(&at.rule.verdict) && seen.rose.contains(&Count::of(at)));
    let odd = deciding.find(|at| !expected.contains(&Count::of(at)))?;
    Some(format!("met: {odd}: {}", odd.rule.text))
}

/// A packet's state and what else is set where it comes in.
fn known(packet: Packet, state: State) -> Packet {
    Packet { state: Some(state), ..packet }
        .with(Field::Mark, 0)
        .with(Field::FragmentOffset, 0)
        .with(Field::PacketType, 0)
}

#[test]
fn nftables_agrees() {
    run(Backend::Nft, FEW);
}

#[test]
fn iptables_over_nf_tables_agrees() {
    run(Backend::IptablesNft, FEW);
}

#[test]
fn legacy_iptables_agrees() {
    run(Backend::IptablesLegacy, FEW);
}

#[test]
#[ignore = "minutes: cargo test -p whydrop-tests --test walk_differential -- --ignored"]
fn nftables_agrees_about_many() {
    run(Backend::Nft, MANY);
}

#[test]
#[ignore = "minutes: cargo test -p whydrop-tests --test walk_differential -- --ignored"]
fn iptables_over_nf_tables_agrees_about_many() {
    run(Backend::IptablesNft, MANY);
}

#[test]
#[ignore = "minutes: cargo test -p whydrop-tests --test walk_differential -- --ignored"]
fn legacy_iptables_agrees_about_many() {
    run(Backend::IptablesLegacy, MANY);
}
