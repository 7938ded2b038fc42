//! Routes that are missing, refuse, or do not agree.

use crate::testing::*;
use whydrop_model::netfilter::{Change, Field, Hook, Match, Nat, NatKind, RuleVerdict};
use whydrop_model::snapshot::{Address, PolicyRule, Route, Snapshot};
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

/// The client asks 203.0.113.9 of the other station by way of the host, which has two addresses there; the other station
/// has no route to the client.
fn behind_a_router() -> World {
    let mut world = World::bridged();
    let add = |s: &mut Snapshot, ips: &[(&str, u8)], routes: &[Route]| {
        let (Reading::Present(addresses), Reading::Present(all)) = (&mut s.addresses, &mut s.routes) else {
            return;
        };
        let first = addresses[0].clone();
        addresses.extend(ips.iter().map(|(ip, prefix)| Address {
            ip: ip.parse().unwrap(),
            prefix: *prefix,
            ..first.clone()
        }));
        all.extend_from_slice(routes);
    };
    world.both(CLIENT, |s| add(s, &[], &[route("203.0.113.0/24", "unicast", Some("10.0.0.254"), Some(2))]));
    world.both(HOST, |s| {
        let link = s.addresses.iter().next().map(|a| a.link);
        let near = route("198.51.100.0/24", "unicast", None, link);
        let far = route("203.0.113.0/24", "unicast", Some("198.51.100.9"), link);
        add(s, &[("198.51.100.1", 24)], &[near, far]);
        s.sysctls.insert("net.ipv4.ip_forward".into(), Reading::Present("1".into()));
    });
    world.both(OTHER, |s| {
        s.routes = Reading::Present(vec![]);
        add(
            s,
            &[("198.51.100.9", 24), ("203.0.113.9", 32)],
            &[route("198.51.100.0/24", "unicast", None, Some(2))],
        );
    });
    let talk = world.talk(CLIENT, "203.0.113.9:80");
    (talk.attempts, talk.failed, talk.syn_repeats) = (5, 5, 5);
    world
}

#[test]
fn nobody_needs_a_route_back_to_what_a_router_may_hide() {
    assert_eq!(behind_a_router().found(), ["nat.no_masquerade @ netns:host: 10.0.0.1 by br0"]);
    let found = "route.no_return_route @ netns:other: route to 10.0.0.1".to_owned();
    let masquerade = Nat { kind: NatKind::Masquerade, addresses: None, ports: None, known: true };
    let rules = vec![rule("-j MASQUERADE", RuleVerdict::Nat(Box::new(masquerade)), Some(0), vec![])];
    let mut chain = chain("POSTROUTING", Hook::Postrouting, RuleVerdict::Accept, rules);
    (chain.table, chain.priority, chain.nat) = ("nat".into(), Some(100), true);
    let mut world = behind_a_router();
    world.chain(HOST, chain, &[0]);
    assert!(!world.found().contains(&found), "{:?}", world.found());
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
    let mut world = World::pair();
    world.both(CLIENT, |s| {
        let to = Some(("10.0.0.2".parse().unwrap(), 32));
        let prohibit = PolicyRule { to, ..policy_rule(100, "prohibit", None) };
        s.policy_rules = Reading::Present(vec![policy_rule(32766, "lookup", Some(254)), prohibit]);
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
    // Whose datagrams they are is known: the way comes back to him.
    assert_eq!(world.found(), ["route.loop @ netns:client: route to 10.9.0.9"]);
    assert_eq!((world.report().ledger.explained, world.report().ledger.unexplained), (3, 0));
}

#[test]
fn a_mark_of_the_output_chain_leads_into_a_table_that_refuses() {
    let marks = |value: u32| {
        let set = Change::Set { field: Field::Mark, clear: u32::MAX, value };
        let rule = rule("-j MARK --set-mark 7", RuleVerdict::Continue, Some(0), vec![Match::Change(set)]);
        let mut world = World::pair();
        world.chain(SERVER, chain("OUTPUT", Hook::Output, RuleVerdict::Accept, vec![rule]), &[4]);
        world.both(SERVER, |s| {
            let marked = PolicyRule { fwmark: Some((7, u32::MAX)), ..policy_rule(100, "lookup", Some(77)) };
            s.policy_rules = Reading::Present(vec![marked, policy_rule(32766, "lookup", Some(254))]);
            let Reading::Present(routes) = &mut s.routes else { panic!("routes") };
            routes.push(Route { table: 77, ..route("0.0.0.0/0", "blackhole", None, None) });
        });
        let talk = world.talk(CLIENT, "10.0.0.2:80");
        (talk.attempts, talk.failed, talk.abandoned) = (4, 4, 4);
        world.drops(SERVER, "NETFILTER_DROP", "nf_hook_slow", 4);
        let Reading::Present(log) = &mut world.observation.drops else { panic!("drops") };
        log.sampled.extend((0..4).map(|n| DropEvent {
            reason: "NETFILTER_DROP".into(),
            function: "nf_hook_slow".into(),
            stack: vec!["nf_hook_slow".into(), "__ip_local_out".into()],
            protocol: Some(6),
            tcp_flags: Some(0x12),
            source: Some(([10, 0, 0, 2], 80).into()),
            destination: Some(([10, 0, 0, 1], 40_000 + n).into()),
            netns_inode: Some(4002),
            ..DropEvent::default()
        }));
        world
    };
    assert_eq!(marks(7).found(), ["route.blackhole @ netns:server: blackhole 0.0.0.0/0"]);
    assert_eq!(marks(7).report().ledger.unexplained, 0);
    // Another mark is not led there, and nobody knows why the packets died.
    assert!(marks(8).found().is_empty() && marks(8).report().ledger.unexplained > 0);
}

/// The client talks to 10.9.9.9 through the server; a rule sends some of its packets to a gateway that nobody is.
fn turned(mark: Option<(u32, u32)>, conditions: &[&str]) -> World {
    let mut world = World::bridged();
    let special = PolicyRule {
        fwmark: mark,
        conditions: conditions.iter().map(|c| (*c).to_owned()).collect(),
        ..policy_rule(100, "lookup", Some(200))
    };
    let rules = vec![special, policy_rule(32766, "lookup", Some(254))];
    let through =
        |gateway: &str, table| Route { table, ..route("10.9.9.0/24", "unicast", Some(gateway), Some(2)) };
    world.both(CLIENT, |s| {
        s.policy_rules = Reading::Present(rules.clone());
        let Reading::Present(routes) = &mut s.routes else { panic!("routes") };
        routes.extend([through("10.0.0.2", 254), through("10.0.0.77", 200)]);
    });
    world.both(SERVER, |s| {
        let Reading::Present(links) = &mut s.links else { panic!("links") };
        links.push(veth(3, "eth1", 9999));
        let Reading::Present(addresses) = &mut s.addresses else { panic!("addresses") };
        addresses.push(whydrop_model::snapshot::Address {
            link: 3,
            ip: "10.9.9.9".parse().unwrap(),
            prefix: 24,
            flags: vec![],
        });
        s.sysctls.insert("net.ipv4.ip_forward".into(), Reading::Present("1".into()));
    });
    world.after(CLIENT, |s| {
        let Reading::Present(neighbours) = &mut s.neighbours else { panic!("neighbours") };
        neighbours.push(neighbour("10.0.0.77", None, "failed"));
    });
    let talk = world.talk(CLIENT, "10.9.9.9:80");
    (talk.attempts, talk.failed, talk.uid) = (5, 5, Some(1000));
    talk.errors.insert("EHOSTUNREACH".into(), 5);
    world.both(CLIENT, |s| {
        let Reading::Present(sockets) = &mut s.sockets else { panic!("sockets") };
        sockets.push(whydrop_model::snapshot::Socket {
            state: "syn_sent".into(),
            remote: "10.9.9.9:80".parse().unwrap(),
            mark: Some(5),
            tos: Some(0x10),
            uid: 1000,
            ..socket(whydrop_model::snapshot::Protocol::Tcp, "10.0.0.1:40000")
        });
    });
    world
}

#[test]
fn a_rule_turns_what_a_socket_marks_or_a_user_sends_and_nothing_else() {
    let found = ["route.policy_rule @ netns:client: ip rule 100"];
    assert_eq!(turned(Some((5, u32::MAX)), &[]).found(), found);
    assert_eq!(turned(None, &["uidrange 1000-1000"]).found(), found);
    assert_eq!(turned(None, &["tos 0x10"]).found(), found);
    for others in
        [turned(Some((6, u32::MAX)), &[]), turned(None, &["uidrange 0-999"]), turned(None, &["tos 0x08"])]
    {
        assert!(!others.found().contains(&found[0].to_owned()));
    }
}

#[test]
fn a_gateway_of_a_table_that_only_a_mark_leads_to() {
    let mut world = turned(Some((5, u32::MAX)), &[]);
    world.both(CLIENT, |s| {
        let Reading::Present(routes) = &mut s.routes else { panic!("routes") };
        routes.retain(|route| route.next_hops.iter().all(|hop| hop.gateway != "10.0.0.2".parse().ok()));
    });
    assert_eq!(world.found(), ["route.wrong_gateway @ netns:client: gateway 10.0.0.77 dev eth0"]);
}

#[test]
fn whom_the_routes_refused_was_whom_they_ask_for() {
    let refused = |error: &str| {
        let mut world = turned(Some((5, u32::MAX)), &[]);
        world.both(CLIENT, |s| {
            let Reading::Present(sockets) = &mut s.sockets else { panic!("sockets") };
            sockets.retain(|socket| socket.state != "syn_sent");
            let Reading::Present(routes) = &mut s.routes else { panic!("routes") };
            routes.retain(|route| route.table != 200);
            routes.push(Route { table: 200, ..route("0.0.0.0/0", "blackhole", None, None) });
        });
        let Reading::Present(log) = &mut world.observation.flows else { panic!("flows") };
        let talk = log.conversations.last_mut().unwrap();
        (talk.unsent, talk.errors) = (5, [(error.to_owned(), 5)].into());
        world.found()
    };
    assert_eq!(refused("EINVAL"), ["route.blackhole @ netns:client: blackhole 0.0.0.0/0"]);
    assert_eq!(refused("EACCES"), [""; 0]);

    let mut of_user = turned(None, &["uidrange 1000-1000"]);
    of_user.both(CLIENT, |s| {
        let Reading::Present(sockets) = &mut s.sockets else { panic!("sockets") };
        sockets.retain(|socket| socket.state != "syn_sent");
        let Reading::Present(rules) = &mut s.policy_rules else { panic!("rules") };
        rules.iter_mut().filter(|rule| rule.priority == 100).for_each(|rule| {
            (rule.action, rule.table) = ("prohibit".into(), None);
        });
    });
    let Reading::Present(log) = &mut of_user.observation.flows else { panic!("flows") };
    let talk = log.conversations.last_mut().unwrap();
    (talk.uid, talk.unsent, talk.errors) = (None, 5, [("EACCES".to_owned(), 5)].into());
    assert_eq!(of_user.found(), ["route.policy_rule @ netns:client: ip rule 100"]);
}
