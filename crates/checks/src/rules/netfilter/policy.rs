//! Base chains whose policy is DROP, and what their policy took.

use super::drops::{
    Class, counted as counted_by_rules, droppers, leaves_rest_to, limits_below, speaks, was_readable,
};
use super::silent::{dropped_packet, lost_packets, silent, unaccounted};
use crate::case::Space;
use crate::packet::{Fit, Packet, reaches_end};
use crate::rules::events::payload;
use crate::traced;
use whydrop_facts::place;
use whydrop_model::delta::Change;
use whydrop_model::netfilter::{Chain, Family, Hook, RuleVerdict};

/// IPPROTO_ICMPV6.
const ICMPV6: u8 = 58;
/// Types of ICMPv6: neighbour solicitation and advertisement (RFC 4861).
const NEIGHBOUR_MESSAGES: [u8; 2] = [135, 136];

/// A policy that drops.
pub struct Policy<'a> {
    /// Its chain.
    pub chain: &'a Chain,
    /// Its hook.
    pub hook: Hook,
    /// The limit whose excess falls to it, if it is the end of that idiom.
    pub gate: Option<Class>,
    /// Packets dropped in the window; none if nothing counts them.
    pub dropped: Option<u64>,
    /// Drop events that nothing else explains, where the policy itself does not count.
    pub events: Option<u64>,
    /// How surely a packet that was lost falls to it.
    pub fit: Fit,
}

impl Policy<'_> {
    /// Numbers of the probes that fall to it.
    pub fn touches(&self, space: Space<'_>) -> Vec<usize> {
        let fell: Vec<usize> = self.fallen(space).map(|(index, _)| index).collect();
        let falls = |index: &usize| {
            let way = space.case.ways.get(*index);
            let packets = way.map(|way| way.packets_at(space, self.hook)).unwrap_or_default();
            packets.iter().any(|packet| self.takes(space, packet)) || fell.contains(index)
        };
        (0..space.case.ways.len()).filter(falls).collect()
    }

    /// Probes that the kernel saw die at its hook, with the packet as it was there: behind a translated address the
    /// routes do not lead here.
    pub fn fallen(&self, space: Space<'_>) -> impl Iterator<Item = (usize, Packet)> {
        let here = traced::deaths_in(space).filter(|(_, death)| death.hook == Some(self.hook));
        let packets = here.filter_map(move |(way, death)| {
            let (_, packet) = dropped_packet(space, death.event)?;
            self.takes(space, &packet).then_some((way, packet))
        });
        packets.collect::<Vec<_>>().into_iter()
    }

    /// Sampled questions and answers of IPv6 neighbours that fell to it: no policy is meant for these, for without them
    /// nothing else arrives.
    pub fn neighbour_messages(&self, space: Space<'_>) -> Vec<Packet> {
        let inode = Some(space.target().netns_inode);
        let sampled = space.case.drop_log().into_iter().flat_map(|log| &log.sampled);
        let here =
            sampled.filter(|event| event.netns_inode == inode && place::hook(event) == Some(self.hook));
        let messages = here.filter(|event| {
            let kind = payload(event).and_then(|icmp| icmp.first());
            event.protocol == Some(ICMPV6) && kind.is_some_and(|kind| NEIGHBOUR_MESSAGES.contains(kind))
        });
        let packets = messages.filter_map(|event| dropped_packet(space, event));
        let portless =
            packets.map(|(_, packet)| Packet { source_port: None, destination_port: None, ..packet });
        portless.filter(|packet| self.takes(space, packet)).collect()
    }

    /// True if a packet at its hook may fall to it.
    pub fn takes(&self, space: Space<'_>, packet: &Packet) -> bool {
        let chains: Vec<&Chain> = space.after.chains().collect();
        speaks(self.chain.family, packet) && reaches_end(&chains, self.chain, packet) != Fit::No
    }
}

/// All dropping policies of a namespace.
pub fn policies<'a>(space: Space<'a>) -> Vec<Policy<'a>> {
    let all = droppers(space);
    let silent_rules = silent(space, &all);
    let by_rules: u64 = silent_rules.iter().filter_map(|rule| rule.events).sum();
    let left = unaccounted(space, &all).map(|left| left.map(|events| events.saturating_sub(by_rules)));
    // Without events one culprit is enough; with them each has its share.
    let silent_rule = match left {
        Some(Some(events)) => events == 0,
        _ => !silent_rules.is_empty(),
    };
    dropping_chains(space)
        .map(|(chain, hook)| {
            let mut gates = chain.rules.iter().filter_map(|r| limits_below(r).map(|class| (r, class)));
            let gate = gates.rfind(|(gate, _)| leaves_rest_to(space, &[hook], gate, &[]));
            let dropped = rise(space, chain);
            let fit = fit_of_lost(space, chain, hook);
            let silent = dropped.is_none() && !silent_rule && fit != Fit::No;
            Policy {
                chain,
                hook,
                gate: gate.map(|(_, class)| class),
                dropped,
                events: left.flatten().filter(|_| silent).or_else(|| {
                    (silent && left.is_some())
                        .then(|| gap(space, hook, counted_by_rules(&all, Some(hook))))
                        .flatten()
                }),
                fit: if left.is_some() && silent { fit } else { Fit::No },
            }
        })
        .collect()
}

/// Packets that counting policies took in the window.
pub fn counted(space: Space<'_>) -> u64 {
    dropping_chains(space).filter_map(|(chain, _)| rise(space, chain)).sum()
}

/// True if a policy without counter certainly takes a packet that was lost.
pub fn takes_lost_for_sure(space: Space<'_>) -> bool {
    dropping_chains(space)
        .filter(|(chain, _)| chain.policy_packets.is_none())
        .any(|(chain, hook)| fit_of_lost(space, chain, hook) == Fit::Yes)
}

/// True if the policy of a chain at this hook certainly takes the packet.
pub fn takes_for_sure(space: Space<'_>, hook: Hook, packet: &Packet) -> bool {
    let chains: Vec<&Chain> = space.after.chains().collect();
    dropping_chains(space)
        .filter(|(_, at)| *at == hook)
        .any(|(chain, _)| speaks(chain.family, packet) && reaches_end(&chains, chain, packet) == Fit::Yes)
}

fn dropping_chains<'a>(space: Space<'a>) -> impl Iterator<Item = (&'a Chain, Hook)> {
    space
        .after
        .chains()
        .filter(|c| c.policy == Some(RuleVerdict::Drop))
        .filter(|c| matches!(c.family, Family::Ip | Family::Ip6 | Family::Inet))
        .filter_map(|c| c.hook.map(|hook| (c, hook)))
}

fn fit_of_lost(space: Space<'_>, chain: &Chain, hook: Hook) -> Fit {
    let chains: Vec<&Chain> = space.after.chains().collect();
    let lost = lost_packets(space, &[hook]);
    let falls = lost.iter().filter(|p| speaks(chain.family, p)).map(|p| reaches_end(&chains, chain, p));
    falls.max().unwrap_or(Fit::No)
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

/// Packets that entered the input hook and never came out of it, by the identities of the IP counters (measured:
/// InReceives = InDelivers + dropped by INPUT on a machine that forwards nothing; OutRequests = OutTransmits +
/// dropped by OUTPUT). Only where nothing else can make the difference.
fn gap(space: Space<'_>, hook: Hook, by_rules: u64) -> Option<u64> {
    let other = [
        "Ip.InHdrErrors",
        "Ip.InAddrErrors",
        "Ip.InDiscards",
        "Ip.InUnknownProtos",
        "Ip.ReasmReqds",
        "Ip.ForwDatagrams",
        "IpExt.InNoRoutes",
        "IpExt.InTruncatedPkts",
        "TcpExt.IPReversePathFilter",
    ];
    let missing = match hook {
        Hook::Input if other.iter().all(|name| space.mib(name) == 0) => {
            space.mib("Ip.InReceives").checked_sub(space.mib("Ip.InDelivers"))?
        }
        Hook::Output if space.mib_value("Ip.OutTransmits").is_some() && space.mib("Ip.FragCreates") == 0 => {
            space.mib("Ip.OutRequests").checked_sub(space.mib("Ip.OutTransmits"))?
        }
        _ => return None,
    };
    missing.checked_sub(by_rules).filter(|n| *n > 0)
}
