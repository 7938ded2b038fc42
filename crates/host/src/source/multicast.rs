//! Multicast memberships: /proc/thread-self/net/{igmp,igmp6,mcfilter,mcfilter6}.

use crate::error::Result;
use crate::sys::file;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use whydrop_model::snapshot::{Group, GroupSource};

const IGMP: &str = "/proc/thread-self/net/igmp";
const IGMP6: &str = "/proc/thread-self/net/igmp6";
const FILTER: &str = "/proc/thread-self/net/mcfilter";
const FILTER6: &str = "/proc/thread-self/net/mcfilter6";

/// The groups of all interfaces of the calling thread's namespace; absent without CONFIG_IP_MULTICAST. Needs no
/// privilege.
pub fn groups() -> Result<Vec<Group>> {
    both(IGMP, parse_igmp, IGMP6, parse_igmp6)
}

/// The source filters of those groups.
pub fn sources() -> Result<Vec<GroupSource>> {
    both(FILTER, |text| parse_filter(text, ipv4), FILTER6, |text| parse_filter(text, ipv6))
}

/// A file of IPv4, and that of IPv6 where there is IPv6.
fn both<T>(
    v4: &str,
    parse_v4: impl Fn(&str) -> Option<Vec<T>>,
    v6: &str,
    parse_v6: impl Fn(&str) -> Option<Vec<T>>,
) -> Result<Vec<T>> {
    let mut all = parse_v4(&file::read(v4)?).ok_or_else(|| file::malformed(v4))?;
    match file::read(v6) {
        Ok(text) => all.extend(parse_v6(&text).ok_or_else(|| file::malformed(v6))?),
        Err(error) if error.is_absent() => (),
        Err(error) => return Err(error),
    }
    Ok(all)
}

/// A line `index device : count querier` for each interface, and below it one for each group
/// (net/ipv4/igmp.c:igmp_mc_seq_show), which begins with a tab.
fn parse_igmp(text: &str) -> Option<Vec<Group>> {
    let mut link = None;
    let mut groups = Vec::new();
    for line in text.lines().skip(1) {
        let mut words = line.split_ascii_whitespace();
        let first = words.next()?;
        if line.starts_with('\t') {
            // In network order, printed as a number.
            let group = IpAddr::V4(Ipv4Addr::from(u32::from_str_radix(first, 16).ok()?.to_ne_bytes()));
            groups.push(Group { link: link?, group, users: words.next()?.parse().ok()? });
        } else {
            link = Some(first.parse().ok()?);
        }
    }
    Some(groups)
}

/// Lines `index device group users flags timer`.
fn parse_igmp6(text: &str) -> Option<Vec<Group>> {
    let line = |line: &str| {
        // A device may have a blank in its name: the other columns are counted from the end.
        let mut back = line.split_ascii_whitespace().rev().skip(2);
        let users = back.next()?.parse().ok()?;
        let group = ipv6(back.next()?)?;
        Some(Group { link: line.split_ascii_whitespace().next()?.parse().ok()?, group, users })
    };
    text.lines().map(line).collect()
}

/// Lines `index device group source included excluded`, below a heading.
fn parse_filter(text: &str, ip: impl Fn(&str) -> Option<IpAddr>) -> Option<Vec<GroupSource>> {
    let line = |line: &str| {
        let mut back = line.split_ascii_whitespace().rev();
        let excluded = back.next()?.parse().ok()?;
        let included = back.next()?.parse().ok()?;
        let source = ip(back.next()?)?;
        let group = ip(back.next()?)?;
        let link = line.split_ascii_whitespace().next()?.parse().ok()?;
        Some(GroupSource { link, group, source, included, excluded })
    };
    text.lines().skip(1).map(line).collect()
}

/// `0xefff0001`.
fn ipv4(text: &str) -> Option<IpAddr> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok().map(|ip| Ipv4Addr::from(ip).into())
}

/// 32 digits.
fn ipv6(text: &str) -> Option<IpAddr> {
    let whole = (text.len() == 32).then_some(text)?;
    u128::from_str_radix(whole, 16).ok().map(|ip| Ipv6Addr::from(ip).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_belong_to_the_interface_above() {
        let text = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter
1\tlo        :     1      V3
\t\t\t\t010000E0     1 0:00000000\t\t0
3\teth1      :     2      V2
\t\t\t\t0100FFEF     2 0:00000000\t\t1
";
        let groups = parse_igmp(text).unwrap();
        let seen: Vec<_> = groups.iter().map(|g| (g.link, g.group.to_string(), g.users)).collect();
        assert_eq!(seen, [(1, "224.0.0.1".to_owned(), 1), (3, "239.255.0.1".to_owned(), 2)]);
        for text in ["x\n\t010000E0 1\n", "x\n1 lo\n\tzz 1\n", "x\n1 lo\n\t010000E0\n", "x\n\n"] {
            assert_eq!(parse_igmp(text), None, "{text:?}");
        }
    }

    #[test]
    fn groups_of_ipv6() {
        let text = "2    my eth          ff0200000000000000000000000000fb     1 0000000C 0\n";
        let groups = parse_igmp6(text).unwrap();
        let group = groups.first().unwrap();
        assert_eq!((group.link, group.group.to_string().as_str(), group.users), (2, "ff02::fb", 1));
        assert_eq!(parse_igmp6("2 eth0 ff02 1 0 0\n"), None);
        assert_eq!(parse_igmp6("x\n"), None);
    }

    #[test]
    fn sources_of_both_families() {
        let text = "Idx Device        MCA        SRC    INC    EXC
  3   eth1 0xe8010101 0x0a000001      1      0
";
        let read = parse_filter(text, ipv4).unwrap();
        let filter = read.first().unwrap();
        assert_eq!((filter.group.to_string().as_str(), filter.included), ("232.1.1.1", 1));
        assert_eq!(filter.source.to_string(), "10.0.0.1");
        assert_eq!(parse_filter("h\n3 eth1 0xe8 10.0.0.1 1 0\n", ipv4), None);
        assert_eq!(parse_filter("h\n3 eth1 ff02 ff03 1 0\n", ipv6), None);
    }
}
