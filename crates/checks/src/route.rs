//! Where a namespace sends a packet: policy rules in order, then the longest prefix.

use crate::case::Space;
use std::net::IpAddr;
use whydrop_model::snapshot::{NextHop, PolicyRule, Route};

/// RT_TABLE_LOCAL, RT_TABLE_MAIN, RT_TABLE_DEFAULT.
const DEFAULT_TABLES: [u32; 3] = [255, 254, 253];

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
    if to.is_loopback() || space.after.owns(to) {
        return Lookup::Local;
    }
    let Some(routes) = space.after.routes.get() else { return Lookup::Unknown };
    let family = if to.is_ipv6() { 6 } else { 4 };
    let mut rules: Vec<&PolicyRule> =
        space.after.policy_rules.iter().filter(|rule| rule.family == family).collect();
    rules.sort_by_key(|rule| rule.priority);
    if rules.is_empty() {
        return first_match(routes, &DEFAULT_TABLES, to).unwrap_or(Lookup::Missing);
    }
    // What is made here comes from the loopback device, as the kernel sees it.
    let came_by = incoming.and_then(|index| space.after.link(index)).map_or("lo", |link| link.name.as_str());
    for rule in rules.into_iter().filter(|rule| applies(rule, to, from, came_by)) {
        match (rule.action.as_str(), rule.table) {
            ("lookup", Some(table)) => {
                if let Some(answer) = first_match(routes, &[table], to) {
                    return answer;
                }
            }
            ("blackhole" | "unreachable" | "prohibit", _) => return Lookup::RefusedByRule(rule),
            _ => {}
        }
    }
    Lookup::Missing
}

/// The address that packets to `to` leave with: the route's preferred one, else the first of its device that lies
/// in the family and, if possible, in the network of the next hop.
pub fn source_address(space: Space<'_>, to: IpAddr) -> Option<IpAddr> {
    let (route, hop) = match lookup(space, to, None) {
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

/// True if `ip` lies in the network.
pub fn contains(network: IpAddr, prefix: u8, ip: IpAddr) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let ((a, width_a), (b, width_b)) = (bits(network), bits(ip));
    width_a == width_b && (prefix == 0 || (a ^ b) >> (128 - u32::from(prefix.min(width_a))) == 0)
}

fn applies(rule: &PolicyRule, to: IpAddr, from: Option<IpAddr>, came_by: &str) -> bool {
    let to_fits = rule.to.is_none_or(|(net, prefix)| contains(net, prefix, to));
    let from_fits = match (rule.from, from) {
        (None, _) => true,
        (Some((net, prefix)), Some(ip)) => contains(net, prefix, ip),
        (Some(_), None) => false,
    };
    to_fits
        && from_fits
        && rule.iif.as_deref().is_none_or(|iif| iif == came_by)
        && rule.oif.is_none()
        && rule.fwmark.is_none()
        && rule.conditions.is_empty()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, route};

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
        let refuse = PolicyRule {
            family: 4,
            priority: 100,
            action: "blackhole".into(),
            table: None,
            from: None,
            to: None,
            iif: Some("eth0".into()),
            oif: None,
            fwmark: None,
            conditions: vec![],
        };
        let main = PolicyRule {
            priority: 32766,
            action: "lookup".into(),
            table: Some(254),
            iif: None,
            ..refuse.clone()
        };
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
    fn prefixes_of_both_families() {
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        assert!(contains(ip("10.0.0.0"), 8, ip("10.255.0.1")));
        assert!(!contains(ip("10.0.0.0"), 9, ip("10.255.0.1")));
        assert!(contains(ip("::"), 0, ip("fe80::1")));
        assert!(!contains(ip("0.0.0.0"), 0, ip("fe80::1")));
    }
}
