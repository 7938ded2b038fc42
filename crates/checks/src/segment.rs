//! Devices that are joined below the IP layer: what reaches one of them can be harmed at any other.

use crate::case::Space;
use whydrop_model::snapshot::Link;

/// A segment larger than this is followed no further: recordings may hold anything.
const MOST_DEVICES: usize = 4096;

/// The observed devices that a frame of this one can meet, itself among them: the other end of a veth, the ports of
/// its bridge, what it is stacked on and what is stacked on it.
pub fn of<'a>(space: Space<'a>, link: &'a Link) -> Vec<(Space<'a>, &'a Link)> {
    let mut found = vec![(space, link)];
    let mut next = 0;
    while let Some((space, link)) = found.get(next).copied() {
        next += 1;
        for (there, device) in beside(space, link) {
            let known = found.iter().any(|(s, l)| s.same(there) && l.index == device.index);
            if !known && found.len() < MOST_DEVICES {
                found.push((there, device));
            }
        }
    }
    found
}

fn beside<'a>(space: Space<'a>, link: &'a Link) -> impl Iterator<Item = (Space<'a>, &'a Link)> {
    let of_bridge = |l: &Link| l.master == Some(link.index) || link.master == Some(l.index);
    let ports = space.links().filter(move |l| of_bridge(l)).map(move |l| (space, l));
    let stacked = move |(there, other): &(Space<'a>, &'a Link)| {
        is_stacked(space, link, *there, other) || is_stacked(*there, other, space, link)
    };
    let devices = space.case.spaces().flat_map(|there| there.links().map(move |l| (there, l)));
    space.peer(link).into_iter().chain(ports).chain(devices.filter(stacked))
}

/// True if `upper` is a macvlan, a VLAN, a tunnel … on top of `lower`.
fn is_stacked(space: Space<'_>, upper: &Link, below: Space<'_>, lower: &Link) -> bool {
    let beneath = match upper.link_netnsid {
        None => space.same(below),
        Some(_) => upper.link_netns_inode == Some(below.target().netns_inode),
    };
    beneath && upper.link == Some(lower.index) && upper.kind.as_deref() != Some("veth")
}

#[cfg(test)]
mod tests {
    use super::of;
    use crate::case::Case;
    use crate::testing::*;
    use whydrop_model::{Reading, Snapshot};

    /// Names of the devices that the client's eth0 is joined with.
    fn joined(world: &World) -> Vec<String> {
        let case = Case { observation: &world.observation, ways: &[] };
        let client = case.space("netns:client").unwrap();
        let eth0 = client.links().find(|l| l.name == "eth0").unwrap();
        of(client, eth0).iter().map(|(s, l)| format!("{} {}", s.target().name, l.name)).collect()
    }

    #[test]
    fn a_veth_ends_in_the_other_namespace() {
        assert_eq!(joined(&World::pair()), ["client eth0", "server eth0"]);
    }

    #[test]
    fn ports_of_a_bridge_and_what_is_stacked_belong_to_it_and_nothing_else() {
        let mut world = World::pair();
        world.both(SERVER, |s: &mut Snapshot| {
            let Reading::Present(links) = &mut s.links else { panic!("links") };
            let mut eth0 = links.iter().find(|l| l.name == "eth0").unwrap().clone();
            let device = |index, name: &str, kind: &str| {
                let mut link = eth0.clone();
                (link.index, link.name, link.kind) = (index, name.to_owned(), Some(kind.to_owned()));
                (link.link, link.link_netnsid, link.link_netns_inode) = (None, None, None);
                link
            };
            let bridge = device(20, "br0", "bridge");
            let mut port = device(21, "tap0", "tun");
            port.master = Some(20);
            let mut vlan = device(22, "br0.7", "vlan");
            vlan.link = Some(20);
            let alone = device(23, "eth9", "tun");
            eth0.master = Some(20);
            links.retain(|l| l.name != "eth0");
            links.extend([eth0, bridge, port, vlan, alone]);
        });
        assert_eq!(
            joined(&world),
            ["client eth0", "server eth0", "server br0", "server tap0", "server br0.7"]
        );
    }
}
