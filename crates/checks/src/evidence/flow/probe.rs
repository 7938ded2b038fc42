//! Our own probes as flows.

use super::{Flow, Origin, Trouble};
use crate::evidence::case::{Case, Space};
use crate::evidence::translate::Translators;
use crate::evidence::way::{Ends, Way};
use whydrop_model::ProbeResult;
use whydrop_model::flow::{Conversation, FlowDirection};

/// A probe as a flow. A search for the path MTU or for the hops of a path loses packets by design: it has lost something
/// only if nothing came back at all. A request that the other side ended by a reset or with nonsense has failed, and
/// lost nothing.
pub fn flow<'a>(case: Case<'a>, nat: &Translators<'a>, id: usize, probe: &'a ProbeResult) -> Flow<'a> {
    let (protocol, port) = transport(probe);
    let way = match (case.space(&probe.from), probe.address) {
        (Some(from), Some(to)) => {
            Way::of(id, nat, from, Ends { protocol, source: (None, None), destination: (to, port) })
        }
        _ => Way::unknown(id, protocol, port),
    };
    let searches = matches!(probe.method.as_str(), "pmtu" | "path");
    let ended_by_peer = probe.http.as_ref().is_some_and(|http| http.ended_by_peer());
    let unanswered = match (searches && probe.received > 0, ended_by_peer) {
        (true, _) => 0,
        (false, true) => probe.not_sent,
        (false, false) => probe.lost + probe.not_sent,
    };
    let http = probe.http.as_ref().and_then(|http| http.error.as_deref());
    let trouble = Trouble {
        refused: probe.refused.max(u64::from(http == Some("refused"))),
        unanswered,
        late: probe.late,
        reset: u64::from(http.is_some_and(|error| error != "refused")),
        errors: probe.send_errors.clone(),
        swallowed: probe.pmtu.as_ref().is_some_and(|p| p.black_hole),
        ..Trouble::default()
    };
    Flow {
        id,
        origin: Origin::Probe(probe),
        attempts: probe.transmitted + probe.not_sent,
        succeeded: probe.received.saturating_sub(probe.refused),
        // One is enough: the user asked for it.
        suffers: trouble != Trouble::default(),
        lost: unanswered,
        trouble,
        way,
    }
}

/// Our own name, as the kernel keeps it of whoever connects.
const SELF: &str = "whydrop";

/// True for a conversation that our own probes are: connections of a process of our name to what a probe asks, and no
/// more than it made.
pub fn is_of_prober(case: Case<'_>, home: Space<'_>, talk: &Conversation) -> bool {
    let asks = |probe: &&ProbeResult| {
        let (protocol, port) = transport(probe);
        let there = probe.address.map(|ip| ip.to_canonical()) == Some(talk.remote.ip().to_canonical());
        there
            && (protocol, port) == (talk.protocol, Some(talk.remote.port()))
            && case.space(&probe.from).is_some_and(|from| from.same(home))
    };
    let ours = case.observation.probes.iter().filter(asks);
    let made: u64 = ours.map(|probe| probe.transmitted + probe.extra.undecided).sum();
    let comm = talk.owner.as_ref().and_then(|owner| owner.comm.as_deref());
    talk.direction == FlowDirection::Out
        && (1..=made).contains(&talk.attempts)
        && comm.is_some_and(|comm| comm.starts_with(SELF))
}

/// IP protocol number and port of a probe, from its URL.
fn transport(probe: &ProbeResult) -> (u8, Option<u16>) {
    let v6 = probe.address.is_some_and(|a| a.is_ipv6());
    let (scheme, rest) = probe.url.split_once("://").unwrap_or(("", &probe.url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let port = authority.rsplit_once(':').filter(|(_, p)| !p.contains(']')).and_then(|(_, p)| p.parse().ok());
    match scheme {
        "tcp" => (6, port),
        "http" => (6, port.or(Some(80))),
        "https" => (6, port.or(Some(443))),
        "udp" => (17, port),
        _ if v6 => (58, None),
        _ => (1, None),
    }
}
