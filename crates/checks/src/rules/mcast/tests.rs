//! Groups that are joined elsewhere, and such that could not be joined.

use crate::testing::*;
use whydrop_model::snapshot::{Group, Protocol};
use whydrop_model::{DropEvent, Reading, Verdict};

/// Datagrams to 239.255.0.1 come by eth0 (index 2), and it is joined on these interfaces.
fn joined(links: &[u32]) -> World {
    let mut world = World::pair();
    world.listens(SERVER, Protocol::Udp, "0.0.0.0:5000");
    let group = |link| Group { link, group: "239.255.0.1".parse().unwrap(), users: 1 };
    world.both(SERVER, |s| {
        let Reading::Present(all) = &mut s.links else { panic!("links") };
        all.push(veth(3, "eth1", 9999));
        s.groups = Reading::Present(links.iter().copied().map(group).collect());
    });
    world.drops(SERVER, "NOT_SPECIFIED", "ip_mc_input", 4);
    let netns_inode = Some(world.observation.namespaces[SERVER].target.netns_inode);
    let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
    let like = DropEvent {
        reason: "NOT_SPECIFIED".into(),
        function: "ip_mc_input".into(),
        netns_inode,
        link: Some(2),
        protocol: Some(17),
        source: "10.0.0.1:5000".parse().ok(),
        destination: "239.255.0.1:5000".parse().ok(),
        ..DropEvent::default()
    };
    log.sampled.extend(std::iter::repeat_n(like, 4));
    world
}

#[test]
fn a_group_of_another_interface_is_found_and_one_that_nobody_joined_is_not() {
    assert_eq!(joined(&[3]).found(), ["mcast.joined_elsewhere @ netns:server: 239.255.0.1 on eth0"]);
    assert_eq!(joined(&[3]).report().ledger.lost, 4);
    assert_eq!(joined(&[]).report().verdict, Verdict::Clear);
    assert_eq!(joined(&[2, 3]).report().verdict, Verdict::Clear);
}

#[test]
fn a_socket_that_may_join_no_more() {
    let limit = |n: &str| {
        let mut world = joined(&[]);
        let group = |n: u8| Group { link: 2, group: [239, 1, 1, n].into(), users: 1 };
        let n = n.to_owned();
        world.both(SERVER, move |s| {
            s.groups = Reading::Present((1..=20).map(group).collect());
            s.sysctls.insert("net.ipv4.igmp_max_memberships".into(), Reading::Present(n.clone()));
        });
        world
    };
    let world = limit("20");
    assert_eq!(world.found(), ["mcast.membership_limit @ netns:server: net.ipv4.igmp_max_memberships"]);
    // The setting alone ends nothing: the program has given up.
    let fix = &world.report().findings[0].fixes[0];
    assert!(fix.steps.is_empty() && fix.title.en.contains("net.ipv4.igmp_max_memberships=40) and restart"));
    // A program that could join and did not wants none of it.
    assert_eq!(limit("40").report().verdict, Verdict::Clear);
}
