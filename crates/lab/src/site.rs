//! Namespaces and the links between them.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use whydrop_host::Netns;
use whydrop_host::act::{self, Undo};
use whydrop_host::build::{Named, Wiring};
use whydrop_host::error::{Error, Result};
use whydrop_model::Action;
use whydrop_model::{Phrase, text};

/// A namespace of a topology, by its part in the play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Sends requests.
    Client,
    /// Serves; most faults are here.
    Server,
    /// Forwards between the two, or is the switch or the uplink between them.
    Router,
    /// Another station of the same network.
    Other,
}

impl Place {
    /// Last part of the namespace's name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Router => "router",
            Self::Other => "other",
        }
    }
}

/// How the namespaces are joined. Interfaces are called eth0 and eth1, as people know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// client eth0 10.77.0.1 - eth0 10.77.0.2 server, one network.
    Pair,
    /// A pair with a second cable: client eth1 10.78.0.1 - eth1 10.78.0.2 server.
    TwoLinks,
    /// client eth0 10.77.1.2 - eth0 10.77.1.1 router eth1 10.77.2.1 - eth0 10.77.2.2 server.
    Routed,
    /// client eth0 10.77.0.1 - eth0 (bridge br0 of the router) eth1 - eth0 10.77.0.2 server, one network.
    Switched,
    /// The same with a third station: eth2 of the router - eth0 10.77.0.3 other.
    Stations,
    /// client eth0 - eth0 10.77.0.254 router; what joins client and server is prepared by the fault.
    Hosted,
}

/// One cable: where it ends, under which name, with which address. All networks are /24.
type Cable = [(Place, &'static str, Option<Ipv4Addr>); 2];

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const PAIR: Cable = [(Place::Client, "eth0", Some(CLIENT)), (Place::Server, "eth0", Some(SERVER))];
const SECOND: Cable = [
    (Place::Client, "eth1", Some(Ipv4Addr::new(10, 78, 0, 1))),
    (Place::Server, "eth1", Some(Ipv4Addr::new(10, 78, 0, 2))),
];
const ROUTED_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
const ROUTED_SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 2);
/// The router's addresses, on the client's side and on the server's.
const ROUTER: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 1, 1), Ipv4Addr::new(10, 77, 2, 1)];
const NEAR: Cable = [(Place::Client, "eth0", Some(ROUTED_CLIENT)), (Place::Router, "eth0", Some(ROUTER[0]))];
const FAR: Cable = [(Place::Router, "eth1", Some(ROUTER[1])), (Place::Server, "eth0", Some(ROUTED_SERVER))];
const NEAR_PORT: Cable = [(Place::Client, "eth0", Some(CLIENT)), (Place::Router, "eth0", None)];
const FAR_PORT: Cable = [(Place::Router, "eth1", None), (Place::Server, "eth0", Some(SERVER))];
const THIRD_PORT: Cable =
    [(Place::Router, "eth2", None), (Place::Other, "eth0", Some(Ipv4Addr::new(10, 77, 0, 3)))];
const UPLINK: Cable =
    [(Place::Client, "eth0", None), (Place::Router, "eth0", Some(Ipv4Addr::new(10, 77, 0, 254)))];

/// Prefix length of every network.
pub const PREFIX: u8 = 24;

impl Topology {
    /// Its namespaces.
    pub const fn places(self) -> &'static [Place] {
        match self {
            Self::Pair | Self::TwoLinks => &[Place::Client, Place::Server],
            Self::Routed | Self::Switched | Self::Hosted => &[Place::Client, Place::Router, Place::Server],
            Self::Stations => &[Place::Client, Place::Router, Place::Server, Place::Other],
        }
    }

    /// Address at which the server is asked.
    pub const fn server(self) -> Ipv4Addr {
        match self {
            Self::Pair | Self::TwoLinks | Self::Switched | Self::Stations | Self::Hosted => SERVER,
            Self::Routed => ROUTED_SERVER,
        }
    }

    const fn cables(self) -> &'static [Cable] {
        match self {
            Self::Pair => &[PAIR],
            Self::TwoLinks => &[PAIR, SECOND],
            Self::Routed => &[NEAR, FAR],
            Self::Switched => &[NEAR_PORT, FAR_PORT],
            Self::Stations => &[NEAR_PORT, FAR_PORT, THIRD_PORT],
            Self::Hosted => &[UPLINK],
        }
    }
}

/// Namespaces that stand and are joined. They go when this value is dropped.
#[derive(Debug)]
pub struct Site {
    namespaces: Vec<(Place, Named)>,
}

impl Site {
    /// Builds a topology in namespaces `NAME-client`, `NAME-server` …; every link is up and has carrier.
    pub fn build(topology: Topology, name: &str) -> Result<Self> {
        let mut namespaces = vec![];
        for place in topology.places() {
            namespaces.push((*place, Named::create(&Self::namespace(name, *place))?));
        }
        let site = Self { namespaces };
        for place in topology.places() {
            site.wiring(*place)?.up("lo")?;
        }
        for [(here, name, ip), (there, peer, peer_ip)] in topology.cables().iter().copied() {
            let (mut near, mut far) = (site.wiring(here)?, site.wiring(there)?);
            near.veth(name, peer, site.named(there)?.netns())?;
            if let Some(ip) = ip {
                near.address(name, IpAddr::V4(ip), PREFIX)?;
            }
            if let Some(ip) = peer_ip {
                far.address(peer, IpAddr::V4(ip), PREFIX)?;
            }
            near.up(name)?;
            far.up(peer)?;
            near.wait_up(name)?;
            far.wait_up(peer)?;
        }
        if topology == Topology::Routed {
            let network = |ip: Ipv4Addr| IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & !0xff));
            let [near, far] = ROUTER.map(IpAddr::V4);
            site.wiring(Place::Client)?.route(network(ROUTED_SERVER), PREFIX, near)?;
            site.wiring(Place::Server)?.route(network(ROUTED_CLIENT), PREFIX, far)?;
            let forward =
                Action::Sysctl { name: "net.ipv4.ip_forward".into(), value: "1".into(), was: "0".into() };
            site.apply(Place::Router, &forward)?;
        }
        if matches!(topology, Topology::Switched | Topology::Stations) {
            let mut switch = site.wiring(Place::Router)?;
            switch.bridge("br0")?;
            let ends = topology.cables().iter().flatten();
            for (_, port, _) in ends.filter(|(place, _, _)| *place == Place::Router) {
                switch.enslave(port, "br0")?;
            }
            switch.up("br0")?;
            switch.wait_up("br0")?;
        }
        Ok(site)
    }

    /// Name of a namespace of the site `name`.
    pub fn namespace(name: &str, place: Place) -> String {
        format!("{name}-{}", place.word())
    }

    /// The named namespace of a place.
    pub fn named(&self, place: Place) -> Result<&Named> {
        let found = self.namespaces.iter().find(|(p, _)| *p == place).map(|(_, named)| named);
        found.ok_or_else(|| {
            whydrop_host::Error::new(
                text!("find {object}", "找到 {object}"),
                place.word(),
                text!("this topology does not have it", "此拓扑中没有它").phrase(),
            )
        })
    }

    /// Makes one change in a namespace of the site and returns the way back, in order.
    pub fn apply(&self, place: Place, action: &Action) -> Result<Vec<Undo>> {
        Ok(act::apply(self.named(place)?.netns(), action)?.undo)
    }

    /// Takes a change back.
    pub fn take_back(&self, place: Place, undo: &[Undo]) -> Result<()> {
        let netns = self.named(place)?.netns();
        undo.iter().try_for_each(|undo| act::take_back(netns, undo).map(drop))
    }

    fn wiring(&self, place: Place) -> Result<Wiring> {
        Wiring::of(self.named(place)?.netns())
    }
}

/// Runs a command in a namespace; it must succeed.
pub(crate) fn run<S: AsRef<str>>(netns: &Netns, argv: &[S]) -> Result<()> {
    let words: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = netns
        .run(|| command.output())?
        .map_err(|e| Error::io(text!("run {object}", "运行 {object}"), *program, &e))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(
        text!("run {object}", "运行 {object}"),
        words.join(" "),
        Phrase::same(String::from_utf8_lossy(&output.stderr).trim()),
    ))
}
