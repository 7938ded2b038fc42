//! Bonds and their members.

pub mod member_dead;
pub mod no_active_slave;
#[cfg(test)]
mod tests;

use crate::culprit::Missing;
use crate::evidence::case::Space;
use crate::loss::missing::{self, Frame};
use whydrop_model::snapshot::Link;

/// Bonds that are switched on.
fn bonds<'a>(space: Space<'a>) -> impl Iterator<Item = &'a Link> {
    space.links().filter(|link| link.kind.as_deref() == Some("bond") && link.up)
}

fn members<'a>(space: Space<'a>, bond: &Link) -> impl Iterator<Item = &'a Link> {
    let index = bond.index;
    space.links().filter(move |link| link.master == Some(index))
}

fn detail<'l>(link: &'l Link, key: &str) -> Option<&'l str> {
    link.details.get(key).map(String::as_str)
}

/// What `cat` shows of a bond.
fn proc_file(bond: &Link) -> String {
    format!("/proc/net/bonding/{}", bond.name)
}

/// Frames that a member that is down, or its other end, does not pass on: people know the trouble by the bond.
fn passed_on<'a>(space: Space<'a>, member: &'a Link) -> Missing<'a> {
    let ends = [Some((space, member)), space.peer(member)].into_iter().flatten();
    ends.map(|(there, link)| missing::at(there, link.index, Frame::Ip(None))).collect()
}
