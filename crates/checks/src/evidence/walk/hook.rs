//! The base chains of a hook, one after the other.

use super::super::packet::{Fit, Packet, State};
use super::Rules;
use super::chain::Walker;
use super::ending::{End, Ending, Walk};
use whydrop_model::Snapshot;
use whydrop_model::netfilter::{Chain, Family, Field, Hook, RuleVerdict};

/// `NF_IP_PRI_CONNTRACK`: chains in front of it see no connections.
const CONNTRACK: i32 = -200;

/// Priorities at which the kernel asks all chains of type nat, whatever their own is (`nf_nat_ipv4_ops`).
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;

/// Shapes of one packet that are followed; translations seldom leave more than two.
const MAX_SHAPES: usize = 8;

/// EtherType of ARP.
const ARP: u32 = 0x0806;

/// IPPROTO_ICMP, IPPROTO_ICMPV6.
const ICMP: [u8; 2] = [1, 58];

/// Which of the chains at a hook a packet meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Ip,
    Arp,
    Bridge,
    Device,
}

impl Level {
    pub fn of(hook: Hook, packet: &Packet) -> Self {
        match hook {
            Hook::Ingress | Hook::Egress => Self::Device,
            _ if packet.fields.get(&Field::EtherType) == Some(&ARP) => Self::Arp,
            _ => Self::Ip,
        }
    }

    /// Does a chain at this level's hook see the packet?
    fn sees(self, chain: &Chain, hook: Hook, packet: &Packet) -> Fit {
        match (self, chain.family) {
            (Self::Ip, Family::Inet) => Fit::Yes,
            (Self::Ip, Family::Ip) => packet.is_v6().map_or(Fit::Maybe, |v6| Fit::sure(!v6)),
            (Self::Ip, Family::Ip6) => packet.is_v6().map_or(Fit::Maybe, Fit::sure),
            (Self::Arp, Family::Arp) | (Self::Bridge, Family::Bridge) => Fit::Yes,
            (Self::Device, Family::Netdev | Family::Inet) => {
                let own = if hook == Hook::Ingress { &packet.in_interface } else { &packet.out_interface };
                match (own, &chain.device) {
                    (Some(own), Some(devices)) => Fit::sure(devices.split(',').any(|name| name == own)),
                    _ => Fit::Maybe,
                }
            }
            _ => Fit::No,
        }
    }
}

/// Base chains in the order in which the kernel asks them. Of two with one priority the kernel asks the younger first
/// (`nf_hook_entries_grow`); across tables their age is not known.
pub(super) fn base_chains(snapshot: &Snapshot) -> Vec<&Chain> {
    let mut base: Vec<_> = snapshot.chains().filter(|chain| chain.hook.is_some()).enumerate().collect();
    base.sort_by_key(|(at, chain)| (order(chain), std::cmp::Reverse(*at)));
    base.into_iter().map(|(_, chain)| chain).collect()
}

/// The kernel's priority, then that among the chains of type nat.
fn order(chain: &Chain) -> (i32, i32) {
    let own = chain.priority.unwrap_or(0);
    match chain.hook {
        Some(Hook::Prerouting | Hook::Output) if chain.nat => (DESTINATION_NAT, own),
        _ if chain.nat => (SOURCE_NAT, own),
        _ => (own, 0),
    }
}

pub(super) fn walk<'a>(rules: &Rules<'a>, level: Level, hook: Hook, packet: &Packet) -> Walk<'a> {
    let mut walk = Walk { steps: vec![], endings: vec![], packets: vec![(Fit::Yes, packet.clone())] };
    for (family, why) in unread(rules.snapshot, level) {
        if family.is_none_or(|v6| packet.is_v6().is_none_or(|own| own == v6)) {
            walk.endings.push(ending(End::Unknown(why.to_owned()), Fit::Maybe, None));
            walk.packets = vec![(Fit::Maybe, packet.clone())];
        }
    }
    let here = rules.base.iter().copied().filter(|chain| chain.hook == Some(hook));
    let chains: Vec<&Chain> = here.filter(|chain| level.sees(chain, hook, packet) != Fit::No).collect();
    let mut translated = false;
    for twins in chains.chunk_by(|a, b| order(a) == order(b)) {
        let rivals = contested(rules, level, hook, twins, &walk.packets);
        walk.endings.extend(rivals.iter().flatten().cloned());
        for chain in twins {
            // Once a packet is translated, the other chains of its kind are not asked.
            if chain.nat && translated {
                continue;
            }
            let before = walk.endings.len();
            pass(rules, level, hook, chain, &mut walk);
            if rivals.is_some() {
                walk.endings.truncate(before);
            }
            translated |= chain.nat
                && walk.steps.iter().any(|s| s.fit == Fit::Yes && matches!(s.end, End::Translated(_)));
        }
    }
    walk.endings.extend(passed(&walk.packets));
    walk
}

/// Chains of one priority that would both take the packet: which is asked first is not known, so each may.
fn contested<'a>(
    rules: &Rules<'a>,
    level: Level,
    hook: Hook,
    twins: &[&'a Chain],
    packets: &[(Fit, Packet)],
) -> Option<Vec<Ending<'a>>> {
    let tables = |chain: &&Chain| (chain.tool, chain.family, chain.table.clone());
    let mut others = twins.iter().skip(1).map(tables);
    if twins.first().is_none_or(|first| others.all(|other| other == tables(first))) {
        return None;
    }
    let mut takers = vec![];
    for chain in twins {
        let mut alone = Walk { steps: vec![], endings: vec![], packets: packets.to_vec() };
        pass(rules, level, hook, chain, &mut alone);
        if alone.endings.iter().any(|ending| ending.end.is_loss()) {
            takers.push(alone.endings);
        }
    }
    let perhaps = |ending: Ending<'a>| Ending { fit: ending.fit.min(Fit::Maybe), ..ending };
    (takers.len() > 1).then(|| takers.into_iter().flatten().map(perhaps).collect())
}

/// One base chain for all shapes of the packet.
fn pass<'a>(rules: &Rules<'a>, level: Level, hook: Hook, chain: &'a Chain, walk: &mut Walk<'a>) {
    let shapes = std::mem::take(&mut walk.packets);
    for (fit, packet) in shapes {
        let mut walker = Walker::new(rules, Some(hook), &packet);
        walker.base = Some(chain);
        walker.tracked = is_tracked(chain, hook, &mut walker.packet);
        let meets = level.sees(chain, hook, &packet).min(met_by_nat(&walker, chain));
        if meets == Fit::No {
            add(walk, fit, packet);
            continue;
        }
        let here = fit.min(meets);
        let original = walker.packet.state;
        let end = walker.chain(chain, &chain.rules, here);
        if end != Fit::No {
            policy(&mut walker, chain, here.min(end));
        }
        if meets == Fit::Maybe {
            walker.pass(Fit::Maybe, packet.clone());
        }
        let (passes, losses): (Vec<_>, Vec<_>) = walker
            .endings
            .into_iter()
            .partition(|ending| matches!(ending.end, End::Accept | End::Translated(_)));
        // All ways lead on, and to the same: no matter which of them the packet takes.
        let sure = losses.is_empty() && walker.passes.len() == 1;
        for (by, mut shape) in walker.passes {
            if shape.state == original {
                shape.state = packet.state;
            }
            add(walk, if sure { fit } else { by.min(fit) }, shape);
        }
        // A queue's reader may let it pass.
        if losses.iter().any(|ending| matches!(ending.end, End::Queue(_) | End::Unknown(_))) {
            add(walk, Fit::Maybe, packet);
        }
        walk.steps.extend(passes);
        walk.endings.extend(losses);
    }
}

fn policy<'a>(walker: &mut Walker<'_, 'a>, chain: &'a Chain, fit: Fit) {
    let (end, fit) = match &chain.policy {
        None | Some(RuleVerdict::Accept) => {
            let packet = walker.packet.clone();
            walker.pass(fit, packet);
            (End::Accept, fit)
        }
        Some(RuleVerdict::Drop) => (End::Drop, fit),
        Some(_) => (End::Unknown("policy".to_owned()), fit.min(Fit::Maybe)),
    };
    walker.endings.push(ending(end, fit, Some(chain)));
}

fn ending<'a>(end: End, fit: Fit, base: Option<&'a Chain>) -> Ending<'a> {
    Ending { end, fit, base, rule: None, via: vec![], because: vec![] }
}

fn passed<'a>(packets: &[(Fit, Packet)]) -> Option<Ending<'a>> {
    let fit = packets.iter().map(|(fit, _)| *fit).max()?;
    Some(ending(End::Accept, fit, None))
}

fn add(walk: &mut Walk<'_>, fit: Fit, packet: Packet) {
    let room = walk.packets.len() < MAX_SHAPES;
    match walk.packets.iter_mut().find(|(_, known)| *known == packet) {
        Some((known, _)) => *known = fit.max(*known),
        None if room => walk.packets.push((fit, packet)),
        None => walk.endings.push(ending(
            End::Unknown(format!("more than {MAX_SHAPES} shapes of the packet")),
            Fit::Maybe,
            None,
        )),
    }
}

/// True behind connection tracking. What comes back over the loopback device was tracked on its way out.
fn is_tracked(chain: &Chain, hook: Hook, packet: &mut Packet) -> bool {
    let priority = chain.priority.unwrap_or(0);
    if !matches!(hook, Hook::Prerouting | Hook::Output) || chain.nat || priority > CONNTRACK {
        return true;
    }
    let came_by = packet.in_interface.as_deref().filter(|_| hook == Hook::Prerouting);
    let unclear = priority == CONNTRACK || hook == Hook::Prerouting && came_by.is_none();
    if unclear && packet.state != Some(State::Untracked) {
        packet.state = Some(State::Unclear);
    }
    unclear || came_by == Some("lo")
}

/// Only what opens a connection meets chains of type nat (`nf_nat_inet_fn`); errors in ICMP do not.
fn met_by_nat(walker: &Walker<'_, '_>, chain: &Chain) -> Fit {
    match walker.view().tracking() {
        _ if !chain.nat => Fit::Yes,
        State::New => Fit::Yes,
        State::Related if ICMP.contains(&walker.packet.protocol) => Fit::No,
        State::Related | State::Unclear => Fit::Maybe,
        State::Established | State::Invalid | State::Untracked => Fit::No,
    }
}

/// Rule sets that could not be read, and whether they are for IPv6 only, for IPv4 only or for both.
fn unread(snapshot: &Snapshot, level: Level) -> Vec<(Option<bool>, &str)> {
    let legacy = [(Some(false), &snapshot.iptables_legacy), (Some(true), &snapshot.ip6tables_legacy)];
    let legacy = legacy.into_iter().filter(|_| level == Level::Ip);
    let all = std::iter::once((None, &snapshot.nftables)).chain(legacy);
    all.filter_map(|(family, reading)| match reading {
        whydrop_model::Reading::Denied(why) | whydrop_model::Reading::Failed(why) => {
            Some((family, why.as_str()))
        }
        _ => None,
    })
    .collect()
}
