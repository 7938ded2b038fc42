//! Routing: no way, the wrong way, or a way that refuses.

pub mod blackhole;
pub mod circle;
pub mod daemon_down;
pub mod forwarding_off;
#[cfg(test)]
mod gateway_tests;
pub mod martian_source;
pub mod multipath_dead_nexthop;
pub mod no_return_route;
pub mod no_route;
pub mod overlap;
pub mod policy_rule;
pub mod redirected;
mod routing;
pub mod rp_filter;
#[cfg(test)]
mod tests;
mod turn;
pub mod wrong_gateway;

use crate::culprit::{Missing, sure};
use crate::evidence::case::Space;
use crate::evidence::packet::{Fit, Packet};
use crate::evidence::route::{Lookup, Selector, contains, lookup};
use crate::evidence::segment;
use crate::evidence::verdicts::{self, Carried};
use crate::evidence::way::{End, Ending};
use crate::fixes::{fix, manual};
use crate::loss::death::Leg;
use crate::loss::missing::{self, Frame};
use crate::loss::{Kind, Loss};
use std::net::IpAddr;
use whydrop_model::action::{Action, RouteSpec};
use whydrop_model::netfilter::Hook;
use whydrop_model::snapshot::{Address, Link, NextHop, Route};
use whydrop_model::{Direction, DropEvent, Fix, Text, text};

/// RT_TABLE_MAIN.
const MAIN: u32 = 254;
/// RTPROT_STATIC: added by an administrator.
const STATIC: u8 = 4;

const ADD: Text = text!(
    "add the missing route: ip route add NETWORK via GATEWAY dev DEV",
    "添加缺失的路由：ip route add 网段 via 网关 dev 接口"
);
const ADD_CONNECTED: Text =
    text!("add the route of the interface's own network", "添加接口所在网络的直连路由");
const ADD_VIA: Text = text!("add a route through {gateway}", "添加经由 {gateway} 的路由");

/// So many neighbours are asked about at most where nobody says which was meant.
const MOST_NEIGHBOURS: usize = 16;

/// Reasons that say no more than that there was no way; others, such as that of rp_filter, name their cause.
const SILENT: [&str; 4] = ["", "NOT_SPECIFIED", "IP_INNOROUTES", "IP_OUTNOROUTES"];
/// The kernel's name for a packet whose way back leads elsewhere.
const NO_WAY_BACK: &str = "IP_RPFILTER";
/// SYN and ACK: the flags of the answer to a connection request.
const SYN_ACK: u8 = 0x12;
/// IPV6_MIN_MTU: a device with less has no IPv6, and no routes of it.
const IPV6_MIN_MTU: u32 = 1280;

/// How packets came to a routing decision of this namespace that ends so, each as it is needed: of flows that suffer, of
/// sampled drops, and of answers to packets that the reverse path filter refused.
fn endings(space: Space<'_>, end: End) -> impl Iterator<Item = Ending> {
    let flows = space.case.flows.iter().filter(|flow| flow.suffers());
    let flows = flows.filter_map(move |flow| flow.ending(space, end));
    let dropped = space.losses().filter_map(move |loss| ending_of(space, loss));
    flows.chain(dropped).chain(space.losses().filter_map(asked_back))
}

/// How a packet that a routing decision dropped came there, or how an imagined one would.
fn ending_of(space: Space<'_>, loss: &Loss<'_>) -> Option<Ending> {
    if let Some(packet) = routed(space, loss) {
        let name = packet.in_interface.as_deref();
        let incoming = space.links().find(|link| Some(link.name.as_str()) == name).map(|link| link.index);
        let asks = Selector::of(packet);
        return Some(Ending { to: packet.destination?, from: packet.source, incoming, asks });
    }
    if let Some(ending) = rerouted(space, loss) {
        return Some(ending);
    }
    let event = loss.event.filter(|_| is_decided(loss))?;
    let incoming = event.link.filter(|_| event.direction != Some(Direction::Transmit));
    let asks = verdicts::selector(space, event, incoming.is_none());
    Some(Ending { to: event.destination?.ip(), from: Some(event.source?.ip()), incoming, asks })
}

/// A packet made here that the output chains let pass with another mark: the kernel asks the routes again, and where they
/// then refuse it the packet dies as if a chain had dropped it (`ip_route_me_harder()`, called by the mangle table and
/// chains of type route).
fn rerouted(space: Space<'_>, loss: &Loss<'_>) -> Option<Ending> {
    let dropped = loss.kind == Kind::Drop || loss.flow.is_some();
    let event = loss.event.filter(|_| dropped && loss.is_in(space) && loss.hook == Some(Hook::Output))?;
    let verdicts = space.case.verdicts.filter(|verdicts| verdicts.of_loss(loss).is_empty())?;
    let (_, packet) = verdicts::dropped(space, event)?;
    let mut carried = Carried::default();
    carried.learn(&verdicts.rules(space)?.at_hook(Hook::Output, &packet).packets);
    let asks = Selector::of(&carried.onto(&packet));
    asks.mark.filter(|mark| *mark != 0)?;
    Some(Ending { to: packet.destination?, from: packet.source, incoming: None, asks })
}

/// The imagined packet about which this namespace decides.
fn routed<'l>(space: Space<'_>, loss: &'l Loss<'_>) -> Option<&'l Packet> {
    let decides = loss.link.is_none() && matches!(loss.hook, None | Some(Hook::Prerouting | Hook::Output));
    match &loss.frame {
        Some(Frame::Ip(Some(packet))) if decides && loss.is_in(space) => Some(packet),
        _ => None,
    }
}

/// True for a drop for which the routes alone can answer.
fn is_decided(loss: &Loss<'_>) -> bool {
    // A sample beyond those that were counted stands for itself.
    let reason = loss.count.map(|count| &count.reason).or(loss.event.map(|event| &event.reason));
    let silent = reason.is_some_and(|reason| SILENT.contains(&reason.as_str()));
    (loss.kind == Kind::Drop || loss.flow.is_some()) && loss.is_at_stage("route") && silent
}

/// The answer to a packet that the reverse path filter refused.
fn asked_back(loss: &Loss<'_>) -> Option<Ending> {
    // Nobody answers what was sent to a group.
    let answered = |event: &&DropEvent| event.destination.is_some_and(|to| !to.ip().is_multicast());
    let event = loss.event.filter(|event| event.reason == NO_WAY_BACK).filter(answered)?;
    let asks = Selector::default();
    Some(Ending { to: event.source?.ip(), from: Some(event.destination?.ip()), incoming: None, asks })
}

/// True for the packet of who was asked.
fn is_answer(loss: &Loss<'_>) -> bool {
    let flags = loss.count.and_then(|count| count.tcp_flags);
    loss.leg == Some(Leg::Answer)
        || matches!(&loss.frame, Some(Frame::Ip(Some(packet))) if packet.reply)
        || flags.is_some_and(|flags| flags & SYN_ACK == SYN_ACK)
}

/// Does what the routes say to it take this packet? Of drops that were only counted, and of packets that had no header yet,
/// nobody can tell.
fn fit<'a>(space: Space<'a>, loss: &Loss<'a>, mine: impl Fn(&Ending, Lookup<'a>) -> bool) -> Fit {
    match ending_of(space, loss) {
        Some(ending) if routed(space, loss).is_some() || loss.is_in(space) => {
            sure(mine(&ending, ending.lookup(space)))
        }
        None if loss.is_in(space) && is_decided(loss) => Fit::Maybe,
        _ => Fit::No,
    }
}

/// True if this packet's source lies in 127.0.0.0/8.
pub fn has_loopback_source(event: &DropEvent) -> bool {
    event.source.is_some_and(|source| source.ip().is_loopback())
}

/// Whether this namespace passes on packets of the family that are not its own, by whatever interface they come; none
/// if that could not be read.
fn forwards(space: Space<'_>, v6: bool) -> Option<bool> {
    let name = if v6 { "net.ipv6.conf.all.forwarding" } else { "net.ipv4.ip_forward" };
    space.after.sysctl(name).map(|on| on != 0)
}

/// True for an address that its holder can be reached by from other networks: no link-local one.
fn stands_alone(address: &Address) -> bool {
    match address.ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}

/// Addresses that this namespace talks to: of its neighbours and of its sockets.
fn peers(space: Space<'_>) -> impl Iterator<Item = IpAddr> {
    let neighbours = space.after.neighbours.iter().map(|n| n.ip);
    neighbours.chain(space.after.sockets.iter().map(|s| s.remote.ip().to_canonical()))
}

/// True if no flow in trouble comes by: only counters speak.
fn is_quiet(space: Space<'_>) -> bool {
    !space.flows_through().any(|flow| flow.in_trouble())
}

/// Answers that were not sent for want of a route, by the counters alone; none if there were none. A SYN that cannot be
/// answered counts as a dropped one, too (tcp_conn_request, inet_csk_route_req); a UDP server has got at least as many
/// datagrams as it could not answer, and somebody in view whom there is no way to knows the way here.
fn unanswered(space: Space<'_>) -> Option<u64> {
    let rise = space.mib("Ip.OutNoRoutes") + space.mib6("Ip6OutNoRoutes");
    let syns = rise.min(space.mib("TcpExt.ListenDrops"));
    let got = space.mib("Udp.InDatagrams") + space.mib6("Udp6InDatagrams");
    let asks = |there: Space<'_>| {
        let mut his = there.after.addresses.iter().filter(|a| stands_alone(a) && !a.ip.is_loopback());
        let own = |like: IpAddr| {
            let mut own = space.after.addresses.iter().filter(|a| stands_alone(a) && !a.ip.is_loopback());
            own.find(|a| a.ip.is_ipv4() == like.is_ipv4()).map(|a| a.ip)
        };
        let here =
            |from: IpAddr| own(from).is_some_and(|ip| matches!(lookup(there, ip, None), Lookup::Via(..)));
        his.any(|a| matches!(lookup(space, a.ip, None), Lookup::Missing) && here(a.ip))
    };
    let asked = || space.case.spaces().any(|there| !there.same(space) && asks(there));
    match syns {
        0 if rise > 0 && got >= rise && asked() => Some(rise),
        0 => None,
        syns => Some(syns),
    }
}

/// Packets to neighbours in view whom this namespace has no route to, whoever of them was meant.
fn lost_neighbours<'a>(space: Space<'a>, v6: bool) -> Missing<'a> {
    let others = space.case.spaces().filter(|there| !there.same(space));
    let addresses = others.flat_map(|there| there.after.addresses.iter());
    let of_family = addresses.filter(|a| a.ip.is_ipv6() == v6 && stands_alone(a) && !a.ip.is_loopback());
    let unknown = of_family.filter(|a| matches!(lookup(space, a.ip, None), Lookup::Missing));
    let near =
        unknown.filter(|a| space.links().any(|link| !link.loopback && is_neighbour(space, link, a.ip)));
    near.take(MOST_NEIGHBOURS).flat_map(|a| lost_routes(space, a.ip)).collect()
}

/// What shows as a missing route: the interface of the network is down, and its routes went with it; a neighbour is
/// taken for a stranger; or the program that keeps the routes is gone.
fn lost_routes<'a>(space: Space<'a>, to: IpAddr) -> Missing<'a> {
    let works = |up: bool, lower_up: bool, mtu: u32| up && lower_up && (to.is_ipv4() || mtu >= IPV6_MIN_MTU);
    let mut others = space.links().filter(|link| !link.loopback);
    let any_works = others.any(|link| works(link.up, link.lower_up, link.mtu));
    let dead = space.links().filter(|link| !link.loopback && !works(link.up, link.lower_up, link.mtu));
    let near = dead.filter(|link| {
        let mut own = space.after.addresses.iter().filter(|a| a.link == link.index);
        !any_works || own.any(|a| contains(a.ip, a.prefix, to)) || leads_to(space, link, to)
    });
    let neighbours = space.links().filter(|link| !link.loopback && is_neighbour(space, link, to));
    let dead = near.chain(neighbours).map(|link| missing::leaving(space, link.index, to));
    // The program that should have made the routes does not run.
    let unheard = routing::unheard(space).into_iter();
    let keeper = unheard.map(|unheard| missing::read_from(space, unheard.protocol, unheard.port));
    dead.chain(lost_interface(space)).chain(keeper).collect()
}

/// True if the interface is joined with one that has the address: its own addresses may be gone with its family.
fn leads_to(space: Space<'_>, link: &Link, to: IpAddr) -> bool {
    let holds = |(there, l): &(Space<'_>, &Link)| !there.same(space) && there.carries(l.index, to);
    segment::reachable(space, link).iter().any(holds)
}

/// Routes go with their interface: what left in the window, or all that there was, had some.
fn lost_interface(space: Space<'_>) -> Option<Loss<'_>> {
    let left = space.before.links.iter().any(|link| space.after.link(link.index).is_none());
    let none = !space.links().any(|link| !link.loopback && link.up);
    (left || none).then(|| missing::at_no_interface(space))
}

/// True if the holder of the address is joined with the interface, and takes an address on it for a neighbour's.
fn is_neighbour(space: Space<'_>, link: &Link, to: IpAddr) -> bool {
    let elsewhere = || space.case.owners(to).any(|there| !there.same(space));
    let own = || space.after.addresses.iter().filter(|a| a.link == link.index);
    own().next().is_some()
        && elsewhere()
        && segment::reachable(space, link).into_iter().any(|(there, device)| {
            let mut holds = there.after.addresses.iter().filter(|a| a.link == device.index && a.ip == to);
            !there.same(space) && holds.any(|his| own().any(|a| contains(his.ip, his.prefix, a.ip)))
        })
}

/// The fix for a missing route: the network of an own address, or a neighbour among the observed namespaces that
/// knows the way. Where neither is known, only a person can say which gateway is right.
fn add_route(space: Space<'_>, to: IpAddr) -> Fix {
    let works = |link: u32| space.after.link(link).is_some_and(|l| l.up && !l.loopback);
    let own = space.after.addresses.iter().find(|a| works(a.link) && contains(a.ip, a.prefix, to));
    if let Some(address) = own {
        let action = Action::RouteAdd(spec(
            space,
            (network(address.ip, address.prefix), address.prefix),
            None,
            address.link,
        ));
        return fix(space, ADD_CONNECTED.phrase(), vec![action]);
    }
    let near = |ip: IpAddr| {
        space.after.addresses.iter().find(|a| works(a.link) && contains(a.ip, a.prefix, ip)).map(|a| a.link)
    };
    let others = space.case.spaces().filter(|s| !s.same(space));
    let knowing = others.filter(|s| matches!(lookup(*s, to, None), Lookup::Via(..) | Lookup::Local));
    let gateway = knowing.flat_map(|s| s.after.addresses.iter()).find_map(|a| {
        (a.ip != to && a.ip.is_ipv6() == to.is_ipv6()).then(|| near(a.ip).map(|link| (a.ip, link))).flatten()
    });
    match gateway {
        Some((gateway, link)) => {
            let host = if to.is_ipv6() { 128 } else { 32 };
            let action = Action::RouteAdd(spec(space, (to, host), Some(gateway), link));
            fix(space, ADD_VIA.fill(&[("gateway", &gateway)]), vec![action])
        }
        None => manual(ADD),
    }
}

fn spec(
    space: Space<'_>,
    (destination, prefix): (IpAddr, u8),
    gateway: Option<IpAddr>,
    link: u32,
) -> RouteSpec {
    let hop = NextHop { gateway, link: Some(link), weight: 1, flags: vec![] };
    let route = Route {
        destination,
        prefix,
        kind: "unicast".into(),
        table: MAIN,
        metric: 0,
        next_hops: vec![hop],
        source: None,
        mtu: None,
        protocol: STATIC,
        scope: 0,
    };
    RouteSpec { route, dev: Some(space.after.link_name(link)) }
}

/// The address with its host part cleared.
fn network(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}
