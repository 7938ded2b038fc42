//! Requests that a TPROXY rule hands to a local port: the destination stays what it was, and the packet is dropped where no
//! program has the port open (net/netfilter/xt_TPROXY.c; the expression of nftables goes on to the next rule instead).

use super::dead::{Dead, Sent, UDP};
use super::{end, is_own};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Fit;
use crate::evidence::verdicts::At;
use crate::loss::Loss;
use crate::rules::app::serves;
use std::net::{IpAddr, SocketAddr};
use whydrop_model::netfilter::{Hook, RuleVerdict};
use whydrop_model::snapshot::Protocol;

/// The rules of this namespace that hand the flow's requests to a port that nobody has open, and how surely.
pub fn sent<'a>(space: Space<'a>, flow: &Flow<'a>) -> Vec<(Sent<'a>, Fit)> {
    let rules = space.case.verdicts.and_then(|verdicts| verdicts.rules(space));
    let Some(rules) = rules.filter(|_| space.after.sockets.is_present()) else { return vec![] };
    let requests = flow.packets_at(space, Hook::Prerouting).into_iter().filter(|packet| !packet.reply);
    let mut out: Vec<(Sent<'a>, Fit)> = vec![];
    for request in requests {
        let Some(from) = end(&request).filter(|from| !is_own(space, from.ip())) else { continue };
        let walk = rules.at_hook(Hook::Prerouting, &request);
        for at in walk.endings().filter_map(|ending| ending.rule) {
            let RuleVerdict::Tproxy { address, port } = at.rule.verdict else { continue };
            let to = SocketAddr::new(address.unwrap_or(any(from.ip())), port.unwrap_or(from.port()));
            if out.iter().any(|(known, _)| known.at == at) || is_open(space, request.protocol, to) {
                continue;
            }
            let (protocol, dead) = (request.protocol, Dead::NoProxy(space));
            let sent = Sent { at, hook: Hook::Prerouting, protocol, from, to, dead, is_only: true };
            out.push((sent, Fit::Yes));
        }
    }
    out
}

/// True for a request that the rule dropped, as a walk of the rule sets says.
pub fn took(space: Space<'_>, sent: &Sent<'_>, loss: &Loss<'_>) -> bool {
    let event = loss.event.filter(|event| event.protocol == Some(sent.protocol));
    let goes = event.is_some_and(|event| event.destination == Some(sent.from));
    let at = |(_, ending): &At<'_>| ending.rule == Some(sent.at);
    goes && loss.is_in(space)
        && loss.hook == Some(Hook::Prerouting)
        && space.case.verdicts.is_some_and(|verdicts| verdicts.of_loss(loss).iter().any(at))
}

/// True if a program takes what is handed to this place; without an address to that of the interface, which any may be.
fn is_open(space: Space<'_>, protocol: u8, to: SocketAddr) -> bool {
    let kind = if protocol == UDP { Protocol::Udp } else { Protocol::Tcp };
    space.listeners(kind, to.port()).any(|socket| to.ip().is_unspecified() || serves(space, socket, to.ip()))
}

fn any(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}
