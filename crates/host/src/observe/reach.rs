//! Which listening ports of a target a probe may try unasked: only those that certainly belong to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use whydrop_model::Target;
use whydrop_model::bundle::ProbeSkip;
use whydrop_model::netfilter::{Hook, Rule, Tool};
use whydrop_model::network::contains;
use whydrop_model::snapshot::{Address, Link, Protocol, Snapshot, Socket};

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
        // A program may listen at an address that is another machine's by now.
        return match ip {
            ip if ip.is_unspecified() => Ok(loopback),
            ip if ip.is_loopback() || target.1.owns(ip) => Ok(ip),
            _ => Err("listens at an address that is not here"),
        };
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
    let loopback = |a: &Address| target.1.link(a.link).is_some_and(|link| link.loopback);
    candidates.sort_by_key(|a| (loopback(a), a.ip.is_ipv6()));
    if candidates.is_empty() {
        return Err("the target has no address that others can reach");
    }
    if translates(target.1) {
        return Err("the target may send its connections elsewhere (NAT in prerouting)");
    }
    let ways = candidates.iter().map(|a| (a.ip, leads_to(from, target, a)));
    let mut trouble = None;
    for (ip, way) in ways {
        match way {
            Ok(()) => return Ok(ip),
            Err(why) => trouble = trouble.or(Some(why)),
        }
    }
    Err(trouble.unwrap_or(NO_LINK))
}

fn usable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

/// Nothing says that the packet would stay on this machine.
const NO_LINK: &str =
    "no direct link from where probes start; name it with --probe, or start elsewhere with --from";

/// Fails unless a packet from `from` to this address of the target certainly stays on this machine and is meant for
/// the target: it goes without a gateway onto a veth whose other end has the address, or onto a bridge that has only
/// veths, one of them with the address at its other end. An address on another device of the target (its lo) may be a
/// neighbour's; only a direct veth has no neighbours.
fn leads_to(
    from: (&Target, &Snapshot),
    target: (&Target, &Snapshot),
    address: &Address,
) -> Result<(), &'static str> {
    let ip = address.ip;
    let device = out_of(from.1, ip)?;
    let own = target.1.link(address.link).ok_or(NO_LINK)?;
    // The target's end of a veth of `from`: each knows the other by index and namespace.
    let joined = |port: &Link, end: &Link| {
        port.kind.as_deref() == Some("veth")
            && port.link_netns_inode == Some(target.0.netns_inode)
            && port.link == Some(end.index)
    };
    let out = from.1.link(device).ok_or(NO_LINK)?;
    if target.1.links.iter().any(|end| joined(out, end)) {
        return Ok(());
    }
    let mut ports = from.1.links.iter().filter(|l| l.master == Some(device)).peekable();
    if out.kind.as_deref() != Some("bridge") || ports.peek().is_none() {
        return Err(NO_LINK);
    }
    let (mut local, mut found) = (true, false);
    for port in ports {
        local &= port.kind.as_deref() == Some("veth");
        found |= joined(port, own);
    }
    let entries = from.1.neighbours.get().ok_or("where probes start, the neighbours could not be read")?;
    let mut known = entries.iter().filter(|n| n.link == device && n.ip == ip).filter_map(|n| n.mac.as_ref());
    match (found, local) {
        (false, _) => Err("the address is not on the link to where probes start"),
        (true, false) => Err("the bridge has ports that may lead out of this machine; name it with --probe"),
        (true, true) if known.any(|mac| own.mac.as_ref() != Some(mac)) => {
            Err("another one answers for the address on the bridge")
        }
        (true, true) => Ok(()),
    }
}

/// The device onto which packets to `ip` go without a gateway; fails where a policy rule may send them elsewhere.
fn out_of(from: &Snapshot, ip: IpAddr) -> Result<u32, &'static str> {
    let (Some(routes), Some(rules)) = (from.routes.get(), from.policy_rules.get()) else {
        return Err("where probes start, the routes could not be read");
    };
    let family = if ip.is_ipv4() { 4 } else { 6 };
    let elsewhere =
        rules.iter().filter(|rule| rule.family == family && rule.priority < MAIN_PRIORITY).any(|rule| {
            let table = rule.table.filter(|table| !matches!(table, 254 | 255));
            routes.iter().any(|r| Some(r.table) == table && contains(r.destination, r.prefix, ip))
        });
    if elsewhere {
        return Err("where probes start, a policy rule may lead elsewhere; name it with --probe");
    }
    let hits =
        routes.iter().filter(|r| matches!(r.table, 254 | 255) && contains(r.destination, r.prefix, ip));
    let best = hits.max_by_key(|r| (r.prefix, std::cmp::Reverse(r.metric)));
    match best.map(|r| (r.kind.as_str(), r.next_hops.as_slice())) {
        Some(("unicast", [hop])) if hop.gateway.is_none() => hop.link.ok_or(NO_LINK),
        _ => Err(NO_LINK),
    }
}

/// Priority of the rule that looks into the main table (net/ipv4/fib_rules.c: fib_default_rules_init).
const MAIN_PRIORITY: u32 = 32766;

/// True if a rule of the namespace may give a new connection another destination when it comes in.
fn translates(target: &Snapshot) -> bool {
    let hidden = [&target.nftables, &target.iptables_legacy, &target.ip6tables_legacy];
    if hidden.iter().any(|chains| chains.is_hidden()) {
        return true;
    }
    let words = ["dnat", "redirect", "jump", "goto"];
    target.chains().filter(|chain| chain.hook == Some(Hook::Prerouting)).any(|chain| {
        let native = |rule: &Rule| words.iter().any(|word| rule.text.to_ascii_lowercase().contains(word));
        if chain.tool == Tool::Nft {
            chain.rules.iter().any(native)
        } else {
            chain.table == "nat" && !chain.rules.is_empty()
        }
    })
}
