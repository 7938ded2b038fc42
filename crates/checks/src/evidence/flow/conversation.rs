//! Conversations of programs as flows, and when they are in trouble.
//!
//! An attempt is a connect(); repeats of its SYN belong to it. A busy machine has failures that nobody minds: one
//! refused connection, a client that goes away, a monitor that asks for dead hosts, an address that is tried and left
//! for the next. What is more than that is told by the constants here.

use super::talk::{Talk, Talks};
use super::{
    Flow, Origin, Trouble, calls, datagram, ended, held_back, probe, proxied, restarted, seldom, stalled,
    tail,
};
use crate::evidence::case::{Case, Space};
use crate::evidence::offer::{self, is_kept_out};
use crate::evidence::route::{self, Lookup};
use crate::evidence::segment;
use crate::evidence::sender;
use crate::evidence::translate::Translators;
use crate::evidence::tunnel::Tunnel;
use crate::evidence::way::{End, Ends, Way};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use whydrop_model::flow::{Conversation, FlowDirection, FlowLog};
use whydrop_model::snapshot::{Link, Protocol};

/// So many attempts of one key without a single success are no accident.
pub(super) const ATTEMPTS: u64 = 3;
/// From this share on failures and repeats are noticed, if the lower end of its 95 % interval lies above.
pub(super) const NOTICED_SHARE: f64 = 0.01;
/// The same, where the kernel itself shows that each repeat made somebody wait.
const HEAVY_SHARE: f64 = 0.1;
/// 1.96 standard deviations: 95 %.
const Z: f64 = 1.96;
/// Errors that come after seconds.
const WAITED: [&str; 2] = ["EHOSTUNREACH", "ETIMEDOUT"];
/// Conversations in trouble that are kept apart; the rest is counted.
const MOST: usize = 4096;
/// A program that asks so many ports of one host in vain looks for open ones: no program has as many services there.
const SCANNED_PORTS: usize = 16;
const TCP: u8 = 6;

/// The conversations that concern the targets: the flows in trouble, numbered from `first` on, and how many were looked
/// at, were in trouble and could not be kept apart.
pub fn flows<'a>(case: Case<'a>, nat: &Translators<'a>, first: usize) -> (Vec<Flow<'a>>, Seen<'a>) {
    let mut seen = Seen::default();
    let mut out: Vec<Flow<'a>> = vec![];
    let mut talks = Talks::of(case.observation.flows.get());
    stalled::add(case, &mut talks);
    datagram::add(case, nat, &mut talks);
    calls::add(case, &mut talks);
    held_back::add(case, &mut talks);
    talks.join_ends(case);
    tail::add(case, &mut talks);
    seldom::add(case, nat, &mut talks);
    ended::add(case, &mut talks);
    restarted::add(case, nat, &mut talks);
    let scans = scans(&talks);
    let mut beyond: BTreeMap<Hop, Group<'_, '_>> = BTreeMap::new();
    let mut order: Vec<&Talk<'_>> = talks.list.iter().collect();
    // Who asks stands before who is asked: the same trouble seen from its other end is no second one.
    order.sort_by_key(|talk| {
        let told = &talk.told;
        let harm = told.failed + told.waiting() + told.data_repeats;
        (told.direction, std::cmp::Reverse(harm + talk.datagrams.refused + talk.datagrams.dropped))
    });
    for talk in order {
        let Some(space) = case.space_by_inode(talk.told.netns_inode) else { continue };
        seen.watched += 1;
        let told = &talk.told;
        seen.restarts.extend(talk.restarted.then_some((told.netns_inode, told.remote, told.failed)));
        let trouble = trouble(talk);
        let passed_over = succeeds_elsewhere(&talks, &talk.told, |other| is_twin(case, &talk.told, other));
        if passed_over {
            seen.passed_over.extend(flow(seen.passed_over.len(), nat, space, talk, trouble.clone()));
        }
        if !suffers(space, talk, &trouble)
            || scans.contains(&scan(&talk.told))
            || passed_over
            || probe::is_of_prober(case, space, &talk.told)
            || is_known(case, &out, talk)
        {
            if let Some(hop) = hop_beyond(case, space, talk) {
                beyond.entry(hop).or_default().add(talk);
            }
            continue;
        }
        let Some(flow) = flow(first + out.len(), nat, space, talk, trouble) else { continue };
        // What was meant for a target and is turned elsewhere on its way is that target's matter, too.
        let own = |s: Space<'_>, ip: IpAddr| s.after.owns(ip) || s.before.owns(ip);
        let meant = |s: Space<'_>| flow.way.address.is_some_and(|ip| !ip.is_loopback() && own(s, ip));
        let met = |s: Space<'_>| s.is_target() && (flow.way.visits(s) || meant(s));
        let concerns = space.is_target()
            || case.spaces().any(met)
            || only_station(case, &flow.way).is_some_and(Space::is_target)
            || lost_on_bridge(case, &flow.way)
            || proxied::asks_for_target(case, &talks, space, talk);
        if !concerns || is_kept_out(case, space, &flow.way) {
            continue;
        }
        seen.in_trouble += 1;
        match out.len() < MOST {
            true => out.push(flow),
            false => seen.not_kept += 1,
        }
    }
    for (hop, group) in beyond {
        let Some(space) = case.space_by_inode(hop.inode) else { continue };
        if group.repeats < ATTEMPTS || lower_bound(group.repeats, group.sent) <= NOTICED_SHARE {
            seen.scattered.extend((group.repeats > 0).then_some((hop, group.repeats, group.sent)));
            continue;
        }
        for talk in group.talks {
            let flow = flow(first + out.len(), nat, space, talk, trouble(talk));
            seen.in_trouble += 1;
            out.extend(flow.filter(|_| out.len() < MOST));
        }
    }
    seen.not_kept += case.observation.flows.get().map_or(0, |log| log.not_kept);
    (out, seen)
}

/// Who alone can be meant by an address that nobody in view has: the only station that a question for it meets.
fn only_station<'a>(case: Case<'a>, way: &Way) -> Option<Space<'a>> {
    let last = way.forward.hops.last().filter(|_| way.forward.end == End::OutOfSight)?;
    let space = case.space_by_inode(last.inode)?;
    let link = space.link(*last.outgoing.first()?)?;
    if case.owners(way.address?).next().is_some()
        || way.next_hops(space).iter().all(|(_, ip)| Some(*ip) != way.address)
    {
        return None;
    }
    let met = segment::reachable(space, link);
    let is_end = |(there, device): &&(Space<'a>, &Link)| {
        !there.same(space) && device.master.is_none() && device.kind.as_deref() != Some("bridge")
    };
    let leads_out = met.iter().any(|(there, device)| segment::leads_out(*there, device));
    let mut stations = met.iter().filter(is_end).map(|(there, _)| *there);
    let first = stations.next().filter(|_| !leads_out)?;
    stations.all(|other| other.same(first)).then_some(first)
}

/// True if a bridge of a target is where packets are asked for whose owner is in view, but not joined with it.
fn lost_on_bridge(case: Case<'_>, way: &Way) -> bool {
    let hops = &way.forward.hops;
    let last = hops.iter().rev().find(|hop| !hop.outgoing.is_empty()).filter(|_| way.forward.gap);
    let met = last.and_then(|hop| {
        let space = case.space_by_inode(hop.inode)?;
        Some(segment::reachable(space, space.link(*hop.outgoing.first()?)?))
    });
    met.is_some_and(|met| {
        // By a tunnel whose other ends are in view nothing comes from elsewhere.
        let others = |there: Space<'_>, device: &Link| -> Vec<Tunnel<'_>> {
            let here = Tunnel::of(there, device);
            let joined = |end: &Tunnel<'_>| here.is_some_and(|here| here.is_joined_with(end));
            Tunnel::all(case).filter(joined).collect()
        };
        let mut ends = met.iter().map(|(there, device)| (*there, *device, others(*there, device)));
        let open = ends.any(|(there, device, others)| segment::leads_out(there, device) && others.is_empty());
        let mut others = met.iter().flat_map(|(there, device)| others(*there, device));
        !open
            && (met
                .iter()
                .any(|(there, device)| there.is_target() && device.kind.as_deref() == Some("bridge"))
                || others.any(|end| end.space.is_target()))
    })
}

/// By which device and neighbour packets leave to hosts out of sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// Inode of the namespace.
    pub inode: u64,
    /// Its device.
    pub link: u32,
    /// The router; none if the hosts are on the link.
    pub gateway: Option<IpAddr>,
}

/// Conversations that leave by one hop, of which none is in trouble alone.
#[derive(Default)]
struct Group<'t, 'a> {
    repeats: u64,
    sent: u64,
    /// Those with repeats.
    talks: Vec<&'t Talk<'a>>,
}

impl<'t, 'a> Group<'t, 'a> {
    fn add(&mut self, talk: &'t Talk<'a>) {
        let (repeated, sent) = segments(talk);
        self.repeats += repeated;
        self.sent += sent.max(repeated);
        self.talks.extend((repeated > 0).then_some(talk));
    }
}

/// Segments with data that were needfully sent again, and all that were sent, as far as that is known.
fn segments(talk: &Talk<'_>) -> (u64, u64) {
    let told = &talk.told;
    // Where segments are large the kernel's own count of them is the bound.
    let counted = talk.segments_again.min(told.closed.repeated + talk.open.repeated);
    let needless = told.closed.needless + talk.open.needless;
    let repeated = told.data_repeats.max(counted).saturating_sub(needless);
    (repeated, told.closed.data_segments + talk.open.data_segments)
}

/// Where the packets of a target's conversation leave, if its other end is in view nowhere.
fn hop_beyond(case: Case<'_>, space: Space<'_>, talk: &Talk<'_>) -> Option<Hop> {
    let (local, remote) = (talk.told.local.ip(), talk.told.remote.ip());
    let beyond = is_stream(&talk.told) && space.is_target() && !remote.is_unspecified();
    if !beyond || remote.is_loopback() || case.spaces().any(|there| there.after.owns(remote)) {
        return None;
    }
    match route::lookup(space, remote, Some(local)) {
        Lookup::Via(_, hop) => Some(Hop { inode: space.inode(), link: hop.link?, gateway: hop.gateway }),
        _ => None,
    }
}

/// Who asks which host: the namespace, the direction, the program where it is known, the other end.
type Scan = (u64, FlowDirection, Option<String>, IpAddr);

fn scan(talk: &Conversation) -> Scan {
    let program = talk.owner.as_ref().and_then(|owner| owner.comm.clone());
    (talk.netns_inode, talk.direction, program, talk.remote.ip())
}

/// Those who ask port after port.
fn scans(talks: &Talks<'_>) -> BTreeSet<Scan> {
    let mut ports: BTreeMap<Scan, BTreeSet<u16>> = BTreeMap::new();
    for talk in talks.list.iter().map(|talk| &talk.told).filter(|talk| talk.established == 0) {
        ports.entry(scan(talk)).or_default().insert(talk.port());
    }
    let many = ports.into_iter().filter(|(_, ports)| ports.len() >= SCANNED_PORTS);
    let scans =
        many.filter(|(scan, ports)| u64::try_from(ports.len()).is_ok_and(|n| !is_told(talks, scan, n)));
    scans.map(|(scan, _)| scan).collect()
}

/// True if there is about one good connection with the host for each port that is tried: they tell the ports (FTP, SIP, RPC).
fn is_told(talks: &Talks<'_>, scan: &Scan, ports: u64) -> bool {
    let (inode, _, _, host) = scan;
    let good = talks.list.iter().map(|talk| &talk.told).filter(|talk| {
        let remote = talk.remote.ip();
        talk.netns_inode == *inode && (remote == *host || remote.is_unspecified())
    });
    good.map(|talk| talk.established).sum::<u64>().saturating_mul(2) >= ports
}

/// How many conversations were looked at.
#[derive(Clone, Debug, Default)]
pub struct Seen<'a> {
    /// Segments that were sent again to hosts out of sight, and all that were sent there, where that is no trouble.
    pub scattered: Vec<(Hop, u64, u64)>,
    /// Looked at.
    pub watched: u64,
    /// In trouble.
    pub in_trouble: u64,
    /// In trouble and not kept apart, or without room in the kernel.
    pub not_kept: u64,
    /// Who was refused while a service was started anew: inode of the namespace, the service, attempts.
    pub restarts: Vec<(u64, SocketAddr, u64)>,
    /// Those that failed, and whose program got at once by another address what it wanted: nobody misses their packets.
    pub passed_over: Vec<Flow<'a>>,
}

/// A conversation as a flow; none without an address that is asked.
pub(super) fn flow<'a>(
    id: usize,
    nat: &Translators<'a>,
    space: Space<'a>,
    talk: &Talk<'a>,
    trouble: Trouble,
) -> Option<Flow<'a>> {
    let told = &talk.told;
    let known = |ip: IpAddr| (!ip.is_unspecified()).then_some(ip);
    let port = |port: u16| (port != 0).then_some(port);
    let way = match told.direction {
        FlowDirection::Out => {
            let ends = Ends {
                protocol: told.protocol,
                source: (known(told.local.ip()), port(told.local.port())),
                destination: (known(told.remote.ip())?, port(told.remote.port())),
            };
            Way::sent_by(id, nat, space, ends, sender::of(space, told))
        }
        FlowDirection::In => {
            let ends = Ends {
                protocol: told.protocol,
                source: (known(told.remote.ip()), port(told.remote.port())),
                destination: (known(told.local.ip())?, port(told.local.port())),
            };
            Way::inbound(id, space, ends)
        }
    };
    Some(Flow {
        id,
        attempts: attempts(talk, &trouble),
        succeeded: told.established,
        suffers: true,
        // Each repeat stands for one that died before it, and an attempt without any answer for its first one.
        lost: trouble.repeated + gone(talk, &trouble),
        trouble,
        way,
        origin: Origin::Program(Rc::new(told.clone().into_owned())),
    })
}

/// Attempts whose first packet is gone. That of an attempt from before the window was lost before it, and what is still
/// under way, and was not repeated, may be answered yet.
fn gone(talk: &Talk<'_>, trouble: &Trouble) -> u64 {
    match is_stream(&talk.told) {
        true => {
            let ended = trouble.unanswered.saturating_sub(talk.waiting());
            ended.saturating_sub(from_before(talk)).min(talk.told.attempts)
        }
        false => trouble.unanswered,
    }
}

/// The conversations in trouble as the tracer alone tells of them, without anything that was read of their namespaces.
pub fn told(log: &FlowLog) -> Vec<(Rc<Conversation>, Trouble, u64)> {
    let talks = Talks::of(Some(log));
    let bad = talks.list.iter().filter_map(|talk| {
        let trouble = trouble(talk);
        let suffers = match is_stream(&talk.told) {
            true => stream_suffers(talk, &trouble),
            false => trouble.refused >= ATTEMPTS,
        };
        let attempts = attempts(talk, &trouble);
        let alone = suffers && !succeeds_elsewhere(&talks, &talk.told, |_| true);
        alone.then(|| (Rc::new(talk.told.clone().into_owned()), trouble, attempts))
    });
    bad.collect()
}

fn attempts(talk: &Talk<'_>, trouble: &Trouble) -> u64 {
    match is_stream(&talk.told) {
        true => talk.told.attempts.max(talk.told.established + talk.told.failed + talk.waiting()),
        false => trouble.refused + trouble.unanswered + trouble.unsent + trouble.strayed,
    }
}

/// True if it is made of connections, and not of single requests.
fn is_stream(talk: &Conversation) -> bool {
    talk.protocol == TCP
}

/// What goes wrong with it, be it more than an accident or not.
pub(super) fn trouble(talk: &Talk<'_>) -> Trouble {
    let told = &talk.told;
    let errno = |name: &str| told.errors.get(name).copied().unwrap_or(0);
    let refused = errno("ECONNREFUSED").max(talk.datagrams.refused);
    let answered = refused + told.unsent + errno("EHOSTUNREACH") + errno("ENETUNREACH") + errno("EACCES");
    let ended = told.failed.saturating_sub(answered);
    let unanswered = match (is_stream(told), told.direction) {
        (true, FlowDirection::Out) => ended + talk.waiting(),
        (true, FlowDirection::In) => 0,
        // A REJECT both drops a packet and refuses it.
        (false, _) => talk.datagrams.dropped.max(talk.datagrams.waiting).saturating_sub(refused),
    };
    Trouble {
        refused,
        unanswered,
        reset: errno("ECONNRESET"),
        turned_away: talk.turned_away,
        strayed: talk.datagrams.strayed,
        repeated: told.syn_repeats + told.synack_repeats + told.data_repeats + talk.tails,
        needless: (told.closed.needless + talk.open.needless).min(told.data_repeats + talk.tails),
        tails: talk.tails,
        errors: told.errors.clone(),
        unsent: told.unsent,
        stalled_seconds: talk.stalled.map(|stalled| stalled.seconds),
        waits_for: talk.stalled.map(|stalled| stalled.why),
        ..Trouble::default()
    }
}

/// More than an accident: see the constants.
fn suffers(space: Space<'_>, talk: &Talk<'_>, trouble: &Trouble) -> bool {
    let datagrams = &talk.datagrams;
    if !is_stream(&talk.told) {
        // One is enough where nobody there gets any answer at all.
        let enough = if datagram::is_deaf(space) { 1 } else { ATTEMPTS };
        let waits = datagrams.waiting >= ATTEMPTS || datagrams.long;
        let failed = trouble.refused >= ATTEMPTS || trouble.unsent >= ATTEMPTS;
        let unheard = datagrams.dropped.max(datagrams.strayed) >= enough;
        return failed || unheard || waits || talk.stalled.is_some();
    }
    stream_suffers(talk, trouble) || is_stuck(space, talk)
}

/// One segment is sent again and again to somebody in view: nothing of it arrives. Hosts beyond vanish all the time.
fn is_stuck(space: Space<'_>, talk: &Talk<'_>) -> bool {
    let remote = talk.told.remote.ip();
    talk.same_again >= ATTEMPTS && segments(talk).0 > 0 && space.case.owners(remote).next().is_some()
}

fn stream_suffers(talk: &Talk<'_>, trouble: &Trouble) -> bool {
    let told = &talk.told;
    let failed = told.failed + talk.waiting();
    let never = told.established == 0;
    let in_vain = talk.in_vain || told.direction == FlowDirection::Out && never && failed >= ATTEMPTS;
    // A neighbour that does not answer is waited for three seconds, everybody else for minutes: two such failures are none
    // that a program passes over.
    let waited = WAITED.iter().any(|name| told.errors.contains_key(*name));
    // A program's own time-out may end an attempt before the kernel does: that its SYN was sent again shows that it waited
    // for over a second. That of the first of two may have been sent again before the window.
    let waited = waited || told.syn_repeats + 1 >= failed && told.syn_repeats > 0;
    let in_vain = in_vain || told.direction == FlowDirection::Out && never && waited && failed >= 2;
    // The kernel itself shows that somebody waits for over a second: a SYN was sent again. Sent again twice, it does not
    // matter that the program gave up just when the window ended.
    let again = if talk.waiting() > 0 { 1 } else { 2 };
    let waits = told.direction == FlowDirection::Out && never && told.syn_repeats >= again;
    let answers_in_vain = told.direction == FlowDirection::In && never && told.synack_repeats >= ATTEMPTS;
    let attempts = told.attempts.max(told.established + told.failed);
    // Who succeeds now may have failed before the window: that may be mended already.
    let now = failed.saturating_sub(from_before(talk));
    let in_part = now >= ATTEMPTS && !talk.restarted && lower_bound(now, attempts) > NOTICED_SHARE;
    let syns = attempts + told.syn_repeats;
    let share = lower_bound(told.syn_repeats, syns);
    // Each costs a second or more: two are none too few where they are many of the attempts.
    let opening =
        told.syn_repeats >= ATTEMPTS && share > NOTICED_SHARE || told.syn_repeats >= 2 && share > HEAVY_SHARE;
    // Without the number of segments sent a handful of repeats proves nothing.
    let (repeated, sent) = segments(talk);
    let lossy = sent > 0 && lower_bound(repeated, sent.max(repeated)) > NOTICED_SHARE;
    // A connection that was made and is then reset is how many programs end theirs: a client that goes away, a server
    // that closes before it has read all. Connections from before that are cut while none comes about are no choice.
    let cut = trouble.reset >= ATTEMPTS && never;
    let turned_away = talk.turned_away > 0;
    let fails = in_vain || waits || answers_in_vain || in_part || opening || cut || turned_away;
    fails || lossy || talk.tails > 0 || talk.stalled.is_some()
}

/// Attempts that were under way when the window began, and ended in it or still wait.
fn from_before(talk: &Talk<'_>) -> u64 {
    let told = &talk.told;
    (told.established + told.failed + talk.waiting()).saturating_sub(told.attempts)
}

/// Lower end of the 95 % interval of a share (Wilson).
pub(super) fn lower_bound(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    let (n, p) = (whole as f64, part.min(whole) as f64 / whole as f64);
    let centre = p + Z * Z / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    (centre - spread) / (1.0 + Z * Z / n)
}

/// True if the same program reaches the same port by another address: it tries them one after another (happy eyeballs,
/// the addresses that a name has) and gets what it wants.
fn succeeds_elsewhere(
    talks: &Talks<'_>,
    talk: &Conversation,
    is_twin: impl Fn(&Conversation) -> bool,
) -> bool {
    let comm = |talk: &Conversation| talk.owner.as_ref().and_then(|owner| owner.comm.clone());
    // What has just begun may yet be left for the next address.
    let (own, failed) = (comm(talk), talk.failed.max(1));
    // Who tries the next address does so before a SYN is sent again; whoever waited longer was harmed.
    let waited = talk.syn_repeats > 0 || WAITED.iter().any(|name| talk.errors.contains_key(*name));
    talk.direction == FlowDirection::Out
        && own.is_some()
        && talk.established == 0
        && talk.failed + talk.waiting() > 0
        && !waited
        && talks.list.iter().map(|other| &other.told).any(|other| {
            other.direction == FlowDirection::Out
                && (other.netns_inode, other.protocol, other.port())
                    == (talk.netns_inode, talk.protocol, talk.port())
                && other.remote.ip() != talk.remote.ip()
                && comm(other) == own
                // Two that go on side by side are two, whatever their name; who is started anew for each attempt is one.
                && (other.program.is_none() || talk.program.is_none() || other.program == talk.program)
                && other.established >= failed
                && is_twin(other)
        })
}

/// True if two addresses may be those of one name: of two families, or nobody in view offers the service that fails. Two
/// servers that a program talks to are two, and each is missed.
fn is_twin(case: Case<'_>, failing: &Conversation, other: &Conversation) -> bool {
    let ip = failing.remote.ip();
    let offers = |there: Space<'_>| offer::is_open(there, Protocol::Tcp, failing.remote.port()) == Some(true);
    ip.is_ipv4() != other.remote.ip().is_ipv4() || !case.owners(ip).any(offers)
}

/// True if it is the other end of a conversation in trouble that is seen where it was begun.
fn is_known(case: Case<'_>, known: &[Flow<'_>], talk: &Talk<'_>) -> bool {
    let told = &talk.told;
    let same = |other: &Conversation| {
        other.direction == FlowDirection::Out
            && other.protocol == told.protocol
            && other.remote == told.local
            && other.local.ip() == told.remote.ip()
    };
    // Behind translators it has the addresses with which it arrives.
    let arrives = |flow: &Flow<'_>| {
        let other = flow.conversation().filter(|other| other.direction == FlowDirection::Out);
        other.is_some_and(|other| other.protocol == told.protocol)
            && flow.arrival().is_some_and(|packet| {
                packet.source == Some(told.remote.ip())
                    && packet.destination == Some(told.local.ip())
                    && packet.destination_port == Some(told.local.port())
            })
    };
    told.direction == FlowDirection::In
        && case.owners(told.remote.ip()).next().is_some()
        && (known.iter().filter_map(|flow| flow.conversation()).any(same) || known.iter().any(arrives))
}
