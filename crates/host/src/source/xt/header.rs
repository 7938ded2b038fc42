//! What every rule of iptables can ask for without a match: addresses, interfaces, protocol, fragments.

use super::not;
use std::net::IpAddr;
use whydrop_model::netfilter::{Field, Match};

/// `IP_OFFSET`.
const FRAGMENT_OFFSET: u32 = 0x1fff;

/// A network with its mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    pub negated: bool,
    pub ip: IpAddr,
    pub mask: IpAddr,
}

impl Network {
    /// Prefix length; none if the ones of the mask do not stand together.
    fn prefix(&self) -> Option<u8> {
        ipnet::ip_mask_to_prefix(self.mask).ok()
    }
}

/// An interface name, with a trailing `+` for a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub negated: bool,
    pub name: String,
}

/// The part of a rule in front of its matches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Header {
    pub source: Option<Network>,
    pub destination: Option<Network>,
    pub input: Option<Interface>,
    pub output: Option<Interface>,
    /// Negated, protocol number.
    pub protocol: Option<(bool, u8)>,
    /// Negated: second and further fragments.
    pub fragment: Option<bool>,
}

/// Protocol names that iptables knows without /etc/protocols; others are printed as numbers.
const PROTOCOLS: [(u8, &str); 8] = [
    (1, "icmp"),
    (6, "tcp"),
    (17, "udp"),
    (50, "esp"),
    (51, "ah"),
    (58, "ipv6-icmp"),
    (132, "sctp"),
    (136, "udplite"),
];

impl Header {
    /// Options in the order in which `iptables -S` prints them, with their conditions.
    pub fn render(&self) -> Vec<(String, Match)> {
        let mut out: Vec<(String, Match)> = vec![];
        let mut push = |negated: bool, text: String, condition: Option<Match>| {
            let text = format!("{}{text}", not(negated));
            let condition = condition.map(|found| found.unless(negated));
            let condition = condition.unwrap_or_else(|| Match::Other(text.clone()));
            out.push((text, condition));
        };
        for (network, option) in [(self.source, "-s"), (self.destination, "-d")] {
            let Some(Network { negated, ip, mask }) = network else { continue };
            let prefix = network.and_then(|network| network.prefix());
            let mask = prefix.map_or_else(|| mask.to_string(), |prefix| prefix.to_string());
            let side = if option == "-s" { Match::Source } else { Match::Destination };
            push(negated, format!("{option} {ip}/{mask}"), prefix.map(|prefix| side(ip, prefix)));
        }
        for (interface, option) in [(&self.input, "-i"), (&self.output, "-o")] {
            let Some(Interface { negated, name }) = interface else { continue };
            let side = if option == "-i" { Match::InInterface } else { Match::OutInterface };
            push(*negated, format!("{option} {name}"), Some(side(name.clone())));
        }
        if let Some((negated, number)) = self.protocol {
            let name = PROTOCOLS.iter().find(|(known, _)| *known == number);
            let name = name.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned());
            push(negated, format!("-p {name}"), Some(Match::L4Proto(number)));
        }
        if let Some(negated) = self.fragment {
            push(negated, "-f".to_owned(), Some(Match::any_bit(Field::FragmentOffset, FRAGMENT_OFFSET)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(header: &Header) -> String {
        header.render().into_iter().map(|(text, _)| text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn networks_are_printed_with_prefix_or_mask() {
        let network = |ip: &str, mask: &str, negated| {
            Some(Network { negated, ip: ip.parse().unwrap(), mask: mask.parse().unwrap() })
        };
        let mut header = Header { source: network("10.1.0.0", "255.255.0.0", true), ..Header::default() };
        assert_eq!(text(&header), "! -s 10.1.0.0/16");
        let source = Match::Source("10.1.0.0".parse().unwrap(), 16);
        assert_eq!(header.render()[0].1, source.unless(true), "a negation is not a source");
        header.source = network("10.0.1.0", "255.0.255.0", false);
        assert_eq!(text(&header), "-s 10.0.1.0/255.0.255.0");
        header.source = network("::", "::", false);
        assert_eq!(text(&header), "-s ::/0");
    }
}
