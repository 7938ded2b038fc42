//! Flows that leave a private network with their private address, where a translation of it is wanted.

use super::case::Space;
use super::flow::Flow;
use super::packet::Packet;
use super::walk;
use super::way::End;
use crate::coverage::NETFILTER;
use std::net::IpAddr;
use whydrop_model::netfilter::{Hook, RuleVerdict};

/// True if some namespace on the flow's way should have translated its source, and did not.
pub fn is_bare<'a>(flow: &Flow<'_>, mut spaces: impl Iterator<Item = Space<'a>>) -> bool {
    spaces.any(|space| leaves_bare(space, flow).is_some())
}

/// The private address and the interface with which an unanswered flow leaves what is in view untranslated.
pub fn leaves_bare(space: Space<'_>, flow: &Flow<'_>) -> Option<(IpAddr, String)> {
    let last = flow.forward.hops.last()?;
    let leaves = flow.forward.end == End::OutOfSight && last.inode == space.inode();
    // Whoever is asked is in view, and has no way back.
    let stranded = flow.forward.end == End::Arrived
        && flow.back.as_ref().is_some_and(|back| {
            back.end == End::NoRoute && back.hops.last().is_some_and(|hop| hop.inode != space.inode())
        });
    let unanswered = flow.in_trouble() && flow.trouble.unanswered > 0 && flow.succeeded == 0;
    if !(leaves || stranded) || !unanswered || !flow.is_forwarded_by(space) {
        return None;
    }
    let is_request = |packet: &Packet| !packet.reply;
    let request = flow.packets_at(space, Hook::Postrouting).into_iter().find(is_request)?;
    let (source, destination) = (request.source?, request.destination?);
    // A namespace that translates others' sources is meant to translate this one's, too.
    let translates_others = || {
        let all = space.after.chains().filter(|chain| chain.nat).flat_map(|chain| &chain.rules);
        all.into_iter().any(|rule| matches!(&rule.verdict, RuleVerdict::Nat(nat) if nat.kind.of_source()))
    };
    if !is_private(source) || !(is_public(destination) || stranded && translates_others()) {
        return None;
    }
    let hidden = may_be_translated_here(space, &request);
    Some((source, request.out_interface?)).filter(|_| !hidden)
}

/// True if some namespace on the flow's way may give its requests another source, whichever.
pub fn may_be_translated<'a>(flow: &Flow<'_>, spaces: impl Iterator<Item = Space<'a>>) -> bool {
    spaces.filter(|space| flow.is_forwarded_by(*space)).any(|space| {
        let mut requests =
            flow.packets_at(space, Hook::Postrouting).into_iter().filter(|packet| !packet.reply);
        requests.any(|request| may_be_translated_here(space, &request))
    })
}

fn may_be_translated_here(space: Space<'_>, request: &Packet) -> bool {
    let rules = space.case.verdicts.and_then(|verdicts| verdicts.rules(space));
    let Some(rules) = &rules else {
        // No rule set at all, if all could be read.
        return NETFILTER.iter().any(|source| source.hidden(space));
    };
    let walk = rules.at_hook(Hook::Postrouting, request);
    let translates = |end: &walk::End| matches!(end, walk::End::Translated(nat) if nat.kind.of_source());
    walk.steps.iter().any(|step| translates(&step.end))
        || walk.endings().any(|ending| matches!(ending.end, walk::End::Unknown(_)))
}

/// RFC 1918 and RFC 4193.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

fn is_public(ip: IpAddr) -> bool {
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(local || is_private(ip) || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified())
}
