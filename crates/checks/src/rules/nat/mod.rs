//! Translations of addresses and ports that lead nowhere.

pub mod dead;
pub mod dnat_dead_backend;
pub mod dnat_missing;
mod handed;
pub mod mapping_lost;
pub mod no_masquerade;
pub mod port_exhaustion;
pub mod reply_bypass;
#[cfg(test)]
mod tests;

use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::{Fit, Packet};
use crate::evidence::walk::{End, RuleAt, Rules};
use crate::evidence::{refused, tracked};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use whydrop_model::netfilter::{Hook, Nat, RuleVerdict};

/// Hooks at which the kernel changes where a connection goes.
const HOOKS: [Hook; 2] = [Hook::Prerouting, Hook::Output];

/// IPPROTO_TCP.
const TCP: u8 = 6;

/// A rule that changes where the requests of a flow go.
#[derive(Clone, Debug)]
struct Turn<'a> {
    /// The rule.
    at: RuleAt<'a>,
    /// Where it is met.
    hook: Hook,
    /// How surely the request meets it.
    fit: Fit,
    /// The request in front of it.
    request: Packet,
    /// The request behind it.
    turned: Packet,
    /// False if requests go to other places as well, by this rule or by others beside it.
    is_only: bool,
}

impl Turn<'_> {
    /// Where the request goes; none if not known exactly.
    fn to(&self) -> Option<SocketAddr> {
        end(&self.turned)
    }
}

/// Address and port that a packet goes to.
fn end(packet: &Packet) -> Option<SocketAddr> {
    Some(SocketAddr::new(packet.destination?, packet.destination_port?))
}

/// The rule by which this namespace changes where the flow's requests go; none if it is not the only one that may.
fn turn<'a>(space: Space<'a>, flow: &Flow<'a>) -> Option<Turn<'a>> {
    let mut turns = turns(space, flow).into_iter();
    turns.next().filter(|turn| turn.is_only && turns.next().is_none())
}

/// The rules by which this namespace changes where the flow's requests go, each with one place that it sends them to.
fn turns<'a>(space: Space<'a>, flow: &Flow<'a>) -> Vec<Turn<'a>> {
    let Some(rules) = space.case.verdicts.and_then(|verdicts| verdicts.rules(space)) else { return vec![] };
    let requests = HOOKS.into_iter().flat_map(|hook| {
        let packets = flow.packets_at(space, hook).into_iter();
        packets.filter(|packet| !packet.reply).map(move |packet| (hook, packet))
    });
    requests.flat_map(|(hook, request)| turns_of(space, &rules, hook, request)).collect()
}

fn turns_of<'a>(space: Space<'a>, rules: &Rules<'a>, hook: Hook, request: Packet) -> Vec<Turn<'a>> {
    let walk = rules.at_hook(hook, &request);
    let mut may: Vec<(RuleAt<'a>, &Nat, Fit)> = vec![];
    for step in walk.steps.iter().chain(walk.endings()) {
        let Some(at) = step.rule.filter(|at| may.iter().all(|(known, ..)| known != at)) else { continue };
        if let RuleVerdict::Nat(nat) = &at.rule.verdict
            && !nat.kind.of_source()
        {
            may.push((at, nat, step.fit));
        }
    }
    let shapes: Vec<_> = walk.packets.iter().filter(|(_, packet)| end(packet) != end(&request)).collect();
    if let ([(at, _, met)], [(fit, turned)]) = (may.as_slice(), shapes.as_slice()) {
        let (fit, turned) = (*met.min(fit), turned.clone());
        return vec![Turn { at: *at, hook, fit, request, turned, is_only: true }];
    }
    // Rules that choose among several places: where the client's connections came to says which they chose.
    let chosen = if may.is_empty() { BTreeSet::new() } else { chosen(space, &request) };
    let turns = chosen.into_iter().filter_map(|to| {
        let mut fitting = may.iter().filter(|(_, nat, _)| may_send_to(nat, to));
        let (at, ..) = fitting.next().filter(|_| fitting.next().is_none())?;
        let (destination, destination_port) = (Some(to.ip()), Some(to.port()));
        let turned = Packet { destination, destination_port, ..request.clone() };
        Some(Turn { at: *at, hook, fit: Fit::Yes, request: request.clone(), turned, is_only: false })
    });
    turns.collect()
}

/// Where requests of this kind were sent: as connection tracking knows, and, since the kernel forgets a connection whose
/// first answer is a reset (`nf_conntrack_tcp_packet()`), where this client was refused what it never asked for there.
fn chosen(space: Space<'_>, request: &Packet) -> BTreeSet<SocketAddr> {
    let Some((client, asked)) = request.source.zip(end(request)) else { return BTreeSet::new() };
    let case = space.case;
    let wanted = |flow: &Flow<'_>| Some(SocketAddr::new(flow.address?, flow.port?));
    let asks = |to| case.flows.iter().any(|flow| flow.source == Some(client) && wanted(flow) == Some(to));
    let refused = refused::syns(case).filter(|r| r.from.ip() == client && r.to != asked && !asks(r.to));
    let mut to: BTreeSet<SocketAddr> =
        refused.filter(|_| request.protocol == TCP).map(|refused| refused.to).collect();
    to.extend(tracked::sent_to(space, request.protocol, client, asked));
    to
}

/// True if a translation may choose this place.
fn may_send_to(nat: &Nat, to: SocketAddr) -> bool {
    let address = nat.addresses.is_none_or(|(first, last)| (first..=last).contains(&to.ip()));
    let port = nat.ports.is_none_or(|(first, last)| (first..=last).contains(&to.port()));
    !nat.known || address && port
}

/// True if rules turn a packet that enters this namespace on to somewhere else, or may do so.
fn turns_on(space: Space<'_>, packet: &Packet) -> bool {
    let Some(rules) = space.case.verdicts.and_then(|verdicts| verdicts.rules(space)) else { return false };
    let walk = rules.at_hook(Hook::Prerouting, packet);
    walk.endings().any(|ending| matches!(ending.end, End::Unknown(_)))
        || walk.packets.iter().any(|(_, shape)| end(shape) != end(packet))
}

/// True if this address is the namespace's own, seen from inside.
fn is_own(space: Space<'_>, ip: IpAddr) -> bool {
    ip.is_loopback() || space.after.owns(ip)
}
