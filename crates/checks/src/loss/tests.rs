//! Each packet once, and each with its own flow.

use crate::testing::*;
use whydrop_model::flow::IcmpSent;
use whydrop_model::netfilter::{Hook, RuleVerdict};
use whydrop_model::snapshot::{Address, Link};
use whydrop_model::{DropEvent, Reading, Verdict};

const ICMP: u8 = 1;

/// The server is a router with a second network behind it and does not forward.
fn without_forwarding() -> World {
    let mut world = World::pair();
    world.both(SERVER, |s| {
        s.sysctls.insert("net.ipv4.ip_forward".into(), Reading::Present("0".into()));
        let (Reading::Present(links), Reading::Present(addresses)) = (&mut s.links, &mut s.addresses) else {
            panic!("links")
        };
        links.push(Link { link_netns_inode: None, link: None, ..veth(3, "eth1", 0) });
        let own = addresses.first().unwrap().clone();
        addresses.push(Address { link: 3, ip: "10.0.9.1".parse().unwrap(), ..own });
        let Reading::Present(routes) = &mut s.routes else { panic!("routes") };
        routes.push(route("10.0.9.0/24", "unicast", None, Some(3)));
    });
    world.both(CLIENT, |s| {
        let Reading::Present(routes) = &mut s.routes else { panic!("routes") };
        routes.push(route("10.0.9.0/24", "unicast", Some("10.0.0.2"), Some(2)));
    });
    world
}

/// Packets to the network behind it that the router discards.
fn discarded(world: &mut World, protocol: u8, packet: Vec<u8>, n: u64) {
    world.drops(SERVER, "IP_INADDRERRORS", "ip_error", n).rises(SERVER, "Ip.InAddrErrors", n);
    let port = |port: u16| if protocol == ICMP { 0 } else { port };
    let event = DropEvent {
        reason: "IP_INADDRERRORS".into(),
        function: "ip_error".into(),
        protocol: Some(protocol),
        tcp_flags: (protocol == 6).then_some(2),
        source: Some(([10, 0, 0, 1], port(40_000)).into()),
        destination: Some(([10, 0, 9, 9], port(80)).into()),
        netns_inode: Some(4002),
        link: Some(2),
        echo: (protocol == ICMP).then_some((1, 1)),
        packet,
        ..DropEvent::default()
    };
    if let Reading::Present(log) = &mut world.observation.drops {
        log.counts.last_mut().unwrap().protocol = Some(protocol);
        log.sampled.extend(std::iter::repeat_n(event, n as usize));
    }
}

#[test]
fn what_may_be_harm_is_no_second_loss_of_its_flow() {
    let mut world = without_forwarding();
    let talk = world.talk(CLIENT, "10.0.9.9:80");
    (talk.attempts, talk.failed, talk.syn_repeats) = (8, 8, 2);
    talk.errors.insert("ETIMEDOUT".into(), 8);
    discarded(&mut world, 6, vec![], 8);
    assert_eq!(world.found(), ["route.forwarding_off @ netns:server: net.ipv4.ip_forward"]);
    let ledger = world.report().ledger;
    assert_eq!((ledger.explained, ledger.unexplained), (8, 0));
}

#[test]
fn a_ping_of_a_target_is_missed_where_a_surrounding_discards_it() {
    let mut world = without_forwarding();
    world.observation.namespaces[SERVER].target.role = whydrop_model::Role::Surrounding;
    world.observation.namespaces[CLIENT].target.role = whydrop_model::Role::Target;
    let mut echo = vec![0x45; 28];
    echo[20] = 8;
    discarded(&mut world, ICMP, echo, 5);
    assert_eq!(world.report().verdict, Verdict::Loss);
    assert_eq!(world.found(), ["route.forwarding_off @ netns:server: net.ipv4.ip_forward"]);
}

#[test]
fn a_broadcast_that_a_bridge_overhears_is_meant_for_others() {
    let mut world = World::bridged();
    world.both(CLIENT, |s| {
        let Reading::Present(routes) = &mut s.routes else { panic!("routes") };
        routes.push(route("10.0.0.255/32", "broadcast", None, Some(2)));
    });
    world.both(HOST, |s| {
        (s.addresses, s.routes) = (Reading::Present(vec![]), Reading::Present(vec![]));
    });
    world.drops(HOST, "IP_INNOROUTES", "ip_error", 9).rises(HOST, "Ip.InNoRoutes", 9);
    let event = DropEvent {
        reason: "IP_INNOROUTES".into(),
        function: "ip_error".into(),
        protocol: Some(17),
        source: "10.0.0.1:138".parse().ok(),
        destination: "10.0.0.255:138".parse().ok(),
        netns_inode: Some(4000),
        link: Some(10),
        ..DropEvent::default()
    };
    if let Reading::Present(log) = &mut world.observation.drops {
        log.counts.last_mut().unwrap().protocol = Some(17);
        log.sampled.extend(std::iter::repeat_n(event, 9));
    }
    assert_eq!(world.found(), Vec::<String>::new());
    assert_eq!(world.report().verdict, Verdict::Clear);
}

/// Datagrams of the client that the server's policy drops, where nobody listens.
fn dropped_by_policy(to: &str, listens: bool) -> World {
    let mut world = World::pair();
    let policy = chain("INPUT", Hook::Input, RuleVerdict::Drop, vec![]);
    world.chain(SERVER, policy, &[]).after(SERVER, |s| {
        let Reading::Present(chains) = &mut s.nftables else { panic!("chains") };
        chains.iter_mut().for_each(|chain| chain.policy_packets = Some(9));
    });
    world.both(SERVER, |s| {
        let Reading::Present(routes) = &mut s.routes else { panic!("routes") };
        routes.push(route("10.0.0.255/32", "broadcast", None, Some(2)));
    });
    if listens {
        world.listens(SERVER, whydrop_model::snapshot::Protocol::Udp, "0.0.0.0:137");
    }
    world.drops(SERVER, "NETFILTER_DROP", "nf_hook_slow", 9);
    let event = DropEvent {
        reason: "NETFILTER_DROP".into(),
        function: "nf_hook_slow".into(),
        stack: vec!["ip_local_deliver".into()],
        protocol: Some(17),
        source: "10.0.0.1:137".parse().ok(),
        destination: to.parse().ok(),
        netns_inode: Some(4002),
        link: Some(2),
        ..DropEvent::default()
    };
    if let Reading::Present(log) = &mut world.observation.drops {
        log.counts.last_mut().unwrap().protocol = Some(17);
        log.sampled.extend(std::iter::repeat_n(event, 9));
    }
    world
}

#[test]
fn a_broadcast_is_missed_by_who_listens_for_it() {
    for to in ["10.0.0.255:137", "255.255.255.255:137"] {
        assert_eq!(dropped_by_policy(to, false).report().verdict, Verdict::Clear, "{to}");
        assert_eq!(
            dropped_by_policy(to, true).found(),
            ["netfilter.drop_policy @ netns:server: filter INPUT, policy"],
            "{to}"
        );
    }
}

#[test]
fn a_traceroute_wants_to_be_refused() {
    for (port, verdict) in [(33_436, Verdict::Clear), (9_999, Verdict::Loss)] {
        let mut world = World::pair();
        world.drops(SERVER, "NO_SOCKET", "__udp4_lib_rcv", 9);
        let event = DropEvent {
            reason: "NO_SOCKET".into(),
            function: "__udp4_lib_rcv".into(),
            protocol: Some(17),
            source: "10.0.0.1:40000".parse().ok(),
            destination: Some(([10, 0, 0, 2], port).into()),
            netns_inode: Some(4002),
            link: Some(2),
            ..DropEvent::default()
        };
        if let Reading::Present(log) = &mut world.observation.drops {
            log.counts.last_mut().unwrap().protocol = Some(17);
            log.sampled.extend(std::iter::repeat_n(event, 9));
        }
        let sent = IcmpSent {
            netns_inode: 4002,
            kind: 3,
            code: 3,
            protocol: 17,
            source: "10.0.0.1".parse().unwrap(),
            destination: ([10, 0, 0, 2], port).into(),
            count: 9,
            last_ns: 1,
        };
        if let Reading::Present(log) = &mut world.observation.flows {
            log.icmp_sent.push(sent);
        }
        assert_eq!(world.report().verdict, verdict, "{port}");
    }
}
