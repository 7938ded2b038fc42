//! Connection tracking.

pub mod chain_too_long;
pub mod helper_missing;
pub mod insert_race;
pub mod stale_entry;
pub mod table_full;
#[cfg(test)]
mod tests;
pub mod timeout_idle;

use crate::culprit::{Culprit, Scope, Story};
use crate::evidence::case::Space;
use crate::evidence::forgotten::Forgotten;
use crate::evidence::packet::Fit;
use crate::loss::{Kind, Loss};
use std::net::SocketAddr;
use whydrop_model::netfilter::Hook;
use whydrop_model::{Cause, Text, text};

/// True for a packet that died where connections are confirmed, the last thing at INPUT and POSTROUTING (`nf_confirm`),
/// and that no rule dropped.
fn unconfirmed(space: Space<'_>, loss: &Loss<'_>) -> Fit {
    if !loss.is_in(space) || loss.kind == Kind::Imagined || !loss.is_at_stage("netfilter") {
        return Fit::No;
    }
    let ruled = space.case.verdicts.is_some_and(|verdicts| !verdicts.of_loss(loss).is_empty());
    match (loss.hook, loss.event) {
        _ if ruled => Fit::No,
        (Some(Hook::Input | Hook::Postrouting), _) => Fit::Yes,
        (Some(_), _) => Fit::No,
        (None, _) => Fit::Maybe,
    }
}

const LIVES: Text = text!(
    "{local} in {target} waits for {remote}, and no entry here fits it",
    "{target} 中的 {local} 在等待 {remote}，而此处没有与之相符的条目"
);
/// Connections that are listed.
const MOST: usize = 4;

/// Living connections that this namespace knows no more, as one culprit.
pub fn lost_state<'a>(
    space: Space<'a>,
    cause: &'static Cause,
    lost: Vec<Forgotten<'a>>,
    story: impl Fn(&[Forgotten<'a>]) -> Story + 'a,
) -> Option<Culprit<'a>> {
    let (_, remote) = lost.first()?.ends();
    let ends: Vec<(SocketAddr, SocketAddr)> = lost.iter().map(Forgotten::ends).collect();
    let meant = ends.clone();
    let culprit = Culprit::new(space, cause, "conntrack", Scope::Rule, format!("connections with {remote}"))
        .reaches()
        .by_itself(true)
        .takes(move |loss| {
            let of = loss.event.and_then(|event| Some((event.source?, event.destination?)));
            let mine = |(local, remote): &(SocketAddr, SocketAddr)| {
                of.is_some_and(|(from, to)| {
                    (from, to) == (*local, *remote) || from == *remote && to.port() == local.port()
                })
            };
            Fit::sure(ends.iter().any(mine))
        })
        .harms(move |flow| {
            let mine = |(local, remote): &(SocketAddr, SocketAddr)| {
                let out = (flow.source, flow.address, flow.port)
                    == (Some(local.ip()), Some(remote.ip()), Some(remote.port()));
                let back = (flow.address, flow.port, flow.source)
                    == (Some(local.ip()), Some(local.port()), Some(remote.ip()));
                out || back
            };
            Fit::sure(flow.in_trouble() && meant.iter().any(mine))
        })
        .tell(move |_| {
            let told = |told: Story, lost: &Forgotten<'_>| {
                let (local, remote) = lost.ends();
                let words: [(&str, &dyn std::fmt::Display); 3] =
                    [("local", &local), ("target", &lost.home.target().id), ("remote", &remote)];
                let port = local.port().to_string();
                told.evidence(
                    LIVES.fill(&words),
                    "conntrack entries",
                    &["conntrack", "-L", "-p", "tcp", "--orig-port-src", &port],
                )
            };
            lost.iter().take(MOST).fold(story(&lost), told)
        });
    Some(culprit)
}
