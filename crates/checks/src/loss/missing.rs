//! Packets that a symptom misses: who took them is its root.
//!
//! Each is imagined at the places of its way and asked for there like any other loss.

use super::{Kind, Loss, Standing};
use crate::culprit::Missing;
use crate::evidence::case::{Case, Space};
use crate::evidence::flow::Flow;
use crate::evidence::packet::Packet;
use crate::evidence::segment;
use crate::evidence::translate::Translators;
use crate::evidence::tunnel::Tunnel;
use crate::evidence::way::Way;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use whydrop_model::netfilter::Hook;
use whydrop_model::snapshot::{Address, Link};

/// IPPROTO_ICMP.
const ICMP: u8 = 1;
/// IPPROTO_ICMPV6.
const ICMPV6: u8 = 58;

/// The hooks that a routed packet can meet.
const HOOKS: [Hook; 5] = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];

/// What an imagined packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A question of ARP or its answer: who asks, if he has an address, and whom. The owner of an address answers only
    /// where it has a route to him who asks (arp_process()).
    Arp {
        /// Who asks.
        asker: Option<IpAddr>,
        /// Whose link-layer address is wanted.
        asked: IpAddr,
    },
    /// An IP packet, as a hook would see it; none where only the interface matters.
    Ip(Option<Packet>),
    /// What a program should take out of its socket.
    Read {
        /// IP protocol of the socket.
        protocol: u8,
        /// Its local port.
        port: u16,
    },
}

/// One packet at one interface.
pub fn at<'a>(space: Space<'a>, link: u32, frame: Frame) -> Loss<'a> {
    Loss { link: Some(link), frame: Some(frame), ..imagined(space) }
}

/// No interface has this index.
const NO_INTERFACE: u32 = 0;

/// One packet for which no interface is left.
pub fn at_no_interface(space: Space<'_>) -> Loss<'_> {
    at(space, NO_INTERFACE, Frame::Ip(None))
}

/// True for such a packet.
pub fn is_at_no_interface(loss: &Loss<'_>, space: Space<'_>) -> bool {
    loss.is_imagined_at(space, NO_INTERFACE)
}

/// One packet at a netfilter hook.
pub fn at_hook<'a>(space: Space<'a>, hook: Hook, packet: Packet) -> Loss<'a> {
    Loss { hook: Some(hook), frame: Some(Frame::Ip(Some(packet))), ..imagined(space) }
}

/// What a program should take out of its socket.
pub fn read_from<'a>(space: Space<'a>, protocol: u8, port: u16) -> Loss<'a> {
    Loss { frame: Some(Frame::Read { protocol, port }), ..imagined(space) }
}

/// The question for a neighbour and its answer, at every device between. IPv6 asks by ICMPv6, which meets the hooks of
/// both ends, too.
pub fn neighbour<'a>(space: Space<'a>, link: &'a Link, ip: IpAddr) -> Missing<'a> {
    let near = |ours: &&Address| ours.link == link.index && ours.ip.is_ipv4() == ip.is_ipv4();
    let asker = space.after.addresses.iter().find(near).map(|address| address.ip);
    let path = segment::towards(space, link, ip);
    let outer = path
        .iter()
        .filter_map(|(there, device)| Tunnel::of(*there, device))
        .flat_map(|tunnel| carried(tunnel, ip));
    let outer: Missing<'a> = outer.collect();
    let IpAddr::V6(asked) = ip else {
        let owner = path.last().filter(|(there, _)| !there.same(space) && there.after.owns(ip)).copied();
        let frame = Frame::Arp { asker, asked: ip };
        let devices = path.into_iter().map(|(there, device)| at(there, device.index, frame.clone()));
        let mut out: Missing<'a> = devices.chain(outer).collect();
        // The owner's routes decide about him who asks, as they would about a packet of his. Who sends from another
        // address of his own asks by that (arp_solicit(), arp_announce 0).
        let flows = space.case.flows.iter().filter(|flow| flow.suffers());
        let passing = flows.filter(|flow| flow.next_hops(space).contains(&(link.index, ip)));
        let sources = passing.flat_map(|flow| [flow.source, flow.address]).flatten();
        let own = sources.filter(|from| from.is_ipv4() && space.after.owns(*from));
        let askers: BTreeSet<Option<IpAddr>> = own.map(Some).chain([asker]).collect();
        if let Some((owner, device)) = owner {
            for asker in &askers {
                let in_interface = Some(device.name.clone());
                let question = Packet { protocol: 0, in_interface, ..icmpv6(*asker, Some(ip)) };
                let answer = Packet { in_interface: None, ..question.answer() };
                out.extend([question, answer].map(|packet| at_routing(owner, packet)));
            }
        }
        return out;
    };
    let question = icmpv6(asker, Some(solicited_node(asked)));
    let answer = icmpv6(Some(ip), asker);
    let owner = path.last().map(|(there, _)| *there).filter(|there| there.after.owns(ip));
    // A bridge sends the question to the group by whichever port leads to the one who is meant.
    let meant = Packet { destination: Some(ip), ..question.clone() };
    let mut out: Missing<'a> = path
        .into_iter()
        .map(|(there, device)| at(there, device.index, Frame::Ip(Some(meant.clone()))))
        .chain(outer)
        .collect();
    out.push(at_hook(space, Hook::Input, answer.clone()));
    out.push(at_hook(space, Hook::Output, question.clone()));
    if let Some(owner) = owner {
        out.push(at_hook(owner, Hook::Input, question));
        out.push(at_hook(owner, Hook::Output, answer));
    }
    out
}

/// The packets of a tunnel that carry what is sent by it to an inner address.
fn carried<'a>(tunnel: Tunnel<'a>, ip: IpAddr) -> Missing<'a> {
    let case = tunnel.space.case;
    let way =
        tunnel.ends_towards(ip).map(|ends| Way::of(usize::MAX, &Translators::of(case), tunnel.space, ends));
    way.map_or(vec![], |way| on_way(case, &way, |_| true))
}

/// What tells the ends of a flow that a packet was too big for a hop: sent by any hop, to either end.
pub fn too_big<'a>(case: Case<'a>, flow: &Flow<'a>) -> Missing<'a> {
    let ends = [flow.source, flow.address].into_iter().flatten();
    let message = |end: IpAddr| Packet {
        protocol: if end.is_ipv4() { ICMP } else { ICMPV6 },
        // It is related to the flow, which is known.
        reply: true,
        ..icmpv6(None, Some(end))
    };
    let mut out = vec![];
    for (end, packet) in ends.map(|end| (end, message(end))) {
        for there in case.spaces().filter(|there| flow.visits(*there)) {
            let hooks: &[Hook] = match there.after.owns(end) {
                true => &[Hook::Prerouting, Hook::Input],
                false => &[Hook::Prerouting, Hook::Forward, Hook::Output, Hook::Postrouting],
            };
            out.extend(hooks.iter().map(|hook| at_hook(there, *hook, packet.clone())));
        }
    }
    out
}

fn icmpv6(source: Option<IpAddr>, destination: Option<IpAddr>) -> Packet {
    Packet {
        protocol: ICMPV6,
        source,
        destination,
        source_port: None,
        destination_port: None,
        in_interface: None,
        out_interface: None,
        // Connection tracking leaves neighbour discovery alone: it is never established.
        ..Packet::default()
    }
}

/// The group of a neighbour (RFC 4291, 2.7.1): the last three bytes of its address tell.
fn solicited_node(ip: Ipv6Addr) -> IpAddr {
    let [.., high, low] = ip.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low).into()
}

/// A packet as the routing decision of a namespace meets it, and nothing else.
pub fn at_routing<'a>(space: Space<'a>, packet: Packet) -> Loss<'a> {
    Loss { frame: Some(Frame::Ip(Some(packet))), ..imagined(space) }
}

/// A packet to an address as it would leave by an interface.
pub fn leaving<'a>(space: Space<'a>, link: u32, to: IpAddr) -> Loss<'a> {
    let packet = Packet { protocol: 0, ..icmpv6(None, Some(to)) };
    at(space, link, Frame::Ip(Some(packet)))
}

/// Packets on the way of a flow, those that are `wanted`, at each hook and device that they meet.
pub fn on_way<'a>(case: Case<'a>, way: &Way, wanted: impl Fn(&Packet) -> bool) -> Missing<'a> {
    let mut out = vec![];
    for space in case.spaces().filter(|space| way.visits(*space)) {
        for hook in HOOKS {
            let packets = way.packets_at(space, hook).into_iter().filter(|packet| wanted(packet));
            out.extend(packets.map(|packet| at_hook(space, hook, packet)));
        }
        let Some(request) = way.request().filter(|request| wanted(request)) else { continue };
        let hops = way.forward.hops.iter().filter(|hop| hop.inode == space.inode());
        let devices = hops.flat_map(|hop| hop.incoming.iter().chain(&hop.outgoing));
        out.extend(devices.map(|link| at(space, *link, Frame::Ip(Some(request.clone())))));
    }
    let Some(answer) = way.request().map(|request| request.answer()).filter(wanted) else { return out };
    for hop in way.back.as_ref().unwrap_or(&way.forward).hops.iter() {
        let Some(space) = case.space_by_inode(hop.inode) else { continue };
        let devices = hop.incoming.iter().chain(&hop.outgoing);
        out.extend(devices.map(|link| at(space, *link, Frame::Ip(Some(answer.clone())))));
    }
    out
}

fn imagined<'a>(space: Space<'a>) -> Loss<'a> {
    Loss {
        id: usize::MAX,
        packets: 1,
        kind: Kind::Imagined,
        inode: Some(space.inode()),
        link: None,
        place: None,
        hook: None,
        count: None,
        event: None,
        flow: None,
        leg: None,
        standing: Standing::Missed,
        frame: None,
        alike: vec![],
    }
}
