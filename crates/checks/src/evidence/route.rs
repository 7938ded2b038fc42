//! Where a namespace sends a packet: policy rules in order, then the longest prefix.

use super::case::Space;
use super::packet::Packet;
use std::net::IpAddr;
use whydrop_model::netfilter::Field;
pub use whydrop_model::network::contains;
use whydrop_model::snapshot::{NextHop, PolicyRule, Route};

/// RT_TABLE_LOCAL, RT_TABLE_MAIN, RT_TABLE_DEFAULT.
const DEFAULT_TABLES: [u32; 3] = [255, 254, 253];

/// The bits of the type of service of which no rule asks (INET_ECN_MASK).
const ECN: u8 = 3;

/// Answer of a look-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lookup<'a> {
    /// The address is this namespace's own.
    Local,
    /// Leaves through this next hop.
    Via(&'a Route, &'a NextHop),
    /// A blackhole, unreachable or prohibit route takes it.
    Refused(&'a Route),
    /// A policy rule refuses it.
    RefusedByRule(&'a PolicyRule),
    /// No route.
    Missing,
    /// The routes could not be read.
    Unknown,
}

/// What policy rules may ask of a packet beside its addresses and the interface by which it came; none is not known,
/// and a rule that asks for it does not apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// IP protocol.
    pub protocol: Option<u8>,
    /// Source port.
    pub source_port: Option<u16>,
    /// Destination port.
    pub destination_port: Option<u16>,
    /// Firewall mark; where none is known it is taken as unmarked, which most packets are.
    pub mark: Option<u32>,
    /// User of the socket that sends it.
    pub uid: Option<u32>,
    /// Type of service: DSCP and ECN.
    pub tos: Option<u8>,
}

impl Selector {
    /// That of a packet.
    pub fn of(packet: &Packet) -> Self {
        Self {
            protocol: (packet.protocol != 0).then_some(packet.protocol),
            source_port: packet.source_port,
            destination_port: packet.destination_port,
            mark: packet.fields.get(&Field::Mark).copied(),
            uid: packet.fields.get(&Field::Uid).copied(),
            tos: packet.fields.get(&Field::Tos).and_then(|tos| u8::try_from(*tos).ok()),
        }
    }

    /// One condition as `ip rule` writes it; none if that cannot be told.
    fn fits(self, condition: &str) -> Option<bool> {
        let (name, value) = condition.split_once(' ')?;
        let asked = match name {
            "ipproto" => u32::from(self.protocol?),
            "sport" => u32::from(self.source_port?),
            "dport" => u32::from(self.destination_port?),
            "uidrange" => self.uid?,
            "tos" => u32::from(self.tos? & !ECN),
            "dscp" => u32::from(self.tos? >> ECN.count_ones()),
            _ => return None,
        };
        let (low, high) = value.split_once('-').unwrap_or((value, value));
        let number = |word: &str| match word.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => word.parse().ok(),
        };
        Some((number(low)?..=number(high)?).contains(&asked))
    }
}

/// Looks up the way to `to`, as the kernel would for a packet from `from` that is made here (unmarked, without a
/// bound device).
pub fn lookup<'a>(space: Space<'a>, to: IpAddr, from: Option<IpAddr>) -> Lookup<'a> {
    lookup_from(space, to, from, None)
}

/// As [`lookup`], for a packet that came in by an interface.
pub fn lookup_from<'a>(
    space: Space<'a>,
    to: IpAddr,
    from: Option<IpAddr>,
    incoming: Option<u32>,
) -> Lookup<'a> {
    lookup_as(space, to, from, incoming, Selector::default())
}

/// As [`lookup_from`], for a packet of which more is known.
pub fn lookup_as<'a>(
    space: Space<'a>,
    to: IpAddr,
    from: Option<IpAddr>,
    incoming: Option<u32>,
    asks: Selector,
) -> Lookup<'a> {
    chosen(space, to, from, incoming, asks, None).1
}

/// A policy rule that sends a packet by a table of its own, and what the rules behind it would say.
pub fn turned_by_rule<'a>(
    space: Space<'a>,
    to: IpAddr,
    from: Option<IpAddr>,
    incoming: Option<u32>,
    asks: Selector,
) -> Option<(&'a PolicyRule, &'a NextHop, Lookup<'a>)> {
    let (rule, said) = chosen(space, to, from, incoming, asks, None);
    let rule = rule.filter(|rule| rule.table.is_some_and(|table| !DEFAULT_TABLES.contains(&table)))?;
    match said {
        Lookup::Via(_, hop) => Some((rule, hop, chosen(space, to, from, incoming, asks, Some(rule)).1)),
        _ => None,
    }
}

/// The answer of a look-up with the rule that gave it, as if one of them were not there.
fn chosen<'a>(
    space: Space<'a>,
    to: IpAddr,
    from: Option<IpAddr>,
    incoming: Option<u32>,
    asks: Selector,
    without: Option<&PolicyRule>,
) -> (Option<&'a PolicyRule>, Lookup<'a>) {
    if to.is_loopback() || space.after.owns(to) {
        return (None, Lookup::Local);
    }
    let Some(routes) = space.after.routes.get() else { return (None, Lookup::Unknown) };
    let family = if to.is_ipv6() { 6 } else { 4 };
    let mut rules: Vec<&PolicyRule> =
        space.after.policy_rules.iter().filter(|rule| rule.family == family).collect();
    rules.sort_by_key(|rule| rule.priority);
    if rules.is_empty() {
        let answer = first_match(routes, &DEFAULT_TABLES, to).unwrap_or(Lookup::Missing);
        return (None, redirected(space, to, answer));
    }
    // What is made here comes from the loopback device, as the kernel sees it.
    let came_by = incoming.and_then(|index| space.after.link(index)).map_or("lo", |link| link.name.as_str());
    let rules = rules.into_iter().filter(|rule| without != Some(*rule));
    for rule in rules.filter(|rule| applies(rule, to, from, came_by, asks)) {
        match (rule.action.as_str(), rule.table) {
            ("lookup", Some(table)) => {
                if let Some(answer) = first_match(routes, &[table], to) {
                    return (Some(rule), redirected(space, to, answer));
                }
            }
            ("blackhole" | "unreachable" | "prohibit", _) => {
                return (Some(rule), Lookup::RefusedByRule(rule));
            }
            _ => {}
        }
    }
    (None, Lookup::Missing)
}

/// The address that packets to `to` leave with: the route's preferred one, else the first of its device that lies
/// in the family and, if possible, in the network of the next hop.
pub fn source_address(space: Space<'_>, to: IpAddr) -> Option<IpAddr> {
    source_address_as(space, to, Selector::default())
}

/// As [`source_address`], for packets of which more is known.
pub fn source_address_as(space: Space<'_>, to: IpAddr, asks: Selector) -> Option<IpAddr> {
    let (route, hop) = match lookup_as(space, to, None, None, asks) {
        Lookup::Local => return Some(to),
        Lookup::Via(route, hop) => (route, hop),
        _ => return None,
    };
    if route.source.is_some() {
        return route.source;
    }
    let near = hop.gateway.unwrap_or(to);
    let global = |ip: &IpAddr| match ip {
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        IpAddr::V4(_) => true,
    };
    let mut own: Vec<_> = space
        .after
        .addresses
        .iter()
        .filter(|a| Some(a.link) == hop.link && a.ip.is_ipv6() == to.is_ipv6() && global(&a.ip))
        .collect();
    own.sort_by_key(|a| !contains(a.ip, a.prefix, near));
    own.first().map(|a| a.ip)
}

fn applies(rule: &PolicyRule, to: IpAddr, from: Option<IpAddr>, came_by: &str, asks: Selector) -> bool {
    let to_fits = rule.to.is_none_or(|(net, prefix)| contains(net, prefix, to));
    let from_fits = match (rule.from, from) {
        (None, _) => true,
        (Some((net, prefix)), Some(ip)) => contains(net, prefix, ip),
        (Some(_), None) => false,
    };
    let marked = |(value, mask): (u32, u32)| asks.mark.is_some_and(|mark| mark & mask == value & mask);
    let negated = rule.conditions.iter().any(|condition| condition == "not");
    let mut others = rule.conditions.iter().filter(|condition| *condition != "not");
    let Some(fits) = others.try_fold(true, |all, condition| asks.fits(condition).map(|fits| all && fits))
    else {
        return false;
    };
    let all = to_fits
        && from_fits
        && rule.iif.as_deref().is_none_or(|iif| iif == came_by)
        && rule.oif.is_none()
        && rule.fwmark.is_none_or(marked)
        && fits;
    // The kernel turns the answer of all conditions round (`fib_rule_match()`).
    all != negated
}

fn first_match<'a>(routes: &'a [Route], tables: &[u32], to: IpAddr) -> Option<Lookup<'a>> {
    tables.iter().find_map(|table| {
        let best = routes
            .iter()
            .filter(|r| r.table == *table && contains(r.destination, r.prefix, to))
            .filter(|r| !matches!(r.kind.as_str(), "broadcast" | "multicast" | "anycast"))
            .min_by_key(|r| (std::cmp::Reverse(r.prefix), r.metric))?;
        match best.kind.as_str() {
            "throw" => None,
            "local" => Some(Lookup::Local),
            "blackhole" | "unreachable" | "prohibit" => Some(Lookup::Refused(best)),
            _ => {
                let alive = |hop: &&NextHop| !hop.flags.iter().any(|f| f == "dead");
                let hop = best.next_hops.iter().find(alive).or_else(|| best.next_hops.first())?;
                Some(Lookup::Via(best, hop))
            }
        }
    })
}

/// What a redirect made of the answer: the next hop that was learned for this one address goes before that of the table.
fn redirected<'a>(space: Space<'a>, to: IpAddr, answer: Lookup<'a>) -> Lookup<'a> {
    let Lookup::Via(route, hop) = answer else { return answer };
    // The gateway tells a redirect from a path MTU: that has the route's own.
    let other = |learned: &NextHop| {
        let known = |hop: &NextHop| hop.gateway == learned.gateway;
        learned.gateway.is_some() && learned.link == hop.link && !route.next_hops.iter().any(known)
    };
    let mut learned = space.after.route_exceptions.iter().filter(|e| {
        e.destination == to && e.table == route.table && contains(route.destination, route.prefix, to)
    });
    let found = learned.find_map(|e| Some((e, e.next_hops.iter().find(|hop| other(hop))?)));
    found.map_or(answer, |(exception, hop)| Lookup::Via(exception, hop))
}

/// True for a next hop that a redirect taught this namespace, not a table.
pub fn is_learned(space: Space<'_>, route: &Route) -> bool {
    space.after.route_exceptions.iter().any(|exception| std::ptr::eq(exception, route))
}

/// The answer of the table for an address to which a redirect shows another way.
pub fn table_says<'a>(space: Space<'a>, exception: &Route) -> Option<&'a NextHop> {
    let routes = space.after.routes.get()?;
    match first_match(routes, &[exception.table], exception.destination)? {
        Lookup::Via(_, hop) => Some(hop),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, policy_rule, route};

    #[test]
    fn the_longest_prefix_wins_and_rules_come_first() {
        let mut world = World::pair();
        world.after(1, |s| {
            s.routes = whydrop_model::Reading::Present(vec![
                route("0.0.0.0/0", "unicast", Some("10.0.0.1"), Some(2)),
                route("10.9.0.0/16", "blackhole", None, None),
            ]);
        });
        world.with(|case| {
            let space = case.space("netns:server").unwrap();
            let to = |ip: &str| lookup(space, ip.parse().unwrap(), None);
            assert!(matches!(to("8.8.8.8"), Lookup::Via(_, hop) if hop.link == Some(2)));
            assert!(matches!(to("10.9.1.1"), Lookup::Refused(_)));
            assert!(matches!(to("10.0.0.2"), Lookup::Local));
            assert!(matches!(to("2001:db8::1"), Lookup::Missing));
        });
    }

    #[test]
    fn a_rule_for_an_interface_takes_what_came_in_by_it() {
        let mut world = World::pair();
        let refuse = PolicyRule { iif: Some("eth0".into()), ..policy_rule(100, "blackhole", None) };
        let main = policy_rule(32766, "lookup", Some(254));
        world.after(1, |s| {
            s.policy_rules = whydrop_model::Reading::Present(vec![refuse.clone(), main.clone()]);
        });
        world.with(|case| {
            let space = case.space("netns:server").unwrap();
            let to = "10.0.0.7".parse().unwrap();
            assert!(matches!(lookup(space, to, None), Lookup::Via(..)));
            assert!(matches!(lookup_from(space, to, None, Some(2)), Lookup::RefusedByRule(_)));
        });
    }

    #[test]
    fn a_rule_asks_for_mark_and_ports() {
        let rule = |mark: Option<(u32, u32)>, conditions: &[&str]| PolicyRule {
            fwmark: mark,
            conditions: conditions.iter().map(|c| (*c).to_owned()).collect(),
            ..policy_rule(100, "blackhole", None)
        };
        let web = Selector {
            protocol: Some(6),
            source_port: None,
            destination_port: Some(80),
            mark: Some(0x17),
            uid: Some(1000),
            tos: Some(0x12),
        };
        let to = "10.0.0.7".parse().unwrap();
        let applies = |rule: &PolicyRule, asks| super::applies(rule, to, None, "lo", asks);
        for (rule, fits) in [
            (rule(Some((7, 0xf)), &[]), true),
            (rule(Some((7, u32::MAX)), &[]), false),
            (rule(None, &["ipproto 6", "dport 80-443"]), true),
            (rule(None, &["ipproto 17", "dport 80-443"]), false),
            (rule(None, &["not", "ipproto 17"]), true),
            (rule(None, &["not", "dport 80"]), false),
            (rule(None, &["sport 80"]), false),
            (rule(None, &["uidrange 0-99"]), false),
            (rule(None, &["uidrange 1000-1000"]), true),
            (rule(None, &["tos 0x10"]), true),
            (rule(None, &["tos 0x08"]), false),
            (rule(None, &["dscp 4"]), true),
            (rule(None, &["l3mdev"]), false),
        ] {
            assert_eq!(applies(&rule, web), fits, "{rule:?}");
            // Of what nobody knows nothing a rule asks for is said to hold.
            assert!(!applies(&rule, Selector::default()), "{rule:?}");
        }
    }

    #[test]
    fn prefixes_of_both_families() {
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        assert!(contains(ip("10.0.0.0"), 8, ip("10.255.0.1")));
        assert!(!contains(ip("10.0.0.0"), 9, ip("10.255.0.1")));
        assert!(contains(ip("::"), 0, ip("fe80::1")));
        assert!(!contains(ip("0.0.0.0"), 0, ip("fe80::1")));
    }
}
