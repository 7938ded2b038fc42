//! Which listening ports of a target a probe may try unasked: only those that certainly belong to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use whydrop_model::bundle::ProbeSkip;
use whydrop_model::snapshot::{Protocol, Route, Snapshot, Socket};
use whydrop_model::{Reading, Target};

/// At most so many ports are probed unasked (contract).
const MOST_PORTS: usize = 4;

/// What to probe when the user named nothing.
#[derive(Debug, Default)]
pub struct DefaultProbes {
    /// URLs, `tcp://ADDRESS:PORT`.
    pub urls: Vec<String>,
    /// Ports that were left out, and why.
    pub skipped: Vec<ProbeSkip>,
}

/// Chooses the probes: the TCP ports on which `target` listens, at an address that `from` reaches without leaving
/// this machine. Anything that is not certainly the target's own is left out with a reason: a stranger is never probed.
pub fn default_probes(from: (&Target, &Snapshot), target: (&Target, &Snapshot)) -> DefaultProbes {
    let mut chosen = DefaultProbes::default();
    let mut listeners: Vec<&Socket> =
        target.1.sockets.iter().filter(|s| s.protocol == Protocol::Tcp && s.state == "listen").collect();
    listeners.sort_by_key(|s| (s.local.port(), s.local.is_ipv6()));
    listeners.dedup_by_key(|s| s.local.port());
    for socket in listeners {
        let port = socket.local.port();
        let mut skip = |ip: Option<IpAddr>, why: &str| {
            let host = ip.map_or_else(|| target.0.name.clone(), url_host);
            let url = format!("tcp://{host}:{port}");
            chosen.skipped.push(ProbeSkip { url, target: target.0.id.clone(), why: why.to_owned() });
        };
        let same = from.0.netns_inode == target.0.netns_inode;
        match address_of(socket, from, target, same) {
            Err(why) => skip(None, why),
            Ok(ip) if chosen.urls.len() >= MOST_PORTS => {
                skip(Some(ip), "only 4 ports are probed unasked; name it with --probe")
            }
            Ok(ip) => chosen.urls.push(format!("tcp://{}:{port}", url_host(ip))),
        }
    }
    chosen
}

fn url_host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn address_of(
    socket: &Socket,
    from: (&Target, &Snapshot),
    target: (&Target, &Snapshot),
    same: bool,
) -> Result<IpAddr, &'static str> {
    let ip = socket.local.ip().to_canonical();
    if same {
        let loopback: IpAddr =
            if ip.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        return Ok(if ip.is_unspecified() { loopback } else { ip });
    }
    if ip.is_loopback() {
        return Err("listens on loopback only");
    }
    let own = target.1.addresses.iter().filter(|a| usable(a.ip) && !a.flags.iter().any(|f| f == "tentative"));
    let both = ip.is_unspecified() && ip.is_ipv6() && socket.v6only != Some(true);
    let fits = |candidate: IpAddr| match ip {
        ip if !ip.is_unspecified() => candidate == ip,
        ip => both || candidate.is_ipv4() == ip.is_ipv4(),
    };
    let mut candidates: Vec<_> = own.filter(|a| fits(a.ip)).collect();
    candidates.sort_by_key(|a| a.ip.is_ipv6());
    if candidates.is_empty() {
        return Err("the target has no address that others can reach");
    }
    candidates
        .iter()
        .find(|a| leads_to(from.1, target.0.netns_inode, a.ip))
        .map(|a| a.ip)
        .ok_or("no direct link from where probes start; name it with --probe, or start elsewhere with --from")
}

fn usable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

/// True if `from` sends packets for `ip` straight, without a gateway, onto a link whose other end is in the
/// namespace `inode`: a veth, or a bridge with such a veth as a port.
fn leads_to(from: &Snapshot, inode: u64, ip: IpAddr) -> bool {
    let Some(route) = best_route(&from.routes, ip) else { return false };
    let [hop] = route.next_hops.as_slice() else { return false };
    let (Some(device), None) = (hop.link, hop.gateway) else { return false };
    let mut ends = from.links.iter().filter(|l| l.index == device || l.master == Some(device));
    route.kind == "unicast" && ends.any(|l| l.link_netns_inode == Some(inode))
}

fn best_route(routes: &Reading<Vec<Route>>, ip: IpAddr) -> Option<&Route> {
    let hits =
        routes.iter().filter(|r| matches!(r.table, 254 | 255) && contains(r.destination, r.prefix, ip));
    hits.max_by_key(|r| (r.prefix, std::cmp::Reverse(r.metric)))
}

/// True if `ip` lies in `network/prefix`; never across families.
pub fn contains(network: IpAddr, prefix: u8, ip: IpAddr) -> bool {
    match (network, ip) {
        (IpAddr::V4(n), IpAddr::V4(i)) => {
            let shift = 32u32.saturating_sub(u32::from(prefix));
            u32::from(n).checked_shr(shift) == u32::from(i).checked_shr(shift)
        }
        (IpAddr::V6(n), IpAddr::V6(i)) => {
            let shift = 128u32.saturating_sub(u32::from(prefix));
            u128::from(n).checked_shr(shift) == u128::from(i).checked_shr(shift)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_any_length_and_no_panic_at_the_ends() {
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        assert!(contains(ip("10.1.0.0"), 16, ip("10.1.2.3")));
        assert!(!contains(ip("10.1.0.0"), 16, ip("10.2.2.3")));
        assert!(contains(ip("0.0.0.0"), 0, ip("10.2.2.3")));
        assert!(contains(ip("::"), 0, ip("fd00::1")));
        assert!(!contains(ip("::"), 0, ip("10.0.0.1")));
        assert!(contains(ip("10.0.0.1"), 32, ip("10.0.0.1")));
        assert!(contains(ip("10.0.0.1"), 200, ip("10.0.0.1")));
    }
}
