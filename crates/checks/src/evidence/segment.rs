//! Devices that are joined below the IP layer: what reaches one of them can be harmed at any other.

use super::case::Space;
use std::collections::BTreeSet;
use std::net::IpAddr;
use whydrop_model::snapshot::Link;

/// Kinds that put frames into other packets (rtnl_link_ops.kind).
const TUNNELS: &[&str] = &["vxlan", "geneve", "gretap", "ip6gretap", "erspan", "bareudp"];
/// Kinds of devices that are joined with others of their machine only.
const INNER: &[&str] = &["bridge", "vlan", "macvlan", "ipvlan", "bond", "team", "dummy", "ifb", "vrf"];

/// A segment larger than this is followed no further: recordings may hold anything.
const MOST_DEVICES: usize = 4096;

/// The observed devices that a frame of this one can meet, itself among them: the other end of a veth, the ports of
/// its bridge, what it is stacked on and what is stacked on it.
pub fn of<'a>(space: Space<'a>, link: &'a Link) -> Vec<(Space<'a>, &'a Link)> {
    explore(space, link).into_iter().map(|(space, link, _)| (space, link)).collect()
}

/// The devices that a frame of this one passes until it reaches a device that holds `ip`, both ends among them. If
/// nobody in view holds it, the devices that may lie on the way out of sight: not those that only lead to somebody else.
pub fn towards<'a>(space: Space<'a>, link: &'a Link, ip: IpAddr) -> Vec<(Space<'a>, &'a Link)> {
    let all = explore(space, link);
    let holds = |(there, device, _): &(Space<'a>, &'a Link, Option<usize>)| {
        let own = space.same(*there) && device.index == link.index;
        !own && there.after.addresses.iter().any(|a| a.link == device.index && a.ip == ip)
    };
    let Some(end) = all.iter().position(holds) else {
        let strange = |there: &Space<'a>| {
            !there.same(space) && there.after.addresses.iter().any(|a| !a.ip.is_loopback())
        };
        let open = all.into_iter().filter(|(there, device, _)| !strange(there) || device.master.is_some());
        return open.map(|(space, link, _)| (space, link)).collect();
    };
    let mut path = vec![];
    let mut at = Some(end);
    while let Some((there, device, from)) = at.and_then(|at| all.get(at)) {
        path.push((*there, *device));
        at = *from;
    }
    path.reverse();
    path
}

/// Those of [`of`] that a frame really reaches: none in another VLAN, none inside of a tunnel, and none beyond a bridge
/// that filters by VLAN, of which nobody can tell here.
pub fn reachable<'a>(space: Space<'a>, link: &'a Link) -> Vec<(Space<'a>, &'a Link)> {
    let all = explore(space, link);
    let tags = tags(&all);
    let met = all.into_iter().zip(tags).filter(|(_, tag)| tag.is_some());
    met.map(|((space, link, _), _)| (space, link)).collect()
}

/// The devices that a frame of this one really passes to the one in another namespace that holds `ip`, both among them.
pub fn passage<'a>(space: Space<'a>, link: &'a Link, ip: IpAddr) -> Option<Vec<(Space<'a>, &'a Link)>> {
    let all = explore(space, link);
    let tags = tags(&all);
    let holds = |((there, device, _), tag): &(&Reached<'a>, &Option<Option<&str>>)| {
        let own = there.after.addresses.iter().any(|a| a.link == device.index && a.ip == ip);
        own && tag.is_some() && !there.same(space)
    };
    let mut at = Some(all.iter().zip(&tags).position(|both| holds(&both))?);
    let mut path = vec![];
    while let Some((there, device, from)) = at.and_then(|at| all.get(at)) {
        path.push((*there, *device));
        at = *from;
    }
    path.reverse();
    Some(path)
}

/// For each device the tag that the frame carries there; none where it does not come.
fn tags<'a>(all: &[Reached<'a>]) -> Vec<Option<Option<&'a str>>> {
    let mut tags: Vec<Option<Option<&str>>> = vec![];
    for (_, device, from) in all {
        let before = from.and_then(|from| Some((all.get(from)?, tags.get(from).copied().flatten()?)));
        let tag = match (from, before) {
            (None, _) => Some(None),
            (Some(_), None) => None,
            (Some(_), Some(((_, last, _), tag))) => carry(tag, last, device),
        };
        tags.push(tag);
    }
    tags
}

/// A device in reach, with the number of the one before.
type Reached<'a> = (Space<'a>, &'a Link, Option<usize>);

/// All devices in reach with the number of the one before, nearest first.
fn explore<'a>(space: Space<'a>, link: &'a Link) -> Vec<Reached<'a>> {
    let mut found = vec![(space, link, None)];
    let mut known = BTreeSet::from([(space.inode(), link.index)]);
    let mut next = 0;
    while let Some((space, link, _)) = found.get(next).copied() {
        for (there, device) in beside(space, link) {
            if found.len() < MOST_DEVICES && known.insert((there.inode(), device.index)) {
                found.push((there, device, Some(next)));
            }
        }
        next += 1;
    }
    found
}

fn beside<'a>(space: Space<'a>, link: &'a Link) -> impl Iterator<Item = (Space<'a>, &'a Link)> {
    let (case, inode) = (space.case, space.inode());
    let master = link.master.and_then(|master| space.link(master));
    let ports = case.index.ports(inode, link.index).iter().copied();
    let ports = ports.chain(master).map(move |l| (space, l));
    let above = case.index.upper(inode, link.index).iter();
    let above = above.filter_map(move |(place, upper)| Some((case.at(*place)?, *upper)));
    let above = above.filter(|(_, upper)| upper.kind.as_deref() != Some("veth"));
    space.peer(link).into_iter().chain(ports).chain(beneath(space, link)).chain(above)
}

/// The tag of a frame after its step from one device to the next; none if it does not take it. Only one tag is followed.
fn carry<'a>(tag: Option<&'a str>, from: &'a Link, to: &'a Link) -> Option<Option<&'a str>> {
    let id = |link: &'a Link| link.details.get("vlan_id").map_or("?", String::as_str);
    let kind = |link: &Link, kind: &str| link.kind.as_deref() == Some(kind);
    let goes_up = to.link == Some(from.index) && !kind(to, "veth");
    let goes_down = from.link == Some(to.index) && !kind(from, "veth");
    let filters = |link: &Link| link.details.get("vlan_filtering").is_some_and(|on| on == "on");
    match (goes_up, goes_down) {
        (true, _) if kind(to, "vlan") => (tag == Some(id(to))).then_some(None),
        (true, _) if is_tunnel(to) => None,
        (_, true) if kind(from, "vlan") => tag.is_none().then_some(Some(id(from))),
        (_, true) if is_tunnel(from) => None,
        _ if filters(from) || filters(to) => None,
        _ => Some(tag),
    }
}

/// True for a device that puts frames into other packets.
pub fn is_tunnel(link: &Link) -> bool {
    link.kind.as_deref().is_some_and(|kind| TUNNELS.contains(&kind))
}

/// True if frames may come from out of sight by this device: its other end is not in view.
pub fn leads_out(space: Space<'_>, link: &Link) -> bool {
    match link.kind.as_deref() {
        Some("veth") => space.peer(link).is_none(),
        Some(kind) => !INNER.contains(&kind),
        None => !link.loopback,
    }
}

/// What a macvlan, a VLAN, a tunnel … is on top of.
fn beneath<'a>(space: Space<'a>, upper: &Link) -> Option<(Space<'a>, &'a Link)> {
    let below = match upper.link_netnsid {
        None => space,
        Some(_) => space.case.space_by_inode(upper.link_netns_inode?)?,
    };
    let lower = below.link(upper.link.filter(|_| upper.kind.as_deref() != Some("veth"))?)?;
    Some((below, lower))
}

#[cfg(test)]
mod tests {
    use super::{of, reachable};
    use crate::evidence::case::Case;
    use crate::evidence::index::Index;
    use crate::testing::*;
    use whydrop_model::{Reading, Snapshot};

    /// Names of the devices that the client's eth0 is joined with.
    fn joined(world: &World) -> Vec<String> {
        let index = Index::of(&world.observation);
        let case = Case::bare(&world.observation, &index);
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

    #[test]
    fn a_frame_comes_to_no_other_vlan_and_not_past_a_bridge_that_filters() {
        let names = |world: &World| {
            let index = Index::of(&world.observation);
            let case = Case::bare(&world.observation, &index);
            let client = case.space("netns:client").unwrap();
            let eth0 = client.links().find(|l| l.name == "eth0").unwrap();
            let met = reachable(client, eth0);
            met.iter().map(|(s, l)| format!("{} {}", s.target().name, l.name)).collect::<Vec<_>>()
        };
        let vlan = |world: &mut World, index: usize, id: &str| {
            world.both(index, |s: &mut Snapshot| {
                let Reading::Present(links) = &mut s.links else { panic!("links") };
                let mut vlan = links.iter().find(|l| l.name == "eth0").unwrap().clone();
                (vlan.index, vlan.name, vlan.kind) = (5, "eth0.v".to_owned(), Some("vlan".to_owned()));
                (vlan.link, vlan.link_netnsid, vlan.link_netns_inode) = (Some(2), None, None);
                vlan.details.insert("vlan_id".to_owned(), id.to_owned());
                links.push(vlan);
            });
        };
        let mut world = World::pair();
        vlan(&mut world, SERVER, "7");
        assert_eq!(names(&world), ["client eth0", "server eth0"]);

        let mut world = World::bridged();
        world.both(HOST, |s| {
            let Reading::Present(links) = &mut s.links else { panic!("links") };
            for link in links.iter_mut().filter(|link| link.name == "br0") {
                link.details.insert("vlan_filtering".to_owned(), "on".to_owned());
            }
        });
        assert_eq!(names(&world), ["client eth0", "host p0"]);
    }
}
