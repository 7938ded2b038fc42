//! What is folded under what, and what is not.

use crate::rules::events::sample;
use crate::testing::*;
use whydrop_model::netfilter::{Family, Hook, Match, RuleVerdict};
use whydrop_model::snapshot::{Neighbour, QdiscOptions};
use whydrop_model::{DropEvent, Reading, Snapshot};

fn routes(world: &mut World, index: usize, change: impl Fn(&mut Vec<whydrop_model::snapshot::Route>)) {
    world.both(index, |s: &mut Snapshot| {
        if let Reading::Present(routes) = &mut s.routes {
            change(routes);
        }
    });
}

/// A server that filters what comes from this source, strictly, and whose routes refuse 10.3.0.0/24.
fn filtering(source: &str) -> World {
    let mut world = World::pair();
    routes(&mut world, SERVER, |routes| routes.push(route("10.3.0.0/24", "blackhole", None, None)));
    let strict = Reading::Present("1".to_owned());
    world.both(SERVER, |s| drop(s.sysctls.insert("net.ipv4.conf.eth0.rp_filter".into(), strict.clone())));
    world.rises(SERVER, "TcpExt.IPReversePathFilter", 17);
    for (reason, n, from, to) in
        [("IP_RPFILTER", 17, source, "10.0.0.2:7"), ("IP_INNOROUTES", 4, "10.0.0.1:9", "10.3.0.1:7")]
    {
        world.drops(SERVER, reason, "ip_rcv_finish_core", n);
        let like = DropEvent {
            reason: reason.into(),
            function: "ip_rcv_finish_core".into(),
            ..DropEvent::default()
        };
        (0..n).for_each(|_| sample(&mut world, SERVER, like.clone(), from, to));
    }
    world
}

#[test]
fn a_refusal_of_other_addresses_is_not_why_a_source_is_filtered() {
    let apart = filtering("10.9.9.9:7");
    assert_eq!(apart.found().len(), 2, "{:?}", apart.found());
    assert_eq!((apart.report().ledger.lost, apart.report().ledger.unexplained), (21, 0));
    let mut refused = filtering("10.3.0.9:7");
    routes(&mut refused, SERVER, |routes| routes.retain(|r| r.prefix != 0));
    assert_eq!(refused.found(), ["route.blackhole @ netns:server: blackhole 10.3.0.0/24"]);
    assert_eq!((refused.report().ledger.lost, refused.report().ledger.unexplained), (21, 0));
}

/// A client whose eth0 knows no link-layer address of this neighbour, and whose device `shaped` drops.
fn unanswered(shaped: u32) -> World {
    let mut world = World::pair();
    let entry = Neighbour { link: 2, ip: "10.0.0.9".parse().unwrap(), mac: None, state: "failed".into() };
    world.both(CLIENT, |s| s.neighbours = Reading::Present(vec![entry.clone()]));
    let shaper = |drops| {
        let mut qdisc = qdisc("tbf", drops, QdiscOptions::Other);
        qdisc.link = shaped;
        move |s: &mut Snapshot| {
            s.qdiscs = Reading::Present(vec![qdisc.clone()]);
            if let Reading::Present(links) = &mut s.links
                && links.iter().all(|l| l.index != shaped)
            {
                links.push(veth(shaped, "eth1", 99));
            }
        }
    };
    world.both(CLIENT, shaper(0)).after(CLIENT, shaper(5));
    world.observation.namespaces[CLIENT].target.role = whydrop_model::Role::Target;
    world.drops(CLIENT, "NEIGH_FAILED", "neigh_invalidate", 3);
    world.drops(CLIENT, "QDISC_DROP", "__dev_queue_xmit", 5);
    world
}

#[test]
fn a_queue_explains_the_silence_behind_its_own_interface_only() {
    assert_eq!(unanswered(2).found().len(), 1, "{:?}", unanswered(2).found());
    assert_eq!(unanswered(7).found().len(), 2, "{:?}", unanswered(7).found());
    for world in [unanswered(2), unanswered(7)] {
        assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (8, 0));
    }
}

#[test]
fn a_consequence_does_not_push_its_fix_before_that_of_its_root() {
    let mut world = World::pair();
    let dropping = rule("-p tcp -j DROP", RuleVerdict::Drop, Some(0), vec![Match::L4Proto(6)]);
    world.chain(SERVER, chain("INPUT", Hook::Input, RuleVerdict::Accept, vec![dropping]), &[9]);
    let off = Reading::Present("0".to_owned());
    world.both(SERVER, |s| drop(s.sysctls.insert("net.ipv4.tcp_syncookies".into(), off.clone())));
    world.rises(SERVER, "TcpExt.TCPReqQFullDrop", 4).probe("tcp://10.0.0.2:80", 20, 9);
    let report = world.report();
    assert_eq!(world.found(), ["netfilter.drop_rule @ netns:server: filter INPUT, rule 1"]);
    let first = report.findings[0].fixes[0].steps[0].action.argv().join(" ");
    assert!(first.contains("iptables") && first.contains("-D INPUT"), "{first}");
}

#[test]
fn a_policy_that_drops_what_neighbours_say_is_why_one_does_not_answer() {
    let mut world = World::pair();
    let address = |ip: &str| whydrop_model::snapshot::Address {
        link: 2,
        ip: ip.parse().unwrap(),
        prefix: 64,
        flags: vec![],
    };
    for (index, ip) in [(CLIENT, "fd00::1"), (SERVER, "fd00::2")] {
        world.both(index, |s| {
            if let Reading::Present(addresses) = &mut s.addresses {
                addresses.push(address(ip));
            }
        });
    }
    let silent = Neighbour { link: 2, ip: "fd00::2".parse().unwrap(), mac: None, state: "failed".into() };
    world.both(CLIENT, |s| s.neighbours = Reading::Present(vec![silent.clone()]));
    world.observation.namespaces[CLIENT].target.role = whydrop_model::Role::Target;
    world.drops(CLIENT, "NEIGH_FAILED", "neigh_invalidate", 40);
    let mut policy = chain("INPUT", Hook::Input, RuleVerdict::Drop, vec![]);
    (policy.family, policy.policy_packets) = (Family::Ip6, None);
    world.chain(SERVER, policy, &[]);
    world.drops(SERVER, "NETFILTER_DROP", "nf_hook_slow", 3);
    let mut packet = vec![0; 48];
    (packet[0], packet[40]) = (0x60, 135);
    let solicitation = DropEvent {
        reason: "NETFILTER_DROP".into(),
        function: "nf_hook_slow".into(),
        protocol: Some(58),
        stack: ["nf_hook_slow", "ip6_input"].map(String::from).into(),
        packet,
        ..DropEvent::default()
    };
    sample(&mut world, SERVER, solicitation, "[fd00::1]:0", "[ff02::1:ff00:2]:0");
    assert_eq!(world.found(), ["netfilter.drop_policy @ netns:server: filter INPUT, policy"]);
    assert_eq!((world.report().ledger.lost, world.report().ledger.unexplained), (43, 0));
}

#[test]
fn a_port_that_nobody_serves_is_no_matter_of_a_rule_for_another() {
    let mut world = World::pair();
    let rejecting = |port: u16| {
        let matches = vec![Match::L4Proto(6), Match::DestinationPorts(port, port)];
        rule("-p tcp --dport N -j REJECT", RuleVerdict::Reject, Some(0), matches)
    };
    world.chain(SERVER, chain("INPUT", Hook::Input, RuleVerdict::Accept, vec![rejecting(82)]), &[20]);
    for port in [81, 82] {
        let probe = world.probe(&format!("tcp://10.0.0.2:{port}"), 20, 0);
        (probe.received, probe.refused) = (20, 20);
    }
    let found = world.found();
    assert!(found.iter().any(|f| f.starts_with("app.not_listening")), "{found:?}");
    assert!(found.iter().any(|f| f.starts_with("netfilter.reject_rule")), "{found:?}");
    assert_eq!(found.len(), 2, "{found:?}");
}
