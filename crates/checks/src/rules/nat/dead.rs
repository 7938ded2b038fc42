//! Requests that a NAT rule sends to where nothing answers: what is dead there, and whose packets end so.

use super::{TCP, Turn, end, handed, is_own, turns, turns_on};
use crate::culprit::{Culprit, Scope, Story, sure};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::translate::Translators;
use crate::evidence::walk::RuleAt;
use crate::evidence::way::{Ends, Way};
use crate::fixes::owned;
use crate::loss::{Kind, Loss};
use crate::rule::Judgement;
use crate::rules::app::serves;
use crate::rules::netfilter::judge;
use std::net::SocketAddr;
use whydrop_model::netfilter::Hook;
use whydrop_model::snapshot::{Protocol, Socket};
use whydrop_model::{Cause, Direction};

/// IPPROTO_UDP.
pub const UDP: u8 = 17;

/// Why nothing answers behind a translation.
#[derive(Clone, Copy)]
pub enum Dead<'a> {
    /// This namespace has the address, and no socket for the port.
    NoSocket(Space<'a>),
    /// The same in a container whose engine publishes the port, and which serves another one.
    WrongPort(Space<'a>),
    /// Nobody has the address.
    NoNeighbour,
    /// This namespace hands them to a port of its own that nobody has open.
    NoProxy(Space<'a>),
}

/// A rule that sends a kind of requests to a dead place.
#[derive(Clone)]
pub struct Sent<'a> {
    /// The rule.
    pub at: RuleAt<'a>,
    /// Where requests meet it.
    pub hook: Hook,
    /// IP protocol.
    pub protocol: u8,
    /// Where the request was to go.
    pub from: SocketAddr,
    /// Where the rule sends it.
    pub to: SocketAddr,
    /// What is wrong there.
    pub dead: Dead<'a>,
    /// False if requests go to other places as well: the rule, or the rules beside it, choose.
    pub is_only: bool,
}

impl Sent<'_> {
    /// True if both are about one rule and one place.
    fn is(&self, other: &Self) -> bool {
        (self.at, self.to) == (other.at, other.to)
    }
}

/// Judges the rules that send requests to one kind of dead place.
pub fn judge_dead<'a>(
    space: Space<'a>,
    cause: &'static Cause,
    mine: fn(&Dead<'_>) -> bool,
    story: fn(Space<'_>, &Sent<'_>) -> Story,
) -> Judgement<'a> {
    let mut found: Vec<Sent<'_>> = vec![];
    for flow in space.case.flows {
        for (sent, _) in sent(space, flow) {
            if mine(&sent.dead) && !found.iter().any(|other| sent.is(other)) {
                found.push(sent);
            }
        }
    }
    found.into_iter().map(|sent| culprit(space, cause, sent, story)).collect::<Vec<_>>().into()
}

/// The rules that send the flow's requests to dead places, and how surely.
fn sent<'a>(space: Space<'a>, flow: &Flow<'a>) -> Vec<(Sent<'a>, Fit)> {
    let harmed = flow.in_trouble() && (flow.refused() || flow.suffers());
    if !harmed {
        return vec![];
    }
    let turns = turns(space, flow).into_iter();
    let sent = turns.filter_map(|turn| {
        let (from, to) = (end(&turn.request)?, turn.to()?);
        let dead = dead(space, flow, &turn, to)?;
        let Turn { at, hook, fit, is_only, .. } = turn;
        Some((Sent { at, hook, protocol: flow.protocol, from, to, dead, is_only }, fit))
    });
    sent.chain(handed::sent(space, flow)).collect()
}

fn dead<'a>(space: Space<'a>, flow: &Flow<'a>, turn: &Turn<'a>, to: SocketAddr) -> Option<Dead<'a>> {
    let there = if is_own(space, to.ip()) {
        Some(space)
    } else {
        let ends = Ends {
            protocol: flow.protocol,
            source: (turn.turned.source, None),
            destination: (to.ip(), Some(to.port())),
        };
        let way = Way::of(flow.id, &Translators::default(), space, ends);
        if space.case.spaces().all(|other| !other.after.owns(to.ip())) {
            let silent = |(link, ip)| {
                let entry = space.after.neighbours.iter().find(|n| (n.link, n.ip) == (link, ip));
                ip == to.ip() && entry.is_some_and(|n| matches!(n.state.as_str(), "incomplete" | "failed"))
            };
            return way.next_hops(space).into_iter().any(silent).then_some(Dead::NoNeighbour);
        }
        way.destination(space.case)
    }?;
    let kind = match flow.protocol {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        _ => return None,
    };
    let further = !there.same(space) && turns_on(there, &turn.turned);
    let served = there.listeners(kind, to.port()).any(|socket| serves(there, socket, to.ip()));
    // A socket that is open there for others only is what is wrong, and not the rule.
    let elsewhere = there.listeners(kind, to.port()).next().is_some() && !there.same(space);
    let published = || is_published(turn.at, there) && others(there, kind).next().is_some();
    (there.after.sockets.is_present() && !further && !served && !elsewhere).then(|| match published() {
        true => Dead::WrongPort(there),
        false => Dead::NoSocket(there),
    })
}

/// True if the rule is a container's published port.
fn is_published(at: RuleAt<'_>, there: Space<'_>) -> bool {
    there.target().container.is_some() || owned::rule_owner(at.chain, at.rule).is_some()
}

/// What a namespace serves to others.
pub fn others<'a>(there: Space<'a>, protocol: Protocol) -> impl Iterator<Item = &'a Socket> {
    let open = there.after.sockets.iter().filter(move |s| s.protocol == protocol);
    open.filter(|s| s.state == "listen" || s.protocol == Protocol::Udp && s.remote.port() == 0)
        .filter(|s| !s.local.ip().is_loopback())
}

fn culprit<'a>(
    space: Space<'a>,
    cause: &'static Cause,
    sent: Sent<'a>,
    story: fn(Space<'_>, &Sent<'_>) -> Story,
) -> Culprit<'a> {
    let (taken, hurt) = (sent.clone(), sent.clone());
    let subject = judge::subject((sent.at.chain, sent.at.rule));
    let stage = format!("netfilter.{}", sent.hook.word());
    let direction = if sent.hook == Hook::Output { Direction::Transmit } else { Direction::Receive };
    Culprit::new(space, cause, &stage, Scope::Rule, subject)
        .direction(direction)
        .reaches()
        .takes(move |loss| sure(takes(space, &taken, loss)))
        .harms(move |flow| harms(space, &hurt, flow))
        .tell(move |_| story(space, &sent))
}

/// True for a translated request that died at its dead end.
fn takes(space: Space<'_>, sent: &Sent<'_>, loss: &Loss<'_>) -> bool {
    let Some(event) = loss.event else { return false };
    let Some(to) = event.destination.filter(|_| event.protocol == Some(sent.protocol)) else { return false };
    match sent.dead {
        Dead::NoSocket(there) | Dead::WrongPort(there) => {
            loss.is_in(there) && loss.kind == Kind::Refused && to == sent.to
        }
        Dead::NoNeighbour => loss.is_in(space) && loss.is_at_stage("neighbour") && to == sent.to,
        Dead::NoProxy(_) => handed::took(space, sent, loss),
    }
}

fn harms<'a>(space: Space<'a>, hurt: &Sent<'a>, flow: &Flow<'a>) -> Fit {
    let Some((sent, fit)) = self::sent(space, flow).into_iter().find(|(sent, _)| sent.is(hurt)) else {
        return Fit::No;
    };
    let reached = || space.case.losses.iter().any(|loss| takes(space, &sent, loss));
    match sent.dead {
        Dead::NoSocket(_) | Dead::WrongPort(_) if flow.refused() && reached() => fit,
        // A rule on the way may refuse or drop what nobody wants to serve.
        Dead::NoSocket(_) | Dead::WrongPort(_) => fit.min(Fit::Maybe),
        Dead::NoProxy(_) if flow.suffers() && reached() => fit,
        Dead::NoProxy(_) if flow.suffers() => fit.min(Fit::Maybe),
        Dead::NoProxy(_) => Fit::No,
        Dead::NoNeighbour if flow.suffers() => fit,
        Dead::NoNeighbour => Fit::No,
    }
}
