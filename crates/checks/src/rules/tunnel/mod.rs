//! Tunnels and overlays.

mod misfit;
pub mod port_mismatch;
#[cfg(test)]
mod tests;
pub mod vni_mismatch;
pub mod wrong_remote;

use crate::culprit::{Culprit, Scope, sure};
use crate::evidence::case::Space;
use crate::evidence::tunnel::{Pair, Tunnel};
use whydrop_model::Cause;

/// A culprit about an end and others that do not find each other: nothing passes between them, questions for neighbours
/// neither.
fn between<'a>(cause: &'static Cause, here: Tunnel<'a>, others: Vec<Tunnel<'a>>) -> Culprit<'a> {
    let asked = others.clone();
    Culprit::new(here.space, cause, "tunnel.transmit", Scope::Link, here.link.name.clone())
        .on(here.link.index)
        .reaches()
        .takes(move |loss| sure(asked.iter().any(|there| Pair(here, *there).is_asked(loss))))
        .harms(move |flow| sure(others.iter().any(|there| Pair(here, *there).is_needed_by(flow))))
}

/// The ends here that miss others for a mistake of one of the two, where it is told here: at the end that misses more of
/// them, for that is the odd one, else at the one that was asked about.
fn odd_ones<'a>(
    space: Space<'a>,
    missed: impl Fn(Tunnel<'a>) -> Vec<Tunnel<'a>>,
) -> Vec<(Tunnel<'a>, Vec<Tunnel<'a>>)> {
    let ends = space.links().filter_map(|link| Tunnel::of(space, link));
    let told = ends.map(|here| {
        let all = missed(here);
        let (number, mut others) = (all.len(), all);
        others.retain(|there| {
            let his = missed(*there).len();
            number > his || number == his && space.speaks_for(there.space)
        });
        (here, others)
    });
    told.filter(|(_, others)| !others.is_empty()).collect()
}

/// Ends in other namespaces that send to this one and it to them, and no other end of the two namespaces joins them.
fn unjoined<'a>(here: Tunnel<'a>, wanted: impl Fn(&Tunnel<'a>) -> bool) -> Vec<Tunnel<'a>> {
    let all = || Tunnel::all(here.space.case);
    let joined =
        |a: &Tunnel<'a>, b: Space<'a>| all().any(|other| other.space.same(b) && a.is_joined_with(&other));
    let missed = all().filter(|there| {
        !there.space.same(here.space)
            && there.kind == here.kind
            && wanted(there)
            && here.sends_to(there)
            && there.sends_to(&here)
            && !joined(&here, there.space)
            && !joined(there, here.space)
    });
    missed.collect()
}
