//! What the settings of a namespace say about a single drop: which cause its place means there.
//!
//! The kernel tells where a packet died, but one place serves several causes: a rule, a policy and a REJECT drop at
//! the same function, and a shaper and a short queue for the same reason.

use crate::case::{Case, Space};
use crate::rules::{netfilter, qdisc, route, tc};
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_facts::place::Place;
use whydrop_model::snapshot::MachineSnapshot;
use whydrop_model::{Direction, DropEvent, NamespaceEvidence, Observation, Reading, Snapshot, Target};

/// Kinds of drops that are remembered; beyond that nothing is looked up any more.
const MOST_KINDS: usize = 4096;
/// Ports from here on change from flow to flow: the default of `net.ipv4.ip_local_port_range`.
const FIRST_EPHEMERAL_PORT: u16 = 32768;

/// Namespaces as they were read once.
pub struct Settings {
    observation: Observation,
    known: BTreeMap<Kind, Option<&'static str>>,
}

/// Drops that meet the same settings.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    netns: Option<u64>,
    stage: &'static str,
    link: Option<u32>,
    protocol: Option<u8>,
    addresses: [Option<IpAddr>; 2],
    ports: [Option<u16>; 2],
    tcp_flags: Option<u8>,
}

impl Settings {
    /// Takes what was read of each namespace.
    pub fn new(namespaces: Vec<(Target, Reading<Snapshot>)>) -> Self {
        let machine = MachineSnapshot { softnet: Reading::Absent(String::new()) };
        let evidence = |(target, snapshot): (Target, Reading<Snapshot>)| NamespaceEvidence {
            target,
            aliases: vec![],
            before: snapshot.clone(),
            after: snapshot,
        };
        Self {
            observation: Observation {
                hostname: String::new(),
                kernel: String::new(),
                started_at: String::new(),
                window_ns: 0,
                machine: [machine.clone(), machine],
                namespaces: namespaces.into_iter().map(evidence).collect(),
                drops: Reading::Absent(String::new()),
                probes: vec![],
                probe_skips: vec![],
            },
            known: BTreeMap::new(),
        }
    }

    /// The cause of a drop at this place; that of the place alone where the settings do not decide.
    pub fn cause(&mut self, event: &DropEvent, place: &Place) -> Option<&'static str> {
        let port = |address: Option<std::net::SocketAddr>| {
            address.map(|a| a.port()).filter(|port| *port < FIRST_EPHEMERAL_PORT)
        };
        let kind = Kind {
            netns: event.netns_inode,
            stage: place.stage,
            link: event.link,
            protocol: event.protocol,
            addresses: [event.source, event.destination].map(|address| Some(address?.ip())),
            ports: [event.source, event.destination].map(port),
            tcp_flags: event.tcp_flags,
        };
        if let Some(cause) = self.known.get(&kind) {
            return *cause;
        }
        if self.known.len() >= MOST_KINDS {
            return place.cause;
        }
        let case = Case { observation: &self.observation, ways: &[] };
        let space = event.netns_inode.and_then(|inode| case.space_by_inode(inode));
        let cause = space.and_then(|space| by_settings(space, event, place)).or(place.cause);
        self.known.insert(kind, cause);
        cause
    }
}

fn by_settings(space: Space<'_>, event: &DropEvent, place: &Place) -> Option<&'static str> {
    match place.stage {
        "netfilter.ingress" | "netfilter.egress" | "netfilter.bridge" => None,
        stage if stage.starts_with("netfilter.") && place.cause == Some(netfilter::drop_rule::CAUSE.id) => {
            netfilter::cause_of(space, event)
        }
        "qdisc.transmit" => qdisc::cause_at(space, event.link?),
        "tc.ingress" | "tc.egress" => {
            tc::cause_at(space, event.link?, event.direction == Some(Direction::Transmit))
        }
        "route.input" | "route.output" => route::cause_of(space, event),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use whydrop_facts::place;
    use whydrop_model::netfilter::{Hook, Match, RuleVerdict};
    use whydrop_model::snapshot::QdiscOptions;

    fn settings(world: &World) -> Settings {
        let namespaces = world.observation.namespaces.iter().map(|n| (n.target.clone(), n.after.clone()));
        Settings::new(namespaces.collect())
    }

    fn cause(world: &World, reason: &str, function: &str, caller: &str) -> Option<&'static str> {
        let event = DropEvent {
            reason: reason.into(),
            function: function.into(),
            stack: vec![caller.into()],
            netns_inode: Some(world.observation.namespaces[SERVER].target.netns_inode),
            link: Some(2),
            protocol: Some(17),
            source: "10.0.0.1:40000".parse().ok(),
            destination: "10.0.0.2:53".parse().ok(),
            ..DropEvent::default()
        };
        settings(world).cause(&event, &place::of_event(&event))
    }

    #[test]
    fn one_place_means_what_is_set_there() {
        let netfilter = |verdict, policy| {
            let mut world = World::pair();
            let rule = rule("-p udp", verdict, Some(0), vec![Match::L4Proto(17)]);
            world.chain(SERVER, chain("INPUT", Hook::Input, policy, vec![rule]), &[]);
            cause(&world, "NETFILTER_DROP", "nf_hook_slow", "ip_local_deliver")
        };
        use RuleVerdict::{Accept, Continue, Drop, Reject};
        assert_eq!(netfilter(Drop, Accept), Some("netfilter.drop_rule"));
        assert_eq!(netfilter(Reject, Accept), Some("netfilter.reject_rule"));
        assert_eq!(netfilter(Continue, Drop), Some("netfilter.drop_policy"));

        let queue = |kind, options: QdiscOptions| {
            let mut world = World::pair();
            world.both(SERVER, |s| s.qdiscs = Reading::Present(vec![qdisc(kind, 0, options.clone())]));
            cause(&world, "QDISC_DROP", "__dev_queue_xmit", "ip_finish_output2")
        };
        assert_eq!(queue("tbf", QdiscOptions::Other), Some("qdisc.shaper_drop"));
        assert_eq!(queue("pfifo", QdiscOptions::Other), Some("qdisc.queue_limit"));
    }

    #[test]
    fn where_nothing_is_set_the_place_alone_speaks() {
        let world = World::pair();
        assert_eq!(cause(&world, "QDISC_DROP", "__dev_queue_xmit", "ip_finish_output2"), None);
        assert_eq!(cause(&world, "IP_RPFILTER", "ip_rcv_finish_core", "ip_rcv"), Some("route.rp_filter"));
    }
}
