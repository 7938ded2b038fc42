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
    /// What the server serves while all is well.
    pub services: Vec<Service>,
    /// What the client sends all the time.
    pub traffic: Vec<Traffic>,
    /// What breaks it, in order.
    pub changes: Vec<Change>,
    /// Which namespace is diagnosed.
    pub target: Place,
    /// Probe URLs, sent from the client.
    pub probes: Vec<&'static str>,
    /// Ids of the causes to be found, one per finding; none if this is innocent.
    pub causes: &'static [&'static str],
}

/// One step on the way from well to broken.
#[derive(Clone, Debug)]
pub enum Change {
    /// A change as fixes are made of.
    Act(Place, Action),
    /// A command run inside a namespace, for what another tool leaves behind; and the one that takes it back.
    Tool {
        /// Where.
        at: Place,
        /// Command.
        argv: &'static [&'static str],
        /// The way back.
        undo: &'static [&'static str],
    },
    /// The server serves these instead.
    Serve(Vec<Service>),
    /// The client sends this for a while, before anybody looks.
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

    fn new(id: &'static str, title: Text, topology: Topology, probes: Vec<&'static str>) -> Self {
        Self {
            id,
            title,
            needs: &[],
            topology,
            services: vec![Service::page(8192)],
            traffic: vec![Traffic::requests(topology, 10)],
            changes: vec![],
            target: Place::Server,
            probes,
            causes: &[],
        }
    }

    /// Needs this.
    pub(crate) fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    /// Breaks by these changes, which must be found as these causes.
    pub(crate) fn breaks(mut self, changes: Vec<Change>, causes: &'static [&'static str]) -> Self {
        (self.changes, self.causes) = (changes, causes);
        self
    }

    /// Why it cannot be set up here; none if it can.
    pub fn missing(&self) -> Option<Phrase> {
        self.needs.iter().find_map(|need| need.missing())
    }
}
