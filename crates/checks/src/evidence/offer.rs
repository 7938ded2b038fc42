//! What a namespace offers to those who come by: open ports, and who is kept from the others on purpose.

use super::case::{Case, Space};
use super::packet::Fit;
use super::walk::Rules;
use super::way::Way;
use whydrop_model::Role;
use whydrop_model::netfilter::Hook;
use whydrop_model::snapshot::{Protocol, Socket};

/// True if a socket has the port open at either end of the window; none if sockets could not be read.
pub fn is_open(space: Space<'_>, protocol: Protocol, port: u16) -> Option<bool> {
    let after = space.after.sockets.get()?;
    let open = |s: &Socket| s.protocol == protocol && s.local.port() == port;
    Some(after.iter().chain(space.before.sockets.iter()).any(open))
}

/// True for packets of somebody whom the user did not name, to a port that a target does not offer and that its rules keep
/// closed: they do their duty, and nobody in view misses anything.
pub fn is_kept_out(case: Case<'_>, home: Space<'_>, way: &Way) -> bool {
    let Some((ip, port)) = way.address.zip(way.port) else { return false };
    let protocol = match way.protocol {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => return false,
    };
    let asked = case.spaces().find(|space| space.is_target() && space.after.owns(ip));
    let Some(asked) = asked.filter(|_| home.target().role == Role::Surrounding) else { return false };
    is_open(asked, protocol, port) == Some(false)
        && [Hook::Prerouting, Hook::Input].into_iter().any(|hook| {
            let rules = Rules::of(asked.after);
            let ends = |packet| rules.at_hook(hook, packet).losses().any(|ending| ending.fit == Fit::Yes);
            way.packets_at(asked, hook).iter().any(ends)
        })
}
