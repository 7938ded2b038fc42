//! What becomes of a frame on a segment: the VLAN tag that it carries, and the device that does not take it.
//!
//! A bridge that filters by VLAN gives each frame an id where it comes in (its tag, or the port's PVID) and lets it out
//! where the port belongs to that VLAN (br_allowed_ingress(), br_allowed_egress()); a VLAN device takes frames of its
//! own id only (vlan_do_receive()). Neither counts what it refuses.

use super::case::{Case, Space};
use super::flow::Flow;
use super::segment;
use crate::loss::Loss;
use std::net::IpAddr;
use whydrop_model::snapshot::Link;

/// A device of a segment.
pub type Device<'a> = (Space<'a>, &'a Link);

/// Where a frame goes no further.
#[derive(Clone, Copy)]
pub struct Stop<'a> {
    /// Namespace of the device that refuses it.
    pub space: Space<'a>,
    /// That device.
    pub link: &'a Link,
    /// The tag that the frame carries there, or its VLAN inside of the bridge.
    pub tag: Option<u16>,
    /// Why.
    pub why: Why,
}

/// Why a device does not take a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It takes frames with another tag, or without one.
    OtherId,
    /// A port of a bridge that belongs to no VLAN for frames without a tag.
    NoPvid,
    /// A port by which a frame of this VLAN may not come in.
    In,
    /// A port by which a frame of this VLAN may not leave.
    Out,
}

/// A question for a neighbour in view, or the answer to it, that does not come through.
#[derive(Clone, Copy)]
pub struct Blocked<'a> {
    /// Who asks, and by which interface.
    pub asker: Device<'a>,
    /// Who has the address that is asked for.
    pub holder: Device<'a>,
    /// That address.
    pub ip: IpAddr,
    /// Where it ends.
    pub stop: Stop<'a>,
}

/// What does not come through of what is asked for: by flows that suffer, or by a namespace that got no answer.
pub fn blocked(case: Case<'_>) -> Vec<Blocked<'_>> {
    let mut out: Vec<Blocked<'_>> = vec![];
    for asker in case.spaces() {
        for (index, ip) in asker.asks_for() {
            let Some(by) = asker.after.link(index) else { continue };
            let mut path = segment::towards(asker, by, ip);
            let Some((there, device)) = path.last().copied().filter(|(there, _)| there.after.owns(ip)) else {
                continue;
            };
            // Neither comes through to the other: one mistake.
            if out.iter().any(|known| known.is_of_same_ends((asker, by), (there, device))) {
                continue;
            }
            let there_and = stop(&path);
            path.reverse();
            if let Some(stop) = there_and.or_else(|| stop(&path)) {
                out.push(Blocked { asker: (asker, by), holder: (there, device), ip, stop });
            }
        }
    }
    out
}

/// The first device of a path that does not take a frame sent by its first; none if all do, or if nobody can tell.
pub fn stop<'a>(path: &[Device<'a>]) -> Option<Stop<'a>> {
    let mut tag: Option<u16> = None;
    // The VLAN inside of a bridge that filters.
    let mut inside: Option<u16> = None;
    for pair in path.windows(2) {
        let [(space, from), (there, to)] = pair else { continue };
        if segment::is_tunnel(from) || segment::is_tunnel(to) {
            return None;
        }
        if to.link == Some(from.index) && is(to, "vlan") {
            if let Some(vlan) = inside.take() {
                tag = match leave(*space, from, vlan)? {
                    Ok(tag) => tag,
                    Err(why) => return Some(Stop { space: *space, link: from, tag: Some(vlan), why }),
                };
            }
            if tag != id(to) {
                return Some(Stop { space: *there, link: to, tag, why: Why::OtherId });
            }
            tag = None;
        } else if from.link == Some(to.index) && is(from, "vlan") {
            // Of two tags only one is followed.
            if tag.is_some() {
                return None;
            }
            tag = id(from);
        } else if from.master == Some(to.index) && filters(to) {
            inside = match enter(*space, from, tag)? {
                Ok(vlan) => Some(vlan),
                Err(why) => return Some(Stop { space: *space, link: from, tag, why }),
            };
        } else if to.master == Some(from.index) && filters(from) {
            // What the machine itself sends by its bridge comes in by the bridge.
            let vlan = match inside.take().map_or_else(|| enter(*space, from, tag), |vlan| Some(Ok(vlan)))? {
                Ok(vlan) => vlan,
                Err(why) => return Some(Stop { space: *space, link: from, tag, why }),
            };
            tag = match leave(*there, to, vlan)? {
                Ok(tag) => tag,
                Err(why) => return Some(Stop { space: *there, link: to, tag: Some(vlan), why }),
            };
        }
    }
    let (space, last) = path.last().copied()?;
    if let Some(vlan) = inside {
        tag = match leave(space, last, vlan)? {
            Ok(tag) => tag,
            Err(why) => return Some(Stop { space, link: last, tag: Some(vlan), why }),
        };
    }
    tag.map(|_| Stop { space, link: last, tag, why: Why::OtherId })
}

/// The VLAN of a frame that comes in by a port; none if the ports' VLANs were not read.
fn enter(space: Space<'_>, port: &Link, tag: Option<u16>) -> Option<Result<u16, Why>> {
    let mut own = space.after.bridge_vlans.get()?.iter().filter(|vlan| vlan.link == port.index);
    Some(match tag {
        Some(id) => own.any(|vlan| (vlan.first..=vlan.last).contains(&id)).then_some(id).ok_or(Why::In),
        None => own.find(|vlan| vlan.pvid).map(|vlan| vlan.first).ok_or(Why::NoPvid),
    })
}

/// The tag with which a frame of this VLAN leaves by a port.
fn leave(space: Space<'_>, port: &Link, id: u16) -> Option<Result<Option<u16>, Why>> {
    let mut own = space.after.bridge_vlans.get()?.iter().filter(|vlan| vlan.link == port.index);
    let member = own.find(|vlan| (vlan.first..=vlan.last).contains(&id));
    Some(member.map(|vlan| (!vlan.untagged).then_some(id)).ok_or(Why::Out))
}

/// The id of a VLAN device.
pub fn id(link: &Link) -> Option<u16> {
    link.details.get("vlan_id").and_then(|id| id.parse().ok())
}

/// True for a bridge that filters by VLAN.
pub fn filters(link: &Link) -> bool {
    link.details.get("vlan_filtering").is_some_and(|on| on == "on")
}

fn is(link: &Link, kind: &str) -> bool {
    link.kind.as_deref() == Some(kind)
}

impl<'a> Blocked<'a> {
    /// True for a flow without any success that is to pass between the two.
    pub fn is_needed_by(&self, flow: &Flow<'a>) -> bool {
        let holds = |(space, link): Device<'a>, ip: IpAddr| {
            space.after.addresses.iter().any(|a| a.link == link.index && a.ip == ip)
        };
        let needs = |(from, by): Device<'a>, to: Device<'a>| {
            flow.next_hops(from).into_iter().any(|(link, ip)| link == by.index && holds(to, ip))
        };
        let (asker, holder) = (self.asker, self.holder);
        flow.suffers() && flow.succeeded == 0 && (needs(asker, holder) || needs(holder, asker))
    }

    /// True if both are about the same two devices.
    fn is_of_same_ends(&self, asker: Device<'_>, holder: Device<'_>) -> bool {
        let same = |a: Device<'_>, b: Device<'_>| a.0.same(b.0) && a.1.index == b.1.index;
        (same(self.asker, asker) && same(self.holder, holder))
            || (same(self.asker, holder) && same(self.holder, asker))
    }

    /// True for a question of one end for the other, where the frame ends.
    pub fn is_asked(&self, loss: &Loss<'a>) -> bool {
        let holds = |(space, link): Device<'a>, ip: IpAddr| {
            space.after.addresses.iter().any(|a| a.link == link.index && a.ip == ip)
        };
        let asked = loss.asks_for().is_some_and(|ip| ip == self.ip || holds(self.asker, ip));
        asked && loss.is_imagined_at(self.stop.space, self.stop.link.index)
    }
}
