//! Loss, clear, inconclusive. Clear means clear.

use crate::coverage::Source;
use crate::evidence::case::{Case, Space};
use crate::evidence::silent;
use crate::registry::RULES;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use whydrop_facts::Class;
use whydrop_facts::place;
use whydrop_model::netfilter::RuleVerdict;
use whydrop_model::snapshot::Protocol;
use whydrop_model::{
    CoverageStatus, DropEvent, Finding, Ledger, NamespaceEvidence, ProbeResult, Reading, Role, TargetKind,
    Verdict,
};

/// Counters that rise when somebody's attempts or segments fail. Where the kernel's account of conversations is missing,
/// they say that there is something to account for, and not whose it is.
const FAILURES: &[&str] = &["TcpExt.TCPSynRetrans", "TcpExt.TCPTimeouts", "Tcp.RetransSegs", "Udp.NoPorts"];
const ATTEMPTS: &str = "Tcp.AttemptFails";
const HALF_OPEN: &str = "TcpExt.EmbryonicRsts";
/// Why the kernel drops what asks for a port that nobody has open.
const REFUSED: &str = "NO_SOCKET";
/// One connection that fails is no trouble (evidence/flow/conversation.rs).
const ACCIDENTS: u64 = 2;

/// The answer. Clear needs that nothing was lost, nothing is unexplained, nobody suffers, and nothing unread could hide
/// that.
pub fn of(case: Case<'_>, findings: &[Finding], ledger: &Ledger) -> Verdict {
    if !findings.is_empty() {
        return Verdict::Loss;
    }
    let suffers = case.flows.iter().any(|flow| flow.conversation().is_some());
    match (ledger.unexplained > 0 || suffers, is_blind(case)) {
        (_, true) => Verdict::Inconclusive,
        (true, false) => Verdict::Loss,
        (false, false) => Verdict::Clear,
    }
}

fn is_blind(case: Case<'_>) -> bool {
    let mut asked = case.observation.namespaces.iter().filter(|n| n.target.role == Role::Target);
    // A name that led to no namespace at all, at either end, hides nothing.
    let read = |n: &NamespaceEvidence| match (&n.before, &n.after) {
        (Reading::Absent(_), Reading::Absent(_)) => true,
        (before, after) => before.is_present() && after.is_present(),
    };
    // A probe that was asked for and of which nothing is known, and a window without a length: damaged recordings.
    let told_nothing = |probe: &ProbeResult| {
        probe.transmitted + probe.not_sent + probe.extra.undecided == 0 && probe.http.is_none()
    };
    let damaged = case.observation.window_ns == 0 || case.observation.probes.iter().any(told_nothing);
    let vanished = damaged || !case.spaces().any(|space| space.is_target()) || !asked.all(read);
    let mut needed: BTreeSet<Source> = RULES.iter().flat_map(|rule| rule.needs).copied().collect();
    // What no counter sees, only these tell.
    needed.insert(Source::DropEvents);
    let hides = |space: Space<'_>| needed.iter().any(|source| hides(*source, space));
    let mut concerned =
        case.spaces().filter(|space| space.is_target() || space.flows_through().next().is_some());
    // A switch or a router has no attempts of its own: whoever fails beside it may do so because of it.
    let passes_on = case.spaces().filter(|s| s.is_target()).any(passes_on);
    let near = |s: &Space<'_>| s.is_target() || passes_on && s.target().kind != TargetKind::Host;
    let untold = case.spaces().filter(near).any(failures) || case.spaces().any(unheard);
    vanished || untold || concerned.any(hides) || case.spaces().any(|s| s.is_target() && uncounted(s))
}

/// True if a namespace handed on what others sent: a switch without an address of its own, or a router.
fn passes_on(space: Space<'_>) -> bool {
    let own = |ip: IpAddr| !ip.is_loopback() && !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let is_switch = !space.after.addresses.iter().any(|address| own(address.ip));
    is_switch || space.mib("Ip.ForwDatagrams") + space.mib6("Ip6OutForwDatagrams") > 0
}

/// True if the source is there and was not read. What every kernel has cannot be absent.
fn hides(source: Source, space: Space<'_>) -> bool {
    match source.status(space).0 {
        CoverageStatus::Read => false,
        CoverageStatus::Absent => !source.may_be_absent(),
        CoverageStatus::Denied | CoverageStatus::Failed => source != Source::Flows,
    }
}

/// True if drops may have happened that nothing counted for this namespace.
fn uncounted(space: Space<'_>) -> bool {
    let Some(log) = space.case.drop_log() else { return has_silent_dropper(space) };
    if log.counts_lost > 0 {
        return true;
    }
    // Drops of which nobody knows the namespace.
    let harmful = |count: &&whydrop_model::DropCount| {
        count.netns_inode.is_none() && matches!(place::of_count(count).class, Class::Loss | Class::Policy)
    };
    !log.knows_namespaces() && (has_silent_dropper(space) || log.counts.iter().any(|count| harmful(&count)))
}

/// True if a rule or policy here drops and keeps no count of it.
fn has_silent_dropper(space: Space<'_>) -> bool {
    space.after.chains().any(|chain| {
        let policy = chain.policy == Some(RuleVerdict::Drop) && chain.policy_packets.is_none();
        let drops = |verdict: &RuleVerdict| {
            matches!(
                verdict,
                RuleVerdict::Drop | RuleVerdict::Reject | RuleVerdict::Map(_) | RuleVerdict::Other(_)
            )
        };
        policy || chain.rules.iter().any(|rule| rule.packets.is_none() && drops(&rule.verdict))
    })
}

/// True if somebody's attempts failed here, and nothing tells whose. A half-open connection that its client ends counts
/// as a failed attempt, too.
fn failures(space: Space<'_>) -> bool {
    let known = space.case.observation.flows.is_present();
    let own = space.mib(ATTEMPTS).saturating_sub(space.mib(HALF_OPEN));
    let failed = own > ACCIDENTS || FAILURES.iter().any(|name| space.mib(name) > ACCIDENTS);
    !known && (failed || silent::is_asked_in_vain(space) || refused_unseen(space))
}

/// True if datagrams to a group were discarded for whose port somebody waits, and it is not known which groups are joined.
fn unheard(space: Space<'_>) -> bool {
    let waited_for = |to: SocketAddr| space.listeners(Protocol::Udp, to.port()).next().is_some();
    space.is_target()
        && !space.after.groups.is_present()
        && space
            .drop_events()
            .filter_map(|event| event.destination)
            .any(|to| to.ip().is_multicast() && waited_for(to))
}

/// True if several were refused here, and of none it is known who, or somebody in view was refused again and again at one
/// port: a refusal is judged by who is refused, and only his attempts tell whether he got through.
fn refused_unseen(space: Space<'_>) -> bool {
    let whole = |event: &DropEvent| {
        let ends = event.source.is_some() && event.destination.is_some();
        ends && event.protocol.is_some() && event.tcp_flags.is_some()
    };
    let in_view = |ip: IpAddr| space.case.owners(ip).any(|there| !there.same(space));
    let mut asked: BTreeMap<(IpAddr, SocketAddr), u64> = BTreeMap::new();
    for event in space.drop_events().filter(|event| event.reason == REFUSED && whole(event)) {
        if let (Some(from), Some(to)) = (event.source, event.destination) {
            *asked.entry((from.ip(), to)).or_default() += 1;
        }
    }
    let again = || asked.iter().any(|((from, _), times)| *times > ACCIDENTS && in_view(*from));
    space.drops_because(&[REFUSED]) > ACCIDENTS && (asked.is_empty() || again())
}
