//! Who suffers, and by what.

use super::ways;
use crate::assign::Assignment;
use crate::evidence::case::Case;
use crate::evidence::flow::{Flow, Trouble};
use crate::loss::Kind;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use whydrop_model::Target;
use whydrop_model::flow::Conversation;
use whydrop_model::report::{FlowFate, FlowOwner, FlowTrouble, FlowsSeen, IcmpError, SufferingFlow};

/// The conversations in trouble, those first that fail most often.
pub fn tell(case: Case<'_>, assignment: &Assignment<'_>) -> Vec<SufferingFlow> {
    let talks = case.flows.iter().filter_map(|flow| Some((flow, flow.conversation()?)));
    let mut out: Vec<SufferingFlow> = talks.map(|(flow, talk)| one(case, assignment, flow, talk)).collect();
    let harm = |flow: &SufferingFlow| {
        let trouble = &flow.trouble;
        trouble.refused + trouble.unanswered + trouble.reset + trouble.retransmitted
    };
    out.sort_by_key(|flow| std::cmp::Reverse((flow.succeeded == 0, harm(flow))));
    out
}

/// How many were looked at.
pub fn seen(case: Case<'_>) -> FlowsSeen {
    let Some(seen) = case.seen else { return FlowsSeen::default() };
    FlowsSeen { watched: seen.watched, in_trouble: seen.in_trouble, not_kept: seen.not_kept }
}

fn one(case: Case<'_>, assignment: &Assignment<'_>, flow: &Flow<'_>, talk: &Conversation) -> SufferingFlow {
    let target = case.space_by_inode(talk.netns_inode).map(|space| space.target());
    let told = bare(target, talk, &flow.trouble, flow.attempts);
    let icmp = icmp(case, flow, talk);
    SufferingFlow {
        trouble: FlowTrouble { icmp, ..told.trouble },
        fate: fates(case, assignment, flow, &told.target),
        way: ways::of(case, flow),
        beyond: flow.leaves_sight().then(|| beyond(case, assignment, flow)),
        repeats: case.again.and_then(|again| again.get(&flow.id)).cloned(),
        ..told
    }
}

/// ICMP errors by which namespaces in view refused what it sent, through translations that its way is known to pass.
fn icmp(case: Case<'_>, flow: &Flow<'_>, talk: &Conversation) -> Vec<IcmpError> {
    let sent = |ip: IpAddr, to: SocketAddr, protocol: u8| {
        let mut packets = flow.forward.hops.iter().flat_map(|hop| [&hop.early, &hop.routed, &hop.late]);
        protocol == talk.protocol
            && packets.any(|packet| {
                let port = packet.destination_port.unwrap_or(0);
                (packet.source, packet.destination, port) == (Some(ip), Some(to.ip()), to.port())
            })
    };
    let all = case.observation.flows.get().into_iter().flat_map(|log| &log.icmp_sent);
    let own = all.filter(|icmp| sent(icmp.source, icmp.destination, icmp.protocol));
    let told = own.filter_map(|icmp| {
        let from = case.space_by_inode(icmp.netns_inode)?.target().id.clone();
        Some(IcmpError { kind: error_name(icmp.kind, icmp.code), from, count: icmp.count })
    });
    told.collect()
}

/// The word of an ICMP error (RFC 792, RFC 1122, RFC 1812).
fn error_name(kind: u8, code: u8) -> String {
    match (kind, code) {
        (3, 0) => "net-unreachable".to_owned(),
        (3, 1) => "host-unreachable".to_owned(),
        (3, 2) => "protocol-unreachable".to_owned(),
        (3, 3) => "port-unreachable".to_owned(),
        (3, 4) => "fragmentation-needed".to_owned(),
        (3, 9 | 10 | 13) => "admin-prohibited".to_owned(),
        (11, 0) => "ttl-exceeded".to_owned(),
        (11, 1) => "reassembly-timeout".to_owned(),
        _ => format!("type-{kind}-code-{code}"),
    }
}

/// Who suffers, without the reason.
pub fn bare(target: Option<&Target>, talk: &Conversation, trouble: &Trouble, attempts: u64) -> SufferingFlow {
    SufferingFlow {
        protocol: match talk.protocol {
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            1 | 58 => "icmp".to_owned(),
            other => other.to_string(),
        },
        local: end(talk.local),
        remote: end(talk.remote),
        direction: talk.direction,
        owner: talk.owner.as_ref().map(|owner| FlowOwner {
            pid: owner.pid,
            comm: owner.comm.clone(),
            container: target.and_then(|target| container(target, owner.cgroup.as_deref())),
            cgroup: owner.cgroup.clone(),
        }),
        attempts,
        succeeded: talk.established,
        trouble: FlowTrouble {
            refused: trouble.refused,
            unanswered: trouble.unanswered + trouble.strayed,
            reset: trouble.reset.max(trouble.turned_away),
            retransmitted: trouble.repeated,
            stalled_seconds: trouble.stalled_seconds,
            errors: trouble.errors.clone(),
            icmp: vec![],
        },
        fate: vec![],
        way: vec![],
        beyond: None,
        repeats: None,
        target: target.map_or_else(String::new, |target| target.id.clone()),
    }
}

/// The container of a process: the one whose cgroup it is in, or the only one there is.
fn container(target: &Target, cgroup: Option<&str>) -> Option<String> {
    let tenant = cgroup.and_then(|cgroup| target.tenant_of(cgroup));
    match (tenant, target.tenants.as_slice()) {
        (Some(tenant), _) => Some(tenant.name.clone()),
        (None, [only]) => Some(only.name.clone()),
        (None, []) => target.container.clone(),
        (None, _) => None,
    }
}

/// Address with its port; what is folded stands as `*`.
fn end(address: SocketAddr) -> String {
    match (address.ip().is_unspecified(), address.port()) {
        (true, 0) => "*".to_owned(),
        (true, port) => format!("*:{port}"),
        (false, 0) => address.ip().to_string(),
        (false, _) => address.to_string(),
    }
}

/// Packets that died at known places by what took them; for a flow that lost none the attempts, by what does it.
fn fates(case: Case<'_>, assignment: &Assignment<'_>, flow: &Flow<'_>, home: &str) -> Vec<FlowFate> {
    let mut ends: BTreeMap<(Option<String>, String), u64> = BTreeMap::new();
    let cut = flow.trouble.reset.max(flow.trouble.turned_away);
    let failed = flow.trouble.refused + flow.trouble.unanswered + flow.trouble.strayed + cut;
    for index in assignment.roots() {
        let Some(culprit) = assignment.culprits.get(index) else { continue };
        // What a symptom did to it is its root's doing.
        let acts: Vec<usize> = assignment.symptoms_of(index).chain([index]).collect();
        if !acts.iter().any(|act| assignment.flows_of(*act).contains(&flow.id)) {
            continue;
        }
        let own = acts.iter().flat_map(|act| assignment.taken_by(*act));
        let own = own.filter(|(loss, _)| loss.flow == Some(flow.id)).map(|(_, n)| n);
        let packets: u64 = own.sum();
        let key = (Some(culprit.cause.id.to_owned()), culprit.space.target().id.clone());
        *ends.entry(key).or_default() += if packets > 0 { packets } else { failed.max(1) };
    }
    let harm = |kind: Kind| !matches!(kind, Kind::MayBeHarm | Kind::Refused);
    let lost = case.losses.iter().zip(&assignment.left);
    let lost = lost.filter(|(loss, _)| loss.flow == Some(flow.id) && harm(loss.kind));
    let unknown: u64 = lost.map(|(_, left)| left).sum();
    if unknown > 0 || ends.is_empty() {
        ends.insert((None, home.to_owned()), unknown.max(u64::from(ends.is_empty())));
    }
    ends.into_iter().map(|((cause, target), packets)| FlowFate { cause, target, packets }).collect()
}

/// Packets that were not seen to die here.
fn beyond(case: Case<'_>, assignment: &Assignment<'_>, flow: &Flow<'_>) -> u64 {
    let here: u64 = (0..assignment.culprits.len())
        .flat_map(|index| assignment.taken_by(index))
        .filter(|(loss, _)| loss.flow == Some(flow.id) && !loss.is_astray())
        .map(|(_, n)| n)
        .sum();
    let unknown: u64 = case
        .losses
        .iter()
        .zip(&assignment.left)
        .filter(|(loss, _)| loss.flow == Some(flow.id) && !loss.is_astray())
        .map(|(_, left)| left)
        .sum();
    flow.lost().saturating_sub(here + unknown)
}
