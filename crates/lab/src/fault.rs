//! What a fault is.

use crate::need::Need;
use crate::service::Service;
use crate::site::{Place, Topology};
use crate::traffic::Traffic;
use std::time::Duration;
use whydrop_model::{Action, Phrase, Text};

/// A fault as data. Before its changes all is well; after them, its traffic meets exactly [`Fault::causes`].
#[derive(Clone, Debug)]
pub struct Fault {
    /// A cause id, with `/VARIANT` where there are several ways to set it up; `healthy/…` for what must be found
    /// innocent.
    pub id: &'static str,
    /// One line.
    pub title: Text,
    /// What the kernel or the machine must have.
    pub needs: &'static [Need],
    /// Namespaces.
    pub topology: Topology,
    /// What is set up beside the topology, in order: tunnels, addresses, rules that are meant to be there.
    pub prepared: Vec<Change>,
    /// What the server serves while all is well.
    pub services: Vec<Service>,
    /// What the other station serves, whatever happens.
    pub other_services: Vec<Service>,
    /// What the sender sends all the time.
    pub traffic: Vec<Traffic>,
    /// Who sends, and from where probes start.
    pub sender: Place,
    /// What breaks it, in order.
    pub changes: Vec<Change>,
    /// Which namespace is diagnosed.
    pub target: Place,
    /// Probe URLs, sent from the sender.
    pub probes: Vec<&'static str>,
    /// Ids of the causes to be found, one per finding; none if this is innocent.
    pub causes: &'static [&'static str],
    /// What is found instead where the namespaces that are joined to the target are looked at, too: the end that is at
    /// fault, which an observation of the named namespaces alone does not show. The recordings are of that kind.
    pub in_view: Option<&'static [&'static str]>,
    /// The ends that are asked about without a probe, one asking each. An end that has nothing to do with the fault is
    /// not among them, and neither is a client that is a stranger to the server: asked about himself, he would miss
    /// what is kept from him.
    pub asked: &'static [&'static [Place]],
    /// True if what was learned while all was well goes on for a while: broken again, it hurts only who begins anew.
    pub lingers: bool,
}

/// Both ends together.
pub(crate) const BOTH: &[Place] = &[Place::Client, Place::Server];

/// One step on the way from well to broken.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a fault has a handful of them")]
pub enum Change {
    /// A change as fixes are made of.
    Act(Place, Action),
    /// A command run inside a namespace, for what another tool leaves behind; and the one that takes it back.
    Tool {
        /// Where.
        at: Place,
        /// Command; `{server}` and the like stand for the names of the namespaces.
        argv: &'static [&'static str],
        /// The way back; empty where an earlier step's takes this one along.
        undo: &'static [&'static str],
    },
    /// The server serves these instead.
    Serve(Vec<Service>),
    /// The sender sends this instead.
    Traffic(Vec<Traffic>),
    /// The sender sends this for a while, before anybody looks.
    Send(Traffic, Duration),
}

impl Fault {
    /// A pair of namespaces in good order: a web page of 8 KiB, asked for ten times a second.
    pub(crate) fn pair(id: &'static str, title: Text) -> Self {
        let probes = vec!["tcp://10.77.0.2:80"];
        Self::new(id, title, Topology::Pair, probes)
    }

    /// The same with a router between the two.
    pub(crate) fn routed(id: &'static str, title: Text) -> Self {
        let probes = vec!["tcp://10.77.2.2:80"];
        Self::new(id, title, Topology::Routed, probes)
    }

    /// A pair with a switch between the two, which is what is diagnosed.
    pub(crate) fn switched(id: &'static str, title: Text) -> Self {
        let probes = vec!["tcp://10.77.0.2:80"];
        Self { target: Place::Router, ..Self::new(id, title, Topology::Switched, probes) }
    }

    /// This topology in good order, with the same page and requests.
    pub(crate) fn new(id: &'static str, title: Text, topology: Topology, probes: Vec<&'static str>) -> Self {
        Self {
            id,
            title,
            needs: &[],
            topology,
            prepared: vec![],
            services: vec![Service::page(8192)],
            other_services: vec![],
            traffic: vec![Traffic::requests(topology, 10)],
            sender: Place::Client,
            changes: vec![],
            target: Place::Server,
            probes,
            causes: &[],
            in_view: None,
            asked: &[BOTH, &[Place::Client], &[Place::Server]],
            lingers: false,
        }
    }

    /// Needs this.
    pub(crate) fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    /// Has this set up beside its topology.
    pub(crate) fn prepares(mut self, changes: Vec<Change>) -> Self {
        self.prepared = changes;
        self
    }

    /// Is diagnosed at this place; at the server where nothing else is said.
    pub(crate) fn aims_at(mut self, target: Place) -> Self {
        self.target = target;
        self
    }

    /// Is asked about by these ends.
    pub(crate) fn asked(mut self, ends: &'static [&'static [Place]]) -> Self {
        self.asked = ends;
        self
    }

    /// Breaks by these changes, which must be found as these causes.
    pub(crate) fn breaks(mut self, changes: Vec<Change>, causes: &'static [&'static str]) -> Self {
        (self.changes, self.causes) = (changes, causes);
        self
    }

    /// Where the surroundings are looked at, these causes are found instead.
    pub(crate) fn in_view(mut self, causes: &'static [&'static str]) -> Self {
        self.in_view = Some(causes);
        self
    }

    /// True if it needs what only kernels with modules have.
    pub fn needs_modules(&self) -> bool {
        self.needs.iter().any(|need| need.is_module())
    }

    /// Why it cannot be set up here; none if it can.
    pub fn missing(&self) -> Option<Phrase> {
        self.needs.iter().find_map(|need| need.missing())
    }
}
