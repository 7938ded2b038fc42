//! A packet as far as it is known: what rule sets, routes and qdiscs are asked about.

use super::case::Space;
use super::way::Hop;
use std::collections::BTreeMap;
use std::net::IpAddr;
use whydrop_model::netfilter::Field;

/// How sure a match is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// Certainly not.
    No,
    /// Cannot be told, or only some of the packets.
    Maybe,
    /// Certainly.
    Yes,
}

impl Fit {
    /// Yes or no.
    pub const fn sure(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }

    /// The opposite; what cannot be told stays so.
    pub const fn inverted(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }
}

/// State in connection tracking, where it is known better than by the direction alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Opens a connection.
    New,
    /// Belongs to one that was answered.
    Established,
    /// Belongs to one as an error or as a further connection.
    Related,
    /// Fits nothing.
    Invalid,
    /// Was not to be tracked.
    Untracked,
    /// One of these.
    Unclear,
}

/// What is known of a packet; `None` is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// IP protocol number; 0 is unknown.
    pub protocol: u8,
    /// Source.
    pub source: Option<IpAddr>,
    /// Destination.
    pub destination: Option<IpAddr>,
    /// Source port; unknown means ephemeral.
    pub source_port: Option<u16>,
    /// Destination port; unknown means ephemeral.
    pub destination_port: Option<u16>,
    /// Input interface.
    pub in_interface: Option<String>,
    /// Output interface.
    pub out_interface: Option<String>,
    /// True for an answer: established to connection tracking.
    pub reply: bool,
    /// State in connection tracking; none if only `reply` tells: an answer is established, everything else is new.
    pub state: Option<State>,
    /// What else is known: TCP flags, ICMP type, TTL, mark …
    pub fields: BTreeMap<Field, u32>,
}

impl Packet {
    /// The packet with the interfaces of a hop.
    pub fn at(&self, space: Space<'_>, hop: &Hop) -> Self {
        // A bridge is what netfilter sees of a packet that came through its port.
        let name = |index: Option<&u32>| index.map(|i| space.after.link_name(*i));
        Self {
            in_interface: name(hop.incoming.last()),
            out_interface: name(hop.outgoing.first()),
            ..self.clone()
        }
    }

    /// The packet that answers it, of which no more is known than its addresses; interfaces change places, too.
    pub fn answer(&self) -> Self {
        Self {
            protocol: self.protocol,
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            in_interface: self.out_interface.clone(),
            out_interface: self.in_interface.clone(),
            reply: !self.reply,
            state: self.state.filter(|state| *state == State::Untracked),
            fields: BTreeMap::new(),
        }
    }

    /// The same with a field known.
    #[must_use]
    pub fn with(mut self, field: Field, number: u32) -> Self {
        self.fields.insert(field, number);
        self
    }

    /// State in connection tracking.
    pub fn tracked(&self) -> State {
        self.state.unwrap_or(if self.reply { State::Established } else { State::New })
    }

    /// True for IPv6, false for IPv4; none if no address is known.
    pub fn is_v6(&self) -> Option<bool> {
        self.destination.or(self.source).map(|ip| ip.is_ipv6())
    }
}
