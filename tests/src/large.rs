//! Observations that are as large as machines are, or as somebody hostile makes them: what the judging costs is measured
//! and limited on these.

use crate::Scenario;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use whydrop_host::replay;
use whydrop_model::drops::{DropCount, DropEvent};
use whydrop_model::netfilter::{Chain, Family, Hook, Match, Rule, RuleVerdict, Tool};
use whydrop_model::snapshot::{Address, Link, Neighbour, Snapshot};
use whydrop_model::{Observation, Reading, Role};

/// Makes an observation of a size.
pub type Make = fn(usize) -> Observation;

/// Every kind, with its size.
pub const KINDS: [(&str, usize, Make); 9] = [
    ("drop rules without a counter, and one drop", 10_000, |n| uncounted_rules(n, 1)),
    ("drop rules with counters that stand still", 20_000, |n| counted_rules(n, 0)),
    ("drop rules with counters that rose", 20_000, |n| counted_rules(n, 1)),
    ("shapes of drops", 10_000, shapes),
    ("drop rules without a counter, and 4,000 drops", 10_000, |n| uncounted_rules(n, 4_000)),
    ("neighbours without an answer", 20_000, neighbours),
    ("rules that accept, and one drop", 100_000, accepting_rules),
    ("namespaces on a bridge", 800, namespaces),
    ("namespaces on a bridge", 2_000, namespaces),
];

/// Where the server of the recorded pair stands in the list of namespaces.
const SERVER: usize = 0;
/// The bridge and the first port.
const BRIDGE: u32 = 5;
const FIRST_PORT: u32 = 10;
/// Who sends what is dropped.
const STRANGER: [u8; 4] = [192, 0, 2, 9];

fn idle() -> Observation {
    let path = Scenario::named("healthy/idle").record();
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut observation = replay::parse(&text).unwrap_or_else(|error| panic!("{path}: {}", error.en));
    observation.probes.clear();
    if let Reading::Present(log) = &mut observation.drops {
        log.counts.clear();
        log.sampled.clear();
    }
    observation
}

fn both(observation: &mut Observation, index: usize, change: impl Fn(&mut Snapshot, bool)) {
    let Some(evidence) = observation.namespaces.get_mut(index) else { return };
    for (reading, after) in [(&mut evidence.before, false), (&mut evidence.after, true)] {
        if let Reading::Present(snapshot) = reading {
            change(snapshot, after);
        }
    }
}

/// Some packets of a stranger to port 81 of the server died in the input hook.
fn drop_in_input(observation: &mut Observation, ports: impl Iterator<Item = u16>) {
    let Some(inode) = observation.namespaces.get(SERVER).map(|n| n.target.netns_inode) else { return };
    let Reading::Present(log) = &mut observation.drops else { return };
    let event = |port: u16| DropEvent {
        reason: "NETFILTER_DROP".into(),
        function: "nf_hook_slow".into(),
        stack: vec!["ip_local_deliver".into()],
        netns_inode: Some(inode),
        link: Some(2),
        interface: Some("eth0".into()),
        protocol: Some(6),
        ethertype: Some(0x0800),
        tcp_flags: Some(2),
        source: Some(SocketAddr::from((STRANGER, 40_000))),
        destination: Some(SocketAddr::from(([10, 77, 0, 2], port))),
        length: 60,
        ..DropEvent::default()
    };
    log.sampled.extend(ports.map(event));
    log.counts.push(DropCount {
        reason: "NETFILTER_DROP".into(),
        function: "nf_hook_slow".into(),
        netns_inode: Some(inode),
        link: Some(2),
        interface: Some("eth0".into()),
        protocol: Some(6),
        tcp_flags: Some(2),
        drops: log.sampled.len() as u64,
        ..DropCount::default()
    });
}

fn rule(number: usize, verdict: RuleVerdict, packets: Option<u64>) -> Rule {
    let source = IpAddr::V4(Ipv4Addr::from_bits(0xc000_0200 + number as u32));
    let port = 1 + (number % 60_000) as u16;
    let target = if verdict == RuleVerdict::Drop { "DROP" } else { "ACCEPT" };
    Rule {
        position: number as u32 + 1,
        handle: Some(number as u64 + 4),
        packets,
        bytes: packets,
        verdict,
        matches: vec![Match::Source(source, 32), Match::L4Proto(6), Match::DestinationPorts(port, port)],
        comment: None,
        text: format!("-s {source}/32 -p tcp -m tcp --dport {port} -j {target}"),
    }
}

fn input(rules: Vec<Rule>) -> Chain {
    Chain {
        tool: Tool::IptablesNft,
        family: Family::Ip,
        table: "filter".into(),
        name: "INPUT".into(),
        hook: Some(Hook::Input),
        device: None,
        priority: Some(0),
        nat: false,
        policy: Some(RuleVerdict::Accept),
        policy_packets: Some(0),
        rules,
    }
}

fn uncounted_rules(n: usize, drops: u16) -> Observation {
    let mut observation = idle();
    both(&mut observation, SERVER, |s, _| {
        let rules = (0..n).map(|number| rule(number, RuleVerdict::Drop, None));
        s.nftables = Reading::Present(vec![input(rules.collect())]);
    });
    drop_in_input(&mut observation, (0..drops).map(|nth| nth * 7 + 8));
    observation
}

fn counted_rules(n: usize, rise: u64) -> Observation {
    let mut observation = idle();
    both(&mut observation, SERVER, |s, after| {
        let count = Some(if after { 7 + rise } else { 7 });
        let rules = (0..n).map(|number| rule(number, RuleVerdict::Drop, count));
        s.nftables = Reading::Present(vec![input(rules.collect())]);
    });
    observation
}

fn accepting_rules(n: usize) -> Observation {
    let mut observation = idle();
    both(&mut observation, SERVER, |s, after| {
        let mut rules: Vec<Rule> = (0..n).map(|number| rule(number, RuleVerdict::Accept, Some(0))).collect();
        let (text, packets) = ("-j DROP".to_owned(), Some(u64::from(after)));
        rules.push(Rule { text, packets, matches: vec![], ..rule(n, RuleVerdict::Drop, None) });
        s.nftables = Reading::Present(vec![input(rules)]);
    });
    drop_in_input(&mut observation, [60_001].into_iter());
    observation
}

/// Drops that differ in whatever is counted apart, in two rules' hook and beside it, each with a sample.
fn shapes(n: usize) -> Observation {
    let mut observation = idle();
    both(&mut observation, SERVER, |s, after| {
        let count = |rise: usize| Some(if after { rise as u64 } else { 0 });
        let rules = vec![rule(0, RuleVerdict::Drop, count(n / 2)), rule(1, RuleVerdict::Drop, None)];
        s.nftables = Reading::Present(vec![input(rules)]);
    });
    drop_in_input(&mut observation, (0..2_000).map(|port| 1 + port % 500));
    let Some(inode) = observation.namespaces.get(SERVER).map(|n| n.target.netns_inode) else {
        return observation;
    };
    let Reading::Present(log) = &mut observation.drops else { return observation };
    let reasons = ["NETFILTER_DROP", "NOT_SPECIFIED", "NO_SOCKET", "IP_INNOROUTES"];
    log.counts.extend((0..n).map(|number| DropCount {
        reason: reasons[number % reasons.len()].into(),
        function: format!("function_{}", number / 64),
        netns_inode: Some(inode),
        link: Some(2 + (number % 7) as u32),
        protocol: Some((number % 251) as u8),
        tcp_flags: Some((number % 32) as u8),
        drops: 3,
        ..DropCount::default()
    }));
    observation
}

fn neighbours(n: usize) -> Observation {
    let mut observation = idle();
    both(&mut observation, SERVER, |s, _| {
        let silent = |number: usize| Neighbour {
            link: 2,
            ip: IpAddr::V4(Ipv4Addr::from_bits(0x0a4d_0000 + 10 + number as u32)),
            mac: None,
            state: "failed".into(),
            flags: vec![],
            probes: Some(6),
            confirmed_ms: None,
            used_ms: None,
            updated_ms: None,
        };
        if let Reading::Present(neighbours) = &mut s.neighbours {
            neighbours.extend((0..n).map(silent));
        }
        if let Reading::Present(addresses) = &mut s.addresses {
            addresses.iter_mut().filter(|a| a.link == 2).for_each(|a: &mut Address| a.prefix = 16);
        }
    });
    observation
}

/// Each with one interface, whose other end is a port of a bridge of the first; a packet died in each.
fn namespaces(n: usize) -> Observation {
    let mut observation = idle();
    let Some(one) = observation.namespaces.get(SERVER).cloned() else { return observation };
    let mut host = one.clone();
    host.target.role = Role::Surrounding;
    host.target.id = "host".into();
    host.target.netns_inode = 1;
    observation.namespaces = vec![host];
    both(&mut observation, SERVER, |s, _| {
        let Reading::Present(links) = &mut s.links else { return };
        let Some(eth0) = links.pop() else { return };
        let bridge = Link {
            index: BRIDGE,
            name: "br0".into(),
            kind: Some("bridge".into()),
            link: None,
            link_netnsid: None,
            link_netns_inode: None,
            ..eth0.clone()
        };
        links.push(bridge);
        links.extend((0..n as u32).map(|number| Link {
            index: FIRST_PORT + number,
            name: format!("port{number}"),
            master: Some(BRIDGE),
            link: Some(2),
            link_netnsid: Some(number as i32),
            link_netns_inode: Some(u64::from(number) + 2),
            mac: Some(format!("02:00:00:01:{:02x}:{:02x}", number / 256, number % 256)),
            ..eth0.clone()
        }));
    });
    for number in 0..n as u32 {
        let mut evidence = one.clone();
        evidence.target.id = format!("netns:n{number}");
        evidence.target.name = format!("n{number}");
        evidence.target.netns_inode = u64::from(number) + 2;
        observation.namespaces.push(evidence);
        let own = IpAddr::V4(Ipv4Addr::from_bits(0x0a4d_0002 + number));
        both(&mut observation, number as usize + 1, |s, _| {
            if let Reading::Present(links) = &mut s.links {
                for link in links.iter_mut().filter(|link| !link.loopback) {
                    link.link = Some(FIRST_PORT + number);
                    link.link_netns_inode = Some(1);
                    link.mac = Some(format!("02:00:00:00:{:02x}:{:02x}", number / 256, number % 256));
                }
            }
            if let Reading::Present(addresses) = &mut s.addresses {
                addresses.retain(|a| a.ip.is_ipv4());
                addresses.iter_mut().filter(|a| a.link == 2).for_each(|a| a.ip = own);
            }
        });
        if let Reading::Present(log) = &mut observation.drops {
            let peer = IpAddr::V4(Ipv4Addr::from_bits(0x0a4d_0002 + (number + 1) % n as u32));
            let shape = DropCount {
                reason: "NO_SOCKET".into(),
                function: "tcp_v4_rcv".into(),
                netns_inode: Some(u64::from(number) + 2),
                link: Some(2),
                interface: Some("eth0".into()),
                protocol: Some(6),
                tcp_flags: Some(2),
                drops: 1,
                ..DropCount::default()
            };
            log.sampled.push(DropEvent {
                reason: shape.reason.clone(),
                function: shape.function.clone(),
                netns_inode: shape.netns_inode,
                link: shape.link,
                protocol: shape.protocol,
                tcp_flags: shape.tcp_flags,
                source: Some(SocketAddr::new(peer, 40_000)),
                destination: Some(SocketAddr::new(own, 81)),
                length: 60,
                ..DropEvent::default()
            });
            log.counts.push(shape);
        }
    }
    observation
}
