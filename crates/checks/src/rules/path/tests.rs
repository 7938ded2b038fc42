//! Two ends that are observed, with a network between them that is not.

use crate::testing::*;
use whydrop_model::Reading;

/// The pair's cable leads to switches that nobody looks at.
fn apart() -> World {
    let mut world = World::pair();
    for index in [CLIENT, SERVER] {
        world.both(index, |s| {
            if let Reading::Present(links) = &mut s.links {
                links.iter_mut().filter(|l| l.index == 2).for_each(|l| l.link_netns_inode = Some(9999));
            }
        });
    }
    world
}

#[test]
fn a_loss_between_two_observed_ends_is_beyond_both() {
    let mut world = apart();
    world.probe("tcp://10.0.0.2:80", 20, 6);
    assert_eq!(world.found(), ["path.remote_loss @ netns:client: path to 10.0.0.2"]);
}

#[test]
fn the_far_end_is_judged_although_the_middle_is_out_of_sight() {
    let mut world = apart();
    world.both(SERVER, |s| {
        if let Reading::Present(routes) = &mut s.routes {
            routes.push(route("10.0.0.1/32", "blackhole", None, None));
        }
    });
    world.probe("tcp://10.0.0.2:80", 20, 20);
    assert_eq!(world.found(), ["route.blackhole @ netns:server: blackhole 10.0.0.1/32"]);
}
