//! Packets that are handed to the wrong neighbour, or to nobody.

use super::route;
use crate::fault::{Change, Fault};
use crate::site::Place;
use std::net::Ipv4Addr;
use whydrop_model::{Action, text};

pub(super) fn faults() -> Vec<Fault> {
    vec![wrong_gateway(), multipath()]
}

/// The client's route to the server's network leads through an address that nobody has.
fn wrong_gateway() -> Fault {
    let through = |gateway| route("unicast", Ipv4Addr::new(10, 77, 2, 0), 24, Some(gateway));
    let mut fault = Fault::routed(
        "route.wrong_gateway",
        text!(
            "the client's route leads through an address that nobody has",
            "客户端的路由经由无人拥有的地址"
        ),
    )
    .breaks(
        vec![
            Change::Act(Place::Client, Action::RouteDelete(through(Ipv4Addr::new(10, 77, 1, 1)))),
            Change::Act(Place::Client, Action::RouteAdd(through(Ipv4Addr::new(10, 77, 1, 9)))),
        ],
        &["route.wrong_gateway"],
    );
    fault.target = Place::Client;
    fault
}

/// One of two next hops is nobody. The hash takes the ports, too, so that a part of one client's connections dies.
fn multipath() -> Fault {
    Fault::routed(
        "route.multipath_dead_nexthop",
        text!("one of two next hops of the client's route is dead", "客户端路由的两个下一跳之一已失效"),
    )
    .breaks(
        vec![
            Change::Tool {
                at: Place::Client,
                argv: &["sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1"],
                undo: &["sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=0"],
            },
            Change::Tool {
                at: Place::Client,
                argv: &[
                    "ip",
                    "route",
                    "replace",
                    "10.77.2.0/24",
                    "nexthop",
                    "via",
                    "10.77.1.1",
                    "nexthop",
                    "via",
                    "10.77.1.9",
                ],
                undo: &["ip", "route", "replace", "10.77.2.0/24", "via", "10.77.1.1"],
            },
        ],
        &["route.multipath_dead_nexthop"],
    )
    .aims_at(Place::Client)
}
