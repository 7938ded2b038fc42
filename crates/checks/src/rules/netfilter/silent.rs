//! Rules without counter: which of them took the packets that no counter explains.

use super::drops::{AT_NETFILTER, Dropping, FIRST_EPHEMERAL_PORT, counted, droppers};
use super::policy;
use crate::case::Space;
use crate::packet::{Fit, Packet};
use std::collections::BTreeMap;
use whydrop_facts::place;
use whydrop_model::DropEvent;
use whydrop_model::netfilter::{Hook, Rule};

/// Kinds of sampled packets that are asked for their rule; traffic has few.
const MOST_KINDS: usize = 64;

/// A rule without counter that must have dropped.
pub struct Silent<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// Drops that no counter explains; none if only probes tell.
    pub events: Option<u64>,
    /// How well it fits what was dropped.
    pub fit: Fit,
}

/// Finds the rules without counter that explain netfilter drops which no counting rule and no policy counter explains.
/// Where packets were sampled, each names the rule that takes it; else it is the first rule that certainly takes the
/// packets that were lost, or the first that may.
pub fn silent<'a>(space: Space<'a>, all: &[Dropping<'a>]) -> Vec<Silent<'a>> {
    let Some(events) = unaccounted(space, all) else { return vec![] };
    let shares = events.map_or_else(BTreeMap::new, |events| share_out(space, all, events));
    if shares.is_empty() {
        return only_silent(space, all, events).into_iter().collect();
    }
    let silent = |(index, (events, fit)): (usize, (u64, Fit))| {
        all.get(index).map(|d| Silent { rule: d.rule, events: Some(events), fit })
    };
    shares.into_iter().filter_map(silent).collect()
}

/// The rule without counter that fits best what was lost.
fn only_silent<'a>(space: Space<'a>, all: &[Dropping<'a>], events: Option<u64>) -> Option<Silent<'a>> {
    let fits = uncounted(all).map(|(_, d)| (d, fit_of_lost(space, d)));
    let (dropping, fit) = fits.reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    let policy_takes_it = fit == Fit::Maybe && policy::takes_lost_for_sure(space);
    (fit != Fit::No && !policy_takes_it).then_some(Silent { rule: dropping.rule, events, fit })
}

/// Rules without counter at a known hook, with their indices.
fn uncounted<'d, 'a>(all: &'d [Dropping<'a>]) -> impl Iterator<Item = (usize, &'d Dropping<'a>)> {
    all.iter().enumerate().filter(|(_, d)| d.dropped.is_none() && !d.hooks.is_empty())
}

/// Shares drops that no counter explains among the rules without counter, by the packets that were sampled: by index
/// the events and how well the packets fit.
fn share_out(space: Space<'_>, all: &[Dropping<'_>], events: u64) -> BTreeMap<usize, (u64, Fit)> {
    let mut kinds: Vec<(Sampled, u64)> = vec![];
    for sampled in sampled_drops(space) {
        if let Some((_, n)) = kinds.iter_mut().find(|(kind, _)| *kind == sampled) {
            *n += 1;
        } else if kinds.len() < MOST_KINDS {
            kinds.push((sampled, 1));
        }
    }
    let mut votes: BTreeMap<usize, (u64, Fit)> = BTreeMap::new();
    for (kind, n) in kinds {
        let fit = |d: &Dropping<'_>| match d.hooks.iter().any(|hook| kind.hooks.contains(hook)) {
            true => d.best_fit(space, std::slice::from_ref(&kind.packet)),
            false => Fit::No,
        };
        let counted = all.iter().filter(|d| d.dropped.is_some_and(|n| n > 0)).any(|d| fit(d) == Fit::Yes);
        let by_policy = || kind.hooks.iter().any(|hook| policy::takes_for_sure(space, *hook, &kind.packet));
        let fits = uncounted(all).map(|(index, d)| (index, fit(d))).filter(|(_, fit)| *fit != Fit::No);
        let best = fits.reduce(|best, next| if next.1 > best.1 { next } else { best });
        let Some((index, fit)) = best.filter(|(_, fit)| *fit == Fit::Yes || !(counted || by_policy())) else {
            continue;
        };
        let vote = votes.entry(index).or_insert((0, fit));
        *vote = (vote.0 + n, vote.1.max(fit));
    }
    let total: u64 = votes.values().map(|(n, _)| n).sum();
    let mut left = events.min(if all_sampled(space) { total } else { events });
    let shared = left;
    let last = votes.len();
    for (i, (n, _)) in votes.values_mut().enumerate() {
        // In a storm only some packets are sampled: their proportion holds for the rest.
        let share = u128::from(shared) * u128::from(*n) / u128::from(total.max(1));
        *n = if i + 1 == last { left } else { (share as u64).min(left) };
        left -= *n;
    }
    votes.retain(|_, (n, _)| *n > 0);
    votes
}

/// The cause of a single drop: the kind of the rule that takes such a packet at its hook, or the policy behind them.
pub fn cause_of(space: Space<'_>, event: &DropEvent) -> Option<&'static str> {
    let (_, packet) = dropped_packet(space, event)?;
    let hook = place::hook(event)?;
    let all = droppers(space);
    let at_hook = all.iter().filter(|d| d.hooks.contains(&hook));
    let fits = at_hook.map(|d| (d.class.cause(), d.best_fit(space, std::slice::from_ref(&packet))));
    let best = fits.reduce(|best, next| if next.1 > best.1 { next } else { best });
    match best.filter(|(_, fit)| *fit != Fit::No) {
        Some((cause, Fit::Yes)) => Some(cause),
        _ if policy::takes_for_sure(space, hook, &packet) => Some(super::drop_policy::CAUSE.id),
        maybe => maybe.map(|(cause, _)| cause),
    }
}

/// True if each netfilter drop of this namespace was sampled.
fn all_sampled(space: Space<'_>) -> bool {
    sampled_drops(space).count() as u64 == space.drops_of(AT_NETFILTER)
}

/// A sampled netfilter drop: the packet, and the hooks at which it can have died.
#[derive(PartialEq)]
struct Sampled {
    hooks: Vec<Hook>,
    packet: Packet,
}

fn sampled_drops<'a>(space: Space<'a>) -> impl Iterator<Item = Sampled> + 'a {
    let inode = Some(space.target().netns_inode);
    let sampled = space.case.drop_log().into_iter().flat_map(|log| &log.sampled);
    let by_netfilter =
        move |e: &&DropEvent| e.netns_inode == inode && place::of_event(e).stage.starts_with("netfilter");
    sampled.filter(by_netfilter).filter_map(move |event| {
        let (hooks, mut packet) = dropped_packet(space, event)?;
        // One flow after another meets the same rules: the port that changes says nothing.
        packet.source_port = packet.source_port.filter(|port| *port < FIRST_EPHEMERAL_PORT);
        packet.destination_port = packet.destination_port.filter(|port| *port < FIRST_EPHEMERAL_PORT);
        let hooks = place::hook(event).map_or_else(|| hooks.to_vec(), |hook| vec![hook]);
        Some(Sampled { hooks, packet })
    })
}

/// Netfilter drops of this namespace that no counter explains. `None`: nothing is unaccounted; `Some(None)`: probes
/// were lost on a way through here and there are no events that would count.
pub fn unaccounted(space: Space<'_>, all: &[Dropping<'_>]) -> Option<Option<u64>> {
    let known = counted(all, None) + policy::counted(space);
    if space.case.drop_log().is_some() {
        let left = space.drops_of(AT_NETFILTER).saturating_sub(known);
        return (left > 0).then_some(Some(left));
    }
    let lost = space.case.ways.iter().any(|way| way.lost() > 0 && way.visits(space));
    (lost && known == 0).then_some(None)
}

/// Packets that were lost, as they met a hook: those of troubled probes, and sampled drops.
pub fn lost_packets(space: Space<'_>, hooks: &[Hook]) -> Vec<Packet> {
    let troubled = space.case.ways.iter().filter(|way| way.troubled());
    let probes = troubled.flat_map(|way| hooks.iter().flat_map(move |hook| way.packets_at(space, *hook)));
    probes.chain(sampled(space, hooks)).collect()
}

/// Packets that netfilter was seen to drop at these hooks.
pub fn sampled<'a>(space: Space<'a>, hooks: &'a [Hook]) -> impl Iterator<Item = Packet> + 'a {
    let drops = sampled_drops(space).filter(|drop| drop.hooks.iter().any(|hook| hooks.contains(hook)));
    drops.map(|drop| drop.packet)
}

/// A dropped packet as rules see it, with the hooks at which its addresses say that it can have been.
pub fn dropped_packet(space: Space<'_>, event: &DropEvent) -> Option<([Hook; 2], Packet)> {
    let (from, to) = (event.source?, event.destination?);
    let hooks = match (space.after.owns(from.ip()), space.after.owns(to.ip())) {
        (_, true) => [Hook::Input, Hook::Prerouting],
        (true, false) => [Hook::Output, Hook::Postrouting],
        (false, false) => [Hook::Forward, Hook::Prerouting],
    };
    let packet = Packet {
        protocol: event.protocol.unwrap_or(0),
        source: Some(from.ip()),
        destination: Some(to.ip()),
        source_port: Some(from.port()),
        destination_port: Some(to.port()),
        in_interface: event.interface.clone().filter(|_| space.after.owns(to.ip())),
        out_interface: None,
        // A SYN without ACK opens; anything else is taken for an answer.
        reply: event.tcp_flags.is_some_and(|flags| flags & 0x12 != 0x02),
    };
    Some((hooks, packet))
}

fn fit_of_lost(space: Space<'_>, dropping: &Dropping<'_>) -> Fit {
    dropping.best_fit(space, &lost_packets(space, &dropping.hooks))
}
