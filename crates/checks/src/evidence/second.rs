//! Second flows: what FTP, TFTP, SIP and their like agree on inside a first one, which connection tracking expects only
//! with the helper of the protocol.

use super::tracked;
use std::net::{IpAddr, SocketAddr};
use whydrop_model::snapshot::{ConntrackEntry, Tuple};

/// IPPROTO_TCP and IPPROTO_UDP.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Below this no second flow has its port.
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// Protocol and port of the control flow, the helper, and the protocol of the second flow (net/netfilter/nf_conntrack_*.c).
const HELPERS: [(u8, u16, &str, u8); 7] = [
    (TCP, 21, "ftp", TCP),
    (UDP, 69, "tftp", UDP),
    (UDP, 5060, "sip", UDP),
    (TCP, 5060, "sip", UDP),
    (TCP, 6667, "irc", TCP),
    (TCP, 1720, "Q.931", UDP),
    (UDP, 10080, "amanda", TCP),
];

/// A control connection that no helper reads.
#[derive(Clone, Copy, Debug)]
pub struct Control<'a> {
    /// Its entry.
    pub entry: &'a ConntrackEntry,
    /// Name of the helper.
    pub helper: &'static str,
    second: u8,
}

impl PartialEq for Control<'_> {
    /// The same protocol between the same hosts.
    fn eq(&self, other: &Self) -> bool {
        let hosts = |tuple: &Tuple| (tuple.source, tuple.destination, tuple.destination_port);
        self.helper == other.helper && hosts(&self.entry.original) == hosts(&other.entry.original)
    }
}

/// The entry as a control connection without a helper, if it is one.
pub fn control(entry: &ConntrackEntry) -> Option<Control<'_>> {
    let ends = (entry.original.protocol, entry.original.destination_port);
    let known = HELPERS.iter().find(|(protocol, port, ..)| (*protocol, *port) == ends);
    let (_, _, helper, second) = known.copied().filter(|_| !entry.is("helper"))?;
    Some(Control { entry, helper, second })
}

impl Control<'_> {
    /// True if a packet between these ends is of the second flow: between the same two hosts, at other ports.
    pub fn is_second(&self, protocol: u8, from: SocketAddr, to: SocketAddr) -> bool {
        let (original, reply) = (&self.entry.original, &self.entry.reply);
        let client = |ip: IpAddr| ip == original.source || ip == reply.destination;
        let server = |ip: IpAddr| ip == original.destination || ip == reply.source;
        let hosts = client(from.ip()) && server(to.ip()) || server(from.ip()) && client(to.ip());
        let own = tracked::to(original).port();
        let first = from.port() == own || to.port() == own;
        let ports = match self.helper {
            // The answer comes from a new port to the one that asked.
            "tftp" => {
                let asked = [original.source_port, reply.destination_port];
                asked.contains(&to.port()) || asked.contains(&from.port())
            }
            _ => to.port() >= FIRST_UNPRIVILEGED_PORT,
        };
        protocol == self.second && hosts && !first && ports
    }
}
