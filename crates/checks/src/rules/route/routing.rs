//! The protocols by which routers tell each other their routes, and who talks to nobody.

use crate::evidence::case::Space;
use crate::evidence::route::contains;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// IPPROTO_TCP, IPPROTO_UDP.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Protocols of their own: EIGRP and OSPF.
const PROTOCOLS: [u8; 2] = [88, 89];
/// Ports by protocol: BGP and LDP; RIP, RIPng, OLSR, BFD (single-hop, echo, multi-hop) and Babel.
const PORTS: [(u8, &[u16]); 2] = [(TCP, &[179, 646]), (UDP, &[520, 521, 698, 3784, 3785, 4784, 6696])];

/// A neighbour that speaks a routing protocol to a namespace in which nobody listens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unheard {
    /// IP protocol.
    pub protocol: u8,
    /// Port; 0 for a protocol without.
    pub port: u16,
    /// Who speaks.
    pub from: IpAddr,
}

impl Unheard {
    /// How people call it.
    pub fn name(self) -> &'static str {
        match (self.protocol, self.port) {
            (88, _) => "EIGRP",
            (89, _) => "OSPF",
            (_, 179) => "BGP",
            (_, 646) => "LDP",
            (_, 520 | 521) => "RIP",
            (_, 698) => "OLSR",
            (_, 6696) => "Babel",
            _ => "BFD",
        }
    }
}

/// Who speaks to nobody here: refused flows, and packets that no socket took. Only neighbours on an own network count.
pub fn unheard(space: Space<'_>) -> BTreeSet<Unheard> {
    let refused = space.case.flows.iter().filter(|flow| flow.in_trouble() && flow.refused());
    let refused = refused.filter_map(|flow| {
        let arrival =
            flow.arrival().filter(|_| flow.destination(space.case).is_some_and(|d| d.same(space)))?;
        Some(Unheard { protocol: flow.protocol, port: arrival.destination_port?, from: arrival.source? })
    });
    let dropped = space.losses().filter_map(|loss| {
        let event = loss.event.filter(|_| loss.place.is_some())?;
        let protocol = event.protocol?;
        let port = if PROTOCOLS.contains(&protocol) { 0 } else { event.destination?.port() };
        Some(Unheard { protocol, port, from: event.source?.ip() })
    });
    refused.chain(dropped).filter(|unheard| is_routing(*unheard) && is_near(space, unheard.from)).collect()
}

fn is_routing(Unheard { protocol, port, .. }: Unheard) -> bool {
    PROTOCOLS.contains(&protocol)
        || PORTS.iter().any(|(known, ports)| *known == protocol && ports.contains(&port))
}

fn is_near(space: Space<'_>, from: IpAddr) -> bool {
    space.after.addresses.iter().any(|own| own.ip != from && contains(own.ip, own.prefix, from))
}
