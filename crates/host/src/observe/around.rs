//! Surroundings: the namespaces that are joined to the targets and that nobody named.
//!
//! The client of a server, or the router between two, is often a namespace of the same machine. From the targets on,
//! link by link, the nearest are found and observed with them, and then those whose devices stand over one of these.

use crate::collect;
use crate::containers::Engines;
use crate::error::Result;
use crate::places::{self, Place};
use crate::source::{link, netnsid};
use crate::sys::netlink::Netlink;
use crate::sys::netns::Netns;
use crate::targets::Resolved;
use std::collections::{BTreeMap, BTreeSet};
use whydrop_model::{Entry, NamespaceEvidence, Reading, Role, Target, TargetKind};

/// More namespaces than these are not read unasked: each costs two snapshots.
const MOST: usize = 64;
/// Names of those beyond that coverage lists.
const MOST_NAMES: usize = 8;

/// What was found around the targets.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    /// The nearest first.
    pub joined: Vec<Resolved>,
    /// Those for which there was no room, in place of their readings.
    pub beyond: Option<NamespaceEvidence>,
}

/// Looks around the targets. What may not be looked at is left out, and so is a namespace that has neither a name nor
/// a process: then the link that leads there stays unresolved.
pub(super) fn find(targets: &[&Netns], engines: &Engines) -> Result<Surroundings> {
    let mut places = places::find().found;
    for target in targets {
        places.remove(&target.inode());
    }
    let mut out = Surroundings::default();
    let mut frontier = targets.iter().map(|netns| netns.try_clone()).collect::<Result<Vec<_>>>()?;
    while !places.is_empty() {
        let mut near = neighbours(&frontier, &places);
        frontier.clear();
        if near.is_empty() {
            let known: Vec<&Netns> =
                targets.iter().copied().chain(out.joined.iter().map(|found| &found.netns)).collect();
            near = stacked(&known, &places);
        }
        if near.is_empty() {
            break;
        }
        let mut beyond = vec![];
        for inode in near {
            let Some(place) = places.remove(&inode) else { continue };
            // It may have ended, or its name may lead elsewhere by now.
            let resolved = place.resolve(engines).filter(|found| found.netns.inode() == inode);
            let Some(resolved) = resolved else { continue };
            if out.joined.len() >= MOST {
                beyond.push(resolved.target.id);
                continue;
            }
            frontier.push(resolved.netns.try_clone()?);
            out.joined.push(resolved);
        }
        if out.joined.len() >= MOST {
            out.beyond = not_read(&beyond);
            break;
        }
    }
    Ok(out)
}

/// Inodes of the places that links of these namespaces lead to; the own namespace of whydrop, where most links end,
/// comes first.
fn neighbours(frontier: &[Netns], places: &BTreeMap<u64, Place>) -> Vec<u64> {
    let here = |place: &&Place| place.here;
    let all = || places.values().filter(here).chain(places.values().filter(|place| !place.here));
    let look = || {
        let ids = || -> Result<BTreeMap<i32, u64>> {
            let mut route = Netlink::route()?;
            let links = link::read(&mut route)?;
            let wanted: BTreeSet<i32> = links.iter().filter_map(|entry| entry.link.link_netnsid).collect();
            Ok(netnsid::resolve(&mut route, wanted, all().filter_map(Place::open)))
        };
        ids().map_or_else(|error| error.reading(""), Reading::Present)
    };
    let frontier: Vec<&Netns> = frontier.iter().collect();
    let mut out: Vec<u64> = vec![];
    for found in collect::in_each(&frontier, look) {
        for inode in found.get().into_iter().flat_map(BTreeMap::values) {
            if !out.contains(inode) {
                out.push(*inode);
            }
        }
    }
    out
}

/// Inodes of the places with a device over one of these namespaces (macvlan, ipvlan, vlan). Only the upper device knows
/// of the lower one, so each place is asked.
fn stacked(known: &[&Netns], places: &BTreeMap<u64, Place>) -> Vec<u64> {
    let (inodes, opened): (Vec<u64>, Vec<Netns>) =
        places.iter().filter_map(|(inode, place)| Some((*inode, place.open()?))).unzip();
    let look = || {
        let stands = || -> Result<bool> {
            let mut route = Netlink::route()?;
            let links = link::read(&mut route)?;
            let over = links.iter().filter(|entry| entry.link.kind.as_deref() != Some("veth"));
            let wanted: BTreeSet<i32> = over.filter_map(|entry| entry.link.link_netnsid).collect();
            Ok(!netnsid::resolve(&mut route, wanted, known.iter().copied()).is_empty())
        };
        stands().map_or_else(|error| error.reading(""), Reading::Present)
    };
    let stands = collect::in_each(&opened.iter().collect::<Vec<_>>(), look);
    let found = inodes.into_iter().zip(stands).filter(|(_, stands)| stands.get() == Some(&true));
    found.map(|(inode, _)| inode).collect()
}

/// One row for all that had no room: they hide what is lost in them.
fn not_read(ids: &[String]) -> Option<NamespaceEvidence> {
    if ids.is_empty() {
        return None;
    }
    let named = ids.iter().take(MOST_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    let why = format!(
        "{} more namespaces are joined to the targets; the nearest {MOST} were read: {named}{}",
        ids.len(),
        if ids.len() > MOST_NAMES { ", and more" } else { "" }
    );
    let why: Reading<_> = Reading::Failed(why);
    Some(NamespaceEvidence {
        target: Target {
            id: "netns:*".to_owned(),
            kind: TargetKind::Netns,
            name: "netns:*".to_owned(),
            netns_inode: 0,
            pid: None,
            container: None,
            role: Role::Surrounding,
            entry: Entry::Here,
            tenants: vec![],
        },
        aliases: vec![],
        before: why.clone(),
        after: why,
        link_events: Reading::not_recorded(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_of_those_without_room_counts_them() {
        assert!(not_read(&[]).is_none());
        let ids: Vec<String> = (0..10).map(|n| format!("pid:{n}")).collect();
        let row = not_read(&ids).unwrap();
        assert_eq!(row.target.role, Role::Surrounding);
        assert!(
            matches!(&row.before, Reading::Failed(why) if why.starts_with("10 more") && why.ends_with("and more"))
        );
    }
}
