//! Ports of bridges: their state, and who holds them back.

use super::case::Space;
use whydrop_model::snapshot::Link;

/// State that no spanning tree leaves by itself: somebody set it, or BPDU guard did.
pub const DISABLED: &str = "disabled";
/// State of a port that takes frames and sends them.
pub const FORWARDING: &str = "forwarding";

/// The state of a port; at the start of the window, if it forwards at the end. Empty if it is not known.
pub fn state<'a>(space: Space<'a>, port: &'a Link) -> &'a str {
    let of = |link: &'a Link| link.details.get("port_state").map(String::as_str);
    let before = space.before.link(port.index).and_then(of);
    let after = of(port).unwrap_or("");
    before.filter(|_| after == FORWARDING).unwrap_or(after)
}

/// True if spanning tree, and nobody else, holds the port back: what arrives there arrives on the other path, too.
pub fn is_spare(space: Space<'_>, port: &Link) -> bool {
    let bridge = port.master.and_then(|index| space.after.link(index));
    let stp = bridge.and_then(|bridge| bridge.details.get("stp"));
    stp.is_some_and(|stp| stp != "0") && !matches!(state(space, port), DISABLED | FORWARDING | "")
}

/// True if somebody closed the port: without spanning tree every state but forwarding was set, disabled always.
pub fn is_closed_by_hand(space: Space<'_>, port: &Link) -> bool {
    let bridge = port.master.and_then(|index| space.after.link(index));
    let stp = bridge.and_then(|bridge| bridge.details.get("stp"));
    match state(space, port) {
        DISABLED => true,
        FORWARDING | "" => false,
        _ => stp.is_some_and(|stp| stp == "0"),
    }
}
