//! Where the request of a flow passes, for the picture of its way.

use crate::evidence::case::Case;
use crate::evidence::flow::Flow;
use crate::evidence::packet::Packet;
use whydrop_model::report::WayStep;

/// The ways of all probes, in their order.
pub fn of_probes(case: Case<'_>) -> Vec<Vec<WayStep>> {
    case.flows.iter().filter(|flow| flow.probe().is_some()).map(|flow| of(case, flow)).collect()
}

/// The observed namespaces that the request of a flow passes, in order. A bridge is no step of its own if the packet is
/// routed in the same namespace.
pub fn of(case: Case<'_>, flow: &Flow<'_>) -> Vec<WayStep> {
    let mut out: Vec<WayStep> = vec![];
    for hop in &flow.way.forward.hops {
        let Some(space) = case.space_by_inode(hop.inode) else { continue };
        let target = space.target().id.clone();
        if out.last().is_some_and(|last| last.target == target) {
            continue;
        }
        let device = |link: Option<&u32>| link.map(|link| space.after.link_name(*link));
        out.push(WayStep {
            target,
            incoming: device(hop.incoming.first()),
            outgoing: device(hop.outgoing.last()),
            bridged: hop.bridged,
            destination: turned(&hop.early, &hop.routed, |p| (p.destination, p.destination_port)),
            source: turned(&hop.routed, &hop.late, |p| (p.source, p.source_port)),
            tunnel: hop.tunnel(case).map(str::to_owned),
        });
    }
    out
}

type End = (Option<std::net::IpAddr>, Option<u16>);

/// The end of a packet after a translation; none if it stays as it is.
fn turned(before: &Packet, after: &Packet, end: impl Fn(&Packet) -> End) -> Option<String> {
    let (old, new) = (end(before), end(after));
    let (ip, port) = (new.0?, new.1);
    if old == new {
        return None;
    }
    Some(match port {
        Some(port) => std::net::SocketAddr::new(ip, port).to_string(),
        None => ip.to_string(),
    })
}
