//! Stations of one segment that are taken for each other.

pub mod duplicate_ip;
pub mod duplicate_mac;
#[cfg(test)]
mod tests;

use crate::evidence::case::Space;
use crate::evidence::segment;
use whydrop_model::snapshot::Link;

/// True for an interface at which frames end: it is up, and has an address.
fn is_station(space: Space<'_>, link: &Link) -> bool {
    link.up && !link.loopback && space.after.addresses.iter().any(|a| a.link == link.index)
}

/// The other stations that frames of this one can meet.
fn others<'a>(space: Space<'a>, link: &'a Link) -> impl Iterator<Item = (Space<'a>, &'a Link)> {
    let all = segment::reachable(space, link).into_iter();
    all.filter(move |(there, device)| !(there.same(space) && device.index == link.index))
        .filter(|(there, device)| is_station(*there, device))
}

/// Where one of two is told of: at the target, else at the one that comes first.
fn is_told_here(here: (Space<'_>, u32), there: (Space<'_>, u32)) -> bool {
    match (here.0.is_target(), there.0.is_target()) {
        (true, false) => true,
        (false, true) => false,
        _ => (here.0.inode(), here.1) < (there.0.inode(), there.1),
    }
}
