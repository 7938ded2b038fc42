//! Programs that ask others for an answer to those who ask them: reverse proxies, gateways, whatever has a backend.

use super::talk::{Talk, Talks};
use crate::evidence::case::{Case, Space};
use crate::evidence::program;
use std::net::SocketAddr;
use whydrop_model::flow::FlowDirection;
use whydrop_model::snapshot::Socket;

const TCP: u8 = 6;
/// Fewer attempts of either side agree by accident.
const SEVERAL: u64 = 3;

/// True if a program asks as often as programs of a target ask it: a proxy, whose own trouble is what its clients get for
/// an answer. That they are connected and answered says nothing.
pub fn asks_for_target(case: Case<'_>, talks: &Talks<'_>, space: Space<'_>, talk: &Talk<'_>) -> bool {
    let told = &talk.told;
    let pids = [told.owner.as_ref().and_then(|owner| owner.pid), told.program];
    let own = |s: &Socket| s.owners.iter().any(|owner| pids.contains(&Some(owner.pid)));
    let serves = |to: SocketAddr| {
        let mut sockets = space.after.sockets.iter();
        space.after.owns(to.ip())
            && sockets.any(|s| program::is_listener(s) && s.local.port() == to.port() && own(s))
    };
    let is_client = |other: &&Talk<'_>| {
        let told = &other.told;
        let by_target = || case.space_by_inode(told.netns_inode).is_some_and(Space::is_target);
        told.direction == FlowDirection::Out && told.protocol == TCP && serves(told.remote) && by_target()
    };
    let asks = told.direction == FlowDirection::Out && told.protocol == TCP && told.attempts >= SEVERAL;
    let asked: u64 = if asks && !space.is_target() {
        talks.list.iter().filter(is_client).map(|client| client.told.attempts).sum()
    } else {
        0
    };
    asked >= SEVERAL && told.attempts <= 2 * asked && asked <= 2 * told.attempts
}
