//! Routes that are missing, refuse, or do not agree.

use crate::testing::*;
use whydrop_model::snapshot::PolicyRule;
use whydrop_model::{DropEvent, Reading, Verdict};

#[test]
fn a_missing_route_is_found_where_it_is_missing() {
    let mut world = World::pair();
    world.both(CLIENT, |s| s.routes = Reading::Present(vec![]));
    let probe = world.probe("tcp://10.0.0.2:80", 0, 0);
    probe.not_sent = 20;
    assert_eq!(world.found(), ["route.no_route @ netns:client: route to 10.0.0.2"]);
    let report = world.report();
    let fix = report.findings[0].fixes[0].steps[0].action.argv().join(" ");
    assert_eq!(fix, "ip route add 10.0.0.0/24 dev eth0");
    assert_eq!(report.ledger.unexplained, 0);
}

#[test]
fn a_missing_way_back_explains_the_reverse_path_filter() {
    let mut world = World::pair();
    world.both(SERVER, |s| s.routes = Reading::Present(vec![]));
    world.rises(SERVER, "TcpExt.IPReversePathFilter", 20).probe("tcp://10.0.0.2:80", 20, 20);
    assert_eq!(world.found(), ["route.no_return_route @ netns:server: route to 10.0.0.1"]);
    assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (20, 0));
}

#[test]
fn a_blackhole_on_the_way_back() {
    let mut world = World::pair();
    world.both(SERVER, |s| {
        if let Reading::Present(routes) = &mut s.routes {
            routes.push(route("10.0.0.1/32", "blackhole", None, None));
        }
    });
    world.probe("tcp://10.0.0.2:80", 20, 20);
    assert_eq!(world.found(), ["route.blackhole @ netns:server: blackhole 10.0.0.1/32"]);
    let fix = world.report().findings[0].fixes[0].steps[0].action.argv().join(" ");
    assert_eq!(fix, "ip route del blackhole 10.0.0.1/32");

    // The same route, and no probe lost: no finding.
    world.observation.probes.clear();
    world.probe("tcp://10.0.0.2:80", 20, 0);
    assert_eq!(world.report().verdict, Verdict::Clear);
}

#[test]
fn a_policy_rule_that_refuses() {
    let rule = |priority: u32, action: &str, table: Option<u32>| PolicyRule {
        family: 4,
        priority,
        action: action.into(),
        table,
        from: None,
        to: (action != "lookup").then(|| ("10.0.0.2".parse().unwrap(), 32)),
        iif: None,
        oif: None,
        fwmark: None,
        conditions: vec![],
    };
    let mut world = World::pair();
    world.both(CLIENT, |s| {
        s.policy_rules =
            Reading::Present(vec![rule(32766, "lookup", Some(254)), rule(100, "prohibit", None)]);
    });
    world.probe("tcp://10.0.0.2:80", 0, 0).not_sent = 20;
    assert_eq!(world.found(), ["route.policy_rule @ netns:client: ip rule 100"]);
}

#[test]
fn strict_reverse_path_filtering() {
    let mut world = World::pair();
    world.both(SERVER, |s| {
        for (name, value) in [("all", "0"), ("eth0", "1")] {
            let name = format!("net.ipv4.conf.{name}.rp_filter");
            s.sysctls.insert(name, Reading::Present(value.to_owned()));
        }
    });
    assert_eq!(world.report().verdict, Verdict::Clear);
    world.rises(SERVER, "TcpExt.IPReversePathFilter", 20);
    assert_eq!(world.found(), ["route.rp_filter @ netns:server: net.ipv4.conf.eth0.rp_filter"]);
    let fix = world.report().findings[0].fixes[0].steps[0].action.argv().join(" ");
    assert_eq!(fix, "sysctl -w net.ipv4.conf.eth0.rp_filter=2");
}

#[test]
fn two_machines_that_send_a_packet_to_each_other() {
    let mut world = World::pair();
    for (index, gateway) in [(CLIENT, "10.0.0.2"), (SERVER, "10.0.0.1")] {
        world.both(index, |s| {
            if let Reading::Present(routes) = &mut s.routes {
                routes.push(route("10.9.0.0/24", "unicast", Some(gateway), Some(2)));
            }
        });
    }
    world.probe("tcp://10.9.0.9:80", 20, 20);
    assert_eq!(world.found(), ["route.loop @ netns:client: route to 10.9.0.9"]);
}

/// The server drops so many packets to 10.9.0.9 because their TTL ended.
fn ttl_ends(world: &mut World, port: u16, n: u64) {
    world.drops(SERVER, "IP_INHDR", "ip_forward", n);
    let netns_inode = Some(world.observation.namespaces[SERVER].target.netns_inode);
    if let Reading::Present(log) = &mut world.observation.drops {
        log.counts.last_mut().unwrap().protocol = Some(17);
        log.sampled.push(DropEvent {
            reason: "IP_INHDR".into(),
            function: "ip_forward".into(),
            netns_inode,
            link: Some(2),
            protocol: Some(17),
            source: Some("10.0.0.1:5000".parse().unwrap()),
            destination: Some(std::net::SocketAddr::from(([10, 9, 0, 9], port))),
            ..DropEvent::default()
        });
    }
}

#[test]
fn a_loop_is_found_without_probes_and_a_traceroute_is_none() {
    let mut world = World::pair();
    ttl_ends(&mut world, 33440, 3);
    assert_eq!(world.report().verdict, Verdict::Clear, "a traceroute");
    let mut world = World::pair();
    ttl_ends(&mut world, 53, 3);
    let report = world.report();
    assert_eq!((report.findings.len(), report.ledger.unexplained), (0, 3), "{:?}", report.ledger);

    let mut world = World::pair();
    for (index, gateway) in [(CLIENT, "10.0.0.2"), (SERVER, "10.0.0.1")] {
        world.both(index, |s| {
            if let Reading::Present(routes) = &mut s.routes {
                routes.push(route("10.9.0.0/16", "unicast", Some(gateway), Some(2)));
            }
        });
    }
    ttl_ends(&mut world, 53, 3);
    assert_eq!(world.found(), ["route.loop @ netns:server: route to 10.9.0.9"]);
    assert_eq!((world.report().ledger.explained, world.report().ledger.unexplained), (3, 0));
}
