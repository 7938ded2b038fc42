//! Interfaces and what lies below them.

pub mod admin_down;
pub mod errors;
pub mod no_carrier;
pub mod rx_ring_overflow;
#[cfg(test)]
mod tests;

use crate::case::Space;
use crate::rule::{Judgement, Suspect, manual};
use whydrop_model::snapshot::Link;
use whydrop_model::{Cause, Direction, Text, text};

const COUNTERS: &str = "interface counters";
const ROSE: Text = text!("{field} rose by {n}", "{field} 计数 +{n}");

/// Kinds that a namespace is joined to others with. The kernel makes further devices (tunl0, sit0, dummy0, ifb0) in
/// every namespace once a module is loaded; those are down and mean nothing.
const JOINING: &[&str] = &["veth", "macvlan", "ipvlan", "vlan", "bond"];

/// Judges a cause of which counters of an interface are the witness; `total` says how many frames their rises stand for.
/// The texts say what happens and what to do; they may name `dev`.
fn judge_counters(
    space: Space<'_>,
    cause: &'static Cause,
    stage: &str,
    fields: &[&str],
    total: impl Fn(&[u64]) -> u64,
    texts: [Text; 2],
) -> Judgement {
    let [summary, advice] = texts;
    let suspects = space.links().filter(|link| !link.loopback).filter_map(|link| {
        let rises = fields.iter().map(|field| (*field, space.link_rise(link, field)));
        let rises: Vec<(&str, u64)> = rises.filter(|(_, n)| *n > 0).collect();
        let lost = total(&rises.iter().map(|(_, n)| *n).collect::<Vec<_>>());
        if lost == 0 {
            return None;
        }
        let dev = link.name.as_str();
        let mut suspect = Suspect::new(space, cause, stage, dev.to_owned(), summary.fill(&[("dev", &dev)]))
            .direction(Direction::Receive)
            .packets(lost, COUNTERS)
            .on(link.index)
            .touches(space.probes_via(link.index))
            .fix(manual(advice));
        for (field, n) in rises {
            let claim = ROSE.fill(&[("field", &field), ("n", &n)]);
            suspect = suspect.evidence(claim, COUNTERS, &["ip", "-s", "-s", "link", "show", "dev", dev]);
        }
        Some(suspect)
    });
    suspects.collect::<Vec<_>>().into()
}

/// True if no other interface could carry the traffic of this namespace.
fn is_only_way_out(space: Space<'_>, link: &Link) -> bool {
    let addressed = space.after.addresses.iter().any(|a| a.link == link.index);
    let joins = link.kind.as_deref().is_some_and(|kind| JOINING.contains(&kind));
    let works = |l: &Link| l.index != link.index && !l.loopback && l.up && l.lower_up;
    link.master.is_none() && (addressed || joins) && !space.links().any(works)
}
