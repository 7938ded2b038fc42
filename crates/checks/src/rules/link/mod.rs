//! Interfaces and what lies below them.

pub mod admin_down;
pub mod detached;
pub mod errors;
pub mod flapping;
mod loose_tunnel;
pub mod no_carrier;
pub mod rx_ring_overflow;
pub mod speed_duplex;
#[cfg(test)]
mod tests;

use crate::culprit::{Count, Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::packet::Fit;
use crate::fixes::manual;
use crate::loss::Kind;
use crate::rule::Judgement;
use whydrop_model::delta::Change;
use whydrop_model::snapshot::{Link, LinkEvent};
use whydrop_model::{Cause, Direction, Text, text};

const COUNTERS: &str = "interface counters";
const ROSE: Text = text!("{field} rose by {n}", "{field} 计数 +{n}");

/// Kinds that a namespace is joined to others with. The kernel makes further devices (tunl0, sit0, dummy0, ifb0) in
/// every namespace once a module is loaded; those are down and mean nothing.
const JOINING: &[&str] = &["veth", "macvlan", "ipvlan", "vlan", "bond"];

/// Devices that the kernel makes in every namespace once their module is loaded (rtnl_link_ops of ip_tunnel_init_net()
/// and the like): they lead nowhere.
const FALLBACK: &[&str] =
    &["tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"];

/// Judges a cause of which counters of an interface are the witness; `total` says how many frames their rises stand for.
/// The texts say what happens and what to do; they may name `dev`.
fn judge_counters<'a>(
    space: Space<'a>,
    cause: &'static Cause,
    stage: &str,
    fields: &[&'static str],
    total: impl Fn(&[u64]) -> u64,
    texts: [Text; 2],
) -> Judgement<'a> {
    let [summary, advice] = texts;
    let culprits = space.links().filter(|link| !link.loopback).filter_map(|link| {
        let rises = fields.iter().map(|field| (*field, space.link_rise(link, field)));
        let rises: Vec<(&'static str, u64)> = rises.filter(|(_, n)| *n > 0).collect();
        let lost = total(&rises.iter().map(|(_, n)| *n).collect::<Vec<_>>());
        if lost == 0 {
            return None;
        }
        let stage_of = stage.split('.').next().unwrap_or(stage).to_owned();
        let culprit = Culprit::new(space, cause, stage, Scope::Link, link.name.clone())
            .direction(Direction::Receive)
            .meter(lost, Count::Exact, COUNTERS)
            .on(link.index)
            .takes(move |loss| {
                let frames =
                    loss.kind == Kind::Frames || loss.kind == Kind::Imagined || loss.is_at_stage(&stage_of);
                match loss.is_at(space, link.index) && frames {
                    true => Fit::Maybe,
                    false => Fit::No,
                }
            })
            .harms_via(link.index)
            .tell(move |_| {
                let dev = link.name.as_str();
                let show = ["ip", "-s", "-s", "link", "show", "dev", dev];
                let story = Story::new(summary.fill(&[("dev", &dev)])).fix(manual(advice));
                rises.iter().fold(story, |story, (field, n)| {
                    story.evidence(ROSE.fill(&[("field", field), ("n", n)]), COUNTERS, &show)
                })
            });
        Some(culprit)
    });
    culprits.collect::<Vec<_>>().into()
}

/// One loss of carrier is an accident or a restart.
const FALLS: usize = 2;
/// Each loss and each return is a change (IFLA_CARRIER_CHANGES).
const CHANGES: u64 = 4;

/// How an interface came and went in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flapping {
    /// Times that it was seen to lose its carrier.
    fell: usize,
    /// Times that it was switched off.
    switched: usize,
    /// Rise of its count of carrier changes.
    changes: u64,
}

/// None for an interface that stays as it is, or changed once.
fn flapping(space: Space<'_>, link: &Link) -> Option<Flapping> {
    let before = space.before.link(link.index).filter(|before| before.name == link.name)?;
    let number = |link: &Link| link.carrier_changes.map(u64::from);
    let changes = Change::of(number(before), number(link)).risen();
    let heard = space.evidence.link_events.get().map(|events| events.items.as_slice()).unwrap_or(&[]);
    let falls = |state: fn(&LinkEvent) -> bool, first: bool| {
        let heard = heard.iter().filter(|event| event.link == link.index && !event.gone);
        let states: Vec<bool> = std::iter::once(first).chain(heard.map(state)).collect();
        states.windows(2).filter(|pair| matches!(pair, [true, false])).count()
    };
    let fell = falls(|event| event.up && event.lower_up, before.up && before.lower_up);
    let switched = falls(|event| event.up, before.up);
    (fell >= FALLS || changes >= CHANGES).then_some(Flapping { fell, switched, changes })
}

/// True if no other interface could carry the traffic of this namespace.
fn is_only_way_out(space: Space<'_>, link: &Link) -> bool {
    let addressed = space.after.addresses.iter().any(|a| a.link == link.index);
    let joins = link.kind.as_deref().is_some_and(|kind| JOINING.contains(&kind));
    let works = |l: &Link| l.index != link.index && !l.loopback && l.up && l.lower_up;
    link.master.is_none() && (addressed || joins) && !space.links().any(works)
}

/// True if nothing but lo joins the namespace with anything.
fn is_bare(space: Space<'_>) -> bool {
    space.links().all(|link| link.loopback || FALLBACK.contains(&link.name.as_str()))
}
