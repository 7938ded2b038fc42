//! What a namespace id stands for: RTM_GETNSID.
//!
//! IFLA_LINK_NETNSID of a veth or macvlan is a number that means something only inside the namespace of the
//! interface. The kernel translates the other way round, from an open namespace to its number, so each known
//! namespace is asked for until all numbers are found.

use crate::sys::attributes::Attributes;
use crate::sys::netlink::Netlink;
use crate::sys::netns::Netns;
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd};

/// Length of struct rtgenmsg with padding.
const HEADER: usize = 4;

// NETNSA_* (include/uapi/linux/net_namespace.h).
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// Inodes of those of `wanted` that are among `known`; a namespace that cannot be asked about is passed over. Needs no
/// privilege.
pub fn resolve<N: Borrow<Netns>>(
    route: &mut Netlink,
    mut wanted: BTreeSet<i32>,
    known: impl IntoIterator<Item = N>,
) -> BTreeMap<i32, u64> {
    let mut found = BTreeMap::new();
    let mut known = known.into_iter();
    // None is opened in vain.
    while !wanted.is_empty()
        && let Some(namespace) = known.next()
    {
        let namespace = namespace.borrow();
        let id = route.get_raw(libc::RTM_GETNSID, &request(namespace), parse);
        if let Some(id) = id.ok().flatten().filter(|id| wanted.remove(id)) {
            found.insert(id, namespace.inode());
        }
    }
    found
}

fn request(namespace: &Netns) -> Vec<u8> {
    let mut payload = vec![0; HEADER];
    payload.extend(8u16.to_ne_bytes());
    payload.extend(NETNSA_FD.to_ne_bytes());
    payload.extend(namespace.as_fd().as_raw_fd().to_ne_bytes());
    payload
}

/// The id; none (-1 in the kernel) if this namespace has no number for the other one.
fn parse(message: &[u8]) -> Option<i32> {
    let id = Attributes::after(message, HEADER)?.u32(NETNSA_NSID)?.cast_signed();
    (id >= 0).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::attributes::build::{attribute, torture};

    #[test]
    fn a_number_or_none() {
        let mut message = vec![0; HEADER];
        message.extend(attribute(NETNSA_NSID, &3i32.to_ne_bytes()));
        assert_eq!(parse(&message), Some(3));
        torture(&message, parse);
        let mut message = vec![0; HEADER];
        message.extend(attribute(NETNSA_NSID, &(-1i32).to_ne_bytes()));
        assert_eq!(parse(&message), None);
    }
}
