//! What translations make of a packet on its way, and how its answer is turned back.

use super::case::{Case, Space};
use super::choice::Choice;
use super::packet::Packet;
use super::walk::{End, Rules};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use whydrop_model::conntrack::Tuple;
use whydrop_model::netfilter::Hook;

/// Address and port, as far as known.
type Side = (Option<IpAddr>, Option<u16>);

/// The rule sets of all namespaces that translate.
#[derive(Clone, Debug, Default)]
pub struct Translators<'a> {
    rules: Rc<BTreeMap<u64, Rules<'a>>>,
    /// Those of namespaces with policy rules that ask for a mark.
    markers: Rc<BTreeMap<u64, Rules<'a>>>,
    /// What one of them makes of what it is asked for, where it chooses: namespace, asked, sent to.
    chosen: Option<(u64, SocketAddr, SocketAddr)>,
}

/// What connection tracking made of flows: from what a request looks like behind a translator to what was asked for.
#[derive(Debug, Default)]
pub struct Translated(BTreeMap<Tuple, Tuple>);

/// Translators in a row that are followed.
const MOST_IN_A_ROW: usize = 4;

impl Translated {
    /// The entries of all namespaces that were translated.
    pub fn of(case: Case<'_>) -> Self {
        let entries = |space: Space<'_>| {
            space.after.conntrack_entries.get().map_or(&[][..], |entries| &entries.items).to_vec()
        };
        let changed = case.spaces().flat_map(entries).filter_map(|entry| {
            let seen = entry.reply.reversed();
            (seen != entry.original).then_some((seen, entry.original))
        });
        Self(changed.collect())
    }

    /// Who asked for what, of a request of which the source port is not known.
    pub fn asked(&self, protocol: u8, source: IpAddr, to: SocketAddr) -> (IpAddr, SocketAddr) {
        let same = |seen: &Tuple| {
            (seen.protocol, seen.source) == (protocol, source)
                && (seen.destination, seen.destination_port) == (to.ip(), to.port())
        };
        let found = self.0.iter().find(|(seen, _)| same(seen)).map(|(_, asked)| *asked);
        found.map_or((source, to), |asked| {
            (asked.source, SocketAddr::new(asked.destination, asked.destination_port))
        })
    }

    /// The request as it was made.
    pub fn origin(&self, request: Tuple) -> Tuple {
        (0..MOST_IN_A_ROW).fold(request, |request, _| self.0.get(&request).copied().unwrap_or(request))
    }
}

/// One translation that a packet went through; its answer meets it the other way round.
#[derive(Clone, Copy, Debug)]
pub struct Translation {
    inode: u64,
    /// True if it changed where the packet comes from, false if where it goes to.
    of_source: bool,
    before: Side,
    after: Side,
}

/// What a hook makes of a packet.
#[derive(Clone, Debug)]
pub enum Turned {
    /// Nothing that is known.
    Not,
    /// This.
    To(Packet, Translation),
    /// One of several things.
    Chosen(Choice),
}

impl<'a> Translators<'a> {
    /// Those of an observation.
    pub fn of(case: Case<'a>) -> Self {
        let translates =
            |space: &Space<'a>| space.after.chains().any(|chain| chain.nat && !chain.rules.is_empty());
        let asks = |space: &Space<'a>| space.after.policy_rules.iter().any(|rule| rule.fwmark.is_some());
        let rules = |space: Space<'a>| (space.inode(), Rules::of(space.after));
        Self {
            rules: Rc::new(case.spaces().filter(translates).map(rules).collect()),
            markers: Rc::new(case.spaces().filter(asks).map(rules).collect()),
            chosen: None,
        }
    }

    /// The same, with one of the places to which a translator sends what it is asked for.
    pub fn choosing(&self, choice: &Choice, to: SocketAddr) -> Self {
        Self { chosen: Some((choice.inode, choice.asked, to)), ..self.clone() }
    }

    /// The mark with which a packet comes to the routing decision, where a policy rule asks for one. What is made here is
    /// routed again once it is marked (`ip_route_me_harder()`).
    pub fn mark(&self, space: Space<'_>, packet: &Packet, made_here: bool) -> Option<u32> {
        let hook = if made_here { Hook::Output } else { Hook::Prerouting };
        self.markers.get(&space.inode())?.mark(hook, packet)
    }

    /// What a hook makes of a packet that opens a connection, and if that cannot be told, what it may choose. Then the way
    /// is followed as if nothing happened, and nothing is sure on it.
    pub fn translate(&self, space: Space<'_>, hook: Hook, packet: &Packet) -> Turned {
        let of_source = hook == Hook::Postrouting;
        let Some(rules) = self.rules.get(&space.inode()).filter(|_| !packet.reply) else {
            return Turned::Not;
        };
        let walk = rules.at_hook(hook, packet);
        let unknown = walk.endings().any(|ending| matches!(ending.end, End::Unknown(_)));
        let chosen = self.chosen.filter(|(inode, asked, _)| {
            let to = (packet.destination, packet.destination_port);
            *inode == space.inode() && !of_source && to == (Some(asked.ip()), Some(asked.port()))
        });
        let becomes = match (chosen, walk.packets.as_slice()) {
            (Some((.., to)), _) => {
                let (destination, destination_port) = (Some(to.ip()), Some(to.port()));
                Packet { destination, destination_port, ..packet.clone() }
            }
            (None, [(_, becomes)]) if !unknown => becomes.clone(),
            (None, _) if of_source => return Turned::Not,
            (None, shapes) => {
                let shapes: Vec<Packet> = shapes.iter().map(|(_, shape)| shape.clone()).collect();
                return Choice::of(space, packet, &shapes).map_or(Turned::Not, Turned::Chosen);
            }
        };
        let side = |packet: &Packet| match of_source {
            true => (packet.source, packet.source_port),
            false => (packet.destination, packet.destination_port),
        };
        let (before, after) = (side(packet), side(&becomes));
        if before == after {
            return Turned::Not;
        }
        let becomes = Packet { in_interface: None, out_interface: None, ..becomes };
        Turned::To(becomes, Translation { inode: space.inode(), of_source, before, after })
    }
}

/// An answer as it is routed: what changed the request's source is undone before that.
pub fn undo_source(space: Space<'_>, done: &[Translation], answer: &Packet) -> Packet {
    let met = |t: &&Translation| t.after == (answer.destination, answer.destination_port);
    match here(space, done).filter(|t| t.of_source).find(met) {
        Some(t) => Packet { destination: t.before.0, destination_port: t.before.1, ..answer.clone() },
        None => answer.clone(),
    }
}

/// An answer as it leaves: what changed the request's destination is undone at last.
pub fn undo_destination(space: Space<'_>, done: &[Translation], answer: &Packet) -> Packet {
    let met = |t: &&Translation| t.after == (answer.source, answer.source_port);
    match here(space, done).filter(|t| !t.of_source).find(met) {
        Some(t) => Packet { source: t.before.0, source_port: t.before.1, ..answer.clone() },
        None => answer.clone(),
    }
}

fn here<'t>(space: Space<'_>, done: &'t [Translation]) -> impl Iterator<Item = &'t Translation> {
    let inode = space.inode();
    done.iter().filter(move |translation| translation.inode == inode)
}

#[cfg(test)]
mod tests {
    use super::super::index::Index;
    use super::super::way::{End, Ends, Way};
    use super::*;
    use crate::testing::*;
    use whydrop_model::Reading;
    use whydrop_model::netfilter::{Match, Nat, NatKind, RuleVerdict};

    fn rule_to(kind: NatKind, address: &str, port: u16, of: &str) -> whydrop_model::netfilter::Rule {
        let address: IpAddr = address.parse().unwrap();
        let nat = Nat { kind, addresses: Some((address, address)), ports: Some((port, port)), known: true };
        rule(
            "nat",
            RuleVerdict::Nat(Box::new(nat)),
            Some(0),
            vec![Match::Destination(of.parse().unwrap(), 32)],
        )
    }

    /// The client asks 10.9.9.9:80; its own rule makes 10.0.0.2:8080 of it, and another hides where it comes from.
    fn translating() -> World {
        let mut world = World::pair();
        world.both(CLIENT, |s| {
            s.routes = Reading::Present(vec![route("0.0.0.0/0", "unicast", Some("10.0.0.2"), Some(2))]);
        });
        for (name, hook, rule) in [
            ("OUTPUT", Hook::Output, rule_to(NatKind::Destination, "10.0.0.2", 8080, "10.9.9.9")),
            ("POSTROUTING", Hook::Postrouting, rule_to(NatKind::Source, "10.0.0.1", 50_000, "10.0.0.2")),
        ] {
            let mut chain = chain(name, hook, RuleVerdict::Accept, vec![rule]);
            chain.nat = true;
            world.chain(CLIENT, chain, &[]);
        }
        world
    }

    #[test]
    fn a_way_leads_to_where_the_packet_is_sent_on() {
        let world = translating();
        let index = Index::of(&world.observation);
        let case = Case::bare(&world.observation, &index);
        let (client, server) = (case.space("netns:client").unwrap(), case.space("netns:server").unwrap());
        let ends = Ends {
            protocol: 6,
            source: (None, Some(40_000)),
            destination: ("10.9.9.9".parse().unwrap(), Some(80)),
        };
        let way = Way::of(0, &Translators::of(case), client, ends);
        assert_eq!(way.forward.end, End::Arrived, "{way:?}");
        let shown = |packet: &Packet| {
            let side = |ip: Option<IpAddr>, port: Option<u16>| format!("{}:{}", ip.unwrap(), port.unwrap());
            let from = side(packet.source, packet.source_port);
            format!("{from} {}", side(packet.destination, packet.destination_port))
        };
        let at = |space, hook| way.packets_at(space, hook).iter().map(shown).collect::<Vec<_>>();
        // The walk of the hook translates by itself.
        assert_eq!(at(client, Hook::Output), ["10.0.0.1:40000 10.9.9.9:80"]);
        assert_eq!(at(client, Hook::Postrouting), ["10.0.0.1:40000 10.0.0.2:8080"]);
        assert_eq!(at(server, Hook::Input), ["10.0.0.1:50000 10.0.0.2:8080"]);
        // The answer comes back to the port that asked.
        assert_eq!(at(server, Hook::Output), ["10.0.0.2:8080 10.0.0.1:50000"]);
        assert_eq!(at(client, Hook::Prerouting), ["10.0.0.2:8080 10.0.0.1:50000"]);
        assert_eq!(at(client, Hook::Input), ["10.0.0.2:8080 10.0.0.1:40000"]);
    }

    #[test]
    fn a_translator_that_chooses_leads_to_each_of_its_places() {
        let mut world = World::pair();
        world.both(CLIENT, |s| {
            s.routes = Reading::Present(vec![route("0.0.0.0/0", "unicast", Some("10.0.0.2"), Some(2))]);
        });
        let mut first = rule_to(NatKind::Destination, "10.0.0.2", 8080, "10.9.9.9");
        first.matches.push(Match::Random(0.5));
        let second = rule_to(NatKind::Destination, "10.0.0.9", 8080, "10.9.9.9");
        let mut output = chain("OUTPUT", Hook::Output, RuleVerdict::Accept, vec![first, second]);
        output.nat = true;
        world.chain(CLIENT, output, &[]);
        let index = Index::of(&world.observation);
        let case = Case::bare(&world.observation, &index);
        let (client, server) = (case.space("netns:client").unwrap(), case.space("netns:server").unwrap());
        let ends = Ends {
            protocol: 6,
            source: (None, Some(40_000)),
            destination: ("10.9.9.9".parse().unwrap(), Some(80)),
        };
        let way = Way::of(0, &Translators::of(case), client, ends);
        let last = |way: &Way| way.forward.hops.last().unwrap().routed.destination;
        let ways: Vec<_> = way.others.iter().map(last).collect();
        assert_eq!(ways, ["10.0.0.2".parse().ok(), "10.0.0.9".parse().ok()]);
        // The answer of the one that is in view.
        let input = way.packets_at(server, Hook::Input);
        assert!(input.iter().any(|packet| packet.destination_port == Some(8080)), "{input:?}");
    }
}
