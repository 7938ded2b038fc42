//! Where things stand in an observation, so that nobody looks through all of it for one of them: a machine has
//! thousands of namespaces, devices and kinds of drops, and each rule asks for each namespace.

use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_model::snapshot::Link;
use whydrop_model::{DropCount, DropEvent, Observation};

/// A namespace, as its place in the observation.
type Place = usize;
/// A device: inode of its namespace, and its number there.
type Device = (u64, u32);

/// Made once for an observation. Of two that have the same name the first is found, as in the list.
#[derive(Debug, Default)]
pub struct Index<'a> {
    by_inode: BTreeMap<u64, Place>,
    by_id: BTreeMap<&'a str, Place>,
    owners: BTreeMap<IpAddr, Vec<Place>>,
    links: BTreeMap<Device, &'a Link>,
    ports: BTreeMap<Device, Vec<&'a Link>>,
    upper: BTreeMap<Device, Vec<(Place, &'a Link)>>,
    by_mac: BTreeMap<&'a str, Vec<(Place, &'a Link)>>,
    counts: BTreeMap<u64, Vec<&'a DropCount>>,
    sampled: BTreeMap<u64, Vec<&'a DropEvent>>,
}

impl<'a> Index<'a> {
    /// Looks through everything, once. What a namespace holds is that of the end of the window.
    pub fn of(observation: &'a Observation) -> Self {
        let mut out = Self::default();
        for (place, evidence) in observation.namespaces.iter().enumerate() {
            let (Some(_), Some(after)) = (evidence.before.get(), evidence.after.get()) else { continue };
            let inode = evidence.target.netns_inode;
            out.by_inode.entry(inode).or_insert(place);
            for target in std::iter::once(&evidence.target).chain(&evidence.aliases) {
                out.by_id.entry(&target.id).or_insert(place);
            }
            for address in after.addresses.iter() {
                let owners = out.owners.entry(address.ip).or_default();
                if owners.last() != Some(&place) {
                    owners.push(place);
                }
            }
            for link in after.links.iter() {
                out.links.entry((inode, link.index)).or_insert(link);
                if let Some(master) = link.master {
                    out.ports.entry((inode, master)).or_default().push(link);
                }
                let below = match link.link_netnsid {
                    None => Some(inode),
                    Some(_) => link.link_netns_inode,
                };
                if let Some(mac) = &link.mac {
                    out.by_mac.entry(mac).or_default().push((place, link));
                }
                if let Some(lower) = below.zip(link.link) {
                    out.upper.entry(lower).or_default().push((place, link));
                }
            }
        }
        if let Some(log) = observation.drops.get() {
            for (inode, count) in log.counts.iter().filter_map(|count| Some((count.netns_inode?, count))) {
                out.counts.entry(inode).or_default().push(count);
            }
            for (inode, event) in log.sampled.iter().filter_map(|event| Some((event.netns_inode?, event))) {
                out.sampled.entry(inode).or_default().push(event);
            }
        }
        out
    }

    /// The namespace with this inode.
    pub fn place(&self, inode: u64) -> Option<Place> {
        self.by_inode.get(&inode).copied()
    }

    /// The namespace with this target id or alias.
    pub fn place_of_id(&self, id: &str) -> Option<Place> {
        self.by_id.get(id).copied()
    }

    /// The namespaces that hold an address.
    pub fn owners(&self, ip: IpAddr) -> &[Place] {
        self.owners.get(&ip).map_or(&[], Vec::as_slice)
    }

    /// A device by its number.
    pub fn link(&self, inode: u64, index: u32) -> Option<&'a Link> {
        self.links.get(&(inode, index)).copied()
    }

    /// The devices of which this one is the master: ports of a bridge, members of a bond.
    pub fn ports(&self, inode: u64, master: u32) -> &[&'a Link] {
        self.ports.get(&(inode, master)).map_or(&[], Vec::as_slice)
    }

    /// Devices that name this one as what is beneath them, or as the other end of a pair.
    pub fn upper(&self, inode: u64, lower: u32) -> &[(Place, &'a Link)] {
        self.upper.get(&(inode, lower)).map_or(&[], Vec::as_slice)
    }

    /// Devices with this link-layer address.
    pub fn with_mac(&self, mac: &str) -> &[(Place, &'a Link)] {
        self.by_mac.get(mac).map_or(&[], Vec::as_slice)
    }

    /// Drops that were counted in a namespace, by kind.
    pub fn counts(&self, inode: u64) -> &[&'a DropCount] {
        self.counts.get(&inode).map_or(&[], Vec::as_slice)
    }

    /// Drops that were sampled in a namespace.
    pub fn sampled(&self, inode: u64) -> &[&'a DropEvent] {
        self.sampled.get(&inode).map_or(&[], Vec::as_slice)
    }
}
