//! IPsec: policies that block, and packets without the protection that a policy wants, or with one that does not fit.

pub mod bad_key;
pub mod no_state;
pub mod policy_block;
pub mod replay;
pub mod template_mismatch;
#[cfg(test)]
mod tests;

use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::flow::Flow;
use crate::evidence::packet::{Fit, Packet};
use crate::evidence::route::contains;
use crate::fixes::by_hand;
use crate::loss::Loss;
use whydrop_model::DropEvent;
use whydrop_model::delta;
use whydrop_model::netfilter::Hook;
use whydrop_model::snapshot::{XfrmPolicy, XfrmSelector, XfrmState};
use whydrop_model::{Cause, Direction, Text, text};

/// Directions of policies, and where packets meet them.
const DIRECTIONS: [(&str, Hook); 3] =
    [("in", Hook::Input), ("fwd", Hook::Forward), ("out", Hook::Postrouting)];

/// Rise of a counter of /proc/net/xfrm_stat inside the window; none where the kernel keeps none, or it was not read.
fn rise(space: Space<'_>, name: &str) -> Option<u64> {
    space.after.xfrm_stat.get()?.get(name)?;
    space.before.xfrm_stat.get()?;
    Some(delta::counter(&space.before.xfrm_stat, &space.after.xfrm_stat, name).risen())
}

/// All policies of a namespace.
fn policies<'a>(space: Space<'a>) -> &'a [XfrmPolicy] {
    space.after.xfrm.get().map(|xfrm| xfrm.policies.as_slice()).unwrap_or(&[])
}

/// The policy that decides about a packet that goes this way; none if nothing known does. Of one with a mark or an
/// interface nothing tells whether the packet has it.
pub fn decides<'a>(space: Space<'a>, direction: &str, packet: &Packet) -> Option<&'a XfrmPolicy> {
    let plain = |policy: &&XfrmPolicy| {
        policy.mark.is_none_or(|(_, mask)| mask == 0)
            && policy.if_id.is_none_or(|id| id == 0)
            && policy.selector.link == 0
    };
    let mine = policies(space).iter().filter(|policy| policy.direction == direction).filter(plain);
    // Of two with one priority the older one goes first (xfrm_policy_insert_list()).
    mine.filter(|policy| covers(&policy.selector, packet)).min_by_key(|policy| policy.priority)
}

fn covers(selector: &XfrmSelector, packet: &Packet) -> bool {
    let (Some(source), Some(destination)) = (packet.source, packet.destination) else { return false };
    let port = |(wanted, mask): (u16, u16), port: Option<u16>| {
        mask == 0 || port.is_some_and(|port| port & mask == wanted & mask)
    };
    contains(selector.source.0, selector.source.1, source)
        && contains(selector.destination.0, selector.destination.1, destination)
        && (selector.protocol == 0 || selector.protocol == packet.protocol)
        && port(selector.source_port, packet.source_port)
        && port(selector.destination_port, packet.destination_port)
}

/// The policies that decide about the packets of a flow here.
fn of_flow<'a>(space: Space<'a>, flow: &Flow<'_>) -> Vec<&'a XfrmPolicy> {
    let met = |(direction, hook)| {
        let packets = flow.packets_at(space, hook).into_iter();
        packets.filter_map(move |packet| decides(space, direction, &packet))
    };
    DIRECTIONS.into_iter().flat_map(met).collect()
}

/// The policies that may have decided about a dropped packet.
fn of_event<'a>(space: Space<'a>, event: &DropEvent) -> Vec<&'a XfrmPolicy> {
    let packet = Packet {
        protocol: event.protocol.unwrap_or(0),
        source: event.source.map(|from| from.ip()),
        destination: event.destination.map(|to| to.ip()),
        source_port: event.source.map(|from| from.port()),
        destination_port: event.destination.map(|to| to.port()),
        ..Packet::default()
    };
    DIRECTIONS.into_iter().filter_map(|(direction, _)| decides(space, direction, &packet)).collect()
}

/// All states of a namespace.
fn states<'a>(space: Space<'a>) -> &'a [XfrmState] {
    space.after.xfrm.get().map(|xfrm| xfrm.states.as_slice()).unwrap_or(&[])
}

/// True if the dropped packet was protected, or came as such; none if nothing tells.
fn is_protected(loss: &Loss<'_>) -> Option<bool> {
    let protocol = loss.event.and_then(|event| event.protocol);
    let protocol = protocol.or_else(|| loss.count.and_then(|count| count.protocol))?;
    // In UDP there may be ESP for a peer behind NAT.
    (protocol != UDP).then_some(matches!(protocol, ESP | AH))
}

/// IPPROTO_UDP, IPPROTO_ESP, IPPROTO_AH.
const UDP: u8 = 17;
const ESP: u8 = 50;
const AH: u8 = 51;

/// Protected packets that a state refused when they came.
struct Refusals {
    /// What counts them (/proc/net/xfrm_stat).
    counter: &'static str,
    /// The state's own count.
    of_state: fn(&XfrmState) -> u64,
    /// What happens; may name `n` and `state`.
    summary: Text,
    /// What to do; may name `state`.
    advice: Text,
}

const ROSE: Text = text!("{name} rose by {n}", "{name} 计数 +{n}");
const OF_STATE: Text = text!("{state} counted {n} of them", "{state} 统计到其中 {n} 个");

/// Judges what states refuse: by the namespace's counter, with the state whose own count rose.
fn refused_by_state<'a>(space: Space<'a>, cause: &'static Cause, of: Refusals) -> Option<Culprit<'a>> {
    let Refusals { counter, of_state, summary, advice } = of;
    let old = |state: &XfrmState| {
        let before = space.before.xfrm.get().map(|xfrm| xfrm.states.as_slice()).unwrap_or(&[]);
        before.iter().find(|old| (old.spi, old.destination) == (state.spi, state.destination)).map(of_state)
    };
    let rises =
        states(space).iter().map(|state| (state, of_state(state).saturating_sub(old(state).unwrap_or(0))));
    let worst = rises.max_by_key(|(_, n)| *n).filter(|(_, n)| *n > 0);
    let counted = rise(space, counter).filter(|n| *n > 0).or_else(|| worst.map(|(_, n)| n))?;
    let subject = worst.map_or_else(
        || "IPsec states".to_owned(),
        |(state, _)| {
            format!(
                "{} spi 0x{:08x} from {} to {}",
                state.protocol, state.spi, state.source, state.destination
            )
        },
    );
    let shown = subject.clone();
    let culprit = Culprit::new(space, cause, "xfrm", Scope::Rule, subject)
        .direction(Direction::Receive)
        .meter(counted, Count::Exact, counter)
        .takes(move |loss| {
            let mine = loss.is_in(space) && loss.is_at_stage("xfrm") && is_protected(loss) != Some(false);
            if mine { Fit::Maybe } else { Fit::No }
        })
        .harms(move |flow| if flow.suffers() && flow.visits(space) { Fit::Maybe } else { Fit::No })
        .tell(move |_| {
            let words: [(&str, &dyn std::fmt::Display); 3] =
                [("n", &counted), ("state", &shown), ("name", &counter)];
            let show = ["cat", "/proc/net/xfrm_stat"];
            let story = Story::new(summary.fill(&words))
                .evidence(ROSE.fill(&words), "xfrm_stat", &show)
                .fix(by_hand(advice.fill(&words)));
            match worst {
                Some((_, n)) => {
                    let claim = OF_STATE.fill(&[("n", &n), ("state", &shown)]);
                    story.evidence(claim, "xfrm", &["ip", "-s", "xfrm", "state"])
                }
                None => story,
            }
        });
    Some(culprit)
}
