//! Addresses that are not what the neighbours take them for.

pub mod dad_failed;
pub mod missing;
#[cfg(test)]
mod tests;
pub mod wrong_address;
pub mod wrong_prefix;

use crate::culprit::{Culprit, Scope, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::evidence::segment;
use crate::loss::Loss;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use whydrop_model::Cause;
use whydrop_model::snapshot::Link;

/// An address that somebody asks for on a segment where nobody has it.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    ip: IpAddr,
    /// Who asks, and by which interface.
    asker: Space<'a>,
    by: &'a Link,
}

/// What the stations joined with interfaces of this namespace ask for in vain: addresses that nobody in view has. Each
/// with the interface here that hears the question, once for each who asks.
fn wanted<'a>(space: Space<'a>) -> Vec<(&'a Link, Wanted<'a>)> {
    let mut out = vec![];
    for asker in space.case.spaces().filter(|asker| !asker.same(space)) {
        let mut near: BTreeMap<u32, Vec<&'a Link>> = BTreeMap::new();
        for (index, ip) in asker.asks_for() {
            let Some(by) = asker.after.link(index) else { continue };
            if space.case.owners(ip).next().is_some() {
                continue;
            }
            let here = near.entry(index).or_insert_with(|| {
                let all = segment::reachable(asker, by).into_iter();
                all.filter(|(there, _)| there.same(space)).map(|(_, link)| link).collect()
            });
            out.extend(here.iter().map(|link| (*link, Wanted { ip, asker, by })));
        }
    }
    out
}

/// One culprit for each interface and address, of the first who asks for whom there is one.
fn each<'a>(
    space: Space<'a>,
    culprit: impl Fn(&'a Link, Wanted<'a>) -> Option<Culprit<'a>>,
) -> Vec<Culprit<'a>> {
    let mut out: BTreeMap<(u32, IpAddr), Culprit<'a>> = BTreeMap::new();
    for (link, wanted) in wanted(space) {
        if let Entry::Vacant(place) = out.entry((link.index, wanted.ip))
            && let Some(found) = culprit(link, wanted)
        {
            place.insert(found);
        }
    }
    out.into_values().collect()
}

/// True if somebody out of sight may have the address: the segment leads there.
fn may_be_out_of_sight(wanted: Wanted<'_>) -> bool {
    let all = segment::of(wanted.asker, wanted.by);
    all.into_iter().any(|(there, link)| segment::leads_out(there, link))
}

/// Interfaces of other stations that could be meant by an address on the segment: those that end frames, whatever
/// address they have.
fn stations<'a>(wanted: Wanted<'a>) -> Vec<(Space<'a>, &'a Link)> {
    let ends = |(there, link): &(Space<'a>, &'a Link)| {
        !there.same(wanted.asker) && link.up && link.master.is_none() && !is_bridge(link)
    };
    segment::reachable(wanted.asker, wanted.by).into_iter().filter(ends).collect()
}

fn is_bridge(link: &Link) -> bool {
    link.kind.as_deref() == Some("bridge")
}

/// A culprit for whose address somebody asks in vain: it takes the questions for it.
fn unanswered<'a>(
    space: Space<'a>,
    cause: &'static Cause,
    link: &'a Link,
    wanted: Wanted<'a>,
) -> Culprit<'a> {
    let ip = wanted.ip;
    let all = self::wanted(space).into_iter();
    let askers: Vec<(Space<'a>, u32)> = all
        .filter(|(there, other)| there.index == link.index && other.ip == ip)
        .map(|(_, other)| (other.asker, other.by.index))
        .collect();
    let asked_at: Vec<(Space<'a>, u32)> = askers.iter().copied().chain([(space, link.index)]).collect();
    Culprit::new(space, cause, "neighbour.receive", Scope::Neighbour, link.name.clone())
        .on(link.index)
        .reaches()
        .takes(move |loss| match arrives(ip, loss, space, link) {
            true => Fit::Yes,
            false => asks_for(ip, loss, &asked_at),
        })
        .harms(move |flow| {
            let by = |(asker, by): &(Space<'_>, u32)| flow.next_hops(*asker).contains(&(*by, ip));
            sure(flow.suffers() && askers.iter().any(by))
        })
}

/// True for a packet to the address that came by the interface, and found that it is not here: its sender still knows
/// where it was.
fn arrives(ip: IpAddr, loss: &Loss<'_>, space: Space<'_>, link: &Link) -> bool {
    let to = loss.event.and_then(|event| event.destination);
    let undelivered =
        ["route", "ip.receive", "ip.forward", "neighbour"].iter().any(|at| loss.is_at_stage(at));
    to.is_some_and(|to| to.ip() == ip) && loss.is_at(space, link.index) && undelivered
}

/// True if it is a question for the address at one of these devices.
fn asks_for(ip: IpAddr, loss: &Loss<'_>, at: &[(Space<'_>, u32)]) -> Fit {
    match loss.asks_for() == Some(ip) && at.iter().any(|(space, link)| loss.is_imagined_at(*space, *link)) {
        true => Fit::Yes,
        false => Fit::No,
    }
}
