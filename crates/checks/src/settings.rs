//! What the settings of a namespace say about a single drop: the same assignment as that of a whole case, for one loss.
//!
//! Nothing was counted yet when a drop is shown as it happens, so that counters have no say.

use crate::assign::Assignment;
use crate::engine;
use crate::evidence::case::Case;
use crate::evidence::index::Index;
use crate::evidence::verdicts::Verdicts;
use crate::loss;
use crate::registry::RULES;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use whydrop_facts::place::Place;
use whydrop_model::snapshot::MachineSnapshot;
use whydrop_model::{
    DropCount, DropEvent, DropLog, NamespaceEvidence, Observation, Reading, Snapshot, Target,
};

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
        let machine = MachineSnapshot::not_recorded();
        let evidence = |(target, snapshot): (Target, Reading<Snapshot>)| NamespaceEvidence {
            target,
            aliases: vec![],
            before: snapshot.clone(),
            after: snapshot,
            link_events: Reading::not_recorded(),
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
                flows: Reading::Absent(String::new()),
                probes: vec![],
                probe_skips: vec![],
                silent_engines: vec![],
                history: Reading::not_recorded(),
                unheard: vec![],
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
        self.observation.drops = Reading::Present(only(event));
        let takers = takers(&self.observation);
        let cause = match takers.len() {
            0 => place.cause,
            1 => takers.first().copied(),
            // The place has a name of its own, which is one of several here.
            _ => None,
        };
        self.known.insert(kind, cause);
        cause
    }
}

/// A log that holds this drop and no other.
fn only(event: &DropEvent) -> DropLog {
    let count = DropCount {
        reason: event.reason.clone(),
        function: event.function.clone(),
        netns_inode: event.netns_inode,
        link: event.link,
        interface: event.interface.clone(),
        protocol: event.protocol,
        direction: event.direction,
        tcp_flags: event.tcp_flags,
        drops: 1,
        ..DropCount::default()
    };
    DropLog {
        step: "tp_btf".to_owned(),
        counts: vec![count],
        sampled: vec![event.clone()],
        ..DropLog::default()
    }
}

/// The causes of all that may have taken the only loss.
fn takers(observation: &Observation) -> BTreeSet<&'static str> {
    let index = Index::of(observation);
    let bare = Case::bare(observation, &index);
    let losses = loss::gather(bare, &[]);
    let verdicts = Verdicts::of(Case { losses: &losses, ..bare }, &losses, &[]);
    let case = Case { losses: &losses, verdicts: Some(&verdicts), ..bare };
    let (mut culprits, _) = engine::ask(case, RULES);
    culprits.iter_mut().for_each(|culprit| culprit.meter = None);
    let assignment = Assignment::of(case, culprits);
    assignment.takers().map(|culprit| culprit.cause.id).collect()
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

    /// What `diagnose` says of five such drops, and `trace` of one.
    #[test]
    fn a_drop_has_one_name_whoever_tells_of_it() {
        let bare = |verdict| rule("-p udp", verdict, None, vec![Match::L4Proto(17)]);
        let with_chain = |verdict, policy| {
            let mut world = World::pair();
            world.chain(SERVER, chain("INPUT", Hook::Input, policy, vec![bare(verdict)]), &[]);
            world.both(SERVER, |s| {
                let Reading::Present(chains) = &mut s.nftables else { panic!("chains") };
                chains.iter_mut().for_each(|chain| chain.policy_packets = None);
            });
            (world, "NETFILTER_DROP", "nf_hook_slow", "ip_local_deliver")
        };
        let with_queue = |kind| {
            let mut world = World::pair();
            world.both(SERVER, |s| {
                s.qdiscs = Reading::Present(vec![qdisc(kind, 0, QdiscOptions::Other)]);
            });
            world.after(SERVER, |s| {
                s.qdiscs = Reading::Present(vec![qdisc(kind, 5, QdiscOptions::Other)]);
            });
            (world, "QDISC_DROP", "__dev_queue_xmit", "ip_finish_output2")
        };
        use RuleVerdict::{Accept, Continue, Drop};
        for (mut world, reason, function, caller) in
            [with_chain(Drop, Accept), with_chain(Continue, Drop), with_queue("tbf"), with_queue("blackhole")]
        {
            let traced = cause(&world, reason, function, caller);
            world.drops(SERVER, reason, function, 5);
            let sample = DropEvent {
                reason: reason.into(),
                function: function.into(),
                stack: vec![caller.into()],
                netns_inode: Some(4002),
                link: Some(2),
                protocol: Some(17),
                source: "10.0.0.1:40000".parse().ok(),
                destination: "10.0.0.2:53".parse().ok(),
                ..DropEvent::default()
            };
            if let Reading::Present(log) = &mut world.observation.drops {
                log.counts.last_mut().unwrap().protocol = Some(17);
                log.sampled.extend(std::iter::repeat_n(sample, 5));
            }
            let told: Vec<String> = world.report().findings.into_iter().map(|f| f.cause).collect();
            assert_eq!(told.iter().map(|cause| Some(cause.as_str())).collect::<Vec<_>>(), [traced]);
        }
    }

    #[test]
    fn where_nothing_is_set_the_place_alone_speaks() {
        let world = World::pair();
        assert_eq!(cause(&world, "QDISC_DROP", "__dev_queue_xmit", "ip_finish_output2"), None);
        assert_eq!(cause(&world, "IP_RPFILTER", "ip_rcv_finish_core", "ip_rcv"), Some("route.rp_filter"));
    }
}
